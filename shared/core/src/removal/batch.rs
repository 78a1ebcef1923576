//! Many records of one pass written at once: 1,000 single writes would take longer than all the rest of a pass.

use super::RemovalPorts;
use crate::error::{Class, Classify, PortError};
use crate::ids::InstanceId;
use crate::ledger::{self, InstanceRecord, Versioned};
use crate::ports::Write;

/// Records in one transaction, the most that DynamoDB takes.
pub(super) const WRITTEN_MAX: usize = 100;

/// Stores them all, each on condition that it is as it was read; returns what failed, by an instance that it was about.
/// Where one of a transaction changed meanwhile, or can never be stored, each is stored by itself: none fails for another.
pub(super) async fn store<P: RemovalPorts>(
    ports: &P,
    records: Vec<Versioned<InstanceRecord>>,
) -> Vec<(InstanceId, PortError)> {
    let id = |record: &Versioned<InstanceRecord>| record.record.instance_id.clone();
    let mut failures = Vec::new();
    for together in records.chunks(WRITTEN_MAX) {
        let writes: Vec<Write> = together.iter().map(Versioned::write).collect();
        match ports.write(&writes).await {
            Ok(()) => {}
            Err(error) if matches!(error.class(), Class::Conflict | Class::Rejected) && together.len() > 1 => {
                for record in together {
                    if let Err(error) = ledger::store(ports, record.clone()).await {
                        failures.push((id(record), error));
                    }
                }
            }
            Err(error) => failures.extend(together.first().map(|first| (id(first), error))),
        }
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, run};
    use crate::ids::{Access, FleetName, LaunchToken, RunnerName, Scope};
    use crate::time::{Clock, Timestamp};

    fn record(fake: &Fake, id: &str) -> Versioned<InstanceRecord> {
        let access = Access { scope: Scope::Organization { owner: "octo".into() }, installation_id: None };
        let (fleet, token, name) = (FleetName::new("linux"), LaunchToken::new("token"), RunnerName::new("runner"));
        Versioned::new(InstanceRecord::launched(InstanceId::new(id), access, fleet, token, name, fake.now()))
    }

    #[test]
    fn one_record_that_cannot_be_stored_keeps_no_other_from_being() {
        type Spoil = fn(&Fake, &mut Versioned<InstanceRecord>);
        let cases: [(&str, Spoil); 2] = [
            ("somebody wrote it meanwhile", |fake, record| fake.put(&record.record)),
            ("DynamoDB takes no item of its size", |_, record| {
                record.record.runner_name = RunnerName::new("x".repeat(500_000));
            }),
        ];
        for (case, spoil) in cases {
            let fake = Fake::new();
            let mut records: Vec<_> = ["i-1", "i-2", "i-3"].iter().map(|id| record(&fake, id)).collect();
            spoil(&fake, &mut records[1]);
            for record in &mut records {
                record.record.idle_since = Some(Timestamp(5));
            }
            let failures = run(store(&fake, records)).expect("not killed");
            let failed: Vec<&str> = failures.iter().map(|(id, _)| id.as_str()).collect();
            assert_eq!(failed, ["i-2"], "{case}");
            let written = |id: &&str| fake.get::<InstanceRecord>(id).is_some_and(|record| record.idle_since.is_some());
            assert_eq!(["i-1", "i-2", "i-3"].into_iter().filter(|id| written(id)).count(), 2, "{case}");
        }
    }
}
