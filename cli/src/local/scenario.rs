//! The play: what happens in the world, and when. A table of scenes, the director who acts on them, and a verdict on each.
//!
//! The director talks to the world only (GitHub's jobs, flaws of instances, what befalls them, the adversary's traps).
//! It never touches the functions, their queue or their tables: whatever they do follows from deliveries and schedules.

mod director;
mod scenes;
mod verdict;

use runner_scaler_world::World;
use runner_scaler_world::github::OwnerKind;
use serde_json::Value;

pub(crate) use director::Director;
pub(crate) use scenes::{Play, real_payload};
pub(crate) use verdict::SceneVerdict;

const OWNER: &str = "octo-org";
const REPOSITORY: &str = "octo-repo";

/// Installs the App where the scenes' jobs come from.
pub(crate) fn install(world: &mut World) {
    let (github, _) = world.github();
    github.install(OWNER, OwnerKind::Organization, &[REPOSITORY]);
}

/// The body of a real delivery with another job's id.
pub(crate) fn payload_with_job_id(job_id: u64) -> Result<Vec<u8>, serde_json::Error> {
    let mut payload: Value = serde_json::from_slice(real_payload())?;
    if let Some(id) = payload.pointer_mut("/workflow_job/id") {
        *id = job_id.into();
    }
    serde_json::to_vec(&payload)
}
