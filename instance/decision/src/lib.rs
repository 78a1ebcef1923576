//! What an instance does with itself: stay, or power off, and why.
//!
//! One pure function, [`decide`], from what one look at the instance showed to one verdict. It serves the supervisor on
//! the instance and the simulated instance of the world alike. It knows no process, file, network or clock; whoever
//! calls it has looked, and says so where a look failed.
//!
//! A stop takes two calls: the first, on a running listener, asks to freeze it; the second, on what was seen *after*
//! it stood still, says whether it may be killed. What is seen of a running listener never suffices to kill it, because
//! it may take a job between the look and the kill.

mod drain;
mod listener_log;

pub use drain::{DRAIN_VALID_MS, Drain, DrainTag};
pub use listener_log::{ListenerLog, Source};

/// Milliseconds. Points in time are counted from any one origin, on a clock that only goes forward.
pub type Millis = i64;

/// What one look at the instance showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// When the look was made.
    pub now: Millis,
    /// When the instance booted.
    pub booted_at: Millis,
    /// The listener.
    pub listener: Listener,
    /// What occupies it.
    pub work: Work,
    /// What the listener says of its registration.
    pub registration: Registration,
    /// What the control plane wants.
    pub drain: Drain,
    /// Whether what was seen stood still.
    pub grip: Grip,
    /// When the last worker was first seen.
    pub job_started_at: Option<Millis>,
}

/// What became of the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// None was started since the instance was launched.
    NeverStarted,
    /// One was started before the operating system booted again. Its configuration is spent.
    OfEarlierBoot,
    /// It runs.
    Runs {
        /// Since when it waits for a job: its start, or the end of its last work.
        idle_since: Millis,
    },
    /// One was started in this boot and has ended.
    Ended,
    /// The look failed.
    Unread,
}

/// What occupies the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Neither a worker nor an acquisition, and its diagnostic log is silent.
    None,
    /// It wrote to its diagnostic log a moment ago, and nothing that we understand: it may be taking a job.
    Restless {
        /// Since when it has not been silent.
        since: Millis,
    },
    /// It acknowledged a job, or was refused one. GitHub has not given it the job yet, as far as we know.
    Acknowledged {
        /// When.
        at: Millis,
    },
    /// The job is the listener's, and there is no worker (yet, or any more).
    Acquired {
        /// When it became so.
        at: Millis,
    },
    /// A worker runs.
    Worker,
    /// The look failed.
    Unread,
}

impl Work {
    /// What the vital sign says.
    #[must_use]
    pub fn occupation(self) -> Occupation {
        match self {
            Self::None | Self::Restless { .. } => Occupation::None,
            Self::Acknowledged { .. } | Self::Acquired { .. } => Occupation::Acquiring,
            // A look that failed may have missed a worker: the vital sign can only veto.
            Self::Worker | Self::Unread => Occupation::Running,
        }
    }
}

/// Whether a job occupies the instance, in the words of the vital sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occupation {
    /// Neither a worker nor an acquisition.
    None,
    /// A job is being acquired.
    Acquiring,
    /// A worker runs.
    Running,
}

impl Occupation {
    /// The word in the vital sign.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Acquiring => "acquiring",
            Self::Running => "running",
        }
    }
}

/// What the listener says of its registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// Nothing else than that it is there.
    Standing,
    /// GitHub told it that it is gone.
    Gone,
}

/// Whether what was seen stood still while it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grip {
    /// It ran on.
    Loose,
    /// Every process was frozen before the look and still is.
    Frozen,
    /// Freezing was tried and failed.
    Failed,
}

/// How long an instance waits for what. Milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From the boot to the start of a listener.
    pub boot_deadline_ms: Millis,
    /// For a job.
    pub idle_maximum_ms: Millis,
    /// From an acknowledged job to its acquisition.
    pub acquire_watchdog_ms: Millis,
    /// From an acquired job to its worker, and from its worker's end to the next word of the listener.
    pub worker_watchdog_ms: Millis,
    /// For a listener to become silent. Longer, and one that starts again and again is never drained; shorter, and
    /// an acquisition that was not acknowledged may be taken for idleness.
    pub restless_maximum_ms: Millis,
    /// From the later of the longest idle time and the job's start to the end of everything.
    pub hard_age_ms: Millis,
}

const SECOND_MS: Millis = 1_000;

impl Default for Limits {
    fn default() -> Self {
        Self {
            boot_deadline_ms: 600 * SECOND_MS,
            idle_maximum_ms: 3_600 * SECOND_MS,
            acquire_watchdog_ms: 180 * SECOND_MS,
            // GitHub gives a job up whose lock was not renewed for 10 min; half as long again.
            worker_watchdog_ms: 900 * SECOND_MS,
            restless_maximum_ms: 60 * SECOND_MS,
            // GitHub's limit for a job is 5 days; two hours more than that.
            hard_age_ms: (5 * 86_400 + 2 * 3_600) * SECOND_MS,
        }
    }
}

/// What to do, and when to look again although nothing happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Decision {
    /// What to do now.
    pub verdict: Verdict,
    /// When time alone may change the verdict; `None` when it is final.
    pub look_at: Option<Millis>,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Everything goes on; what is frozen is thawed.
    Keep(Veto),
    /// The listener is to be frozen and looked at again.
    Freeze(Reason),
    /// What is frozen is to be killed, then the power goes off.
    Kill(Reason),
    /// The power goes off; nothing is left that would have to be frozen first.
    PowerOff(Reason),
}

/// Why an instance powers itself off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its listener ended and no worker is left: the job is done, or the registration is gone.
    ListenerEnded,
    /// The control plane asked.
    Drained,
    /// Idle for too long.
    IdleMaximum,
    /// No configuration in time.
    BootDeadline,
    /// A job was acknowledged and not acquired, or refused.
    AcquireWatchdog,
    /// A job was acquired and brought no worker, or its listener never came back from it.
    WorkerWatchdog,
    /// The listener's registration is gone and no worker is left.
    RegistrationGone,
    /// The operating system booted a second time: the configuration is spent.
    EarlierBoot,
    /// Older than any job may become.
    HardAge,
}

/// Why an instance stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Veto {
    /// A worker runs.
    Worker,
    /// A worker runs whose listener is gone; it can still finish and report.
    WorkerWithoutListener,
    /// A job is being acquired, or was a moment ago.
    Acquiring,
    /// The listener may be taking a job.
    Restless,
    /// The listener waits for a job, and not for too long yet.
    Idle,
    /// The configuration is not there yet.
    Booting,
    /// What could not be looked at may be a job.
    Unread,
    /// What could not be frozen may take a job at any time.
    NotFrozen,
}

impl Veto {
    /// Whether a drain request that met this veto was answered for good. Otherwise it is decided again.
    #[must_use]
    pub fn answers_drain(self) -> bool {
        match self {
            Self::Worker | Self::WorkerWithoutListener | Self::Acquiring => true,
            Self::Restless | Self::Idle | Self::Booting | Self::Unread | Self::NotFrozen => false,
        }
    }
}

/// Decides what the instance does with itself; every combination of facts has an answer.
///
/// Guarantees: below the hard age, neither a worker nor an acquisition that has not run out of time is ever ended, and
/// nothing unread is; a listener that runs is killed only under [`Grip::Frozen`].
pub fn decide(facts: &Facts, limits: &Limits) -> Decision {
    let Facts { now, booted_at, listener, work, registration, drain, grip, job_started_at } = *facts;
    let idle_at_most = booted_at + limits.idle_maximum_ms;
    let hard_age_at = job_started_at.unwrap_or(idle_at_most).max(idle_at_most) + limits.hard_age_ms;
    if hard_age_at <= now {
        // No look and no freezing: GitHub has given up any job of this age, and what cannot be frozen ends too.
        return Decision { verdict: Verdict::PowerOff(Reason::HardAge), look_at: None };
    }
    let keep = |veto| Decision { verdict: Verdict::Keep(veto), look_at: Some(hard_age_at) };
    let keep_until = |veto, at: Millis| Decision { verdict: Verdict::Keep(veto), look_at: Some(at.min(hard_age_at)) };
    let off = |reason| Decision { verdict: Verdict::PowerOff(reason), look_at: None };
    let stop = |reason| match grip {
        Grip::Loose => Decision { verdict: Verdict::Freeze(reason), look_at: None },
        Grip::Frozen => Decision { verdict: Verdict::Kill(reason), look_at: None },
        Grip::Failed => keep(Veto::NotFrozen),
    };
    let idle = |idle_since: Millis| match (registration, drain) {
        (Registration::Gone, Drain::Requested | Drain::NotAsked) => stop(Reason::RegistrationGone),
        (Registration::Standing, Drain::Requested) => stop(Reason::Drained),
        (Registration::Standing, Drain::NotAsked) if idle_since + limits.idle_maximum_ms <= now => {
            stop(Reason::IdleMaximum)
        }
        (Registration::Standing, Drain::NotAsked) => keep_until(Veto::Idle, idle_since + limits.idle_maximum_ms),
    };
    match (work, listener) {
        // Signs of life first: whatever else was read, they keep it.
        (Work::Worker, Listener::Runs { .. }) => keep(Veto::Worker),
        (Work::Worker, Listener::NeverStarted | Listener::OfEarlierBoot | Listener::Ended | Listener::Unread) => {
            keep(Veto::WorkerWithoutListener)
        }
        (
            Work::Unread,
            Listener::NeverStarted
            | Listener::OfEarlierBoot
            | Listener::Runs { .. }
            | Listener::Ended
            | Listener::Unread,
        )
        | (Work::None | Work::Restless { .. } | Work::Acknowledged { .. } | Work::Acquired { .. }, Listener::Unread) => {
            keep(Veto::Unread)
        }
        (Work::Acknowledged { at }, Listener::Runs { .. }) if at + limits.acquire_watchdog_ms <= now => {
            stop(Reason::AcquireWatchdog)
        }
        (Work::Acknowledged { at }, Listener::Runs { .. }) => {
            keep_until(Veto::Acquiring, at + limits.acquire_watchdog_ms)
        }
        (Work::Acquired { at }, Listener::Runs { .. }) if at + limits.worker_watchdog_ms <= now => {
            stop(Reason::WorkerWatchdog)
        }
        (Work::Acquired { at }, Listener::Runs { .. }) => keep_until(Veto::Acquiring, at + limits.worker_watchdog_ms),
        (Work::Restless { since }, Listener::Runs { .. }) if now < since + limits.restless_maximum_ms => {
            keep_until(Veto::Restless, since + limits.restless_maximum_ms)
        }
        (Work::Restless { .. } | Work::None, Listener::Runs { idle_since }) => idle(idle_since),
        // What a listener that is gone once wrote occupies nobody.
        (
            Work::None | Work::Restless { .. } | Work::Acknowledged { .. } | Work::Acquired { .. },
            Listener::OfEarlierBoot,
        ) => off(Reason::EarlierBoot),
        (Work::None | Work::Restless { .. } | Work::Acknowledged { .. } | Work::Acquired { .. }, Listener::Ended) => {
            off(Reason::ListenerEnded)
        }
        (
            Work::None | Work::Restless { .. } | Work::Acknowledged { .. } | Work::Acquired { .. },
            Listener::NeverStarted,
        ) => match drain {
            Drain::Requested => off(Reason::Drained),
            Drain::NotAsked if booted_at + limits.boot_deadline_ms <= now => off(Reason::BootDeadline),
            Drain::NotAsked => keep_until(Veto::Booting, booted_at + limits.boot_deadline_ms),
        },
    }
}
