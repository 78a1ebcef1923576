//! SSM parameters: the JIT configuration's way to its instance, and the kill switch.

use crate::error::PortError;
use crate::ids::InstanceId;
use crate::ports::JitConfig;
use crate::time::Timestamp;

/// State of the kill switch parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillSwitch {
    /// The parameter says `enabled`: removal may go on.
    RemovalEnabled,
    /// It says anything else: nothing destructive happens.
    RemovalDisabled,
}

/// SSM's parameter store.
pub trait Parameters {
    /// Puts `<path>/<instance id>`, a `SecureString` tagged with the instance's ARN, unless it exists.
    /// Success also when it exists already: this instance's configuration was handed over before.
    async fn put_jit_config(&self, instance_id: &InstanceId, config: &JitConfig) -> Result<(), PortError>;

    /// Deletes the parameter of an instance that is gone. Success also when there is none.
    async fn delete_jit_config(&self, instance_id: &InstanceId) -> Result<(), PortError>;

    /// The instances that a configuration lies in store for, and since when; names only, never a value. All pages.
    async fn jit_configs(&self) -> Result<Vec<(InstanceId, Timestamp)>, PortError>;

    /// Reads the kill switch, uncached. An error means: do nothing destructive.
    async fn kill_switch(&self) -> Result<KillSwitch, PortError>;
}
