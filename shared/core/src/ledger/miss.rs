//! A job that no fleet takes, and why: for the person who asks where its runner is. Nothing is decided by it.

use serde::{Deserialize, Serialize};

use super::{Record, closed_until, load, store};
use crate::error::{Class, Classify, PortError};
use crate::ids::{JobId, Repository, RunId};
use crate::ledger::{Stored, Versioned};
use crate::ports::{Kind, Ledger, OpenPartition};
use crate::scale_up::Miss;
use crate::time::Timestamp;

/// One such job; apart from the jobs that are served, so that it can never be taken for one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissRecord {
    /// The job.
    pub job_id: JobId,
    /// Its run.
    pub run_id: RunId,
    /// Its repository.
    pub repository: Repository,
    /// The nearest fleet, and what it lacks.
    pub miss: Miss,
    /// When that was found.
    pub at: Timestamp,
}

impl MissRecord {
    /// Stores it; what an earlier configuration said of the job is replaced.
    pub async fn note(self, ledger: &impl Ledger) -> Result<(), PortError> {
        match store(ledger, Versioned::new(self.clone())).await {
            Ok(_) => return Ok(()),
            Err(error) if error.class() == Class::Conflict => {}
            Err(error) => return Err(error),
        }
        let Stored::Present(mut known) = load::<Self>(ledger, self.job_id.to_string()).await? else { return Ok(()) };
        if known.record.miss == self.miss {
            return Ok(());
        }
        known.record = self;
        match store(ledger, known).await {
            // Somebody else said so meanwhile.
            Err(error) if error.class() == Class::Conflict => Ok(()),
            written => written.map(drop),
        }
    }
}

impl Record for MissRecord {
    const KIND: Kind = Kind::Miss;
    const SCHEMA: u32 = 1;

    fn id(&self) -> String {
        self.job_id.to_string()
    }

    fn open(&self) -> Option<(OpenPartition, Timestamp)> {
        None
    }

    fn expires_at(&self) -> Option<Timestamp> {
        Some(closed_until(self.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, run};
    use crate::time::Clock;

    fn miss(label: &str) -> Miss {
        Miss { fleet: None, missing: vec![label.to_owned()], unasked: Vec::new() }
    }

    #[test]
    fn a_miss_is_kept_for_a_week_and_the_last_word_counts() {
        let fake = Fake::new();
        let repository = Repository::try_from("octo/hello".to_owned()).expect("a name");
        let record = |label| MissRecord {
            job_id: JobId(1),
            run_id: RunId(2),
            repository: repository.clone(),
            miss: miss(label),
            at: fake.now(),
        };
        for (case, label, writes) in [("new", "gpu", 1), ("again", "gpu", 2), ("another", "tpu", 4)] {
            run(record(label).note(&fake)).expect("not killed").expect(case);
            assert_eq!(fake.calls_of("Ledger::write"), writes, "{case}");
        }
        let stored = fake.get::<MissRecord>("1").expect("stored");
        assert_eq!(stored.miss, miss("tpu"));
        assert_eq!(stored.expires_at(), Some(closed_until(fake.now())));
        assert!(stored.open().is_none());
    }
}
