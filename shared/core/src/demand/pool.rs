//! Keeps the pools of idle schedules filled, counting runners that boot. What a pool lacks is decided in `plan`; the
//! launch itself is scale-up's road (`scale_up/pool.rs`).

use std::collections::BTreeSet;

use super::DemandPorts;
use super::facts::Facts;
use super::plan::{self, NoPlace, Wanted};
use super::report::Report;
use super::serve::on_record;
use crate::config::{Fleet, Policy};
use crate::error::PortError;
use crate::ids::Access;
use crate::ledger::{self, LaunchLeave, PoolCursor, SearchCursor, SearchedOwner, Stored, Versioned};
use crate::scale_up::pool::{self, Filled, Lacking};
use crate::scale_up::registration;
use crate::time::Deadline;

/// Fills every fleet's pool, and goes on with launches that were left behind.
pub(super) async fn fill<P: DemandPorts>(ports: &P, policy: &Policy, deadline: Deadline, report: &mut Report) {
    let pools: Vec<&Fleet> = policy.fleets.iter().filter(|fleet| !fleet.idle.is_empty()).collect();
    if pools.is_empty() {
        return;
    }
    // Before EC2's listing: a launch that another pass made since would be missed by both.
    let ids = pools.iter().map(|fleet| PoolCursor::id_of(&fleet.name));
    let cursors = match ledger::load_all::<PoolCursor>(ports, ids).await {
        Ok(cursors) => cursors,
        Err(error) => {
            report.error(error);
            return;
        }
    };
    let now = ports.now();
    let mut open: Vec<(&Fleet, Versioned<PoolCursor>)> = Vec::new();
    for (fleet, (_, stored)) in pools.into_iter().zip(cursors) {
        let cursor = match stored {
            Stored::Present(cursor) => cursor,
            Stored::Absent => Versioned::new(PoolCursor::new(fleet.name.clone())),
            Stored::Foreign => {
                report.error(format!("the pool record of fleet {} is of another schema: it is not filled", fleet.name));
                continue;
            }
        };
        if fleet.idle_count(now) > 0 || cursor.record.launching.is_some() {
            open.push((fleet, cursor));
        }
    }
    if open.is_empty() {
        return;
    }
    let owners = match owners(ports).await {
        Ok(owners) => owners,
        Err(error) => {
            report.error(error);
            return;
        }
    };
    let facts = match Facts::read(ports, policy, report).await {
        Ok(facts) => facts,
        Err(error) => {
            report.error(error);
            return;
        }
    };
    for (fleet, cursor) in open {
        if !deadline.allows_more(ports.now()) {
            report.cut_by_deadline = true;
            return;
        }
        let filled = match (cursor.record.launching.is_some(), lacking(fleet, &owners, &facts, report)) {
            (true, _) => pool::resume(ports, policy, deadline, fleet, cursor, &facts.listing).await,
            (false, Some(lacking)) => launch(ports, policy, deadline, &cursor, lacking, &facts).await,
            (false, None) => Ok(Filled::NotNow),
        };
        match filled {
            Ok(Filled::Launched(count)) => *report.pooled.entry(fleet.name.clone()).or_default() += count,
            Ok(Filled::NotNow) => {}
            Ok(Filled::Unfinished(reason)) => report.error(reason),
            Err(error) => report.error(error),
        }
    }
}

/// Launches what is lacking; where GitHub refused the fleet's registrations nothing, or one instance to see whether it
/// still does.
async fn launch<P: DemandPorts>(
    ports: &P,
    policy: &Policy,
    deadline: Deadline,
    cursor: &Versioned<PoolCursor>,
    mut lacking: Lacking<'_>,
    facts: &Facts,
) -> Result<Filled, PortError> {
    let (fleet, scope) = (&lacking.fleet.name, lacking.access.scope.clone());
    match registration::leave(ports, fleet, &scope, ports.now()).await {
        LaunchLeave::AsNeeded => {}
        LaunchLeave::OneToTry => lacking.count = 1,
        LaunchLeave::NotBefore(_) => return Ok(Filled::NotNow),
    }
    pool::launch(ports, policy, deadline, cursor, &lacking, &facts.listing).await
}

/// The owners that the search knows.
async fn owners<P: DemandPorts>(ports: &P) -> Result<Vec<SearchedOwner>, PortError> {
    Ok(match ledger::load::<SearchCursor>(ports, SearchCursor::ID).await? {
        Stored::Present(cursor) => cursor.record.owners.into_values().collect(),
        Stored::Absent | Stored::Foreign => Vec::new(),
    })
}

/// What the fleet's pool lacks now, if anything.
fn lacking<'a>(fleet: &'a Fleet, owners: &[SearchedOwner], facts: &Facts, report: &mut Report) -> Option<Lacking<'a>> {
    let wanted = fleet.idle_count(facts.now()) as usize;
    if wanted == 0 {
        return None;
    }
    let access = match plan::pool_access(fleet, owners.iter()) {
        Ok(access) => access,
        Err(why) => {
            report.error(told(fleet, owners, &why));
            return None;
        }
    };
    let jobs = |access: &Access| -> Vec<Wanted> {
        facts.waiting(&fleet.name, &access.scope).map(|job| on_record(job, facts, facts.now())).collect()
    };
    let capacity = facts.capacity(&fleet.name, &access.scope);
    let count = plan::missing(wanted, &jobs(&access), capacity, facts.room(fleet));
    (count > 0).then_some(Lacking { fleet, access, count })
}

fn told(fleet: &Fleet, owners: &[SearchedOwner], why: &NoPlace) -> String {
    let name = &fleet.name;
    let logins: BTreeSet<&str> = owners.iter().map(|owner| owner.installation.owner.as_str()).collect();
    let logins = logins.into_iter().collect::<Vec<_>>().join(", ");
    match why {
        NoPlace::None => format!(
            "fleet {name} has an idle schedule, and the App reaches no repository that is served: install it, or set \
             idle_owner"
        ),
        NoPlace::Several => format!(
            "fleet {name} has an idle schedule, and its runners could register in several places ({logins}): set \
             idle_owner to an organisation's login or a repository's owner/name"
        ),
    }
}
