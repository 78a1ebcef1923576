//! Graces, by the second.

use super::super::fixtures::{Moment, acts, down, put_sign, swept};
use super::super::*;
use crate::config::HARD_AGE;
use crate::ledger::{DeregistrationOutcome, JobCompleted, RemovalIntent, Spell};
use crate::verdict::Reason;

use Moment::{BeforeDelete, BeforeTerminate};

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
