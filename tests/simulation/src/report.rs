//! What a batch of runs came to, for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use runner_scaler_world::Millis;

use crate::coverage::Coverage;
use crate::run::Outcome;

/// Numbers of a run, and sums of them.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Jobs queued.
    pub jobs: u64,
    /// Jobs that ended by themselves.
    pub completed: u64,
    /// Jobs that were lost while they ran: with spot instances, with our doing, with machines.
    pub lost: u64,
    /// Of these by us, on instances without a supervisor.
    pub killed: u64,
    /// Jobs that GitHub gave up: never acquired, or silent.
    pub dropped: u64,
    /// Instances launched.
    pub launches: u64,
    /// Registrations deleted by us.
    pub deregistrations: u64,
    /// Instances ended by us.
    pub terminations: u64,
    /// Invocations begun.
    pub invocations: u64,
    /// Passes that came to their end.
    pub passes: u64,
    /// Of these with errors.
    pub failed_passes: u64,
    /// Calls of ports.
    pub calls: u64,
    /// Invocations that died at a call.
    pub kills: u64,
    /// Instances that only their hard age is going to end, as documented: known by a busy flag alone, by a last sign that
    /// says there is a worker, by a record that was rebuilt.
    pub left_to_hard_age: [u64; 3],
    /// Messages that came back.
    pub messages_failed: u64,
    /// From a job's queueing to its start.
    pub starts: Vec<Millis>,
    /// From an instance's last work to its end.
    pub ends: Vec<Millis>,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.jobs += other.jobs;
        self.completed += other.completed;
        self.lost += other.lost;
        self.killed += other.killed;
        self.dropped += other.dropped;
        self.launches += other.launches;
        self.deregistrations += other.deregistrations;
        self.terminations += other.terminations;
        self.invocations += other.invocations;
        self.passes += other.passes;
        self.failed_passes += other.failed_passes;
        self.calls += other.calls;
        self.kills += other.kills;
        self.messages_failed += other.messages_failed;
        for (sum, own) in self.left_to_hard_age.iter_mut().zip(other.left_to_hard_age) {
            *sum += own;
        }
    }
}

/// Times by how often they came, in classes of a quarter of a binary order: a batch has millions.
#[derive(Debug, Clone, Default)]
struct Histogram {
    counts: BTreeMap<u32, u64>,
    count: u64,
    most: Millis,
}

impl Histogram {
    fn add(&mut self, ms: Millis) {
        let seconds = u64::try_from(ms / 1_000).unwrap_or(0);
        // Whole seconds up to a minute, then steps of a sixteenth.
        let class = if seconds < 64 {
            u32::try_from(seconds).unwrap_or(0)
        } else {
            let order = seconds.ilog2();
            64 + (order - 6) * 16 + u32::try_from((seconds >> (order - 4)) & 15).unwrap_or(0)
        };
        *self.counts.entry(class).or_default() += 1;
        self.count += 1;
        self.most = self.most.max(ms);
    }

    fn percentile(&self, percent: u64) -> Millis {
        let rank = (self.count * percent).div_ceil(100).max(1);
        let mut seen = 0;
        for (class, count) in &self.counts {
            seen += count;
            if seen >= rank {
                let seconds = match class.checked_sub(64) {
                    None => u64::from(*class),
                    Some(above) => (16 + u64::from(above % 16)) << (above / 16 + 2),
                };
                return i64::try_from(seconds).unwrap_or(0) * 1_000;
            }
        }
        0
    }

    fn text(&self) -> String {
        let at = |ms: Millis| format!("{} s", ms / 1_000);
        format!("p50 {}, p99 {}, max {}", at(self.percentile(50)), at(self.percentile(99)), at(self.most))
    }
}

/// Runs that violated an invariant: how many, and the first seeds with what was wrong.
type Violated = (u64, Vec<(u64, String)>);

/// A batch of runs.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Runs.
    pub runs: u64,
    /// Of these with instances without a supervisor.
    pub unsupervised: u64,
    /// Virtual time.
    pub virtual_hours: u64,
    /// Numbers.
    pub tally: Tally,
    /// Jobs of runs whose instances have no supervisor.
    pub unsupervised_jobs: u64,
    /// What happened.
    pub coverage: Coverage,
    /// Violations by invariant: how many runs, and the first seeds.
    pub violations: BTreeMap<&'static str, Violated>,
    starts: Histogram,
    ends: Histogram,
}

/// So many seeds are named.
const NAMED_MAX: usize = 5;

impl Report {
    /// Adds a run.
    pub fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.runs += 1;
        self.unsupervised += u64::from(!outcome.supervised);
        self.virtual_hours += outcome.virtual_hours;
        self.tally.add(&outcome.tally);
        if !outcome.supervised {
            self.unsupervised_jobs += outcome.tally.jobs;
        }
        self.coverage.add(&outcome.coverage);
        outcome.tally.starts.iter().for_each(|ms| self.starts.add(*ms));
        outcome.tally.ends.iter().for_each(|ms| self.ends.add(*ms));
        let mut named = Vec::new();
        for violation in &outcome.violations {
            if named.contains(&violation.invariant) {
                continue;
            }
            named.push(violation.invariant);
            let (runs, seeds) = self.violations.entry(violation.invariant).or_default();
            *runs += 1;
            seeds.push((seed, violation.what.clone()));
            seeds.sort_unstable();
            seeds.truncate(NAMED_MAX);
        }
    }

    /// Whether nothing was violated but for these invariants.
    #[must_use]
    pub fn is_clean_but_for(&self, open: &[String]) -> bool {
        self.violations.keys().all(|invariant| open.iter().any(|name| name == invariant))
    }

    /// All of it as text.
    #[must_use]
    pub fn text(&self, took: Duration, worked: Option<Duration>) -> String {
        let mut text = String::new();
        let tally = &self.tally;
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        let seconds = |time: Duration| format!("{}.{:03} s", ms(time) / 1_000, ms(time) % 1_000);
        let speed = match worked {
            Some(worked) => format!(
                "{} simulated hours a second of processor time ({})",
                self.virtual_hours * 1_000 / ms(worked),
                seconds(worked)
            ),
            None => "unknown: the system does not tell the processor time".to_owned(),
        };
        let killed_per_thousand = |killed: u64, jobs: u64| {
            let per_million = killed * 1_000_000 / jobs.max(1);
            format!("{}.{:03}", per_million / 1_000, per_million % 1_000)
        };
        let lines = [
            ("runs", format!("{} ({} of them without supervisors)", self.runs, self.unsupervised)),
            ("simulated", format!("{} hours in {}", self.virtual_hours, seconds(took))),
            ("speed", speed),
            (
                "jobs",
                format!(
                    "{} queued, {} completed, {} lost in progress, {} given up by GitHub",
                    tally.jobs, tally.completed, tally.lost, tally.dropped
                ),
            ),
            (
                "killed by us",
                format!(
                    "{} ({} per 1,000 jobs of runs without supervisors)",
                    tally.killed,
                    killed_per_thousand(tally.killed, self.unsupervised_jobs)
                ),
            ),
            (
                "removals",
                format!(
                    "{} launched, {} deregistered, {} terminated by us",
                    tally.launches, tally.deregistrations, tally.terminations
                ),
            ),
            (
                "left to hard age",
                format!(
                    "{} known by a busy flag alone, {} by a last sign of a worker, {} by a rebuilt record (documented)",
                    tally.left_to_hard_age[0], tally.left_to_hard_age[1], tally.left_to_hard_age[2]
                ),
            ),
            (
                "invocations",
                format!(
                    "{} with {} calls; {} killed, {} of {} passes with errors, {} messages came back",
                    tally.invocations,
                    tally.calls,
                    tally.kills,
                    tally.failed_passes,
                    tally.passes,
                    tally.messages_failed
                ),
            ),
            ("queued to started", self.starts.text()),
            ("idle to ended", self.ends.text()),
        ];
        for (name, value) in lines {
            // Writing to a string never fails.
            writeln!(text, "{name:<18} {value}").ok();
        }
        let missing = self.coverage.missing();
        let all = self.coverage.wanted();
        writeln!(text, "{:<18} {} of {all} counters are not zero", "coverage", all - missing.len()).ok();
        if !missing.is_empty() {
            writeln!(text, "{:<18} {}", "never happened", missing.join(", ")).ok();
        }
        if self.violations.is_empty() {
            writeln!(text, "{:<18} none", "violations").ok();
        }
        for (invariant, (runs, seeds)) in &self.violations {
            writeln!(text, "{:<18} {runs} runs", format!("VIOLATED {invariant}")).ok();
            for (seed, what) in seeds {
                writeln!(text, "  seed {seed}: {what}").ok();
            }
        }
        text
    }

    /// Every counter with its count.
    #[must_use]
    pub fn coverage_text(&self) -> String {
        let mut text = String::new();
        for (name, count) in self.coverage.lines() {
            writeln!(text, "{count:>10}  {name}").ok();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_that_of_its_class() {
        let mut histogram = Histogram::default();
        (1..=100).for_each(|seconds| histogram.add(seconds * 1_000));
        assert_eq!((histogram.percentile(50), histogram.most), (50_000, 100_000));
        assert_eq!(histogram.percentile(99), 96_000, "classes of four seconds above a minute");
    }
}
