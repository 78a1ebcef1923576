//! One pass: what is due, what failed to be delivered, what nobody told us of, what pools lack, in this order. Behaviour
//! belongs in `plan`.

use tracing::{error, info};

use super::due::send_due_jobs;
use super::report::{FailedPass, Report};
use super::{DemandPorts, pool, redeliver, search};
use crate::config::{Mode, Policy};
use crate::time::{Clock, Deadline};

/// Runs one pass of the demand-reconciler.
///
/// # Guarantees
/// Killed at any await, failed or repeated at any call, and overlapping with another pass: a job that was found is found
/// again by the next search, one message more than needed launches nothing more (scale-up is idempotent), and one client
/// token stands for one pool launch. One owner's, repository's, job's or pool's failure stops no other. Ends before its
/// deadline; the next pass goes on.
///
/// # Errors
/// Something failed; the error carries the report of what was done.
pub async fn run_pass<P: DemandPorts>(ports: &P, policy: &Policy, deadline: Deadline) -> Result<Report, FailedPass> {
    let mut report = Report::default();
    if policy.mutant.never_reconciles() {
        return report.into_result();
    }
    let deadline = deadline.kept_by(policy.mutant);
    // First: jobs that are known to wait must not wait for GitHub's lists. They have half of the time, and failed
    // deliveries half of the rest: a backlog that takes all of it, pass after pass, would keep what nobody told us of
    // from being found.
    let resent = send_due_jobs(ports, policy, deadline.half(ports.now())).await;
    report.resent_count = resent.sent.len();
    report.cut_by_deadline = resent.is_cut;
    for failure in resent.failures {
        report.error(failure);
    }
    if has_time(ports, deadline, &mut report) {
        redeliver::ask(ports, deadline.half(ports.now()), &mut report).await;
    }
    match policy.mode {
        Mode::Enforce | Mode::Observe => {
            if has_time(ports, deadline, &mut report) {
                search::run(ports, policy, deadline, &resent.sent, &mut report).await;
            }
            if has_time(ports, deadline, &mut report) {
                pool::fill(ports, policy, deadline, &mut report).await;
            }
        }
        Mode::Retire => {}
    }
    info!(report = %serde_json::to_string(&report).unwrap_or_default(), "pass over {} repositories", report.searched_count);
    for text in &report.errors {
        error!(error = %text, "{text}");
    }
    report.into_result()
}

/// Whether another stage may begin. None is a single call, so the reserve is not for them.
fn has_time(clock: &impl Clock, deadline: Deadline, report: &mut Report) -> bool {
    let has_time = deadline.allows_more(clock.now());
    report.cut_by_deadline |= !has_time;
    has_time
}
