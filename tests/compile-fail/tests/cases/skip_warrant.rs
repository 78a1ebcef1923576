//! An id alone deregisters nothing.
use runner_scaler_core::ids::RunnerId;
use runner_scaler_core::ports::Registry;

async fn end(registry: &impl Registry, id: RunnerId) {
    let _ = registry.deregister(id).await;
}

fn main() {}
