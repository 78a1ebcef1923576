//! A warrant has private fields: no other module can make one.
use runner_scaler_core::ids::{Access, RunnerId, Scope};
use runner_scaler_core::removal::{DeregistrationGround, DeregistrationWarrant};

fn main() {
    let access = Access { scope: Scope::Organization { owner: "octo".into() }, installation_id: None };
    let _ = DeregistrationWarrant { access, runner_id: RunnerId(1), ground: DeregistrationGround::Idle };
}
