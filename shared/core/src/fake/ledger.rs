//! `DynamoDB` with versions, and records in and out for tests.

use super::Fake;
use crate::error::{Class, PortError};
use crate::ids::InstanceId;
use crate::ledger::{Record, Versioned};
use crate::ports::{Expect, Item, Key, Ledger, OpenPartition, VitalSign, VitalSigns, Write};
use crate::time::Timestamp;

/// Bytes of an item, the most that DynamoDB takes (400 KB).
const ITEM_MAX: usize = 400 * 1_024;

impl Fake {
    /// Stores a record whatever is there, as if another process had.
    pub(crate) fn put<R: Record>(&self, record: &R) {
        let mut item = Versioned::new(record.clone()).write().item;
        if let Some(old) = self.state().items.get(&item.key) {
            item.version = old.version + 1;
        }
        self.put_item(item);
    }

    /// Stores an item as it is.
    pub(crate) fn put_item(&self, item: Item) {
        self.state_mut().items.insert(item.key.clone(), item);
    }

    /// A record, without a call.
    pub(crate) fn get<R: Record>(&self, id: &str) -> Option<R> {
        let item = self.state().items.get(&R::key(id)).cloned()?;
        Some(item.body.parse().expect("written by this code"))
    }

    /// Every record of a kind, without a call.
    pub(crate) fn all<R: Record>(&self) -> Vec<R> {
        let of_kind = |item: &&Item| item.key.kind == R::KIND;
        let items: Vec<Item> = self.state().items.values().filter(of_kind).cloned().collect();
        items.iter().map(|item| item.body.parse().expect("written by this code")).collect()
    }

    /// Everything in the table.
    pub(crate) fn items(&self) -> Vec<Item> {
        self.state().items.values().cloned().collect()
    }
}

impl Ledger for Fake {
    async fn read(&self, keys: &[Key]) -> Result<Vec<Item>, PortError> {
        self.call("Ledger::read", |state| Ok(keys.iter().filter_map(|key| state.items.get(key).cloned()).collect()))
            .await
    }

    async fn write(&self, writes: &[Write]) -> Result<(), PortError> {
        self.call("Ledger::write", |state| {
            assert!((1..=100).contains(&writes.len()), "DynamoDB takes 1 to 100 items, not {}", writes.len());
            for (index, write) in writes.iter().enumerate() {
                if write.item.body.as_str().len() > ITEM_MAX {
                    return Err(PortError::new(format!("write {}", write.item.key), Class::Rejected, "item size"));
                }
                let twice = writes.iter().skip(index + 1).any(|other| other.item.key == write.item.key);
                assert!(!twice, "DynamoDB refuses {} twice in one transaction", write.item.key);
                let holds = match (write.expect, state.items.get(&write.item.key)) {
                    (Expect::Absent, None) => true,
                    (Expect::Version(version), Some(item)) => item.version == version,
                    (Expect::Absent, Some(_)) | (Expect::Version(_), None) => false,
                };
                if !holds {
                    return Err(PortError::new(format!("write {}", write.item.key), Class::Conflict, "version"));
                }
            }
            state.items.extend(writes.iter().map(|write| (write.item.key.clone(), write.item.clone())));
            Ok(())
        })
        .await
    }

    async fn open(&self, partition: &OpenPartition, until: Timestamp, limit: usize) -> Result<Vec<Item>, PortError> {
        self.call("Ledger::open", |state| {
            let place = |item: &&Item| item.open.as_ref().is_some_and(|(own, at)| own == partition && *at <= until);
            let mut items: Vec<Item> = state.items.values().filter(place).cloned().collect();
            items.sort_by_key(|item| item.open.as_ref().map(|(_, at)| *at));
            items.truncate(limit);
            Ok(items)
        })
        .await
    }
}

impl VitalSigns for Fake {
    async fn read(&self, instance_ids: &[InstanceId]) -> Result<Vec<(InstanceId, VitalSign)>, PortError> {
        self.call("VitalSigns::read", |state| {
            Ok(instance_ids.iter().filter_map(|id| Some((id.clone(), *state.vital_signs.get(id)?))).collect())
        })
        .await
    }
}
