//! What instances say of themselves. It can only veto a removal, never cause one.

use crate::error::PortError;
use crate::ids::InstanceId;
use crate::time::Timestamp;

/// What the supervisor sees on its instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worker {
    /// No `Runner.Worker` and no acquisition.
    None,
    /// A job is being acquired.
    Acquiring,
    /// A `Runner.Worker` runs.
    Running,
    /// A word that we do not know: counts as a sign of life.
    Unrecognised,
}

/// One instance's last sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VitalSign {
    /// When it was written.
    pub beat_at: Timestamp,
    /// What ran then.
    pub worker: Worker,
}

/// The table of vital signs.
pub trait VitalSigns {
    /// Reads the signs of these instances, consistently; those that never wrote one are left out. An item whose shape
    /// is not understood is reported with [`Worker::Unrecognised`], never left out.
    async fn read(&self, instance_ids: &[InstanceId]) -> Result<Vec<(InstanceId, VitalSign)>, PortError>;
}
