//! What follows from an event: a pure decision. Trusts nothing but the event and the policy.

use super::event::{Event, JobAction, JobEvent};
use crate::config::Policy;
use crate::ids::RepositoryIds;
use crate::ledger::MissRecord;
use crate::scale_up::{JobMessage, select, select_fleet};
use crate::time::Timestamp;

/// What to do with one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// A runner may be needed: to the queue.
    Enqueue(JobMessage),
    /// A job started or ended: to the ledger.
    Record(Box<JobEvent>),
    /// A job is queued that no fleet takes: to the ledger, for whoever asks where its runner is.
    Miss(Box<MissRecord>),
    /// Answered with 2xx and forgotten.
    Ignore(Ignored),
}

/// Why nothing follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// GitHub's greeting.
    Ping,
    /// Another kind of event.
    OtherEvent,
    /// An action that calls for nothing: `waiting` and those we do not know.
    OtherAction,
    /// The job names no label, so no fleet can be meant.
    NoLabels,
    /// No fleet takes these labels, the job is not queued any more, and no instance of ours ran it.
    NoFleet,
    /// The repository or its owner is on none of the lists, by name or by id, and no instance of ours ran the job.
    NotServed,
}

/// Decides what follows from an event.
///
/// A job's `status` is not asked: `queued.with-deployment` says action `queued` and status `waiting` (octokit/webhooks
/// 3a58428), and scale-up asks the jobs API before it launches anything.
/// What ran on an instance of ours is recorded whatever the policy says by now: it is evidence that keeps the instance.
#[must_use]
pub fn route(event: Event, policy: &Policy, now: Timestamp) -> Route {
    let event = match event {
        Event::Ping => return Route::Ignore(Ignored::Ping),
        Event::Other => return Route::Ignore(Ignored::OtherEvent),
        Event::Job(event) => event,
    };
    let served = is_served(&event, policy);
    let ran_here = event.runner_name.as_ref().is_some_and(|name| name.instance_id().is_some());
    match (event.action, served) {
        (JobAction::Waiting | JobAction::Other, _) => Route::Ignore(Ignored::OtherAction),
        (JobAction::Queued, Ok(())) => Route::Enqueue(message(*event, now)),
        (JobAction::InProgress | JobAction::Completed, _) if ran_here => Route::Record(event),
        // A job cancelled early completes without labels (actions-runner-controller issues 1370 and 2520), and it may
        // be one that we are launching for.
        (JobAction::InProgress | JobAction::Completed, Ok(()) | Err(Ignored::NoLabels)) => Route::Record(event),
        (JobAction::Queued, Err(Ignored::NoFleet)) => miss(*event, policy, now),
        (JobAction::Queued | JobAction::InProgress | JobAction::Completed, Err(why)) => Route::Ignore(why),
    }
}

fn is_served(event: &JobEvent, policy: &Policy) -> Result<(), Ignored> {
    let served = policy.serves(&event.repository) && policy.ids.admit(event.owner_id, event.repository_id);
    match (served, event.labels.is_empty(), select_fleet(policy, &event.labels)) {
        (false, _, _) => Err(Ignored::NotServed),
        (true, true, _) => Err(Ignored::NoLabels),
        (true, false, None) => Err(Ignored::NoFleet),
        (true, false, Some(_)) => Ok(()),
    }
}

fn miss(event: JobEvent, policy: &Policy, now: Timestamp) -> Route {
    let message = message(event, now);
    match select(policy, &message.labels) {
        Ok(_) => Route::Enqueue(message),
        Err(miss) => Route::Miss(Box::new(miss.record(&message, now))),
    }
}

fn message(event: JobEvent, now: Timestamp) -> JobMessage {
    let ids = RepositoryIds { owner: event.owner_id, repository: event.repository_id };
    JobMessage {
        job_id: event.job_id,
        run_id: event.run_id,
        run_attempt: event.run_attempt,
        repository: event.repository,
        organization: event.organization,
        installation_id: event.installation_id,
        labels: event.labels,
        queued_at: event.created_at.unwrap_or(now),
        look_at: None,
        ids,
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::tests::{
        FAILURE, IN_PROGRESS, IN_PROGRESS_STEPS, QUEUED, QUEUED_WITH_DEPLOYMENT, SUCCESS, WAITING, job,
    };
    use super::*;
    use crate::config::{Glob, Matching};
    use crate::fake::{fleet, policy};
    use crate::ids::RunnerName;

    fn policy_of(labels: &[&str], repositories: &str) -> Policy {
        let mut policy = policy();
        policy.repositories = vec![Glob::new(repositories)];
        policy.fleets = vec![fleet("linux")];
        policy.fleets[0].labels = labels.iter().map(ToString::to_string).collect();
        policy
    }

    fn name_of(route: &Route) -> String {
        match route {
            Route::Enqueue(message) => format!("enqueue {}", message.job_id),
            Route::Record(event) => format!("record {}", event.job_id),
            Route::Miss(record) => format!("miss {}: {}", record.job_id, record.miss),
            Route::Ignore(why) => format!("ignore {why:?}"),
        }
    }

    #[test]
    fn the_real_payloads_go_where_they_belong() {
        let hosted = policy_of(&["ubuntu-latest"], "*");
        let k8s = policy_of(&["k8s", "self-hosted"], "*");
        let elsewhere = policy_of(&["ubuntu-latest"], "other/*");
        for (case, body, policy, expected) in [
            ("queued", QUEUED, &hosted, "enqueue 289782451"),
            (
                "queued, labels of no fleet",
                QUEUED,
                &k8s,
                r#"miss 289782451: no fleet has any of its labels ["ubuntu-latest"]"#,
            ),
            ("queued, a repository not served", QUEUED, &elsewhere, "ignore NotServed"),
            ("queued, though its status is waiting", QUEUED_WITH_DEPLOYMENT, &k8s, "enqueue 12877621891"),
            ("waiting", WAITING, &k8s, "ignore OtherAction"),
            ("in progress", IN_PROGRESS, &hosted, "record 289782451"),
            ("in progress on a GitHub-hosted runner", IN_PROGRESS_STEPS, &k8s, "ignore NoFleet"),
            ("success", SUCCESS, &hosted, "record 289782451"),
            ("failure elsewhere", FAILURE, &elsewhere, "ignore NotServed"),
        ] {
            let route = route(Event::Job(Box::new(job(body))), policy, Timestamp(1));
            assert_eq!(name_of(&route), expected, "{case}");
        }
        assert_eq!(route(Event::Ping, &hosted, Timestamp(1)), Route::Ignore(Ignored::Ping));
        assert_eq!(route(Event::Other, &hosted, Timestamp(1)), Route::Ignore(Ignored::OtherEvent));
    }

    #[test]
    fn what_is_queued_carries_the_ids_by_which_its_owner_may_be_taken_from_a_list_later() {
        let hosted = policy_of(&["ubuntu-latest"], "*");
        let Route::Enqueue(message) = route(Event::Job(Box::new(job(QUEUED))), &hosted, Timestamp(1)) else {
            panic!("to the queue");
        };
        assert_eq!((message.ids.owner, message.ids.repository), (Some(38_302_899), Some(186_853_002)));
        let mut older = serde_json::to_value(&message).expect("plain data");
        older.as_object_mut().expect("an object").remove("ids");
        let read: JobMessage = serde_json::from_value(older).expect("a version before ids were kept is read");
        assert_eq!(read.ids, RepositoryIds::default());
    }

    type Case = (&'static str, fn(&mut Policy), &'static str);

    #[test]
    fn a_repository_is_served_only_where_every_list_that_is_given_names_it() {
        // The example: Codertocat/Hello-World, repository 186853002, owner 38302899.
        let lists = |change: fn(&mut Policy)| {
            let mut policy = policy_of(&["ubuntu-latest"], "codertocat/*");
            change(&mut policy);
            name_of(&route(Event::Job(Box::new(job(QUEUED))), &policy, Timestamp(1)))
        };
        let one = |id| Some([id].into());
        let changes: [Case; 7] = [
            ("by name alone", |_| {}, "enqueue 289782451"),
            ("another owner", |p| p.owners = vec![Glob::new("octo")], "ignore NotServed"),
            ("its owner, other case", |p| p.owners = vec![Glob::new("CODERTOCAT")], "enqueue 289782451"),
            ("its owner's id", |p| p.ids.owners = Some([38_302_899].into()), "enqueue 289782451"),
            ("a login that somebody else took over", |p| p.ids.owners = Some([1].into()), "ignore NotServed"),
            ("its id", |p| p.ids.repositories = Some([1, 186_853_002].into()), "enqueue 289782451"),
            ("a repository made anew under its name", |p| p.ids.repositories = Some([1].into()), "ignore NotServed"),
        ];
        for (case, change, expected) in changes {
            assert_eq!(lists(change), expected, "{case}");
        }
        let mut policy = policy_of(&["ubuntu-latest"], "*");
        (policy.ids.owners, policy.ids.repositories) = (one(38_302_899), one(186_853_002));
        let mut nameless = job(QUEUED);
        nameless.repository_id = None;
        assert_eq!(name_of(&route(Event::Job(Box::new(nameless)), &policy, Timestamp(1))), "ignore NotServed", "no id");
    }

    #[test]
    fn what_ran_on_our_instance_is_recorded_whatever_the_policy_says() {
        let elsewhere = policy_of(&["gpu"], "other/*");
        for action in [JobAction::InProgress, JobAction::Completed] {
            let mut event = job(IN_PROGRESS);
            event.action = action;
            event.runner_name = Some(RunnerName::new("old-prefix-i-0abc"));
            assert!(matches!(route(Event::Job(Box::new(event)), &elsewhere, Timestamp(1)), Route::Record(_)));
        }
    }

    #[test]
    fn a_job_without_labels_is_never_launched_for_but_its_end_is_recorded() {
        let mut subset = policy_of(&["a"], "*");
        subset.fleets[0].matching = Matching::Subset;
        for (action, expected) in [(JobAction::Queued, "ignore NoLabels"), (JobAction::Completed, "record 289782451")] {
            let mut event = job(QUEUED);
            event.action = action;
            event.labels.clear();
            event.runner_name = None;
            assert_eq!(name_of(&route(Event::Job(Box::new(event)), &subset, Timestamp(1))), expected);
        }
    }
}
