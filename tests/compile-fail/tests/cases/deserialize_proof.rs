//! A proof cannot come out of a document.
use runner_scaler_core::removal::TerminationProof;

fn main() {
    let _: TerminationProof = serde_json::from_str("{}").expect("never");
}
