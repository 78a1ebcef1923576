//! Whether GitHub registers a fleet's runners in a scope, as it last said. An instance costs before GitHub is asked for its
//! registration, so a refusal that asking again does not change is remembered, and asked for before the next launch.
//!
//! Only launches wait: an instance that is there is gone on with, and its registration, where it comes, ends the wait.
//! A hint and no more: where the ledger does not answer, everything is launched.

use std::collections::{BTreeMap, BTreeSet};

use tracing::{error, info, warn};

use crate::config::Fleet;
use crate::error::{Class, Classify, PortError};
use crate::ids::{FleetName, Scope};
use crate::ledger::{self, LaunchLeave, LaunchRecord, RegistrationBreaker, Stored, Versioned};
use crate::ports::Ledger;
use crate::time::Timestamp;

use super::plan;

/// Whether asking again does not change GitHub's answer, as far as it can be told: a missing permission, a scope or runner
/// group that is not there, a request that it does not take. Any of them may also be a storm of GitHub's own, and so opens
/// the breaker for a moment only.
pub(super) fn is_refused(error: &PortError) -> bool {
    match error.class() {
        Class::Denied | Class::Absent | Class::Rejected | Class::Misconfigured => true,
        Class::Transient | Class::Throttled { .. } | Class::NoCapacity | Class::OutcomeUnknown | Class::Conflict => {
            false
        }
    }
}

/// What may be launched for that fleet in that scope.
pub(crate) async fn leave(ledger: &impl Ledger, fleet: &FleetName, scope: &Scope, now: Timestamp) -> LaunchLeave {
    match ledger::load::<RegistrationBreaker>(ledger, RegistrationBreaker::id_of(fleet, scope)).await {
        Ok(stored) => leave_of(&stored, now),
        Err(error) => {
            not_known(fleet, &error);
            LaunchLeave::AsNeeded
        }
    }
}

/// The same for several scopes, by [`RegistrationBreaker::id_of`]; what is not named may be launched as needed.
pub(crate) async fn leaves(
    ledger: &impl Ledger,
    fleet: &FleetName,
    scopes: impl IntoIterator<Item = &Scope>,
    now: Timestamp,
) -> BTreeMap<String, LaunchLeave> {
    let ids: BTreeSet<String> = scopes.into_iter().map(|scope| RegistrationBreaker::id_of(fleet, scope)).collect();
    match ledger::load_all::<RegistrationBreaker>(ledger, ids).await {
        Ok(stored) => stored.into_iter().map(|(id, stored)| (id, leave_of(&stored, now))).collect(),
        Err(error) => {
            not_known(fleet, &error);
            BTreeMap::new()
        }
    }
}

fn leave_of(stored: &Stored<RegistrationBreaker>, now: Timestamp) -> LaunchLeave {
    match stored {
        Stored::Present(breaker) => breaker.record.leave(now),
        Stored::Absent | Stored::Foreign => LaunchLeave::AsNeeded,
    }
}

fn not_known(fleet: &FleetName, error: &PortError) {
    warn!(fleet = %fleet, error = %error, "whether GitHub registers its runners is not known: {error}");
}

/// Takes in that one instance is about to be launched to try.
pub(crate) async fn note_try(ledger: &impl Ledger, fleet: &FleetName, scope: &Scope, now: Timestamp) {
    let tried = |mut breaker: Versioned<RegistrationBreaker>| {
        breaker.record.note_try(now);
        Some(breaker)
    };
    let _noted = change(ledger, fleet, scope, tried).await;
}

/// What GitHub answered to the registrations of one launch.
pub(super) enum Heard {
    /// It was not asked, or nothing that tells.
    Nothing,
    /// It registered a runner.
    Registered,
    /// It refused them all, the last in these words.
    Refused(PortError),
}

/// Remembers what GitHub answered.
pub(super) async fn remember(ledger: &impl Ledger, fleet: &Fleet, launch: &LaunchRecord, heard: Heard, now: Timestamp) {
    let scope = &launch.access.scope;
    match heard {
        Heard::Nothing => {}
        Heard::Registered => {
            let registered =
                |mut breaker: Versioned<RegistrationBreaker>| breaker.record.note_registered().then_some(breaker);
            if change(ledger, &launch.fleet, scope, registered).await.is_some() {
                info!(owner = scope.owner(), fleet = %launch.fleet, "GitHub registers runners of {} in {scope} again", launch.fleet);
            }
        }
        Heard::Refused(refusal) => {
            let refused =
                |mut breaker: Versioned<RegistrationBreaker>| breaker.record.note_refused(now).then_some(breaker);
            if let Some(breaker) = change(ledger, &launch.fleet, scope, refused).await {
                tell(fleet, &breaker, &refusal);
            }
        }
    }
}

/// The first refusal may be a moment's; those in a row are for a person.
fn tell(fleet: &Fleet, breaker: &RegistrationBreaker, refusal: &PortError) {
    let RegistrationBreaker { scope, fleet: name, until, refused_count, .. } = breaker;
    let remedy = match scope {
        Scope::Organization { owner } => format!(
            "does the App have the permission \"Organization self-hosted runners: read and write\" in {owner}, is {owner} \
             still its name, and is {} a runner group of it?",
            plan::runner_group(fleet, scope)
        ),
        Scope::Repository { .. } => {
            format!(
                "does the App have the permission \"Administration: read and write\" in {scope}, and is it still its name?"
            )
        }
    };
    let class = refusal.class;
    if *refused_count > 1 {
        error!(owner = scope.owner(), fleet = %name, class = ?class, error = %refusal, "GitHub refuses runners of {name} in {scope}, nothing is launched there until {until}: {refusal}; {remedy}");
    } else {
        warn!(owner = scope.owner(), fleet = %name, class = ?class, error = %refusal, "GitHub refuses runners of {name} in {scope}, nothing is launched there until {until}: {refusal}");
    }
}

/// Best effort: where it fails, what is launched next finds it out once more. The breaker as it is, where it changed.
async fn change(
    ledger: &impl Ledger,
    fleet: &FleetName,
    scope: &Scope,
    mut change: impl FnMut(Versioned<RegistrationBreaker>) -> Option<Versioned<RegistrationBreaker>>,
) -> Option<RegistrationBreaker> {
    let id = RegistrationBreaker::id_of(fleet, scope);
    let changed = ledger::update::<RegistrationBreaker>(ledger, &id, |stored| match stored {
        Stored::Present(breaker) => change(breaker),
        Stored::Absent => change(Versioned::new(RegistrationBreaker::new(fleet.clone(), scope.clone()))),
        Stored::Foreign => None,
    });
    match changed.await {
        Ok(changed) => changed.map(|breaker| breaker.record),
        Err(error) => {
            warn!(fleet = %fleet, error = %error, "what GitHub said of its registrations is forgotten: {error}");
            None
        }
    }
}
