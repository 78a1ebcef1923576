//! A warrant is spent by the call.
use runner_scaler_core::ports::Registry;
use runner_scaler_core::removal::DeregistrationWarrant;

async fn again(registry: &impl Registry, warrant: DeregistrationWarrant) {
    let _ = registry.deregister(warrant).await;
    let _ = registry.deregister(warrant).await;
}

fn main() {}
