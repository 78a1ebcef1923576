//! A proof does not come from nothing.
use runner_scaler_core::removal::{DeregistrationWarrant, TerminationProof};

fn main() {
    let _: TerminationProof = Default::default();
    let _: DeregistrationWarrant = Default::default();
}
