//! What is needed, of what there is; how often an owner is searched; where a pool registers. Pure: no port, no clock.

use std::time::Duration;

use crate::config::{Fleet, Registration, Timers};
use crate::ids::{Access, JobId, Scope};
use crate::ledger::{InstanceRecord, JobPhase, JobRecord, SearchedOwner, Served};
use crate::ports::{AccountKind, ApiBudget, Instance, InstanceState, VitalSign, Worker};
use crate::scale_up::aftermath::{Need, need};
use crate::scale_up::plan::NO_ROOM_LOOK;
use crate::time::Timestamp;

/// Jobs sent for one fleet and scope in one pass. More, and one bad reading of GitHub fills the queue; fewer, and what
/// an outage of the webhook left behind is served over many searches.
pub(super) const SENT_MAX: usize = 50;

/// Launches are counted over this time (P4 of the design).
const STORM_WINDOW: Duration = Duration::from_mins(10);

/// P4: not more than twice the jobs that wait and five more are launched in that time.
const STORM_FACTOR: usize = 2;
const STORM_EXTRA: usize = 5;

/// What one instance is to a job that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Its runner is still to come.
    Booting,
    /// Its runner waits for a job.
    Idle,
    /// It has, or had, a job, was asked to drain, is being removed, or ends itself any moment.
    Spent,
}

/// Decides by what EC2, the ledger and the instance itself say. An instance without record was launched a moment ago;
/// its age alone counts. A sign that a worker runs counts against it, as everywhere.
pub(super) fn condition(
    instance: &Instance,
    record: Option<&InstanceRecord>,
    sign: Option<&VitalSign>,
    timers: &Timers,
    now: Timestamp,
) -> Condition {
    let age = now.since(instance.launched_at);
    let living = match instance.state {
        InstanceState::Pending | InstanceState::Running => true,
        InstanceState::ShuttingDown
        | InstanceState::Terminated
        | InstanceState::Stopping
        | InstanceState::Stopped
        | InstanceState::Unrecognised => false,
    };
    let spoken_for = record.is_some_and(|record| {
        record.has_job_evidence() || record.drain_requested_at.is_some() || need(record) == Need::Beyond
    });
    let drained = instance.tags.contains_key("ghr:drain");
    // Its supervisor is up before its runner is: the configuration may still be to come, as long as somebody goes on with
    // its launch, and then GitHub has to be told.
    let ready_at = if let Some(at) = record.and_then(|record| record.handed_over_at) {
        at.plus(timers.pick_up)
    } else {
        let asked_at = record.and_then(|record| record.jit_intent_at).unwrap_or(instance.launched_at);
        asked_at.plus(timers.launch_lease)
    };
    match sign.map(|sign| sign.worker) {
        _ if !living || spoken_for || drained || age >= timers.idle_maximum.max(timers.boot_grace) => Condition::Spent,
        Some(Worker::Acquiring | Worker::Running | Worker::Unrecognised) => Condition::Spent,
        None if age < timers.boot_grace => Condition::Booting,
        Some(Worker::None) if age < timers.boot_grace && now < ready_at => Condition::Booting,
        Some(Worker::None) | None => Condition::Idle,
    }
}

/// Whether it was launched within the storm's time and no job is known to have come of it.
pub(super) fn is_barren(instance: &Instance, record: Option<&InstanceRecord>, now: Timestamp) -> bool {
    now.since(instance.launched_at) < STORM_WINDOW && !record.is_some_and(InstanceRecord::has_job_evidence)
}

/// What there is for the jobs of one fleet that register in one scope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Capacity {
    /// Instances that boot, and those that were asked for and are not shown yet.
    pub(super) booting: usize,
    /// Instances that wait for a job.
    pub(super) idle: usize,
    /// Instances of the last 10 min that no job came of, living or not, and those that are not shown yet.
    pub(super) barren: usize,
}

impl Capacity {
    /// All that could still take a job.
    pub(super) fn free(self) -> usize {
        self.booting + self.idle
    }
}

/// How a job that waits stands with us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nobody is about to serve it: unknown to us, given up, or its launch has no instance left that could.
    Unserved,
    /// A launch for it is in flight, or has an instance that can take it.
    Claims,
    /// It has a time to look again that nobody needs to hurry: no room, no capacity, a cause that does not go away.
    Waits,
}

/// Decides by the job's record; `free_of_launch` says whether a launch has an instance that can still take a job.
///
/// That an instance was launched for a job is not enough: another job may have taken it.
pub(super) fn standing(
    record: Option<&JobRecord>,
    free_of_launch: impl Fn(&crate::ids::LaunchToken) -> bool,
    now: Timestamp,
) -> Standing {
    let Some(record) = record.filter(|record| record.given_up_at.is_none()) else { return Standing::Unserved };
    match &record.phase {
        JobPhase::Launching { .. } => Standing::Claims,
        JobPhase::Launched { token } if free_of_launch(token) => Standing::Claims,
        JobPhase::Launched { .. } => Standing::Unserved,
        // Only a later event was known of it, so no fleet's index shows it; or it is due and was not sent.
        JobPhase::Queued if record.fleet.is_none() || record.next_look <= now => Standing::Unserved,
        // Nothing was ever launched for it, nor did it find a full fleet: its message was lost after its first write.
        JobPhase::Queued if record.launch_count == 0 && record.next_look > now.plus(NO_ROOM_LOOK) => Standing::Unserved,
        JobPhase::Queued | JobPhase::Started { .. } | JobPhase::Completed { .. } => Standing::Waits,
    }
}

/// One job that waits for a runner of a fleet and scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The job.
    pub(super) job_id: JobId,
    /// When GitHub queued it.
    pub(super) queued_at: Timestamp,
    /// How it stands with us.
    pub(super) standing: Standing,
    /// Whether GitHub showed it as queued in this search, and it is old enough not to be left to its event.
    pub(super) confirmed: bool,
}

/// How many more instances these jobs need. What boots serves the oldest first; what is idle counts only for jobs that
/// have waited for less than `idle_trust`: an older one would have been taken by it.
pub(super) fn needed(jobs: &[Wanted], capacity: Capacity, idle_trust: Duration, now: Timestamp) -> usize {
    let old = jobs.iter().filter(|job| now.since(job.queued_at) >= idle_trust).count();
    let young = jobs.len() - old;
    let booting_left = capacity.booting.saturating_sub(old);
    old.saturating_sub(capacity.booting) + young.saturating_sub(booting_left + capacity.idle)
}

/// The jobs to send, in order of age: of those that nobody serves as many as are needed, and no more than the storm
/// guard and the cap of a pass allow.
pub(super) fn chosen(jobs: &[Wanted], capacity: Capacity, idle_trust: Duration, now: Timestamp) -> Vec<JobId> {
    let storm = (STORM_FACTOR * jobs.len() + STORM_EXTRA).saturating_sub(capacity.barren);
    let most = needed(jobs, capacity, idle_trust, now).min(storm).min(SENT_MAX);
    let mut unserved: Vec<&Wanted> =
        jobs.iter().filter(|job| job.confirmed && job.standing == Standing::Unserved).collect();
    unserved.sort_by_key(|job| (job.queued_at, job.job_id));
    unserved.into_iter().take(most).map(|job| job.job_id).collect()
}

/// How many instances a pool lacks: runners that boot count, those that a job is going to take do not. `room` is what
/// the fleet's cap leaves; jobs that wait for room come first.
pub(super) fn missing(wanted: usize, jobs: &[Wanted], capacity: Capacity, room: usize) -> usize {
    let with = |standing| jobs.iter().filter(|job| job.standing == standing).count();
    let spare = capacity.free().saturating_sub(with(Standing::Claims));
    let room = room.saturating_sub(with(Standing::Waits) + with(Standing::Unserved));
    // Jobs that wait excuse no launch here: the guard is the pool's own.
    let storm = (STORM_FACTOR * wanted + STORM_EXTRA).saturating_sub(capacity.barren);
    wanted.saturating_sub(spare).min(room).min(storm)
}

/// Why it cannot be told where a pool registers; each names the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// The App reaches nothing that the fleet could serve.
    None,
    /// There are several such places.
    Several,
}

/// Where the runners of a fleet's pool register: where the configuration says, else at the only place there is.
pub(super) fn pool_access<'a>(
    fleet: &Fleet,
    owners: impl Iterator<Item = &'a SearchedOwner>,
) -> Result<Access, NoPlace> {
    let owners: Vec<&SearchedOwner> = owners.collect();
    if let Some(scope) = &fleet.idle_owner {
        let of_owner = |owner: &&&SearchedOwner| owner.installation.owner.eq_ignore_ascii_case(scope.owner());
        let installation_id = owners.iter().find(of_owner).map(|owner| owner.installation.id);
        return Ok(Access { scope: scope.clone(), installation_id });
    }
    let mut places = owners.into_iter().filter(|owner| owner.served != Served::None);
    let (owner, another) = (places.next().ok_or(NoPlace::None)?, places.next());
    let login = || owner.installation.owner.clone();
    let scope = match (fleet.registration, owner.installation.kind, &owner.served) {
        _ if another.is_some() => return Err(NoPlace::Several),
        (Registration::Organization, AccountKind::Organization, _) => Scope::Organization { owner: login() },
        (_, _, Served::One(repository)) => {
            Scope::Repository { owner: repository.owner().to_owned(), name: repository.name().to_owned() }
        }
        (_, _, Served::Several | Served::None) => return Err(NoPlace::Several),
    };
    Ok(Access { scope, installation_id: Some(owner.installation.id) })
}

/// A search may charge an owner's budget with a fifth of its hour (design section 12).
const SHARE: u32 = 5;

/// The smallest hourly budget of an installation (facts/github.md 2.4), while GitHub has not said another.
const LIMIT_MIN: u32 = 5_000;

/// A schedule's ticks come a little early or late; a search is due that much before its time.
const SLACK: Duration = Duration::from_secs(15);

/// The hour in which requests are counted.
const COUNTED: Duration = Duration::from_hours(1);

/// The time between two searches of an owner: twice as long once half of its budget is used, six times once four
/// fifths are, whoever used it. What is left is for launches.
pub(super) fn interval(shortest: Duration, budget: Option<ApiBudget>, now: Timestamp) -> Duration {
    match budget.filter(|budget| budget.resets_at > now) {
        Some(budget) if budget.remaining < budget.limit / 5 => shortest * 6,
        Some(budget) if budget.remaining < budget.limit / 2 => shortest * 2,
        Some(_) | None => shortest,
    }
}

/// Whether an owner is to be searched now: a search that was cut short is gone on with, another begun when its time has
/// come; neither once searches have had their share of the hour.
pub(super) fn is_due(owner: &SearchedOwner, shortest: Duration, budget: Option<ApiBudget>, now: Timestamp) -> bool {
    let slack = SLACK.min(shortest / 20);
    let due = owner.after.is_some()
        || owner.begun_at.is_none_or(|at| now.since(at) + slack >= interval(shortest, budget, now));
    due && !share_is_spent(owner, budget, now)
}

/// Whether searches have had their share of this hour's budget.
pub(super) fn share_is_spent(owner: &SearchedOwner, budget: Option<ApiBudget>, now: Timestamp) -> bool {
    let limit = budget.map_or(LIMIT_MIN, |budget| budget.limit);
    now.since(owner.counted_since) < COUNTED && owner.charged >= limit / SHARE
}

/// Adds what was charged; an hour later the count begins anew.
pub(super) fn charge(owner: &mut SearchedOwner, charged: u32, now: Timestamp) {
    if now.since(owner.counted_since) >= COUNTED {
        owner.counted_since = now;
        owner.charged = 0;
    }
    owner.charged = owner.charged.saturating_add(charged);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{fleet, installation};
    use crate::ids::{FleetName, InstanceId, LaunchToken, Repository, RunId, RunnerId, RunnerName};
    use crate::ledger::JobStarted;
    use std::sync::Arc;

    const NOW: Timestamp = Timestamp(1_795_176_000_000);

    fn ago(seconds: u64) -> Timestamp {
        NOW.minus(Duration::from_secs(seconds))
    }

    fn access() -> Access {
        Access { scope: Scope::Organization { owner: "octo".into() }, installation_id: None }
    }

    fn repository() -> Repository {
        Repository::try_from("octo/hello".to_owned()).expect("a name")
    }

    #[test]
    fn an_instance_is_capacity_until_something_says_otherwise() {
        use Condition::{Booting, Idle, Spent};
        type Change = fn(&mut Instance, &mut InstanceRecord, &mut Option<VitalSign>);
        let sign = |worker| Some(VitalSign { beat_at: NOW, worker });
        for (case, age, change, expected) in [
            ("just launched", 0, (|_, _, _| {}) as Change, Booting),
            ("just within the boot grace", 899, |_, _, _| {}, Booting),
            ("past it and never heard of", 900, |_, _, _| {}, Idle),
            ("past the time after which it ends itself", 3_600, |_, _, _| {}, Spent),
            ("asked to drain", 0, |_, record, _| record.drain_requested_at = Some(NOW), Spent),
            (
                "asked to drain, and the record does not say so yet",
                0,
                |instance, _, _| {
                    Arc::make_mut(&mut instance.tags).insert("ghr:drain".into(), "x".into());
                },
                Spent,
            ),
            ("about to be removed", 0, |_, record, _| record.deregistered_at = Some(NOW), Spent),
            ("seen busy", 0, |_, record, _| record.busy_seen_at = Some(NOW), Spent),
            ("ending", 0, |instance, _, _| instance.state = InstanceState::ShuttingDown, Spent),
            ("stopped", 0, |instance, _, _| instance.state = InstanceState::Stopped, Spent),
        ] {
            let mut instance = Instance {
                id: InstanceId::new("i-1"),
                state: InstanceState::Running,
                launched_at: ago(age),
                tags: Arc::default(),
            };
            let mut record = InstanceRecord::launched(
                instance.id.clone(),
                access(),
                FleetName::new("linux"),
                LaunchToken::new("t"),
                RunnerName::new("runner-i-1"),
                ago(age),
            );
            let mut seen = None;
            record.handed_over_at = Some(ago(60));
            change(&mut instance, &mut record, &mut seen);
            let timers = fleet("linux").timers;
            let judged = condition(&instance, Some(&record), seen.as_ref(), &timers, NOW);
            assert_eq!(judged, expected, "{case}");
            let up = condition(&instance, Some(&record), sign(Worker::None).as_ref(), &timers, NOW);
            assert_eq!(up, if expected == Spent { Spent } else { Idle }, "{case}, and its supervisor is up");
            for worker in [Worker::Running, Worker::Acquiring, Worker::Unrecognised] {
                let busy = condition(&instance, Some(&record), sign(worker).as_ref(), &timers, NOW);
                assert_eq!(busy, Spent, "{case}, {worker:?}");
            }
        }
    }

    #[test]
    fn an_instance_that_is_up_boots_until_its_runner_has_had_time_to_be_told_of_a_job() {
        use Condition::{Booting, Idle};
        let instance = |age| Instance {
            id: InstanceId::new("i-1"),
            state: InstanceState::Running,
            launched_at: ago(age),
            tags: Arc::default(),
        };
        let (timers, up) = (fleet("linux").timers, VitalSign { beat_at: NOW, worker: Worker::None });
        let (id, name, token) = (InstanceId::new("i-1"), RunnerName::new("runner-i-1"), LaunchToken::new("t"));
        let mut record = InstanceRecord::launched(id, access(), FleetName::new("linux"), token, name, ago(300));
        for (case, jit_intent_at, handed_over_at, age, expected) in [
            ("it is about to be asked for", None, None, 299, Booting),
            ("GitHub keeps its configuration back", Some(ago(299)), None, 600, Booting),
            ("nobody goes on with its launch", None, None, 300, Idle),
            ("nobody goes on with it, and nobody knows what became of it", Some(ago(300)), None, 600, Idle),
            ("it got it a moment ago", Some(ago(600)), Some(ago(59)), 600, Booting),
            ("its runner is there", Some(ago(61)), Some(ago(60)), 600, Idle),
            ("it got one in the last moment", Some(ago(2)), Some(ago(1)), 900, Idle),
        ] {
            record.launched_at = ago(age);
            (record.jit_intent_at, record.handed_over_at) = (jit_intent_at, handed_over_at);
            assert_eq!(condition(&instance(age), Some(&record), Some(&up), &timers, NOW), expected, "{case}");
        }
        for (case, age, expected) in
            [("its record is yet to be written", 299, Booting), ("and nobody is left to write it", 300, Idle)]
        {
            assert_eq!(condition(&instance(age), None, Some(&up), &timers, NOW), expected, "{case}");
        }
    }

    fn record(phase: JobPhase) -> JobRecord {
        JobRecord {
            job_id: JobId(1),
            access: access(),
            repository: repository(),
            run_id: RunId(1),
            run_attempt: 1,
            labels: vec!["linux".into()],
            fleet: Some(FleetName::new("linux")),
            phase,
            next_look: NOW.plus(Duration::from_mins(10)),
            launch_count: 1,
            launches: Vec::new(),
            queued_at: ago(600),
            runner_id: None,
            recorded_at: Some(ago(600)),
            given_up_at: None,
            ids: crate::ids::RepositoryIds::default(),
        }
    }

    #[test]
    fn a_job_is_served_by_a_launch_that_can_still_serve_it_and_by_no_other() {
        use Standing::{Claims, Unserved, Waits};
        let token = || LaunchToken::new("t");
        for (case, job, free, expected) in [
            ("launched, and its instance is there", record(JobPhase::Launched { token: token() }), true, Claims),
            (
                "launched, and another job took its instance",
                record(JobPhase::Launched { token: token() }),
                false,
                Unserved,
            ),
            (
                "a launch in flight",
                record(JobPhase::Launching { token: token(), lease_until: NOW.plus(Duration::from_mins(1)) }),
                false,
                Claims,
            ),
            ("its launch failed and it has a time to look again", record(JobPhase::Queued), false, Waits),
            (
                "nothing was ever launched for it",
                JobRecord { launch_count: 0, ..record(JobPhase::Queued) },
                false,
                Unserved,
            ),
            (
                "a full fleet, looked at again in a moment",
                JobRecord { launch_count: 0, next_look: NOW.plus(NO_ROOM_LOOK), ..record(JobPhase::Queued) },
                false,
                Waits,
            ),
            ("due", JobRecord { next_look: NOW, ..record(JobPhase::Queued) }, false, Unserved),
            ("in no fleet's index", JobRecord { fleet: None, ..record(JobPhase::Queued) }, false, Unserved),
            ("started a moment ago", record(JobPhase::Started { at: NOW }), false, Waits),
            ("over", record(JobPhase::Completed { at: NOW, conclusion: None }), false, Waits),
            (
                "given up",
                JobRecord { given_up_at: Some(NOW), ..record(JobPhase::Launched { token: token() }) },
                true,
                Unserved,
            ),
        ] {
            assert_eq!(standing(Some(&job), |_| free, NOW), expected, "{case}");
        }
        assert_eq!(standing(None, |_| true, NOW), Unserved, "unknown");
    }

    /// Age in seconds and standing; confirmed where a minute old. Its id is its place.
    fn jobs(facts: &[(u64, Standing)]) -> Vec<Wanted> {
        let wanted = |(place, &(age, standing)): (usize, &(u64, Standing))| Wanted {
            job_id: JobId(place as u64),
            queued_at: ago(age),
            standing,
            confirmed: age >= 60,
        };
        facts.iter().enumerate().map(wanted).collect()
    }

    #[test]
    fn as_many_are_sent_as_nothing_that_boots_or_idles_is_going_to_serve() {
        use Standing::{Claims, Unserved, Waits};
        let trust = Duration::from_mins(3);
        let (old, young) = (600, 90);
        for (case, facts, booting, idle, barren, expected) in [
            ("nobody serves it", vec![(young, Unserved)], 0, 0, 0, vec![0]),
            ("an idle runner will take it", vec![(young, Unserved)], 0, 1, 0, vec![]),
            ("an idle runner has not taken it", vec![(old, Unserved)], 0, 1, 0, vec![0]),
            ("something boots that no job claims", vec![(old, Unserved)], 1, 0, 1, vec![]),
            ("what boots is claimed", vec![(old, Claims), (young, Unserved)], 1, 0, 1, vec![1]),
            ("what idles is claimed and was not taken", vec![(old, Claims), (young, Unserved)], 0, 1, 0, vec![1]),
            ("too young, its event is on its way", vec![(59, Unserved)], 0, 0, 0, vec![]),
            ("oldest first", vec![(young, Unserved), (old, Unserved), (300, Unserved)], 0, 0, 0, vec![1, 2, 0]),
            (
                "a full fleet's jobs hold up no other",
                vec![(old, Waits), (old, Waits), (young, Unserved)],
                0,
                0,
                0,
                vec![2],
            ),
            ("its own runner was taken", vec![(old, Unserved), (old, Claims)], 1, 0, 1, vec![0]),
            ("launches that come to nothing: the storm is over", vec![(old, Unserved)], 0, 0, 6, vec![0]),
            ("launches that come to nothing", vec![(old, Unserved)], 0, 0, 7, vec![]),
        ] {
            let capacity = Capacity { booting, idle, barren };
            let sent: Vec<u64> = chosen(&jobs(&facts), capacity, trust, NOW).into_iter().map(|id| id.0).collect();
            assert_eq!(sent, expected, "{case}");
        }
        let many = jobs(&vec![(old, Unserved); 200]);
        assert_eq!(chosen(&many, Capacity::default(), trust, NOW).len(), SENT_MAX);
    }

    #[test]
    fn a_pool_lacks_what_neither_boots_nor_idles_and_leaves_room_for_jobs() {
        use Standing::{Claims, Unserved, Waits};
        for (case, wanted, facts, booting, idle, barren, room, expected) in [
            ("empty", 3, vec![], 0, 0, 0, 10, 3),
            ("some boot, some idle", 3, vec![], 1, 1, 1, 10, 1),
            ("full", 3, vec![], 3, 0, 3, 10, 0),
            ("what boots is for a job", 3, vec![(90, Claims)], 3, 0, 3, 10, 1),
            ("no more than the cap leaves", 3, vec![], 0, 0, 0, 2, 2),
            ("jobs that wait come first", 3, vec![(90, Waits), (90, Unserved)], 0, 0, 0, 4, 2),
            ("more than enough", 1, vec![], 0, 5, 0, 10, 0),
            ("launches that come to nothing", 1, vec![], 0, 0, 7, 10, 0),
        ] {
            let capacity = Capacity { booting, idle, barren };
            assert_eq!(missing(wanted, &jobs(&facts), capacity, room), expected, "{case}");
        }
    }

    fn owner(login: &str, served: Served) -> SearchedOwner {
        SearchedOwner {
            installation: installation(login, 7),
            begun_at: Some(ago(300)),
            after: None,
            seen_at: None,
            whole_at: None,
            known_since: None,
            failed: false,
            served,
            counted_since: ago(600),
            charged: 0,
        }
    }

    #[test]
    fn a_pool_registers_at_the_only_place_or_where_it_is_told() {
        let organization = |owner: &str| Ok(Scope::Organization { owner: owner.into() });
        let hello = || Scope::Repository { owner: "octo".into(), name: "hello".into() };
        let by_repository = |fleet: Fleet| Fleet { registration: Registration::Repository, ..fleet };
        let (octo, acme) = (owner("octo", Served::Several), owner("acme", Served::Several));
        let mut user = owner("octo", Served::One(repository()));
        user.installation.kind = AccountKind::User;
        for (case, fleet, owners, expected) in [
            ("one organisation", fleet("linux"), vec![octo.clone()], organization("octo")),
            ("two", fleet("linux"), vec![octo.clone(), acme.clone()], Err(NoPlace::Several)),
            (
                "two, and one of them serves nothing",
                fleet("linux"),
                vec![octo.clone(), owner("acme", Served::None)],
                organization("octo"),
            ),
            ("none", fleet("linux"), vec![], Err(NoPlace::None)),
            ("a user's only repository", fleet("linux"), vec![user.clone()], Ok(hello())),
            (
                "repositories, and there are several",
                by_repository(fleet("linux")),
                vec![octo.clone()],
                Err(NoPlace::Several),
            ),
            (
                "told which of two",
                Fleet { idle_owner: Scope::parse("acme"), ..fleet("linux") },
                vec![octo, acme],
                organization("acme"),
            ),
        ] {
            let place = pool_access(&fleet, owners.iter()).map(|access| access.scope);
            assert_eq!(place, expected, "{case}");
        }
    }

    #[test]
    fn searches_slow_down_with_the_budget_and_take_no_more_than_their_share() {
        let five = Duration::from_mins(5);
        let budget = |remaining, resets_in: u64| {
            Some(ApiBudget { limit: 5_000, remaining, resets_at: NOW.plus(Duration::from_secs(resets_in)) })
        };
        for (case, begun_seconds_ago, cut, charged, budget, expected) in [
            ("its time has come", 300, false, 0, None, true),
            ("a tick early", 286, false, 0, None, true),
            ("not yet", 240, false, 0, None, false),
            ("half of the budget is left", 300, false, 0, budget(2_500, 60), true),
            ("less than half", 300, false, 0, budget(2_499, 60), false),
            ("less than half, and ten minutes later", 600, false, 0, budget(2_499, 60), true),
            ("less than a fifth", 900, false, 0, budget(999, 60), false),
            ("less than a fifth, and half an hour later", 1_800, false, 0, budget(999, 60), true),
            ("a budget of an hour that is over", 300, false, 0, budget(0, 0), true),
            ("cut short", 0, true, 0, None, true),
            ("its share of the hour is spent", 300, false, 1_000, None, false),
            ("cut short, and its share is spent", 300, true, 1_000, None, false),
        ] {
            let searched = SearchedOwner {
                begun_at: Some(ago(begun_seconds_ago)),
                after: cut.then(repository),
                charged,
                ..owner("octo", Served::Several)
            };
            assert_eq!(is_due(&searched, five, budget, NOW), expected, "{case}");
        }
        let mut searched =
            SearchedOwner { charged: 1_000, counted_since: ago(3_599), ..owner("octo", Served::Several) };
        charge(&mut searched, 5, NOW);
        assert_eq!(searched.charged, 1_005);
        searched.counted_since = ago(3_600);
        charge(&mut searched, 5, NOW);
        assert_eq!((searched.charged, searched.counted_since), (5, NOW));
    }

    #[test]
    fn an_instance_that_had_a_job_is_no_sign_of_a_storm() {
        let mut record = InstanceRecord::launched(
            InstanceId::new("i-1"),
            access(),
            FleetName::new("linux"),
            LaunchToken::new("t"),
            RunnerName::new("runner-i-1"),
            NOW,
        );
        let instance = |age| Instance {
            id: InstanceId::new("i-1"),
            state: InstanceState::Terminated,
            launched_at: ago(age),
            tags: Arc::default(),
        };
        assert!(is_barren(&instance(599), Some(&record), NOW) && is_barren(&instance(599), None, NOW));
        assert!(!is_barren(&instance(600), Some(&record), NOW));
        record.note_started(JobStarted {
            job_id: JobId(1),
            repository: repository(),
            at: NOW,
            runner_id: Some(RunnerId(1)),
        });
        assert!(!is_barren(&instance(0), Some(&record), NOW));
    }
}
