//! What is not shown, by EC2 or by GitHub, proves nothing by itself: omissions, sightings in between, rows of readings,
//! lists that miss many.

use std::collections::BTreeSet;

use super::*;
use crate::evidence::PositiveControl;
use crate::ledger::{AbsenceBreaker, JobCompleted, RemovalIntent};
use crate::removal::DeregistrationGround;

#[test]
fn an_instance_whose_tag_was_taken_away_keeps_its_runner() {
    let fake = Fake::new();
    idle_runner(&fake);
    job_starts(&fake);
    fake.pass(2 * HOUR);
    fake.retag(&id(), |tags| {
        tags.remove("ghr:environment");
    });
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
        f.retag(&id(), |tags| {
            tags.insert("ghr:environment".into(), "x".into());
        });
    };
    let show = |f: &Fake| {
        f.retag(&id(), |tags| {
            tags.insert("ghr:environment".into(), "test".into());
        });
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
fn an_empty_listing_deregisters_nobody() {
    let fake = Fake::new();
    for n in 0..40u64 {
        let id = InstanceId::new(format!("i-{n:03x}"));
        put_fallen_silent(&fake, &id);
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

#[test]
fn an_instance_seen_again_is_cleaned_up_when_it_ends() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.pass(2 * HOUR);
    let t = |f: &Fake, v: &str| {
        f.retag(&id(), |tags| {
            tags.insert("ghr:environment".into(), v.into());
        });
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
fn a_worker_that_ran_when_last_heard_of_keeps_a_missed_instance() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.pass(2 * HOUR);
    let now = fake.now();
    fake.state_mut().vital_signs.insert(id(), VitalSign { beat_at: now, worker: Worker::Running });
    fake.state_mut().runners[0].1.online = false; // offline lies (runner 3448, 3892)
    fake.pass(15 * MINUTE);
    fake.retag(&id(), |tags| {
        tags.remove("ghr:environment");
    });
    for _ in 0..30 {
        tick(&fake, &policy());
    }
    assert_eq!(fake.calls_of("Registry::deregister"), 0, "its last word was: a worker runs");
}

/// The same by two single readings: present, listed and online between them.
#[test]
fn two_lone_absences_half_an_hour_apart_are_no_unbroken_row() {
    let fake = Fake::new();
    idle_runner(&fake);
    for _ in 0..14 {
        tick(&fake, &policy());
    }
    let at = fake.now().minus(3 * MINUTE);
    edit(&fake, &id(), |r| r.deregister_intent = Some(RemovalIntent { at, ground: DeregistrationGround::Idle }));
    let runners = std::mem::take(&mut fake.state_mut().runners);
    tick(&fake, &policy());
    fake.state_mut().runners = runners.clone();
    assert!(record_of(&fake).deregistered_at.is_some());
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

/// Row 19: offline for three sweeps in a partition, then five hours of beats and online; offline again.
#[test]
fn an_offline_spell_is_broken_by_hours_of_life() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.pass(16 * MINUTE);
    fake.state_mut().runners[0].1.online = false;
    for _ in 0..3 {
        tick(&fake, &pool());
    }
    assert_eq!(record_of(&fake).offline.map(|spell| spell.sweeps), Some(3));
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

/// Row 16: absent for three sweeps; then a job runs for hours, listed and busy; row 10 drops it; one absence.
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
    assert_eq!(record_of(&fake).absent.map(|spell| spell.sweeps), Some(3));
    fake.state_mut().runners = runners.clone();
    busy(&fake, true);
    event(&fake, "in_progress", 1, Some(7));
    for _ in 0..300 {
        tick(&fake, &policy());
    }
    busy(&fake, false);
    jobs_api_says(&fake, 1, JobState::InProgress, Some(9));
    assert!(minutes_until(&fake, |fake| record_of(fake).job_started.is_none()).is_some(), "row 10");
    fake.state_mut().runners.clear();
    tick(&fake, &policy());
    tick(&fake, &policy());
    untouched(&fake, "absent for two readings after five hours of presence");
}

/// Row 20: one idle reading, hours of beats, then one more reading at once.
#[test]
fn an_idle_reading_is_not_carried_over_hours_of_life() {
    let fake = Fake::new();
    idle_runner(&fake);
    assert!(minutes_until(&fake, |fake| record_of(fake).idle_since.is_some()).is_some());
    for _ in 0..300 {
        beat(&fake);
        tick(&fake, &policy());
    }
    untouched(&fake, "alive");
    fake.pass(10 * MINUTE);
    tick(&fake, &policy());
    untouched(&fake, "one reading after five hours of which nobody asked GitHub");
}

/// Sightings under a bypass tag do not end a row of absences.
#[test]
fn a_sighting_of_a_bypassed_or_stopped_instance_disproves_an_absence() {
    let mut wrong = Vec::new();
    for case in ["running", "bypassed", "stopped"] {
        let fake = Fake::new();
        idle_runner(&fake);
        fake.pass(2 * HOUR);
        let tag = |fake: &Fake, key: &str, value: &str| {
            fake.retag(&id(), |tags| {
                tags.insert(key.into(), value.into());
            });
        };
        tag(&fake, "ghr:environment", "x");
        let _ = sweep(&fake, &policy());
        tag(&fake, "ghr:environment", "test");
        assert!(record_of(&fake).missing_since.is_some());
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
        assert!(minutes_until(&fake, |fake| record_of(fake).gone_at.is_some()).is_some());
        let after = fake.now().since(hidden);
        if after < 10 * MINUTE {
            wrong.push(format!("{case}: gone {} s after it was last seen", after.as_secs()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Stopped, started (nobody looked), hibernated: the grace counts from the first stop.
#[test]
fn a_stop_counts_from_its_own_beginning() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.pass(20 * MINUTE);
    fake.set_instance_state(&id(), InstanceState::Stopped);
    tick(&fake, &policy());
    assert!(record_of(&fake).stopped_since.is_some());
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

/// Taken for gone, deregistered, back: a job that runs there is looked for less than where its registration went by
/// itself (row 16).
#[test]
fn an_instance_that_is_back_is_looked_at_as_in_row_16() {
    let fake = Fake::new();
    idle_runner(&fake);
    fake.state_mut().runners[0].1.online = false;
    fake.pass(2 * HOUR);
    let tag = |fake: &Fake, value: &str| {
        fake.retag(&id(), |tags| {
            tags.insert("ghr:environment".into(), value.into());
        });
    };
    tag(&fake, "x");
    assert!(minutes_until(&fake, |fake| fake.state().runners.is_empty()).is_some());
    tag(&fake, "test");
    jobs_api_says(&fake, 1, JobState::InProgress, Some(7));
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

/// Positive control: 30 registrations vanish from the list at once; only the four without a job count.
#[test]
fn a_list_that_misses_everybody_is_implausible_although_most_are_busy() {
    let fake = Fake::new();
    for n in 1..=30 {
        put_nth(&fake, n);
        if n <= 26 {
            start_on(&fake, n, n as u64);
            let sign = VitalSign { beat_at: fake.now(), worker: Worker::Running };
            fake.state_mut().vital_signs.insert(nth(n), sign);
        }
    }
    fake.pass(20 * MINUTE);
    tick(&fake, &policy()); // all listed
    fake.state_mut().runners.clear(); // a 404 storm
    let mut minutes = 0;
    while fake.state().terminated.is_empty() && minutes < 58 {
        tick(&fake, &policy());
        minutes += 1;
    }
    assert!(
        fake.state().terminated.is_empty(),
        "ended {:?} after {minutes} min of a list that misses 30 of 30",
        fake.state().terminated
    );
}

/// A breaker that was left open two days ago counts a new storm as agreeing.
#[test]
fn a_stale_breaker_does_not_vouch_for_a_new_storm() {
    let ids = |range: std::ops::Range<u64>| range.map(RunnerId).collect::<BTreeSet<_>>();
    let now = Timestamp(0).plus(DAY);
    let left = AbsenceBreaker {
        scope: access().scope,
        missing: ids(0..10), // their instances are long gone
        agreeing_since: Timestamp(0),
        agreeing_count: 2,
        agreed_at: Timestamp(1),
    };
    let (control, _) = PositiveControl::judge(&access().scope, &ids(0..0), &ids(100..110), Some(&left), now);
    assert_eq!(control, PositiveControl::MassAbsence, "the first list of a new storm is believed");
}

/// A sighting of a stopped instance between two omissions.
#[test]
fn a_sighting_as_stopped_disproves_omissions_before_it() {
    let fake = Fake::new();
    idle_runner(&fake);
    let show = |fake: &Fake, value: &str| {
        fake.retag(&id(), |tags| {
            tags.insert("ghr:environment".into(), value.into());
        });
    };
    fake.pass(2 * HOUR);
    show(&fake, "x");
    let _ = sweep(&fake, &policy());
    fake.pass(6 * MINUTE);
    let _ = sweep(&fake, &policy());
    show(&fake, "test");
    fake.set_instance_state(&id(), InstanceState::Stopped);
    for _ in 0..2 {
        fake.pass(5 * MINUTE);
        let _ = sweep(&fake, &policy());
    }
    show(&fake, "x");
    fake.pass(MINUTE);
    let _ = sweep(&fake, &policy());
    assert_eq!(fake.get::<InstanceRecord>("i-1").unwrap().gone_at, None, "one omission, a minute after a sighting");
}

/// pure.
#[test]
fn one_survivor_of_an_old_absence_does_not_vouch_for_a_new_storm() {
    let ids = |range: std::ops::Range<u64>| range.map(RunnerId).collect::<BTreeSet<_>>();
    let left = AbsenceBreaker {
        scope: access().scope,
        missing: ids(0..10),
        agreeing_since: Timestamp(0),
        agreeing_count: 500,
        agreed_at: Timestamp(0).plus(DAY),
    };
    let now = Timestamp(0).plus(DAY).plus(MINUTE);
    let expected: BTreeSet<RunnerId> = ids(9..10).into_iter().chain(ids(100..140)).collect();
    let (before, _) = PositiveControl::judge(&access().scope, &ids(100..140), &expected, Some(&left), now);
    let (control, _) = PositiveControl::judge(&access().scope, &ids(0..0), &expected, Some(&left), now);
    assert_eq!((before, control), (before, PositiveControl::MassAbsence), "the first list of a new storm is believed");
}

/// The same over the whole road. Seven registrations were removed by hand; six of their instances ended, the seventh's job
/// runs on. Next day a storm hides 20 others, each of which runs a job whose start was lost; owner of 40 repositories.
fn storm(survivor: bool) -> (usize, u32) {
    let fake = Fake::new();
    for n in 40..80 {
        fake.state_mut().repositories.insert(Repository::try_from(format!("octo/r{n}")).unwrap());
    }
    for n in 1..=7 {
        put_nth(&fake, n);
        let sign = VitalSign { beat_at: fake.now(), worker: Worker::Running };
        fake.state_mut().vital_signs.insert(nth(n), sign);
    }
    fake.pass(20 * MINUTE);
    fake.state_mut().runners.clear();
    for _ in 0..40 {
        tick(&fake, &policy());
    }
    for n in if survivor { 2 } else { 1 }..=7 {
        fake.set_instance_state(&nth(n), InstanceState::Terminated);
    }
    for n in 20..40 {
        put_nth(&fake, n);
    }
    let demand = |fake: &Fake| {
        fake.put(&waiting_job(fake.now()));
        fake.put_job(JobId(1), JobState::Queued);
    };
    for _ in 0..20 {
        demand(&fake);
        tick(&fake, &policy());
    }
    let before = fake.state().terminated.len();
    fake.state_mut().runners.clear(); // the storm
    let mut minutes = 0;
    while fake.state().terminated.len() == before && minutes < 58 {
        demand(&fake);
        tick(&fake, &policy());
        minutes += 1;
    }
    (fake.state().terminated.len() - before, minutes)
}

#[test]
fn a_storm_with_no_survivor_ends_nobody_either() {
    assert_eq!(storm(false).0, 0);
}

#[test]
fn a_storm_beside_one_survivor_ends_nobody_within_the_hour() {
    let (ended, minutes) = storm(true);
    assert_eq!(ended, 0, "ended {ended} after {minutes} min of a list that misses all 21");
}

/// A login has no case: `octo` in the idle schedule's `idle_owner` is the `Octo` of the payloads. One spelling's few
/// instances must not make a list plausible that misses all of the other's, nor close the breaker that those opened.
#[test]
fn a_scope_written_in_two_ways_is_one_scope() {
    let fake = Fake::new();
    for n in 1..=14 {
        let id = put_nth(&fake, n);
        if n > 10 {
            edit(&fake, &id, |record| record.access.scope = Scope::Organization { owner: "Octo".into() });
        }
    }
    fake.pass(20 * MINUTE);
    fake.state_mut().runners.clear(); // a 404 storm
    for _ in 0..45 {
        tick(&fake, &policy());
    }
    assert!(grounds(&fake).is_empty(), "a list that misses 14 of 14 is believed: {:?}", fake.state().terminated);
    let breaker = fake.get::<AbsenceBreaker>(&AbsenceBreaker::id_of(&access().scope)).expect("opened");
    assert_eq!(breaker.missing.len(), 14, "all of them are of one scope: {breaker:?}");
    let mut ended = Vec::new();
    for _ in 0..30 {
        tick(&fake, &policy());
        ended.push(grounds(&fake).len());
    }
    assert_eq!(ended.last(), Some(&14), "lists that agree for long enough are: {ended:?}");
    assert!(ended.windows(2).all(|two| two[1] - two[0] <= 5), "with caution: {ended:?}");
}

/// A repository's own runner bears the name of ours, whose id nobody knows and whose instance ended unseen.
#[test]
fn a_neighbours_job_keeps_no_registration_of_a_missed_instance() {
    for (case, runner_id, left) in [("another's job", RunnerId(99), 0), ("its own", RunnerId(7), 1)] {
        let fake = Fake::new();
        idle_runner(&fake);
        fake.state_mut().runners[0].1.online = false;
        edit(&fake, &id(), |record| {
            record.runner_id = None;
            record.note_completed(JobCompleted { job_id: JobId(9), at: Timestamp(1) }, runner_id);
        });
        fake.state_mut().instances.clear();
        fake.pass(2 * HOUR);
        for _ in 0..100 {
            tick(&fake, &policy());
        }
        assert_eq!(fake.state().runners.len(), left, "{case}: {:?}", record_of(&fake));
    }
}
