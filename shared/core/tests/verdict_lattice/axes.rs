//! The axes of the lattice: every value that a field of the evidence can have, as far as `decide` can tell two apart.
//!
//! An axis is a list of classes. Every class is crossed with every class of every other axis. Within a class the value
//! is drawn anew for each combination, twice, and both draws must be concluded upon alike: that is how a field is shown
//! to be irrelevant where it is not crossed.

use super::*;

/// Classes of the values of one field.
pub(crate) type Axis<T> = &'static [&'static [T]];

pub(crate) const HOUR: i64 = 3_600_000;
/// Long before [`LONG_AGO`]: older than any job can be.
const ANCIENT: Timestamp = Timestamp(-99 * HOUR);

/// How old the instance is, and when what happened to it long ago happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// Younger than every grace.
    Young,
    /// Older than every timer but the hard age.
    Grown,
    /// So old that the hard age is over, unless something happened to it since.
    Ancient,
}

pub(crate) const AGES: [Age; 3] = [Age::Young, Age::Grown, Age::Ancient];

impl Age {
    pub(crate) fn launched_at(self) -> Timestamp {
        match self {
            Self::Young => JUST_NOW.minus(Duration::from_secs(59)),
            Self::Grown => Timestamp(0),
            Self::Ancient => Timestamp(-100 * HOUR),
        }
    }

    fn long_ago(self) -> Timestamp {
        match self {
            Self::Young | Self::Grown => LONG_AGO,
            Self::Ancient => ANCIENT,
        }
    }
}

/// One record and the age of its instance.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) age: Age,
    pub(crate) record: RecordEvidence,
}

/// One way to change a record away from "launched, registered, nothing happened"; takes when "long ago" was.
type History = fn(&mut InstanceRecord, Timestamp);

fn started_at(at: Timestamp, runner_id: Option<RunnerId>) -> JobStarted {
    JobStarted { at, ..started(runner_id) }
}

const OURS: Option<RunnerId> = Some(RunnerId(7));

/// No job, or one that is known to have ended: what is left is to be sure of it.
pub(crate) const NO_JOB: [History; 1] = [|_, _| {}];

pub(crate) const ENDED_JOBS: [History; 4] = [
    |r, long_ago| {
        r.job_started = Some(started_at(long_ago, OURS));
        r.job_completed = Some(JobCompleted { job_id: JobId(1), at: long_ago });
    },
    |r, long_ago| {
        r.job_started = Some(started_at(long_ago, OURS));
        r.job_completed = Some(JobCompleted { job_id: JobId(1), at: JUST_NOW });
    },
    // Busy after its job had ended: with which one?
    |r, long_ago| {
        r.job_started = Some(started_at(long_ago, OURS));
        r.job_completed = Some(JobCompleted { job_id: JobId(1), at: long_ago });
        r.busy_seen_at = Some(long_ago.plus(Duration::from_secs(3_600)));
    },
    |r, long_ago| {
        r.job_started = Some(started_at(long_ago, OURS));
        r.busy_seen_at = Some(long_ago);
        r.job_completed = Some(JobCompleted { job_id: JobId(1), at: long_ago.plus(Duration::from_secs(3_600)) });
    },
];

/// A job started, or may have, and is not known to have ended.
pub(crate) const OPEN_JOBS: [History; 11] = [
    |r, long_ago| r.job_started = Some(started_at(long_ago, None)),
    // However old the instance is, its job or what was seen of one is not.
    |r, _| r.job_started = Some(started_at(LONG_AGO, OURS)),
    |r, _| r.busy_seen_at = Some(LONG_AGO),
    |r, long_ago| r.job_started = Some(started_at(long_ago, OURS)),
    |r, long_ago| {
        r.note_completed(JobCompleted { job_id: JobId(1), at: long_ago }, RunnerId(7));
    },
    |r, long_ago| r.busy_seen_at = Some(long_ago),
    |r, long_ago| {
        r.busy_seen_at = Some(long_ago);
        r.sought_at = Some(long_ago);
    },
    |r, long_ago| {
        r.busy_seen_at = Some(long_ago);
        r.sought_at = Some(JUST_NOW);
    },
    |r, long_ago| {
        r.job_started = Some(started_at(long_ago, OURS));
        r.elsewhere = Some(Elsewhere { job_id: JobId(1), since: long_ago });
    },
    |r, long_ago| {
        r.job_started = Some(started_at(long_ago, OURS));
        r.elsewhere = Some(Elsewhere { job_id: JobId(1), since: JUST_NOW });
    },
    |r, long_ago| {
        r.job_started = Some(started_at(long_ago, OURS));
        r.elsewhere = Some(Elsewhere { job_id: JobId(1), since: long_ago });
        r.busy_seen_at = Some(long_ago);
    },
];

/// How far its removal has come, and what was read of it towards one.
pub(crate) const REMOVALS: [History; 30] = [
    |_, _| {},
    |r, _| {
        r.runner_id = None;
        r.jit_intent_at = None;
    },
    |r, _| r.runner_id = None,
    |r, long_ago| idle(r, long_ago, JUST_NOW, None),
    |r, long_ago| idle(r, long_ago, long_ago, Some(long_ago)),
    |r, long_ago| idle(r, long_ago, JUST_NOW, Some(long_ago)),
    |r, long_ago| idle(r, JUST_NOW, JUST_NOW, Some(long_ago)),
    |r, long_ago| idle(r, long_ago, JUST_NOW, Some(JUST_NOW)),
    |r, long_ago| {
        r.deregister_intent = Some(RemovalIntent { at: long_ago, ground: DeregistrationGround::Idle });
    },
    |r, _| r.deregister_intent = Some(RemovalIntent { at: JUST_NOW, ground: DeregistrationGround::Idle }),
    |r, long_ago| deregistered(r, DeregistrationGround::Idle, long_ago),
    |r, _| deregistered(r, DeregistrationGround::Idle, JUST_NOW),
    |r, long_ago| deregistered(r, DeregistrationGround::NeverConnected, long_ago),
    |r, long_ago| deregistered(r, DeregistrationGround::Offline, long_ago),
    |r, long_ago| deregistered(r, DeregistrationGround::Stopped, long_ago),
    |r, long_ago| deregistered(r, DeregistrationGround::JobCompleted, long_ago),
    |r, long_ago| {
        deregistered(r, DeregistrationGround::Idle, long_ago);
        r.deregistration = Some(DeregistrationOutcome::Unconfirmed);
        r.absent = Some(Spell { since: long_ago, last: JUST_NOW, sweeps: Spell::SWEEPS });
    },
    |r, long_ago| {
        deregistered(r, DeregistrationGround::Idle, long_ago);
        r.terminate_intent = Some(RemovalIntent { at: JUST_NOW, ground: Ground::IdleAfterDeregistration });
    },
    |r, long_ago| {
        deregistered(r, DeregistrationGround::Idle, long_ago);
        r.terminate_intent = Some(RemovalIntent { at: long_ago, ground: Ground::IdleAfterDeregistration });
        r.protected_at = Some(JUST_NOW);
    },
    |r, long_ago| r.absent = Some(Spell { since: long_ago, last: JUST_NOW, sweeps: Spell::SWEEPS }),
    |r, long_ago| r.absent = Some(Spell { since: long_ago, last: long_ago, sweeps: Spell::SWEEPS }),
    |r, long_ago| r.absent = Some(Spell { since: long_ago, last: JUST_NOW, sweeps: 2 }),
    |r, _| r.absent = Some(Spell { since: JUST_NOW, last: JUST_NOW, sweeps: Spell::SWEEPS }),
    |r, long_ago| r.offline = Some(Spell { since: long_ago, last: JUST_NOW, sweeps: Spell::SWEEPS }),
    |r, _| r.offline = Some(Spell { since: JUST_NOW, last: JUST_NOW, sweeps: Spell::SWEEPS }),
    |r, long_ago| {
        r.runner_id = None;
        r.absent = Some(Spell { since: long_ago, last: JUST_NOW, sweeps: Spell::SWEEPS });
    },
    // Equipped late: its time to connect begins then.
    |r, _| r.handed_over_at = Some(JUST_NOW),
    // Launched while instances might be idle for longer than today.
    |r, _| r.idle_maximum_seconds = Some(80 * 3_600),
    |r, long_ago| r.stopped_since = Some(long_ago),
    |r, long_ago| r.gone_at = Some(long_ago),
];

fn idle(record: &mut InstanceRecord, since: Timestamp, seen: Timestamp, drain: Option<Timestamp>) {
    record.idle_since = Some(since);
    record.idle_seen_at = Some(seen);
    record.drain_requested_at = drain;
}

/// How long it has been stopped, and what was done about it.
pub(crate) const STOPS: [History; 7] = [
    |_, _| {},
    |r, _| r.stopped_since = Some(JUST_NOW),
    |r, long_ago| r.stopped_since = Some(long_ago),
    |r, long_ago| {
        r.stopped_since = Some(long_ago);
        r.deregister_intent = Some(RemovalIntent { at: JUST_NOW, ground: DeregistrationGround::Stopped });
    },
    |r, long_ago| {
        r.stopped_since = Some(long_ago);
        deregistered(r, DeregistrationGround::Stopped, long_ago);
    },
    |r, long_ago| {
        r.stopped_since = Some(long_ago);
        r.terminate_intent = Some(RemovalIntent { at: JUST_NOW, ground: Ground::Stopped });
    },
    |r, long_ago| {
        r.stopped_since = Some(long_ago);
        r.protected_at = Some(JUST_NOW);
    },
];

/// Older than what GitHub keeps of an ephemeral registration.
const REAPED_LONG_AGO: Timestamp = Timestamp(20 * HOUR);

/// How it went, and what is left of it.
pub(crate) const ENDS: [History; 12] = [
    |_, _| {},
    |r, _| r.gone_at = Some(LONG_AGO),
    |r, _| r.gone_at = Some(JUST_NOW),
    |r, _| r.gone_at = Some(REAPED_LONG_AGO),
    |r, _| {
        r.gone_at = Some(LONG_AGO);
        r.handed_over_at = None;
        r.busy_seen_at = Some(JUST_NOW);
    },
    |r, _| {
        r.gone_at = Some(JUST_NOW);
        r.handed_over_at = None;
    },
    |r, _| {
        r.gone_at = Some(LONG_AGO);
        r.deregister_intent = Some(RemovalIntent { at: JUST_NOW, ground: DeregistrationGround::InstanceGone });
    },
    |r, _| {
        r.gone_at = Some(LONG_AGO);
        r.cleaned_at = Some(LONG_AGO);
    },
    |r, _| {
        r.missing_since = Some(LONG_AGO);
        r.gone_at = Some(LONG_AGO);
    },
    |r, _| {
        r.missing_since = Some(LONG_AGO);
        r.gone_at = Some(LONG_AGO);
        r.runner_id = None;
    },
    |r, _| {
        r.missing_since = Some(JUST_NOW);
        r.gone_at = Some(JUST_NOW);
    },
    |r, _| {
        r.missing_since = Some(LONG_AGO);
        r.gone_at = Some(LONG_AGO);
        r.deregister_intent = Some(RemovalIntent { at: JUST_NOW, ground: DeregistrationGround::InstanceGone });
    },
];

const ORIGINS: [fn(Timestamp) -> Origin; 3] =
    [|_| Origin::Launch, |at| Origin::Rebuilt { at }, |_| Origin::Rebuilt { at: JUST_NOW }];

/// The same of a life; without a record that we know there is no hard age.
pub(crate) fn is_past(life: &Life) -> bool {
    match &life.record {
        RecordEvidence::Present(record) => is_past_hard_age(&record.record),
        RecordEvidence::Unread | RecordEvidence::Absent | RecordEvidence::Foreign => false,
    }
}

fn live(age: Age, origin: fn(Timestamp) -> Origin, job: History, removal: History) -> Life {
    let mut record = record();
    record.launched_at = age.launched_at();
    record.handed_over_at = Some(record.launched_at);
    removal(&mut record, age.long_ago());
    job(&mut record, age.long_ago());
    record.origin = origin(age.long_ago());
    Life { age, record: RecordEvidence::Present(Box::new(Versioned::new(record))) }
}

/// Every job history with every removal history, origin and age, each for itself.
pub(crate) fn lives(jobs: &[History], removals: &[History]) -> Vec<Vec<Life>> {
    lives_alike(jobs, removals).into_iter().flatten().map(|life| vec![life]).collect()
}

/// Every job history with every removal history; ages and origins are one class.
pub(crate) fn lives_alike(jobs: &[History], removals: &[History]) -> Vec<Vec<Life>> {
    let of = |job: History, removal: History| {
        let of_age = |age: Age| ORIGINS.map(|origin| live(age, origin, job, removal));
        AGES.into_iter().flat_map(of_age).collect()
    };
    jobs.iter().flat_map(|job| removals.iter().map(move |removal| of(*job, *removal))).collect()
}

/// Every job history that there is.
pub(crate) fn all_jobs() -> Vec<History> {
    [NO_JOB.as_slice(), ENDED_JOBS.as_slice(), OPEN_JOBS.as_slice()].concat()
}

/// Whether the hard age is over, told without `decide`: 5 days and 2 hours after everything from which a job that still
/// runs can have begun.
pub(crate) fn is_past_hard_age(record: &InstanceRecord) -> bool {
    let rebuilt_at = match record.origin {
        Origin::Launch => None,
        Origin::Rebuilt { at } => Some(at),
    };
    let beginnings = [
        Some(record.launched_at.plus(Duration::from_secs(record.idle_maximum_seconds.unwrap_or(0).max(3_600)))),
        record.job_started.as_ref().map(|started| started.at),
        record.completion_claim.as_ref().map(|claim| claim.completed.at),
        record.busy_seen_at,
        rebuilt_at,
    ];
    beginnings.into_iter().flatten().all(|at| NOW.since(at) >= Duration::from_secs((5 * 24 + 2) * 3_600))
}

/// Every registration with these flags, whatever GitHub says of version and ephemerality, but for the reusable ones.
fn with_flags(online: bool, busy: bool) -> Vec<RegistrationEvidence> {
    let versions = [None, Some(None), Some(Some("2.336.0".to_owned()))];
    let shown = |version: Option<Option<String>>| {
        [None, Some(true)].map(|ephemeral| {
            RegistrationEvidence::Present(Runner { online, busy, ephemeral, version: version.clone(), ..runner() })
        })
    };
    versions.into_iter().flat_map(shown).collect()
}

/// The runner is ours by id and not by name.
fn foreign() -> Vec<RegistrationEvidence> {
    let foreign = |online, busy| {
        let name = RunnerName::new("somebody-else");
        RegistrationEvidence::Present(Runner { name, online, busy, ..runner() })
    };
    vec![foreign(true, false), foreign(true, true), foreign(false, false)]
}

/// GitHub says that it takes more than one job.
fn reusable() -> Vec<RegistrationEvidence> {
    let reusable = |online, busy, version: Option<&str>| {
        let version = Some(version.map(str::to_owned));
        RegistrationEvidence::Present(Runner { online, busy, version, ephemeral: Some(false), ..runner() })
    };
    vec![
        reusable(true, false, Some("2.336.0")),
        reusable(true, true, Some("2.336.0")),
        reusable(false, false, Some("2.336.0")),
        reusable(false, false, None),
    ]
}

/// Offline and busy: the machine may be lost, and the jobs API decides.
pub(crate) fn lost_registrations() -> Vec<Vec<RegistrationEvidence>> {
    vec![with_flags(false, true)]
}

/// GitHub's word from which an act may follow; whether it ever connected decides where it is offline.
pub(crate) fn telling_registrations() -> Vec<Vec<RegistrationEvidence>> {
    let offline_and_idle = with_flags(false, false).into_iter().map(|registration| vec![registration]);
    [vec![RegistrationEvidence::Absent]].into_iter().chain(lost_registrations()).chain(offline_and_idle).collect()
}

/// Online and idle: whether it is wanted decides.
pub(crate) fn idle_registrations() -> Vec<Vec<RegistrationEvidence>> {
    vec![with_flags(true, false)]
}

/// GitHub's word on a runner whose job is over, or may not be: its version does not matter.
pub(crate) fn registrations_after_a_job() -> Vec<Vec<RegistrationEvidence>> {
    vec![vec![RegistrationEvidence::Absent], with_flags(false, false), with_flags(true, false)]
}

fn unknown_registrations() -> Vec<Vec<RegistrationEvidence>> {
    [RegistrationEvidence::NotAsked, RegistrationEvidence::Unread, RegistrationEvidence::Denied]
        .map(|registration| vec![registration])
        .to_vec()
}

/// GitHub's word that keeps it whatever else is read, or before which nothing else is read.
pub(crate) fn silent_registrations() -> Vec<Vec<RegistrationEvidence>> {
    [unknown_registrations(), vec![with_flags(true, true), reusable(), foreign()]].concat()
}

/// All of them.
pub(crate) fn every_registration() -> Vec<Vec<RegistrationEvidence>> {
    [silent_registrations(), telling_registrations(), idle_registrations()].concat()
}

/// The same, where it does not matter whether the runner is ephemeral and what version it has.
pub(crate) fn every_registration_by_flags() -> Vec<Vec<RegistrationEvidence>> {
    let of_flags = [(false, false), (false, true), (true, false), (true, true)].map(|(online, busy)| {
        let reusable = Runner { online, busy, ephemeral: Some(false), ..runner() };
        [with_flags(online, busy), vec![RegistrationEvidence::Present(reusable)]].concat()
    });
    [unknown_registrations(), vec![foreign(), vec![RegistrationEvidence::Absent]], of_flags.to_vec()].concat()
}

const fn sign(beat_at: Timestamp, worker: Worker) -> VitalEvidence {
    VitalEvidence::Sign(VitalSign { beat_at, worker })
}

/// Silent for long enough, or not; of no worker either way.
pub(crate) const QUIET: Axis<VitalEvidence> =
    &[&[VitalEvidence::Never, sign(LONG_AGO, Worker::None)], &[sign(JUST_NOW, Worker::None)]];
/// The same of a young instance: that it never spoke is no silence yet.
pub(crate) const QUIET_AND_YOUNG: Axis<VitalEvidence> =
    &[&[sign(LONG_AGO, Worker::None)], &[VitalEvidence::Never], &[sign(JUST_NOW, Worker::None)]];
pub(crate) const LIVELY: Axis<VitalEvidence> = &[
    &[VitalEvidence::Unread],
    &[
        sign(JUST_NOW, Worker::Acquiring),
        sign(JUST_NOW, Worker::Running),
        sign(JUST_NOW, Worker::Unrecognised),
        sign(LONG_AGO, Worker::Acquiring),
        sign(LONG_AGO, Worker::Running),
        sign(LONG_AGO, Worker::Unrecognised),
    ],
];
pub(crate) const EVERY_VITAL_SIGN: Axis<VitalEvidence> = &[
    &[VitalEvidence::Unread],
    &[VitalEvidence::Never],
    &[sign(JUST_NOW, Worker::None)],
    &[sign(LONG_AGO, Worker::None)],
    LIVELY[1],
];
pub(crate) const ANY_VITAL_SIGN: Axis<VitalEvidence> = &[&[
    VitalEvidence::Unread,
    VitalEvidence::Never,
    sign(JUST_NOW, Worker::None),
    sign(LONG_AGO, Worker::None),
    sign(JUST_NOW, Worker::Running),
    sign(LONG_AGO, Worker::Acquiring),
    sign(LONG_AGO, Worker::Running),
    sign(LONG_AGO, Worker::Unrecognised),
]];

pub(crate) const EVERY_DEMAND: Axis<DemandEvidence> = &[
    &[DemandEvidence::Unread],
    &[DemandEvidence::Waiting],
    &[DemandEvidence::WaitingLong],
    &[DemandEvidence::Quiet],
    &[DemandEvidence::Pool],
    &[DemandEvidence::Unwanted],
];
pub(crate) const ANY_DEMAND: Axis<DemandEvidence> = &[&[
    DemandEvidence::Unread,
    DemandEvidence::Waiting,
    DemandEvidence::WaitingLong,
    DemandEvidence::Quiet,
    DemandEvidence::Pool,
    DemandEvidence::Unwanted,
]];

pub(crate) const EVERY_CONTROL: Axis<PositiveControl> = &[
    &[PositiveControl::NotAsked],
    &[PositiveControl::Unanswered],
    &[PositiveControl::Denied],
    &[PositiveControl::MassAbsence],
    &[PositiveControl::Cautious],
    &[PositiveControl::Held],
];
pub(crate) const ANY_CONTROL: Axis<PositiveControl> = &[&[
    PositiveControl::NotAsked,
    PositiveControl::Unanswered,
    PositiveControl::Denied,
    PositiveControl::MassAbsence,
    PositiveControl::Cautious,
    PositiveControl::Held,
]];

/// Five minutes are too old, one millisecond less is not.
const FRESH: Timestamp = Timestamp(NOW.0 - 299_999);
const STALE: Timestamp = Timestamp(NOW.0 - 300_000);

const fn heard(from: Witness, at: Timestamp) -> Heard {
    Heard { from, at }
}

pub(crate) const EVERY_HEARD: Axis<Heard> = &[
    &[heard(Witness::List, NOW)],
    &[heard(Witness::List, LONG_AGO)],
    &[heard(Witness::Runner, NOW), heard(Witness::Runner, FRESH)],
    &[heard(Witness::Runner, STALE), heard(Witness::Runner, LONG_AGO)],
];
pub(crate) const ANY_HEARD: Axis<Heard> = &[&[
    heard(Witness::List, NOW),
    heard(Witness::List, LONG_AGO),
    heard(Witness::Runner, NOW),
    heard(Witness::Runner, FRESH),
    heard(Witness::Runner, STALE),
    heard(Witness::Runner, LONG_AGO),
]];

pub(crate) const EVERY_DELIVERY: Axis<DeliveryEvidence> =
    &[&[DeliveryEvidence::NotAsked], &[DeliveryEvidence::Unsettled], &[DeliveryEvidence::Settled]];
pub(crate) const ANY_DELIVERY: Axis<DeliveryEvidence> =
    &[&[DeliveryEvidence::NotAsked, DeliveryEvidence::Unsettled, DeliveryEvidence::Settled]];

pub(crate) const EVERY_RECHECK: Axis<Timestamp> = &[&[NOW, FRESH], &[STALE, LONG_AGO]];
pub(crate) const ANY_RECHECK: Axis<Timestamp> = &[&[NOW, FRESH, STALE, LONG_AGO]];

pub(crate) const EVERY_JOBS: Axis<JobsEvidence> = &[
    &[JobsEvidence::NotAsked],
    &[JobsEvidence::Unread],
    &[JobsEvidence::NoneOnRunner],
    &[JobsEvidence::OnRunner(JobId(9))],
];
pub(crate) const ANY_JOBS: Axis<JobsEvidence> =
    &[&[JobsEvidence::NotAsked, JobsEvidence::Unread, JobsEvidence::NoneOnRunner, JobsEvidence::OnRunner(JobId(9))]];

pub(crate) const EVERY_ASSIGNED: Axis<AssignedJob> = &[
    &[AssignedJob::NotAsked],
    &[AssignedJob::Unread],
    &[AssignedJob::Denied],
    &[AssignedJob::Here],
    &[AssignedJob::Elsewhere],
    &[AssignedJob::Completed],
];
pub(crate) const ANY_ASSIGNED: Axis<AssignedJob> = &[&[
    AssignedJob::NotAsked,
    AssignedJob::Unread,
    AssignedJob::Denied,
    AssignedJob::Here,
    AssignedJob::Elsewhere,
    AssignedJob::Completed,
]];

/// Booting or not, an instance lives.
pub(crate) const LIVING: Axis<InstanceState> = &[&[InstanceState::Pending, InstanceState::Running]];
pub(crate) const STOPPED: Axis<InstanceState> = &[&[InstanceState::Stopped]];
pub(crate) const TERMINATED: Axis<InstanceState> = &[&[InstanceState::Terminated]];
pub(crate) const IN_BETWEEN: Axis<InstanceState> =
    &[&[InstanceState::ShuttingDown], &[InstanceState::Stopping], &[InstanceState::Unrecognised]];
/// The hard age asks for no more than that it is not ending already.
pub(crate) const NOT_TERMINATED: Axis<InstanceState> = &[
    &[
        InstanceState::Pending,
        InstanceState::Running,
        InstanceState::Stopping,
        InstanceState::Stopped,
        InstanceState::Unrecognised,
    ],
    &[InstanceState::ShuttingDown],
];
pub(crate) const EVERY_STATE: Axis<InstanceState> = &[
    &[InstanceState::Pending],
    &[InstanceState::Running],
    &[InstanceState::ShuttingDown],
    &[InstanceState::Terminated],
    &[InstanceState::Stopping],
    &[InstanceState::Stopped],
    &[InstanceState::Unrecognised],
];
