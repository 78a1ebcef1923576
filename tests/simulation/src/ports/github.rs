//! GitHub's registrations, jobs and deliveries.

use std::time::Duration;

use runner_scaler_core::error::{Class, PortError};
use runner_scaler_core::ids::{
    Access, DeliveryGuid, InstallationId, JobId, Repository, RunId, RunnerId, RunnerName, Scope,
};
use runner_scaler_core::ports::{
    AccountKind, ApiBudget, Delivery, DeliveryLog, Deregistration, FailedDeliveries, Installation, JitConfig,
    JitRequest, JobReading, JobSearch, JobState, Jobs, LogPlace, OpenJob, Priced, Reached, Redelivery, Registered,
    Registry, RegistryRead, Runner,
};
use runner_scaler_core::removal::DeregistrationWarrant;
use runner_scaler_core::time::Timestamp;
use runner_scaler_world::github::{
    DeleteAnswer, JitRequest as WorldJit, Job, JobState as WorldState, OwnerKind, Progress, Runner as WorldRunner,
    Scope as WorldScope, Trouble,
};

use super::{Op, Port};
use crate::coverage::Counter;
use crate::sim::Sim;
use crate::swarm::HOUR;

/// How long GitHub keeps the log.
const LOG_KEPT: Duration = Duration::from_hours(3 * 24);

fn scope_of(scope: &Scope) -> WorldScope {
    match scope {
        Scope::Organization { owner } => WorldScope::Organization(owner.clone()),
        Scope::Repository { owner, name } => WorldScope::Repository { owner: owner.clone(), name: name.clone() },
    }
}

impl Sim {
    /// What a call about an owner is refused with, where GitHub is in trouble.
    fn troubled(&mut self, owner: &str, named: Option<InstallationId>, op: Op) -> Result<(), PortError> {
        self.charge(owner)?;
        self.hurried(owner, op)?;
        self.unreachable(owner, named, op)?;
        let Some((trouble, until)) = self.world.github.trouble_of(owner, self.now) else { return Ok(()) };
        let of_runners = matches!(op, Op::Runners | Op::Runner | Op::RunnerNamed | Op::GenerateJit | Op::Deregister);
        let class = match trouble {
            Trouble::NotFound => Class::Absent,
            Trouble::Denied => Class::Denied,
            Trouble::Unavailable if op.changes() => Class::OutcomeUnknown,
            Trouble::Unavailable => Class::Transient,
            Trouble::RunnersNotFound if of_runners => Class::Absent,
            Trouble::RunnersDenied if of_runners => Class::Denied,
            Trouble::RunnersReadOnly if of_runners && op.changes() => Class::Denied,
            Trouble::Limited => return Err(self.limited(owner, until.min(self.now + HOUR))),
            Trouble::Sparse | Trouble::RunnersNotFound | Trouble::RunnersDenied | Trouble::RunnersReadOnly => {
                return Ok(());
            }
        };
        Err(PortError::new(op.name(), class, "GitHub is in trouble"))
    }

    fn view(&self, runner: &WorldRunner) -> Runner {
        let offline_after = self.world.github.settings().offline_after_ms;
        Runner {
            id: RunnerId(runner.id),
            name: RunnerName::new(runner.name.as_str()),
            online: runner.is_shown_online(self.now, offline_after),
            busy: runner.is_shown_busy(self.now),
            version: Some(runner.version.clone()),
            ephemeral: Some(true),
        }
    }

    fn list(&mut self, access: &Access, name: Option<&str>, op: Op) -> Result<Vec<Runner>, PortError> {
        let scope = &access.scope;
        self.troubled(scope.owner(), access.installation_id, op)?;
        let place = scope_of(scope);
        let mut listed = self.touch(|world| {
            let (github, mut cx) = world.github();
            github.list_runners(&mut cx, &place, name)
        });
        if matches!(self.world.github.trouble_of(scope.owner(), self.now), Some((Trouble::Sparse, _))) {
            listed.truncate(listed.len() / 4);
        }
        if listed.iter().any(|runner| self.checker.runners_of_others.contains(&runner.id)) {
            self.coverage.hit(Counter::OthersListed);
        }
        Ok(listed.iter().map(|runner| self.view(runner)).collect())
    }

    fn job_in(&self, repository: &Repository, id: JobId) -> Option<&Job> {
        let full_name = repository.to_string();
        let found = self.world.github.job(id.0).filter(|job| job.state != WorldState::Held)?;
        (self.repository_name(found)? == full_name).then_some(found)
    }

    fn repository_name(&self, job: &Job) -> Option<&str> {
        let installation = self.world.github.installation(job.installation_id)?;
        installation.repositories.iter().find(|r| r.id == job.repository_id).map(|r| r.full_name.as_str())
    }

    fn open_jobs_in(&self, repository: &Repository) -> Vec<&Job> {
        let full_name = repository.to_string();
        // A run whose jobs all wait for an approval is neither queued nor in progress.
        let shown = |job: &Job| !matches!(job.state, WorldState::Held | WorldState::Waiting);
        let own = |job: &&Job| shown(job) && self.repository_name(job) == Some(full_name.as_str());
        self.world.github.open_jobs().filter(own).collect()
    }
}

fn state_of(job: &Job) -> JobState {
    match job.state {
        WorldState::Waiting => JobState::NotYetQueued,
        WorldState::Held | WorldState::Queued { .. } | WorldState::Assigned { .. } => JobState::Queued,
        WorldState::Running { .. } => JobState::InProgress,
        WorldState::Completed { .. } => JobState::Completed,
    }
}

fn reading(job: &Job) -> JobReading {
    // While a job is merely assigned GitHub names no runner.
    let runner = job.runner.as_ref().filter(|_| job.started_at.is_some());
    JobReading {
        id: JobId(job.id),
        state: state_of(job),
        runner_id: runner.map(|(id, ..)| RunnerId(*id)),
        runner_name: runner.map(|(_, name, _)| RunnerName::new(name.as_str())),
        completed_at: match job.state {
            WorldState::Completed { at, .. } => Some(Timestamp(at)),
            WorldState::Held
            | WorldState::Waiting
            | WorldState::Queued { .. }
            | WorldState::Assigned { .. }
            | WorldState::Running { .. } => None,
        },
    }
}

fn open_job(job: &Job) -> OpenJob {
    let runner = job.runner.as_ref().filter(|_| job.started_at.is_some());
    OpenJob {
        id: JobId(job.id),
        run_id: RunId(job.run_id),
        run_attempt: 1,
        state: state_of(job),
        labels: job.labels.clone(),
        created_at: Some(Timestamp(job.created_at)),
        runner_id: runner.map(|(id, ..)| RunnerId(*id)),
        runner_name: runner.map(|(_, name, _)| RunnerName::new(name.as_str())),
    }
}

impl RegistryRead for Port {
    async fn runners(&self, access: &Access) -> Result<Vec<Runner>, PortError> {
        let listed = self.call(Op::Runners, None, |sim| sim.list(access, None, Op::Runners)).await;
        self.read_of_runners(listed.iter().flatten());
        listed
    }

    async fn runner(&self, access: &Access, id: RunnerId) -> Result<Option<Runner>, PortError> {
        let about = self.sim.borrow().name_of_runner(id.0);
        let read = self
            .call(Op::Runner, about, |sim| {
                match sim.troubled(access.scope.owner(), access.installation_id, Op::Runner) {
                    Ok(()) => {}
                    // A 404 is an answer here.
                    Err(error) if error.class == Class::Absent => {
                        if sim.name_of_runner(id.0).is_some() {
                            sim.coverage.hit(Counter::ReadAbsentAlive);
                        }
                        return Ok(None);
                    }
                    Err(error) => return Err(error),
                }
                let found = sim.world.github.runner(&scope_of(&access.scope), id.0).map(|runner| sim.view(runner));
                if found.is_none() && sim.name_of_runner(id.0).is_some() {
                    sim.coverage.hit(Counter::ReadAbsentAlive);
                }
                Ok(found)
            })
            .await;
        self.read_of_runners(read.iter().flatten());
        if matches!(read, Ok(None))
            && let Some(own) = self.sim.borrow_mut().invocations.get_mut(self.task.place).and_then(Option::as_mut)
        {
            own.absent.push(id.0);
        }
        read
    }

    async fn runner_named(&self, access: &Access, name: &RunnerName) -> Result<Option<Runner>, PortError> {
        let found = self
            .call(Op::RunnerNamed, None, |sim| {
                Ok(sim.list(access, Some(name.as_str()), Op::RunnerNamed)?.into_iter().next())
            })
            .await;
        self.read_of_runners(found.iter().flatten());
        found
    }
}

impl Port {
    /// What an invocation was told of runners and jobs is what it knows from then on.
    fn read_of_runners<'a>(&self, read: impl Iterator<Item = &'a Runner>) {
        let mut busy = read.filter(|runner| runner.busy).map(|runner| runner.id.0).peekable();
        if busy.peek().is_none() {
            return;
        }
        let sim = &mut *self.sim.borrow_mut();
        let now = sim.now;
        if let Some(invocation) = sim.invocations.get_mut(self.task.place).and_then(Option::as_mut) {
            let known = invocation.busy.len();
            invocation.busy.extend(busy.map(|id| (id, now)));
            sim.checker.ever_busy.extend(invocation.busy.iter().skip(known).map(|(id, _)| *id));
        }
    }

    fn read_of_jobs<'a>(&self, read: impl Iterator<Item = &'a JobReading>) {
        let on_a_runner = |job: &&JobReading| job.state == JobState::InProgress && job.runner_id.is_some();
        let mut ids = read.filter(on_a_runner).map(|job| job.id.0).peekable();
        if ids.peek().is_none() {
            return;
        }
        if let Some(invocation) = self.sim.borrow_mut().invocations.get_mut(self.task.place).and_then(Option::as_mut) {
            invocation.in_progress.extend(ids);
        }
    }
}

impl Sim {
    /// The name of a registration that exists.
    fn name_of_runner(&self, id: u64) -> Option<String> {
        self.world.github.registration(id).map(|runner| runner.name.clone())
    }
}

impl Registry for Port {
    async fn generate_jit_config(&self, access: &Access, request: &JitRequest) -> Result<Registered, PortError> {
        self.call(Op::GenerateJit, None, |sim| {
            sim.troubled(access.scope.owner(), access.installation_id, Op::GenerateJit)?;
            sim.check_registration(access, request);
            sim.check_labels_in("generate-jitconfig", request);
            let wanted = WorldJit {
                name: request.name.as_str().to_owned(),
                runner_group_id: request.runner_group_id,
                labels: request.labels.clone(),
                work_folder: None,
            };
            let place = scope_of(&access.scope);
            let made = sim.touch(|world| {
                let (github, mut cx) = world.github();
                github.generate_jitconfig(&mut cx, place, wanted)
            });
            match made {
                Ok((runner, config)) => {
                    Ok(Registered::Created { runner_id: RunnerId(runner.id), config: JitConfig::new(config) })
                }
                Err(runner_scaler_world::github::JitError::NameTaken(name)) => {
                    let handed_over = sim.checker.was_handed_over(&name);
                    sim.coverage.hit(if handed_over { Counter::NameTakenHandedOver } else { Counter::NameTaken });
                    Ok(Registered::NameTaken)
                }
                Err(runner_scaler_world::github::JitError::Invalid(why)) => {
                    Err(PortError::new("generate-jitconfig", Class::Rejected, why))
                }
            }
        })
        .await
    }

    async fn deregister(&self, warrant: DeregistrationWarrant) -> Result<Deregistration, PortError> {
        let id = warrant.runner_id().0;
        let about = self.sim.borrow().name_of_runner(id);
        let function = self.function.name();
        self.sim.borrow_mut().check_deregistration(self.task, id);
        self.call(Op::Deregister, about, |sim| {
            let name = sim.name_of_runner(id).unwrap_or_default();
            sim.resisted(&name, Op::Deregister)?;
            match sim.troubled(warrant.access().scope.owner(), warrant.access().installation_id, Op::Deregister) {
                Ok(()) => {}
                Err(error) if error.class == Class::Absent => {
                    if sim.name_of_runner(id).is_some() {
                        sim.coverage.hit(Counter::DeleteAbsentAlive);
                    }
                    return Ok(Deregistration::Absent);
                }
                Err(error) => return Err(error),
            }
            let place = scope_of(&warrant.access().scope);
            let answer = sim.touch(|world| {
                let (github, mut cx) = world.github();
                github.delete_runner(&mut cx, &place, id, function)
            });
            Ok(match answer {
                DeleteAnswer::Deleted => {
                    sim.coverage.hit(Counter::Deleted);
                    sim.tally.deregistrations += 1;
                    Deregistration::Deleted
                }
                DeleteAnswer::Busy { .. } => {
                    sim.coverage.hit(Counter::DeleteBusy);
                    sim.checker.ever_busy.insert(id);
                    Deregistration::Busy
                }
                DeleteAnswer::NotFound => {
                    if sim.name_of_runner(id).is_some() {
                        sim.coverage.hit(Counter::DeleteAbsentAlive);
                    }
                    Deregistration::Absent
                }
            })
        })
        .await
    }
}

impl Jobs for Port {
    async fn job(
        &self,
        repository: &Repository,
        installation_id: Option<InstallationId>,
        id: JobId,
    ) -> Result<JobReading, PortError> {
        let task = self.task;
        let read = self
            .call(Op::Job, None, |sim| {
                sim.troubled(repository.owner(), installation_id, Op::Job)?;
                sim.world.truth.job_looked_up(id.0);
                let read = sim.job_in(repository, id).map(reading);
                let read = read.ok_or_else(|| PortError::new("get job", Class::Absent, "404"))?;
                if read.state != JobState::Queued
                    && let Some(invocation) = sim.invocations.get_mut(task.place).and_then(Option::as_mut)
                {
                    invocation.not_queued.push(id.0);
                }
                Ok(read)
            })
            .await;
        self.read_of_jobs(read.iter());
        read
    }

    async fn jobs_in_progress(
        &self,
        repository: &Repository,
        installation_id: Option<InstallationId>,
    ) -> Result<Vec<JobReading>, PortError> {
        let read: Result<Vec<JobReading>, PortError> = self
            .call(Op::JobsInProgress, None, |sim| {
                sim.troubled(repository.owner(), installation_id, Op::JobsInProgress)?;
                let running = |job: &&&Job| matches!(job.state, WorldState::Running { .. });
                Ok(sim.open_jobs_in(repository).iter().filter(running).map(|job| reading(job)).collect())
            })
            .await;
        self.read_of_jobs(read.iter().flatten());
        read
    }

    async fn jobs_of_open_runs(
        &self,
        repository: &Repository,
        installation_id: Option<InstallationId>,
    ) -> Result<Vec<JobReading>, PortError> {
        let read: Result<Vec<JobReading>, PortError> = self
            .call(Op::JobsOfOpenRuns, None, |sim| {
                sim.troubled(repository.owner(), installation_id, Op::JobsOfOpenRuns)?;
                Ok(sim.open_jobs_in(repository).into_iter().map(reading).collect())
            })
            .await;
        self.read_of_jobs(read.iter().flatten());
        read
    }

    async fn repositories(&self, access: &Access) -> Result<Vec<Repository>, PortError> {
        self.call(Op::Repositories, None, |sim| {
            sim.troubled(access.scope.owner(), access.installation_id, Op::Repositories)?;
            let found = sim.world.github.installation_of_owner(access.scope.owner());
            let names = found.into_iter().flat_map(|installation| &installation.repositories);
            Ok(names.filter_map(|r| Repository::try_from(r.full_name.clone()).ok()).collect())
        })
        .await
    }
}

impl JobSearch for Port {
    async fn installations(&self) -> Result<Vec<Installation>, PortError> {
        self.call(Op::Installations, None, |sim| {
            sim.app_troubled(Op::Installations)?;
            let of = |found: &runner_scaler_world::github::Installation| Installation {
                id: InstallationId(found.id),
                owner: found.owner.clone(),
                owner_id: Some(found.owner_id),
                kind: match found.kind {
                    OwnerKind::Organization => AccountKind::Organization,
                    OwnerKind::User => AccountKind::User,
                },
            };
            Ok(sim.world.github.installations().filter(|found| !found.suspended).map(of).collect())
        })
        .await
    }

    async fn repositories_of(&self, installation: &Installation) -> Result<Priced<Vec<Reached>>, PortError> {
        self.call(Op::RepositoriesOf, None, |sim| {
            sim.troubled(&installation.owner, Some(installation.id), Op::RepositoriesOf)?;
            let found = sim.world.github.installation_of_owner(&installation.owner);
            let reached = found.into_iter().flat_map(|own| {
                own.repositories.iter().filter_map(|r| {
                    let repository = Repository::try_from(r.full_name.clone()).ok()?;
                    Some(Reached { repository, id: Some(r.id), owner_id: Some(own.owner_id) })
                })
            });
            Ok(Priced { value: reached.collect(), charged: 1 })
        })
        .await
    }

    async fn open_runs(
        &self,
        repository: &Repository,
        installation_id: InstallationId,
    ) -> Result<Priced<Vec<RunId>>, PortError> {
        self.call(Op::OpenRuns, None, |sim| {
            sim.troubled(repository.owner(), Some(installation_id), Op::OpenRuns)?;
            let runs: Vec<RunId> = sim.open_jobs_in(repository).iter().map(|job| RunId(job.run_id)).collect();
            let answer: Vec<u64> = runs.iter().map(|run| run.0).collect();
            let charged = sim.charged(repository.to_string(), answer, 2);
            Ok(Priced { value: runs, charged })
        })
        .await
    }

    async fn jobs_of_run(
        &self,
        repository: &Repository,
        installation_id: InstallationId,
        run_id: RunId,
    ) -> Result<Priced<Vec<OpenJob>>, PortError> {
        self.call(Op::JobsOfRun, None, |sim| {
            sim.troubled(repository.owner(), Some(installation_id), Op::JobsOfRun)?;
            let jobs: Vec<OpenJob> = sim.world.github.job_of_run(run_id.0).map(open_job).into_iter().collect();
            let answer: Vec<_> = jobs.iter().map(|job| (job.state as u8, job.runner_id.map(|id| id.0))).collect();
            let charged = sim.charged(run_id.0, answer, 1);
            Ok(Priced { value: jobs, charged })
        })
        .await
    }

    async fn budget(&self, owner: &str) -> Option<ApiBudget> {
        self.sim.borrow().budget_of(owner)
    }
}

impl Redelivery for Port {
    async fn redeliver(&self, id: u64) -> Result<(), PortError> {
        self.call(Op::Redeliver, None, |sim| {
            sim.app_troubled(Op::Redeliver)?;
            let known = sim.touch(|world| {
                let (github, mut cx) = world.github();
                github.redeliver(&mut cx, id)
            });
            if !known {
                return Err(PortError::new("redeliver", Class::Absent, "404"));
            }
            sim.coverage.hit(Counter::Redelivery);
            Ok(())
        })
        .await
    }
}

impl DeliveryLog for Port {
    fn log_kept(&self) -> Duration {
        LOG_KEPT
    }

    async fn failed_deliveries_since(
        &self,
        since: Timestamp,
        from: Option<&LogPlace>,
    ) -> Result<FailedDeliveries, PortError> {
        self.call(Op::FailedDeliveries, None, |sim| {
            sim.app_troubled(Op::FailedDeliveries)?;
            if from.is_some() {
                sim.coverage.hit(Counter::LogResumed);
            }
            let below = match from.map(|place| place.as_str().parse::<u64>()) {
                None => u64::MAX,
                Some(Ok(id)) => id,
                Some(Err(_)) => return Err(PortError::new("list deliveries", Class::Rejected, "422 unknown cursor")),
            };
            let mut page = FailedDeliveries { deliveries: Vec::new(), next: None };
            for attempt in sim.world.github.log_before(below) {
                let Progress::Answered { at, .. } = attempt.progress else { continue };
                // Attempts are in the order in which they were made; one is at most half an hour late.
                if at < since.0 - HOUR {
                    break;
                }
                if attempt.succeeded() || at < since.0 {
                    continue;
                }
                if page.deliveries.len() == sim.plan.log_page {
                    sim.coverage.hit(Counter::LogPaged);
                    page.next = page.deliveries.last().map(|last: &Delivery| LogPlace::new(last.id.to_string()));
                    break;
                }
                page.deliveries.push(Delivery {
                    id: attempt.id,
                    guid: DeliveryGuid::new(attempt.guid.as_str()),
                    delivered_at: Timestamp(at),
                    event: "workflow_job".to_owned(),
                    action: Some(attempt.action.clone()),
                    installation_id: attempt.installation_id.map(InstallationId),
                });
            }
            Ok(page)
        })
        .await
    }

    async fn installation_owner(&self, id: InstallationId) -> Result<Option<String>, PortError> {
        self.call(Op::InstallationOwner, None, |sim| {
            match sim.app_troubled(Op::InstallationOwner) {
                // A 404 is an answer here.
                Err(error) if error.class == Class::Absent => return Ok(None),
                troubled => troubled?,
            }
            let owner = sim.world.github.installation(id.0).map(|installation| installation.owner.clone());
            if owner.is_none() {
                sim.coverage.hit(Counter::UnknownInstallation);
            }
            Ok(owner)
        })
        .await
    }

    async fn delivery_payload(&self, id: u64) -> Result<String, PortError> {
        self.call(Op::DeliveryPayload, None, |sim| {
            sim.app_troubled(Op::DeliveryPayload)?;
            let found = sim.world.github.logged(id).and_then(|d| String::from_utf8(d.body.to_vec()).ok());
            found.ok_or_else(|| PortError::new("get delivery", Class::Absent, "404"))
        })
        .await
    }
}
