//! GitHub's registrations, jobs and deliveries.

use super::{Fake, State};
use crate::error::{Class, PortError};
use crate::ids::{Access, InstallationId, JobId, Repository, RunnerId, RunnerName, Scope};
use crate::ports::{
    Delivery, DeliveryLog, Deregistration, JitConfig, JitRequest, JobReading, JobState, Jobs, Registered, Registry,
    RegistryRead, Runner,
};
use crate::removal::DeregistrationWarrant;
use crate::time::Timestamp;

impl Fake {
    /// GitHub has this job in that state.
    pub(crate) fn put_job(&self, id: JobId, job: JobState) {
        let reading = JobReading { id, state: job, runner_id: None, completed_at: None };
        self.state_mut().jobs.insert(id, reading);
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
        self.call("Jobs::jobs_in_progress", |state| {
            let of_repository = |job: &&JobReading| {
                state
                    .repository_of_job
                    .get(&job.id)
                    .map_or(repository.to_string() == "octo/hello", |own| own == repository)
            };
            let running = |job: &&JobReading| job.state == JobState::InProgress;
            Ok(state.jobs.values().filter(of_repository).filter(running).cloned().collect())
        })
        .await
    }

    async fn repositories(&self, _access: &Access) -> Result<Vec<Repository>, PortError> {
        self.call("Jobs::repositories", |state| {
            let hello = Repository::try_from("octo/hello".to_owned()).expect("a full name");
            Ok(state.repositories.iter().cloned().chain([hello]).collect())
        })
        .await
    }
}

impl DeliveryLog for Fake {
    async fn failed_deliveries_since(&self, since: Timestamp) -> Result<Vec<Delivery>, PortError> {
        self.call("DeliveryLog::failed_deliveries_since", |state| {
            let recent = |delivery: &&Delivery| delivery.delivered_at >= since;
            let mut deliveries: Vec<Delivery> =
                state.deliveries.iter().map(|(delivery, _)| delivery).filter(recent).cloned().collect();
            deliveries.sort_by_key(|delivery| std::cmp::Reverse(delivery.delivered_at));
            Ok(deliveries)
        })
        .await
    }

    async fn delivery_payload(&self, id: u64) -> Result<String, PortError> {
        self.call("DeliveryLog::delivery_payload", |state| {
            let absent = || PortError::new(format!("GET delivery {id}"), Class::Absent, "404");
            state.deliveries.iter().find(|(own, _)| own.id == id).map(|(_, payload)| payload.clone()).ok_or_else(absent)
        })
        .await
    }
}
