//! Plays seeds and says what they came to: `cargo sim --help`.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use runner_scaler_core::config::Mutant;
use runner_scaler_world::Tape;
use simulation::sensitivity;
use simulation::shrink::shrink;
use simulation::tape_file::TapeFile;
use simulation::{Options, Outcome, Report, play};

/// Seeded worlds that attack the real handlers: a GitHub that lies, an EC2 that lags, processes that die at any call,
/// and an adversary that acts while our calls are in flight. Each seed is a day with faults and some hours without;
/// whatever was promised has to hold at every step, and everything has to settle in the end.
///
/// Exits 0 when a tape was made smaller, or when nothing was violated but what --open names (and, with --require-coverage, everything that matters happened), else 1.
#[derive(Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[command(name = "cargo sim", version, about, long_about, after_help = EXAMPLES)]
struct Arguments {
    /// How many seeds are played.
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first of them; the others follow it.
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    first_seed: u64,
    /// Simulated hours with faults; as many more as --quiet-hours follow without.
    #[arg(long, default_value_t = 24, value_name = "HOURS", value_parser = clap::value_parser!(i64).range(1..=10_000))]
    hours: i64,
    /// Simulated hours without faults, in which everything has to settle: fewer than three are too few to see that
    /// something does not.
    #[arg(long, default_value_t = 4, value_name = "HOURS", value_parser = clap::value_parser!(i64).range(3..=10_000))]
    quiet_hours: i64,
    /// Threads; the machine's cores by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    threads: Option<u64>,
    /// Breaks one rule of the product, to show that something here notices.
    #[arg(long, default_value = "", value_name = "NAME")]
    mutant: String,
    /// Plays every rule that this simulation is there for, broken, until it is seen, in at most --seeds seeds each (or
    /// only these).
    #[arg(long, num_args = 0.., value_name = "NAME", conflicts_with_all = ["mutant", "replay", "protocols", "mutants_seen_soon"])]
    mutant_table: Option<Vec<String>>,
    /// Plays, broken, the rules that the kept table (tests/simulation) says are seen in ten seeds or fewer, and fails where
    /// one is not seen in ten times as many.
    #[arg(long, conflicts_with_all = ["mutant", "replay", "protocols", "seeds", "first_seed"])]
    mutants_seen_soon: bool,
    /// Plays our protocol and those of others on the same seeds, and says how many jobs each kills.
    #[arg(long, conflicts_with_all = ["mutant", "replay"])]
    protocols: bool,
    /// Plays one run, a seed or a tape file, and prints what happened in it.
    #[arg(long, value_name = "SEED|FILE", conflicts_with_all = ["seeds", "first_seed", "twice", "require_coverage", "counters", "open"])]
    replay: Option<String>,
    /// With --replay: only lines that hold one of these words (an instance's id, a job's number).
    #[arg(long, value_name = "WORD", requires = "replay")]
    about: Vec<String>,
    /// With --replay: makes the run as small as it can and writes its tape to this file.
    #[arg(long, value_name = "FILE", requires = "replay")]
    shrink: Option<PathBuf>,
    /// With --shrink: runs that it may take.
    #[arg(long, default_value_t = 2_000, value_name = "N")]
    shrink_runs: u64,
    /// Fails where something never happened that must have for the batch to say anything.
    #[arg(long)]
    require_coverage: bool,
    /// Prints every coverage counter.
    #[arg(long)]
    counters: bool,
    /// An invariant with a finding that is still open: violations of it are reported and fail nothing. May be repeated.
    #[arg(long, value_name = "NAME")]
    open: Vec<String>,
    /// Plays the first 20 seeds a second time and fails where a run differs.
    #[arg(long)]
    twice: bool,
}

const EXAMPLES: &str = "Examples:
  cargo sim --seeds 1000                             a thousand days
  cargo sim --replay 17 --about i-0123               what happened to one instance in seed 17
  cargo sim --replay 17 --shrink my-name.json        the smallest run that shows the same
  cargo sim --mutant no-recheck --seeds 100          with one rule broken
  cargo sim --mutant-table --seeds 500               every rule broken once, and in how many seeds it is seen
  cargo sim --mutants-seen-soon                      those that are seen in few seeds, as .ci/run does
  cargo sim --protocols --seeds 200                  jobs that we kill, and that others would";

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Seeds that are played twice.
const TWICE: u64 = 20;
/// Of so many seeds one reads what the handlers log.
const LOGS_READ: u64 = 20;
/// Between two lines of progress where no terminal shows them.
const PROGRESS: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(mutant) = Mutant::named(&arguments.mutant) else {
        return failed(&format!("--mutant: there is no {:?}, but {}", arguments.mutant, Mutant::NAMES.join(", ")));
    };
    let options = Options { hours: arguments.hours, quiet_hours: arguments.quiet_hours, mutant, ..Options::default() };
    match (&arguments.replay, &arguments.mutant_table) {
        (Some(what), _) => replay(what, &arguments, options),
        (None, Some(names)) => mutant_table(names, &arguments, &options),
        (None, None) if arguments.mutants_seen_soon => {
            let threads = arguments.threads.unwrap_or_else(cores).max(1);
            let hunted = sensitivity::hunt_soon_seen(threads, &options);
            let missed: Vec<&str> = hunted.iter().filter(|(_, seen)| !seen).map(|(caught, _)| caught.mutant).collect();
            let mut text =
                format!("{} of {} mutants are seen as soon as before\n", hunted.len() - missed.len(), hunted.len());
            for mutant in &missed {
                // Writing to a string never fails.
                writeln!(text, "NOT SEEN in ten times the seeds of the kept table: {mutant}").ok();
            }
            said(&text, missed.is_empty() && !hunted.is_empty())
        }
        (None, None) if arguments.protocols => {
            let threads = arguments.threads.unwrap_or_else(cores).max(1);
            let compared = sensitivity::compare(arguments.first_seed, arguments.seeds, threads, &options);
            said(&sensitivity::comparison(&compared), true)
        }
        (None, None) => batch(&arguments, options),
    }
}

/// Prints to the standard output and turns a verdict into an exit code.
fn said(text: &str, good: bool) -> ExitCode {
    // A closed pipe is no failure of a run.
    writeln!(std::io::stdout(), "{}", text.trim_end()).ok();
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says on the error output why nothing came of it.
fn failed(why: &str) -> ExitCode {
    writeln!(std::io::stderr(), "{why}").ok();
    ExitCode::FAILURE
}

fn mutant_table(names: &[String], arguments: &Arguments, options: &Options) -> ExitCode {
    let all: Vec<&str> = sensitivity::ROWS.iter().map(|row| row.mutant).collect();
    if let Some(unknown) = names.iter().find(|name| !all.contains(&name.as_str())) {
        return failed(&format!("--mutant-table: the table has no {unknown:?}, but {}", all.join(", ")));
    }
    let threads = arguments.threads.unwrap_or_else(cores).max(1);
    let caught = sensitivity::hunt(names, arguments.first_seed, arguments.seeds, threads, options);
    said(&sensitivity::table(&caught), !caught.is_empty() && caught.iter().all(sensitivity::Caught::is_seen))
}

fn batch(arguments: &Arguments, options: Options) -> ExitCode {
    let threads = arguments.threads.unwrap_or_else(cores).max(1);
    let began = now();
    let next = AtomicU64::new(0);
    let played = AtomicU64::new(0);
    let differs = AtomicBool::new(false);
    let report = Mutex::new(Report::default());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= arguments.seeds {
                        return;
                    }
                    let seed = arguments.first_seed + number;
                    let outcome =
                        play(Tape::from_seed(seed), &Options { logs: seed.is_multiple_of(LOGS_READ), ..options });
                    if arguments.twice && number < TWICE {
                        let again = play(Tape::from_seed(seed), &options);
                        if again.hash != outcome.hash {
                            differs.store(true, Ordering::Relaxed);
                        }
                        if let Ok(mut report) = report.lock() {
                            report.virtual_hours += again.virtual_hours;
                        }
                    }
                    // Said at once: a long batch may be stopped before its report.
                    if let Some(first) = outcome.violations.first() {
                        let line = format!("\rseed {seed} violates {}: {}", first.invariant, first.what);
                        writeln!(std::io::stderr(), "{line}").ok();
                    }
                    if let Ok(mut report) = report.lock() {
                        report.add(seed, &outcome);
                    }
                    played.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        show_progress(&played, arguments.seeds, began);
    });
    let report = report.into_inner().unwrap_or_default();
    let mut text = report.text(began.elapsed(), cpu_time());
    if arguments.counters {
        text.push_str(&report.coverage_text());
    }
    if !report.violations.is_empty() {
        let Options { hours, quiet_hours, mutant, .. } = options;
        let broken = if mutant.name().is_empty() { String::new() } else { format!(" --mutant {}", mutant.name()) };
        let how = format!("cargo sim --replay SEED --hours {hours} --quiet-hours {quiet_hours}{broken}");
        // Writing to a string never fails.
        writeln!(text, "{:<18} {how}", "to see one").ok();
    }
    let differs = differs.into_inner();
    if differs {
        text.push_str("two runs of one seed DIFFER\n");
    }
    let covered = !arguments.require_coverage || report.coverage.missing().is_empty();
    said(&text, report.is_clean_but_for(&arguments.open) && covered && !differs)
}

/// A line that a terminal overwrites; elsewhere one every few seconds.
fn show_progress(played: &AtomicU64, of: u64, began: Instant) {
    let mut error = std::io::stderr();
    let terminal = error.is_terminal();
    let mut shown_at = Duration::ZERO;
    loop {
        let done = played.load(Ordering::Relaxed);
        let elapsed = began.elapsed();
        if terminal {
            write!(error, "\r{done} of {of} seeds, {} s ", elapsed.as_secs()).ok();
        } else if elapsed >= shown_at + PROGRESS {
            shown_at = elapsed;
            writeln!(error, "{done} of {of} seeds, {} s", elapsed.as_secs()).ok();
        }
        if done >= of {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    if terminal {
        writeln!(error).ok();
    }
}

fn replay(what: &str, arguments: &Arguments, options: Options) -> ExitCode {
    let (tape, options) = match what.parse::<u64>() {
        Ok(seed) => (Tape::from_seed(seed), options),
        Err(_) => match TapeFile::read(what.as_ref()) {
            Ok(file) => (file.tape(), Options { hours: file.hours, quiet_hours: file.quiet_hours, ..options }),
            Err(why) => return failed(&format!("--replay takes a seed or the file of a tape: {why}")),
        },
    };
    let outcome = play(tape, &Options { timeline: true, ..options });
    match &arguments.shrink {
        Some(path) => shrink_to(path, &outcome, arguments, options),
        None => said(&account_of(&outcome, &arguments.about), outcome.violations.is_empty()),
    }
}

/// What happened in a run, and what was wrong with it.
fn account_of(outcome: &Outcome, about: &[String]) -> String {
    let mut text = outcome.timeline.text(about);
    // Writing to a string never fails.
    write!(text, "\nfaults: {:?}\nhash: {:016x}\n", outcome.faults, outcome.hash).ok();
    for violation in &outcome.violations {
        let at = simulation::timeline::clock(violation.at);
        writeln!(text, "VIOLATED {} at {at}: {}", violation.invariant, violation.what).ok();
    }
    text
}

fn shrink_to(path: &std::path::Path, outcome: &Outcome, arguments: &Arguments, options: Options) -> ExitCode {
    let Some(violation) = outcome.violations.first() else {
        return failed("nothing is violated: there is nothing to shrink");
    };
    let began = now();
    let shown_at = std::cell::Cell::new(Duration::ZERO);
    let told = |runs: u64, left: usize| {
        if began.elapsed() >= shown_at.get() + PROGRESS {
            shown_at.set(began.elapsed());
            writeln!(std::io::stderr(), "{runs} of {} runs, {left} choices tried last", arguments.shrink_runs).ok();
        }
    };
    let shrunk = shrink(outcome.choices.clone(), violation.invariant, &options, arguments.shrink_runs, told);
    let small = play(Tape::from_choices(shrunk.choices.clone()), &Options { timeline: true, ..options });
    let shows = small.violations.iter().find(|found| found.invariant == violation.invariant).unwrap_or(violation);
    let file = TapeFile {
        shows: shows.what.clone(),
        invariant: violation.invariant.to_owned(),
        hours: options.hours,
        quiet_hours: options.quiet_hours,
        choices: TapeFile::packed(&shrunk.choices),
    };
    let text = serde_json::to_string(&file).unwrap_or_default();
    let (runs, left) = (shrunk.runs, file.choices.len());
    match std::fs::write(path, format!("{text}\n")) {
        Ok(()) => {
            let text = account_of(&small, &arguments.about);
            let all = outcome.choices.len();
            let told = format!("{left} choices are left of {all} after {runs} runs, in {}", path.display());
            said(&format!("{text}\n{told}"), true)
        }
        Err(error) => failed(&format!("{}: {error}", path.display())),
    }
}

/// The processor time of this process, where the system tells it: on a shared machine the clock says little about speed.
fn cpu_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // After the name in brackets: state is the third field, user and system time the 14th and 15th, in hundredths.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let hundredths: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(hundredths * 10))
}

fn cores() -> u64 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64)
}

#[expect(clippy::disallowed_methods, reason = "how long a batch really takes; no run sees it")]
fn now() -> Instant {
    Instant::now()
}
