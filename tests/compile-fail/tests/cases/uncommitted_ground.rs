//! A ground that is established and not stored ends nothing.
use runner_scaler_core::ports::Compute;
use runner_scaler_core::removal::Terminable;

async fn end(compute: &impl Compute, ground: Terminable) {
    let _ = compute.terminate(ground).await;
}

fn main() {}
