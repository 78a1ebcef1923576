//! What must come to its end once the faults are over: L1 to L5, and by them L6 to L9.
//!
//! L6: nobody helps, whatever died where. L7: one owner's GitHub that stays broken holds nobody else's things up; what
//! hangs then is reported as L7. L8 and L9: leases, claims and waits end by time, or something here hangs on them.

use std::collections::BTreeMap;

use runner_scaler_core::ids::InstanceId;
use runner_scaler_core::ports::{VitalSign, Worker};
use runner_scaler_world::Millis;
use runner_scaler_world::github::Runner;

use super::instance_of;
use super::steps::HARD_AGE;
use crate::agenda::Event;
use crate::hosts::Host;
use crate::lambda::Function;
use crate::sim::Sim;
use crate::swarm::{HOUR, MINUTE, SECOND};

/// A job starts within the time of a boot and two scans of the demand-reconciler.
const START_WITHIN: Millis = 15 * MINUTE;
/// Another job may take the runner that was launched for it: where searches are cut short, it is looked at again after the
/// time of a boot and a pick-up (16 min), and launched for.
const TAKEN_START_WITHIN: Millis = 20 * MINUTE;
/// One that waited before: its message may have been received a moment before the faults ended, and is hidden.
const HIDDEN: Millis = 6 * MINUTE + 5 * SECOND;
/// An instance that does nothing ends within this.
const END_WITHIN: Millis = 45 * MINUTE;
/// One whose supervisor is dead: 10 min of silence, 30 min in which its runner is not seen and 5 min of quarantine, or, of
/// one that nobody ever registered, 15 min of boot grace and 30 min; and the time between two sweeps before, between and
/// after them.
const DEAD_ENDS_WITHIN: Millis = 60 * MINUTE;
/// After a time in which GitHub told nothing of an owner's runners, most of what should be listed is not. Until its lists
/// agreed for half an hour no absence counts.
const AFTER_SILENCE: Millis = 35 * MINUTE;
/// So many of an owner's instances are ended on an absence in one sweep (ARCHITECTURE, "absences need a witness"), and so
/// much time is between two.
const ENDED_AT_ONCE: usize = 5;
const SWEEP_EVERY: Millis = 5 * MINUTE;
/// A supervisor lets its runner wait for so long, and the hard age counts after it.
const IDLE_TIME_MAX: Millis = HOUR;
/// A registration without an instance is gone within this, and a configuration too.
const SETTLED_WITHIN: Millis = HOUR;
/// Of one whose end no listing of EC2's showed to anybody, since the sweeper did not run: it has to be missed for as long
/// as an absence takes to be believed (ARCHITECTURE, "gone is proved").
const MISSED_SETTLED_WITHIN: Millis = 90 * MINUTE;
/// EC2 shows what has ended for at least this long.
const SHOWN_ENDED: Millis = 6 * MINUTE;
/// A registration that GitHub holds busy, or that a job's word keeps, is gone when GitHub itself removes it.
const STUCK_WITHIN: Millis = 25 * HOUR;
/// A message is done with or a dead letter.
const MESSAGE_WITHIN: Millis = HOUR;

/// Why only its hard age is going to end an instance.
#[derive(Clone, Copy)]
enum Left {
    /// Nothing is known of it but a busy flag.
    Busy,
    /// Its last vital sign says that there is a worker.
    Sign,
    /// Its record was made of what EC2 shows.
    Rebuilt,
}

impl Sim {
    /// Everything is held against what must be true by now.
    pub(crate) fn inspect(&mut self) {
        self.agenda.note(self.now + 5 * MINUTE, Event::Inspection);
        self.check_forgeries();
        self.check_back_pressure();
        if self.quiet {
            self.touch(|_| ());
            self.check_jobs();
            self.check_instances();
            self.check_registrations();
            self.check_parameters();
            self.check_messages();
        }
    }

    /// S5: nobody acted on a job that only a forged delivery told of.
    fn check_forgeries(&mut self) {
        if let Some(id) = self.world.truth.forged_jobs_looked_up().first().copied()
            && self.checker.reported.insert(format!("forged {id}"))
        {
            self.checker.violated("S5", self.now, format!("job {id} of a forged delivery was looked up"));
        }
    }

    fn is_broken(&self, owner: &str) -> bool {
        let login = owner.split('/').next().unwrap_or_default();
        self.checker.broken.as_deref() == Some(login)
    }

    /// The name of an invariant, or L7 where one owner is broken, or one instance resists, and this is another's.
    fn named(&self, invariant: &'static str) -> &'static str {
        let held_up = self.checker.broken.is_some() || self.checker.resists.is_some();
        if held_up { "L7" } else { invariant }
    }

    fn check_jobs(&mut self) {
        let (now, quiet_at) = (self.now, self.quiet_at);
        let mut late = Vec::new();
        for id in &self.checker.waiting {
            let Some(job) = self.checker.jobs.get(id).filter(|job| !job.reported) else { continue };
            let Some(fleet) = job.fleet.as_deref().filter(|fleet| !self.checker.has_no_room(fleet)) else { continue };
            let room_since = self.checker.had_no_room_at(fleet);
            let since = job.waits_since.unwrap_or(job.queued_at).max(quiet_at).max(room_since);
            let cut_short = now - self.checker.search_cut_at < TAKEN_START_WITHIN;
            let unfound = cut_short && self.checker.runner_was_taken(*id);
            let within = if unfound { TAKEN_START_WITHIN } else { START_WITHIN };
            let within = if job.queued_at < quiet_at { START_WITHIN + HIDDEN } else { within };
            if now - since > within {
                late.push((*id, since));
            }
        }
        for (id, since) in late {
            let owner = self.owner_of_job(id).unwrap_or_default();
            if !self.is_broken(&owner) {
                if let Some(job) = self.checker.jobs.get_mut(&id) {
                    job.reported = true;
                }
                let what = format!("job {id} of {owner} waits for {} s", (now - since) / SECOND);
                self.checker.violated(self.named("L1"), now, what);
            }
        }
    }

    fn owner_of_job(&self, id: u64) -> Option<String> {
        let job = self.world.github.job(id)?;
        self.world.github.installation(job.installation_id).map(|installation| installation.owner.clone())
    }

    fn check_instances(&mut self) {
        let (now, quiet_at) = (self.now, self.quiet_at);
        let mut late = Vec::new();
        self.note_lines();
        for id in &self.checker.alive {
            let Some(instance) = self.checker.instances.get(id) else { continue };
            if instance.job.is_some() || instance.reported || self.checker.resists.as_ref() == Some(id) {
                continue;
            }
            let ends_itself = self.ends_itself(id);
            let sweeps = || self.checker.lines.get(&instance.owner).map_or(0, |line| line.div_ceil(ENDED_AT_ONCE) - 1);
            let in_line = || SWEEP_EVERY * i64::try_from(sweeps()).unwrap_or(0);
            let within = match ends_itself {
                true => END_WITHIN,
                false if self.silent_until(&instance.owner) + HOUR > quiet_at => {
                    DEAD_ENDS_WITHIN + AFTER_SILENCE + in_line()
                }
                false => DEAD_ENDS_WITHIN + in_line(),
            };
            // A dead supervisor's last sign may be a hostile job's, whose time lies ahead: until then it counts as alive.
            let last_sign = || self.aws.vital_signs.get(&InstanceId::new(id.as_str())).map_or(0, |sign| sign.beat_at.0);
            let counts_from = if ends_itself { instance.heard_since() } else { last_sign() };
            let since = instance.idle_since.max(quiet_at).max(counts_from);
            if now - since > within {
                late.push((id.clone(), instance.owner.clone(), since, within));
            }
        }
        for (id, owner, since, within) in late {
            // A runner that GitHub does not show is gone for all we know; shown again, its road begins anew.
            // The hard age asks nobody.
            let used_at = self.checker.instances.get(&id).map_or(0, |own| own.idle_since);
            let is_old = now - used_at > HARD_AGE + IDLE_TIME_MAX + SETTLED_WITHIN;
            if !is_old && (self.is_broken(&owner) || now - self.hidden_until(&id) <= within) {
                continue;
            }
            if !is_old && let Some(left) = self.waits_for_hard_age(&id) {
                self.tally.left_to_hard_age[left as usize] += u64::from(self.checker.left_to_hard_age.insert(id));
                continue;
            }
            if let Some(instance) = self.checker.instances.get_mut(&id) {
                instance.reported = true;
            }
            let what = format!("{id} of {owner} does nothing for {} s and lives", (now - since) / SECOND);
            self.checker.violated(self.named("L2"), now, what);
        }
    }

    /// How many of an owner's instances nobody ends but we, at most since the faults are over: the last in line waits for
    /// all others.
    fn note_lines(&mut self) {
        let mut lines: BTreeMap<String, usize> = BTreeMap::new();
        for id in self.checker.alive.iter().filter(|id| !self.ends_itself(id)) {
            let Some(instance) = self.checker.instances.get(id) else { continue };
            if instance.job.is_none() && self.waits_for_hard_age(id).is_none() {
                *lines.entry(instance.owner.clone()).or_default() += 1;
            }
        }
        for (owner, line) in lines {
            let longest = self.checker.lines.entry(owner).or_default();
            *longest = line.max(*longest);
        }
    }

    /// The documented exceptions, which the hard age ends, of an instance that does not end itself (README, "What it does
    /// not promise"): its last sign says that a worker runs, and nobody is left to write another; its launch died before
    /// its record was written, so that no absence counts; only a busy flag is known of it.
    fn waits_for_hard_age(&self, id: &str) -> Option<Left> {
        let instance = self.checker.instances.get(id)?;
        if self.ends_itself(id) {
            return None;
        }
        // One that a hostile job wrote, or whose time lies far ahead, keeps it as well: it can veto, and nothing else.
        let vetoes = |sign: &VitalSign| sign.worker != Worker::None || sign.beat_at.0 > self.now + HOUR;
        if self.aws.vital_signs.get(&InstanceId::new(id)).is_some_and(vetoes) {
            return Some(Left::Sign);
        }
        if self.checker.rebuilt.contains(id) {
            return Some(Left::Rebuilt);
        }
        // A job was given to it, nobody was told that it began or ended there, and GitHub's log does not say so either.
        let unheard = |id: &u64| {
            let read_by = self.now - HOUR;
            let logged = |action| self.world.github.had_failed_by(read_by, *id, action);
            let told = self.checker.jobs.get(id).is_some_and(|job| job.heard_of);
            !told && !logged("in_progress") && !logged("completed")
        };
        let shown_busy = instance.runner_id.is_some_and(|runner| self.checker.ever_busy.contains(&runner));
        let only_busy = instance.used && shown_busy && instance.last_job.as_ref().is_none_or(unheard);
        only_busy.then_some(Left::Busy)
    }

    /// Until when GitHub hides the registration of an instance.
    fn hidden_until(&self, id: &str) -> Millis {
        let mut own = self.world.github.registrations().filter(|runner| instance_of(&runner.name) == Some(id));
        own.next().map_or(0, Runner::hidden_until)
    }

    /// Whether a supervisor lives on it.
    fn ends_itself(&self, id: &str) -> bool {
        self.checker.instances.get(id).is_some_and(|instance| instance.is_heard(self.now))
            && !self.hosts.of(id).is_some_and(Host::is_off)
    }

    fn check_registrations(&mut self) {
        let (now, quiet_at) = (self.now, self.quiet_at);
        let mut late = Vec::new();
        for runner in self.world.github.registrations() {
            let Some((id, instance)) =
                instance_of(&runner.name).and_then(|id| Some((id, self.checker.instances.get(id)?)))
            else {
                continue;
            };
            let Some(ended_at) = instance.ended_at else { continue };
            // A job wrote that a worker is there, or that the supervisor spoke later than its end: where only an absence
            // tells of that end, the sign outweighs it.
            let sign = self.aws.vital_signs.get(&InstanceId::new(id));
            let speaks = sign.is_some_and(|sign| sign.worker != Worker::None || sign.beat_at.0 >= ended_at);
            let left_to_github = runner.is_stuck() || (speaks && self.checker.forged_signs.contains_key(id));
            let missed = || self.was_down(Function::OrphanSweeper, ended_at, ended_at + SHOWN_ENDED);
            let within = match left_to_github {
                true => STUCK_WITHIN,
                false if missed() => MISSED_SETTLED_WITHIN,
                false => SETTLED_WITHIN,
            };
            // GitHub itself removes what it holds busy, whether there are faults or not.
            let since = if left_to_github { ended_at } else { ended_at.max(quiet_at).max(runner.hidden_until()) };
            let resists = self.checker.resists.as_deref() == Some(id);
            if now - since > within && !self.is_broken(&instance.owner) && !resists {
                late.push(runner.name.clone());
            }
        }
        for name in late {
            if self.checker.reported.insert(name.clone()) {
                let what = format!("{name} is registered, and its instance is gone for an hour");
                self.checker.violated(self.named("L3"), now, what);
            }
        }
    }

    fn check_parameters(&mut self) {
        let (now, quiet_at) = (self.now, self.quiet_at);
        let mut late = Vec::new();
        for (id, (put_at, _)) in &self.aws.parameters {
            let ended_at = match self.checker.instances.get(id.as_str()) {
                Some(instance) => instance.ended_at,
                None => Some(*put_at),
            };
            if ended_at.is_some_and(|at| now - at.max(*put_at).max(quiet_at) > SETTLED_WITHIN) {
                late.push(format!("the configuration of {id} lies in the parameter store, and the instance is gone"));
            }
        }
        for what in late {
            if self.checker.reported.insert(what.clone()) {
                self.checker.violated(self.named("L4"), now, what);
            }
        }
    }

    fn check_messages(&mut self) {
        let (now, quiet_at) = (self.now, self.quiet_at);
        let mut late = Vec::new();
        for (number, message) in &self.aws.queue.messages {
            if !message.dead && !message.is_poison() && now - message.sent_at.max(quiet_at) > MESSAGE_WITHIN {
                late.push((*number, message.job_id, message.receives));
            }
        }
        for (number, job, receives) in late {
            let owner = self.owner_of_job(job).unwrap_or_default();
            if !self.is_broken(&owner) && self.checker.reported.insert(format!("message {number}")) {
                let what = format!("message {number} of job {job} was received {receives} times and is not done with");
                self.checker.violated(self.named("L5"), now, what);
            }
        }
    }
}
