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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fake::policy;
    use crate::ids::{Access, FleetName, InstanceId, LaunchToken, RunnerName, Scope};
    use crate::ledger::Origin;
    use crate::ports::InstanceState;
    use crate::time::Timestamp;

    fn record(of: &str, origin: Origin) -> InstanceRecord {
        let record = InstanceRecord::launched(
            InstanceId::new(of),
            Access { scope: Scope::Organization { owner: "octo".into() }, installation_id: None },
            FleetName::new("linux"),
            LaunchToken::new("token"),
            RunnerName::new("runner-i-1"),
            Timestamp(0),
        );
        InstanceRecord { origin, ..record }
    }

    fn instance(environment: Option<&str>, template: Option<&str>, bypass: Option<&str>) -> Instance {
        let tags = [(ENVIRONMENT_TAG, environment), (TEMPLATE_TAG, template), (BYPASS_TAG, bypass)];
        Instance {
            id: InstanceId::new("i-1"),
            state: InstanceState::Running,
            launched_at: Timestamp(0),
            tags: Arc::new(
                tags.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))).collect(),
            ),
        }
    }

    /// Every tag with every record, template and mark. `owns_template` knows `lt-1` alone.
    #[test]
    fn ours_is_what_bears_our_tag_and_is_known_to_the_ledger_or_from_our_template() {
        let launched = record("i-1", Origin::Launch);
        let rebuilt = record("i-1", Origin::Rebuilt { at: Timestamp(1) });
        let of_another = record("i-2", Origin::Launch);
        let records = [
            ("no record", None, false),
            ("launched by us", Some(&launched), true),
            ("rebuilt", Some(&rebuilt), true),
            ("another instance's record", Some(&of_another), false),
        ];
        let templates = [("none", None, false), ("ours", Some("lt-1"), true), ("another", Some("lt-2"), false)];
        let environments = [("none", None, false), ("ours", Some("test"), true), ("another's", Some("prod"), false)];
        let mut ours = 0;
        for (environment_is, environment, is_tagged) in environments {
            for (record_is, record, is_known) in records {
                for (template_is, template, is_from_ours) in templates {
                    let case = format!("tag {environment_is}, {record_is}, template {template_is}");
                    let of = |bypass| Ownership::of(&instance(environment, template, bypass), record, &policy());
                    let expected =
                        if is_tagged && (is_known || is_from_ours) { Ownership::Ours } else { Ownership::Foreign };
                    assert_eq!(of(None), expected, "{case}");
                    for mark in ["", "false", "true"] {
                        assert_eq!(of(Some(mark)), Ownership::Bypassed, "{case}, marked {mark:?}");
                    }
                    ours += usize::from(expected == Ownership::Ours);
                }
            }
        }
        assert_eq!(ours, 8, "of 36: two records with three templates, and our template with two others");
    }
}
