//! What a second adversary found after the first one's findings were mended, each once a failing test.

use super::*;
use crate::ledger::JobCompleted;
use crate::ports::Item;

const HOUR: Duration = Duration::from_secs(3_600);

fn edit(fake: &Fake, f: impl FnOnce(&mut InstanceRecord)) {
    let mut r = fake.get::<InstanceRecord>("i-1").unwrap();
    f(&mut r);
    fake.put(&r);
}

fn org_job(fake: &Fake, id: u64, repo: &str) -> JobRecord {
    let mut j = waiting_job(fake.now());
    j.job_id = JobId(id);
    j.repository = Repository::try_from(repo.to_owned()).unwrap();
    j
}

#[test]
fn a_drain_and_an_idle_reading_of_yesterday_do_not_count() {
    let fake = Fake::new();
    idle_runner(&fake);
    for _ in 0..14 {
        tick(&fake, &policy());
    } // first idle reading? + first drain
    // from now on a job that another runner takes is always freshly queued: wanted
    // wait until idle_since is set, with demand
    for _ in 0..(24 * 60) {
        let mut j = waiting_job(fake.now());
        j.job_id = JobId(1);
        fake.put(&j);
        fake.put_job(JobId(1), JobState::Queued);
        tick(&fake, &policy());
        assert_eq!(fake.state().runners.len(), 1, "wanted");
    }
    // demand ends
    let mut j = fake.get::<JobRecord>("1").unwrap();
    j.note_completed(fake.now(), None);
    fake.put(&j);
    fake.pass(MINUTE);
    let _ = scale_down(&fake, &policy());
    assert_eq!(fake.state().runners.len(), 1, "deregistered after one reading, without a new drain request");
}

#[test]
fn a_slow_removal_does_not_starve_waiting_jobs() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.state_mut().runners[0].1.busy = false;
    // one instance whose look eats the time
    let mut j = waiting_job(fake.now());
    j.next_look = fake.now();
    fake.put(&j);
    for _ in 0..60 {
        fake.pass(MINUTE);
        let begun = fake.now();
        let first = fake.calls() + 1;
        for c in first..first + 40 {
            fake.meanwhile(c, move |f| {
                if f.now().since(begun) < 55 * Duration::from_secs(1) {
                    f.pass(Duration::from_secs(10));
                }
            });
        }
        let _ = run(orphan::run_pass(&fake, &policy(), Deadline::of(begun, begun.plus(MINUTE))));
        for c in 0..fake.calls() + 60 {
            fake.meanwhile(c, |_| {});
        }
    }
    assert!(!fake.state().queue.is_empty(), "a due job was not sent in 60 passes");
}

#[test]
fn a_job_of_a_deleted_repository_does_not_stop_its_organisations_removal() {
    let fake = Fake::new();
    idle_runner(&fake);
    let mut j = org_job(&fake, 55, "octo/deleted");
    j.queued_at = fake.now().minus(HOUR);
    j.labels = vec!["nothing-of-ours".into()];
    fake.put(&j);
    let _ = minutes_until_deregistered(&fake);
    for _ in 0..48 {
        fake.pass(HOUR);
        let _ = sweep(&fake, &policy());
        let _ = scale_down(&fake, &policy());
    }
    assert!(fake.state().runners.is_empty(), "48 h later nothing of the organisation could be removed");
}

#[test]
fn an_instance_seen_again_is_cleaned_up_when_it_ends() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.pass(2 * HOUR);
    let t = |f: &Fake, v: &str| {
        f.state_mut().instances.get_mut(&id()).unwrap().tags.insert("ghr:environment".into(), v.into());
    };
    t(&fake, "x");
    fake.state_mut().runners[0].1.online = true;
    for _ in 0..10 {
        tick(&fake, &policy());
    }
    fake.pass(49 * HOUR);
    tick(&fake, &policy());
    t(&fake, "test");
    let now = fake.now();
    fake.state_mut().vital_signs.insert(id(), VitalSign { beat_at: now, worker: Worker::Running });
    tick(&fake, &policy());
    fake.state_mut().runners[0].1.online = false;
    fake.set_instance_state(&id(), InstanceState::Terminated);
    for _ in 0..60 {
        tick(&fake, &policy());
    }
    assert!(fake.state().runners.is_empty(), "registration left: {:?}", fake.get::<InstanceRecord>("i-1").unwrap());
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
    fake.state_mut().jobs.insert(
        JobId(1),
        JobReading { id: JobId(1), state: JobState::InProgress, runner_id: Some(RunnerId(7)), completed_at: None },
    );
    assert_eq!(
        minutes_until_ended(&fake),
        None,
        "jobs API asked {} times; grounds {:?}",
        fake.calls_of("Jobs::job"),
        grounds(&fake)
    );
}

#[test]
fn a_worker_that_ran_when_last_heard_of_keeps_a_missed_instance() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.pass(2 * HOUR);
    let now = fake.now();
    fake.state_mut().vital_signs.insert(id(), VitalSign { beat_at: now, worker: Worker::Running });
    fake.state_mut().runners[0].1.online = false; // offline lies (runner 3448, 3892)
    fake.pass(15 * MINUTE);
    fake.state_mut().instances.get_mut(&id()).unwrap().tags.remove("ghr:environment");
    for _ in 0..30 {
        tick(&fake, &policy());
    }
    assert_eq!(fake.calls_of("Registry::deregister"), 0, "its last word was: a worker runs");
}

#[test]
fn a_claim_of_another_job_does_not_block_the_completion() {
    let fake = Fake::new();
    idle_runner(&fake);
    edit(&fake, |r| {
        r.note_completed(JobCompleted { job_id: JobId(9), at: Timestamp(1) }, RunnerId(7)); // cancelled before it started
        r.note_started(started());
        r.note_completed(JobCompleted { job_id: JobId(1), at: Timestamp(2) }, RunnerId(7));
    });
    assert!(fake.get::<InstanceRecord>("i-1").unwrap().job_completed.is_some());
}

#[test]
fn a_failed_delivery_of_another_instances_foreign_record_blocks_nobody() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.put_item(Item {
        key: crate::ports::Key { kind: crate::ports::Kind::Instance, id: "i-2".into() },
        version: 3,
        schema: 99,
        body: serde_json::json!({}),
        open: None,
        expires_at: None,
    });
    let payload = serde_json::json!({"action":"completed","workflow_job":{"id":99,"run_id":2,"labels":["x"],"runner_id":8,"runner_name":"runner-i-2"},
        "repository":{"full_name":"octo/hello","owner":{"login":"octo","type":"Organization"}}}).to_string();
    let delivery = Delivery {
        id: 1,
        guid: DeliveryGuid::new("g"),
        delivered_at: fake.now(),
        event: "workflow_job".into(),
        action: Some("completed".into()),
        installation_id: None,
    };
    fake.state_mut().deliveries.push((delivery, payload));
    assert!(minutes_until_deregistered(&fake).is_some());
}

#[test]
fn a_list_that_shows_a_version_outweighs_never_connected() {
    let fake = Fake::new();
    idle_runner(&fake);
    for _ in 0..40 {
        {
            let r = &mut fake.state_mut().runners[0].1;
            r.online = true;
            r.version = Some(Some("2".into()));
        }
        let lists = fake.calls_of("RegistryRead::runners");
        for call in fake.calls()..fake.calls() + 60 {
            fake.meanwhile(call, move |f| {
                if f.calls_of("RegistryRead::runners") > lists {
                    for r in &mut f.state_mut().runners {
                        r.1.online = false;
                        r.1.version = Some(None);
                    }
                }
            });
        }
        fake.pass(MINUTE);
        let _ = sweep(&fake, &policy());
        if fake.state().runners.is_empty() {
            break;
        }
    }
    assert_eq!(fake.state().runners.len(), 1, "never connected, says the one; online with a version, says the list");
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
            fake.state_mut().jobs.insert(
                JobId(1),
                JobReading {
                    id: JobId(1),
                    state: JobState::InProgress,
                    runner_id: Some(RunnerId(7)),
                    completed_at: None,
                },
            );
        } else {
            // i-1's supervisor was heard of until its job had begun
            for _ in 0..25 {
                let now = fake.now();
                fake.state_mut().vital_signs.insert(id(), VitalSign { beat_at: now, worker: Worker::None });
                if fake.get::<JobRecord>("1").is_none() {
                    fake.put(&waiting_job(fake.now().minus(HOUR)));
                    fake.state_mut().jobs.insert(
                        JobId(1),
                        JobReading {
                            id: JobId(1),
                            state: JobState::InProgress,
                            runner_id: Some(RunnerId(7)),
                            completed_at: None,
                        },
                    );
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
