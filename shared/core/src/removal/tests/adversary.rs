//! What an adversary found, each once a failing test: removal on an absence, on something stale, against evidence that
//! was read and dropped, and what a stranger could do to everybody's removal.

use super::*;
use crate::ids::RunnerName;
use crate::ledger::{JobCompleted, OrphanEvent};

const HOUR: Duration = Duration::from_secs(3600);
fn edit(fake: &Fake, f: impl FnOnce(&mut InstanceRecord)) {
    let mut r = fake.get::<InstanceRecord>("i-1").unwrap();
    f(&mut r);
    fake.put(&r);
}

#[test]
fn the_hard_age_counts_from_the_last_busy_sighting() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.pass(5 * 24 * HOUR);
    fake.state_mut().runners[0].1.busy = true;
    edit(&fake, |r| {
        r.idle_since = None;
    });
    tick(&fake, &policy()); // GitHub says busy: remembered
    let r = fake.get::<InstanceRecord>("i-1").unwrap();
    assert!(r.busy_seen_at.is_some());
    let at = fake.now();
    fake.state_mut().vital_signs.insert(id(), VitalSign { beat_at: at, worker: Worker::Running });
    fake.pass(3 * HOUR + 5 * MINUTE);
    tick(&fake, &policy());
    assert!(grounds(&fake).is_empty(), "ended 3 h after busy was seen: {:?}", grounds(&fake));
}
#[test]
fn an_instance_whose_tag_was_taken_away_keeps_its_runner() {
    let fake = Fake::new();
    idle_runner(&fake);
    job_starts(&fake);
    fake.pass(2 * HOUR);
    fake.state_mut().instances.get_mut(&id()).unwrap().tags.remove("ghr:environment");
    for _ in 0..20 {
        let now = fake.now();
        fake.state_mut().vital_signs.insert(id(), VitalSign { beat_at: now, worker: Worker::Running });
        tick(&fake, &policy());
    }
    assert_eq!(fake.calls_of("Registry::deregister"), 0, "deregistered a runner whose job runs");
}
#[test]
fn a_sighting_between_two_omissions_disproves_both() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.pass(2 * HOUR);
    let hide = |f: &Fake| {
        f.state_mut().instances.get_mut(&id()).unwrap().tags.insert("ghr:environment".into(), "x".into());
    };
    let show = |f: &Fake| {
        f.state_mut().instances.get_mut(&id()).unwrap().tags.insert("ghr:environment".into(), "test".into());
    };
    hide(&fake);
    let _ = sweep(&fake, &policy());
    show(&fake);
    for _ in 0..100 {
        fake.pass(MINUTE);
        let now = fake.now();
        fake.state_mut().vital_signs.insert(id(), VitalSign { beat_at: now, worker: Worker::None });
        let _ = scale_down(&fake, &policy()); // sees it every minute; the sweeper's passes are cut by their deadline
        let _ = run(orphan::run_pass(&fake, &policy(), Deadline::of(fake.now(), fake.now())));
    }
    hide(&fake);
    let _ = sweep(&fake, &policy());
    assert_eq!(fake.get::<InstanceRecord>("i-1").unwrap().gone_at, None, "100 sightings in between");
}
#[test]
fn a_delete_that_failed_is_not_blamed_for_a_later_404() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.always_fail("Registry::deregister", Class::Denied);
    assert!(minutes_until(&fake, |f| f.calls_of("Registry::deregister") > 0).is_some());
    fake.heal();
    // 3 days later (drain is off: a job waits all the time), GitHub drops the registration while a job of ours runs
    for _ in 0..60 {
        fake.put(&waiting_job(fake.now()));
        fake.state_mut().jobs.insert(
            JobId(1),
            JobReading { id: JobId(1), state: JobState::Queued, runner_id: None, completed_at: None },
        );
        tick(&fake, &policy());
    }
    fake.state_mut().runners.clear();
    let end = minutes_until_ended(&fake);
    assert!(end.is_some_and(|minutes| minutes >= 30), "row 16 waits, whatever DELETE was once begun: {end:?}");
    assert_eq!(grounds(&fake), [Ground::RegistrationGone]);
}
#[test]
fn a_delete_answered_404_was_not_ours() {
    let fake = Fake::new();
    idle_runner(&fake);
    // between the GET and the DELETE the registration vanishes (not by us)
    let done = minutes_until(&fake, |fake| {
        for call in fake.calls()..fake.calls() + 60 {
            fake.meanwhile(call, |fake| {
                if fake.get::<InstanceRecord>("i-1").is_some_and(|r| r.deregister_intent.is_some())
                    && fake.calls_of("Registry::deregister") == 0
                {
                    fake.state_mut().runners.clear();
                }
            });
        }
        fake.calls_of("Registry::deregister") > 0
    });
    assert!(done.is_some());
    let end = minutes_until_ended(&fake);
    assert!(end.is_some_and(|minutes| minutes >= 30), "404 to our DELETE is row 16: {end:?}");
    assert_eq!(grounds(&fake), [Ground::RegistrationGone]);
}
#[test]
fn busy_in_the_list_outweighs_idle_by_id() {
    let fake = Fake::new();
    idle_runner(&fake);
    for _ in 0..40 {
        fake.state_mut().runners.iter_mut().for_each(|r| r.1.busy = true);
        let lists = fake.calls_of("RegistryRead::runners");
        for call in fake.calls()..fake.calls() + 60 {
            fake.meanwhile(call, move |fake| {
                if fake.calls_of("RegistryRead::runners") > lists {
                    fake.state_mut().runners.iter_mut().for_each(|r| r.1.busy = false);
                }
            });
        }
        tick(&fake, &policy());
        if fake.state().runners.is_empty() {
            break;
        }
    }
    assert_eq!(fake.state().runners.len(), 1, "deregistered though the list of every pass said busy");
}
#[test]
fn a_strangers_unreadable_delivery_blocks_nobody() {
    let fake = Fake::new();
    idle_runner(&fake);
    let payload = serde_json::json!({"action":"completed","workflow_job":{"id":99,"run_id":2,"labels":vec!["x";101],"runner_id":null,"runner_name":null},
            "repository":{"full_name":"stranger/repo","owner":{"login":"stranger","type":"User"}}}).to_string();
    let delivery = Delivery {
        id: 1,
        guid: DeliveryGuid::new("g"),
        delivered_at: fake.now(),
        event: "workflow_job".into(),
        action: Some("completed".into()),
        installation_id: None,
    };
    fake.state_mut().deliveries.push((delivery, payload));
    assert!(
        minutes_until_deregistered(&fake).is_some(),
        "a stranger's cancelled job with 101 labels stops all removal"
    );
}
#[test]
fn another_owners_lost_job_blocks_nobody() {
    let fake = Fake::new();
    idle_runner(&fake);
    let mut job = waiting_job(fake.now().minus(HOUR));
    job.access = Access { scope: Scope::Organization { owner: "other".into() }, installation_id: None };
    job.repository = Repository::try_from("other/deleted".to_owned()).unwrap();
    fake.put(&job); // GET job is 404 for ever
    assert!(minutes_until_deregistered(&fake).is_some(), "a deleted repository of another owner stops all removal");
}
#[test]
fn a_refused_delete_survives_a_conflict() {
    let fake = Fake::new();
    idle_runner(&fake);
    let other_write = std::rc::Rc::new(std::cell::Cell::new(false));
    for _ in 0..40 {
        for call in fake.calls()..fake.calls() + 60 {
            let other_write = other_write.clone();
            fake.meanwhile(call, move |fake| {
                let Some(r) = fake.get::<InstanceRecord>("i-1") else { return };
                // The job comes after the intent; another function writes to the record after the DELETE.
                if fake.calls_of("Registry::deregister") == 1 && !other_write.replace(true) {
                    edit(fake, |r| r.missing_since = None);
                }
                if r.deregister_intent.is_some() && fake.calls_of("Registry::deregister") == 0 {
                    fake.state_mut().runners[0].1.busy = true;
                }
            });
        }
        tick(&fake, &policy());
        if fake.calls_of("Registry::deregister") > 0 {
            break;
        }
    }
    assert!(other_write.get(), "scenario reached");
    assert!(fake.get::<InstanceRecord>("i-1").unwrap().busy_seen_at.is_some(), "the refusal was forgotten");
}

#[test]
fn jobs_of_a_fleet_that_is_gone_are_asked() {
    let fake = Fake::new();
    idle_runner(&fake);
    let mut p = policy();
    p.fleets = vec![crate::fake::fleet("gpu")];
    fake.put(&waiting_job(fake.now()));
    fake.state_mut().jobs.insert(
        JobId(1),
        JobReading { id: JobId(1), state: JobState::InProgress, runner_id: Some(RunnerId(7)), completed_at: None },
    );
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
    fake.state_mut().jobs.insert(
        JobId(1),
        JobReading { id: JobId(1), state: JobState::InProgress, runner_id: Some(RunnerId(7)), completed_at: None },
    );
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
fn a_later_start_on_the_same_runner_keeps() {
    let fake = Fake::new();
    idle_runner(&fake);
    edit(&fake, |r| {
        r.note_started(started());
        r.note_completed(JobCompleted { job_id: JobId(1), at: fake.now() }, RunnerId(7));
        r.note_started(JobStarted {
            job_id: JobId(2),
            repository: repository(),
            at: fake.now(),
            runner_id: Some(RunnerId(7)),
        });
    });
    assert_eq!(
        minutes_until_ended(&fake),
        None,
        "{:?} {:?}",
        grounds(&fake),
        fake.get::<InstanceRecord>("i-1").unwrap().job_started
    );
}
#[test]
fn an_uninstalled_app_leaves_no_parameter() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.state_mut().parameters.insert(id(), crate::ports::JitConfig::new("secret".into()));
    fake.set_instance_state(&id(), InstanceState::Terminated);
    for c in ["RegistryRead::runners", "RegistryRead::runner", "RegistryRead::runner_named"] {
        fake.always_fail(c, Class::Denied);
    }
    for _ in 0..200 {
        fake.pass(6 * HOUR);
        let _ = scale_down(&fake, &policy());
        let _ = sweep(&fake, &policy());
    }
    assert!(fake.state().parameters.is_empty(), "50 days later");
}
#[test]
fn a_young_instance_is_not_rebuilt() {
    let fake = Fake::new();
    put_instance(&fake, &id());
    fake.state_mut().instances.get_mut(&id()).unwrap().tags.insert("aws:ec2launchtemplate:id".into(), "lt-1".into());
    let _ = sweep(&fake, &policy());
    assert!(
        fake.get::<InstanceRecord>("i-1").is_none(),
        "an instance 0 s old was rebuilt: scale-up's own record is refused"
    );
}
#[test]
fn a_configuration_made_while_its_instance_dies_is_cleaned_up() {
    let fake = Fake::new();
    put_instance(&fake, &id());
    let mut r = record(&fake);
    r.runner_id = None;
    r.handed_over_at = None;
    fake.put(&r); // jit_intent just stored, call in flight
    fake.set_instance_state(&id(), InstanceState::Terminated);
    let _ = scale_down(&fake, &policy());
    let _ = sweep(&fake, &policy());
    // now GitHub's answer arrives at scale-up
    fake.put_runner(&access().scope, runner());
    fake.state_mut().parameters.insert(id(), crate::ports::JitConfig::new("secret".into()));
    edit(&fake, |r| {
        r.note_runner_id(RunnerId(7));
        r.handed_over_at = Some(Timestamp(1));
    });
    for _ in 0..120 {
        tick(&fake, &policy());
    }
    fake.state_mut().instances.clear();
    for _ in 0..120 {
        tick(&fake, &policy());
    }
    assert!(
        fake.state().parameters.is_empty() && fake.state().runners.is_empty(),
        "left: {} parameters, {} runners",
        fake.state().parameters.len(),
        fake.state().runners.len()
    );
}
#[test]
fn a_booting_instance_whose_job_waited_long_is_not_drained() {
    let fake = Fake::new();
    idle_runner(&fake);
    {
        let r = &mut fake.state_mut().runners[0].1;
        r.online = false;
        r.version = Some(None);
    }
    let mut job = waiting_job(fake.now().minus(11 * MINUTE));
    job.next_look = fake.now().plus(HOUR);
    fake.put(&job);
    fake.state_mut()
        .jobs
        .insert(JobId(1), JobReading { id: JobId(1), state: JobState::Queued, runner_id: None, completed_at: None });
    for m in 1..=14 {
        fake.pass(MINUTE);
        let _ = scale_down(&fake, &policy());
        assert_eq!(fake.calls_of("Compute::request_drain"), 0, "drained at {m} min while it boots for a waiting job");
    }
}
#[test]
fn a_rebuilt_record_takes_in_the_orphan_event() {
    let fake = Fake::new();
    put_instance(&fake, &id());
    fake.state_mut().instances.get_mut(&id()).unwrap().tags.insert("aws:ec2launchtemplate:id".into(), "lt-1".into());
    fake.put(&OrphanEvent {
        scope: access().scope,
        runner_name: RunnerName::new("runner-i-1"),
        started: Some(started()),
        completed: None,
        at: fake.now(),
    });
    fake.put_runner(&access().scope, runner());
    for _ in 0..30 {
        tick(&fake, &policy());
    }
    let r = fake.get::<InstanceRecord>("i-1").unwrap();
    assert!(
        r.job_started.is_some(),
        "started was known; drains requested: {}",
        fake.calls_of("Compute::request_drain")
    );
}
#[test]
fn another_owners_many_jobs_block_nobody() {
    let fake = Fake::new();
    idle_runner(&fake);
    for n in 0..21 {
        let mut j = waiting_job(fake.now().minus(24 * HOUR));
        j.job_id = JobId(100 + n);
        j.access = Access { scope: Scope::Organization { owner: "other".into() }, installation_id: None };
        j.repository = Repository::try_from("other/x".to_owned()).unwrap();
        fake.put(&j);
        fake.state_mut().jobs.insert(
            JobId(100 + n),
            JobReading { id: JobId(100 + n), state: JobState::Completed, runner_id: None, completed_at: None },
        );
    }
    assert!(minutes_until_deregistered(&fake).is_some());
}
#[test]
fn a_foreign_start_does_not_block_the_real_one() {
    let fake = Fake::new();
    idle_runner(&fake);
    edit(&fake, |r| {
        r.runner_id = None;
        r.note_started(JobStarted {
            job_id: JobId(66),
            repository: repository(),
            at: Timestamp(1),
            runner_id: Some(RunnerId(999)),
        });
        r.note_runner_id(RunnerId(7));
        r.note_started(started());
        r.note_completed(JobCompleted { job_id: JobId(1), at: Timestamp(2) }, RunnerId(7));
    });
    let r = fake.get::<InstanceRecord>("i-1").unwrap();
    assert!(r.job_completed.is_some(), "{:?} {:?}", r.job_started, r.completion_claim);
}
#[test]
fn a_refusal_after_the_completion_keeps() {
    let fake = Fake::new();
    idle_runner(&fake);
    edit(&fake, |r| {
        r.note_started(started());
        r.note_completed(JobCompleted { job_id: JobId(1), at: fake.now() }, RunnerId(7));
        r.busy_seen_at = Some(fake.now().plus(20 * MINUTE));
    });
    assert_eq!(minutes_until_ended(&fake), None, "{:?}", grounds(&fake));
}
#[test]
fn the_kill_switch_keeps_parameters() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.state_mut().runners.clear();
    fake.state_mut().kill_switch = Some(KillSwitch::RemovalDisabled);
    fake.state_mut().parameters.insert(id(), crate::ports::JitConfig::new("secret".into()));
    fake.set_instance_state(&id(), InstanceState::Terminated);
    for _ in 0..5 {
        tick(&fake, &policy());
    }
    assert_eq!(fake.calls_of("Parameters::delete_jit_config"), 0);
}
#[test]
fn the_hard_age_needs_no_tags_of_ours() {
    let fake = Fake::new();
    put_instance(&fake, &id());
    {
        let mut s = fake.state_mut();
        let t = &mut s.instances.get_mut(&id()).unwrap().tags;
        t.insert("aws:ec2launchtemplate:id".into(), "lt-1".into());
        t.remove("ghr:owner");
    }
    for _ in 0..40 {
        fake.pass(24 * HOUR);
        let _ = scale_down(&fake, &policy());
        let _ = sweep(&fake, &policy());
    }
    assert_eq!(grounds(&fake), [Ground::HardAge]);
}
#[test]
fn an_empty_listing_deregisters_nobody() {
    let fake = Fake::new();
    for n in 0..40u64 {
        let id = InstanceId::new(format!("i-{n:03x}"));
        put_instance(&fake, &id);
        let mut r = record(&fake);
        r.instance_id = id;
        r.runner_name = RunnerName::new(format!("runner-i-{n:03x}"));
        r.runner_id = Some(RunnerId(n));
        r.job_started = Some(started());
        fake.put(&r);
        let mut g = runner();
        g.id = RunnerId(n);
        g.name = r.runner_name.clone();
        fake.put_runner(&access().scope, g);
    }
    fake.pass(2 * HOUR);
    let all = std::mem::take(&mut fake.state_mut().instances);
    for _ in 0..8 {
        tick(&fake, &policy());
    }
    fake.state_mut().instances = all;
    assert_eq!(fake.state().runners.len(), 40);
}
