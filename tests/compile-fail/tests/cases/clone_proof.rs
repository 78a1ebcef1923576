//! A proof serves once: it cannot be copied.
use runner_scaler_core::removal::TerminationProof;

fn twice(proof: TerminationProof) -> (TerminationProof, TerminationProof) {
    (proof.clone(), proof)
}

fn main() {}
