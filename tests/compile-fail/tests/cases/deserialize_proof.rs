//! A proof or warrant is not read from anywhere: a stored ground is judged anew.
use runner_scaler_core::removal::{DeregistrationWarrant, TerminationProof};

fn read<T: serde::de::DeserializeOwned>() {}

fn main() {
    read::<TerminationProof>();
    read::<DeregistrationWarrant>();
}
