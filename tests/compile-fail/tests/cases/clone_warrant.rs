//! A warrant serves once: it cannot be copied.
use runner_scaler_core::removal::DeregistrationWarrant;

fn twice(warrant: DeregistrationWarrant) -> (DeregistrationWarrant, DeregistrationWarrant) {
    (warrant.clone(), warrant)
}

fn main() {}
