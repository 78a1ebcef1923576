//! Jobs that a runner could have been given: which are asked about, and of which the answer is.

use super::*;
use crate::ledger::Record;
use crate::ports::Item;

#[test]
fn jobs_of_a_fleet_that_is_gone_are_asked() {
    let fake = Fake::new();
    idle_runner(&fake);
    let mut p = policy();
    p.fleets = vec![crate::fake::fleet("gpu")];
    fake.put(&waiting_job(fake.now()));
    jobs_api_says(&fake, 1, JobState::InProgress, Some(7));
    for _ in 0..60 {
        tick(&fake, &p);
    }
    assert!(
        fake.state().runners.len() == 1 && grounds(&fake).is_empty(),
        "fleet removed from the configuration: deregistered={} ended={:?} jobs asked={}",
        fake.state().runners.is_empty(),
        grounds(&fake),
        fake.calls_of("Jobs::job")
    );
}

#[test]
fn unread_jobs_of_a_fleet_that_is_gone_keep() {
    let fake = Fake::new();
    idle_runner(&fake);
    let mut p = policy();
    p.fleets = vec![crate::fake::fleet("gpu")];
    fake.always_fail("Ledger::open", Class::Transient);
    for _ in 0..60 {
        tick(&fake, &p);
    }
    assert!(
        fake.state().runners.len() == 1 && grounds(&fake).is_empty(),
        "waiting jobs unread: deregistered={} ended={:?}",
        fake.state().runners.is_empty(),
        grounds(&fake)
    );
}

#[test]
fn a_start_without_runner_fields_is_asked() {
    let fake = Fake::new();
    idle_runner(&fake);
    let mut job = waiting_job(fake.now());
    job.phase = JobPhase::Started { at: fake.now() };
    fake.put(&job);
    jobs_api_says(&fake, 1, JobState::InProgress, Some(7));
    assert_eq!(minutes_until_ended(&fake), None, "jobs asked: {}", fake.calls_of("Jobs::job"));
}

#[test]
fn a_job_queued_and_assigned_during_the_pass_is_asked() {
    // Each pass: right after the waiting jobs were read (3rd call) the job is queued and assigned to runner 7.
    let fake = Fake::new();
    idle_runner(&fake);
    for _ in 0..40 {
        fake.pass(MINUTE);
        let opened = fake.calls_of("Ledger::open");
        for call in fake.calls() + 1..fake.calls() + 8 {
            fake.meanwhile(call, move |fake| {
                if fake.calls_of("Ledger::open") > opened {
                    fake.put(&waiting_job(fake.now()));
                    jobs_api_says(fake, 1, JobState::InProgress, Some(7));
                }
            });
        }
        let armed = fake.get::<InstanceRecord>("i-1").is_some_and(|r| {
            r.idle_since.is_some_and(|at| fake.now().since(at) >= 5 * MINUTE)
                && r.drain_requested_at.is_some_and(|at| fake.now().since(at) >= 5 * MINUTE)
        });
        if !armed {
            fake.heal();
            for c in 0..9999 {
                fake.meanwhile(c, |_| {});
            }
        }
        let _ = scale_down(&fake, &policy());
        if armed {
            break;
        }
    }
    assert!(fake.state().jobs.len() == 1, "scenario reached");
    assert_eq!(
        fake.state().runners.len(),
        1,
        "deregistered although jobs API and ledger knew the job before the re-check; Jobs::job asked {}",
        fake.calls_of("Jobs::job")
    );
}

#[test]
fn a_start_without_runner_of_a_job_never_seen_before_is_asked() {
    let fake = Fake::new();
    idle_runner(&fake);
    let payload = serde_json::json!({"action":"in_progress","workflow_job":{"id":1,"run_id":2,"labels":["self-hosted","linux"],"runner_id":null,"runner_name":null},
        "repository":{"full_name":"octo/hello","owner":{"login":"octo","type":"Organization"}}}).to_string();
    let crate::webhook::Event::Job(event) = crate::webhook::parse(Some("workflow_job"), payload.as_bytes()).unwrap()
    else {
        panic!()
    };
    run(crate::webhook::apply_job_event(&fake, &event, fake.now())).unwrap().unwrap();
    jobs_api_says(&fake, 1, JobState::InProgress, Some(7));
    assert_eq!(
        minutes_until_ended(&fake),
        None,
        "jobs API asked {} times; grounds {:?}",
        fake.calls_of("Jobs::job"),
        grounds(&fake)
    );
}

#[test]
fn a_job_that_another_runners_recheck_found_here_keeps_this_instance() {
    for here_first in [false, true] {
        let fake = Fake::new();
        idle_runner(&fake);
        // i-2, runner 8
        let two = InstanceId::new("i-2");
        put_instance(&fake, &two);
        let mut r = record(&fake);
        r.instance_id = two.clone();
        r.runner_name = RunnerName::new("runner-i-2");
        r.runner_id = Some(RunnerId(8));
        fake.put(&r);
        let mut g = runner();
        g.id = RunnerId(8);
        g.name = RunnerName::new("runner-i-2");
        fake.put_runner(&access().scope, g);
        if here_first {
            fake.put(&waiting_job(fake.now().minus(HOUR)));
            jobs_api_says(&fake, 1, JobState::InProgress, Some(7));
        } else {
            // i-1's supervisor was heard of until its job had begun
            for _ in 0..25 {
                let now = fake.now();
                fake.state_mut().vital_signs.insert(id(), VitalSign { beat_at: now, worker: Worker::None });
                if fake.get::<JobRecord>("1").is_none() {
                    fake.put(&waiting_job(fake.now().minus(HOUR)));
                    jobs_api_says(&fake, 1, JobState::InProgress, Some(7));
                }
                tick(&fake, &policy());
            }
        }
        for _ in 0..120 {
            tick(&fake, &policy());
        }
        let ended: Vec<_> = fake.state().terminated.iter().map(|(i, g)| (i.clone(), *g)).collect();
        assert!(
            !ended.iter().any(|(i, _)| *i == id()),
            "ended i-1, on whose runner the ledger's own job record says job 1 runs: {:?}",
            fake.get::<JobRecord>("1").map(|j| (j.phase, j.runner_id))
        );
    }
}

/// Row 7 when the completion came without its start.
#[test]
fn row_7_holds_where_the_start_was_lost() {
    for start in [true, false] {
        let fake = Fake::new();
        idle_runner(&fake);
        if start {
            event(&fake, "in_progress", 1, Some(7));
        }
        event(&fake, "completed", 1, Some(7));
        jobs_api_says(&fake, 1, JobState::Completed, Some(7));
        assert!(minutes_until(&fake, |fake| record_of(fake).job_completed.is_some()).is_some());
        busy(&fake, true);
        fake.state_mut().runners[0].1.online = false;
        for _ in 0..(24 * 60) {
            tick(&fake, &policy());
        }
        assert_eq!(grounds(&fake), [Ground::JobCompleted], "start known: {start}");
    }
}

fn failed_delivery(fake: &Fake, action: &str, job: u64) {
    let payload = serde_json::json!({
        "action": action,
        "workflow_job": {"id": job, "run_id": 2, "labels": ["self-hosted", "linux"], "runner_id": 7, "runner_name": "runner-i-1"},
        "repository": {"full_name": "octo/hello", "owner": {"login": "octo", "type": "Organization"}},
        "organization": {"login": "octo"},
    });
    let delivery = Delivery {
        id: job,
        guid: DeliveryGuid::new(format!("guid-{job}")),
        delivered_at: fake.now(),
        event: "workflow_job".into(),
        action: Some(action.into()),
        installation_id: None,
    };
    fake.state_mut().deliveries.push((delivery, payload.to_string()));
}

/// Row 7: the jobs API is asked about job 1; the re-check brings the start of job 2; the answer about job 1 is
/// written down as job 2's.
#[test]
fn what_the_api_said_of_one_job_is_not_said_of_the_next() {
    let fake = Fake::new();
    idle_runner(&fake);
    event(&fake, "in_progress", 1, Some(7));
    event(&fake, "completed", 1, Some(7));
    jobs_api_says(&fake, 1, JobState::Completed, Some(7));
    jobs_api_says(&fake, 2, JobState::InProgress, Some(7));
    busy(&fake, true);
    fake.state_mut().runners[0].1.online = false; // offline lies (runner#3448)
    fake.pass(10 * MINUTE);
    failed_delivery(&fake, "in_progress", 2);
    for _ in 0..30 {
        tick(&fake, &policy());
    }
    let record = record_of(&fake);
    assert_eq!(record.job_started.as_ref().map(|started| started.job_id), Some(JobId(2)), "scenario");
    let wrong = record.job_completed.clone();
    busy(&fake, false);
    for _ in 0..PASSES_MAX {
        tick(&fake, &policy());
    }
    untouched(&fake, &format!("job 2 runs; the ledger said {wrong:?}"));
}

/// a job that waited three days for an approval is queued with the time at which it was made.
#[test]
fn a_job_made_long_ago_and_queued_today_is_asked_about() {
    for hours in [47, 49] {
        let fake = Fake::new();
        idle_runner(&fake);
        let mut job = waiting_job(fake.now().minus(hours * HOUR));
        job.recorded_at = Some(fake.now());
        fake.put(&job);
        jobs_api_says(&fake, 1, JobState::InProgress, Some(7));
        let ended = minutes_until_ended(&fake);
        assert_eq!(
            (fake.state().runners.len(), ended),
            (1, None),
            "made {hours} h ago, runs here by the jobs API's word"
        );
    }
}

/// a job of fleet gpu (labels that linux serves too), stolen by this runner; flag lies, event lost.
fn stolen(schema: Option<u32>) -> Fake {
    let fake = Fake::new();
    idle_runner(&fake);
    let mut job = waiting_job(fake.now().minus(HOUR));
    job.fleet = Some(FleetName::new("gpu"));
    fake.put(&job);
    if let Some(schema) = schema {
        let key = JobRecord::key("1");
        let item = Item { schema, ..fake.state().items[&key].clone() };
        fake.put_item(item);
    }
    jobs_api_says(&fake, 1, JobState::InProgress, Some(7));
    let mut two = policy();
    two.fleets.push(crate::fake::fleet("gpu"));
    for _ in 0..PASSES_MAX {
        tick(&fake, &two);
    }
    fake
}

#[test]
fn a_job_of_another_fleet_that_our_labels_serve() {
    untouched(&stolen(None), "our schema");
}

#[test]
fn the_same_of_a_schema_that_we_do_not_know() {
    untouched(&stolen(Some(2)), "foreign schema");
}

/// In progress on a runner that GitHub does not name (yet): it may be any. The flag lies, the event is late.
#[test]
fn a_job_in_progress_on_no_named_runner_keeps_those_that_may_have_it() {
    for moment in fixtures::Moment::ALL {
        let fake = moment.reached();
        let before = fixtures::acts(&fake);
        fake.put(&waiting_job(fake.now().minus(HOUR)));
        jobs_api_says(&fake, 1, JobState::InProgress, None);
        fixtures::minutes(&fake, &policy(), 30);
        assert_eq!(fixtures::acts(&fake), before, "{moment:?}: nobody knows where it runs");
        jobs_api_says(&fake, 1, JobState::InProgress, Some(8));
        assert!(minutes_until_ended(&fake).is_some(), "{moment:?}: it runs elsewhere");
    }
}

/// The same of a job that only the scan of the jobs in progress shows: its events are lost, and the registration with
/// them.
#[test]
fn a_job_in_progress_on_no_named_runner_that_only_the_scan_shows_keeps() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.state_mut().runners.clear();
    jobs_api_says(&fake, 1, JobState::InProgress, None);
    fixtures::minutes(&fake, &policy(), 120);
    assert!(grounds(&fake).is_empty(), "nobody knows where it runs: {:?}", record_of(&fake));
    jobs_api_says(&fake, 1, JobState::InProgress, Some(8));
    assert!(minutes_until_ended(&fake).is_some(), "it runs elsewhere");
}
