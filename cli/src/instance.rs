//! `runner-scaler instance`: the process of one simulated EC2 instance, started by `runner-scaler local`.
//!
//! What it does is the world crate's business; here it only gets its arguments, and ends with the one who started it.

use std::io::Read as _;

use clap::Args;
use runner_scaler_world::http::process::{InstanceProcess, run_instance};
use runner_scaler_world::instance::SupervisorSettings;
use runner_scaler_world::world::Flaw;

use crate::Outcome;
use crate::failure::{Failure, chain};

/// Arguments of the process.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Its id.
    #[arg(long)]
    instance_id: String,
    /// The world: instance metadata, the broker that hands out jobs, the power switch.
    #[arg(long)]
    world_url: String,
    /// AWS: its JIT configuration and its vital sign.
    #[arg(long)]
    emulator_url: String,
    /// Where JIT configurations lie.
    #[arg(long)]
    parameter_path: String,
    /// The table of vital signs.
    #[arg(long)]
    vital_signs_table: String,
    /// What is wrong with it.
    #[arg(long, value_parser = flaw, default_value = "none")]
    flaw: Flaw,
}

/// Lives until it has powered itself off, or until whoever started it has gone.
pub(crate) async fn run(options: Options) -> Result<Outcome, Failure> {
    tracing_subscriber::fmt().with_ansi(false).init();
    end_with_parent();
    let process = InstanceProcess {
        instance_id: options.instance_id,
        world_url: options.world_url,
        ssm_endpoint: options.emulator_url.clone(),
        dynamodb_endpoint: options.emulator_url,
        parameter_path: options.parameter_path,
        vital_signs_table: options.vital_signs_table,
        supervisor: SupervisorSettings::local(),
        flaw: options.flaw,
    };
    run_instance(process)
        .await
        .map(|_| Outcome::Good)
        .map_err(|error| Failure::Program { program: "runner-scaler instance".to_owned(), output: chain(&error) })
}

/// Standard input is a pipe that only the parent holds: its end is the parent's, however that came.
fn end_with_parent() {
    std::thread::spawn(|| {
        let _end = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
}

fn flaw(name: &str) -> Result<Flaw, String> {
    serde_json::from_value(name.into()).map_err(|_| format!("no flaw {name:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::hosts::flaw_name;

    #[test]
    fn a_flaw_arrives_as_it_was_sent() {
        for sent in [Flaw::None, Flaw::SupervisorDead, Flaw::NeverRegisters, Flaw::Ghost] {
            assert_eq!(flaw(flaw_name(sent)), Ok(sent));
        }
        assert!(flaw("tired").is_err());
    }
}
