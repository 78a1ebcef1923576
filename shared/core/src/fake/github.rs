//! GitHub's registrations, jobs and deliveries.

use std::time::Duration;

use super::{Fake, JobDetails, State};
use crate::error::{Class, PortError};
use crate::ids::{Access, InstallationId, JobId, Repository, RunId, RunnerId, RunnerName, Scope};
use crate::ports::{
    ApiBudget, Delivery, DeliveryLog, Deregistration, FailedDeliveries, Installation, JitConfig, JitRequest,
    JobReading, JobSearch, JobState, Jobs, LogPlace, OpenJob, Priced, Reached, Redelivery, Registered, Registry,
    RegistryRead, Runner,
};
use crate::removal::DeregistrationWarrant;
use crate::time::Timestamp;

impl Fake {
    /// GitHub has this job in that state.
    pub(crate) fn put_job(&self, id: JobId, job: JobState) {
        let reading = JobReading { id, state: job, runner_id: None, runner_name: None, completed_at: None };
        self.state_mut().jobs.insert(id, reading);
    }

    /// GitHub has this job of `octo/hello` queued since then, in a run of its own, and lists it.
    pub(crate) fn queue_job(&self, id: JobId, fleet: &str, created_at: Timestamp) {
        let repository = Repository::try_from("octo/hello".to_owned()).expect("a full name");
        self.queue_job_in(&repository, id, fleet, created_at);
    }

    /// The same in another repository.
    pub(crate) fn queue_job_in(&self, repository: &Repository, id: JobId, fleet: &str, created_at: Timestamp) {
        self.put_job(id, JobState::Queued);
        let details = JobDetails {
            repository: repository.clone(),
            run_id: RunId(id.0),
            labels: vec!["self-hosted".to_owned(), fleet.to_owned()],
            created_at,
            runner_name: None,
        };
        let mut state = self.state_mut();
        state.details.insert(id, details);
        state.repositories.insert(repository.clone());
    }

    /// The job runs on that runner.
    pub(crate) fn assign_job(&self, id: JobId, runner_id: RunnerId, name: &RunnerName) {
        let mut state = self.state_mut();
        let job = state.jobs.get_mut(&id).expect("a job");
        job.state = JobState::InProgress;
        job.runner_id = Some(runner_id);
        job.runner_name = Some(name.clone());
        state.details.get_mut(&id).expect("a job").runner_name = Some(name.clone());
    }

    /// GitHub has this registration.
    pub(crate) fn put_runner(&self, scope: &Scope, runner: Runner) {
        self.state_mut().runners.push((key(scope), runner));
    }
}

fn key(scope: &Scope) -> String {
    scope.to_string().to_ascii_lowercase()
}

fn of_scope<'a>(state: &'a State, scope: &Scope) -> impl Iterator<Item = &'a Runner> {
    let scope = key(scope);
    state.runners.iter().filter(move |(own, _)| *own == scope).map(|(_, runner)| runner)
}

impl RegistryRead for Fake {
    async fn runners(&self, access: &Access) -> Result<Vec<Runner>, PortError> {
        self.call("RegistryRead::runners", |state| Ok(of_scope(state, &access.scope).cloned().collect())).await
    }

    async fn runner(&self, access: &Access, id: RunnerId) -> Result<Option<Runner>, PortError> {
        self.call("RegistryRead::runner", |state| Ok(of_scope(state, &access.scope).find(|r| r.id == id).cloned()))
            .await
    }

    async fn runner_named(&self, access: &Access, name: &RunnerName) -> Result<Option<Runner>, PortError> {
        self.call("RegistryRead::runner_named", |state| {
            Ok(of_scope(state, &access.scope).find(|runner| runner.name == *name).cloned())
        })
        .await
    }
}

impl Registry for Fake {
    async fn generate_jit_config(&self, access: &Access, request: &JitRequest) -> Result<Registered, PortError> {
        self.call_about("Registry::generate_jit_config", &access.scope.to_string(), |state| {
            state.jit_requests.push(request.clone());
            if of_scope(state, &access.scope).any(|runner| runner.name == request.name) {
                return Ok(Registered::NameTaken);
            }
            state.runners_made += 1;
            let runner_id = RunnerId(100 + state.runners_made);
            let runner = Runner {
                id: runner_id,
                name: request.name.clone(),
                online: false,
                busy: false,
                version: Some(None),
                ephemeral: Some(true),
            };
            state.runners.push((key(&access.scope), runner));
            Ok(Registered::Created { runner_id, config: JitConfig::new(format!("jit of {}", request.name)) })
        })
        .await
    }

    async fn deregister(&self, warrant: DeregistrationWarrant) -> Result<Deregistration, PortError> {
        self.call("Registry::deregister", |state| {
            let scope = key(&warrant.access().scope);
            let place = state.runners.iter().position(|(own, r)| *own == scope && r.id == warrant.runner_id());
            Ok(match place.map(|index| (index, state.runners[index].1.busy)) {
                None => Deregistration::Absent,
                Some((_, true)) => Deregistration::Busy,
                Some((index, false)) => {
                    state.runners.remove(index);
                    Deregistration::Deleted
                }
            })
        })
        .await
    }
}

/// Jobs in progress of the repository's runs in such a state; a job's run is in progress unless a test says otherwise.
fn in_progress(state: &State, repository: &Repository, wanted: impl Fn(&str) -> bool) -> Vec<JobReading> {
    let own = |job: &&JobReading| match state.repository_of_job.get(&job.id) {
        Some(own) => own == repository,
        None => repository.to_string() == "octo/hello",
    };
    let run = |job: &&JobReading| wanted(state.run_of_job.get(&job.id).copied().unwrap_or("in_progress"));
    let running = |job: &&JobReading| job.state == JobState::InProgress;
    state.jobs.values().filter(own).filter(run).filter(running).cloned().collect()
}

impl Jobs for Fake {
    async fn job(
        &self,
        repository: &Repository,
        _installation_id: Option<InstallationId>,
        id: JobId,
    ) -> Result<JobReading, PortError> {
        self.call_about("Jobs::job", &format!("{repository} {id}"), |state| {
            let absent = || PortError::new(format!("GET job {id} of {repository}"), Class::Absent, "404");
            state.jobs.get(&id).cloned().ok_or_else(absent)
        })
        .await
    }

    async fn jobs_in_progress(
        &self,
        repository: &Repository,
        _installation_id: Option<InstallationId>,
    ) -> Result<Vec<JobReading>, PortError> {
        self.call("Jobs::jobs_in_progress", |state| Ok(in_progress(state, repository, |run| run == "in_progress")))
            .await
    }

    async fn jobs_of_open_runs(
        &self,
        repository: &Repository,
        _installation_id: Option<InstallationId>,
    ) -> Result<Vec<JobReading>, PortError> {
        self.call("Jobs::jobs_of_open_runs", |state| Ok(in_progress(state, repository, |run| run != "completed"))).await
    }

    async fn repositories(&self, _access: &Access) -> Result<Vec<Repository>, PortError> {
        self.call("Jobs::repositories", |state| {
            let hello = Repository::try_from("octo/hello".to_owned()).expect("a full name");
            Ok(state.repositories.iter().cloned().chain([hello]).collect())
        })
        .await
    }
}

/// An answer, free where this process was shown the same before.
fn priced<T: std::fmt::Debug>(state: &mut State, request: String, value: T) -> Priced<T> {
    let text = format!("{value:?}");
    let charged = u32::from(state.shown.insert(request, text.clone()) != Some(text));
    Priced { value, charged }
}

impl JobSearch for Fake {
    async fn installations(&self) -> Result<Vec<Installation>, PortError> {
        self.call("JobSearch::installations", |state| Ok(state.installed.clone())).await
    }

    async fn repositories_of(&self, installation: &Installation) -> Result<Priced<Vec<Reached>>, PortError> {
        self.call("JobSearch::repositories_of", |state| {
            let hello = Repository::try_from("octo/hello".to_owned()).expect("a full name");
            let all: std::collections::BTreeSet<Repository> =
                state.repositories.iter().cloned().chain([hello]).collect();
            let of_owner: Vec<Reached> = all
                .into_iter()
                .filter(|one| one.owner().eq_ignore_ascii_case(&installation.owner))
                .map(|repository| Reached { repository, id: Some(11), owner_id: Some(12) })
                .collect();
            Ok(priced(state, format!("repositories of {}", installation.id), of_owner))
        })
        .await
    }

    async fn open_runs(
        &self,
        repository: &Repository,
        _installation_id: InstallationId,
    ) -> Result<Priced<Vec<RunId>>, PortError> {
        self.call("JobSearch::open_runs", |state| {
            if let Some(class) = state.unreadable.get(repository) {
                return Err(PortError::new(format!("GET runs of {repository}"), *class, "by the test"));
            }
            let of_run = |state: &State, wanted: JobState| -> Vec<RunId> {
                let open = state.details.iter().filter(|(_, job)| job.repository == *repository);
                let open = open.filter(|(id, _)| state.jobs.get(id).is_some_and(|job| job.state == wanted));
                open.map(|(_, job)| job.run_id).collect()
            };
            let (queued, running) = (of_run(state, JobState::Queued), of_run(state, JobState::InProgress));
            let queued = priced(state, format!("queued runs of {repository}"), queued);
            let running = priced(state, format!("running runs of {repository}"), running);
            let runs: std::collections::BTreeSet<RunId> = queued.value.into_iter().chain(running.value).collect();
            Ok(Priced { value: runs.into_iter().collect(), charged: queued.charged + running.charged })
        })
        .await
    }

    async fn jobs_of_run(
        &self,
        repository: &Repository,
        _installation_id: InstallationId,
        run_id: RunId,
    ) -> Result<Priced<Vec<OpenJob>>, PortError> {
        self.call("JobSearch::jobs_of_run", |state| {
            let of_run = state.details.iter().filter(|(_, job)| job.run_id == run_id && job.repository == *repository);
            let jobs: Vec<OpenJob> = of_run
                .filter_map(|(id, job)| {
                    let reading = state.jobs.get(id)?;
                    Some(OpenJob {
                        id: *id,
                        run_id,
                        run_attempt: 1,
                        state: reading.state,
                        labels: job.labels.clone(),
                        created_at: Some(job.created_at),
                        runner_id: reading.runner_id,
                        runner_name: job.runner_name.clone(),
                    })
                })
                .collect();
            Ok(priced(state, format!("jobs of run {run_id} of {repository}"), jobs))
        })
        .await
    }

    async fn budget(&self, _owner: &str) -> Option<ApiBudget> {
        self.state().budget
    }
}

impl Redelivery for Fake {
    async fn redeliver(&self, id: u64) -> Result<(), PortError> {
        self.call("Redelivery::redeliver", |state| {
            state.redelivered.push(id);
            Ok(())
        })
        .await
    }
}

/// Attempts on a page of the log, as at GitHub.
const PAGE: usize = 100;

impl DeliveryLog for Fake {
    fn log_kept(&self) -> Duration {
        Duration::from_hours(3 * 24)
    }

    async fn failed_deliveries_since(
        &self,
        since: Timestamp,
        from: Option<&LogPlace>,
    ) -> Result<FailedDeliveries, PortError> {
        self.call("DeliveryLog::failed_deliveries_since", |state| {
            let below = match from.map(|place| place.as_str().parse::<u64>()) {
                None => u64::MAX,
                Some(Ok(id)) if state.deliveries.iter().any(|(delivery, _)| delivery.id == id) => id,
                Some(_) => return Err(PortError::new("GET deliveries", Class::Rejected, "422 unknown cursor")),
            };
            let mut all: Vec<&Delivery> = state.deliveries.iter().map(|(delivery, _)| delivery).collect();
            all.sort_by_key(|delivery| std::cmp::Reverse((delivery.delivered_at, delivery.id)));
            let first = all.iter().position(|delivery| delivery.id == below).map_or(0, |place| place + 1);
            let page: Vec<&Delivery> = all.into_iter().skip(first).take(PAGE).collect();
            let older = |delivery: &&&Delivery| delivery.delivered_at >= since;
            let more = page.len() == PAGE && page.last().is_some_and(|last| last.delivered_at >= since);
            Ok(FailedDeliveries {
                deliveries: page.iter().filter(older).map(|delivery| (*delivery).clone()).collect(),
                next: page.last().filter(|_| more).map(|last| LogPlace::new(last.id.to_string())),
            })
        })
        .await
    }

    async fn installation_owner(&self, id: InstallationId) -> Result<Option<String>, PortError> {
        self.call("DeliveryLog::installation_owner", |state| Ok(state.installations.get(&id).cloned())).await
    }

    async fn delivery_payload(&self, id: u64) -> Result<String, PortError> {
        self.call("DeliveryLog::delivery_payload", |state| {
            let absent = || PortError::new(format!("GET delivery {id}"), Class::Absent, "404");
            let kept = |(own, _): &&(Delivery, String)| own.id == id && !state.payloads_gone.contains(&id);
            state.deliveries.iter().find(kept).map(|(_, payload)| payload.clone()).ok_or_else(absent)
        })
        .await
    }
}
