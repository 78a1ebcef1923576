//! What cannot be asked: it keeps, and its answer removes.

use super::super::fixtures::{Guard, Moment, acts, assert_guards, down, minutes, put_failed_delivery};
use super::super::*;
use super::heal;
use crate::config::HARD_AGE;
use crate::verdict::Reason;

use Moment::{BeforeDelete, BeforeTerminate};

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
