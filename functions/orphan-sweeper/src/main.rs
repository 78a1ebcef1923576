//! orphan-sweeper: on a schedule, settles instances, registrations and records that lost each other.
//!
//! The event that wakes it says nothing that is believed; every pass reads the world anew.

use lambda_runtime::{Context, Error, LambdaEvent, run, service_fn};
use runner_scaler_adapters::{Adapters, SystemClock, process_env, telemetry};
use runner_scaler_core::config::Environment;
use runner_scaler_core::orphan;
use runner_scaler_core::removal::{self, Report};
use runner_scaler_core::time::{Clock, Deadline, Timestamp};
use serde_json::Value;

/// This function's name: in its logs, and in the user agent of its calls.
const FUNCTION: &str = "orphan-sweeper";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init(FUNCTION);
    let environment = Environment::from_vars(process_env)?;
    let adapters = &Adapters::connect(environment, FUNCTION).await;
    run(service_fn(move |tick: LambdaEvent<Value>| pass(adapters, tick.context))).await
}

/// One pass. Its failures are reported at its end, after all that could be done was done.
async fn pass(adapters: &Adapters, context: Context) -> Result<Report, Error> {
    let policy = adapters.policy().await?;
    let deadline = Deadline::of(SystemClock.now(), Timestamp(i64::try_from(context.deadline)?));
    let outcome = orphan::run_pass(adapters, &policy, deadline).await;
    telemetry::emit(&policy.deployment, FUNCTION, &removal::metrics_of(&outcome));
    Ok(outcome?)
}
