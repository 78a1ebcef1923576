//! The instance's own word, and evidence of a job.

use super::super::fixtures::{
    Guard, Moment, assert_guards, job_ends, put_failed_delivery, put_job_that_waits, put_sign,
};
use super::super::*;
use super::heal;
use crate::ledger::JobCompleted;
use crate::verdict::Reason;

use Moment::{BeforeDelete, BeforeTerminate};

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
