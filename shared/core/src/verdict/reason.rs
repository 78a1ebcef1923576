//! Why an instance is kept or acted upon, and who speaks for keeping it.

use std::fmt;

use serde::Serialize;

/// Why. Each variant names its row of the decision table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Row 0: not ours.
    NotOurs,
    /// Row 0: an operator took it out of our hands.
    Bypassed,
    /// Row 1: the ledger could not be read.
    LedgerUnread,
    /// Row 24: a record of another schema.
    ForeignRecord,
    /// Row 24: no record.
    NoRecord,
    /// The registration under our runner's id bears another name: not ours to judge by.
    ForeignRegistration,
    /// Row 24: rebuilt, so that nobody knows what happened before; an absence or a flag never ends it.
    RebuiltRecord,
    /// Row 2: older than any job can be.
    HardAge,
    /// Row 4: on its way out, or gone and cleaned up.
    Ending,
    /// Row 4: gone, and left something.
    Gone,
    /// Missed by a listing before and shown now.
    SeenAgain,
    /// Taken for gone because listings missed it, while its runner or the instance gives signs of life.
    NotGone,
    /// GitHub says that the runner is not ephemeral: not made by us, and its evidence is not monotone.
    Reusable,
    /// On its way to `stopped`, or in a state that we do not know.
    NotRunning,
    /// Row 25.
    Stopped,
    /// Row 1: the vital sign could not be read.
    VitalSignUnread,
    /// The instance says that a worker runs or a job is being acquired.
    WorkerAlive,
    /// The instance says that it lives and decides for itself.
    SupervisorAlive,
    /// Row 8: a job started and is not known to have ended.
    JobRunning,
    /// Row 11: the jobs API does not say how its job stands.
    JobUnread,
    /// Row 11: the jobs API denies us its job.
    JobDenied,
    /// Row 10: its job was queued again, or runs on another runner.
    JobElsewhere,
    /// Row 17: busy was seen, and no job is known.
    BusySeen,
    /// Row 5 or 6: GitHub says busy.
    BusyNow,
    /// Row 13: its job ended a short while ago.
    CompletedRecently,
    /// Row 7, 9 or 12.
    JobCompleted,
    /// Row 14 not yet: deregistered by us, quarantine not over.
    Quarantine,
    /// Row 14.
    IdleAfterDeregistration,
    /// Row 15: a job surfaced after our DELETE.
    JobSurfaced,
    /// GitHub shows a registration that we took for deleted.
    RegistrationBack,
    /// Row 22: its runner's id was found by name.
    RunnerFound,
    /// Row 22: a configuration may exist, and no registration is found.
    ConfigurationUnaccounted,
    /// Row 23 or 18.
    NeverConnected,
    /// Younger than `boot_grace` and nothing known of it.
    Booting,
    /// Row 1: GitHub did not answer.
    RegistrationUnread,
    /// Row 1: GitHub denies us the runner or its scope.
    RegistrationDenied,
    /// Row 16 not yet: no registration, and it was not us.
    RegistrationAbsent,
    /// Row 16.
    RegistrationGone,
    /// A DELETE of ours was begun and its answer is not known.
    DeregistrationInDoubt,
    /// Row 1: no positive control in this scope and pass.
    NoPositiveControl,
    /// Row 1: a failed delivery may still hold evidence.
    DeliveriesUnsettled,
    /// Row 1: the jobs API did not answer.
    JobsUnread,
    /// Row 19 not yet: offline, and it has connected before.
    Offline,
    /// Row 19.
    OfflineConfirmed,
    /// Row 21: idle, and not for long enough.
    IdleTooShort,
    /// A job waits that it may take, or nobody knows whether one does.
    Wanted,
    /// The fleet's idle schedule keeps it.
    Pool,
    /// Idle as far as we know, and nobody wants it.
    Surplus,
    /// Asked to drain a short while ago.
    DrainUnanswered,
    /// Row 20.
    IdleConfirmed,
    /// Another pass stored its intent a short while ago and may be acting on it.
    InHand,
    /// Row 26: EC2 refuses to end it, because somebody protects it.
    Protected,
    /// Must be read before more can be said.
    NotRead,
}

/// Who speaks for keeping an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Veto {
    /// It is not ours, or an operator marked it.
    Ownership,
    /// The ledger holds evidence of a job, or cannot be read or understood.
    Ledger,
    /// The instance itself.
    VitalSign,
    /// GitHub's word on the runner, or its silence.
    Registration,
    /// The jobs API, or its silence.
    Jobs,
    /// A delivery that never reached us.
    Deliveries,
    /// The scope's list: absences do not count.
    PositiveControl,
    /// A job that waits, or the fleet's idle schedule.
    Demand,
    /// A grace that is not over.
    Grace,
    /// Another pass.
    Lease,
    /// EC2: its state, or its termination protection.
    Ec2,
}

impl Veto {
    const ALL: [Self; 11] = [
        Self::Ownership,
        Self::Ledger,
        Self::VitalSign,
        Self::Registration,
        Self::Jobs,
        Self::Deliveries,
        Self::PositiveControl,
        Self::Demand,
        Self::Grace,
        Self::Lease,
        Self::Ec2,
    ];

    fn bit(self) -> u16 {
        match self {
            Self::Ownership => 1,
            Self::Ledger => 1 << 1,
            Self::VitalSign => 1 << 2,
            Self::Registration => 1 << 3,
            Self::Jobs => 1 << 4,
            Self::Deliveries => 1 << 5,
            Self::PositiveControl => 1 << 6,
            Self::Demand => 1 << 7,
            Self::Grace => 1 << 8,
            Self::Lease => 1 << 9,
            Self::Ec2 => 1 << 10,
        }
    }
}

/// A set of [`Veto`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Vetoes(u16);

impl Vetoes {
    /// Nobody.
    pub const NONE: Self = Self(0);

    /// These and one more.
    #[must_use]
    pub fn with(self, veto: Veto) -> Self {
        Self(self.0 | veto.bit())
    }

    /// Whether nobody speaks for keeping it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this one does.
    #[must_use]
    pub fn contains(self, veto: Veto) -> bool {
        self.0 & veto.bit() != 0
    }
}

impl fmt::Debug for Vetoes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(Veto::ALL.into_iter().filter(|veto| self.contains(*veto))).finish()
    }
}

impl Reason {
    /// Whether it is the ground of an act that rests on an absence or a flag (rows 14, 16, 18, 19, 20 and 23), of which
    /// a pass does only so many.
    #[must_use]
    pub fn is_capped(self) -> bool {
        match self {
            Self::IdleConfirmed
            | Self::IdleAfterDeregistration
            | Self::NeverConnected
            | Self::OfflineConfirmed
            | Self::RegistrationGone => true,
            Self::NotOurs
            | Self::Bypassed
            | Self::LedgerUnread
            | Self::ForeignRecord
            | Self::NoRecord
            | Self::ForeignRegistration
            | Self::RebuiltRecord
            | Self::HardAge
            | Self::Ending
            | Self::Gone
            | Self::SeenAgain
            | Self::NotGone
            | Self::Reusable
            | Self::NotRunning
            | Self::Stopped
            | Self::VitalSignUnread
            | Self::WorkerAlive
            | Self::SupervisorAlive
            | Self::JobRunning
            | Self::JobUnread
            | Self::JobDenied
            | Self::JobElsewhere
            | Self::BusySeen
            | Self::BusyNow
            | Self::CompletedRecently
            | Self::JobCompleted
            | Self::Quarantine
            | Self::JobSurfaced
            | Self::RegistrationBack
            | Self::RunnerFound
            | Self::ConfigurationUnaccounted
            | Self::Booting
            | Self::RegistrationUnread
            | Self::RegistrationDenied
            | Self::RegistrationAbsent
            | Self::DeregistrationInDoubt
            | Self::NoPositiveControl
            | Self::DeliveriesUnsettled
            | Self::JobsUnread
            | Self::Offline
            | Self::IdleTooShort
            | Self::Wanted
            | Self::Pool
            | Self::Surplus
            | Self::DrainUnanswered
            | Self::InHand
            | Self::Protected
            | Self::NotRead => false,
        }
    }

    /// Who vetoes where this is why an instance is kept.
    #[must_use]
    pub fn veto(self) -> Veto {
        match self {
            Self::NotOurs | Self::Bypassed => Veto::Ownership,
            Self::LedgerUnread
            | Self::ForeignRecord
            | Self::NoRecord
            | Self::RebuiltRecord
            | Self::JobRunning
            | Self::BusySeen
            | Self::JobSurfaced
            | Self::ConfigurationUnaccounted
            | Self::DeregistrationInDoubt
            | Self::NotRead => Veto::Ledger,
            Self::VitalSignUnread | Self::WorkerAlive | Self::SupervisorAlive => Veto::VitalSign,
            Self::ForeignRegistration
            | Self::Reusable
            | Self::BusyNow
            | Self::RegistrationBack
            | Self::RunnerFound
            | Self::RegistrationUnread
            | Self::RegistrationDenied
            | Self::NotGone => Veto::Registration,
            Self::JobUnread | Self::JobDenied | Self::JobElsewhere | Self::JobsUnread => Veto::Jobs,
            Self::DeliveriesUnsettled => Veto::Deliveries,
            Self::NoPositiveControl => Veto::PositiveControl,
            Self::Wanted | Self::Pool => Veto::Demand,
            Self::CompletedRecently
            | Self::JobCompleted
            | Self::Quarantine
            | Self::IdleAfterDeregistration
            | Self::NeverConnected
            | Self::Booting
            | Self::RegistrationAbsent
            | Self::RegistrationGone
            | Self::Offline
            | Self::OfflineConfirmed
            | Self::IdleTooShort
            | Self::Surplus
            | Self::DrainUnanswered
            | Self::IdleConfirmed
            | Self::HardAge
            | Self::Stopped => Veto::Grace,
            Self::InHand => Veto::Lease,
            Self::Ending | Self::Gone | Self::SeenAgain | Self::NotRunning | Self::Protected => Veto::Ec2,
        }
    }
}
