//! Which of the two functions that remove carries a verdict out.

use super::{DeregistrationGround, Ground};
use crate::verdict::{Action, Note, Reason};

/// Which verdicts a pass carries out. Both functions read and judge the same; each act has one owner, so that the two
/// never do the same thing at the same time and IAM can tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duties {
    /// Drains, and removes what is idle and does not answer.
    ScaleDown,
    /// Everything else.
    OrphanSweeper,
}

impl Duties {
    /// The function's name.
    #[must_use]
    pub fn function(self) -> &'static str {
        match self {
            Self::ScaleDown => "scale-down",
            Self::OrphanSweeper => "orphan-sweeper",
        }
    }

    pub(super) fn include(self, action: Action) -> bool {
        let scale_down = match action {
            Action::Drain
            | Action::Deregister(_, DeregistrationGround::Idle)
            | Action::Terminate(Ground::IdleAfterDeregistration) => true,
            Action::Rebuild
            | Action::CleanUp
            | Action::Deregister(
                _,
                DeregistrationGround::JobCompleted
                | DeregistrationGround::NeverConnected
                | DeregistrationGround::Offline
                | DeregistrationGround::Stopped
                | DeregistrationGround::InstanceGone,
            )
            | Action::Terminate(
                Ground::JobCompleted
                | Ground::NeverConnected
                | Ground::RegistrationGone
                | Ground::Stopped
                | Ground::HardAge,
            )
            // A row of readings over several sweeps is counted by the function that sweeps.
            | Action::Note(Note::Absent | Note::Offline) => false,
            Action::Keep
            | Action::Look(_)
            | Action::Note(
                Note::Busy
                | Note::Idle
                | Note::Wanted
                | Note::RunnerId(_)
                | Note::Deregistered
                | Note::RegistrationBack
                | Note::RowsBroken
                | Note::JobCompleted
                | Note::JobElsewhere
                | Note::JobHere
                | Note::JobDropped
                | Note::Sought
                | Note::Stopped
                | Note::Running
                | Note::Gone
                | Note::Seen,
            ) => return true,
        };
        scale_down == (self == Self::ScaleDown)
    }

    /// Whether this function reads more where a verdict asks for it, by what the reading is for: so that scale-down's
    /// passes, five times as many, cost no calls for runners that are busy or wanted, and none is asked about twice.
    pub(super) fn looks_for(self, reason: Reason) -> bool {
        match reason {
            Reason::IdleConfirmed | Reason::IdleAfterDeregistration => self == Self::ScaleDown,
            Reason::Surplus | Reason::DeregistrationInDoubt => true,
            Reason::NotOurs
            | Reason::Bypassed
            | Reason::LedgerUnread
            | Reason::ForeignRecord
            | Reason::NoRecord
            | Reason::ForeignRegistration
            | Reason::RebuiltRecord
            | Reason::HardAge
            | Reason::Ending
            | Reason::Gone
            | Reason::SeenAgain
            | Reason::NotGone
            | Reason::Reusable
            | Reason::NotRunning
            | Reason::Stopped
            | Reason::VitalSignUnread
            | Reason::WorkerAlive
            | Reason::SupervisorAlive
            | Reason::JobRunning
            | Reason::JobUnread
            | Reason::JobDenied
            | Reason::JobElsewhere
            | Reason::BusySeen
            | Reason::BusyNow
            | Reason::CompletedRecently
            | Reason::JobCompleted
            | Reason::Quarantine
            | Reason::JobSurfaced
            | Reason::RegistrationBack
            | Reason::RunnerFound
            | Reason::ConfigurationUnaccounted
            | Reason::NeverConnected
            | Reason::Booting
            | Reason::RegistrationUnread
            | Reason::RegistrationDenied
            | Reason::RegistrationAbsent
            | Reason::RegistrationGone
            | Reason::NoPositiveControl
            | Reason::DeliveriesUnsettled
            | Reason::JobsUnread
            | Reason::Offline
            | Reason::OfflineConfirmed
            | Reason::IdleTooShort
            | Reason::Wanted
            | Reason::Pool
            | Reason::DrainUnanswered
            | Reason::InHand
            | Reason::Protected
            | Reason::NotRead => self == Self::OrphanSweeper,
        }
    }
}
