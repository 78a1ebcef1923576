//! A ground to deregister that is established and not stored deletes nothing.
use runner_scaler_core::ports::Registry;
use runner_scaler_core::removal::Deregisterable;

async fn delete(registry: &impl Registry, ground: Deregisterable) {
    let _ = registry.deregister(ground).await;
}

fn main() {}
