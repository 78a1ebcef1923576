//! Both directions of every guard of removal: that it fires, and says so in the report, and that the same instance goes
//! where its signal is missing. A guard that never let go would be a leak, one that never fired a killed job.

mod bounds;
mod control;
mod demand;
mod graces;
mod life;
mod ownership;
mod readings;
mod unread;
mod wishes;

use crate::config::Policy;
use crate::fake::Fake;

/// For a guard whose signal is a failure.
fn heal(fake: &Fake, _: &mut Policy) {
    fake.heal();
}
