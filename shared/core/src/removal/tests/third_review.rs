//! What a third reviewer found in the rows, each once a failing test: long evenings in which events are reordered, readings
//! lie far apart, the ledger is restored and passes die between their calls.

use super::*;
use crate::ledger::{DeregistrationOutcome, RemovalIntent};
use crate::removal::DeregistrationGround;
use crate::webhook::{self, Event};

const HOUR: Duration = Duration::from_secs(3_600);

fn rec(fake: &Fake) -> InstanceRecord {
    fake.get::<InstanceRecord>("i-1").expect("a record")
}

fn edit(fake: &Fake, change: impl FnOnce(&mut InstanceRecord)) {
    let mut record = rec(fake);
    change(&mut record);
    fake.put(&record);
}

fn event(fake: &Fake, action: &str, job: u64, runner_id: Option<u64>) {
    let body = serde_json::json!({
        "action": action,
        "workflow_job": {"id": job, "run_id": 2, "labels": ["self-hosted", "linux"], "runner_id": runner_id,
            "runner_name": "runner-i-1"},
        "repository": {"full_name": "octo/hello", "owner": {"login": "octo", "type": "Organization"}},
        "organization": {"login": "octo"},
    });
    // Names of real instances are hexadecimal; this one is as well.
    let Ok(Event::Job(event)) = webhook::parse(Some("workflow_job"), body.to_string().as_bytes()) else { panic!() };
    run(webhook::apply_job_event(fake, &event, fake.now())).expect("not killed").expect("no fault");
}

fn api(fake: &Fake, job: u64, state: JobState, runner: Option<u64>) {
    let reading = JobReading { id: JobId(job), state, runner_id: runner.map(RunnerId), completed_at: None };
    fake.state_mut().jobs.insert(JobId(job), reading);
}

fn busy(fake: &Fake, busy: bool) {
    fake.state_mut().runners[0].1.busy = busy;
}

fn untouched(fake: &Fake, what: &str) {
    assert_eq!(fake.calls_of("Registry::deregister"), 0, "{what}: deregistered; {:?}", rec(fake));
    assert!(grounds(fake).is_empty(), "{what}: ended {:?}; {:?}", grounds(fake), rec(fake));
}

/// F1a. Job 1 was given to the runner and never taken (cancelled meanwhile, acquire answers 409), then job 2 runs on
/// it. GitHub's events: start 1, start 2, end 1, in any order (facts 3.1). Job 2 runs throughout.
#[test]
fn a_second_start_before_the_first_ones_end_keeps() {
    for (case, order) in [
        ("start 1, end 1, start 2", [("in_progress", 1), ("completed", 1), ("in_progress", 2)]),
        ("start 1, start 2, end 1", [("in_progress", 1), ("in_progress", 2), ("completed", 1)]),
        ("start 2, start 1, end 1", [("in_progress", 2), ("in_progress", 1), ("completed", 1)]),
    ] {
        let fake = Fake::new();
        idle_runner(&fake);
        for (action, job) in order {
            event(&fake, action, job, Some(7));
        }
        api(&fake, 1, JobState::Completed, Some(7));
        api(&fake, 2, JobState::InProgress, Some(7));
        for _ in 0..PASSES_MAX {
            tick(&fake, &policy());
        }
        untouched(&fake, case);
    }
}

/// F1b. Job 1 was assigned here and given to runner 9 after 61 s; then job 2 came, its event arrived. Row 10 drops job 1.
#[test]
fn row_10_drops_only_the_job_that_is_elsewhere() {
    let fake = Fake::new();
    idle_runner(&fake);
    event(&fake, "in_progress", 1, Some(7));
    event(&fake, "in_progress", 2, Some(7));
    api(&fake, 1, JobState::InProgress, Some(9));
    api(&fake, 2, JobState::InProgress, Some(7));
    for _ in 0..PASSES_MAX {
        tick(&fake, &policy());
    }
    untouched(&fake, "job 2 runs and its start was delivered");
}

/// F2. Row 5 comes before row 12: busy and online is sticky, also when a completion is known.
#[test]
fn busy_seen_long_after_a_completion_is_remembered() {
    let fake = Fake::new();
    idle_runner(&fake);
    event(&fake, "in_progress", 1, Some(7));
    event(&fake, "completed", 1, Some(7));
    busy(&fake, true);
    for _ in 0..60 {
        tick(&fake, &policy());
    }
    untouched(&fake, "busy");
    busy(&fake, false); // flips in mid-job (runner#4422), and DELETE agrees with the flag
    tick(&fake, &policy());
    tick(&fake, &policy());
    untouched(&fake, "45 min of busy:true after the grace, then one idle reading");
}

/// F3. The same with row 10: busy seen between the two readings that show the job elsewhere is another job's.
#[test]
fn busy_seen_while_its_job_is_elsewhere_is_remembered() {
    let fake = Fake::new();
    idle_runner(&fake);
    event(&fake, "in_progress", 1, Some(7));
    api(&fake, 1, JobState::InProgress, Some(9));
    assert!(minutes_until(&fake, |fake| rec(fake).elsewhere.is_some()).is_some());
    busy(&fake, true); // job 2; its in_progress is lost
    for _ in 0..30 {
        tick(&fake, &policy());
    }
    assert!(rec(&fake).job_started.is_some());
    busy(&fake, false);
    for _ in 0..PASSES_MAX {
        tick(&fake, &policy());
    }
    untouched(&fake, "half an hour of busy:true was forgotten");
}

/// F4. Restored ledger: deregistered at the backup, the start came after it (row 15) and was lost by the restore.
#[test]
fn a_restored_record_in_quarantine_is_kept() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.state_mut()
        .instances
        .get_mut(&id())
        .expect("put")
        .tags
        .insert("aws:ec2launchtemplate:id".into(), "lt-1".into());
    minutes_until_deregistered(&fake).expect("deregistered");
    let backup = fake.items();
    fake.pass(MINUTE);
    event(&fake, "in_progress", 1, Some(7));
    for _ in 0..10 {
        tick(&fake, &policy());
    }
    assert!(grounds(&fake).is_empty(), "row 15");
    fake.state_mut().items.clear();
    for item in backup {
        fake.put_item(item);
    }
    let restored = Policy { ledger_epoch: Some(fake.now()), ..policy() };
    for _ in 0..PASSES_MAX {
        tick(&fake, &restored);
    }
    assert!(grounds(&fake).is_empty(), "ended {:?}: {:?}", grounds(&fake), rec(&fake));
}

/// F5. A pass is killed between intent and DELETE; the runner takes a job, goes unlisted (runner#936), its event is lost
/// without a record. Without the intent row 16 finds the job among those in progress; with it nobody looks.
#[test]
fn a_delete_that_was_never_made_is_no_reason_to_look_less() {
    for intent in [false, true] {
        let fake = Fake::new();
        idle_runner(&fake);
        for _ in 0..14 {
            tick(&fake, &policy());
        }
        untouched(&fake, "not yet");
        if intent {
            let at = fake.now();
            edit(&fake, |r| r.deregister_intent = Some(RemovalIntent { at, ground: DeregistrationGround::Idle }));
        }
        fake.state_mut().runners.clear();
        api(&fake, 1, JobState::InProgress, Some(7));
        for _ in 0..PASSES_MAX {
            tick(&fake, &policy());
        }
        assert!(
            grounds(&fake).is_empty(),
            "intent {intent}: ended {:?}, jobs in progress read {} times; {:?}",
            grounds(&fake),
            fake.calls_of("Jobs::jobs_in_progress"),
            rec(&fake)
        );
    }
}

/// F5b. The same by two single readings: present, listed and online between them.
#[test]
fn two_lone_absences_half_an_hour_apart_are_no_unbroken_row() {
    let fake = Fake::new();
    idle_runner(&fake);
    for _ in 0..14 {
        tick(&fake, &policy());
    }
    let at = fake.now().minus(3 * MINUTE);
    edit(&fake, |r| r.deregister_intent = Some(RemovalIntent { at, ground: DeregistrationGround::Idle }));
    let runners = std::mem::take(&mut fake.state_mut().runners);
    tick(&fake, &policy());
    fake.state_mut().runners = runners.clone();
    assert!(rec(&fake).deregistered_at.is_some());
    for _ in 0..29 {
        // A job waits, so that it is not surplus.
        fake.put(&waiting_job(fake.now()));
        fake.put_job(JobId(1), JobState::Queued);
        tick(&fake, &policy());
    }
    fake.state_mut().runners.clear();
    tick(&fake, &policy());
    tick(&fake, &policy());
    assert!(grounds(&fake).is_empty(), "ended {:?} after two lone absences", grounds(&fake));
}

fn beat(fake: &Fake) {
    let sign = VitalSign { beat_at: fake.now(), worker: Worker::None };
    fake.state_mut().vital_signs.insert(id(), sign);
}

fn pool() -> Policy {
    let mut policy = policy();
    policy.fleets[0].idle = vec![crate::config::IdleSchedule::try_new("* * * * *", "UTC", 1).expect("valid")];
    policy.fleets[0].timers.idle_maximum = 24 * HOUR;
    policy
}

/// F6a. Row 19: offline for three sweeps in a partition, then five hours of beats and online; offline again.
#[test]
fn an_offline_spell_is_broken_by_hours_of_life() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.pass(16 * MINUTE);
    fake.state_mut().runners[0].1.online = false;
    for _ in 0..3 {
        tick(&fake, &pool());
    }
    assert_eq!(rec(&fake).offline.map(|spell| spell.sweeps), Some(3));
    fake.state_mut().runners[0].1.online = true;
    for _ in 0..300 {
        beat(&fake);
        tick(&fake, &pool());
    }
    untouched(&fake, "alive");
    fake.pass(10 * MINUTE); // silent; a job has just been assigned, and offline lies (runner#3448, #3892)
    fake.state_mut().runners[0].1.online = false;
    tick(&fake, &pool());
    untouched(&fake, "offline for one reading");
}

/// F6b. Row 16: absent for three sweeps; then a job runs for hours, listed and busy; row 10 drops it; one absence.
#[test]
fn an_absence_is_broken_by_hours_of_presence() {
    let fake = Fake::new();
    idle_runner(&fake);
    for number in 0..31 {
        let repository = Repository::try_from(format!("octo/r{number}")).expect("a name");
        fake.state_mut().repositories.insert(repository);
    }
    fake.pass(16 * MINUTE);
    let runners = std::mem::take(&mut fake.state_mut().runners);
    for _ in 0..3 {
        tick(&fake, &policy());
    }
    assert_eq!(rec(&fake).absent.map(|spell| spell.sweeps), Some(3));
    fake.state_mut().runners = runners.clone();
    busy(&fake, true);
    event(&fake, "in_progress", 1, Some(7));
    for _ in 0..300 {
        tick(&fake, &policy());
    }
    busy(&fake, false);
    api(&fake, 1, JobState::InProgress, Some(9));
    assert!(minutes_until(&fake, |fake| rec(fake).job_started.is_none()).is_some(), "row 10");
    fake.state_mut().runners.clear();
    tick(&fake, &policy());
    tick(&fake, &policy());
    untouched(&fake, "absent for two readings after five hours of presence");
}

/// F6c. Row 20: one idle reading, hours of beats, then one more reading at once.
#[test]
fn an_idle_reading_is_not_carried_over_hours_of_life() {
    let fake = Fake::new();
    idle_runner(&fake);
    assert!(minutes_until(&fake, |fake| rec(fake).idle_since.is_some()).is_some());
    for _ in 0..300 {
        beat(&fake);
        tick(&fake, &policy());
    }
    untouched(&fake, "alive");
    fake.pass(10 * MINUTE);
    tick(&fake, &policy());
    untouched(&fake, "one reading after five hours of which nobody asked GitHub");
}

/// F7. Two passes overlap (clocks skewed by more than the lease): the other's DELETE took effect, ours is answered 404.
#[test]
fn a_404_to_a_second_delete_does_not_strand_the_first_ones_outcome() {
    let fake = Fake::new();
    idle_runner(&fake);
    for _ in 0..40 {
        for call in fake.calls()..fake.calls() + 60 {
            fake.meanwhile(call, |fake| {
                if rec(fake).deregister_intent.is_some() && fake.calls_of("Registry::deregister") == 0 {
                    let at = fake.now();
                    fake.state_mut().runners.clear();
                    edit(fake, |r| {
                        r.deregister_intent = Some(RemovalIntent { at, ground: DeregistrationGround::Idle });
                        r.deregistered_at = Some(at);
                        r.deregistration = Some(DeregistrationOutcome::Confirmed);
                    });
                }
            });
        }
        tick(&fake, &policy());
        if fake.calls_of("Registry::deregister") > 0 {
            break;
        }
    }
    assert!(rec(&fake).deregistered_at.is_some(), "scenario reached");
    for _ in 0..(48 * 60) {
        tick(&fake, &policy());
    }
    assert!(!grounds(&fake).is_empty(), "kept for two days: {:?}", rec(&fake));
}

/// F8. A rebuilt record that knows its job by its events, and never learns its runner's id.
#[test]
fn a_rebuilt_record_with_a_job_still_finds_its_runner() {
    let fake = Fake::new();
    put_instance(&fake, &id());
    fake.state_mut()
        .instances
        .get_mut(&id())
        .expect("put")
        .tags
        .insert("aws:ec2launchtemplate:id".into(), "lt-1".into());
    fake.put_runner(&access().scope, runner());
    event(&fake, "in_progress", 1, Some(7));
    assert!(minutes_until(&fake, |fake| fake.get::<InstanceRecord>("i-1").is_some()).is_some());
    event(&fake, "completed", 1, Some(7));
    api(&fake, 1, JobState::Completed, Some(7));
    for _ in 0..(24 * 60) {
        tick(&fake, &policy());
    }
    assert!(!grounds(&fake).is_empty(), "its job completed a day ago: {:?}", rec(&fake));
}

/// F9. Row 7 when the completion came without its start.
#[test]
fn row_7_holds_where_the_start_was_lost() {
    for start in [true, false] {
        let fake = Fake::new();
        idle_runner(&fake);
        if start {
            event(&fake, "in_progress", 1, Some(7));
        }
        event(&fake, "completed", 1, Some(7));
        api(&fake, 1, JobState::Completed, Some(7));
        assert!(minutes_until(&fake, |fake| rec(fake).job_completed.is_some()).is_some());
        busy(&fake, true);
        fake.state_mut().runners[0].1.online = false;
        for _ in 0..(24 * 60) {
            tick(&fake, &policy());
        }
        assert_eq!(grounds(&fake), [Ground::JobCompleted], "start known: {start}");
    }
}

fn another(fake: &Fake, number: u64, change: impl FnOnce(&mut InstanceRecord)) -> InstanceId {
    let id = InstanceId::new(format!("i-{number:04}"));
    put_instance(fake, &id);
    let mut record = record(fake);
    record.instance_id = id.clone();
    record.runner_name = RunnerName::new(format!("runner-{id}"));
    record.runner_id = Some(RunnerId(number));
    change(&mut record);
    fake.put(&record);
    let mut registered = runner();
    registered.id = RunnerId(number);
    registered.name = record.runner_name;
    fake.put_runner(&access().scope, registered);
    id
}

/// F10. More than 100 silent instances with jobs: the later ones are never asked about.
#[test]
fn every_silent_instance_with_a_job_is_asked_about_in_time() {
    for first in [1001, 1000] {
        let fake = Fake::new();
        for number in first..1101 {
            another(&fake, number, |record| {
                let at = Timestamp(1);
                record.note_started(JobStarted {
                    job_id: JobId(number),
                    repository: repository(),
                    at,
                    runner_id: Some(RunnerId(number)),
                });
            });
            api(&fake, number, if number == 1100 { JobState::Completed } else { JobState::InProgress }, Some(number));
        }
        for _ in 0..60 {
            fake.pass(5 * MINUTE);
            let _ = sweep(&fake, &policy());
        }
        assert!(
            fake.get::<InstanceRecord>("i-1100").expect("a record").job_completed.is_some(),
            "{} instances: five hours, 60 sweeps",
            1101 - first
        );
    }
}

/// F11. A job that started six days ago on a runner nobody named, its repository deleted.
#[test]
fn a_job_older_than_any_job_can_be_blocks_nobody() {
    for deleted in [false, true] {
        let fake = Fake::new();
        let mut job = waiting_job(fake.now());
        job.job_id = JobId(55);
        job.repository = Repository::try_from("octo/deleted".to_owned()).expect("a name");
        job.phase = JobPhase::Started { at: fake.now() };
        fake.put(&job);
        if !deleted {
            api(&fake, 55, JobState::Completed, None);
        }
        fake.pass(6 * 24 * HOUR);
        idle_runner(&fake);
        assert!(
            minutes_until_deregistered(&fake).is_some(),
            "deleted {deleted}: GitHub ends every job after five days"
        );
    }
}

/// F12. Sightings under a bypass tag do not end a row of absences.
#[test]
fn a_sighting_of_a_bypassed_or_stopped_instance_disproves_an_absence() {
    let mut wrong = Vec::new();
    for case in ["running", "bypassed", "stopped"] {
        let fake = Fake::new();
        idle_runner(&fake);
        fake.pass(2 * HOUR);
        let tag = |fake: &Fake, key: &str, value: &str| {
            fake.state_mut().instances.get_mut(&id()).expect("put").tags.insert(key.into(), value.into());
        };
        tag(&fake, "ghr:environment", "x");
        let _ = sweep(&fake, &policy());
        tag(&fake, "ghr:environment", "test");
        assert!(rec(&fake).missing_since.is_some());
        if case == "stopped" {
            fake.set_instance_state(&id(), InstanceState::Stopped);
        } else if case == "bypassed" {
            tag(&fake, "ghr:bypass-removal", "true");
        }
        for _ in 0..10 {
            tick(&fake, &policy());
        }
        tag(&fake, "ghr:environment", "x");
        let hidden = fake.now();
        assert!(minutes_until(&fake, |fake| rec(fake).gone_at.is_some()).is_some());
        let after = fake.now().since(hidden);
        if after < 10 * MINUTE {
            wrong.push(format!("{case}: gone {} s after it was last seen", after.as_secs()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// F13. Five instances that EC2 will not let us end take the whole cap of every sweep.
#[test]
fn what_cannot_be_ended_does_not_keep_the_rest() {
    for refused in [4, 5] {
        let fake = Fake::new();
        for number in 1000..1008 {
            let id = another(&fake, number, |record| {
                record.jit_intent_at = None;
                record.runner_id = None;
            });
            if number < 1000 + refused {
                fake.state_mut().refused.insert(id);
            }
        }
        fake.state_mut().runners.clear();
        for _ in 0..100 {
            fake.pass(5 * MINUTE);
            let _ = sweep(&fake, &policy());
        }
        assert_eq!(
            grounds(&fake).len() as u64,
            8 - refused,
            "{refused} refused: those that may be ended, in 100 sweeps"
        );
    }
}

/// F14. A start by name alone can veto.
#[test]
fn a_start_by_name_alone_after_a_completion_keeps() {
    for known in [false, true] {
        let fake = Fake::new();
        idle_runner(&fake);
        if known {
            event(&fake, "in_progress", 1, Some(7));
        }
        event(&fake, "completed", 1, Some(7));
        api(&fake, 1, JobState::Completed, Some(7));
        assert!(minutes_until(&fake, |fake| rec(fake).job_completed.is_some()).is_some());
        event(&fake, "in_progress", 2, None);
        api(&fake, 2, JobState::InProgress, Some(7));
        for _ in 0..PASSES_MAX {
            tick(&fake, &policy());
        }
        untouched(
            &fake,
            if known { "start 1 known" } else { "start 1 lost; the record itself says that job 2 started" },
        );
    }
}

/// F15. Stopped, started (nobody looked), hibernated: the grace counts from the first stop.
#[test]
fn a_stop_counts_from_its_own_beginning() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.pass(20 * MINUTE);
    fake.set_instance_state(&id(), InstanceState::Stopped);
    tick(&fake, &policy());
    assert!(rec(&fake).stopped_since.is_some());
    fake.pass(2 * MINUTE);
    // Started by a person, takes a job; passes are down for 20 min; then it is hibernated.
    event(&fake, "in_progress", 1, Some(7));
    fake.pass(20 * MINUTE);
    fake.set_instance_state(&id(), InstanceState::Stopping);
    tick(&fake, &policy());
    fake.set_instance_state(&id(), InstanceState::Stopped);
    tick(&fake, &policy());
    untouched(&fake, "stopped for one minute; seen on its way to stopped, so it ran in between");
}

/// F1c. A completion noted from the jobs API while another job starts in the same pass.
#[test]
fn a_completion_by_the_api_while_another_starts_keeps() {
    let ready = || {
        let fake = Fake::new();
        idle_runner(&fake);
        event(&fake, "in_progress", 1, Some(7));
        fake.pass(16 * MINUTE);
        api(&fake, 1, JobState::Completed, Some(7));
        fake
    };
    for call in 1..40 {
        let fake = ready();
        fake.meanwhile(fake.calls() + call, |fake| {
            api(fake, 2, JobState::InProgress, Some(7));
            event(fake, "in_progress", 2, Some(7));
        });
        for _ in 0..PASSES_MAX {
            tick(&fake, &policy());
        }
        if fake.get::<JobRecord>("2").is_some() {
            untouched(&fake, &format!("call {call}"));
        }
    }
}

/// Held? Row 10, then the same job is assigned here again, its second event lost.
#[test]
fn held_dropped_and_assigned_again() {
    let fake = Fake::new();
    idle_runner(&fake);
    event(&fake, "in_progress", 1, Some(7));
    api(&fake, 1, JobState::Queued, None);
    assert!(minutes_until(&fake, |fake| rec(fake).job_started.is_none()).is_some(), "row 10");
    api(&fake, 1, JobState::InProgress, Some(7));
    for _ in 0..PASSES_MAX {
        tick(&fake, &policy());
    }
    untouched(&fake, "assigned again");
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

/// F16. Row 7: the jobs API is asked about job 1; the re-check brings the start of job 2; the answer about job 1 is
/// written down as job 2's.
#[test]
fn what_the_api_said_of_one_job_is_not_said_of_the_next() {
    let fake = Fake::new();
    idle_runner(&fake);
    event(&fake, "in_progress", 1, Some(7));
    event(&fake, "completed", 1, Some(7));
    api(&fake, 1, JobState::Completed, Some(7));
    api(&fake, 2, JobState::InProgress, Some(7));
    busy(&fake, true);
    fake.state_mut().runners[0].1.online = false; // offline lies (runner#3448)
    fake.pass(10 * MINUTE);
    failed_delivery(&fake, "in_progress", 2);
    for _ in 0..30 {
        tick(&fake, &policy());
    }
    let record = rec(&fake);
    assert_eq!(record.job_started.as_ref().map(|started| started.job_id), Some(JobId(2)), "scenario");
    let wrong = record.job_completed.clone();
    busy(&fake, false);
    for _ in 0..PASSES_MAX {
        tick(&fake, &policy());
    }
    untouched(&fake, &format!("job 2 runs; the ledger said {wrong:?}"));
}

/// F17. Taken for gone, deregistered, back: a job that runs there is looked for less than where its registration went by
/// itself (row 16).
#[test]
fn an_instance_that_is_back_is_looked_at_as_in_row_16() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.state_mut().runners[0].1.online = false;
    fake.pass(2 * HOUR);
    let tag = |fake: &Fake, value: &str| {
        fake.state_mut().instances.get_mut(&id()).expect("put").tags.insert("ghr:environment".into(), value.into());
    };
    tag(&fake, "x");
    assert!(minutes_until(&fake, |fake| fake.state().runners.is_empty()).is_some());
    tag(&fake, "test");
    api(&fake, 1, JobState::InProgress, Some(7));
    for _ in 0..PASSES_MAX {
        tick(&fake, &policy());
    }
    assert!(
        grounds(&fake).is_empty(),
        "ended {:?}, in progress read {}",
        grounds(&fake),
        fake.calls_of("Jobs::jobs_in_progress")
    );
}

/// F18. A row of absences of before the restore.
#[test]
fn a_restored_row_of_absences_proves_nothing() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.state_mut()
        .instances
        .get_mut(&id())
        .expect("put")
        .tags
        .insert("aws:ec2launchtemplate:id".into(), "lt-1".into());
    fake.pass(2 * HOUR);
    let at = fake.now();
    edit(&fake, |r| {
        r.missing_since = Some(at);
        r.missing_counted_at = Some(at);
    });
    fake.pass(20 * HOUR); // it was seen for all that time; then the backup of 20 h ago came back
    let restored = Policy { ledger_epoch: Some(fake.now()), ..policy() };
    fake.state_mut().instances.get_mut(&id()).expect("put").tags.insert("ghr:environment".into(), "x".into());
    tick(&fake, &restored);
    assert_eq!(rec(&fake).gone_at, None, "gone by one listing after the restore");
}

/// F19. Another fleet's queue (labels that this runner does not have) decides whether this fleet's dead are removed.
#[test]
fn another_fleets_queue_blocks_nobody() {
    for count in [20, 21] {
        let fake = Fake::new();
        idle_runner(&fake);
        for number in 100..100 + count {
            let mut job = waiting_job(fake.now());
            job.job_id = JobId(number);
            job.labels = vec!["self-hosted".into(), "gpu".into()];
            job.fleet = Some(FleetName::new("gpu"));
            job.next_look = Timestamp(i64::MAX);
            fake.put(&job);
            api(&fake, number, JobState::Queued, None);
        }
        let mut two = policy();
        two.fleets.push(crate::fake::fleet("gpu"));
        for _ in 0..(24 * 60) {
            tick(&fake, &two);
        }
        assert!(fake.state().runners.is_empty(), "{count} jobs wait for gpu: after a day still registered");
    }
}

/// Held? A terminate intent left by a killed pass, then a job.
#[test]
fn held_a_terminate_intent_left_behind_is_judged_anew() {
    let fake = Fake::new();
    idle_runner(&fake);
    let at = fake.now();
    edit(&fake, |r| r.terminate_intent = Some(RemovalIntent { at, ground: Ground::IdleAfterDeregistration }));
    busy(&fake, true);
    for _ in 0..PASSES_MAX {
        tick(&fake, &policy());
    }
    untouched(&fake, "busy");
    busy(&fake, false);
    for _ in 0..PASSES_MAX {
        tick(&fake, &policy());
    }
    untouched(&fake, "busy was seen");
}

/// Held? A pool that shrinks while a ghost is kept in it; a job comes during every pass.
#[test]
fn held_pool_and_drain() {
    let fake = Fake::new();
    idle_runner(&fake);
    for minute in 0..600 {
        let policy = if minute / 30 % 2 == 0 { pool() } else { policy() };
        if minute == 32 {
            busy(&fake, true);
        }
        tick(&fake, &policy);
        if minute == 37 {
            busy(&fake, false);
        }
    }
    untouched(&fake, "busy for five minutes while the pool was off");
}
