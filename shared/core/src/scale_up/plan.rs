//! What to launch, under which token, with how much room; what an instance still needs; what became of a launch's jobs.
//! Pure: no port, no clock. Never decides whether anything is ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::JobMessage;
use crate::config::{DEFAULT_RUNNER_GROUP, Fleet, Market, Overrides, Policy, Registration, Timers};
use crate::error::Class;
use crate::evidence::TEMPLATE_TAG;
use crate::ids::{Access, Deployment, JobId, LaunchToken, Scope};
use crate::ledger::{Fallback, InstanceRecord, JobPhase, JobRecord, LaunchRecord, Origin, Reservation};
use crate::ports::{Instance, InstanceState, JobReading, JobState, LaunchFault, LaunchRequest, Offering, Tags};
use crate::time::Timestamp;

/// Jobs in one launch: their leases are renewed, and the records of their instances written, in one transaction each,
/// of which `DynamoDB` takes 100 items.
pub const JOBS_PER_LAUNCH_MAX: usize = 100;

/// Jobs in the transaction that stores a launch: its own record and the fleet's are two of the 100 items.
pub const JOBS_WITH_LAUNCH_MAX: usize = JOBS_PER_LAUNCH_MAX - 2;

/// A reservation counts until its instances are listed, at most this long after EC2 answered (design section 6) or, where
/// it never did, was last about to be asked: a listing lags by minutes at most (facts/world.md E1). Longer, and a launch
/// that nobody repeats, because its jobs run elsewhere, keeps others from the room; shorter, and what a listing does not
/// show yet is launched beyond the cap.
const RESERVATION_LAPSE: Duration = Duration::from_mins(10);

/// A listing shows what a launch made at the latest this long after the call that made it (design section 6). Shorter,
/// and a launch that a listing does not show yet is made twice; longer, and its jobs wait in vain.
pub const SHOWN_WITHIN: Duration = Duration::from_mins(5);

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
    let hash = Sha256::digest(text.as_bytes());
    LaunchToken::new(hash.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}")))
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

/// What is to be seen of an instance that EC2's answer to a launch names. The answer alone proves nothing: to a
/// repetition EC2 names the same instances, even those that ended long ago (facts/world.md E2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It is shown in this state.
    Shown(InstanceState),
    /// It is not shown and was made a moment ago: a listing lags.
    Young,
    /// It is not shown, and was made a moment ago or ended long ago: nobody can tell yet.
    InDoubt,
    /// It is not shown although it would be: it ended long ago.
    Gone,
}

/// Decides by its state in a listing begun at `listed_at`; `None` is not shown. It was made when EC2 was first asked or
/// at the latest when EC2 answered: where that is one moment it is as old as the answer, else it may be as old as the
/// launch.
#[must_use]
pub fn sight(launch: &LaunchRecord, shown: Option<InstanceState>, listed_at: Timestamp) -> Sight {
    let answered_at = launch.answered_at.unwrap_or(launch.at);
    match shown {
        Some(state) => Sight::Shown(state),
        None if listed_at.since(answered_at) >= SHOWN_WITHIN => Sight::Gone,
        None if answered_at.since(launch.at) < SHOWN_WITHIN => Sight::Young,
        None => Sight::InDoubt,
    }
}

/// What an instance still needs before its runner can take a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: it has its configuration, or a job already.
    Nothing,
    /// A registration exists, and whether the configuration reached the instance is not known. It must be neither
    /// deleted nor made again; GitHub says whether the runner ever connected.
    Unsure,
    /// An intent was stored and no answer: a registration may exist under its name.
    LookUp,
    /// A configuration; none was ever asked for.
    Configuration,
    /// It is being removed, or gone, or its configuration is lost: it gets nothing.
    Beyond,
}

/// Decides by the instance's record.
#[must_use]
pub fn need(record: &InstanceRecord) -> Need {
    let removal = record.terminate_intent.is_some()
        || record.deregister_intent.is_some()
        || record.deregistered_at.is_some()
        || record.gone_at.is_some();
    match (record.jit_intent_at, record.origin) {
        _ if removal => Need::Beyond,
        _ if record.handed_over_at.is_some() || record.has_job_evidence() => Need::Nothing,
        _ if record.lost_at.is_some() => Need::Beyond,
        _ if record.runner_id.is_some() => Need::Unsure,
        (Some(_), Origin::Launch | Origin::Rebuilt { .. }) | (None, Origin::Rebuilt { .. }) => Need::LookUp,
        (None, Origin::Launch) => Need::Configuration,
    }
}

/// Until when a completed launch counts as serving its jobs through this instance; `None` when it does not (any more).
///
/// An instance that the listing, begun at `listed_at`, does not show is taken to be there while it is young: a listing
/// lags. One whose hand-over is not on record counts for the time of a lease: whoever launched it goes on with it, or it
/// connects, or it is lost.
#[must_use]
pub fn serves_until(
    record: &InstanceRecord,
    (shown, listed_at): (Option<InstanceState>, Timestamp),
    timers: &Timers,
    now: Timestamp,
) -> Option<Timestamp> {
    let until = match record.handed_over_at {
        Some(_) => record.launched_at.plus(timers.boot_grace).plus(timers.pick_up),
        None => record.jit_intent_at.unwrap_or(record.launched_at).plus(timers.launch_lease),
    };
    let free = !record.has_job_evidence() && need(record) != Need::Beyond;
    let there = match shown {
        Some(state) => !has_ended(state),
        None => listed_at.since(record.launched_at) < SHOWN_WITHIN,
    };
    (free && there && now < until).then_some(until)
}

/// Which jobs of a completed launch its free instances serve, so many of them as there are: those first that were given
/// one, then those whose share of the launch is still gone on with, then those that were left without; each by age. A job
/// that started on a runner that nobody named may sit on one of these. Those that run elsewhere or are over need none, and
/// those that have another launch neither, unless `bereft` says that nothing is left of that.
#[must_use]
pub fn shared_out<'a>(
    launch: &LaunchRecord,
    free: usize,
    jobs: impl IntoIterator<Item = &'a JobRecord>,
    bereft: impl Fn(JobId) -> bool,
) -> BTreeSet<JobId> {
    let token = &launch.token;
    let turn = |job: &JobRecord| match &job.phase {
        JobPhase::Launched { token: own } if own == token => Some(0),
        JobPhase::Launching { token: own, .. } if own == token => Some(1),
        JobPhase::Queued => Some(2),
        JobPhase::Launched { .. } => bereft(job.job_id).then_some(2),
        JobPhase::Started { .. } => job.runner_id.is_none().then_some(0),
        JobPhase::Launching { .. } | JobPhase::Completed { .. } => None,
    };
    let of_launch = jobs.into_iter().filter(|job| launch.job_ids.contains(&job.job_id));
    let mut waiting: Vec<(u8, Timestamp, JobId)> =
        of_launch.filter_map(|job| Some((turn(job)?, job.queued_at, job.job_id))).collect();
    waiting.sort_unstable();
    waiting.into_iter().take(free).map(|(_, _, job_id)| job_id).collect()
}

/// How many instances of a launch came how far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Ready to take a job, or possibly so.
    pub ready: usize,
    /// To be tried again, with the reasons.
    pub retry: Vec<String>,
    /// Whether they are there is not known yet.
    pub in_doubt: usize,
    /// Launched, and no use to any job.
    pub lost: usize,
}

/// What becomes of one job of a launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// An instance is there for it.
    Launched,
    /// Its launch has to be gone on with.
    Retry(String),
    /// Its launch has to be gone on with once it is seen whether its instance is there: time alone tells.
    LookAgain,
    /// Its instance was launched in vain. Another is launched later, not at once: what spoilt this one may spoil the
    /// next, and each costs.
    AgainLater,
    /// EC2 had no instance for it.
    AgainSoon,
    /// EC2 had no instance for any job of the launch: nothing of it can ever be left to one.
    NothingLaunched,
}

/// Shares a launch's instances out among its jobs, in their order. `taken` of the ready instances belong to jobs that
/// were settled before.
#[must_use]
pub fn settle(jobs: usize, taken: usize, tally: Tally) -> Vec<Settlement> {
    let came_to_nothing = taken == 0 && (tally.ready, tally.retry.len(), tally.in_doubt, tally.lost) == (0, 0, 0, 0);
    let ready = std::iter::repeat_n(Settlement::Launched, tally.ready.saturating_sub(taken));
    let retry = tally.retry.into_iter().map(Settlement::Retry);
    let in_doubt = std::iter::repeat_n(Settlement::LookAgain, tally.in_doubt);
    let lost = std::iter::repeat_n(Settlement::AgainLater, tally.lost);
    let none = if came_to_nothing { Settlement::NothingLaunched } else { Settlement::AgainSoon };
    let none = std::iter::repeat(none);
    ready.chain(retry).chain(in_doubt).chain(lost).chain(none).take(jobs).collect()
}

/// When a job whose instance was launched in vain is launched for again: soon after the first, for a process may have
/// ended between GitHub's answer and the hand-over; then a third of the boot grace, growing with each launch up to the
/// whole. This bounds launches for a cause that does not go away, such as an SSM that refuses.
#[must_use]
pub fn again_later(launch_count: u32, boot_grace: Duration) -> Duration {
    match launch_count {
        0 | 1 => NO_ROOM_LOOK.min(boot_grace),
        count => (boot_grace / 3 * (count - 1)).min(boot_grace),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{fleet, policy};
    use crate::ids::{FleetName, InstanceId, Repository, RunId, RunnerId, RunnerName};
    use crate::ledger::RemovalIntent;
    use crate::removal::Ground;

    use InstanceState::{Pending, Running, ShuttingDown, Stopped, Terminated};

    type Change = fn(&mut InstanceRecord);

    const NOW: Timestamp = Timestamp(10_000_000_000);

    fn job(id: u64, launch_count: u32) -> JobRecord {
        JobRecord {
            job_id: JobId(id),
            access: access(),
            repository: Repository::try_from("octo/hello".to_owned()).expect("a name"),
            run_id: RunId(1),
            run_attempt: 1,
            labels: vec!["self-hosted".into(), "linux".into()],
            fleet: Some(FleetName::new("linux")),
            phase: JobPhase::Queued,
            next_look: NOW,
            launch_count,
            launches: Vec::new(),
            queued_at: NOW,
            runner_id: None,
            recorded_at: Some(NOW),
            given_up_at: None,
        }
    }

    fn access() -> Access {
        Access { scope: Scope::Organization { owner: "octo".into() }, installation_id: None }
    }

    fn instance() -> InstanceRecord {
        let (id, name) = (InstanceId::new("i-1"), RunnerName::new("runner-i-1"));
        InstanceRecord::launched(id, access(), FleetName::new("linux"), LaunchToken::new("t"), name, NOW)
    }

    #[test]
    fn runners_register_with_the_organisation_where_there_is_one_and_it_is_wanted() {
        let message = |organization: Option<&str>| JobMessage {
            job_id: JobId(1),
            run_id: RunId(1),
            run_attempt: 1,
            repository: Repository::try_from("octo/hello".to_owned()).expect("a name"),
            organization: organization.map(str::to_owned),
            installation_id: None,
            labels: vec![],
            queued_at: NOW,
            look_at: None,
        };
        let mut by_repository = fleet("linux");
        by_repository.registration = Registration::Repository;
        for (case, fleet, organization, expected) in [
            ("an organisation", fleet("linux"), Some("Octo"), "Octo"),
            ("a user", fleet("linux"), None, "octo/hello"),
            ("an organisation whose repositories have their own runners", by_repository, Some("Octo"), "octo/hello"),
        ] {
            assert_eq!(access_of(&fleet, &message(organization)).scope.to_string(), expected, "{case}");
        }
    }

    #[test]
    fn a_token_names_its_jobs_and_their_launches_in_any_order_and_nothing_else() {
        let deployment = Deployment::new("prod");
        let (one, two, again) = (job(1, 0), job(2, 0), job(1, 1));
        let token = launch_token(&deployment, &[&one, &two]);
        assert_eq!(token.as_str().len(), 64);
        assert_eq!(launch_token(&deployment, &[&two, &one]), token);
        for (case, other) in [
            ("another deployment", launch_token(&Deployment::new("test"), &[&one, &two])),
            ("fewer jobs", launch_token(&deployment, &[&one])),
            ("a second launch", launch_token(&deployment, &[&again, &two])),
        ] {
            assert_ne!(other, token, "{case}");
        }
    }

    fn launched(fleet: &Fleet, overrides: &Overrides, choice: Choice, job: &JobRecord, now: Timestamp) -> LaunchRecord {
        launch(&policy(), fleet, &access(), (overrides, choice), &[job], now)
    }

    fn nothing_avoided(_: Market, _: &Offering) -> bool {
        false
    }

    #[test]
    fn a_launch_request_is_the_same_bytes_whenever_it_is_made_and_holds_no_secret() {
        let (fleet, mut one, none) = (fleet("linux"), job(1, 0), Overrides::default());
        let choice = choose(&fleet, &none, nothing_avoided);
        let first = launched(&fleet, &none, choice.clone(), &one, NOW);
        one.phase = JobPhase::Launching { token: first.token.clone(), lease_until: NOW };
        let mut later = launched(&fleet, &none, choice, &one, NOW.plus(Duration::from_mins(1)));
        later.answered_at = Some(NOW);
        assert_eq!(request(&first), request(&later));
        let mut tags = request(&first).tags;
        assert_eq!(tags.insert("ghr:launch".to_owned(), "its token".to_owned()), Some(first.token.to_string()));
        insta::assert_compact_debug_snapshot!(tags, @r#"{"Name": "test-linux", "ghr:environment": "test", "ghr:fleet": "linux", "ghr:launch": "its token", "ghr:owner": "octo"}"#);
    }

    fn large_fleet() -> Fleet {
        Fleet {
            instance_types: vec!["m7i.large".to_owned(), "m7a.large".to_owned()],
            subnet_ids: vec!["subnet-1".to_owned(), "subnet-2".to_owned()],
            fallback: Some(Market::OnDemand),
            ..fleet("linux")
        }
    }

    fn words(offerings: &[Offering]) -> Vec<String> {
        offerings.iter().map(|o| format!("{} {}", o.instance_type, o.subnet_id.trim_start_matches("subnet-"))).collect()
    }

    #[test]
    fn what_was_out_is_avoided_and_never_everything() {
        type Avoided = fn(Market, &Offering) -> bool;
        let all = ["m7i.large 1", "m7i.large 2", "m7a.large 1", "m7a.large 2"];
        for (case, avoided, market, expected, then) in [
            ("nothing", nothing_avoided as Avoided, Market::Spot, &all[..], Some(&all[..])),
            (
                "a type",
                |market, o| market == Market::Spot && o.instance_type == "m7i.large",
                Market::Spot,
                &all[2..],
                Some(&all[..]),
            ),
            (
                "a subnet on both",
                |_, o| o.subnet_id == "subnet-1",
                Market::Spot,
                &["m7i.large 2", "m7a.large 2"],
                Some(&["m7i.large 2", "m7a.large 2"]),
            ),
            ("all of the first market", |market, _| market == Market::Spot, Market::OnDemand, &all, None),
            ("all of the second", |market, _| market == Market::OnDemand, Market::Spot, &all, Some(&all)),
            ("everything", |_, _| true, Market::Spot, &all, Some(&all)),
        ] {
            let choice = choose(&large_fleet(), &Overrides::default(), avoided);
            assert_eq!(
                (choice.market, words(&choice.offerings)),
                (market, expected.iter().map(ToString::to_string).collect()),
                "{case}"
            );
            let then: Option<Vec<String>> = then.map(|then| then.iter().map(ToString::to_string).collect());
            assert_eq!(choice.fallback.map(|fallback| words(&fallback.offerings)), then, "{case}");
        }
    }

    #[test]
    fn an_override_changes_the_request_and_the_labels_by_the_configurations_values_alone() {
        let fleet = large_fleet();
        let overrides = Overrides { instance_type: Some("c7i.large".to_owned()), market: Some(Market::OnDemand) };
        let choice = choose(&fleet, &overrides, nothing_avoided);
        let launch = launched(&fleet, &overrides, choice, &job(1, 0), NOW);
        assert_eq!(words(&request(&launch).offerings), ["c7i.large 1", "c7i.large 2"]);
        assert_eq!((launch.market, launch.fallback), (Market::OnDemand, None));
        assert_eq!(launch.labels, ["self-hosted", "linux", "ghr-instance-type:c7i.large", "ghr-market:on-demand"]);
    }

    #[test]
    fn each_epoch_has_its_own_client_token_and_the_tag_of_all() {
        let choice = choose(&large_fleet(), &Overrides::default(), nothing_avoided);
        let first = launched(&large_fleet(), &Overrides::default(), choice, &job(1, 0), NOW);
        let second = first.next_epoch(NOW.plus(Duration::from_secs(1))).expect("a fallback");
        let (one, two) = (request(&first), request(&second));
        assert_eq!(one.token, first.token);
        assert!(two.token != one.token && two.token.as_str().len() == 64);
        assert_eq!((one.market, two.market), (Market::Spot, Market::OnDemand));
        assert_eq!(one.tags, two.tags);
        assert_eq!(second.next_epoch(NOW), None, "there is no third");
        assert_eq!(LaunchRecord { instance_ids: Some(Vec::new()), ..first }.next_epoch(NOW), None, "it was answered");
    }

    #[test]
    fn only_an_answer_that_says_there_is_nothing_leads_to_another_market() {
        let throttled = Class::Throttled { retry_after: None };
        for (case, classes, expected) in [
            ("no reason", vec![], true),
            ("no capacity", vec![Class::NoCapacity, Class::NoCapacity], true),
            ("no capacity, and one subnet is wrong", vec![Class::Misconfigured, Class::NoCapacity], true),
            ("the configuration is wrong", vec![Class::Misconfigured], false),
            ("EC2 asks for patience with one", vec![Class::NoCapacity, throttled], false),
            ("EC2 failed", vec![Class::OutcomeUnknown], false),
        ] {
            let fault = |class| LaunchFault { code: String::new(), class, offering: None };
            let faults: Vec<LaunchFault> = classes.into_iter().map(fault).collect();
            assert_eq!(is_out_of_capacity(&faults), expected, "{case}");
        }
    }

    #[test]
    fn a_repository_has_no_runner_group_but_the_default() {
        let fleet = Fleet { runner_group_id: 7, ..fleet("linux") };
        let repository = Scope::Repository { owner: "octo".into(), name: "hello".into() };
        for (case, scope, expected) in
            [("an organisation", access().scope, 7), ("a user's repository", repository, DEFAULT_RUNNER_GROUP)]
        {
            assert_eq!(runner_group(&fleet, &scope), expected, "{case}");
        }
    }

    #[test]
    fn room_counts_what_is_listed_and_what_is_reserved_once() {
        let listed = |token: &str, fleet: &str, state| Instance {
            id: InstanceId::new("i-1"),
            state,
            launched_at: NOW,
            tags: Tags::from([("ghr:fleet".to_owned(), fleet.to_owned()), ("ghr:launch".to_owned(), token.to_owned())])
                .into(),
        };
        let reserved = |token: &str, count, age_minutes: u64, answered: bool| {
            let at = NOW.minus(Duration::from_secs(60 * age_minutes));
            Reservation { token: LaunchToken::new(token), count, at, answered_at: answered.then_some(at) }
        };
        for (case, listing, reservations, expected) in [
            ("nothing", vec![], vec![], 10),
            ("living ones", vec![listed("t", "linux", Pending), listed("t", "linux", Running)], vec![], 8),
            ("a stopped one can start again", vec![listed("t", "linux", Stopped)], vec![], 9),
            ("ended ones", vec![listed("t", "linux", ShuttingDown), listed("t", "linux", Terminated)], vec![], 10),
            ("another fleet's", vec![listed("t", "gpu", Running)], vec![], 10),
            ("a reservation not yet seen", vec![], vec![reserved("t", 3, 9, true)], 7),
            ("one seen in part", vec![listed("t", "linux", Running)], vec![reserved("t", 3, 1, true)], 7),
            ("one seen and ended", vec![listed("t", "linux", Terminated)], vec![reserved("t", 1, 1, true)], 10),
            ("a lapsed one", vec![], vec![reserved("t", 3, 11, true)], 10),
            ("an unanswered one", vec![], vec![reserved("t", 3, 10, false)], 7),
            ("one that nobody asks for any more", vec![], vec![reserved("t", 3, 11, false)], 10),
            ("more than the cap", vec![], vec![reserved("t", 30, 1, true)], 0),
        ] {
            assert_eq!(room(&fleet("linux"), &listing, &reservations, NOW), expected, "{case}");
        }
    }

    #[test]
    fn a_jobs_record_says_what_to_do_next() {
        let token = LaunchToken::new("t");
        let launching = |lease_until| JobPhase::Launching { token: token.clone(), lease_until };
        for (case, phase, expected) in [
            ("queued", JobPhase::Queued, Next::Launch),
            ("held by another", launching(NOW.plus(Duration::from_millis(1))), Next::InFlight),
            ("left behind", launching(NOW), Next::Resume(token.clone())),
            ("launched", JobPhase::Launched { token: token.clone() }, Next::CheckServed(token.clone())),
            ("started", JobPhase::Started { at: NOW }, Next::NotQueued),
            ("completed", JobPhase::Completed { at: NOW, conclusion: None }, Next::NotQueued),
        ] {
            let record = JobRecord { phase, ..job(1, 1) };
            assert_eq!(next(&record, NOW), expected, "{case}");
        }
        let again = JobRecord { launches: vec![token], ..job(1, 1) };
        assert_eq!(next(&again, NOW), Next::LaunchAgain, "queued again");
    }

    #[test]
    fn what_is_free_of_a_launch_is_shared_out_to_jobs_that_were_given_one_and_then_to_those_left_without() {
        let jobs: Vec<JobRecord> = [1, 2, 3].map(|id| job(id, 0)).into();
        let none = Overrides::default();
        let choice = choose(&fleet("linux"), &none, nothing_avoided);
        let refs: Vec<&JobRecord> = jobs.iter().collect();
        let launch = launch(&policy(), &fleet("linux"), &access(), (&none, choice), &refs, NOW);
        let (token, other) = (launch.token.clone(), LaunchToken::new("other"));
        let of = |id, phase| JobRecord { phase, ..job(id, 1) };
        let launched = |id| of(id, JobPhase::Launched { token: token.clone() });
        let launching = |id| of(id, JobPhase::Launching { token: token.clone(), lease_until: NOW });
        let left = |id| of(id, JobPhase::Queued);
        let started = |id| of(id, JobPhase::Started { at: NOW });
        let started_elsewhere = |id| JobRecord { runner_id: Some(RunnerId(9)), ..started(id) };
        let elsewhere = |id| of(id, JobPhase::Launched { token: other.clone() });
        let older = |job: JobRecord| JobRecord { queued_at: NOW.minus(Duration::from_secs(1)), ..job };
        for (case, free, jobs, expected) in [
            ("none is free", 0, vec![left(1)], vec![]),
            ("given one, and left without", 1, vec![older(left(1)), launched(2)], vec![2]),
            ("gone on with, and left without", 1, vec![older(left(1)), launching(2)], vec![2]),
            ("the other runs", 1, vec![started_elsewhere(1), left(2)], vec![2]),
            ("the other runs, and perhaps here", 1, vec![started(1), left(2)], vec![1]),
            ("the other was launched for again", 1, vec![elsewhere(1), left(2)], vec![2]),
            ("and nothing is left of that launch", 1, vec![left(2), older(elsewhere(3))], vec![3]),
            ("two were left without", 1, vec![left(1), older(left(2)), started_elsewhere(3)], vec![2]),
            ("more are free than wanted", 3, vec![left(1), launched(2)], vec![1, 2]),
            ("a job of another launch", 1, vec![left(2), older(left(9))], vec![2]),
        ] {
            let expected: BTreeSet<JobId> = expected.into_iter().map(JobId).collect();
            assert_eq!(shared_out(&launch, free, &jobs, |id| id == JobId(3)), expected, "{case}");
        }
    }

    #[test]
    fn an_instance_gets_a_configuration_once_and_never_while_it_is_removed() {
        let intent = RemovalIntent { at: NOW, ground: Ground::NeverConnected };
        for (case, change, expected) in [
            ("just launched", (|_| {}) as Change, Need::Configuration),
            ("asked for, no answer", |r| r.jit_intent_at = Some(NOW), Need::LookUp),
            ("rebuilt: never asked is not known", |r| r.origin = Origin::Rebuilt { at: NOW }, Need::LookUp),
            ("registered, hand-over not known", |r| r.runner_id = Some(RunnerId(1)), Need::Unsure),
            ("handed over", |r| r.handed_over_at = Some(NOW), Need::Nothing),
            (
                "registered, its configuration lost",
                |r| (r.runner_id, r.lost_at) = (Some(RunnerId(1)), Some(NOW)),
                Need::Beyond,
            ),
            (
                "thought lost, and handed over",
                |r| (r.handed_over_at, r.lost_at) = (Some(NOW), Some(NOW)),
                Need::Nothing,
            ),
            ("busy", |r| r.busy_seen_at = Some(NOW), Need::Nothing),
            ("gone", |r| r.gone_at = Some(NOW), Need::Beyond),
            ("deregistered", |r| r.deregistered_at = Some(NOW), Need::Beyond),
        ] {
            let mut record = instance();
            change(&mut record);
            assert_eq!(need(&record), expected, "{case}");
            record.terminate_intent = Some(intent);
            assert_eq!(need(&record), Need::Beyond, "{case}, and about to be ended");
        }
    }

    #[test]
    fn a_launch_serves_its_jobs_while_a_free_instance_of_it_is_young() {
        let timers = fleet("linux").timers;
        let none: Change = |_| {};
        let in_doubt: Change = |r| (r.handed_over_at, r.jit_intent_at) = (None, Some(NOW.plus(Duration::from_secs(9))));
        for (case, change, shown, age_seconds, expected) in [
            ("running", none, Some(Running), 0, true),
            ("its hand-over in doubt, within the lease", in_doubt, Some(Running), 308, true),
            ("its hand-over in doubt, after it", in_doubt, Some(Running), 309, false),
            ("nobody registered it in that time", |r| r.handed_over_at = None, Some(Running), 300, false),
            (
                "its configuration is lost",
                |r| (r.handed_over_at, r.lost_at) = (None, Some(NOW)),
                Some(Running),
                0,
                false,
            ),
            ("not listed yet", none, None, 299, true),
            ("not listed, although it would be by now", none, None, 300, false),
            ("ended", none, Some(Terminated), 0, false),
            ("just within its time", none, Some(Running), 959, true),
            ("past its time", none, Some(Running), 960, false),
            ("it has a job", |r| r.busy_seen_at = Some(NOW), Some(Running), 0, false),
            ("it is being removed", |r| r.gone_at = Some(NOW), Some(Running), 0, false),
        ] {
            let mut record = InstanceRecord { handed_over_at: Some(NOW), ..instance() };
            change(&mut record);
            let now = NOW.plus(Duration::from_secs(age_seconds));
            assert_eq!(serves_until(&record, (shown, now), &timers, now).is_some(), expected, "{case}");
        }
    }

    #[test]
    fn an_instance_that_is_not_shown_is_young_in_doubt_or_gone() {
        let choice = choose(&fleet("linux"), &Overrides::default(), nothing_avoided);
        let launch = launched(&fleet("linux"), &Overrides::default(), choice, &job(1, 0), NOW);
        for (case, answered, listed, shown, expected) in [
            ("shown", 0, 0, Some(Running), Sight::Shown(Running)),
            ("shown, though it ended", 2_520, 2_820, Some(Terminated), Sight::Shown(Terminated)),
            ("answered at once, and listed at once", 1, 1, None, Sight::Young),
            ("answered at once, and listed while it may lag", 299, 598, None, Sight::Young),
            ("answered at once, and listed after that", 1, 301, None, Sight::Gone),
            ("answered late: the first call may have made it", 300, 300, None, Sight::InDoubt),
            ("answered late, and listed while it may lag", 2_520, 2_819, None, Sight::InDoubt),
            ("answered late, and listed after that", 2_520, 2_820, None, Sight::Gone),
            ("the listing was begun before the answer", 2_520, 2_500, None, Sight::InDoubt),
        ] {
            let after = |seconds| NOW.plus(Duration::from_secs(seconds));
            let launch = LaunchRecord { answered_at: Some(after(answered)), ..launch.clone() };
            assert_eq!(sight(&launch, shown, after(listed)), expected, "{case}");
        }
    }

    #[test]
    fn instances_are_shared_out_in_the_order_of_the_jobs() {
        use Settlement::{AgainLater, AgainSoon, Launched, LookAgain, NothingLaunched, Retry};
        let tally = |ready, retry: usize, lost| Tally { ready, retry: vec!["r".to_owned(); retry], in_doubt: 0, lost };
        let retry = || Retry("r".to_owned());
        for (case, jobs, taken, tally, expected) in [
            ("all", 2, 0, tally(2, 0, 0), vec![Launched, Launched]),
            ("in part", 3, 0, tally(1, 0, 0), vec![Launched, AgainSoon, AgainSoon]),
            ("each kind", 4, 0, tally(1, 1, 1), vec![Launched, retry(), AgainLater, AgainSoon]),
            ("one in doubt", 3, 0, Tally { in_doubt: 1, ..tally(1, 0, 1) }, vec![Launched, LookAgain, AgainLater]),
            ("one settled before", 1, 1, tally(1, 0, 1), vec![AgainLater]),
            ("more instances than jobs left", 1, 0, tally(2, 1, 0), vec![Launched]),
            ("none", 2, 0, tally(0, 0, 0), vec![NothingLaunched, NothingLaunched]),
            ("none besides those settled before", 1, 1, tally(0, 0, 0), vec![AgainSoon]),
        ] {
            assert_eq!(settle(jobs, taken, tally), expected, "{case}");
        }
    }
}
