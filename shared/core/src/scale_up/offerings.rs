//! Where EC2 had nothing a moment ago: remembered for the next launch, whichever process makes it.
//!
//! A hint and no more: where the ledger does not answer, everything is asked for, and a mark that is lost costs one
//! attempt in vain.

use std::collections::BTreeSet;

use tracing::warn;

use crate::config::{Fleet, Market, Overrides};
use crate::error::{Class, Classify, PortError};
use crate::ledger::{self, AVOIDED_FOR, LaunchRecord, OfferingRecord, Stored, Versioned};
use crate::ports::{LaunchFault, Ledger, Offering};
use crate::time::Timestamp;

use super::plan::{self, Choice};

/// Chooses what to ask for by what is remembered.
pub(super) async fn choose(ledger: &impl Ledger, fleet: &Fleet, overrides: &Overrides, now: Timestamp) -> Choice {
    let avoided = avoided(ledger, fleet, overrides, now).await.unwrap_or_else(|error| {
        warn!(fleet = %fleet.name, error = %error, "where EC2 had nothing is not known: {error}");
        BTreeSet::new()
    });
    plan::choose(fleet, overrides, |market, offering| avoided.contains(&OfferingRecord::id_of(market, offering)))
}

async fn avoided(
    ledger: &impl Ledger,
    fleet: &Fleet,
    overrides: &Overrides,
    now: Timestamp,
) -> Result<BTreeSet<String>, PortError> {
    let (market, fallback) = plan::markets(fleet, overrides);
    let offerings = plan::offerings(fleet, overrides);
    let of = |market: Market| offerings.iter().map(move |offering| OfferingRecord::id_of(market, offering));
    let ids: Vec<String> = of(market).chain(fallback.into_iter().flat_map(of)).collect();
    let stored = ledger::load_all::<OfferingRecord>(ledger, ids).await?;
    let unavailable = stored.into_iter().filter_map(|(id, stored)| match stored {
        Stored::Present(record) if record.record.unavailable_until > now => Some(id),
        Stored::Present(_) | Stored::Absent | Stored::Foreign => None,
    });
    Ok(unavailable.collect())
}

/// Remembers where this launch found nothing.
pub(super) async fn remember(ledger: &impl Ledger, launch: &LaunchRecord, faults: &[LaunchFault], now: Timestamp) {
    let lacking = faults.iter().filter(|fault| fault.class == Class::NoCapacity);
    let offerings: BTreeSet<&Offering> = lacking.filter_map(|fault| fault.offering.as_ref()).collect();
    if offerings.is_empty() {
        return;
    }
    match mark(ledger, launch.market, &offerings, now).await {
        Ok(()) => {}
        // Another launch found nothing there at the same time.
        Err(error) if error.class() == Class::Conflict => {}
        Err(error) => {
            warn!(launch_token = %launch.token, error = %error, "where EC2 had nothing is forgotten: {error}");
        }
    }
}

/// Marks in one transaction as fit, the rest is left to the next launch that meets it.
const MARKED_MAX: usize = 100;

async fn mark(
    ledger: &impl Ledger,
    market: Market,
    offerings: &BTreeSet<&Offering>,
    now: Timestamp,
) -> Result<(), PortError> {
    let unavailable_until = now.plus(AVOIDED_FOR);
    let ids = offerings.iter().map(|offering| OfferingRecord::id_of(market, offering));
    let stored = ledger::load_all::<OfferingRecord>(ledger, ids).await?;
    let writes: Vec<_> = offerings
        .iter()
        .zip(stored)
        .filter_map(|(offering, (_, stored))| match stored {
            Stored::Present(mut known) => {
                known.record.unavailable_until = unavailable_until;
                Some(known.write())
            }
            Stored::Absent => {
                let record = OfferingRecord { market, offering: (*offering).clone(), unavailable_until };
                Some(Versioned::new(record).write())
            }
            Stored::Foreign => None,
        })
        .take(MARKED_MAX)
        .collect();
    if writes.is_empty() { Ok(()) } else { ledger.write(&writes).await }
}
