//! GitHub in trouble with more than one owner: with the App as a whole, or with the calls that the App makes in its own
//! name.
//!
//! A rate is never here: all of them are in [`crate::swarm`].

use std::collections::BTreeMap;
use std::time::Duration;

use runner_scaler_core::error::{Class, PortError};
use runner_scaler_core::ids::InstallationId;
use runner_scaler_world::Millis;
use runner_scaler_world::github::Trouble;

use crate::coverage::Counter;
use crate::mischief::THE_APP;
use crate::ports::Op;
use crate::sim::Sim;
use crate::swarm::{HOUR, MINUTE};

/// How long GitHub is in trouble with everybody.
const OUTAGE: (Millis, Millis) = (2 * MINUTE, 90 * MINUTE);
/// How long the App's own calls alone fail: to beyond the hour after which the jobs API stands in for the log.
const APP_TROUBLE: (Millis, Millis) = (20 * MINUTE, 100 * MINUTE);

/// How long an owner suspends the App, or goes without.
const SUSPENSION: (Millis, Millis) = (MINUTE, 3 * HOUR);

/// What is wrong with GitHub as a whole.
#[derive(Debug, Default)]
pub struct Outages {
    /// With everybody, how, and until when.
    all: Option<(Trouble, Millis)>,
    /// With some of the App's own calls, how, and until when.
    app: Option<(Part, Trouble, Millis)>,
    /// Until when owners suspend the App.
    suspended: BTreeMap<String, Millis>,
    /// When owners last had it again.
    had_again: BTreeMap<String, Millis>,
}

/// Calls that the App makes in its own name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// All about deliveries.
    Deliveries,
    /// The log of failed ones.
    Log,
    /// What a delivery said.
    Payloads,
    /// Redeliveries.
    Redeliveries,
    /// Installations.
    Installations,
}

impl Part {
    const ALL: [Self; 5] = [Self::Deliveries, Self::Log, Self::Payloads, Self::Redeliveries, Self::Installations];

    fn has(self, op: Op) -> bool {
        match self {
            Self::Deliveries => matches!(op, Op::FailedDeliveries | Op::DeliveryPayload | Op::Redeliver),
            Self::Log => op == Op::FailedDeliveries,
            Self::Payloads => op == Op::DeliveryPayload,
            Self::Redeliveries => op == Op::Redeliver,
            Self::Installations => matches!(op, Op::Installations | Op::InstallationOwner),
        }
    }
}

impl Outages {
    /// Whether GitHub is in trouble with everybody.
    pub(crate) fn has_everybody(&self, now: Millis) -> bool {
        self.all.is_some_and(|(_, until)| now < until)
    }

    /// Whether an owner suspends the App.
    pub(crate) fn has_suspended(&self, login: &str) -> bool {
        self.suspended.contains_key(login)
    }

    /// When an owner could be asked about again: what is over lies in the past.
    pub(crate) fn over_at(&self, owner: &str) -> Millis {
        let suspended = self.suspended.get(owner).or_else(|| self.had_again.get(owner)).copied().unwrap_or(0);
        let app = self.app.filter(|(part, ..)| *part == Part::Installations).map_or(0, |(.., until)| until);
        self.all.map_or(0, |(_, until)| until).max(app).max(suspended)
    }
}

impl Sim {
    /// A minute in which GitHub may begin to be in trouble as a whole.
    pub(crate) fn begin_outages(&mut self) {
        let kinds = [Trouble::Unavailable, Trouble::NotFound, Trouble::Denied, Trouble::Limited];
        let draw = |sim: &mut Self, (lo, hi): (Millis, Millis), kinds: &[Trouble]| {
            let trouble = kinds[usize::try_from(sim.world.tape.draw(kinds.len() as u64 - 1)).unwrap_or(0)];
            let until = sim.now + sim.world.tape.between(lo, hi);
            (trouble, until.min(sim.quiet_at))
        };
        if self.world.tape.chance(self.plan.outage) && !self.outages.has_everybody(self.now) {
            let (trouble, until) = draw(self, OUTAGE, &kinds[..3]);
            self.timeline.note(self.now, || format!("GitHub is in trouble with everybody until {until}: {trouble:?}"));
            let logins: Vec<String> = self.owners.iter().map(|owner| owner.login.clone()).collect();
            for login in logins {
                self.begin_trouble(&login, trouble, until);
            }
            self.outages.all = Some((trouble, until));
        }
        if self.world.tape.chance(self.plan.app_trouble) {
            let part = Part::ALL[usize::try_from(self.world.tape.draw(4)).unwrap_or(0)];
            let (trouble, until) = draw(self, APP_TROUBLE, &kinds);
            self.timeline.note(self.now, || format!("the App's own calls fail until {until}: {part:?} {trouble:?}"));
            self.outages.app = Some((part, trouble, until));
        }
        self.end_suspensions(self.now);
        if self.world.tape.chance(self.plan.suspension) {
            self.suspend();
        }
    }

    /// An owner suspends the App, or removes it and installs it again later: until then every call about it is refused,
    /// and nothing that happens there is told of.
    fn suspend(&mut self) {
        let place = usize::try_from(self.world.tape.draw(self.owners.len() as u64 - 1)).unwrap_or(0);
        let login = self.owners[place].login.clone();
        let anew = self.world.tape.draw(1) == 1;
        let until = (self.now + self.world.tape.between(SUSPENSION.0, SUSPENSION.1)).min(self.quiet_at);
        if self.outages.has_everybody(self.now) || self.outages.has_suspended(&login) {
            return;
        }
        let what = if anew { "removes the App, and has it again" } else { "suspends the App" };
        self.timeline.note(self.now, || format!("{login} {what} until {until}"));
        self.begin_trouble(&login, Trouble::Denied, until);
        self.outages.suspended.insert(login.clone(), until);
        // What was sent to the old installation may be beyond reading for a while: whose it is, is asked then.
        if anew && self.world.tape.draw(1) == 1 {
            self.outages.app = Some((Part::Payloads, Trouble::NotFound, (until + HOUR).min(self.quiet_at)));
        }
        let id = if anew {
            self.world.github.reinstall(&login)
        } else {
            self.world.github.installation_of_owner(&login).map(|own| own.id)
        };
        if let Some(installation) = id.and_then(|id| self.world.github.installation_mut(id)) {
            installation.suspended = true;
        }
    }

    /// What was suspended until now is so no longer.
    pub(crate) fn end_suspensions(&mut self, now: Millis) {
        let over = |until: &Millis| *until <= now;
        let logins: Vec<String> =
            self.outages.suspended.iter().filter(|(_, until)| over(until)).map(|(login, _)| login.clone()).collect();
        for login in logins {
            self.outages.suspended.remove(&login);
            self.outages.had_again.insert(login.clone(), self.now);
            self.timeline.note(now, || format!("{login} has the App"));
            let id = self.world.github.installation_of_owner(&login).map(|own| own.id);
            if let Some(installation) = id.and_then(|id| self.world.github.installation_mut(id)) {
                installation.suspended = false;
            }
        }
    }

    /// What a call in the name of an owner's installation is refused with before it is made. As the adapter does: an id
    /// that GitHub does not know (any more) is looked up by owner, and so is one that nobody named.
    pub(crate) fn unreachable(&mut self, owner: &str, named: Option<InstallationId>, op: Op) -> Result<(), PortError> {
        if self.outages.has_suspended(owner) {
            self.coverage.hit(Counter::Suspended);
            return Err(PortError::new(op.name(), Class::Denied, "This installation has been suspended"));
        }
        let known = named.filter(|id| self.world.github.installation(id.0).is_some());
        if named.is_some() && known.is_none() {
            self.coverage.hit(Counter::StaleInstallation);
        }
        if known.is_none() {
            let looked_up = self.app_troubled(Op::InstallationOwner);
            // No word of what was asked for, and a call that was never sent.
            looked_up.map_err(|error| {
                let class = match error.class {
                    Class::Absent => Class::Denied,
                    Class::OutcomeUnknown => Class::Transient,
                    class @ (Class::Transient
                    | Class::Throttled { .. }
                    | Class::NoCapacity
                    | Class::Rejected
                    | Class::Conflict
                    | Class::Denied
                    | Class::Misconfigured) => class,
                };
                PortError { class, ..error }
            })?;
        }
        Ok(())
    }

    /// What a call that the App makes in its own name is refused with, where GitHub is in trouble.
    pub(crate) fn app_troubled(&mut self, op: Op) -> Result<(), PortError> {
        let now = self.now;
        self.hurried(THE_APP, op)?;
        let all = self.outages.all.filter(|(_, until)| now < *until).map(|(trouble, _)| trouble);
        let app =
            self.outages.app.filter(|(part, _, until)| now < *until && part.has(op)).map(|(_, trouble, _)| trouble);
        let Some(trouble) = all.or(app) else { return Ok(()) };
        self.coverage.hit(if all.is_some() { Counter::Outage } else { Counter::AppTrouble });
        let class = match trouble {
            Trouble::NotFound => Class::Absent,
            Trouble::Unavailable if op.changes() => Class::OutcomeUnknown,
            Trouble::Unavailable => Class::Transient,
            Trouble::Limited => Class::Throttled { retry_after: Some(Duration::from_mins(1)) },
            Trouble::Denied
            | Trouble::Sparse
            | Trouble::RunnersNotFound
            | Trouble::RunnersDenied
            | Trouble::RunnersReadOnly => Class::Denied,
        };
        Err(PortError::new(op.name(), class, "GitHub is in trouble with the App"))
    }
}
