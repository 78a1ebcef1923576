//! Records of earlier versions are read by this one, whole: after an upgrade the functions go on with what the version
//! before wrote, and after a roll-back with what this one did.
//!
//! `records/<version>.json` holds what that version wrote, every kind and every state of it, and is never changed: a
//! version that writes more gets a file of its own.

use std::collections::BTreeSet;

use runner_scaler_core::ledger::{
    AbsenceBreaker, BackPressure, DeliveryCursor, FleetRecord, InstanceRecord, JobRecord, LaunchRecord, MissRecord,
    OfferingRecord, OrphanEvent, Pace, PassCursor, PoolCursor, Record, RedeliveryCursor, SearchCursor,
};
use serde::Deserialize;
use serde_json::Value;

/// One record as it lies in the table.
#[derive(Deserialize)]
struct Written {
    kind: String,
    case: String,
    schema: u32,
    body: Value,
}

/// What this version writes of a record that it read.
fn read_and_written<R: Record>(written: &Written) -> Value {
    assert_eq!(R::KIND.as_str(), written.kind, "{}", written.case);
    assert_eq!(R::SCHEMA, written.schema, "{} {}: another schema is left alone", written.kind, written.case);
    let record: R = serde_json::from_value(written.body.clone())
        .unwrap_or_else(|error| panic!("{} {}: {error}", written.kind, written.case));
    serde_json::to_value(&record).expect("plain data")
}

/// Every field of the older record is in the newer one, with the same value.
fn assert_kept(old: &Value, new: &Value, path: &str) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, value) in old {
                let kept = new.get(name).unwrap_or_else(|| panic!("{path}.{name} is gone"));
                assert_kept(value, kept, &format!("{path}.{name}"));
            }
        }
        _ => assert_eq!(old, new, "{path}"),
    }
}

#[test]
fn what_0_1_0_wrote_is_read_and_nothing_of_it_is_lost() {
    let records: Vec<Written> = serde_json::from_str(include_str!("records/0.1.0.json")).expect("the fixtures");
    let mut kinds = BTreeSet::new();
    for written in &records {
        let new = match (written.kind.as_str(), written.case.as_str()) {
            ("instance", _) => read_and_written::<InstanceRecord>(written),
            ("job", _) => read_and_written::<JobRecord>(written),
            ("launch", _) => read_and_written::<LaunchRecord>(written),
            ("fleet", _) => read_and_written::<FleetRecord>(written),
            ("orphan-event", _) => read_and_written::<OrphanEvent>(written),
            ("cursor", "of a pass") => read_and_written::<PassCursor>(written),
            ("cursor", "of the search for queued jobs") => read_and_written::<SearchCursor>(written),
            ("cursor", "of redeliveries") => read_and_written::<RedeliveryCursor>(written),
            ("cursor", "of a pool, a launch under way") => read_and_written::<PoolCursor>(written),
            ("cursor", _) => read_and_written::<DeliveryCursor>(written),
            ("breaker", "too many absences") => read_and_written::<AbsenceBreaker>(written),
            ("breaker", "the pace of changes") => read_and_written::<Pace>(written),
            ("breaker", _) => read_and_written::<BackPressure>(written),
            ("offering", _) => read_and_written::<OfferingRecord>(written),
            ("miss", _) => read_and_written::<MissRecord>(written),
            (kind, case) => panic!("{kind} {case}: nobody reads it"),
        };
        assert_kept(&written.body, &new, &format!("{} {}", written.kind, written.case));
        kinds.insert(written.kind.as_str());
    }
    let all = ["breaker", "cursor", "fleet", "instance", "job", "launch", "miss", "offering", "orphan-event"];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), all, "every kind that 0.1.0 had");
}

#[test]
fn an_instance_record_of_0_1_0_has_every_field_that_this_version_knows_or_a_default_for_it() {
    let records: Vec<Written> = serde_json::from_str(include_str!("records/0.1.0.json")).expect("the fixtures");
    let full = records.iter().find(|written| written.case == "with every field").expect("a full one");
    // Whatever a field is: an older version that never heard of it left it out.
    for name in ["idle_maximum_seconds", "sought_at", "started_besides", "ended", "idle_seen_at", "elsewhere"] {
        let mut body = full.body.clone();
        body.as_object_mut().expect("an object").remove(name);
        let read = serde_json::from_value::<InstanceRecord>(body);
        assert!(read.is_ok(), "{name}: {read:?}");
    }
}
