//! Where EC2 had nothing a moment ago.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Record;
use crate::config::Market;
use crate::ports::{Kind, Offering, OpenPartition};
use crate::time::Timestamp;

/// How long an offering is avoided after a capacity error (design section 6). Longer, and instances are not taken that
/// EC2 has again; shorter, and each launch of a burst asks in vain where the one before it did.
pub const AVOIDED_FOR: Duration = Duration::from_mins(3);

/// An instance type in a subnet on a market, with the time until which it is avoided. A hint: it changes which
/// offerings are asked for first, never whether a job is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferingRecord {
    /// The market.
    pub market: Market,
    /// The offering.
    pub offering: Offering,
    /// Until when.
    pub unavailable_until: Timestamp,
}

impl OfferingRecord {
    /// Id of the record of that offering.
    #[must_use]
    pub fn id_of(market: Market, offering: &Offering) -> String {
        format!("{}:{}:{}", market.as_str(), offering.instance_type, offering.subnet_id)
    }
}

impl Record for OfferingRecord {
    const KIND: Kind = Kind::Offering;
    const SCHEMA: u32 = 1;

    fn id(&self) -> String {
        Self::id_of(self.market, &self.offering)
    }

    fn open(&self) -> Option<(OpenPartition, Timestamp)> {
        None
    }

    /// Once it is over it says nothing; a day is kept for people who ask what happened.
    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.unavailable_until.plus(Duration::from_hours(24)))
    }
}
