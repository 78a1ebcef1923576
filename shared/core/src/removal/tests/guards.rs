//! Both directions of every guard of removal: that it fires, and says so in the report, and that the same instance goes
//! where its signal is missing. A guard that never let go would be a leak, one that never fired a killed job.

use std::collections::BTreeSet;

use super::fixtures::{
    Guard, Moment, acts, after_each_call, assert_guards, down, ends_and_leaves_nothing, job_ends, job_starts_on,
    minutes, of_many, put_failed_delivery, put_job_that_waits, put_runner_of_many, put_sign, swept, tag,
};
use super::*;
use crate::config::{HARD_AGE, IdleSchedule};
use crate::evidence::{BYPASS_TAG, ENVIRONMENT_TAG, TEMPLATE_TAG};
use crate::ledger::{DeregistrationOutcome, JobCompleted, RemovalIntent, Spell};
use crate::removal::DeregistrationGround;
use crate::verdict::Reason;

use Moment::{BeforeDelete, BeforeTerminate};

fn heal(fake: &Fake, _: &mut Policy) {
    fake.heal();
}

#[test]
fn whose_it_is_keeps_and_its_absence_removes() {
    assert_guards(&[
        Guard {
            case: "the tag of another deployment",
            signal: |fake, _| tag(fake, ENVIRONMENT_TAG, Some("other")),
            withdraw: Some(|fake, _| tag(fake, ENVIRONMENT_TAG, Some("test"))),
            speaks: &[(BeforeDelete, None), (BeforeTerminate, None)],
        },
        Guard {
            case: "an operator's tag",
            signal: |fake, _| tag(fake, BYPASS_TAG, Some("")),
            withdraw: Some(|fake, _| tag(fake, BYPASS_TAG, None)),
            speaks: &[(BeforeDelete, Some(Reason::Bypassed)), (BeforeTerminate, Some(Reason::Bypassed))],
        },
    ]);
}

/// The registration under our runner's id bears this name.
fn name_runner(fake: &Fake, name: &str) {
    let named = Runner { name: RunnerName::new(name), ..runner() };
    let mut state = fake.state_mut();
    state.runners.retain(|(_, runner)| runner.id != named.id);
    drop(state);
    fake.put_runner(&access().scope, named);
}

/// An id that GitHub gave away again, or that was written down wrongly: what is said of that runner is not said of ours.
#[test]
fn a_runner_of_another_name_under_our_id_keeps_and_its_own_name_removes() {
    assert_guards(&[Guard {
        case: "another name under our runner's id",
        signal: |fake, _| name_runner(fake, "somebody-else"),
        withdraw: Some(|fake, _| name_runner(fake, "runner-i-1")),
        speaks: &[
            (BeforeDelete, Some(Reason::ForeignRegistration)),
            (BeforeTerminate, Some(Reason::ForeignRegistration)),
        ],
    }]);
}

#[test]
fn our_template_makes_a_rebuilt_instance_ours_and_another_does_not() {
    for (template, expected) in [("lt-1", vec![Ground::HardAge]), ("lt-2", vec![])] {
        let fake = Fake::new();
        put_instance(&fake, &id());
        tag(&fake, TEMPLATE_TAG, Some(template));
        minutes(&fake, &policy(), 20);
        fake.pass(HARD_AGE + 2 * HOUR);
        let report = swept(&fake, &policy());
        assert_eq!(
            (grounds(&fake), report.kept.contains_key(&Reason::NotOurs)),
            (expected.clone(), expected.is_empty())
        );
    }
}

#[test]
fn the_instances_own_word_keeps_and_its_silence_removes() {
    fn silent(fake: &Fake, _: &mut Policy) {
        fake.state_mut().vital_signs.clear();
    }
    assert_guards(&[
        Guard {
            case: "a young vital sign",
            signal: |fake, _| put_sign(fake, Worker::None, MINUTE),
            withdraw: Some(|_, _| {}),
            // Before the DELETE its idle reading is dropped; then it is asked to drain, and decides itself.
            speaks: &[(BeforeDelete, Some(Reason::SupervisorAlive)), (BeforeTerminate, Some(Reason::SupervisorAlive))],
        },
        Guard {
            case: "a worker ran when it last spoke, hours ago",
            signal: |fake, _| put_sign(fake, Worker::Running, 3 * HOUR),
            withdraw: Some(silent),
            speaks: &[(BeforeDelete, Some(Reason::WorkerAlive)), (BeforeTerminate, Some(Reason::WorkerAlive))],
        },
        Guard {
            case: "a job was being acquired when it last spoke",
            signal: |fake, _| put_sign(fake, Worker::Acquiring, 3 * HOUR),
            withdraw: Some(|fake, _| put_sign(fake, Worker::None, 3 * HOUR)),
            speaks: &[(BeforeDelete, Some(Reason::WorkerAlive)), (BeforeTerminate, Some(Reason::WorkerAlive))],
        },
        Guard {
            case: "vital signs cannot be read",
            signal: |fake, _| fake.always_fail("VitalSigns::read", Class::Throttled { retry_after: None }),
            withdraw: Some(heal),
            speaks: &[(BeforeDelete, Some(Reason::VitalSignUnread)), (BeforeTerminate, Some(Reason::VitalSignUnread))],
        },
    ]);
}

#[test]
fn evidence_of_a_job_keeps_and_its_absence_removes() {
    fn completed(fake: &Fake, _: &mut Policy) {
        jobs_api_says(fake, 1, JobState::Completed, Some(7));
        fake.state_mut().runners.iter_mut().for_each(|(_, runner)| runner.busy = false);
        if record_of(fake).job_started.is_none() {
            job_starts(fake);
        }
        job_ends(fake);
    }
    assert_guards(&[
        Guard {
            case: "its event",
            signal: |fake, _| job_starts(fake),
            withdraw: Some(completed),
            speaks: &[(BeforeDelete, Some(Reason::JobRunning)), (BeforeTerminate, Some(Reason::JobSurfaced))],
        },
        Guard {
            case: "its event by the runner's name alone",
            signal: |fake, _| {
                edit(fake, &id(), |record| {
                    record.note_started(JobStarted { runner_id: None, ..started() });
                });
            },
            withdraw: Some(completed),
            speaks: &[(BeforeDelete, Some(Reason::JobRunning)), (BeforeTerminate, Some(Reason::JobSurfaced))],
        },
        Guard {
            case: "a completion of a job that nobody saw start",
            signal: |fake, _| {
                edit(fake, &id(), |record| {
                    record.note_completed(JobCompleted { job_id: JobId(1), at: Timestamp(1) }, RunnerId(7));
                });
            },
            withdraw: Some(completed),
            speaks: &[(BeforeDelete, Some(Reason::BusySeen)), (BeforeTerminate, Some(Reason::JobSurfaced))],
        },
        Guard {
            case: "the busy flag, once, remembered for good",
            signal: |fake, _| {
                let first = record_of(fake).busy_seen_at.is_none();
                fake.state_mut().runners[0].1.busy = first;
            },
            withdraw: None,
            speaks: &[(BeforeDelete, Some(Reason::BusyNow))],
        },
        Guard {
            case: "the busy flag of a registration that is back",
            signal: |fake, _| {
                if fake.state().runners.is_empty() {
                    fake.put_runner(&access().scope, Runner { busy: true, ..runner() });
                }
            },
            withdraw: Some(completed),
            speaks: &[(BeforeTerminate, Some(Reason::BusyNow))],
        },
        Guard {
            case: "the jobs API shows a job that waited on this runner",
            signal: |fake, _| put_job_that_waits(fake, JobState::InProgress, Some(7)),
            withdraw: Some(completed),
            speaks: &[(BeforeDelete, Some(Reason::JobSurfaced)), (BeforeTerminate, Some(Reason::JobSurfaced))],
        },
        Guard {
            case: "the jobs API does not answer for a job that waits",
            signal: |fake, _| fake.put(&waiting_job(fake.now().minus(HOUR))),
            withdraw: Some(|fake, _| jobs_api_says(fake, 1, JobState::Queued, None)),
            speaks: &[(BeforeDelete, Some(Reason::JobsUnread)), (BeforeTerminate, Some(Reason::JobsUnread))],
        },
        Guard {
            case: "a delivery that failed says that a job started",
            signal: |fake, _| {
                if fake.state().deliveries.is_empty() {
                    put_failed_delivery(fake, "in_progress");
                }
            },
            withdraw: Some(completed),
            speaks: &[(BeforeDelete, Some(Reason::JobRunning)), (BeforeTerminate, Some(Reason::JobSurfaced))],
        },
    ]);
}

#[test]
fn what_cannot_be_asked_keeps_and_its_answer_removes() {
    assert_guards(&[
        Guard {
            case: "the list is denied: no positive control",
            signal: |fake, _| fake.always_fail("RegistryRead::runners", Class::Denied),
            withdraw: Some(heal),
            speaks: &[
                (BeforeDelete, Some(Reason::RegistrationDenied)),
                (BeforeTerminate, Some(Reason::RegistrationDenied)),
            ],
        },
        Guard {
            case: "the list is not found: a permission may be lost",
            signal: |fake, _| fake.always_fail("RegistryRead::runners", Class::Absent),
            withdraw: Some(heal),
            speaks: &[
                (BeforeDelete, Some(Reason::RegistrationDenied)),
                (BeforeTerminate, Some(Reason::RegistrationDenied)),
            ],
        },
        Guard {
            case: "the list is cut",
            signal: |fake, _| fake.always_fail("RegistryRead::runners", Class::Transient),
            withdraw: Some(heal),
            speaks: &[
                (BeforeDelete, Some(Reason::RegistrationUnread)),
                (BeforeTerminate, Some(Reason::RegistrationUnread)),
            ],
        },
        Guard {
            case: "the runner itself is denied",
            signal: |fake, _| fake.always_fail("RegistryRead::runner", Class::Denied),
            withdraw: Some(heal),
            speaks: &[
                (BeforeDelete, Some(Reason::RegistrationDenied)),
                (BeforeTerminate, Some(Reason::RegistrationDenied)),
            ],
        },
        Guard {
            case: "the runner itself cannot be read",
            signal: |fake, _| fake.always_fail("RegistryRead::runner", Class::Transient),
            withdraw: Some(heal),
            speaks: &[
                (BeforeDelete, Some(Reason::RegistrationUnread)),
                (BeforeTerminate, Some(Reason::RegistrationUnread)),
            ],
        },
        Guard {
            case: "GitHub's log of deliveries cannot be read",
            signal: |fake, _| fake.always_fail("DeliveryLog::failed_deliveries_since", Class::Transient),
            withdraw: Some(heal),
            speaks: &[
                (BeforeDelete, Some(Reason::DeliveriesUnsettled)),
                (BeforeTerminate, Some(Reason::DeliveriesUnsettled)),
            ],
        },
        Guard {
            case: "a delivery that failed cannot be read",
            signal: |fake, _| {
                if fake.state().deliveries.is_empty() {
                    put_failed_delivery(fake, "in_progress");
                }
                fake.always_fail("DeliveryLog::delivery_payload", Class::Transient);
            },
            withdraw: Some(|fake, _| {
                // It is another runner's.
                for (_, payload) in &mut fake.state_mut().deliveries {
                    *payload = payload.replace("runner-i-1", "runner-i-2").replace(":7,", ":8,");
                }
                fake.heal();
            }),
            speaks: &[
                (BeforeDelete, Some(Reason::DeliveriesUnsettled)),
                (BeforeTerminate, Some(Reason::DeliveriesUnsettled)),
            ],
        },
        Guard {
            case: "the ledger cannot be read",
            signal: |fake, _| fake.always_fail("Ledger::read", Class::Transient),
            withdraw: Some(heal),
            speaks: &[(BeforeDelete, None), (BeforeTerminate, None)],
        },
        Guard {
            case: "EC2's listing fails",
            signal: |fake, _| fake.always_fail("ComputeRead::instances", Class::Throttled { retry_after: None }),
            withdraw: Some(heal),
            speaks: &[(BeforeDelete, None), (BeforeTerminate, None)],
        },
        Guard {
            case: "the jobs that wait cannot be read",
            signal: |fake, _| fake.always_fail("Ledger::open", Class::Transient),
            withdraw: Some(heal),
            speaks: &[(BeforeDelete, Some(Reason::Wanted)), (BeforeTerminate, Some(Reason::JobsUnread))],
        },
    ]);
}

#[test]
fn what_people_and_other_passes_want_keeps_and_its_absence_removes() {
    assert_guards(&[
        Guard {
            case: "a matching job waits",
            signal: |fake, _| {
                fake.put(&waiting_job(fake.now()));
                jobs_api_says(fake, 1, JobState::Queued, None);
            },
            withdraw: Some(|fake, _| {
                let mut job = fake.get::<JobRecord>("1").expect("put");
                job.note_completed(fake.now(), None);
                fake.put(&job);
            }),
            // After the DELETE it can take no job any more, so nobody keeps it for one.
            speaks: &[(BeforeDelete, Some(Reason::Wanted))],
        },
        Guard {
            case: "the kill switch is thrown",
            signal: |fake, _| fake.state_mut().kill_switch = Some(KillSwitch::RemovalDisabled),
            withdraw: Some(|fake, _| fake.state_mut().kill_switch = Some(KillSwitch::RemovalEnabled)),
            speaks: &FORBIDDEN,
        },
        Guard {
            case: "the kill switch is missing",
            signal: |fake, _| fake.state_mut().kill_switch = None,
            withdraw: Some(|fake, _| fake.state_mut().kill_switch = Some(KillSwitch::RemovalEnabled)),
            speaks: &FORBIDDEN,
        },
        Guard {
            case: "the kill switch cannot be read",
            signal: |fake, _| fake.always_fail("Parameters::kill_switch", Class::Transient),
            withdraw: Some(heal),
            speaks: &FORBIDDEN,
        },
        Guard {
            case: "observe",
            signal: |_, policy| policy.mode = Mode::Observe,
            withdraw: Some(|_, policy| policy.mode = Mode::Enforce),
            // Judged to the end, for the record.
            speaks: &[(BeforeDelete, None), (BeforeTerminate, None)],
        },
        Guard {
            case: "another pass is about to deregister it",
            signal: |fake, _| {
                let at = fake.now();
                edit(fake, &id(), |record| record.deregister_intent = Some(idle_intent(at)));
            },
            withdraw: Some(|_, _| {}),
            speaks: &[(BeforeDelete, Some(Reason::InHand))],
        },
        Guard {
            case: "another pass is about to end it",
            signal: |fake, _| {
                let intent = RemovalIntent { at: fake.now(), ground: Ground::IdleAfterDeregistration };
                edit(fake, &id(), |record| record.terminate_intent = Some(intent));
            },
            withdraw: Some(|_, _| {}),
            speaks: &[(BeforeDelete, Some(Reason::InHand)), (BeforeTerminate, Some(Reason::InHand))],
        },
    ]);
}

/// Nothing more is read of what may not be done; it is told as what it is kept in spite of.
const FORBIDDEN: [(Moment, Option<Reason>); 2] =
    [(BeforeDelete, Some(Reason::IdleConfirmed)), (BeforeTerminate, Some(Reason::IdleAfterDeregistration))];

fn idle_intent(at: Timestamp) -> RemovalIntent<DeregistrationGround> {
    RemovalIntent { at, ground: DeregistrationGround::Idle }
}

/// A grace, a world in which it began so long ago, the pass that acts when it is over and why it keeps till then.
struct Grace {
    case: &'static str,
    length: Duration,
    begun: fn(Duration) -> Fake,
    pass: fn(&Fake, &Policy) -> Report,
    before: Option<Reason>,
}

fn at_delete(ago: Duration, begin: impl FnOnce(&mut InstanceRecord, Timestamp)) -> Fake {
    let fake = BeforeDelete.reached();
    fake.pass(2 * HOUR);
    let (since, asked) = (fake.now().minus(ago), fake.now().minus(HOUR));
    edit(&fake, &id(), |record| {
        record.idle_since = Some(asked);
        record.idle_seen_at = Some(fake.now());
        record.drain_requested_at = Some(asked);
        begin(record, since);
    });
    fake
}

fn at_terminate(ago: Duration, begin: impl FnOnce(&mut InstanceRecord, Timestamp)) -> Fake {
    let fake = BeforeTerminate.reached();
    fake.pass(2 * HOUR);
    let since = fake.now().minus(ago);
    edit(&fake, &id(), |record| begin(record, since));
    fake
}

/// An instance launched so long ago; its runner never connected, or it never had one.
fn unconnected(ago: Duration, registered: bool) -> Fake {
    let fake = Fake::new();
    idle_runner(&fake);
    if registered {
        let runner = &mut fake.state_mut().runners[0].1;
        runner.online = false;
        runner.version = Some(None);
    } else {
        fake.state_mut().runners.clear();
        edit(&fake, &id(), |record| {
            record.runner_id = None;
            record.jit_intent_at = None;
        });
    }
    fake.pass(ago);
    fake
}

/// Those of scale-down.
fn graces_of_idle_runners() -> Vec<Grace> {
    vec![
        Grace {
            case: "idle_window",
            length: 5 * MINUTE,
            begun: |ago| at_delete(ago, |record, since| record.idle_since = Some(since)),
            pass: down,
            before: Some(Reason::IdleTooShort),
        },
        Grace {
            case: "drain_answer: it is asked again meanwhile",
            length: 5 * MINUTE,
            begun: |ago| at_delete(ago, |record, since| record.drain_requested_at = Some(since)),
            pass: down,
            before: None,
        },
        Grace {
            case: "quarantine",
            length: 5 * MINUTE,
            begun: |ago| at_terminate(ago, |record, since| record.deregistered_at = Some(since)),
            pass: down,
            before: Some(Reason::Quarantine),
        },
        Grace {
            case: "gone_grace after a DELETE whose answer was lost",
            length: 30 * MINUTE,
            begun: |ago| {
                at_terminate(ago, |record, since| {
                    record.deregistered_at = Some(since);
                    record.deregistration = Some(DeregistrationOutcome::Unconfirmed);
                    record.absent = Some(Spell { since, last: since.plus(29 * MINUTE), sweeps: Spell::SWEEPS });
                })
            },
            pass: swept,
            before: Some(Reason::RegistrationAbsent),
        },
        Grace {
            case: "vital_sign_silence",
            length: 10 * MINUTE,
            begun: |ago| {
                let fake = at_terminate(HOUR, |_, _| {});
                put_sign(&fake, Worker::None, ago);
                fake
            },
            pass: down,
            before: Some(Reason::SupervisorAlive),
        },
        Grace {
            case: "removal_lease",
            length: 2 * MINUTE,
            begun: |ago| {
                at_terminate(ago, |record, at| {
                    record.terminate_intent = Some(RemovalIntent { at, ground: Ground::IdleAfterDeregistration });
                })
            },
            pass: down,
            before: Some(Reason::InHand),
        },
        Grace {
            case: "protection is tried again after an hour",
            length: HOUR,
            begun: |ago| at_terminate(ago, |record, since| record.protected_at = Some(since)),
            pass: down,
            before: Some(Reason::Protected),
        },
    ]
}

/// Those of the orphan-sweeper.
fn graces_of_orphans() -> Vec<Grace> {
    vec![
        Grace {
            case: "completed_grace",
            length: 15 * MINUTE,
            begun: |ago| {
                at_delete(ago, |record, at| {
                    record.note_started(started());
                    record.note_completed(JobCompleted { job_id: JobId(1), at }, RunnerId(7));
                })
            },
            pass: swept,
            before: Some(Reason::CompletedRecently),
        },
        Grace {
            case: "boot_grace of a runner that never connected",
            length: 15 * MINUTE,
            begun: |ago| unconnected(ago, true),
            pass: swept,
            before: Some(Reason::Surplus),
        },
        Grace {
            case: "boot_grace of an instance that never had a runner",
            length: 15 * MINUTE,
            begun: |ago| unconnected(ago, false),
            pass: swept,
            before: Some(Reason::Booting),
        },
        Grace {
            case: "gone_grace, after three sweeps (row 16)",
            length: 30 * MINUTE,
            begun: |ago| {
                let fake = at_delete(ago, |record, since| {
                    record.absent = Some(Spell { since, last: since.plus(29 * MINUTE), sweeps: Spell::SWEEPS });
                });
                fake.state_mut().runners.clear();
                fake
            },
            pass: swept,
            before: Some(Reason::RegistrationAbsent),
        },
        Grace {
            case: "gone_grace of an offline runner, after three sweeps (row 19)",
            length: 30 * MINUTE,
            begun: |ago| {
                let fake = at_delete(ago, |record, since| {
                    record.offline = Some(Spell { since, last: since.plus(29 * MINUTE), sweeps: Spell::SWEEPS });
                });
                fake.state_mut().runners[0].1.online = false;
                fake
            },
            pass: swept,
            before: Some(Reason::Offline),
        },
        Grace {
            case: "a stopped instance, seen as such twice (row 25)",
            length: 15 * MINUTE,
            begun: |ago| {
                let fake = at_delete(ago, |record, since| record.stopped_since = Some(since));
                fake.set_instance_state(&id(), InstanceState::Stopped);
                fake
            },
            pass: swept,
            before: Some(Reason::Stopped),
        },
        Grace {
            case: "the hard age after the longest idle time",
            length: HARD_AGE,
            begun: |ago| {
                let fake = Fake::new();
                idle_runner(&fake);
                fake.pass(HOUR + ago);
                edit(&fake, &id(), |record| record.busy_seen_at = Some(Timestamp(1)));
                fake
            },
            pass: swept,
            before: Some(Reason::BusySeen),
        },
        Grace {
            case: "the hard age after the start of a job",
            length: HARD_AGE,
            begun: |ago| {
                let fake = Fake::new();
                idle_runner(&fake);
                fake.pass(9 * 24 * HOUR);
                let at = fake.now().minus(ago);
                edit(&fake, &id(), |record| {
                    record.note_started(JobStarted { at, ..started() });
                });
                jobs_api_says(&fake, 1, JobState::InProgress, Some(7));
                fake
            },
            pass: swept,
            before: Some(Reason::JobRunning),
        },
    ]
}

#[test]
fn a_grace_keeps_until_the_second_in_which_it_is_over() {
    let graces = graces_of_idle_runners().into_iter().chain(graces_of_orphans());
    for Grace { case, length, begun, pass, before } in graces {
        let fake = begun(length.saturating_sub(Duration::from_secs(1)));
        let done = acts(&fake);
        let report = pass(&fake, &policy());
        assert_eq!(acts(&fake), done, "{case}: a second before: {report:?}");
        assert_eq!(report.kept.keys().copied().collect::<Vec<_>>(), Vec::from_iter(before), "{case}");

        let fake = begun(length);
        let done = acts(&fake);
        let report = pass(&fake, &policy());
        assert_eq!(acts(&fake), done + 1, "{case}: over: {report:?}");
    }
}

// Demand.

#[test]
fn an_idle_schedule_keeps_as_many_as_it_says_and_no_more() {
    for (case, count, deregistered) in [("no schedule", 0, 3), ("one is kept", 1, 2), ("all are kept", 3, 0)] {
        let fake = Fake::new();
        for number in 0..3 {
            put_runner_of_many(&fake, number);
        }
        let mut policy = policy();
        policy.fleets[0].idle = match count {
            0 => Vec::new(),
            count => vec![IdleSchedule::try_new("* * * * *", "UTC", count).expect("valid")],
        };
        // For less than idle_maximum: what has reached it fills no pool.
        minutes(&fake, &policy, 50);
        let report = swept(&fake, &policy);
        assert_eq!(report.kept.get(&Reason::Pool).copied().unwrap_or(0), count, "{case}: {:?}", report.kept);
        assert_eq!(fake.state().runners.len(), 3 - deregistered, "{case}");
        minutes(&fake, &policy, 80);
        assert_eq!(fake.state().terminated.len(), 3, "{case}: nobody stays for ever, their supervisors are dead");
    }
}

#[test]
fn an_instance_younger_than_minimum_running_is_not_asked_to_drain() {
    for (age, asked) in [(0, 0), (4, 0), (5, 1)] {
        let fake = Fake::new();
        idle_runner(&fake);
        fake.pass(age * MINUTE);
        let report = down(&fake, &policy());
        let wanted = report.kept.contains_key(&Reason::Wanted);
        assert_eq!((report.drained_count, wanted), (asked, asked == 0), "{age} min old: {:?}", report.kept);
    }
}

#[test]
fn a_job_that_waits_for_long_keeps_no_runner_that_took_none() {
    for moment in Moment::ALL {
        let fake = moment.reached();
        put_job_that_waits(&fake, JobState::Queued, None);
        let before = acts(&fake);
        down(&fake, &policy());
        assert_eq!(acts(&fake), before + 1, "{moment:?}");
    }
}

#[test]
fn retire_wants_nothing_and_asks_everybody_at_once() {
    for (mode, drained) in [(Mode::Enforce, 0), (Mode::Retire, 1), (Mode::Observe, 0)] {
        let fake = Fake::new();
        idle_runner(&fake);
        fake.put(&waiting_job(fake.now()));
        let mut policy = policy();
        policy.mode = mode;
        fake.pass(MINUTE);
        let report = down(&fake, &policy);
        assert_eq!(report.drained_count, drained, "{mode:?}");
        assert_eq!(report.kept.contains_key(&Reason::Wanted), mode != Mode::Retire, "{mode:?}: {:?}", report.kept);
    }
    // A job that runs is kept while a deployment is retired, too.
    let fake = BeforeDelete.reached();
    job_starts(&fake);
    let mut retiring = policy();
    retiring.mode = Mode::Retire;
    minutes(&fake, &retiring, 60);
    assert_eq!(acts(&fake), 0);
}

// Positive control.

/// 40 runners that a job waits for, so that nothing but the list speaks of them; it misses so many.
fn list_that_misses(missing: u64) -> Fake {
    let fake = Fake::new();
    for number in 0..40 {
        put_runner_of_many(&fake, number);
    }
    fake.pass(20 * MINUTE);
    fake.state_mut().runners.retain(|(_, runner)| runner.id.0 >= 100 + missing);
    fake
}

/// Sweeps every minute for two hours; the reports.
fn two_hours_of_demand(fake: &Fake) -> Vec<Report> {
    let minute = |_| {
        fake.put(&waiting_job(fake.now()));
        jobs_api_says(fake, 1, JobState::Queued, None);
        let report = swept(fake, &policy());
        fake.pass(MINUTE);
        report
    };
    (0..120).map(minute).collect()
}

fn ended_in(report: &Report) -> u32 {
    report.terminated.values().sum()
}

#[test]
fn the_breaker_opens_at_once_and_closes_after_three_lists_over_half_an_hour_for_five_a_pass() {
    let fake = list_that_misses(20);
    let reports = two_hours_of_demand(&fake);
    assert_eq!(reports[0].kept.get(&Reason::RegistrationAbsent), Some(&20), "half of them: an absence counts");
    assert_eq!(reports.iter().position(|report| ended_in(report) > 0), Some(30), "after gone_grace");

    let fake = list_that_misses(30);
    let reports = two_hours_of_demand(&fake);
    assert_eq!(reports[0].kept.get(&Reason::NoPositiveControl), Some(&30), "at once: {:?}", reports[0].kept);
    for (minute, report) in reports.iter().enumerate() {
        let open = report.kept.contains_key(&Reason::NoPositiveControl) && !report.errors.is_empty();
        assert_eq!(open, minute < 30, "minute {minute}: {report:?}");
        assert!(ended_in(report) <= 5, "minute {minute}: {} in one pass", ended_in(report));
    }
    let first = reports.iter().position(|report| ended_in(report) > 0);
    assert_eq!(first, Some(60), "half an hour until the lists are believed, and then gone_grace");
    assert_eq!((reports[60].overflow_count > 0, ended_in(&reports[60])), (true, 5), "five, and the rest is reported");
    assert_eq!(reports.iter().map(ended_in).sum::<u32>(), 30, "all in the end");
    assert_eq!(fake.state().runners.len(), 10, "the others are wanted and stay");
}

/// What was ended is expected no more, so that the same absence falls to half of what is left; that is our own doing.
#[test]
fn caution_outlasts_its_own_acts() {
    let reports = two_hours_of_demand(&list_that_misses(21));
    let ended: Vec<u32> = reports.iter().map(ended_in).filter(|ended| *ended > 0).collect();
    assert!(ended.iter().all(|ended| *ended <= 5), "ended in the passes that ended any: {ended:?}");
}

// Deliveries.

#[test]
fn a_log_that_is_unreadable_for_an_hour_is_stood_in_for_by_the_jobs_in_progress() {
    for (case, running, scan_fails, ended) in [
        ("no job runs", None, false, true),
        ("its job runs", Some(7), false, false),
        ("another runner's job runs", Some(8), false, true),
        ("the jobs cannot be read either", None, true, false),
    ] {
        for moment in Moment::ALL {
            let fake = moment.reached();
            fake.always_fail("DeliveryLog::failed_deliveries_since", Class::Denied);
            let before = acts(&fake);
            minutes(&fake, &policy(), 59);
            assert_eq!(acts(&fake), before, "{case}, {moment:?}: an hour is not over");
            if scan_fails {
                fake.always_fail("Jobs::jobs_of_open_runs", Class::Denied);
            }
            if let Some(runner_id) = running {
                jobs_api_says(&fake, 1, JobState::InProgress, Some(runner_id));
            }
            minutes(&fake, &policy(), 60);
            assert_eq!(!grounds(&fake).is_empty(), ended, "{case}, {moment:?}");
            if !ended {
                let report = down(&fake, &policy());
                let told = report.errors.iter().any(|error| error.contains("deliveries"));
                assert!(told || running.is_some(), "{case}, {moment:?}: the report says so: {:?}", report.errors);
                assert_eq!(acts(&fake), before, "{case}, {moment:?}: neither deregistered nor ended");
                fake.pass(HARD_AGE + 3 * HOUR);
                minutes(&fake, &policy(), 1);
                assert_eq!(grounds(&fake), [Ground::HardAge], "{case}, {moment:?}: bounded");
            }
        }
    }
}

// Bounds of a pass.

/// `count` instances whose job completed long ago and whose registrations GitHub removed: a sweep ends each.
fn done_with(count: u64) -> Fake {
    let fake = Fake::new();
    for number in 0..count {
        put_runner_of_many(&fake, number);
        complete(&fake, number);
    }
    fake.state_mut().runners.clear();
    fake.pass(20 * MINUTE);
    fake
}

fn complete(fake: &Fake, number: u64) {
    let id = of_many(number);
    job_starts_on(fake, &id);
    let at = fake.now();
    edit(fake, &id, |record| {
        let (job_id, runner_id) = (JobId(number + 100), RunnerId(number + 100));
        record.note_completed(JobCompleted { job_id, at }, runner_id);
    });
}

fn ended(fake: &Fake) -> BTreeSet<InstanceId> {
    fake.state().terminated.iter().map(|(id, _)| id.clone()).collect()
}

/// After each call: EC2 lists the instance and does not find it when it is to be ended, once.
fn not_found(id: InstanceId) -> impl Fn(&Fake) + 'static {
    let hidden = std::cell::RefCell::new(None);
    move |fake: &Fake| {
        let record = fake.get::<InstanceRecord>(id.as_str()).expect("a record");
        let to_be_ended = record.terminate_intent.is_some_and(|intent| intent.at == fake.now());
        let mut hidden = hidden.borrow_mut();
        if let Some(instance) = hidden.as_ref() {
            fake.state_mut().instances.insert(id.clone(), Instance::clone(instance));
        } else if to_be_ended {
            *hidden = fake.state_mut().instances.remove(&id);
        }
    }
}

#[test]
fn the_cap_of_a_pass_is_reported_and_the_rest_follows() {
    for (count, first) in [(4, 4), (5, 5), (12, 5), (40, 10)] {
        let fake = Fake::new();
        for number in 0..count {
            put_runner_of_many(&fake, number);
            edit(&fake, &of_many(number), |record| {
                record.runner_id = None;
                record.jit_intent_at = None;
            });
        }
        fake.state_mut().runners.clear();
        fake.pass(20 * MINUTE);
        let report = swept(&fake, &policy());
        let now = report.terminated.get(&Ground::NeverConnected).copied().unwrap_or(0);
        assert_eq!((now, u64::from(report.overflow_count)), (first, count - u64::from(first)), "{count} instances");
        for _ in 0..10 {
            fake.pass(MINUTE);
            swept(&fake, &policy());
        }
        assert_eq!(ended(&fake).len(), usize::try_from(count).expect("few"), "{count} instances: all in the end");
    }
}

/// Each pursued to its end costs calls that no act makes an end to.
#[test]
fn an_observing_pass_pursues_fifty_acts_and_an_enforcing_one_all() {
    for (mode, forbidden, asked, removed) in [(Mode::Observe, 50, 50, 0), (Mode::Enforce, 0, 60, 60)] {
        let fake = Fake::new();
        for number in 0..60 {
            put_runner_of_many(&fake, number);
            complete(&fake, number);
        }
        fake.pass(20 * MINUTE);
        let observed = Policy { mode, ..policy() };
        let before = fake.calls_of("RegistryRead::runner");
        let report = swept(&fake, &observed);
        let of_runners = fake.calls_of("RegistryRead::runner") - before;
        assert_eq!((report.forbidden_count, of_runners), (forbidden, asked), "{mode:?}: {report:?}");
        assert_eq!(report.deregistered.get(&DeregistrationGround::JobCompleted).copied().unwrap_or(0), removed);
        assert_eq!(fake.state().runners.len(), 60 - usize::try_from(removed).expect("few"), "{mode:?}");
    }
}

#[test]
fn one_items_failure_is_its_own_and_the_pass_fails_visibly() {
    let fake = done_with(12);
    let calls = fake.calls();
    assert!(sweep(&fake, &policy()).expect("not killed").is_ok(), "nothing fails");
    assert_eq!(ended(&fake).len(), 12);
    assert!(fake.calls() > calls);

    let fake = done_with(12);
    let outcome = after_each_call(&fake, not_found(of_many(5)), |fake| sweep(fake, &policy())).expect("not killed");
    let report = outcome.expect_err("visible").0;
    assert_eq!((report.error_count, ended(&fake).len()), (1, 11), "{report:?}");
    assert!(report.errors[0].contains("i-005"), "it names the instance: {:?}", report.errors);
    assert!(!ended(&fake).contains(&of_many(5)));
    fake.pass(3 * MINUTE);
    assert!(sweep(&fake, &policy()).expect("not killed").is_ok());
    assert_eq!(ended(&fake).len(), 12, "and is tried again");
}

#[test]
fn a_pass_that_its_deadline_cut_is_gone_on_with_and_starves_nobody() {
    let fake = done_with(24);
    let mut passes = 0;
    let mut progress = Vec::new();
    while ended(&fake).len() < 23 {
        passes += 1;
        assert!(passes <= 12, "starved: {:?}", ended(&fake));
        let unlucky = not_found(of_many(0));
        let before = ended(&fake).len();
        // Every call takes a second of the minute.
        let report = after_each_call(
            &fake,
            move |fake| {
                unlucky(fake);
                fake.pass(Duration::from_secs(1));
            },
            |fake| swept(fake, &policy()),
        );
        progress.push((ended(&fake).len() - before, report.cut_by_deadline));
        fake.pass(MINUTE);
    }
    assert!(progress.iter().filter(|(_, cut)| *cut).count() >= 2, "cut more than once: {progress:?}");
    assert!(progress.iter().all(|(now, _)| *now > 0), "each pass comes further: {progress:?}");
    assert!(!ended(&fake).contains(&of_many(0)));
}

/// An item that is cut short between two looks begins the next pass; one that had a whole pass had its turn.
#[test]
fn an_instance_whose_reading_takes_all_the_time_starves_nobody() {
    let fake = done_with(6);
    // The first one never had a runner: it is asked for by its name, and GitHub takes 50 s for that.
    edit(&fake, &of_many(0), |record| {
        record.runner_id = None;
        record.jit_intent_at = None;
        record.job_started = None;
        record.job_completed = None;
    });
    for _ in 0..20 {
        let asked = std::cell::Cell::new(fake.calls_of("RegistryRead::runner_named"));
        after_each_call(
            &fake,
            move |fake| {
                if fake.calls_of("RegistryRead::runner_named")
                    > asked.replace(fake.calls_of("RegistryRead::runner_named"))
                {
                    fake.pass(Duration::from_secs(50));
                }
            },
            |fake| swept(fake, &policy()),
        );
        fake.pass(MINUTE);
    }
    assert_eq!(ended(&fake).len(), 5, "20 passes, and the five behind it were not come to");
}

/// Whose acts fail for ever may not take the cap of every pass; the lease (2 min) is over before the sweeper's next one.
#[test]
fn five_instances_that_cannot_be_ended_leave_the_cap_to_others() {
    for every in [MINUTE, 5 * MINUTE] {
        let fake = Fake::new();
        for number in 0..12 {
            put_runner_of_many(&fake, number);
            edit(&fake, &of_many(number), |record| {
                record.runner_id = None;
                record.jit_intent_at = None;
            });
        }
        fake.state_mut().runners.clear();
        fake.pass(20 * MINUTE);
        for _ in 0..24 {
            let unlucky: Vec<_> = (0..5).map(|number| not_found(of_many(number))).collect();
            after_each_call(
                &fake,
                move |fake| unlucky.iter().for_each(|hide| hide(fake)),
                |fake| swept(fake, &policy()),
            );
            fake.pass(every);
        }
        assert_eq!(ended(&fake).len(), 7, "24 passes, one every {every:?}, and EC2 finds the seven others");
    }
}

/// Nor may the first 100 jobs whose fate is asked be asked in every pass while they run on.
#[test]
fn a_lost_completion_behind_a_hundred_running_jobs_is_asked_for() {
    let fake = Fake::new();
    for number in 0..101 {
        put_runner_of_many(&fake, number);
        job_starts_on(&fake, &of_many(number));
        let state = if number == 100 { JobState::Completed } else { JobState::InProgress };
        jobs_api_says(&fake, number + 100, state, Some(number + 100));
    }
    for _ in 0..12 {
        fake.pass(10 * MINUTE);
        swept(&fake, &policy());
    }
    assert_eq!(fake.calls_of("Registry::deregister"), 1, "two hours after its completion was lost");
}

#[test]
fn the_kill_switch_holds_even_the_hard_age_and_alarms_after_a_quarter_of_an_hour() {
    type Switch = (&'static str, fn(&Fake, &mut Policy));
    let switches: [Switch; 4] = [
        ("thrown", |fake, _| fake.state_mut().kill_switch = Some(KillSwitch::RemovalDisabled)),
        ("missing", |fake, _| fake.state_mut().kill_switch = None),
        ("unreadable", |fake, _| fake.always_fail("Parameters::kill_switch", Class::Transient)),
        ("observe", |_, policy| policy.mode = Mode::Observe),
    ];
    for (case, throw) in switches {
        let fake = Fake::new();
        idle_runner(&fake);
        let mut policy = policy();
        throw(&fake, &mut policy);
        fake.pass(HOUR + HARD_AGE);
        for (minute, alarm) in [(0, false), (14, false), (15, true), (600, true)] {
            let at = record_of(&fake).launched_at.plus(HOUR + HARD_AGE + minute * MINUTE);
            fake.pass(at.since(fake.now()));
            let report = swept(&fake, &policy);
            let alarmed = report.errors.iter().any(|error| error.contains("i-1 has been past its hard age"));
            assert_eq!((alarmed, report.forbidden_count), (alarm, 1), "{case}, {minute} min: {:?}", report.errors);
            assert!(grounds(&fake).is_empty(), "{case}, {minute} min");
        }
        fake.heal();
        fake.state_mut().kill_switch = Some(KillSwitch::RemovalEnabled);
        swept(&fake, &super::policy());
        assert_eq!(grounds(&fake), [Ground::HardAge], "{case}: released");
    }
}

#[test]
fn an_intent_belongs_to_the_pass_that_stored_it_for_two_minutes() {
    for (seconds, kept) in [(0, true), (119, true), (120, false)] {
        let fake = BeforeDelete.reached();
        let at = fake.now().minus(Duration::from_secs(seconds));
        edit(&fake, &id(), |record| record.deregister_intent = Some(idle_intent(at)));
        let report = down(&fake, &policy());
        assert_eq!(report.kept.contains_key(&Reason::InHand), kept, "{seconds} s: {:?}", report.kept);
        assert_eq!(record_of(&fake).deregister_intent.is_some(), kept, "{seconds} s: taken up, and idleness anew");
        assert_eq!(acts(&fake), 0, "{seconds} s: nothing rests on an old intent");
        ends_and_leaves_nothing(&fake, "in the end");
    }
}

#[test]
fn a_protected_instance_is_kept_and_tried_again_every_hour() {
    let fake = BeforeTerminate.reached();
    fake.state_mut().protected.insert(id());
    let report = down(&fake, &policy());
    assert_eq!((report.protected_count, report.errors.len()), (1, 0), "a person's will is no error");
    for minute in 1..=179 {
        fake.pass(MINUTE);
        let report = down(&fake, &policy());
        let tried = minute % 60 == 0;
        assert_eq!(report.protected_count == 1, tried, "minute {minute}");
        assert_eq!(report.kept.contains_key(&Reason::Protected), !tried, "minute {minute}: {:?}", report.kept);
        swept(&fake, &policy());
    }
    assert_eq!(fake.calls_of("Compute::terminate"), 3, "hourly");
    fake.state_mut().protected.clear();
    ends_and_leaves_nothing(&fake, "protection is off");
}

// Rows that count readings.

#[test]
fn an_absence_or_an_offline_runner_counts_after_three_sweeps_and_half_an_hour() {
    type Case = (&'static str, fn(&Fake), Reason);
    let cases: [Case; 2] = [
        ("row 16", |fake| fake.state_mut().runners.clear(), Reason::RegistrationAbsent),
        ("row 19", |fake| fake.state_mut().runners[0].1.online = false, Reason::Offline),
    ];
    for (case, happen, reason) in cases {
        for (every, sweeps_before) in [(1, 30), (10, 3), (60, 3)] {
            let fake = BeforeDelete.reached();
            happen(&fake);
            let mut sweeps = 0;
            while acts(&fake) == 0 {
                sweeps += 1;
                let kept = swept(&fake, &policy()).kept;
                assert!(acts(&fake) > 0 || kept.contains_key(&reason), "{case}, every {every} min: {kept:?}");
                fake.pass(every * MINUTE);
                assert!(sweeps < 50, "{case}, every {every} min: a leak");
            }
            assert_eq!(sweeps - 1, sweeps_before, "{case}, every {every} min");
        }
        // Back in between: the row is broken and begins anew.
        let fake = BeforeDelete.reached();
        for _ in 0..4 {
            let shown = fake.state().runners.clone();
            happen(&fake);
            for _ in 0..25 {
                fake.pass(MINUTE);
                swept(&fake, &policy());
            }
            assert_eq!(acts(&fake), 0, "{case}: broken");
            fake.state_mut().runners = shown;
            swept(&fake, &policy());
            edit(&fake, &id(), |record| assert!(record.absent.is_none() && record.offline.is_none(), "{case}"));
        }
    }
}

#[test]
fn a_scale_down_of_many_passes_counts_no_sweep() {
    let fake = BeforeDelete.reached();
    fake.state_mut().runners.clear();
    for _ in 0..120 {
        fake.pass(MINUTE);
        down(&fake, &policy());
    }
    assert_eq!((acts(&fake), record_of(&fake).absent), (0, None), "sweeps are the sweeper's to count");
}

#[test]
fn a_stopped_instance_is_ended_when_it_is_seen_stopped_again_a_quarter_of_an_hour_later() {
    for (case, stopped_for, ended) in [("stopped", 15, true), ("woken in between", 14, false)] {
        let fake = BeforeDelete.reached();
        // Whatever the ledger knows of a job: nothing executes there.
        job_starts(&fake);
        jobs_api_says(&fake, 1, JobState::InProgress, Some(7));
        fake.set_instance_state(&id(), InstanceState::Stopped);
        for minute in 0..stopped_for {
            let kept = swept(&fake, &policy()).kept;
            assert!(kept.contains_key(&Reason::Stopped), "{case}, minute {minute}: {kept:?}");
            fake.pass(MINUTE);
        }
        if !ended {
            fake.set_instance_state(&id(), InstanceState::Running);
            swept(&fake, &policy());
            fake.set_instance_state(&id(), InstanceState::Stopped);
            fake.pass(MINUTE);
        }
        swept(&fake, &policy());
        fake.pass(MINUTE);
        swept(&fake, &policy());
        assert_eq!(!grounds(&fake).is_empty(), ended, "{case}");
        assert_eq!(fake.state().runners.is_empty(), ended, "{case}");
    }
}

#[test]
fn a_job_shown_elsewhere_twice_an_idle_window_apart_is_dropped_and_its_instance_removable() {
    for (case, state, runner_id) in [
        ("on another runner", JobState::InProgress, Some(8)),
        ("queued again", JobState::Queued, None),
        ("ended on another runner", JobState::Completed, Some(8)),
    ] {
        let fake = BeforeDelete.reached();
        job_starts(&fake);
        jobs_api_says(&fake, 1, state, runner_id);
        for minute in 0..5 {
            let report = swept(&fake, &policy());
            assert_eq!(report.kept.keys().collect::<Vec<_>>(), [&Reason::JobElsewhere], "{case}, minute {minute}");
            assert_eq!(report.associations_dropped_count, 0, "{case}, minute {minute}");
            fake.pass(MINUTE);
        }
        let report = swept(&fake, &policy());
        assert_eq!(report.associations_dropped_count, 1, "{case}: dropped, and counted for the alarm");
        assert_eq!(acts(&fake), 0, "{case}: and the table is entered anew");
        ends_and_leaves_nothing(&fake, case);
    }
    // One reading that shows it here breaks the row.
    let fake = BeforeDelete.reached();
    job_starts(&fake);
    for _ in 0..10 {
        jobs_api_says(&fake, 1, JobState::Queued, None);
        fake.pass(4 * MINUTE);
        swept(&fake, &policy());
        jobs_api_says(&fake, 1, JobState::InProgress, Some(7));
        fake.pass(4 * MINUTE);
        let kept = swept(&fake, &policy()).kept;
        assert_eq!(kept.keys().collect::<Vec<_>>(), [&Reason::JobRunning]);
    }
    assert!(record_of(&fake).job_started.is_some());
}

#[test]
fn a_completion_that_was_lost_is_taken_from_the_jobs_api_and_from_nothing_less() {
    for (case, state, runner_id, reason) in [
        ("in progress here", JobState::InProgress, Some(7), Reason::JobRunning),
        ("in progress, and no runner is named", JobState::InProgress, None, Reason::JobRunning),
        ("ended, and no runner is named", JobState::Completed, None, Reason::JobUnread),
        ("a status that we do not know", JobState::Unrecognised, Some(7), Reason::JobUnread),
    ] {
        let fake = BeforeDelete.reached();
        job_starts(&fake);
        jobs_api_says(&fake, 1, state, runner_id);
        for _ in 0..90 {
            fake.pass(MINUTE);
            down(&fake, &policy());
            let kept = swept(&fake, &policy()).kept;
            assert_eq!(kept.keys().collect::<Vec<_>>(), [&reason], "{case}");
        }
        assert_eq!(acts(&fake), 0, "{case}");
        jobs_api_says(&fake, 1, JobState::Completed, Some(7));
        let minutes = minutes_until_ended(&fake).expect(case);
        assert!((15..=18).contains(&minutes), "{case}: {minutes} min after the jobs API said that it had ended");
        assert_eq!(grounds(&fake), [Ground::JobCompleted], "{case}: row 9");
    }
    let fake = BeforeDelete.reached();
    job_starts(&fake);
    fake.pass(MINUTE);
    let kept = swept(&fake, &policy()).kept;
    assert_eq!(kept.keys().collect::<Vec<_>>(), [&Reason::JobDenied], "404: row 11");
    minutes(&fake, &policy(), 120);
    assert_eq!(acts(&fake), 0);
}

#[test]
fn a_busy_runner_of_no_known_job_is_looked_for_among_the_jobs_in_progress() {
    let seen_busy = || {
        let fake = BeforeDelete.reached();
        let now = fake.now();
        edit(&fake, &id(), |record| {
            record.busy_seen_at = Some(now);
            record.idle_since = None;
        });
        fake
    };
    for (case, runner_id, found) in [("its job", 7, true), ("another runner's", 8, false)] {
        let fake = seen_busy();
        jobs_api_says(&fake, 1, JobState::InProgress, Some(runner_id));
        fake.pass(MINUTE);
        let kept = swept(&fake, &policy()).kept;
        let reason = if found { Reason::JobSurfaced } else { Reason::BusySeen };
        assert_eq!(kept.keys().collect::<Vec<_>>(), [&reason], "{case}");
        let known = record_of(&fake).job_started;
        assert_eq!(known.map(|started| started.job_id), found.then_some(JobId(1)), "{case}: sticky");
        jobs_api_says(&fake, 1, JobState::Completed, Some(runner_id));
        let ended = minutes_until_ended(&fake);
        assert_eq!(ended.is_some(), found, "{case}: {ended:?}");
    }
    let fake = seen_busy();
    minutes(&fake, &policy(), 120);
    assert_eq!(acts(&fake), 0, "row 17: kept");
    fake.pass(HARD_AGE + 2 * HOUR);
    ends_and_leaves_nothing(&fake, "bounded by the hard age");
}
