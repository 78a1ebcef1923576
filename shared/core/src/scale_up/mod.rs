//! A batch of queued jobs to instances with a JIT configuration (design section 6).

mod message;

pub use message::JobMessage;
