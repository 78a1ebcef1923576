//! The whole system by its own command; see `tests/local.rs`.
