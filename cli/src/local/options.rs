//! What a person can ask of `runner-scaler local`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::local::kills::Kill;
use crate::local::scenario::Play;

/// Options of `runner-scaler local`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Options {
    /// Build and run optimised binaries.
    #[arg(long)]
    pub(crate) release: bool,
    /// Use the binaries that are there.
    #[arg(long)]
    pub(crate) no_build: bool,
    /// Leave everything running after the scenario, for curl; end with Ctrl-C.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Start the stack without playing anything; implies --keep.
    #[arg(long)]
    pub(crate) no_scenario: bool,
    /// Jobs of the burst, on two fleets.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=200), value_name = "N")]
    pub(crate) jobs: u32,
    /// Play nothing but a burst: so many jobs queued at once on two fleets, each with room for ten instances. Its budgets
    /// are judged and shown with it. A hundred jobs take some minutes: jobs that find no room are looked at again every
    /// half minute.
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..=200), value_name = "N", conflicts_with = "jobs")]
    pub(crate) burst: Option<u32>,
    /// Where the world's chances come from; the same seed draws the same faults.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Seconds between two hand-made invocations of scale-down, of orphan-sweeper and of demand-reconciler; 0 leaves them
    /// to their schedules of one and five minutes.
    #[arg(long, default_value_t = 1, value_name = "S")]
    pub(crate) tick_seconds: u64,
    /// Seconds until everything must be over; what is left then is a broken promise.
    #[arg(long, default_value_t = 300, value_name = "S")]
    pub(crate) timeout_seconds: u64,
    /// Break a rule of the functions on purpose (test builds only), to see the promise break.
    #[arg(long, value_enum, value_name = "RULE")]
    pub(crate) mutant: Option<Mutant>,
    /// Kill (SIGKILL) a function once in the middle of its work, at its first call CALL: the call has taken effect and
    /// its answer does not arrive. Can be given several times.
    ///
    /// Without CALL: scale-up@CreateFleet (instances run, and none has its JIT configuration yet),
    /// scale-down@DeleteRunner, orphan-sweeper@TerminateInstances, demand-reconciler@SendMessage, webhook@SendMessage.
    #[arg(long, value_name = "FUNCTION[@CALL]")]
    pub(crate) kill_function: Vec<Kill>,
    /// Write the summary as JSON to this file too.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Faults of the world.
    #[command(flatten)]
    pub(crate) faults: Faults,
}

/// Faults, each a probability; all are off by default.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Faults (probabilities from 0 to 1)")]
pub(crate) struct Faults {
    /// GitHub shows a runner as idle for the whole of a job.
    #[arg(long, default_value_t = 0.0, value_name = "P", value_parser = probability)]
    pub(crate) lying_busy_flag: f64,
    /// A delivery is never sent; half of those are in GitHub's log as failed. The demand-reconciler finds the jobs, so
    /// every promise holds; a scene that is about a delivery may not come to what it announced.
    #[arg(long, default_value_t = 0.0, value_name = "P", value_parser = probability)]
    pub(crate) lose_webhooks: f64,
    /// A delivery is sent twice.
    #[arg(long, default_value_t = 0.0, value_name = "P", value_parser = probability)]
    pub(crate) duplicate_webhooks: f64,
    /// A listing of runners leaves one out.
    #[arg(long, default_value_t = 0.0, value_name = "P", value_parser = probability)]
    pub(crate) list_omission: f64,
    /// A call to GitHub answers 502. An instance that gets no configuration for it ends itself, and its scene does not come
    /// to what it announced; the promises hold.
    #[arg(long, default_value_t = 0.0, value_name = "P", value_parser = probability)]
    pub(crate) github_errors: f64,
    /// A call to EC2 answers `RequestLimitExceeded`.
    #[arg(long, default_value_t = 0.0, value_name = "P", value_parser = probability)]
    pub(crate) throttle_ec2: f64,
}

impl Options {
    /// What is played.
    pub(crate) fn play(&self) -> Play {
        self.burst.map_or(Play::Whole { jobs: self.jobs }, |jobs| Play::Burst { jobs })
    }
}

/// A rule that can be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mutant {
    /// Terminate after the quarantine without looking for a job again.
    NoRecheck,
}

impl Mutant {
    /// The name that the functions know it by (`RUNNER_SCALER_MUTANT`).
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NoRecheck => "no-recheck",
        }
    }
}

fn probability(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        Ok(_) | Err(_) => Err("must be a number from 0 to 1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Wrapper {
        #[command(flatten)]
        options: Options,
    }

    fn parse(arguments: &[&str]) -> Result<Options, clap::Error> {
        let whole = ["local"].iter().chain(arguments);
        Wrapper::try_parse_from(whole).map(|wrapper| wrapper.options)
    }

    #[test]
    fn without_arguments_the_world_is_kind() {
        let options = parse(&[]).unwrap();
        assert_eq!((options.jobs, options.tick_seconds, options.timeout_seconds), (20, 1, 300));
        assert_eq!(options.play(), Play::Whole { jobs: 20 });
        assert_eq!(parse(&["--burst", "100"]).unwrap().play(), Play::Burst { jobs: 100 });
        assert!(options.faults.lose_webhooks.abs() < f64::EPSILON && options.kill_function.is_empty());
    }

    #[test]
    fn mistakes_are_refused() {
        for (case, arguments) in [
            ("an unknown function to kill", ["--kill-function", "scale-sideways"]),
            ("a probability above 1", ["--lose-webhooks", "1.5"]),
            ("an unknown mutant", ["--mutant", "no-such-rule"]),
            ("too few jobs for two fleets", ["--jobs", "1"]),
            ("a burst of one", ["--burst", "1"]),
        ] {
            assert!(parse(&arguments).is_err(), "{case}");
        }
    }
}
