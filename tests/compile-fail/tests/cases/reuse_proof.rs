//! A proof is spent by the call, even where the call fails.
use runner_scaler_core::ports::Compute;
use runner_scaler_core::removal::TerminationProof;

async fn again(compute: &impl Compute, proof: TerminationProof) {
    let _ = compute.terminate(proof).await;
    let _ = compute.terminate(proof).await;
}

fn main() {}
