//! Registrations: what GitHub holds of a runner, what it shows, and DELETE.

use super::{BusyFlag, Cx, GitHub, Installation, OwnerKind};
use crate::Millis;
use crate::truth::Fact;

/// Where a runner is registered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// An organisation, by login.
    Organization(String),
    /// One repository, by `owner/name` of the path.
    Repository {
        /// Owner.
        owner: String,
        /// Name.
        name: String,
    },
}

/// A runner: its registration and, while it lives, its listener's session.
#[derive(Debug, Clone)]
pub struct Runner {
    /// Its id.
    pub id: u64,
    /// Its scope.
    pub scope: Scope,
    /// Its name, unique in the scope while registered.
    pub name: String,
    /// Its labels as given.
    pub labels: Vec<String>,
    /// Its runner group.
    pub group_id: u64,
    /// Null until its listener connected once; then the runner's version (`OpenAPI` text of the runner object).
    pub version: Option<String>,
    pub(super) registered_at: Millis,
    pub(super) jit_config: String,
    pub(super) session: Option<Session>,
    pub(super) registration: Registration,
    /// The job it was given, until that ends.
    pub(super) job_id: Option<u64>,
    /// From when on `busy` is shown for that job.
    pub(super) busy_shown_from: Millis,
    /// From when on a queued job may be matched with it.
    pub(super) ready_at: Millis,
    /// No call finds it, although it is registered, listens and works (actions/runner#936).
    pub(super) unlisted: bool,
    /// No call finds it in this time, although it is registered, listens and works (actions/runner#4391, #3589).
    pub(super) hidden: Option<(Millis, Millis)>,
    /// It is shown offline in this time, although it listens and works.
    pub(super) offline_shown: Option<(Millis, Millis)>,
    /// From when on calls find it (facts: a new runner appears late).
    pub(super) shown_from: Millis,
    /// While its job runs, `busy` is shown false in this time (actions/runner#4422).
    pub(super) idle_shown: Option<(Millis, Millis)>,
    /// GitHub holds it busy for good and refuses to delete it (actions/runner#700).
    pub(super) stuck: bool,
}

/// A listener's session.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) instance_id: Option<String>,
    pub(super) polled_at: Millis,
    /// False once its instance is gone; GitHub does not know that, only time tells it.
    pub(super) alive: bool,
}

/// Whether the registration exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Registration {
    Registered,
    /// Gone; its listener learns of it at a poll after `noticed_at`.
    Gone {
        noticed_at: Millis,
    },
}

/// The answer to DELETE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeleteAnswer {
    /// 204: the registration is gone.
    Deleted,
    /// 422: GitHub knows that a job runs. Text as in terraform-aws-github-runner#5055.
    Busy {
        /// GitHub's message.
        message: String,
    },
    /// 404: no such registration in this scope.
    NotFound,
}

impl Scope {
    /// The login of its owner.
    #[must_use]
    pub fn owner(&self) -> &str {
        match self {
            Self::Organization(owner) | Self::Repository { owner, .. } => owner,
        }
    }

    /// Whether `other` is the same scope, as GitHub compares names.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Organization(a), Self::Organization(b)) => a.eq_ignore_ascii_case(b),
            (Self::Repository { owner, name }, Self::Repository { owner: o, name: n }) => {
                owner.eq_ignore_ascii_case(o) && name.eq_ignore_ascii_case(n)
            }
            (Self::Organization(_), Self::Repository { .. }) | (Self::Repository { .. }, Self::Organization(_)) => {
                false
            }
        }
    }
}

impl Runner {
    /// Whether GitHub still holds the registration.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.registration == Registration::Registered
    }

    /// Whether it was not given a job.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.job_id.is_none() && !self.stuck
    }

    /// The job that it was given.
    #[must_use]
    pub fn job(&self) -> Option<u64> {
        self.job_id
    }

    /// Whether GitHub holds it busy for good.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// Until when GitHub may answer as if it did not exist, although it does; in the past where it does not.
    #[must_use]
    pub fn hidden_until(&self) -> Millis {
        self.hidden.map_or(0, |(_, until)| until)
    }

    /// Whether calls find the registration.
    fn is_shown(&self, now: Millis) -> bool {
        self.is_registered() && !self.unlisted && now >= self.shown_from && !within(self.hidden, now)
    }

    /// Whether it is shown online.
    #[must_use]
    pub fn is_shown_online(&self, now: Millis, offline_after_ms: Millis) -> bool {
        !within(self.offline_shown, now) && self.session.as_ref().is_some_and(|s| now - s.polled_at <= offline_after_ms)
    }

    /// Whether it is shown busy: GitHub's belief, not the truth.
    #[must_use]
    pub fn is_shown_busy(&self, now: Millis) -> bool {
        self.stuck || (self.job_id.is_some() && now >= self.busy_shown_from && !within(self.idle_shown, now))
    }

    /// The instance its listener runs on, from the session or else from the name's end.
    #[must_use]
    pub fn instance_id(&self) -> Option<&str> {
        self.session.as_ref().and_then(|s| s.instance_id.as_deref()).or_else(|| {
            let start = self.name.rfind("i-")?;
            self.name.get(start..)
        })
    }

    /// Whether its labels include all of a job's. GitHub compares them without regard to case.
    pub(super) fn serves(&self, labels: &[String]) -> bool {
        labels.iter().all(|wanted| self.labels.iter().any(|own| own.eq_ignore_ascii_case(wanted)))
    }
}

impl GitHub {
    /// The registrations of a scope as one listing shows them, by name when asked; a listing may leave one out.
    pub fn list_runners(&mut self, cx: &mut Cx<'_>, scope: &Scope, name: Option<&str>) -> Vec<Runner> {
        let mut listed: Vec<Runner> = self
            .registrations()
            .filter(|r| r.is_shown(self.clock) && r.scope.is(scope) && name.is_none_or(|n| n == r.name))
            .cloned()
            .collect();
        if !listed.is_empty() && cx.tape.chance(self.settings.list_omission) {
            let last = u64::try_from(listed.len() - 1).unwrap_or(0);
            let omitted = usize::try_from(cx.tape.draw(last)).unwrap_or(0);
            listed.remove(omitted);
        }
        listed
    }

    /// One registration; nothing when it is gone or another scope's (GitHub answers 404 to both).
    #[must_use]
    pub fn runner(&self, scope: &Scope, id: u64) -> Option<&Runner> {
        self.runners.get(&id).filter(|r| r.is_shown(self.clock) && r.scope.is(scope))
    }

    /// One registration that exists, whatever calls find.
    #[must_use]
    pub fn registration(&self, id: u64) -> Option<&Runner> {
        self.runners.get(&id).filter(|r| r.is_registered())
    }

    /// All registrations that exist, whatever a listing shows.
    pub fn registrations(&self) -> impl Iterator<Item = &Runner> {
        self.living().filter(|r| r.is_registered())
    }

    /// Runners that are registered or whose listener lives.
    fn living(&self) -> impl Iterator<Item = &Runner> {
        self.living.iter().filter_map(|id| self.runners.get(id))
    }

    /// Whoever is neither registered nor listens is not looked through any more.
    pub(super) fn bury(&mut self, id: u64) {
        let lives = |r: &Runner| r.is_registered() || r.session.as_ref().is_some_and(|s| s.alive);
        if !self.runners.get(&id).is_some_and(lives) {
            self.living.remove(&id);
        }
    }

    /// DELETE. GitHub refuses what *it believes* busy, and believes its own flag (terraform-aws-github-runner#5085): while the flag
    /// lags or lies, the registration goes and the job's message stays with the listener.
    pub fn delete_runner(&mut self, cx: &mut Cx<'_>, scope: &Scope, id: u64, caller: &str) -> DeleteAnswer {
        let Some(runner) = self.runner(scope, id) else {
            return DeleteAnswer::NotFound;
        };
        let name = runner.name.clone();
        if runner.is_shown_busy(cx.now) {
            cx.truth.record(cx.now, Fact::DeregistrationRefused { runner: name.clone(), caller: caller.to_owned() });
            return DeleteAnswer::Busy {
                message: format!("Bad request - Runner {name} is currently running a job and cannot be deleted."),
            };
        }
        let active_job = self.active_job_of_runner(id);
        cx.truth.record(cx.now, Fact::RunnerDeregistered { runner: name, caller: caller.to_owned(), active_job });
        self.unregister(cx, id);
        DeleteAnswer::Deleted
    }

    /// A person removes the registration of the runner on an instance, whatever it does (the settings page's "force
    /// remove"). False when there is none.
    pub(crate) fn remove_by_hand(&mut self, cx: &mut Cx<'_>, instance_id: &str) -> bool {
        let Some((id, name)) = self.registration_of_instance(instance_id).map(|r| (r.id, r.name.clone())) else {
            return false;
        };
        cx.truth.record(cx.now, Fact::RunnerRemoved { runner: name, why: "removed by hand".to_owned() });
        self.unregister(cx, id);
        true
    }

    /// From now on no call finds the runner on an instance; it listens and works on (actions/runner#936). False when
    /// there is none.
    pub(crate) fn unlist(&mut self, instance_id: &str) -> bool {
        let id = self.registration_of_instance(instance_id).map(|r| r.id);
        let Some(runner) = id.and_then(|id| self.runners.get_mut(&id)) else {
            return false;
        };
        runner.unlisted = true;
        true
    }

    /// From now until then no call finds the runner of this name (actions/runner#3589).
    pub fn hide_runner(&mut self, name: &str, from: Millis, until: Millis) {
        let id = self.registrations().find(|r| r.name == name).map(|r| r.id);
        if let Some(runner) = id.and_then(|id| self.runners.get_mut(&id)) {
            runner.hidden = Some((from, until));
        }
    }

    fn registration_of_instance(&self, instance_id: &str) -> Option<&Runner> {
        self.registrations().find(|r| r.instance_id() == Some(instance_id))
    }

    /// The registration vanishes; the listener learns of it later.
    pub(super) fn unregister(&mut self, cx: &mut Cx<'_>, id: u64) {
        let (lo, hi) = self.settings.listener_notices_ms;
        let noticed_at = cx.now + cx.tape.between(lo, hi);
        if let Some(runner) = self.runners.get_mut(&id) {
            runner.registration = Registration::Gone { noticed_at };
        }
        self.bury(id);
    }

    /// The job that runs, or is being acquired, on an instance: the truth that P1 is judged by.
    #[must_use]
    pub fn active_job_of_instance(&self, instance_id: &str) -> Option<u64> {
        self.living()
            .filter(|r| r.session.as_ref().is_some_and(|s| s.alive))
            .filter(|r| r.instance_id() == Some(instance_id))
            .find_map(|r| self.active_job_of_runner(r.id))
    }

    /// The job that runs, or is being acquired (its message was handed out), on a runner.
    #[must_use]
    pub fn active_job_of_runner(&self, id: u64) -> Option<u64> {
        let job_id = self.runners.get(&id)?.job_id?;
        self.jobs.get(&job_id).filter(|job| job.state.is_active()).map(|job| job.id)
    }

    /// The name of the runner on an instance.
    #[must_use]
    pub fn runner_name_of_instance(&self, instance_id: &str) -> Option<String> {
        self.runners.values().rev().find(|r| r.instance_id() == Some(instance_id)).map(|r| r.name.clone())
    }

    /// Whether an installation governs a scope.
    #[must_use]
    pub fn governs(&self, installation: &Installation, scope: &Scope) -> bool {
        match scope {
            Scope::Organization(org) => {
                installation.kind == OwnerKind::Organization && installation.owner.eq_ignore_ascii_case(org)
            }
            Scope::Repository { owner, name } => installation.repositories.iter().any(|r| r.answers_to(owner, name)),
        }
    }

    /// From when on GitHub will show an assignment made now.
    pub(super) fn busy_shown_from(&self, cx: &mut Cx<'_>, flag: BusyFlag) -> Millis {
        match flag {
            BusyFlag::Known => cx.now,
            BusyFlag::Unknown => Millis::MAX,
            BusyFlag::BySettings => {
                if cx.tape.chance(self.settings.lying_busy_flag) {
                    return Millis::MAX;
                }
                let (lo, hi) = self.settings.busy_lag_ms;
                cx.now + cx.tape.between(lo, hi)
            }
        }
    }
}

/// Whether a moment lies in a time.
fn within(time: Option<(Millis, Millis)>, now: Millis) -> bool {
    time.is_some_and(|(from, until)| (from..until).contains(&now))
}
