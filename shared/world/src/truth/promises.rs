//! The five promises (design section 1), judged from the ground truth alone.
//!
//! Nothing here reads the system's ledger, tags or logs; what the world cannot see (parameters, caps) is passed in.

use super::{Ending, Fact};
use crate::{Millis, World};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A promise and whether it was kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Promise {
    /// `P1` to `P5`.
    pub name: &'static str,
    /// What it says.
    pub title: &'static str,
    /// Whether it held.
    pub held: bool,
    /// What broke it, one line each; empty when it held.
    pub evidence: Vec<String>,
}

/// What lies outside of the world and has to be looked up by the caller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outside {
    /// Names of JIT configuration parameters that are left.
    pub jit_parameters_left: Vec<String>,
    /// The cap of living instances, by fleet (tag `ghr:fleet`).
    pub caps: BTreeMap<String, usize>,
    /// Launches that may replace a runner which another job took: which runner was whose, the world does not know.
    pub runners_taken_max: usize,
}

/// The window of the storm guard.
const STORM_WINDOW_MS: Millis = 600_000;
/// Launches that the storm guard allows in its window besides two for each job that wants one.
const STORM_SLACK: usize = 5;

/// Judges the five promises at the end of a run.
#[must_use]
pub fn promises(world: &World, outside: &Outside) -> Vec<Promise> {
    let facts = world.truth.facts();
    [
        ("P1", "no running job was ended or deregistered by us", killed_by_us(facts)),
        ("P2", "nothing is left over", left_over(world, outside)),
        ("P3", "no queued job was lost", lost_jobs(facts)),
        ("P4", "no launch too many", launches_too_many(facts, outside)),
        ("P5", "nobody without the secret made us do anything", intrusions(world)),
    ]
    .into_iter()
    .map(|(name, title, evidence)| Promise { name, title, held: evidence.is_empty(), evidence })
    .collect()
}

/// P1: a call ended an instance, or deleted a registration, while a job ran or was being acquired there.
fn killed_by_us(facts: &[(Millis, Fact)]) -> Vec<String> {
    facts
        .iter()
        .filter_map(|(_, fact)| {
            if let Fact::InstanceEnding { instance_id, ending: Ending::Api { caller }, active_job: Some(job) } = fact {
                Some(format!("{caller} terminated {instance_id} while job {job} ran on it"))
            } else if let Fact::RunnerDeregistered { runner, caller, active_job: Some(job) } = fact {
                Some(format!("{caller} deregistered {runner} while job {job} ran on it"))
            } else {
                None
            }
        })
        .collect()
}

/// P2: instances, registrations, parameters.
fn left_over(world: &World, outside: &Outside) -> Vec<String> {
    let instances = world.ec2.alive().into_iter().map(|id| format!("instance {id} lives"));
    let registrations = world.github.registrations().map(|r| format!("runner {} ({}) is registered", r.name, r.id));
    let parameters = outside.jit_parameters_left.iter().map(|name| format!("parameter {name} exists"));
    instances.chain(registrations).chain(parameters).collect()
}

/// P3: every queued job ended by itself. Jobs that died with an instance that EC2 took back or a person stopped were
/// started and are not ours to answer for.
fn lost_jobs(facts: &[(Millis, Fact)]) -> Vec<String> {
    let mut open: BTreeMap<u64, &str> = BTreeMap::new();
    let mut taken_back: BTreeSet<&str> = BTreeSet::new();
    let mut evidence = Vec::new();
    for (_, fact) in facts {
        match fact {
            Fact::JobQueued { job_id, .. } => {
                open.insert(*job_id, "never started");
            }
            Fact::JobStarted { job_id, .. } => {
                open.insert(*job_id, "started and never ended");
            }
            Fact::JobCompleted { job_id, .. } | Fact::JobCancelled { job_id } => {
                open.remove(job_id);
            }
            Fact::InstanceEnding { instance_id, ending, .. } => {
                if *ending == Ending::Spot {
                    taken_back.insert(instance_id);
                }
            }
            Fact::Befell { instance_id, misfortune } => {
                if misfortune.ends_jobs() {
                    taken_back.insert(instance_id);
                }
            }
            Fact::JobKilled { job_id, instance_id } => {
                open.remove(job_id);
                if !taken_back.contains(instance_id.as_str()) {
                    evidence.push(format!("job {job_id} was killed with {instance_id}"));
                }
            }
            Fact::JobCancelledByLostRegistration { job_id, runner } => {
                open.remove(job_id);
                evidence.push(format!("job {job_id} was cancelled: {runner} lost its registration"));
            }
            Fact::JobDropped { job_id, why } => {
                open.remove(job_id);
                evidence.push(format!("job {job_id} was given up: {why}"));
            }
            Fact::JobAssigned { .. }
            | Fact::JobRequeued { .. }
            | Fact::InstanceLaunched { .. }
            | Fact::InstanceBooted { .. }
            | Fact::InstanceTerminated { .. }
            | Fact::TerminationRefused { .. }
            | Fact::ForeignTouched { .. }
            | Fact::RunnerRegistered { .. }
            | Fact::RunnerConnected { .. }
            | Fact::RunnerDeregistered { .. }
            | Fact::DeregistrationRefused { .. }
            | Fact::RunnerRemoved { .. }
            | Fact::DeliveryAnswered { .. }
            | Fact::DeliveryLost { .. }
            | Fact::ForgeryAnswered { .. }
            | Fact::TrapSprung { .. } => {}
        }
    }
    evidence.extend(open.into_iter().map(|(id, how)| format!("job {id} {how}")));
    evidence
}

/// P4: launches against jobs and replacements, the storm guard, and the caps.
fn launches_too_many(facts: &[(Millis, Fact)], outside: &Outside) -> Vec<String> {
    let mut evidence = Vec::new();
    let (launched, allowed) = (launches(facts), jobs_queued(facts) + replacements(facts) + outside.runners_taken_max);
    if launched > allowed {
        evidence.push(format!(
            "{launched} launches for {} jobs and {} replacements",
            jobs_queued(facts),
            replacements(facts)
        ));
    }
    evidence.extend(storm(facts));
    evidence.extend(over_cap(facts, outside));
    evidence
}

fn launches(facts: &[(Millis, Fact)]) -> usize {
    facts.iter().filter(|(_, fact)| matches!(fact, Fact::InstanceLaunched { .. })).count()
}

fn jobs_queued(facts: &[(Millis, Fact)]) -> usize {
    facts.iter().filter(|(_, fact)| matches!(fact, Fact::JobQueued { .. })).count()
}

/// Launches that may be repeated: whose instance never connected, was taken back by EC2, or lost its assignment.
fn replacements(facts: &[(Millis, Fact)]) -> usize {
    let mut unconnected: BTreeSet<&str> = BTreeSet::new();
    let mut others = 0;
    for (_, fact) in facts {
        if let Fact::InstanceLaunched { instance_id, .. } = fact {
            unconnected.insert(instance_id);
        } else if let Fact::RunnerConnected { instance_id: Some(id), .. } = fact {
            unconnected.remove(id.as_str());
        } else if let Fact::InstanceEnding { instance_id, ending: Ending::Spot, .. } = fact {
            others += usize::from(!unconnected.contains(instance_id.as_str()));
        } else if let Fact::JobRequeued { .. } = fact {
            others += 1;
        }
    }
    unconnected.len() + others
}

/// More than two launches a job that wanted one, plus a slack, within the window that ends with a launch.
fn storm(facts: &[(Millis, Fact)]) -> Option<String> {
    let mut worst: Option<(Millis, usize, usize)> = None;
    for (at, fact) in facts {
        if !matches!(fact, Fact::InstanceLaunched { .. }) {
            continue;
        }
        let begin = at - STORM_WINDOW_MS;
        let launched =
            facts.iter().filter(|(t, f)| *t > begin && t <= at && matches!(f, Fact::InstanceLaunched { .. })).count();
        let wanted = jobs_wanting(facts, begin, *at);
        if launched > 2 * wanted + STORM_SLACK && worst.is_none_or(|(_, most, _)| launched > most) {
            worst = Some((*at, launched, wanted));
        }
    }
    worst.map(|(at, launched, wanted)| {
        format!("{launched} launches in the 10 min before {at} while {wanted} jobs wanted a runner")
    })
}

/// Jobs that wanted a runner at some moment of a window: queued before its end and not started before its begin.
fn jobs_wanting(facts: &[(Millis, Fact)], begin: Millis, end: Millis) -> usize {
    let mut wanting: BTreeSet<u64> = BTreeSet::new();
    for (at, fact) in facts.iter().take_while(|(at, _)| *at <= end) {
        if let Fact::JobQueued { job_id, .. } | Fact::JobRequeued { job_id, .. } = fact {
            wanting.insert(*job_id);
        } else if let Fact::JobStarted { job_id, .. } = fact
            && *at <= begin
        {
            wanting.remove(job_id);
        }
    }
    wanting.len()
}

/// The first moment at which a fleet had more living instances than its cap.
fn over_cap(facts: &[(Millis, Fact)], outside: &Outside) -> Vec<String> {
    let mut living: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut evidence: BTreeMap<&str, String> = BTreeMap::new();
    for (at, fact) in facts {
        if let Fact::InstanceLaunched { instance_id, fleet: Some(fleet) } = fact {
            let alive = living.entry(fleet).or_default();
            alive.insert(instance_id);
            let count = alive.len();
            if outside.caps.get(fleet).is_some_and(|cap| count > *cap) {
                evidence.entry(fleet).or_insert_with(|| format!("fleet {fleet} had {count} living instances at {at}"));
            }
        } else if let Fact::InstanceEnding { instance_id, .. } = fact {
            for alive in living.values_mut() {
                alive.remove(instance_id.as_str());
            }
        }
    }
    evidence.into_values().collect()
}

/// P5: forged deliveries are refused and nothing follows them; instances of others are left alone.
fn intrusions(world: &World) -> Vec<String> {
    let answers = world.truth.facts().iter().filter_map(|(_, fact)| {
        let refused = matches!(fact, Fact::ForgeryAnswered { status: Some(400..=499), .. });
        let intrusion = matches!(fact, Fact::ForgeryAnswered { .. } | Fact::ForeignTouched { .. });
        (intrusion && !refused).then(|| fact.describe())
    });
    let acted =
        world.truth.forged_jobs_looked_up().iter().map(|id| format!("job {id} of a forged delivery was looked up"));
    answers.chain(acted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::misfortune::Misfortune;
    use crate::{Settings, Tape};

    fn launched(id: &str) -> Fact {
        Fact::InstanceLaunched { instance_id: id.into(), fleet: Some("small".into()) }
    }

    #[test]
    fn a_launch_too_many_is_one_beyond_jobs_replacements_and_runners_that_others_took() {
        let facts = |count: usize| -> Vec<(Millis, Fact)> {
            let launches = (0..count).map(|number| (2, launched(&format!("i-{number}"))));
            let connected = (0..count).map(|number| {
                let instance_id = Some(format!("i-{number}"));
                (3, Fact::RunnerConnected { runner: format!("r-{number}"), instance_id })
            });
            std::iter::once((1, queued(1))).chain(launches).chain(connected).collect()
        };
        for (case, count, runners_taken_max, held) in [
            ("one for one", 1, 0, true),
            ("two for one", 2, 0, false),
            ("two for one, whose runner another may have taken", 2, 1, true),
            ("three for one", 3, 1, false),
        ] {
            let outside = Outside { runners_taken_max, ..Outside::default() };
            assert_eq!(launches_too_many(&facts(count), &outside).is_empty(), held, "{case}");
        }
    }

    fn queued(job_id: u64) -> Fact {
        Fact::JobQueued { job_id, name: "build".into() }
    }

    fn started(job_id: u64) -> Fact {
        Fact::JobStarted { job_id, runner: "r".into(), instance_id: None }
    }

    fn completed(job_id: u64) -> Fact {
        Fact::JobCompleted { job_id, conclusion: "success".into() }
    }

    fn connected(id: &str) -> Fact {
        Fact::RunnerConnected { runner: "r".into(), instance_id: Some(id.into()) }
    }

    fn ending(id: &str, ending: Ending, active_job: Option<u64>) -> Fact {
        Fact::InstanceEnding { instance_id: id.into(), ending, active_job }
    }

    fn by_us() -> Ending {
        Ending::Api { caller: "scale-down".into() }
    }

    #[test]
    fn each_promise_breaks_on_its_own_evidence_only() {
        let killed = |instance: &str| Fact::JobKilled { job_id: 1, instance_id: instance.into() };
        let deregistered =
            |active_job| Fact::RunnerDeregistered { runner: "r".into(), caller: "scale-down".into(), active_job };
        let forged = |status| Fact::ForgeryAnswered { status, job_id: None };
        let cases: Vec<(&str, Vec<Fact>, Vec<&str>)> = vec![
            ("nothing happened", vec![], vec![]),
            (
                "a job's whole life",
                vec![
                    queued(1),
                    launched("i-1"),
                    connected("i-1"),
                    started(1),
                    completed(1),
                    ending("i-1", Ending::PowerOff, None),
                ],
                vec![],
            ),
            (
                "an idle instance terminated by us",
                vec![queued(1), completed(1), launched("i-1"), ending("i-1", by_us(), None)],
                vec![],
            ),
            ("a busy instance terminated by us", vec![ending("i-1", by_us(), Some(1))], vec!["P1"]),
            ("a runner deregistered in mid-job", vec![deregistered(Some(1))], vec!["P1"]),
            ("an idle runner deregistered", vec![deregistered(None)], vec![]),
            ("a job that never started", vec![queued(1)], vec!["P3"]),
            ("a job that never ended", vec![queued(1), started(1)], vec!["P3"]),
            ("a job cancelled by its user", vec![queued(1), Fact::JobCancelled { job_id: 1 }], vec![]),
            ("a job killed by the power-off of its instance", vec![queued(1), killed("i-1")], vec!["P3"]),
            (
                "a job that EC2 took back with its spot instance",
                vec![queued(1), ending("i-1", Ending::Spot, Some(1)), killed("i-1")],
                vec![],
            ),
            (
                "a job that died with the instance that somebody stopped",
                vec![
                    queued(1),
                    Fact::Befell { instance_id: "i-1".into(), misfortune: Misfortune::Stopped },
                    killed("i-1"),
                ],
                vec![],
            ),
            (
                "a job killed on an instance that somebody merely protected",
                vec![
                    queued(1),
                    Fact::Befell { instance_id: "i-1".into(), misfortune: Misfortune::Protected },
                    killed("i-1"),
                ],
                vec!["P3"],
            ),
            (
                "a job cancelled by its listener",
                vec![queued(1), Fact::JobCancelledByLostRegistration { job_id: 1, runner: "r".into() }],
                vec!["P3"],
            ),
            (
                "two launches that both connected for one job",
                vec![queued(1), launched("i-1"), connected("i-1"), launched("i-2"), connected("i-2"), completed(1)],
                vec!["P4"],
            ),
            (
                "a replacement for an instance that never connected",
                vec![queued(1), launched("i-1"), launched("i-2"), connected("i-2"), completed(1)],
                vec![],
            ),
            (
                "a fourth living instance where the cap is three",
                (1..=4).map(|i| launched(&format!("i-{i}"))).collect(),
                vec!["P4"],
            ),
            ("a forgery refused", vec![forged(Some(401))], vec![]),
            ("a forgery accepted", vec![forged(Some(202))], vec!["P5"]),
            (
                "somebody else's instance tagged",
                vec![Fact::ForeignTouched { instance_id: "i-9".into(), operation: "CreateTags".into() }],
                vec!["P5"],
            ),
        ];
        let outside = Outside { caps: BTreeMap::from([("small".to_owned(), 3)]), ..Outside::default() };
        for (case, facts, broken) in cases {
            let mut world = World::new(Settings::default(), Tape::from_choices(vec![]), 0);
            for (at, fact) in facts.into_iter().enumerate() {
                world.truth.record(i64::try_from(at).unwrap(), fact);
            }
            let found: Vec<&str> = promises(&world, &outside).into_iter().filter(|p| !p.held).map(|p| p.name).collect();
            assert_eq!(found, broken, "{case}");
        }
    }

    #[test]
    fn a_parameter_that_is_left_breaks_the_second_promise() {
        let world = World::new(Settings::default(), Tape::from_choices(vec![]), 0);
        let outside = Outside { jit_parameters_left: vec!["/jit/i-1".into()], ..Outside::default() };
        assert!(promises(&world, &outside).iter().any(|p| p.name == "P2" && !p.held));
    }

    #[test]
    fn a_storm_is_seen_in_its_window() {
        let facts: Vec<(Millis, Fact)> =
            std::iter::once((0, queued(1))).chain((0..8).map(|i| (i * 1_000, launched(&format!("i-{i}"))))).collect();
        assert!(storm(&facts).is_some(), "8 launches for 1 job");
        let spread: Vec<(Millis, Fact)> =
            std::iter::once((0, queued(1))).chain((0..8).map(|i| (i * 300_000, launched(&format!("i-{i}"))))).collect();
        assert!(storm(&spread).is_none(), "the same over 35 min");
    }
}
