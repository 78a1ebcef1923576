//! What an instance's word and EC2's are worth (design section 4): the vital sign can only veto, and "not found" alone
//! does not prove an instance gone.

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);

/// A case, the last beat's age in minutes (negative: a clock that runs ahead) and what ran, and whether it keeps.
type Sign = (&'static str, Option<(i64, Worker)>, bool);

/// What an instance could be ended for.
type Make = (&'static str, fn(&Fake));

#[test]
fn a_vital_sign_keeps_while_it_is_young_or_while_a_worker_ran_and_no_other_does_anything() {
    let signs: [Sign; 9] = [
        ("never one", None, false),
        ("fell silent ten minutes ago", Some((10, Worker::None)), false),
        ("fell silent yesterday", Some((24 * 60, Worker::None)), false),
        ("nine minutes ago", Some((9, Worker::None)), true),
        ("a clock that runs ahead", Some((-60, Worker::None)), true),
        ("silent since a worker ran", Some((180, Worker::Running)), true),
        ("silent since a job was acquired", Some((180, Worker::Acquiring)), true),
        ("silent since a word that nobody knows", Some((180, Worker::Unrecognised)), true),
        ("a worker runs", Some((0, Worker::Running)), true),
    ];
    let makes: [Make; 4] = [
        ("idle", idle_runner),
        ("registration gone", |fake| {
            idle_runner(fake);
            fake.state_mut().runners.clear();
        }),
        ("never connected", |fake| {
            idle_runner(fake);
            let mut state = fake.state_mut();
            let runner = &mut state.runners[0].1;
            (runner.online, runner.version) = (false, Some(None));
        }),
        ("completed and running", |fake| {
            idle_runner(fake);
            let mut record = record(fake);
            record.note_started(started());
            record.note_completed(crate::ledger::JobCompleted { job_id: JobId(1), at: fake.now() }, RunnerId(7));
            fake.put(&record);
        }),
    ];
    for (kind, make) in makes {
        for (case, sign, keeps) in signs {
            let fake = Fake::new();
            make(&fake);
            fake.pass(24 * HOUR);
            // The sign keeps its age: what is judged is the sign, not how it grows old.
            for _ in 0..80 {
                fake.pass(MINUTE);
                if let Some((age, worker)) = sign {
                    let beat_at = Timestamp(fake.now().0 - age * 60_000);
                    fake.state_mut().vital_signs.insert(id(), VitalSign { beat_at, worker });
                }
                let _ = scale_down(&fake, &policy());
                let _ = sweep(&fake, &policy());
            }
            assert_eq!(grounds(&fake).is_empty(), keeps, "{kind}: {case}");
            let acted = fake.calls_of("Registry::deregister") + fake.calls_of("Compute::terminate");
            assert_eq!(acted == 0, keeps, "{kind}: {case}");
            // Until the hard age, which asks nobody.
            fake.pass(6 * 24 * HOUR);
            tick(&fake, &policy());
            assert!(!grounds(&fake).is_empty(), "{kind}: {case}, past the hard age");
        }
    }
}

#[test]
fn an_instance_that_ec2_does_not_find_is_not_gone_for_that() {
    let fake = Fake::new();
    put_instance(&fake, &id());
    let mut never_registered = record(&fake);
    (never_registered.jit_intent_at, never_registered.runner_id) = (None, None);
    fake.put(&never_registered);
    fake.pass(20 * MINUTE);
    // EC2 loses sight of it between the listing and the call.
    for call in fake.calls() + 1..fake.calls() + 60 {
        fake.meanwhile(call, |fake| {
            let intended = fake.get::<InstanceRecord>("i-1").is_some_and(|record| record.terminate_intent.is_some());
            if intended && fake.calls_of("Compute::terminate") == 0 {
                fake.state_mut().instances.clear();
            }
        });
    }
    let report = sweep(&fake, &policy()).expect("not killed").expect_err("not a success").0;
    assert_eq!((report.terminated.len(), fake.calls_of("Compute::terminate")), (0, 1), "{report:?}");
    let closed = |fake: &Fake| fake.get::<InstanceRecord>("i-1").is_some_and(|record| record.gone_at.is_some());
    assert!(!closed(&fake), "NotFound alone is not the proof");
    // It is back, and so is the road.
    put_instance(&fake, &id());
    fake.pass(10 * MINUTE);
    tick(&fake, &policy());
    assert!(!closed(&fake));
    assert!(minutes_until_ended(&fake).is_some());
}
