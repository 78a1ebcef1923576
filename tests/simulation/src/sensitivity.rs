//! Whether the simulation sees what it has to: every protocol mutant that it is there for, and the naive protocols.
//!
//! A mutant is caught in the first seed in which the invariant of its row fails and the product itself violates nothing.
//! A seed in which the product fails too says nothing about the mutant and is passed over.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use runner_scaler_core::config::Mutant;
use runner_scaler_world::Tape;

use crate::checker::Violation;
use crate::run::{Options, Stop, play};

/// A mutant, and the invariants that its rule keeps.
#[derive(Debug)]
pub struct Row {
    /// Its name.
    pub mutant: &'static str,
    /// What fails without the rule, by the list.
    pub invariants: &'static [&'static str],
    /// What sees it besides, at the step itself: before a job has to be there to be killed.
    pub also: &'static [&'static str],
}

const fn row(mutant: &'static str, invariants: &'static [&'static str]) -> Row {
    Row { mutant, invariants, also: &[] }
}

const fn also(mutant: &'static str, invariants: &'static [&'static str], also: &'static [&'static str]) -> Row {
    Row { mutant, invariants, also }
}

/// The mutants of the list (simulation.md 4.6) whose layer is the simulation.
pub const ROWS: &[Row] = &[
    also("no-recheck", &["S1"], &["S8"]),
    also("m01", &["S2"], &["S9"]),
    also("m02", &["S1"], &["S9"]),
    also("m03", &["S1"], &["S9"]),
    also("m04", &["S1"], &["S8"]),
    also("m05", &["S1"], &["S8"]),
    also("m06", &["S1"], &["S8"]),
    also("m07", &["S1"], &["S8"]),
    also("m08", &["S1"], &["S8"]),
    also("m10", &["S1"], &["S8"]),
    also("m11", &["S1"], &["S8"]),
    also("m12", &["S1"], &["S8"]),
    row("m13", &["L2"]),
    row("m14", &["S3"]),
    row("m15", &["S3"]),
    row("m16", &["S4"]),
    row("m17", &["L1"]),
    row("m18", &["S2"]),
    row("m19", &["L3"]),
    row("m20", &["S3"]),
    row("m21", &["S3", "L1"]),
    row("m22", &["L5"]),
    row("m23", &["L1"]),
    row("m24", &["L1"]),
    row("m25", &["L1"]),
    row("m26", &["L2", "L3"]),
    row("m27", &["S2"]),
    row("m28", &["L3"]),
    row("m29", &["L7"]),
    row("m30", &["L8"]),
    row("m31", &["S10"]),
    row("m32", &["L2", "L3"]),
    row("m33", &["L2"]),
    row("m35", &["L7", "S4"]),
    row("m36", &["S4"]),
    also("m37", &["L1", "S1"], &["S9"]),
    also("m39", &["L1"], &["S3"]),
];

/// What became of a mutant.
#[derive(Clone, Debug)]
pub struct Caught {
    /// The mutant.
    pub mutant: &'static str,
    /// What had to fail.
    pub invariants: &'static [&'static str],
    /// The seed, which of the invariants failed in it, and with which words; none where all of them hold.
    pub by: Option<Seen>,
    /// The same of what sees it besides.
    pub also: Option<Seen>,
    /// Seeds that were played, the last one included.
    pub seeds: u64,
    /// Seeds that said nothing, since the product failed in them too.
    pub passed_over: u64,
}

/// In which seed what was seen, and how many it took.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The seed.
    pub seed: u64,
    /// Seeds that it took.
    pub seeds: u64,
    /// The invariant.
    pub invariant: &'static str,
    /// What was wrong.
    pub what: String,
}

/// What the product itself violates, by seed: played once for all mutants.
#[derive(Default)]
struct Baseline(Mutex<BTreeMap<u64, bool>>);

impl Baseline {
    fn is_clean(&self, seed: u64, options: &Options) -> bool {
        let known = self.0.lock().ok().and_then(|clean| clean.get(&seed).copied());
        known.unwrap_or_else(|| {
            let sound = Options { mutant: Mutant::None, stop: Stop::Never, ..*options };
            let clean = play(Tape::from_seed(seed), &sound).violations.is_empty();
            if let Ok(mut all) = self.0.lock() {
                all.insert(seed, clean);
            }
            clean
        })
    }
}

/// The table that the repository keeps.
const RECORDED: &str = include_str!("../SEEDS_TO_KILL.md");
/// A mutant that takes more seeds than this is too long a hunt for every change.
const SHORT_HUNT: u64 = 10;
/// A test that needs so many times the recorded seeds has lost its teeth.
const REGRESSION: u64 = 10;

/// What the kept table says of a mutant that is seen soon: in how many seeds, and whether by an invariant of the list
/// (else by the step itself).
fn recorded(mutant: &str) -> Option<(u64, bool)> {
    let cells: Vec<&str> = RECORDED
        .lines()
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>())
        .find(|cells| cells.get(1) == Some(&mutant))?;
    // "S8 in 1 seeds (seed 0)"; one that was not seen says so.
    let soon = |cell: Option<&&str>| {
        let seeds = cell?.strip_prefix(['S', 'L'])?.split_once(" in ")?.1.split(' ').next()?.parse().ok()?;
        (seeds <= SHORT_HUNT).then_some(seeds)
    };
    soon(cells.get(3)).map(|seeds| (seeds, true)).or_else(|| Some((soon(cells.get(4))?, false)))
}

/// Plays the mutants that the kept table says are seen soon, each in ten times those seeds at most; with each, whether
/// it was seen as it is recorded.
#[must_use]
pub fn hunt_soon_seen(threads: u64, options: &Options) -> Vec<(Caught, bool)> {
    let names: Vec<String> =
        ROWS.iter().filter(|row| recorded(row.mutant).is_some()).map(|row| row.mutant.to_owned()).collect();
    let within = |mutant: &str| recorded(mutant).map_or(0, |(seeds, _)| seeds * REGRESSION);
    let as_recorded = |caught: &Caught| match recorded(caught.mutant) {
        Some((_, true)) => caught.by.is_some(),
        Some((_, false)) | None => caught.is_seen(),
    };
    let all = hunt_within(&names, 0, within, threads, options);
    all.into_iter().map(|caught| (caught.clone(), as_recorded(&caught))).collect()
}

/// Plays these mutants (all where none is named), each until it is caught or its seeds are used up. The result is that
/// of one thread.
#[must_use]
pub fn hunt(names: &[String], first_seed: u64, seeds: u64, threads: u64, options: &Options) -> Vec<Caught> {
    hunt_within(names, first_seed, |_| seeds, threads, options)
}

fn hunt_within(
    names: &[String],
    first_seed: u64,
    seeds: impl Fn(&str) -> u64 + Sync,
    threads: u64,
    options: &Options,
) -> Vec<Caught> {
    let rows: Vec<&Row> =
        ROWS.iter().filter(|row| names.is_empty() || names.iter().any(|name| name == row.mutant)).collect();
    let (next, baseline) = (AtomicUsize::new(0), Baseline::default());
    let caught = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(row) = rows.get(place) else { return };
                    let found = hunt_one(row, first_seed, seeds(row.mutant), options, &baseline);
                    // Progress, on the terminal's side.
                    #[expect(clippy::print_stderr, reason = "a hunt takes minutes")]
                    {
                        eprintln!("{}", found.line());
                    }
                    if let Ok(mut caught) = caught.lock() {
                        caught.insert(place, found);
                    }
                }
            });
        }
    });
    caught.into_inner().unwrap_or_default().into_values().collect()
}

fn hunt_one(row: &Row, first_seed: u64, seeds: u64, options: &Options, baseline: &Baseline) -> Caught {
    let mut caught =
        Caught { mutant: row.mutant, invariants: row.invariants, by: None, also: None, seeds: 0, passed_over: 0 };
    let Some(mutant) = Mutant::named(row.mutant) else { return caught };
    let broken = Options { mutant, stop: Stop::AtViolationOf(row.invariants), ..*options };
    for seed in first_seed..first_seed + seeds {
        caught.seeds += 1;
        let violations = play(Tape::from_seed(seed), &broken).violations;
        let first_of = |wanted: &[&str]| violations.iter().find(|found| wanted.contains(&found.invariant));
        let (named, besides) = (first_of(row.invariants), first_of(row.also).filter(|_| caught.also.is_none()));
        if (named.is_some() || besides.is_some()) && !baseline.is_clean(seed, options) {
            caught.passed_over += 1;
            continue;
        }
        let seeds = caught.seeds - caught.passed_over;
        let seen = |found: &Violation| Seen { seed, seeds, invariant: found.invariant, what: found.what.clone() };
        if let Some(found) = besides {
            caught.also = Some(seen(found));
        }
        if let Some(found) = named {
            caught.by = Some(seen(found));
            return caught;
        }
    }
    caught
}

impl Caught {
    /// Whether something saw it.
    #[must_use]
    pub fn is_seen(&self) -> bool {
        self.by.is_some() || self.also.is_some()
    }

    fn line(&self) -> String {
        let told = |seen: &Seen| format!("{} in {} seeds (seed {})", seen.invariant, seen.seeds, seen.seed);
        let by = self.by.as_ref().map_or_else(|| format!("not in {} seeds", self.seeds), told);
        let besides = self.also.as_ref().map(told).unwrap_or_default();
        let what: String = self
            .by
            .as_ref()
            .or(self.also.as_ref())
            .map(|seen| seen.what.chars().take(110).collect())
            .unwrap_or_default();
        format!("| {} | {} | {by} | {besides} | {what} |", self.mutant, self.invariants.join(" or "))
    }
}

/// The table, as the repository keeps it.
#[must_use]
pub fn table(caught: &[Caught]) -> String {
    let mut text = "| mutant | by the list | failed | besides | what was seen |\n".to_owned();
    text.push_str("| --- | --- | --- | --- | --- |\n");
    for row in caught {
        // Writing to a string never fails.
        writeln!(text, "{}", row.line()).ok();
    }
    text
}

/// What a protocol came to on a batch of seeds.
#[derive(Clone, Debug, Default)]
pub struct Protocol {
    /// Its mutant's name; empty is ours.
    pub name: &'static str,
    /// Jobs, and those that we killed, where every instance has its supervisor.
    pub supervised: (u64, u64),
    /// The same where some have none.
    pub unsupervised: (u64, u64),
    /// Runs with a killed job, and all.
    pub runs: (u64, u64),
}

/// Ours first, then those of others.
const PROTOCOLS: [(&str, &str); 4] = [
    ("", "ours: the instance decides, the control plane asks"),
    ("naive-upstream", "GET busy, DELETE, terminate"),
    ("naive-recheck", "the same, and GET again after the DELETE"),
    ("naive-confirmation", "idle for 10 min, then DELETE and terminate"),
];

/// Plays the protocols on the same seeds.
#[must_use]
pub fn compare(first_seed: u64, seeds: u64, threads: u64, options: &Options) -> Vec<Protocol> {
    let next = AtomicUsize::new(0);
    let all: Vec<Mutex<Protocol>> =
        PROTOCOLS.iter().map(|(name, _)| Mutex::new(Protocol { name, ..Protocol::default() })).collect();
    let work: Vec<(usize, u64)> = (first_seed..first_seed + seeds)
        .flat_map(|seed| (0..PROTOCOLS.len()).map(move |place| (place, seed)))
        .collect();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((place, seed)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let Some(protocol) = all.get(*place) else { return };
                    let name = PROTOCOLS.get(*place).map_or("", |(name, _)| name);
                    let Some(mutant) = Mutant::named(name) else { return };
                    let outcome = play(Tape::from_seed(*seed), &Options { mutant, ..*options });
                    if let Ok(mut protocol) = protocol.lock() {
                        let (jobs, killed) = (outcome.tally.jobs, outcome.tally.killed);
                        let sums =
                            if outcome.supervised { &mut protocol.supervised } else { &mut protocol.unsupervised };
                        *sums = (sums.0 + jobs, sums.1 + killed);
                        protocol.runs.0 += u64::from(killed > 0);
                        protocol.runs.1 += 1;
                    }
                }
            });
        }
    });
    all.into_iter().filter_map(|protocol| protocol.into_inner().ok()).collect()
}

/// The comparison as a table.
#[must_use]
pub fn comparison(protocols: &[Protocol]) -> String {
    let per_thousand = |(jobs, killed): (u64, u64)| {
        let thousandths = killed * 1_000_000 / jobs.max(1);
        format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000)
    };
    let mut text = String::from(
        "| protocol | runs with a killed job | killed per 1,000 jobs, with supervisors | without | jobs |\n\
         | --- | --- | --- | --- | --- |\n",
    );
    for (protocol, (_, words)) in protocols.iter().zip(PROTOCOLS) {
        let ((killing, runs), jobs) = (protocol.runs, protocol.supervised.0 + protocol.unsupervised.0);
        let (with, without) = (per_thousand(protocol.supervised), per_thousand(protocol.unsupervised));
        let name = if protocol.name.is_empty() { String::new() } else { format!("`{}`: ", protocol.name) };
        // Writing to a string never fails.
        writeln!(text, "| {name}{words} | {killing}/{runs} | {with} | {without} | {jobs} |").ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kept_table_says_what_is_seen_soon() {
        assert_eq!(recorded("m14"), Some((1, true)), "by its invariant");
        assert!(matches!(recorded("m08"), Some((_, false))), "at the step only");
        assert_eq!(recorded("m11"), None, "never");
        let soon = ROWS.iter().filter(|row| recorded(row.mutant).is_some()).count();
        assert!(soon > ROWS.len() / 2, "{soon} of {}", ROWS.len());
    }
}
