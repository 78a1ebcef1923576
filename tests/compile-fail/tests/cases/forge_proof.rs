//! A proof has private fields: no other module can make one.
use runner_scaler_core::ids::InstanceId;
use runner_scaler_core::removal::{Ground, TerminationProof};

fn main() {
    let _ = TerminationProof { instance_id: InstanceId::new("i-1"), ground: Ground::JobCompleted };
}
