//! The table of scenes, and the fleets that they play on.

use runner_scaler_world::Millis;
use runner_scaler_world::misfortune::Misfortune;
use runner_scaler_world::world::Flaw;

use crate::local::document::FleetSpec;

const QUEUED: &[u8] = include_bytes!("../../../payloads/queued.payload.json");
const QUEUED_WITH_DEPLOYMENT: &[u8] = include_bytes!("../../../payloads/queued.with-deployment.payload.json");

/// Longer than quarantine and one more pass: a terminate without a re-check hits the job while it runs.
pub(super) const RACED_JOB_MS: Millis = 18_000;

/// How late `in_progress` comes where it comes late: so much of the quarantine that only the re-check at its end can
/// have seen it, and four seconds less than the whole, which a slow machine may take to write it down.
pub(super) const LATE_MS: Millis = 4_000;

/// Longer than the time after which an instance without a registration counts as an orphan, by several sweeps.
pub(super) const LIVE_ORPHAN_JOB_MS: Millis = 20_000;

/// How long an instance stays protected after EC2 has refused to end it: several passes of both functions.
pub(super) const PROTECTED_MS: Millis = 5_000;

/// One scene of the play.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene {
    /// When it begins, in milliseconds after the play did.
    pub(super) at_ms: Millis,
    /// Its name in the report.
    pub(super) name: &'static str,
    /// The fleet it plays on.
    pub(super) fleet: &'static str,
    /// What it is about, for the person who watches.
    pub(super) story: &'static str,
    /// What happens.
    pub(super) act: Act,
}

/// What happens in a scene.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    /// The job of a real delivery is queued; the delivery carries its very bytes.
    Payload(&'static [u8]),
    /// A job is queued and, once its instance is launched, cancelled: the runner is surplus, and is asked to leave.
    Surplus,
    /// The same with a dead supervisor: only the control plane can end the instance.
    Silent,
    /// The same, and the job that another run queues is given to the runner at the moment in which it is deregistered.
    Race(Race),
    /// A job is cancelled, and something befalls its idle instance, once its listener is connected.
    Mishap {
        /// What befalls the instance.
        misfortune: Misfortune,
        /// What is wrong with it from the start.
        flaw: Flaw,
    },
    /// The same with a dead supervisor and termination protection; whoever protects it ends it by hand some passes after
    /// EC2 has refused to.
    Protected,
    /// A job runs on an instance with a dead supervisor; GitHub neither finds its runner nor delivers `in_progress`.
    LiveOrphan,
    /// A job whose first instance never registers.
    NeverRegisters,
    /// A job whose `queued` delivery does not come.
    Untold(Loss),
    /// This fleet's share of the burst.
    Burst(Share),
    /// A delivery of the burst comes once more.
    Duplicate,
    /// A delivery signed with another secret.
    Forgery,
    /// Somebody else's instance that bears our tags.
    LookAlike,
}

/// At which moment the job of a race shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Race {
    /// Between the busy-check and the DELETE, and GitHub knows: it answers 422.
    Known,
    /// The same and GitHub does not know: it answers 204, and the job surfaces early in the quarantine.
    Unknown,
    /// The same, and nothing tells of the job before the quarantine's end: `queued` is lost, `in_progress` late.
    Late,
}

/// How a delivery is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// It is in no log: only a search of GitHub finds its job.
    Vanished,
    /// It failed, as GitHub's log says: it can be asked for again.
    Failed,
}

/// A part of the burst.
#[derive(Debug, Clone, Copy)]
pub(super) enum Share {
    /// Half of it, rounded up.
    Larger,
    /// The other half.
    Smaller,
}

const fn scene(at_ms: Millis, name: &'static str, fleet: &'static str, act: Act, story: &'static str) -> Scene {
    Scene { at_ms, name, fleet, story, act }
}

/// The play, in the order in which its scenes begin.
pub(super) static SCENES: [Scene; 22] = [
    scene(0, "ubuntu", "ubuntu", Act::Payload(QUEUED), "a real delivery: queued, an organisation's repository"),
    scene(
        100,
        "k8s",
        "k8s",
        Act::Payload(QUEUED_WITH_DEPLOYMENT),
        "a real delivery: queued after a deployment's approval, a user's repository",
    ),
    scene(
        200,
        "live-orphan",
        "live-orphan",
        Act::LiveOrphan,
        "GitHub does not find a runner that works, and nothing has said that its job started",
    ),
    scene(300, "drained", "drained", Act::Surplus, "the job is cancelled, its idle runner will be asked to leave"),
    scene(400, "silent", "silent", Act::Silent, "the same with a dead supervisor: only the control plane can end it"),
    scene(
        500,
        "raced-known",
        "raced-known",
        Act::Race(Race::Known),
        "a job is assigned between check and terminate; GitHub knows and refuses the DELETE",
    ),
    scene(
        600,
        "raced-unknown",
        "raced-unknown",
        Act::Race(Race::Unknown),
        "a job is assigned between check and terminate; GitHub obeys the DELETE and does not know",
    ),
    scene(
        700,
        "raced-late",
        "raced-late",
        Act::Race(Race::Late),
        "the same, and the first word of the job comes when the quarantine is nearly over",
    ),
    scene(
        800,
        "offline",
        "offline",
        Act::Mishap { misfortune: Misfortune::ListenerDead, flaw: Flaw::None },
        "every process of an idle instance dies, and the instance runs on",
    ),
    scene(
        900,
        "protected",
        "protected",
        Act::Protected,
        "somebody protects an idle instance from termination, and ends it by hand later",
    ),
    scene(
        1_000,
        "orphan",
        "orphan",
        Act::Mishap { misfortune: Misfortune::RegistrationRemoved, flaw: Flaw::SupervisorDead },
        "somebody removes an idle runner at GitHub, and its supervisor is dead",
    ),
    scene(
        1_100,
        "stopped",
        "stopped",
        Act::Mishap { misfortune: Misfortune::Stopped, flaw: Flaw::None },
        "somebody stops an idle instance",
    ),
    scene(
        1_200,
        "taken-back",
        "taken-back",
        Act::Mishap { misfortune: Misfortune::TakenBack, flaw: Flaw::None },
        "EC2 takes an idle instance back, and its registration stays",
    ),
    scene(
        1_300,
        "unregistered",
        "unregistered",
        Act::NeverRegisters,
        "an instance that never registers; a replacement serves its job",
    ),
    scene(
        1_350,
        "untold",
        "untold",
        Act::Untold(Loss::Vanished),
        "a job is queued, and its delivery is lost without a trace",
    ),
    scene(
        1_380,
        "undelivered",
        "undelivered",
        Act::Untold(Loss::Failed),
        "a job is queued, and its delivery fails, as GitHub's log says",
    ),
    scene(1_400, "look-alike", "linux", Act::LookAlike, "somebody else's instance bears our tags"),
    scene(2_000, "burst", "linux", Act::Burst(Share::Larger), "half of the burst"),
    scene(2_000, "burst-arm", "arm", Act::Burst(Share::Smaller), "half of the burst"),
    scene(3_000, "duplicate", "linux", Act::Duplicate, "a delivery comes twice"),
    scene(3_200, "forgery", "linux", Act::Forgery, "a delivery with a bad signature"),
    scene(9_000, "duplicate-late", "arm", Act::Duplicate, "a delivery comes again after its job was served"),
];

/// What is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Play {
    /// Every scene, with a burst of so many jobs that finds room at once.
    Whole {
        /// Jobs of the burst.
        jobs: u32,
    },
    /// A burst alone, on two fleets that have room for [`BURST_CAP`] instances each.
    Burst {
        /// Its jobs.
        jobs: u32,
    },
}

/// Instances of each fleet that a burst alone plays on.
pub(crate) const BURST_CAP: u32 = 10;

/// The play of a burst alone.
static BURST: [Scene; 2] = [
    scene(0, "burst", "linux", Act::Burst(Share::Larger), "half of the burst, on a fleet with room for ten"),
    scene(0, "burst-arm", "arm", Act::Burst(Share::Smaller), "half of the burst, on another such fleet"),
];

impl Play {
    /// Jobs of the burst.
    pub(super) fn jobs(self) -> u32 {
        match self {
            Self::Whole { jobs } | Self::Burst { jobs } => jobs,
        }
    }

    /// Launches that may replace a runner which another job took (P4 of the design counts none of them). Where more jobs
    /// wait than a fleet has room for, GitHub gives a runner to any of them, and its own job may wait for longer than idle
    /// runners are trusted; in the whole play no job waits for room.
    pub(crate) fn runners_taken_max(self) -> usize {
        match self {
            Self::Whole { .. } => 0,
            Self::Burst { jobs } => jobs as usize / 20,
        }
    }

    /// Its scenes.
    pub(super) fn scenes(self) -> &'static [Scene] {
        match self {
            Self::Whole { .. } => &SCENES,
            Self::Burst { .. } => &BURST,
        }
    }

    /// The fleets it is played on.
    pub(crate) fn fleets(self) -> Vec<FleetSpec> {
        match self {
            Self::Whole { jobs } => fleets(jobs),
            Self::Burst { jobs } => {
                let mut fleets = fleets(jobs);
                fleets.truncate(2);
                for fleet in &mut fleets {
                    fleet.runner_count_max = BURST_CAP;
                }
                fleets
            }
        }
    }
}

/// The fleets of the play. A fleet serves its own scene only, by a label of its own, so that no job wanders.
pub(super) fn fleets(jobs: u32) -> Vec<FleetSpec> {
    let fleet = |name, labels, runner_count_max| FleetSpec { name, labels, market: "spot", runner_count_max };
    // Neither can a spot instance be stopped, nor protected.
    let on_demand = |fleet: FleetSpec| FleetSpec { market: "on-demand", ..fleet };
    vec![
        fleet("linux", &["self-hosted", "linux", "x64"], jobs),
        on_demand(fleet("arm", &["self-hosted", "linux", "arm64"], jobs)),
        fleet("ubuntu", &["ubuntu-latest"], 2),
        fleet("k8s", &["self-hosted", "k8s"], 2),
        fleet("live-orphan", &["self-hosted", "live-orphan"], 2),
        fleet("drained", &["self-hosted", "drained"], 2),
        fleet("silent", &["self-hosted", "silent"], 2),
        fleet("raced-known", &["self-hosted", "raced-known"], 2),
        fleet("raced-unknown", &["self-hosted", "raced-unknown"], 2),
        fleet("raced-late", &["self-hosted", "raced-late"], 2),
        fleet("offline", &["self-hosted", "offline"], 2),
        on_demand(fleet("protected", &["self-hosted", "protected"], 2)),
        fleet("orphan", &["self-hosted", "orphan"], 2),
        on_demand(fleet("stopped", &["self-hosted", "stopped"], 2)),
        fleet("taken-back", &["self-hosted", "taken-back"], 2),
        fleet("unregistered", &["self-hosted", "unregistered"], 2),
        fleet("untold", &["self-hosted", "untold"], 2),
        fleet("undelivered", &["self-hosted", "undelivered"], 2),
    ]
}

/// The body of a real delivery.
pub(crate) fn real_payload() -> &'static [u8] {
    QUEUED
}
