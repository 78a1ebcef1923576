//! An id alone ends nothing.
use runner_scaler_core::ids::InstanceId;
use runner_scaler_core::ports::Compute;

async fn end(compute: &impl Compute, id: InstanceId) {
    let _ = compute.terminate(id).await;
}

fn main() {}
