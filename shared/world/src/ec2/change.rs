//! `TerminateInstances` and `CreateTags`: the calls that change instances that exist.

use super::{Ec2, Ec2Error, Instance, State, Tags};
use crate::truth::Ending;
use crate::{Millis, Tape};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Ids or resources in one call, as documented for both operations.
const PER_CALL_MAX: usize = 1_000;

/// Tags on one resource (EC2 user guide, "Tag restrictions"); EC2's own do not count.
const TAGS_MAX: usize = 50;

/// One instance's line in the answer of `TerminateInstances`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    /// The instance.
    pub instance_id: String,
    /// Its state after the call.
    pub current: State,
    /// Its state before the call.
    pub previous: State,
}

impl Ec2 {
    /// `TerminateInstances`: all or nothing. A repetition on an ending or terminated instance succeeds and changes
    /// nothing.
    ///
    /// # Errors
    /// One unknown id, or one that is not visible *yet*, fails the whole call with `InvalidInstanceID.NotFound`: none
    /// is terminated (API reference, `TerminateInstances`, read 2026-11-20). A protected one keeps every instance of
    /// its zone and fails the call with `OperationNotPermitted`, while those of other zones are terminated (the same).
    pub fn terminate_instances(
        &mut self,
        ids: &[String],
        caller: &str,
        now: Millis,
        tape: &mut Tape,
    ) -> Result<Vec<StateChange>, Ec2Error> {
        self.check_known(ids, now)?;
        let named = || ids.iter().filter_map(|id| self.instances.get(id));
        let protected = named().find(|i| i.protected && i.state.is_alive()).map(|i| i.id.clone());
        let kept_zones: BTreeSet<String> =
            named().filter(|i| i.protected && i.state.is_alive()).map(|i| i.availability_zone.clone()).collect();
        let mut changes = Vec::with_capacity(ids.len());
        for id in ids {
            let found = self.instance(id).filter(|i| !kept_zones.contains(&i.availability_zone));
            let Some(previous) = found.map(|instance| instance.state) else { continue };
            self.begin_shutdown(id, Ending::Api { caller: caller.to_owned() }, now, tape);
            let current = self.instance(id).map_or(previous, |instance| instance.state);
            changes.push(StateChange { instance_id: id.clone(), current, previous });
        }
        match protected {
            Some(id) => Err(Ec2Error::protected(&id)),
            None => Ok(changes),
        }
    }

    /// `CreateTags`: overwrites values, the last writer wins; there is no compare-and-swap.
    ///
    /// # Errors
    /// All or nothing: an unknown id, more than 1,000 resources, a key that begins with `aws:`, or more than 50 tags on
    /// a resource leave everything as it was.
    pub fn create_tags(&mut self, ids: &[String], tags: &Tags, now: Millis) -> Result<(), Ec2Error> {
        check_keys(tags)?;
        self.check_known(ids, now)?;
        let too_many = |instance: &Instance| {
            let own = instance.tags.keys().chain(tags.keys()).filter(|key| !key.starts_with("aws:"));
            own.collect::<std::collections::BTreeSet<_>>().len() > TAGS_MAX
        };
        if ids.iter().filter_map(|id| self.instances.get(id)).any(too_many) {
            return Err(Ec2Error::refused("TagLimitExceeded", "The maximum number of Tags has been reached."));
        }
        for id in ids {
            if let Some(instance) = self.instances.get_mut(id) {
                Arc::make_mut(&mut instance.tags).extend(tags.clone());
            }
        }
        Ok(())
    }

    /// Refuses ids that are malformed, unknown or not yet visible.
    pub(super) fn check_known(&self, ids: &[String], now: Millis) -> Result<(), Ec2Error> {
        if ids.is_empty() {
            return Err(Ec2Error::refused("MissingParameter", "The request must contain the parameter InstanceId"));
        }
        if ids.len() > PER_CALL_MAX {
            return Err(Ec2Error::refused("InvalidParameterValue", "The request contains more than 1000 resources"));
        }
        if let Some(id) = ids.iter().find(|id| !is_instance_id(id)) {
            return Err(Ec2Error::refused("InvalidInstanceID.Malformed", format!("Invalid id: \"{id}\"")));
        }
        let known = |id: &&String| self.instance(id).is_some_and(|instance| instance.is_visible(now));
        let unknown: Vec<_> = ids.iter().filter(|id| !known(id)).cloned().collect();
        if unknown.is_empty() { Ok(()) } else { Err(Ec2Error::instances_not_found(&unknown)) }
    }
}

/// Refuses keys that only AWS may write.
pub(super) fn check_keys(tags: &Tags) -> Result<(), Ec2Error> {
    if tags.keys().any(|key| key.starts_with("aws:")) {
        return Err(Ec2Error::refused(
            "InvalidParameterValue",
            "Tag keys starting with 'aws:' are reserved for internal use",
        ));
    }
    Ok(())
}

fn is_instance_id(id: &str) -> bool {
    id.strip_prefix("i-").is_some_and(|hex| [8, 17].contains(&hex.len()) && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}
