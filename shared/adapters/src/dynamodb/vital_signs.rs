//! [`VitalSigns`]: what the instances wrote of themselves.

use std::collections::BTreeSet;

use runner_scaler_core::error::PortError;
use runner_scaler_core::ids::InstanceId;
use runner_scaler_core::ports::{VitalSign, VitalSigns, Worker};
use runner_scaler_core::time::{Clock, Timestamp};

use super::item::{number_of, text, text_of};
use super::{Attributes, batch_get};
use crate::Adapters;
use crate::clock::SystemClock;

impl VitalSigns for Adapters {
    async fn read(&self, instance_ids: &[InstanceId]) -> Result<Vec<(InstanceId, VitalSign)>, PortError> {
        let prefix = &self.environment().vital_signs_key_prefix;
        let ids: BTreeSet<&InstanceId> = instance_ids.iter().collect();
        let key = |id: &InstanceId| Attributes::from([("instance_id".to_owned(), text(format!("{prefix}{id}")))]);
        let keys = ids.into_iter().map(key).collect();
        let items = batch_get(self.dynamodb(), &self.environment().vital_signs_table, keys).await?;
        let now = SystemClock.now();
        Ok(items.iter().filter_map(|item| sign_of(item, prefix, now)).collect())
    }
}

/// An item that we cannot read counts as a sign of life given now: it can only veto.
fn sign_of(item: &Attributes, prefix: &str, now: Timestamp) -> Option<(InstanceId, VitalSign)> {
    let id = InstanceId::new(text_of(item, "instance_id")?.strip_prefix(prefix)?);
    let Some(beat_at) = number_of(item, "beat_at").map(Timestamp) else {
        return Some((id, VitalSign { beat_at: now, worker: Worker::Unrecognised }));
    };
    let worker = match text_of(item, "worker") {
        Some("none") => Worker::None,
        Some("acquiring") => Worker::Acquiring,
        Some("running") => Worker::Running,
        Some(_) | None => Worker::Unrecognised,
    };
    Some((id, VitalSign { beat_at, worker }))
}

#[cfg(test)]
mod tests {
    use super::super::item::number;
    use super::*;

    #[test]
    fn a_sign_that_is_not_understood_vetoes() {
        let now = Timestamp(9_000);
        for (case, beat_at, worker, expected) in [
            ("idle", number(5_000), text("none"), (5_000, Worker::None)),
            ("a job is being acquired", number(5_000), text("acquiring"), (5_000, Worker::Acquiring)),
            ("a job runs", number(5_000), text("running"), (5_000, Worker::Running)),
            ("a word of a newer supervisor", number(5_000), text("paused"), (5_000, Worker::Unrecognised)),
            ("another type", number(5_000), number(1), (5_000, Worker::Unrecognised)),
            ("no time", text("soon"), text("none"), (9_000, Worker::Unrecognised)),
        ] {
            let item = Attributes::from([
                ("instance_id".to_owned(), text("AROAEXAMPLE:i-1")),
                ("beat_at".to_owned(), beat_at),
                ("worker".to_owned(), worker),
            ]);
            let sign = VitalSign { beat_at: Timestamp(expected.0), worker: expected.1 };
            assert_eq!(sign_of(&item, "AROAEXAMPLE:", now), Some((InstanceId::new("i-1"), sign)), "{case}");
        }
    }
}
