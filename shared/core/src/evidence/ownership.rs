//! Ownership: which instances are this deployment's to act upon (design section 5).

use crate::config::Policy;
use crate::ledger::InstanceRecord;
use crate::ports::Instance;

/// Tag that names the deployment.
pub const ENVIRONMENT_TAG: &str = "ghr:environment";
/// Tag by which an operator takes an instance out of our hands.
pub const BYPASS_TAG: &str = "ghr:bypass-removal";
/// EC2's own tag; no user can write a key that begins with `aws:`.
pub const TEMPLATE_TAG: &str = "aws:ec2launchtemplate:id";

/// Whose instance it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Our tag, and a record of ours or our launch template agree.
    Ours,
    /// An operator marked it `ghr:bypass-removal`.
    Bypassed,
    /// A tag alone, which anyone may write, or not even that.
    Foreign,
}

impl Ownership {
    /// Judges one instance. A tag alone never suffices: another deployment or a person may have copied it.
    #[must_use]
    pub fn of(instance: &Instance, record: Option<&InstanceRecord>, policy: &Policy) -> Self {
        let tag = |key: &str| instance.tags.get(key).map(String::as_str);
        let tagged = tag(ENVIRONMENT_TAG) == Some(policy.deployment.as_str());
        // Of either origin: one is rebuilt only of an instance that our template launched, and the ledger is ours alone
        // to write. The template in the document may be another by now.
        let recorded = record.is_some_and(|record| record.instance_id == instance.id);
        let from_template = tag(TEMPLATE_TAG).is_some_and(|template| policy.owns_template(template));
        if tag(BYPASS_TAG).is_some() {
            Self::Bypassed
        } else if tagged && (recorded || from_template) {
            Self::Ours
        } else {
            Self::Foreign
        }
    }
}
