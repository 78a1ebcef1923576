//! The jobs API names a runner by id and by name. Ids may not be unique across an organisation and its repositories
//! (facts/github.md 5.5) and names are anybody's to give: both must agree before anything ends, and either can keep.

use super::fixtures::{Moment, acts, down, ends_and_leaves_nothing, minutes, put_job_that_waits, put_sign, swept};
use super::*;
use crate::verdict::Reason;

const OURS: Option<&str> = Some("runner-i-1");
const ANOTHER: Option<&str> = Some("another-7");

#[test]
fn a_job_that_started_here_has_ended_or_is_elsewhere_only_by_id_and_name() {
    use JobState::{Completed, InProgress, Queued};
    for (case, state, runner_id, name, reason) in [
        ("ended on our id, another's name", Completed, Some(7), ANOTHER, Reason::JobUnread),
        ("ended on our id, no name", Completed, Some(7), None, Reason::JobUnread),
        ("ended on another id, our name", Completed, Some(8), OURS, Reason::JobUnread),
        ("ended on another id, no name", Completed, Some(8), None, Reason::JobUnread),
        ("ended on our name alone", Completed, None, OURS, Reason::JobUnread),
        ("runs on another id, our name", InProgress, Some(8), OURS, Reason::JobUnread),
        ("runs on another id, no name", InProgress, Some(8), None, Reason::JobUnread),
        ("runs on our id, another's name", InProgress, Some(7), ANOTHER, Reason::JobUnread),
        ("runs on our id, no name", InProgress, Some(7), None, Reason::JobRunning),
        ("waits, assigned to our id, another's name", Queued, Some(7), ANOTHER, Reason::JobUnread),
        ("waits, assigned to another id, no name", Queued, Some(8), None, Reason::JobUnread),
    ] {
        let fake = Moment::BeforeDelete.reached();
        job_starts(&fake);
        jobs_api_names(&fake, 1, state, runner_id, name);
        for _ in 0..60 {
            fake.pass(MINUTE);
            down(&fake, &policy());
            let kept = swept(&fake, &policy()).kept;
            assert_eq!(kept.keys().collect::<Vec<_>>(), [&reason], "{case}");
        }
        assert_eq!(acts(&fake), 0, "{case}");
        let record = record_of(&fake);
        assert!(record.job_started.is_some() && record.elsewhere.is_none(), "{case}: {record:?}");
        jobs_api_names(&fake, 1, Completed, Some(7), OURS);
        let minutes = minutes_until_ended(&fake).expect(case);
        assert!((15..=18).contains(&minutes), "{case}: {minutes} min after both agree");
        assert_eq!(grounds(&fake), [Ground::JobCompleted], "{case}");
    }
}

/// Its owner was renamed since the launch, or a repository that is none of this scope has a runner of that id and name.
#[test]
fn a_job_that_started_under_another_scopes_name_can_only_keep() {
    let fake = Moment::BeforeDelete.reached();
    job_starts(&fake);
    edit(&fake, &id(), |record| {
        let started = record.job_started.as_mut().expect("it started");
        started.repository = Repository::try_from("octo-new/hello".to_owned()).expect("a full name");
    });
    jobs_api_names(&fake, 1, JobState::Completed, Some(7), OURS);
    minutes(&fake, &policy(), 60);
    assert_eq!(acts(&fake), 0, "its end there is not the end of what may run here");
    assert!(swept(&fake, &policy()).kept.contains_key(&Reason::JobUnread));
    jobs_api_names(&fake, 1, JobState::Completed, Some(8), ANOTHER);
    ends_and_leaves_nothing(&fake, "it ran elsewhere");
}

/// Where the re-check asks of every job that waits.
#[test]
fn a_waiting_job_that_half_names_our_runner_keeps_it_and_is_not_bound_to_it_against_its_name() {
    use JobState::{InProgress, Queued};
    for (case, state, runner_id, name, bound) in [
        ("our id, another's name", InProgress, Some(7), ANOTHER, false),
        ("assigned to our id, another's name", Queued, Some(7), ANOTHER, false),
        ("another id, our name", InProgress, Some(8), OURS, false),
        ("our id, no name", InProgress, Some(7), None, true),
    ] {
        for moment in Moment::ALL {
            let fake = moment.reached();
            let before = acts(&fake);
            put_job_that_waits(&fake, state, None);
            jobs_api_names(&fake, 1, state, runner_id, name);
            minutes(&fake, &policy(), 60);
            assert_eq!(acts(&fake), before, "{case}, {moment:?}: kept");
            assert_eq!(record_of(&fake).job_started.is_some(), bound, "{case}, {moment:?}: sticky");
            // The same runner ends it; of a doubt nothing is left, and what was bound waits for both to agree.
            jobs_api_names(&fake, 1, JobState::Completed, runner_id, name);
            if bound {
                minutes(&fake, &policy(), 60);
                assert_eq!(acts(&fake), before, "{case}, {moment:?}: an id alone ends nothing");
                jobs_api_names(&fake, 1, JobState::Completed, Some(7), OURS);
            }
            ends_and_leaves_nothing(&fake, &format!("{case}, {moment:?}"));
        }
    }
}

/// Within a scope an id is one runner's.
#[test]
fn a_waiting_job_of_another_id_and_no_name_holds_nobody() {
    for moment in Moment::ALL {
        let fake = moment.reached();
        put_job_that_waits(&fake, JobState::InProgress, None);
        jobs_api_names(&fake, 1, JobState::InProgress, Some(8), None);
        ends_and_leaves_nothing(&fake, &format!("{moment:?}"));
    }
}

/// Where only the jobs in progress can tell, as the registration went without us.
#[test]
fn a_job_in_progress_that_half_names_our_runner_keeps_it() {
    for (case, runner_id, name, bound) in [
        ("our id, another's name", 7, ANOTHER, false),
        ("another id, our name", 8, OURS, false),
        ("our id, no name", 7, None, true),
    ] {
        let fake = Fake::new();
        idle_runner(&fake);
        fake.state_mut().runners.clear();
        jobs_api_names(&fake, 1, JobState::InProgress, Some(runner_id), name);
        minutes(&fake, &policy(), 120);
        assert!(grounds(&fake).is_empty(), "{case}: {:?}", record_of(&fake));
        assert_eq!(record_of(&fake).job_started.is_some(), bound, "{case}: sticky");
        jobs_api_says(&fake, 1, JobState::InProgress, Some(8));
        assert!(minutes_until_ended(&fake).is_some(), "{case}: it runs elsewhere, by id and by name");
    }
}

/// A repository's runner has our runner's id. What ended on it is read while ours is silent and idle, and must not end
/// the job that ours has taken meanwhile, nor open a record whose own job is over.
#[test]
fn a_job_that_ended_on_a_runner_of_our_id_and_another_name_is_not_ours() {
    let fake = Moment::BeforeDelete.reached();
    put_job_that_waits(&fake, JobState::Completed, None);
    jobs_api_names(&fake, 1, JobState::Completed, Some(7), ANOTHER);
    down(&fake, &policy());
    let record = record_of(&fake);
    assert_eq!((record.job_started, record.job_completed, acts(&fake)), (None, None, 0), "kept in this pass, unbound");
    put_sign(&fake, Worker::Running, MINUTE);
    minutes(&fake, &policy(), 60);
    assert_eq!(acts(&fake), 0, "a job runs");
    fake.state_mut().vital_signs.clear();
    ends_and_leaves_nothing(&fake, "the foreign job holds nobody once it is over");
}
