//! That the naive protocols do remove what GitHub shows idle, and when: one that removed nothing would look safe.

use super::*;
use crate::config::Mutant;

/// Minutes until the instance is ended, of half an hour.
fn ended_after(mutant: Mutant, make: impl Fn(&Fake)) -> (Option<usize>, Fake) {
    let policy = Policy { mutant, ..policy() };
    let fake = Fake::new();
    idle_runner(&fake);
    let ended = (1..=30).find(|_| {
        make(&fake);
        tick(&fake, &policy);
        !fake.state().terminated.is_empty()
    });
    (ended, fake)
}

#[test]
fn each_ends_an_idle_runner_in_one_breath_keeps_a_busy_one_and_hears_no_other_witness() {
    for (mutant, minutes, readings) in
        [(Mutant::NaiveUpstream, 5, 1), (Mutant::NaiveRecheck, 5, 2), (Mutant::NaiveConfirmation, 15, 11)]
    {
        let (ended, fake) = ended_after(mutant, |_| {});
        assert_eq!(ended, Some(minutes), "{mutant:?}");
        assert!(fake.state().runners.is_empty(), "{mutant:?}: deregistered in the same pass");
        assert_eq!(fake.calls_of("RegistryRead::runner"), readings, "{mutant:?}: the runner's own reading");

        let (ended, fake) = ended_after(mutant, |fake| busy(fake, true));
        assert_eq!(ended, None, "{mutant:?}: shown busy");
        untouched(&fake, "shown busy");

        let (ended, _) = ended_after(mutant, |fake| {
            let sign = VitalSign { beat_at: fake.now(), worker: Worker::Running };
            fake.state_mut().vital_signs.insert(id(), sign);
            job_starts(fake);
        });
        assert_eq!(ended, Some(minutes), "{mutant:?}: ledger and instance say that a job runs");
    }
}
