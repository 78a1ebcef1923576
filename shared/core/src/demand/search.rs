//! Goes over the repositories of every installation, for queued jobs that nobody told us of.
//!
//! Owners take turns, each has its own place to go on from, its own share of its own budget and its own failures. What a
//! pass found is served before the pass writes how far it came: killed in between, it is found once more.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use tracing::warn;

use super::DemandPorts;
use super::plan;
use super::report::Report;
use super::serve::{Found, serve};
use crate::config::Policy;
use crate::error::{Class, Classify, PortError};
use crate::ids::{JobId, Repository};
use crate::ledger::{self, SearchCursor, SearchedOwner, Served, Stored, Versioned};
use crate::ports::{Installation, OpenJob, Reached};
use crate::time::{Deadline, Timestamp};

/// Repositories searched at once, one call each at a time. GitHub admits 100 calls at once for all functions and wants
/// few (facts/github.md 2.4): more, and launches wait behind the search; fewer, and 200 repositories do not fit a pass.
const AT_ONCE: usize = 8;

/// Repositories of one pass, each at least two calls, free or not: GitHub counts 900 points a minute for all functions.
/// More, and a search alone is refused; fewer, and a large owner takes many passes.
const REPOSITORIES_MAX: usize = 300;

/// Searches what is due, as far as half of the time that is left goes, and serves what it found.
pub(super) async fn run<P: DemandPorts>(
    ports: &P,
    policy: &Policy,
    deadline: Deadline,
    just_sent: &BTreeSet<JobId>,
    report: &mut Report,
) {
    let now = ports.now();
    let Some(mut cursor) = begin(ports, policy, deadline, now, report).await else { return };
    let mut pass = Searching { ports, policy, deadline: deadline.half(now), left: REPOSITORIES_MAX };
    let listed = match pass.deadline.within(ports, ports.installations()).await {
        Some(Ok(mut installations)) => {
            // On a public App everybody may install it: whom no list can admit costs nothing more than this.
            installations.retain(|one| policy.may_serve_owner(&one.owner, one.owner_id));
            note_installations(&mut cursor.record, installations, now);
            true
        }
        Some(Err(error)) => {
            report.error(error);
            false
        }
        None => {
            report.cut_by_deadline = true;
            false
        }
    };
    let mut owners: Vec<(String, SearchedOwner)> =
        cursor.record.owners.iter().filter(|_| listed).map(|(login, owner)| (login.clone(), owner.clone())).collect();
    owners.sort_by_key(|(_, owner)| (owner.seen_at, owner.begun_at));
    let mut found = Found::new(now);
    let mut searched = Vec::new();
    for (login, mut owner) in owners {
        let budget = ports.budget(&owner.installation.owner).await;
        if !plan::is_due(&owner, policy.search.interval, budget, now) {
            continue;
        }
        if !pass.has_time() {
            report.cut_by_deadline |= !pass.deadline.allows_more(ports.now());
            continue;
        }
        pass.search(&mut owner, &mut found, now, report).await;
        searched.push((login, owner));
    }
    let served = serve(ports, policy, &found, just_sent, report).await;
    for (login, owner) in searched {
        let Some(before) = cursor.record.owners.get_mut(&login) else { continue };
        // What was not served has to be found once more; what it cost was spent.
        if served {
            *before = owner;
        } else {
            (before.counted_since, before.charged) = (owner.counted_since, owner.charged);
        }
    }
    cursor.record.lease_until = None;
    let oldest = cursor.record.owners.values().filter_map(|owner| owner.whole_at.or(owner.known_since)).min();
    report.oldest_search_seconds = oldest.map(|at| now.since(at).as_secs());
    match ledger::store(ports, cursor).await {
        Ok(_) => {}
        // Another pass began after the lease was over; it has found the same.
        Err(error) if error.class() == Class::Conflict => {}
        Err(error) => report.error(error),
    }
}

/// Takes the lease if there is anything to search; by compare-and-swap, so that of two passes one does.
async fn begin<P: DemandPorts>(
    ports: &P,
    policy: &Policy,
    deadline: Deadline,
    now: Timestamp,
    report: &mut Report,
) -> Option<Versioned<SearchCursor>> {
    let mut cursor = match ledger::load::<SearchCursor>(ports, SearchCursor::ID).await {
        Ok(Stored::Present(cursor)) => cursor,
        Ok(Stored::Absent) => Versioned::new(SearchCursor::default()),
        Ok(Stored::Foreign) => {
            report.error("the cursor of the job search is of another schema: nothing is searched");
            return None;
        }
        Err(error) => {
            report.error(error);
            return None;
        }
    };
    if cursor.record.lease_until.is_some_and(|until| now < until) {
        return None;
    }
    // What GitHub says of budgets is asked later, where it can only put off.
    let due = |owner: &SearchedOwner| plan::is_due(owner, policy.search.interval, None, now);
    let listing_is_old = cursor.record.listed_at.is_none_or(|at| now.since(at) >= policy.search.interval);
    if !listing_is_old && !cursor.record.owners.values().any(due) {
        return None;
    }
    cursor.record.lease_until = Some(deadline.at());
    match ledger::store(ports, cursor).await {
        Ok(cursor) => Some(cursor),
        Err(error) if error.class() == Class::Conflict => None,
        Err(error) => {
            report.error(error);
            None
        }
    }
}

/// Takes in the App's installations; what is gone is forgotten, what is new has never been searched.
fn note_installations(cursor: &mut SearchCursor, installations: Vec<Installation>, now: Timestamp) {
    cursor.listed_at = Some(now);
    let logins: BTreeSet<String> = installations.iter().map(|one| one.owner.to_ascii_lowercase()).collect();
    cursor.owners.retain(|login, _| logins.contains(login));
    for installation in installations {
        let login = installation.owner.to_ascii_lowercase();
        let new = SearchedOwner {
            installation: installation.clone(),
            begun_at: None,
            after: None,
            seen_at: None,
            whole_at: None,
            known_since: Some(now),
            failed: false,
            served: Served::None,
            counted_since: now,
            charged: 0,
        };
        cursor.owners.entry(login).or_insert(new).installation = installation;
    }
}

struct Searching<'a, P> {
    ports: &'a P,
    policy: &'a Policy,
    deadline: Deadline,
    left: usize,
}

/// How one repository was read.
enum Read {
    Whole,
    Cut,
    /// GitHub does not show it.
    Unreadable(PortError),
    /// The owner is to be left alone.
    HeldBack(PortError),
    Failed(PortError),
}

struct Reading {
    jobs: Vec<OpenJob>,
    charged: u32,
    read: Read,
}

impl<P: DemandPorts> Searching<'_, P> {
    fn has_time(&self) -> bool {
        self.left > 0 && self.deadline.allows_more(self.ports.now())
    }

    /// Those that every allow-list names, as the webhook asks of a delivery.
    fn served(&self, mut reached: Vec<Reached>) -> Vec<Reached> {
        reached.retain(|one| self.policy.serves(&one.repository) && self.policy.ids.admit(one.owner_id, one.id));
        reached
    }

    /// The repositories of an owner that are served, in their order; `None` where they could not be listed.
    async fn list(&self, owner: &mut SearchedOwner, now: Timestamp, report: &mut Report) -> Option<Vec<Reached>> {
        let listed = self.deadline.within(self.ports, self.ports.repositories_of(&owner.installation)).await;
        let mut repositories = match listed {
            Some(Ok(listed)) => {
                charge(owner, listed.charged, now, report);
                self.served(listed.value)
            }
            Some(Err(error)) => {
                report.error(error);
                return None;
            }
            None => {
                let login = &owner.installation.owner;
                report.error(format!("the repositories of {login} take longer to list than a pass has"));
                return None;
            }
        };
        repositories.sort_by_key(|one| one.repository.to_string().to_ascii_lowercase());
        owner.served = match repositories.as_slice() {
            [] => Served::None,
            [one] => Served::One(one.repository.clone()),
            [_, _, ..] => Served::Several,
        };
        Some(repositories)
    }

    /// Goes over an owner's repositories from where the last pass stopped, and notes where this one did.
    ///
    /// Repositories count as come to in their order, so that what a pass found beyond the place where it stops is left to
    /// the next.
    async fn search(&mut self, owner: &mut SearchedOwner, found: &mut Found, now: Timestamp, report: &mut Report) {
        owner.seen_at = Some(now);
        if owner.after.is_none() {
            owner.begun_at = Some(now);
            owner.failed = false;
        }
        let installation = owner.installation.clone();
        let Some(repositories) = self.list(owner, now, report).await else {
            // Soon again, and after the other owners: nothing was searched.
            owner.begun_at = None;
            return;
        };
        let after = owner.after.take().map(|after| after.to_string().to_ascii_lowercase());
        let done = after.map_or(0, |after| {
            repositories.partition_point(|one| one.repository.to_string().to_ascii_lowercase() <= after)
        });
        let mut unreadable: Vec<PortError> = Vec::new();
        let (mut readable, mut first) = (0, true);
        let mut last = done.checked_sub(1).and_then(|place| repositories.get(place)).map(|one| one.repository.clone());
        for chunk in repositories.get(done..).unwrap_or_default().chunks(AT_ONCE) {
            let budget = self.ports.budget(&installation.owner).await;
            if !self.has_time() || plan::share_is_spent(owner, budget, now) {
                report.cut_by_deadline |= !self.deadline.allows_more(self.ports.now());
                stop_after(owner, last);
                return;
            }
            self.left = self.left.saturating_sub(chunk.len());
            let readings = join_all(chunk.iter().map(|one| self.read(&installation, &one.repository)));
            let Some(readings) = self.deadline.within(self.ports, readings).await else {
                report.cut_by_deadline = true;
                // They had all of this pass and would have all of the next: their turn is over.
                if first {
                    owner.failed = true;
                    last = chunk.last().map(|one| one.repository.clone());
                }
                stop_after(owner, last);
                return;
            };
            // What the whole chunk cost was spent, wherever it is left.
            charge(owner, readings.iter().map(|reading| reading.charged).sum(), now, report);
            for (one, reading) in chunk.iter().zip(readings) {
                let repository = &one.repository;
                let whole = matches!(reading.read, Read::Whole);
                match reading.read {
                    Read::Whole => readable += 1,
                    // It had all of this pass and would have all of the next: its turn is over.
                    Read::Cut if first => {
                        readable += 1;
                        report.cut_by_deadline = true;
                        owner.failed = true;
                    }
                    Read::Cut => {
                        report.cut_by_deadline = true;
                        stop_after(owner, last);
                        return;
                    }
                    Read::Unreadable(error) => {
                        warn!(repository = %repository, error = %error, "the runs of {repository} are not shown: {error}");
                        report.unreadable_count += 1;
                        unreadable.push(error);
                    }
                    Read::Failed(error) => {
                        owner.failed = true;
                        report.error(error);
                    }
                    Read::HeldBack(error) => {
                        report.error(error);
                        stop_after(owner, last);
                        return;
                    }
                }
                found.add(&installation, one, reading.jobs, whole);
                report.searched_count += 1;
                first = false;
                last = Some(repository.clone());
            }
        }
        // Of a search that goes on, only what is left was seen.
        if let (Some(error), 0, 0) = (unreadable.first(), readable, done) {
            owner.failed = true;
            report.error(format!(
                "GitHub shows the runs of none of {} repositories of {}; does the App have the permission \
                 \"Actions: read\"? {error}",
                unreadable.len(),
                installation.owner
            ));
        }
        if !owner.failed {
            owner.whole_at = Some(now);
        }
    }

    async fn read(&self, installation: &Installation, repository: &Repository) -> Reading {
        let mut reading = Reading { jobs: Vec::new(), charged: 0, read: Read::Whole };
        let runs = match self.ports.open_runs(repository, installation.id).await {
            Ok(runs) => runs,
            Err(error) => return Reading { read: read_of(error), ..reading },
        };
        reading.charged += runs.charged;
        for run_id in runs.value.into_iter().collect::<BTreeSet<_>>() {
            if !self.deadline.allows_more(self.ports.now()) {
                return Reading { read: Read::Cut, ..reading };
            }
            match self.ports.jobs_of_run(repository, installation.id, run_id).await {
                Ok(jobs) => {
                    reading.charged += jobs.charged;
                    reading.jobs.extend(jobs.value);
                }
                // Deleted since the runs were listed.
                Err(error) if error.class() == Class::Absent => {}
                Err(error) => return Reading { read: read_of(error), ..reading },
            }
        }
        reading
    }
}

fn charge(owner: &mut SearchedOwner, charged: u32, now: Timestamp, report: &mut Report) {
    plan::charge(owner, charged, now);
    report.charged_count = report.charged_count.saturating_add(charged);
}

/// The next pass goes on after that repository, or begins anew where none was come to.
fn stop_after(owner: &mut SearchedOwner, last: Option<Repository>) {
    if last.is_none() {
        owner.begun_at = None;
    }
    owner.after = last;
}

fn read_of(error: PortError) -> Read {
    match error.class() {
        Class::Absent | Class::Denied | Class::Rejected => Read::Unreadable(error),
        Class::Throttled { .. } => Read::HeldBack(error),
        Class::Transient | Class::NoCapacity | Class::OutcomeUnknown | Class::Conflict | Class::Misconfigured => {
            Read::Failed(error)
        }
    }
}
