//! One pass: read, decide, act within bounds, report. Carries verdicts out and nothing more; behaviour belongs in
//! [`crate::verdict`].
//!
//! A pass may be killed after any call and overlap with another: each act is preceded by a compare-and-swap on the very
//! record that was judged, and what is left half done is judged anew by the next pass.

mod acts;
#[cfg(feature = "mutants")]
mod broken;

use std::collections::BTreeMap;
use std::time::Duration;

use tracing::{debug, error, info, warn};

use super::RemovalPorts;
use super::batch;
use super::drain::{self, Drained};
use super::duties::Duties;
use super::gather::Gathered;
use super::out_of_reach;
use super::report::{FailedPass, Report};
use crate::config::{Mode, Policy};
use crate::error::{Class, Classify, PortError};
use crate::evidence::{Evidence, PositiveControl, RecordEvidence};
use crate::ids::{Access, FleetName, InstanceId};
use crate::ledger::{self, InstanceRecord, PassCursor, Stored, Versioned};
use crate::ports::{KillSwitch, Runner};
use crate::time::{Deadline, Timestamp};
use crate::verdict::{Action, Reason, Source, Verdict, decide};

/// Per pass and fleet at most this many acts that rest on an absence or a flag, or a quarter of the fleet's living
/// instances where that is more (design section 5). Higher, and one lying answer ends more runners at once; lower, and
/// a fleet whose supervisors are all dead takes hours to shrink.
const ACTS_PER_FLEET: usize = 5;

/// Where a mass absence is believed because lists agreed on it for long, so many acts a pass and owner may rest on an
/// absence (design section 5): it is still far more often GitHub that errs.
const ACTS_PER_CAUTIOUS_OWNER: usize = 5;

/// How often a verdict may ask for more evidence of one instance: each source once, and once more after the re-check.
const LOOKS_MAX: usize = 5;

/// How long an instance may be past its hard age before it is an alarm that the kill switch holds it (design section 5).
const HELD_PAST_HARD_AGE: Duration = Duration::from_mins(15);

/// Runs scale-down's pass: see [`Duties::ScaleDown`].
///
/// # Guarantees
/// No instance is ended and no runner deregistered but through a proof or warrant, whose ground and intent are stored.
///
/// # Errors
/// EC2's listing or the ledger could not be read, or some item failed; the error carries the report of what was done.
pub async fn run_pass<P: RemovalPorts>(ports: &P, policy: &Policy, deadline: Deadline) -> Result<Report, FailedPass> {
    let mut pass = Pass::new(ports, policy, deadline, Duties::ScaleDown).await;
    pass.over_listed_instances().await;
    pass.finish().await
}

/// What a pass may do besides writing to the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    /// Carry verdicts out.
    Act,
    /// Come to them and carry none out: `mode` says so.
    Observe,
    /// Nothing: the kill switch is thrown or cannot be read.
    Nothing,
}

/// While observing, so many acts of a pass are pursued to the end; each costs a call or two that no act makes an end
/// to, so that more would be made anew in every pass.
const OBSERVED_MAX: u32 = 50;

/// One pass in progress.
pub(crate) struct Pass<'a, P> {
    pub(super) ports: &'a P,
    policy: &'a Policy,
    deadline: Deadline,
    duties: Duties,
    leave: Leave,
    gathered: Option<Gathered>,
    /// Where the last pass was cut short.
    cursor: Versioned<PassCursor>,
    /// The last instance that this pass came to.
    last: Option<InstanceId>,
    /// The one before the first that a cap put off: the next pass begins after it, so that what takes the room in vain
    /// does not take it from everybody behind it for ever.
    put_off_after: Option<InstanceId>,
    acts: BTreeMap<FleetName, usize>,
    cautious_acts: BTreeMap<String, usize>,
    drains: Vec<Versioned<InstanceRecord>>,
    /// What was read and is to be remembered, written many at a time; what a killed pass did not write is read again.
    notes: Vec<Versioned<InstanceRecord>>,
    pub(crate) report: Report,
}

impl<'a, P: RemovalPorts> Pass<'a, P> {
    /// Reads the kill switch, EC2, the ledger and the vital signs.
    pub(crate) async fn new(ports: &'a P, policy: &'a Policy, deadline: Deadline, duties: Duties) -> Self {
        let deadline = deadline.kept_by(policy.mutant);
        let mut report = Report::default();
        let leave = match (ports.kill_switch().await, policy.mode) {
            (Ok(KillSwitch::RemovalEnabled), Mode::Enforce | Mode::Retire) => Leave::Act,
            (Ok(KillSwitch::RemovalEnabled), Mode::Observe) => Leave::Observe,
            (Ok(KillSwitch::RemovalDisabled), _) => {
                warn!("the kill switch is thrown: nothing is removed");
                Leave::Nothing
            }
            (Err(error), _) => {
                report.error(error);
                Leave::Nothing
            }
        };
        let mut cursor = match ledger::load::<PassCursor>(ports, duties.function()).await {
            Ok(Stored::Present(cursor)) => cursor,
            Ok(Stored::Absent) => Versioned::new(PassCursor::new(duties.function())),
            // Begun from nothing in every pass; its own write meets a conflict and changes nothing.
            Ok(Stored::Foreign) => {
                report
                    .error(format!("the cursor of {} is of another schema: every pass begins anew", duties.function()));
                Versioned::new(PassCursor::new(duties.function()))
            }
            Err(error) => {
                report.error(error);
                Versioned::new(PassCursor::new(duties.function()))
            }
        };
        let gathered = match deadline.within(ports, Gathered::begin(ports, policy, ports.now(), &mut report)).await {
            Some(Ok(gathered)) => Some(gathered),
            Some(Err(error)) => {
                report.error(error);
                None
            }
            None => {
                report.error("EC2 and the ledger were not read to their end before the deadline");
                report.cut_by_deadline = true;
                None
            }
        };
        if let (Duties::OrphanSweeper, Some(gathered)) = (duties, &gathered) {
            cursor.record.note_accesses(gathered.accesses(), gathered.now);
        }
        Self {
            ports,
            policy,
            deadline,
            duties,
            leave,
            gathered,
            cursor,
            last: None,
            put_off_after: None,
            acts: BTreeMap::new(),
            cautious_acts: BTreeMap::new(),
            drains: Vec::new(),
            notes: Vec::new(),
            report,
        }
    }

    /// Judges every instance that EC2 listed, from where the last pass was cut short, so that none is starved.
    pub(crate) async fn over_listed_instances(&mut self) {
        let Some(gathered) = &self.gathered else { return };
        let mut items = gathered.evidence.clone();
        items.sort_by(|one, other| one.instance.id.cmp(&other.instance.id));
        let (policy, now) = (self.policy, self.ports.now());
        let past_hard_age = |evidence: &Evidence| decide(evidence, policy, now).reason == Reason::HardAge;
        let (oldest, mut items): (Vec<Evidence>, Vec<Evidence>) = items.into_iter().partition(past_hard_age);
        self.over_oldest(oldest).await;
        begin_after(&mut items, self.cursor.record.after.as_ref());
        for item in items {
            if !self.deadline.allows_more(self.ports.now()) {
                self.report.cut_by_deadline = true;
                break;
            }
            let id = item.instance.id.clone();
            let overflows = self.report.overflow_count;
            let errors = self.report.error_count;
            self.settle(item).await;
            if self.policy.mutant.stops_at_the_first_error() && self.report.error_count > errors {
                break;
            }
            if self.report.overflow_count > overflows && self.put_off_after.is_none() {
                self.put_off_after.clone_from(&self.last);
            }
            // An item that was cut has its turn first in the next pass; one that had all of this pass has had it.
            if self.deadline.allows_more(self.ports.now()) || self.last.is_none() {
                self.last = Some(id);
            }
        }
        let deadline = self.deadline;
        if deadline.within(self.ports, self.request_drains()).await.is_none() {
            self.report.cut_by_deadline = true;
        }
        self.write_notes().await;
    }

    /// Those past every bound wait for nothing that can be slow, and take no more than half of the time from the rest:
    /// a call that hangs may be met at each of them.
    async fn over_oldest(&mut self, mut oldest: Vec<Evidence>) {
        begin_after(&mut oldest, self.cursor.record.oldest_after.take().as_ref());
        let half = self.deadline.half(self.ports.now());
        let mut last = None;
        for item in oldest {
            if !half.allows_more(self.ports.now()) {
                self.report.cut_by_deadline = true;
                self.cursor.record.oldest_after = last;
                return;
            }
            last = Some(item.instance.id.clone());
            self.settle(item).await;
        }
    }

    /// Judges one instance that is gone and no longer listed.
    pub(crate) async fn over_vanished(&mut self, record: Versioned<InstanceRecord>) {
        let Some(gathered) = &self.gathered else { return };
        let evidence = gathered.of_vanished(self.ports, self.policy, record, &mut self.report).await;
        self.settle(evidence).await;
    }

    /// Tells of what EC2 listed and no pass may touch.
    pub(crate) fn tell_of_what_is_out_of_reach(&mut self) {
        if let Some(gathered) = &self.gathered {
            out_of_reach::tell(&gathered.evidence, self.policy, gathered.now, &mut self.report);
        }
    }

    /// Instances that EC2 listed in this pass, whether they live or not; `None` when the listing failed.
    pub(crate) fn listed(&self) -> Option<BTreeMap<InstanceId, crate::ports::InstanceState>> {
        let instances =
            |gathered: &Gathered| gathered.evidence.iter().map(|e| (e.instance.id.clone(), e.instance.state)).collect();
        self.gathered.as_ref().map(instances)
    }

    /// The runners that GitHub lists under that access; empty where the list does not count.
    pub(crate) async fn listed_runners(&mut self, access: &Access) -> Vec<Runner> {
        let Some(gathered) = &mut self.gathered else { return Vec::new() };
        let (ports, deadline) = (self.ports, self.deadline);
        let listed = deadline.within(ports, gathered.listed_runners(ports, access, &mut self.report)).await;
        self.report.cut_by_deadline |= listed.is_none();
        listed.unwrap_or_default()
    }

    /// Begin of the pass.
    pub(crate) fn begun_at(&self) -> Timestamp {
        self.gathered.as_ref().map_or_else(|| self.ports.now(), |gathered| gathered.now)
    }

    /// Where the last pass ended.
    pub(crate) fn cursor_mut(&mut self) -> &mut PassCursor {
        &mut self.cursor.record
    }

    /// Whether half of the time that was left at `begun_at` allows another item: what comes first must not take it all.
    pub(crate) fn allows_half(&mut self, begun_at: Timestamp) -> bool {
        let allowed = self.deadline.half(begun_at).allows_more(self.ports.now());
        self.report.cut_by_deadline |= !allowed;
        allowed
    }

    /// Whether the deadline allows another item.
    pub(crate) fn allows_more(&mut self) -> bool {
        let allowed = self.deadline.allows_more(self.ports.now());
        self.report.cut_by_deadline |= !allowed;
        allowed
    }

    /// Stores the cursor, logs the report and fails visibly if anything did.
    pub(crate) async fn finish(mut self) -> Result<Report, FailedPass> {
        let (now, mut cursor) = (self.ports.now(), self.cursor);
        let last = self.last.take().or(cursor.record.after.take());
        cursor.record.after = last.filter(|_| self.report.cut_by_deadline).or(self.put_off_after.take());
        self.report.seconds_since_whole = cursor.record.whole_at.map(|at| now.since(at).as_secs());
        if self.report.errors.is_empty() && !self.report.cut_by_deadline {
            cursor.record.whole_at = Some(now);
        }
        match ledger::store(self.ports, cursor).await {
            Ok(_) => {}
            // Another pass ran besides; either end is as good to go on from.
            Err(error) if error.class() == Class::Conflict => {}
            Err(error) => self.report.error(error),
        }
        let report = self.report;
        info!(report = %serde_json::to_string(&report).unwrap_or_default(), "pass over {} instances", report.instance_count);
        for text in &report.errors {
            error!(error = %text, "{text}");
        }
        report.into_result()
    }

    async fn settle(&mut self, mut evidence: Evidence) {
        for _ in 0..LOOKS_MAX {
            let now = self.ports.now();
            let verdict = decide(&evidence, self.policy, now);
            match verdict.action {
                Action::Look(_) if !self.duties.looks_for(verdict.reason) => {
                    self.report.keep(&evidence, verdict.reason);
                    return;
                }
                Action::Look(_) if !self.deadline.allows_more(now) => {
                    self.report.cut_by_deadline = true;
                    return;
                }
                Action::Look(source) if self.is_in_vain(source, verdict.reason, &evidence) => {
                    self.report.overflow_count += 1;
                    self.report.keep(&evidence, verdict.reason);
                    return;
                }
                Action::Look(source) => {
                    let Some(gathered) = &mut self.gathered else { return };
                    let (ports, deadline) = (self.ports, self.deadline);
                    let look = gathered.look(ports, self.policy, deadline, source, &mut evidence, &mut self.report);
                    if deadline.within(ports, look).await.is_none() {
                        self.report.cut_by_deadline = true;
                        return;
                    }
                }
                Action::Keep
                | Action::Note(_)
                | Action::Rebuild
                | Action::Drain
                | Action::Deregister(_, _)
                | Action::Terminate(_)
                | Action::CleanUp => {
                    let id = evidence.instance.id.clone();
                    if let Err(error) = self.act(evidence, verdict, now).await {
                        self.failed(&id, &error);
                    }
                    return;
                }
            }
        }
        self.report.keep(&evidence, Reason::NotRead);
    }

    /// One item's failure is its own. A lost compare-and-swap is no failure: something new is known, and the next pass
    /// judges it.
    fn failed(&mut self, id: &InstanceId, error: &PortError) {
        if error.class() == Class::Conflict {
            info!(instance_id = %id, "{id} changed while it was judged");
        } else {
            self.report.error(format!("{id}: {error}"));
        }
    }

    async fn act(&mut self, evidence: Evidence, verdict: Verdict, now: Timestamp) -> Result<(), PortError> {
        if !self.duties.include(verdict.action) {
            self.report.keep(&evidence, verdict.reason);
            return Ok(());
        }
        match verdict.action {
            Action::Keep | Action::Look(_) => {
                self.report.keep(&evidence, verdict.reason);
                let id = &evidence.instance.id;
                debug!(
                    instance_id = %id, reason = ?verdict.reason, vetoes = ?verdict.vetoes,
                    next_look = %verdict.next_look.map_or_else(|| "new evidence".to_owned(), |at| at.to_string()),
                    "kept {id}: {:?}", verdict.reason
                );
                Ok(())
            }
            Action::Note(note) => {
                self.report.keep(&evidence, verdict.reason);
                self.note(evidence, note, now).await
            }
            Action::Rebuild => self.rebuild(&evidence, now).await,
            Action::Drain => {
                if let (true, RecordEvidence::Present(record)) = (self.permitted(verdict), evidence.record) {
                    self.drains.push(*record);
                }
                Ok(())
            }
            Action::CleanUp => self.clean_up(evidence, verdict, now).await,
            Action::Deregister(_, ground) => {
                self.deregister(&evidence, verdict, ground, now).await?;
                #[cfg(feature = "mutants")]
                self.end_at_once(evidence).await?;
                Ok(())
            }
            Action::Terminate(ground) => self.terminate(&evidence, verdict, ground, now).await,
        }
    }

    fn permitted(&mut self, verdict: Verdict) -> bool {
        self.permits(&format!("{:?}: {:?}", verdict.action, verdict.reason))
    }

    /// Whether kill switch and mode allow anything but the ledger to be changed; counts and logs what they forbid.
    pub(crate) fn permits(&mut self, act: &str) -> bool {
        let may_act = self.leave == Leave::Act;
        if !may_act {
            info!(verdict = act, "not done, kill switch or mode: {act}");
            self.report.forbidden_count += 1;
        }
        may_act
    }

    /// Whether the caps leave room for one more act on a ground that rests on an absence or a flag.
    fn has_room(&self, evidence: &Evidence) -> bool {
        let Some(record) = evidence.known_record() else { return false };
        let living = self.gathered.as_ref().map_or(0, |gathered| gathered.living_count(&record.fleet));
        let of_fleet = self.acts.get(&record.fleet).copied().unwrap_or(0);
        let of_owner = self.cautious_acts.get(&owner_of(record)).copied().unwrap_or(0);
        let cautious = evidence.control == PositiveControl::Cautious;
        of_fleet < ACTS_PER_FLEET.max(living / 4) && (!cautious || of_owner < ACTS_PER_CAUTIOUS_OWNER)
    }

    /// Takes the room for one act, if there is any.
    fn within_caps(&mut self, evidence: &Evidence) -> bool {
        let (true, Some(record)) = (self.has_room(evidence), evidence.known_record()) else {
            self.report.overflow_count += 1;
            return false;
        };
        *self.acts.entry(record.fleet.clone()).or_default() += 1;
        if evidence.control == PositiveControl::Cautious {
            *self.cautious_acts.entry(owner_of(record)).or_default() += 1;
        }
        true
    }

    /// Whether a reading is for an act that cannot follow, as kill switch, mode or caps leave no room for it: each would
    /// cost calls in every pass.
    fn is_in_vain(&self, source: Source, reason: Reason, evidence: &Evidence) -> bool {
        let for_an_act = match source {
            Source::Runner | Source::Recheck => true,
            Source::Registrations | Source::Job => false,
        };
        let forbidden = match self.leave {
            Leave::Act => false,
            Leave::Observe => self.report.forbidden_count >= OBSERVED_MAX,
            Leave::Nothing => true,
        };
        for_an_act && (forbidden || (reason.is_capped() && !self.has_room(evidence)))
    }

    async fn write_notes(&mut self) {
        let notes = std::mem::take(&mut self.notes);
        for (id, error) in batch::store(self.ports, notes).await {
            self.failed(&id, &error);
        }
    }

    async fn request_drains(&mut self) {
        let drains = std::mem::take(&mut self.drains);
        let Drained { fleets, failures } = drain::request(self.ports, drains).await;
        for fleet in fleets {
            self.report.drained(&fleet);
        }
        for (id, error) in failures {
            self.failed(&id, &error);
        }
    }
}

/// Begins a round of instances, sorted by id, after the one that the last pass ended at.
fn begin_after(items: &mut [Evidence], after: Option<&InstanceId>) {
    let first = after.map_or(0, |after| items.partition_point(|evidence| evidence.instance.id <= *after));
    items.rotate_left(first);
}

fn owner_of(record: &InstanceRecord) -> String {
    record.access.scope.owner().to_ascii_lowercase()
}
