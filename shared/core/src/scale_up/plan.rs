//! What to launch: for which job, under which token, from which offerings, with how much room.
//! Pure: no port, no clock. Never decides whether anything is ended.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::JobMessage;
use crate::config::{DEFAULT_RUNNER_GROUP, Fleet, Market, Overrides, Policy, Registration};
use crate::error::Class;
use crate::evidence::TEMPLATE_TAG;
use crate::ids::{Access, Deployment, JobId, LaunchToken, Scope};
use crate::ledger::{Fallback, JobPhase, JobRecord, LaunchRecord, Reservation};
use crate::ports::{Instance, InstanceState, JobReading, JobState, LaunchFault, LaunchRequest, Offering, Tags};
use crate::time::Timestamp;

/// Jobs in one launch, or instances in one of a pool: the jobs' leases are renewed, and the records of their instances
/// written, in one transaction each, of which `DynamoDB` takes 100 items.
pub const JOBS_PER_LAUNCH_MAX: usize = 100;

/// Jobs in the transaction that stores a launch: its own record and the fleet's are two of the 100 items.
pub const JOBS_WITH_LAUNCH_MAX: usize = JOBS_PER_LAUNCH_MAX - 2;

/// A reservation counts until its instances are listed, at most this long after EC2 answered (design section 6) or, where
/// it never did, was last about to be asked: a listing lags by minutes at most (facts/world.md E1). Longer, and a launch
/// that nobody repeats, because its jobs run elsewhere, keeps others from the room; shorter, and what a listing does not
/// show yet is launched beyond the cap.
const RESERVATION_LAPSE: Duration = Duration::from_mins(10);

/// When a job is looked at again that found no room or no capacity. Longer, and it waits although there is room again;
/// shorter, and a full fleet is asked for over and over.
pub const NO_ROOM_LOOK: Duration = Duration::from_secs(30);

/// Where a runner for this job registers.
#[must_use]
pub fn access_of(fleet: &Fleet, message: &JobMessage) -> Access {
    let scope = match (fleet.registration, &message.organization) {
        (Registration::Organization, Some(owner)) => Scope::Organization { owner: owner.clone() },
        (Registration::Organization, None) | (Registration::Repository, _) => Scope::Repository {
            owner: message.repository.owner().to_owned(),
            name: message.repository.name().to_owned(),
        },
    };
    Access { scope, installation_id: message.installation_id }
}

/// What to do for a job, by its record alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It runs or is over.
    NotQueued,
    /// Another invocation holds it.
    InFlight,
    /// A launch for it was left behind: go on with that.
    Resume(LaunchToken),
    /// A launch for it was completed: see whether that still serves it.
    CheckServed(LaunchToken),
    /// Launches for it left it without an instance: see whether one is left for it by now, else launch.
    LaunchAgain,
    /// Launch.
    Launch,
}

impl Next {
    /// Whether room is asked for before GitHub is: it may need another instance. What was launched for it and not taken
    /// has its room.
    #[must_use]
    pub fn needs_room(&self) -> bool {
        match self {
            Self::Launch | Self::LaunchAgain => true,
            Self::Resume(_) | Self::CheckServed(_) | Self::NotQueued | Self::InFlight => false,
        }
    }
}

/// Decides by the job's record.
#[must_use]
pub fn next(record: &JobRecord, now: Timestamp) -> Next {
    match &record.phase {
        JobPhase::Started { .. } | JobPhase::Completed { .. } => Next::NotQueued,
        JobPhase::Launching { lease_until, .. } if now < *lease_until => Next::InFlight,
        JobPhase::Launching { token, .. } => Next::Resume(token.clone()),
        JobPhase::Launched { token } => Next::CheckServed(token.clone()),
        JobPhase::Queued => {
            if record.launches.is_empty() {
                Next::Launch
            } else {
                Next::LaunchAgain
            }
        }
    }
}

/// What GitHub's word on a job allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Queued: a runner is needed.
    Queued,
    /// Waiting for an approval: a `queued` event follows.
    NotYet,
    /// It runs.
    Started,
    /// It is over.
    Over,
    /// A status that we do not know: neither launch nor forget.
    Unclear,
}

/// Reads the jobs API's answer.
#[must_use]
pub fn demand(reading: &JobReading) -> Demand {
    match reading.state {
        JobState::Queued => Demand::Queued,
        JobState::NotYetQueued => Demand::NotYet,
        JobState::InProgress => Demand::Started,
        JobState::Completed => Demand::Over,
        JobState::Unrecognised => Demand::Unclear,
    }
}

/// How many instances a fleet may still launch.
///
/// Instances count until they are ending, stopped ones too; reservations count as far as the listing does not show
/// their instances. The listing must have been begun before the reservations were read: whatever was launched in
/// between is then counted by its reservation.
#[must_use]
pub fn room(fleet: &Fleet, listing: &[Instance], reservations: &[Reservation], now: Timestamp) -> usize {
    let of_fleet = |instance: &&Instance| instance.tags.get("ghr:fleet").is_some_and(|own| own == fleet.name.as_str());
    let living = listing.iter().filter(|i| !has_ended(i.state)).filter(of_fleet).count();
    let counted = || reservations.iter().filter(|reservation| !lapsed(reservation, now));
    let mut seen: BTreeMap<&str, usize> = counted().map(|reservation| (reservation.token.as_str(), 0)).collect();
    if !seen.is_empty() {
        for launch in listing.iter().filter_map(|instance| instance.tags.get("ghr:launch")) {
            if let Some(count) = seen.get_mut(launch.as_str()) {
                *count += 1;
            }
        }
    }
    let unseen: usize = counted()
        .map(|reservation| {
            let seen = seen.get(reservation.token.as_str()).copied().unwrap_or(0);
            (reservation.count as usize).saturating_sub(seen)
        })
        .sum();
    (fleet.runner_count_max as usize).saturating_sub(living).saturating_sub(unseen)
}

/// Whether an instance that bears our tags was made by one of the policy's templates, which EC2 itself says in a tag that
/// no user can write. Any other is ours only where the ledger knows it: a look-alike must hold no room and serve no job.
#[must_use]
pub fn is_from_template(instance: &Instance, policy: &Policy) -> bool {
    instance.tags.get(TEMPLATE_TAG).is_some_and(|template| policy.owns_template(template))
}

/// Whether a reservation counts no more.
#[must_use]
pub fn lapsed(reservation: &Reservation, now: Timestamp) -> bool {
    now.since(reservation.answered_at.unwrap_or(reservation.at)) > RESERVATION_LAPSE
}

/// Whether an instance is ending or has ended.
#[must_use]
pub fn has_ended(state: InstanceState) -> bool {
    match state {
        InstanceState::ShuttingDown | InstanceState::Terminated => true,
        InstanceState::Pending
        | InstanceState::Running
        | InstanceState::Stopping
        | InstanceState::Stopped
        | InstanceState::Unrecognised => false,
    }
}

/// The id of a launch for these jobs, the client token of its first epoch: the same for the same jobs at the same count
/// of launches, in any order, so that two processes that decide alike ask EC2 for the same instances. 64 ASCII
/// characters, EC2's maximum.
#[must_use]
pub fn launch_token(deployment: &Deployment, jobs: &[&JobRecord]) -> LaunchToken {
    let mut ids: Vec<(JobId, u32)> = jobs.iter().map(|job| (job.job_id, job.launch_count)).collect();
    ids.sort_unstable();
    let mut text = format!("{deployment}\n");
    for (job_id, launch_count) in ids {
        let _written = writeln!(text, "{job_id}:{launch_count}");
    }
    hashed(&text)
}

/// The client token of the request that a launch stands for by now. EC2 remembers a token although it had no capacity,
/// so another request needs another (facts/github.md section 4).
#[must_use]
pub fn client_token(launch: &LaunchRecord) -> LaunchToken {
    match launch.epoch {
        0 => launch.token.clone(),
        epoch => hashed(&format!("{}\n{epoch}", launch.token)),
    }
}

fn hashed(text: &str) -> LaunchToken {
    let mut token = String::with_capacity(64);
    for byte in Sha256::digest(text.as_bytes()) {
        let _written = write!(token, "{byte:02x}");
    }
    LaunchToken::new(token)
}

/// Everything that a fleet may launch for jobs with these overrides.
#[must_use]
pub fn offerings(fleet: &Fleet, overrides: &Overrides) -> Vec<Offering> {
    let types = overrides.instance_type.as_ref().map_or(fleet.instance_types.as_slice(), std::slice::from_ref);
    let in_subnets = |instance_type: &String| {
        let of = |subnet_id: &String| Offering { instance_type: instance_type.clone(), subnet_id: subnet_id.clone() };
        fleet.subnet_ids.iter().map(of).collect::<Vec<_>>()
    };
    types.iter().flat_map(in_subnets).collect()
}

/// The market of jobs with these overrides, and the one that is tried after it. Who names a market wants no other.
#[must_use]
pub fn markets(fleet: &Fleet, overrides: &Overrides) -> (Market, Option<Market>) {
    overrides.market.map_or((fleet.market, fleet.fallback), |market| (market, None))
}

/// What a launch asks for, now and where EC2 has nothing for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Spot or on-demand.
    pub market: Market,
    /// What may be launched.
    pub offerings: Vec<Offering>,
    /// The next epoch.
    pub fallback: Option<Fallback>,
}

/// Chooses among all offerings of the fleet; `avoided` says where EC2 had nothing a moment ago. Where that is
/// everywhere on the first market, the fallback's turn comes at once; where it is everywhere, everything is tried: to be
/// avoided is a hint, and a job must not wait for one.
#[must_use]
pub fn choose(fleet: &Fleet, overrides: &Overrides, avoided: impl Fn(Market, &Offering) -> bool) -> Choice {
    let all = offerings(fleet, overrides);
    let (market, fallback) = markets(fleet, overrides);
    let available = |market| all.iter().filter(|offering| !avoided(market, offering)).cloned().collect::<Vec<_>>();
    let or_all = |some: Vec<Offering>| if some.is_empty() { all.clone() } else { some };
    match (available(market), fallback.map(|market| (market, available(market)))) {
        (first, Some((market, second))) if first.is_empty() && !second.is_empty() => {
            Choice { market, offerings: second, fallback: None }
        }
        (first, second) => Choice {
            market,
            offerings: or_all(first),
            fallback: second.map(|(market, second)| Fallback { market, offerings: or_all(second) }),
        },
    }
}

/// The launch of one instance for each of these jobs, whose records are as they were before it.
#[must_use]
pub fn launch(
    policy: &Policy,
    fleet: &Fleet,
    access: &Access,
    (overrides, choice): (&Overrides, Choice),
    jobs: &[&JobRecord],
    now: Timestamp,
) -> LaunchRecord {
    let token = if policy.mutant.never_renews_tokens() {
        let first: Vec<JobRecord> = jobs.iter().map(|job| JobRecord { launch_count: 0, ..(*job).clone() }).collect();
        launch_token(&policy.deployment, &first.iter().collect::<Vec<_>>())
    } else {
        launch_token(&policy.deployment, jobs)
    };
    let tags = Tags::from([
        ("Name".to_owned(), format!("{}-{}", policy.deployment, fleet.name)),
        ("ghr:environment".to_owned(), policy.deployment.to_string()),
        ("ghr:fleet".to_owned(), fleet.name.to_string()),
        ("ghr:owner".to_owned(), access.scope.to_string()),
        ("ghr:launch".to_owned(), token.to_string()),
    ]);
    LaunchRecord {
        token,
        epoch: 0,
        fleet: fleet.name.clone(),
        access: access.clone(),
        job_ids: jobs.iter().map(|job| job.job_id).collect(),
        count: u32::try_from(jobs.len()).unwrap_or(u32::MAX),
        market: choice.market,
        template: fleet.launch_template.clone(),
        offerings: choice.offerings,
        fallback: choice.fallback,
        labels: fleet.labels.iter().cloned().chain(overrides.labels()).collect(),
        tags,
        at: now,
        instance_ids: None,
        answered_at: None,
    }
}

/// The call that a launch record stands for: of the record alone, so that a repetition is the very same request
/// although the configuration may have changed since.
#[must_use]
pub fn request(launch: &LaunchRecord) -> LaunchRequest {
    LaunchRequest {
        token: client_token(launch),
        count: launch.count,
        market: launch.market,
        template: launch.template.clone(),
        offerings: launch.offerings.clone(),
        tags: launch.tags.clone(),
    }
}

/// The runner group that a runner of this fleet registers in.
#[must_use]
pub fn runner_group(fleet: &Fleet, scope: &Scope) -> u64 {
    match scope {
        Scope::Organization { .. } => fleet.runner_group_id,
        // A user's repository that an organisation's fleet serves as well.
        Scope::Repository { .. } => DEFAULT_RUNNER_GROUP,
    }
}

/// Whether EC2's answer without an instance says that there is nothing to be had, so that another market may be tried:
/// something is out of capacity, and nothing would pass if it were only asked again.
#[must_use]
pub fn is_out_of_capacity(errors: &[LaunchFault]) -> bool {
    let passes_later = |fault: &LaunchFault| match fault.class {
        Class::Transient | Class::Throttled { .. } | Class::OutcomeUnknown | Class::Conflict => true,
        Class::NoCapacity | Class::Rejected | Class::Absent | Class::Denied | Class::Misconfigured => false,
    };
    let lacking = errors.is_empty() || errors.iter().any(|fault| fault.class == Class::NoCapacity);
    lacking && !errors.iter().any(passes_later)
}

#[cfg(test)]
pub(super) mod tests;
