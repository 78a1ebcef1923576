//! scale-up: takes a batch of queued jobs from the queue and launches an instance for each that still needs one.
//!
//! All decisions are in `runner_scaler_core::scale_up`; this binary only turns Lambda's event into messages and the
//! outcomes into the list of those that must come back.

mod batch;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use lambda_runtime::{Context, Error, LambdaEvent, run, service_fn};
use runner_scaler_adapters::{Adapters, SystemClock, process_env, telemetry};
use runner_scaler_core::config::Environment;
use runner_scaler_core::scale_up::handle_batch;
use runner_scaler_core::time::{Clock, Deadline, Timestamp};

/// This function's name: in its logs, and in the user agent of its calls.
const FUNCTION: &str = "scale-up";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init(FUNCTION);
    let environment = Environment::from_vars(process_env)?;
    let adapters = &Adapters::connect(environment, FUNCTION).await;
    run(service_fn(move |event: LambdaEvent<SqsEvent>| launch(adapters, event.payload, event.context))).await
}

/// One batch, each message answered for.
async fn launch(adapters: &Adapters, event: SqsEvent, context: Context) -> Result<SqsBatchResponse, Error> {
    adapters.learn_account(&context.invoked_function_arn);
    let messages = batch::messages(event)?;
    let ids = messages.iter().map(|message| message.message_id.clone()).collect();
    let work = async {
        let policy = adapters.policy().await?;
        let deadline = Deadline::of(SystemClock.now(), Timestamp(i64::try_from(context.deadline)?));
        Ok(handle_batch(adapters, &policy, messages, deadline).await)
    };
    batch::answer(ids, work).await
}
