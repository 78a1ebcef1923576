//! What follows from what a search found: a start that nobody told us of is written down, and a job that nobody serves
//! is sent to scale-up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tracing::{info, warn};

use super::facts::Facts;
use super::plan::{self, Capacity, Wanted};
use super::report::Report;
use super::{DemandPorts, SENDS_AT_ONCE};
use crate::config::{Fleet, Overrides, Policy};
use crate::error::PortError;
use crate::ids::{Access, JobId, Repository, RepositoryIds};
use crate::ledger::{self, JobPhase, JobRecord, Stored};
use crate::ports::{AccountKind, Installation, JobState, OpenJob, Reached};
use crate::scale_up::plan::access_of;
use crate::scale_up::{JobMessage, Selected, select, select_fleet};
use crate::time::Timestamp;
use crate::webhook::{self, JobAction, JobEvent};

/// What the search of one pass found.
pub(super) struct Found {
    /// Begin of the reading.
    read_at: Timestamp,
    jobs: BTreeMap<JobId, (Installation, Reached, OpenJob)>,
    /// Repositories that were read whole: a job of theirs that was not found does not wait.
    whole: Names,
}

impl Found {
    pub(super) fn new(read_at: Timestamp) -> Self {
        Self { read_at, jobs: BTreeMap::new(), whole: Names::default() }
    }

    pub(super) fn add(&mut self, installation: &Installation, reached: &Reached, jobs: Vec<OpenJob>, whole: bool) {
        if whole {
            self.whole.insert(&reached.repository);
        }
        for job in jobs {
            self.jobs.insert(job.id, (installation.clone(), reached.clone(), job));
        }
    }
}

/// Repositories by name, without case.
#[derive(Debug, Default)]
struct Names(BTreeSet<String>);

impl Names {
    fn insert(&mut self, repository: &Repository) {
        self.0.insert(repository.to_string().to_ascii_lowercase());
    }

    fn contains(&self, repository: &Repository) -> bool {
        self.0.contains(&repository.to_string().to_ascii_lowercase())
    }
}

/// Jobs of one fleet that ask for the same beyond it, and whose runners register in one scope.
struct Group<'a> {
    fleet: &'a Fleet,
    /// What they ask beyond it, all the same.
    overrides: Overrides,
    access: Access,
    jobs: Vec<Wanted>,
    messages: BTreeMap<JobId, JobMessage>,
    /// Instances of the last minutes of which no job is known, and whose own job GitHub shows no more: it was served.
    served: usize,
}

/// Serves what was found. Whether all of it was: what was not has to be found once more. `just_sent` were sent to the
/// queue earlier in this pass.
pub(super) async fn serve<P: DemandPorts>(
    ports: &P,
    policy: &Policy,
    found: &Found,
    just_sent: &BTreeSet<JobId>,
    report: &mut Report,
) -> bool {
    let errors = report.error_count;
    match try_serve(ports, policy, found, just_sent, report).await {
        // A start that cannot be noted, such as on a record of another schema, is found again by the next search, and
        // without vital signs jobs are served all the same: looked for at once, all owners' searches would begin anew in
        // every pass, for as long as the cause stays.
        Ok(harmless) => report.error_count == errors + harmless,
        Err(error) => {
            report.error(error);
            false
        }
    }
}

/// Returns how many of the errors that it met leave no job unserved.
async fn try_serve<P: DemandPorts>(
    ports: &P,
    policy: &Policy,
    found: &Found,
    just_sent: &BTreeSet<JobId>,
    report: &mut Report,
) -> Result<u32, PortError> {
    let ours = |(_, reached, job): &&(Installation, Reached, OpenJob)| {
        policy.serves(&reached.repository) && select_fleet(policy, &job.labels).is_some() || ran_here(job)
    };
    let jobs: Vec<&(Installation, Reached, OpenJob)> = found.jobs.values().filter(ours).collect();
    if jobs.is_empty() {
        return Ok(0);
    }
    let ids = jobs.iter().map(|(_, _, job)| job.id.to_string());
    let mut records: BTreeMap<JobId, Stored<JobRecord>> = BTreeMap::new();
    for ((_, _, job), (_, stored)) in jobs.iter().zip(ledger::load_all::<JobRecord>(ports, ids).await?) {
        records.insert(job.id, stored);
    }
    let errors = report.error_count;
    // First: an instance that has a job is no capacity for another.
    for (installation, reached, job) in jobs.iter().filter(|(_, _, job)| job.state == JobState::InProgress) {
        if records.get(&job.id).is_none_or(|stored| is_news(stored, job)) {
            note_start(ports, installation, reached, job, report).await;
        }
    }
    let unnoted = report.error_count - errors;
    let queued: Vec<_> = jobs.into_iter().filter(|(_, _, job)| job.state == JobState::Queued).collect();
    if queued.is_empty() {
        return Ok(unnoted);
    }
    let facts = Facts::read(ports, policy, report).await?;
    let harmless = report.error_count - errors;
    for group in groups(ports, policy, found, &facts, &queued, &mut records, report).await {
        let scope = &group.access.scope;
        let now = found.read_at;
        // What was launched for jobs that ask for nothing beyond the fleet cannot take one that does.
        let plain = group.overrides == Overrides::default();
        let mut capacity = if plain { facts.capacity(&group.fleet.name, scope) } else { Capacity::default() };
        capacity.barren = capacity.barren.saturating_sub(group.served);
        let chosen = plan::chosen(&group.jobs, capacity, policy.search.idle_trust, now);
        let messages = chosen.into_iter().filter(|job_id| !just_sent.contains(job_id));
        let messages = messages.filter_map(|job_id| group.messages.get(&job_id));
        let sends = messages.map(|message| async move { (message.job_id, ports.send(message, Duration::ZERO).await) });
        let sent: Vec<_> = stream::iter(sends).buffered(SENDS_AT_ONCE).collect().await;
        for (job_id, sent) in sent {
            match sent {
                Ok(()) => {
                    info!(job_id = %job_id, fleet = %group.fleet.name, "job {job_id} was found waiting and sent");
                    report.sent_count += 1;
                }
                Err(error) => {
                    warn!(job_id = %job_id, error = %error, class = ?error.class, "could not send job {job_id}: {error}");
                    report.error(error);
                }
            }
        }
    }
    Ok(harmless)
}

fn ran_here(job: &OpenJob) -> bool {
    job.state == JobState::InProgress && job.runner_name.as_ref().is_some_and(|name| name.instance_id().is_some())
}

/// Whether the ledger does not know that the job runs, or not where.
fn is_news(stored: &Stored<JobRecord>, job: &OpenJob) -> bool {
    match stored {
        Stored::Absent => true,
        Stored::Present(record) => match record.record.phase {
            JobPhase::Queued | JobPhase::Launching { .. } | JobPhase::Launched { .. } => true,
            JobPhase::Started { .. } => record.record.runner_id.is_none() && job.runner_id.is_some(),
            JobPhase::Completed { .. } => false,
        },
        Stored::Foreign => false,
    }
}

/// Writes down that a job runs, as its `in_progress` event would have.
async fn note_start<P: DemandPorts>(
    ports: &P,
    installation: &Installation,
    reached: &Reached,
    job: &OpenJob,
    report: &mut Report,
) {
    let event = JobEvent {
        action: JobAction::InProgress,
        job_id: job.id,
        run_id: job.run_id,
        run_attempt: job.run_attempt,
        conclusion: None,
        labels: job.labels.clone(),
        runner_id: job.runner_id,
        runner_name: job.runner_name.clone(),
        repository: reached.repository.clone(),
        owner_id: reached.owner_id,
        repository_id: reached.id,
        organization: organization(installation),
        installation_id: Some(installation.id),
        created_at: job.created_at,
    };
    match webhook::apply_job_event(ports, &event, ports.now()).await {
        Ok(_) => report.started_count += 1,
        Err(error) => report.error(error),
    }
}

fn organization(installation: &Installation) -> Option<String> {
    match installation.kind {
        AccountKind::Organization => Some(installation.owner.clone()),
        AccountKind::User => None,
    }
}

/// The queued jobs by fleet and scope, with those that only the ledger knows to wait there.
async fn groups<'a, P: DemandPorts>(
    ports: &P,
    policy: &'a Policy,
    found: &Found,
    facts: &Facts,
    queued: &[&(Installation, Reached, OpenJob)],
    records: &mut BTreeMap<JobId, Stored<JobRecord>>,
    report: &mut Report,
) -> Vec<Group<'a>> {
    let now = found.read_at;
    let mut groups: Vec<Group<'a>> = Vec::new();
    for (installation, reached, job) in queued {
        let Some(Selected { fleet, overrides }) =
            select(policy, &job.labels).ok().filter(|_| policy.serves(&reached.repository))
        else {
            continue;
        };
        report.found_count += 1;
        let record = match queued_again(ports, records.remove(&job.id), found.read_at).await {
            Ok(record) => record,
            Err(error) => {
                report.error(error);
                continue;
            }
        };
        let queued_at = job.created_at.unwrap_or(now.minus(policy.search.job_age));
        let message = message(installation, reached, job, queued_at);
        let access = access_of(fleet, &message);
        let wanted = Wanted {
            job_id: job.id,
            queued_at,
            standing: match &record {
                Known::Record(record) if record.as_ref().is_some_and(|record| has_moved(record, &access)) => {
                    plan::Standing::Unserved
                }
                Known::Record(record) => plan::standing(record.as_deref(), |token| facts.launch_is_free(token), now),
                Known::Foreign => plan::Standing::Waits,
            },
            confirmed: now.since(queued_at) >= policy.search.job_age,
        };
        if wanted.confirmed && wanted.standing != plan::Standing::Claims {
            let age = now.since(queued_at).as_secs();
            report.oldest_unserved_seconds = report.oldest_unserved_seconds.max(Some(age));
        }
        let scope = access.scope.clone();
        let here = |group: &Group<'_>| {
            group.fleet.name == fleet.name && group.overrides == overrides && group.access.scope.agrees_with(&scope)
        };
        let place = groups.iter().position(here).unwrap_or_else(|| {
            groups.push(Group { fleet, overrides, access, jobs: Vec::new(), messages: BTreeMap::new(), served: 0 });
            groups.len() - 1
        });
        let Some(group) = groups.get_mut(place) else { continue };
        group.jobs.push(wanted);
        group.messages.insert(job.id, message);
    }
    for group in groups.iter_mut().filter(|group| group.overrides == Overrides::default()) {
        // A repository that was read whole would have shown it, unless it was queued a moment ago.
        let may_wait = |job: &&JobRecord| {
            !found.jobs.contains_key(&job.job_id)
                && (!found.whole.contains(&job.repository) || now.since(job.queued_at) < policy.search.job_age)
        };
        let on_record_here = || facts.waiting(&group.fleet.name, &group.access.scope);
        let was_served = |job: &&JobRecord| match &job.phase {
            JobPhase::Launched { token } => {
                !found.jobs.contains_key(&job.job_id) && !may_wait(job) && facts.launch_is_barren(token)
            }
            JobPhase::Queued | JobPhase::Launching { .. } | JobPhase::Started { .. } | JobPhase::Completed { .. } => {
                false
            }
        };
        group.served = on_record_here().filter(was_served).count();
        let only_on_record = on_record_here().filter(may_wait);
        group.jobs.extend(only_on_record.map(|job| on_record(job, facts, now)));
    }
    groups
}

/// Whether a job waits on record for a runner elsewhere than its runners register by now: its repository or owner was
/// renamed or went to another owner, or its fleet registers elsewhere. What is launched for it by its record may be refused for
/// ever, so it is sent with today's names.
fn has_moved(record: &JobRecord, access: &Access) -> bool {
    record.phase == JobPhase::Queued && !record.access.scope.agrees_with(&access.scope)
}

/// A job that only the ledger knows to wait.
pub(super) fn on_record(job: &JobRecord, facts: &Facts, now: Timestamp) -> Wanted {
    Wanted {
        job_id: job.job_id,
        queued_at: job.queued_at,
        standing: plan::standing(Some(job), |token| facts.launch_is_free(token), now),
        confirmed: false,
    }
}

enum Known {
    Record(Option<Box<JobRecord>>),
    Foreign,
}

/// The job's record, which learns that GitHub has it queued again if it was said to have started long ago.
async fn queued_again<P: DemandPorts>(
    ports: &P,
    stored: Option<Stored<JobRecord>>,
    read_at: Timestamp,
) -> Result<Known, PortError> {
    let record = match stored {
        Some(Stored::Present(record)) => record,
        Some(Stored::Foreign) => return Ok(Known::Foreign),
        Some(Stored::Absent) | None => return Ok(Known::Record(None)),
    };
    if !matches!(record.record.phase, JobPhase::Started { .. }) {
        return Ok(Known::Record(Some(Box::new(record.record))));
    }
    let id = record.record.job_id.to_string();
    let mut known = record.record;
    let changed = ledger::update::<JobRecord>(ports, &id, |stored| match stored {
        Stored::Present(mut job) => job.record.note_queued_again(read_at).then_some(job),
        Stored::Absent | Stored::Foreign => None,
    });
    if let Some(changed) = changed.await? {
        warn!(job_id = %id, "GitHub has job {id} queued again: its runner did not pick it up");
        known = changed.record;
    }
    Ok(Known::Record(Some(Box::new(known))))
}

fn message(installation: &Installation, reached: &Reached, job: &OpenJob, queued_at: Timestamp) -> JobMessage {
    JobMessage {
        job_id: job.id,
        run_id: job.run_id,
        run_attempt: job.run_attempt,
        repository: reached.repository.clone(),
        organization: organization(installation),
        installation_id: Some(installation.id),
        labels: job.labels.clone(),
        queued_at,
        look_at: None,
        ids: RepositoryIds { owner: reached.owner_id.or(installation.owner_id), repository: reached.id },
    }
}
