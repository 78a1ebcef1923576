//! Every function killed before and after every port call, every call failed, unanswered or made twice: the next passes
//! come to the same end with nobody's help, and none of them ends an instance whose job runs.
//!
//! The calls are those that the passes make, met one by one ([`at_every_call`]), so that a new call is covered the day
//! it is made.

use std::collections::BTreeSet;

use super::*;
use crate::fake::at_every_call;
use crate::ids::InstallationId;
use crate::ledger::{DeregistrationOutcome, JobCompleted, PassCursor, RemovalIntent, Spell};
use crate::ports::JitConfig;
use crate::removal::DeregistrationGround;

/// Steps in which every road ends that ends at all.
const STEPS_MAX: usize = 80;
/// One-minute steps after the fault, so that the passes right after it meet what it left in hand.
const RECOVERY: usize = 3;

/// One way in which something comes to be left over, and its end.
struct Road {
    case: &'static str,
    make: fn(&Fake),
    /// What happens outside between two passes.
    world: fn(&Fake),
    step: Duration,
    /// The ground on which the instance is ended; `None`: it ended by itself.
    ground: Option<Ground>,
    /// What must hold at its end besides.
    holds: fn(&Fake) -> bool,
}

impl Road {
    fn new(case: &'static str, ground: impl Into<Option<Ground>>, make: fn(&Fake)) -> Self {
        Self { case, make, world: |_| {}, step: 5 * MINUTE, ground: ground.into(), holds: |_| true }
    }

    fn beside(self, world: fn(&Fake)) -> Self {
        Self { world, ..self }
    }

    fn by(self, step: Duration) -> Self {
        Self { step, ..self }
    }
}

/// Some minutes ago, before which the instance was launched.
fn aged(fake: &Fake, age: Duration, make: fn(&Fake)) {
    make(fake);
    fake.pass(age);
}

fn with_parameter(fake: &Fake, id: &InstanceId) {
    fake.state_mut().parameters.insert(id.clone(), JitConfig::new("secret".into()));
}

/// An instance beside the one in question, with its own record and, where wanted, its own registration.
fn put_another(fake: &Fake, number: u64, registered: bool) -> InstanceId {
    let id = InstanceId::new(format!("i-a{number}"));
    put_fallen_silent(fake, &id);
    let mut other = record(fake);
    other.instance_id = id.clone();
    other.runner_name = RunnerName::new(format!("runner-{id}"));
    other.runner_id = Some(RunnerId(100 + number));
    if registered {
        let runner = Runner { id: RunnerId(100 + number), name: other.runner_name.clone(), ..runner() };
        fake.put_runner(&access().scope, runner);
    }
    fake.put(&other);
    id
}

/// One whose job runs and who says so; it must outlive everything.
fn companion() -> InstanceId {
    InstanceId::new("i-a0")
}

fn put_companion(fake: &Fake) {
    put_another(fake, 0, true);
    works(fake);
}

fn works(fake: &Fake) {
    let sign = VitalSign { beat_at: fake.now(), worker: Worker::Running };
    fake.state_mut().vital_signs.insert(companion(), sign);
}

fn beats(fake: &Fake, worker: Worker) {
    let sign = VitalSign { beat_at: fake.now(), worker };
    fake.state_mut().vital_signs.insert(id(), sign);
}

fn change_runner(fake: &Fake, change: impl FnOnce(&mut Runner)) {
    change(&mut fake.state_mut().runners[0].1);
}

/// An event that our webhook did not answer, in GitHub's log.
fn failed_delivery(fake: &Fake, number: u64, action: &str) {
    let payload = serde_json::json!({
        "action": action,
        "workflow_job": {
            "id": 1, "run_id": 2, "labels": ["self-hosted", "linux"], "runner_id": 7, "runner_name": "runner-i-1",
        },
        "repository": {"full_name": "octo/hello", "owner": {"login": "octo", "type": "Organization"}},
    });
    let delivery = Delivery {
        id: number,
        guid: DeliveryGuid::new(format!("guid-{number}")),
        delivered_at: fake.now(),
        event: "workflow_job".into(),
        action: Some(action.into()),
        installation_id: None,
    };
    fake.state_mut().deliveries.push((delivery, payload.to_string()));
}

fn intends_to_deregister(fake: &Fake) {
    let now = fake.now();
    edit(fake, &id(), |record| {
        record.drain_requested_at = Some(now);
        record.deregister_intent = Some(RemovalIntent { at: now, ground: DeregistrationGround::Idle });
    });
}

fn never_registered(fake: &Fake, with_intent: bool) {
    put_instance(fake, &id());
    let mut record = record(fake);
    record.runner_id = None;
    record.handed_over_at = None;
    record.jit_intent_at = record.jit_intent_at.filter(|_| with_intent);
    fake.put(&record);
}

/// What GitHub or the ledger says to make the sweeper or scale-down begin.
fn roads_of_runners() -> Vec<Road> {
    use Ground::{IdleAfterDeregistration, JobCompleted as Completed, NeverConnected, RegistrationGone};
    vec![
        Road::new("row 20: idle, its supervisor dead", IdleAfterDeregistration, idle_runner),
        Road::new("row 12: its job completed and it runs on", Completed, |fake| {
            idle_runner(fake);
            edit(fake, &id(), |record| {
                record.note_started(started());
                record.note_completed(JobCompleted { job_id: JobId(1), at: fake.now() }, RunnerId(7));
            });
        }),
        Road::new("row 9: the completed event was lost, and the jobs API tells", Completed, |fake| {
            idle_runner(fake);
            job_starts(fake);
            jobs_api_says(fake, 1, JobState::Completed, Some(7));
        }),
        Road::new("row 7: the same, and GitHub holds the runner of the lost machine busy", Completed, |fake| {
            idle_runner(fake);
            job_starts(fake);
            jobs_api_says(fake, 1, JobState::Completed, Some(7));
            change_runner(fake, |runner| (runner.busy, runner.online) = (true, false));
        })
        .beside(|fake| {
            let ended = !fake.state().terminated.is_empty();
            // GitHub gives up on the machine some time after it is gone.
            if ended {
                fake.state_mut().runners.clear();
            }
        }),
        Road::new("row 10: its job was queued again", IdleAfterDeregistration, |fake| {
            idle_runner(fake);
            job_starts(fake);
            jobs_api_says(fake, 1, JobState::Queued, None);
        }),
        Road::new("row 10: its job runs on another runner", IdleAfterDeregistration, |fake| {
            idle_runner(fake);
            job_starts(fake);
            jobs_api_says(fake, 1, JobState::InProgress, Some(8));
        }),
        Road::new("row 18: registered and never connected", NeverConnected, |fake| {
            idle_runner(fake);
            change_runner(fake, |runner| (runner.online, runner.version) = (false, Some(None)));
        }),
        Road::new("row 19: offline", IdleAfterDeregistration, |fake| {
            idle_runner(fake);
            change_runner(fake, |runner| runner.online = false);
        }),
        Road::new("row 16: its registration went without us", RegistrationGone, |fake| {
            idle_runner(fake);
            fake.state_mut().runners.clear();
        }),
        Road::new("row 16: the same, and another owner's delivery can never be read", RegistrationGone, |fake| {
            idle_runner(fake);
            failed_delivery(fake, 9, "in_progress");
            let mut state = fake.state_mut();
            state.runners.clear();
            state.payloads_gone.insert(9);
            state.installations.insert(InstallationId(8), "other".to_owned());
            for (delivery, _) in &mut state.deliveries {
                delivery.installation_id = Some(InstallationId(8));
            }
        }),
        Road::new("row 17: busy was seen, and log and jobs API know of both events", Completed, |fake| {
            idle_runner(fake);
            edit(fake, &id(), |record| record.busy_seen_at = Some(fake.now()));
            failed_delivery(fake, 1, "in_progress");
            failed_delivery(fake, 2, "completed");
            jobs_api_says(fake, 1, JobState::Completed, Some(7));
        }),
        Road::new("row 9: the completed event waits in the log, and the jobs API knows nothing", Completed, |fake| {
            idle_runner(fake);
            job_starts(fake);
            failed_delivery(fake, 1, "completed");
        }),
        Road::new("row 17: the same, and the started event as well", Completed, |fake| {
            idle_runner(fake);
            edit(fake, &id(), |record| record.busy_seen_at = Some(fake.now()));
            failed_delivery(fake, 1, "in_progress");
            failed_delivery(fake, 2, "completed");
        }),
        Road::new("a DELETE was begun and never happened", IdleAfterDeregistration, |fake| {
            aged(fake, 10 * MINUTE, idle_runner);
            intends_to_deregister(fake);
        }),
        Road::new("a DELETE was begun, took effect and was not answered", RegistrationGone, |fake| {
            aged(fake, 10 * MINUTE, idle_runner);
            intends_to_deregister(fake);
            fake.state_mut().runners.clear();
        }),
        Road::new("deregistered, and the pass that should end it never came", IdleAfterDeregistration, |fake| {
            aged(fake, 10 * MINUTE, idle_runner);
            intends_to_deregister(fake);
            fake.state_mut().runners.clear();
            edit(fake, &id(), |record| {
                record.deregistered_at = Some(fake.now());
                record.deregistration = Some(DeregistrationOutcome::Confirmed);
            });
        }),
    ]
}

/// What EC2 or SSM shows, or shows no more.
fn roads_of_instances() -> Vec<Road> {
    use Ground::{HardAge, IdleAfterDeregistration, NeverConnected, RegistrationGone, Stopped};
    vec![
        Road::new("row 23: launched and never registered", NeverConnected, |fake| never_registered(fake, false)),
        Road::new("row 22: registered, and its id was never written down", IdleAfterDeregistration, |fake| {
            never_registered(fake, true);
            fake.put_runner(&access().scope, runner());
        }),
        Road::new("row 22: a configuration may exist, and no registration does", RegistrationGone, |fake| {
            never_registered(fake, true);
        }),
        Road::new("row 25: stopped", Stopped, |fake| {
            idle_runner(fake);
            fake.set_instance_state(&id(), InstanceState::Stopped);
        }),
        Road::new("row 25: stopped, and woken once its registration was gone", RegistrationGone, |fake| {
            idle_runner(fake);
            fake.set_instance_state(&id(), InstanceState::Stopped);
        })
        .beside(|fake| {
            let alone = fake.state().runners.is_empty() && fake.state().terminated.is_empty();
            if alone {
                fake.set_instance_state(&id(), InstanceState::Running);
            }
        }),
        Road::new("row 4: ended by a spot interruption", None, |fake| {
            idle_runner(fake);
            change_runner(fake, |runner| runner.online = false);
            fake.set_instance_state(&id(), InstanceState::Terminated);
        }),
        Road::new("row 4: EC2 lists it no more", None, |fake| {
            aged(fake, 2 * HOUR, idle_runner);
            change_runner(fake, |runner| runner.online = false);
            fake.state_mut().instances.clear();
        }),
        Road::new("row 2: a job that never ends", HardAge, |fake| {
            idle_runner(fake);
            job_starts(fake);
            change_runner(fake, |runner| runner.online = false);
            fake.pass(5 * DAY + 3 * HOUR);
        }),
        Road::new("row 24: no record, so that only the hard age ends it", HardAge, |fake| {
            put_instance(fake, &id());
            let template = ("aws:ec2launchtemplate:id".to_owned(), "lt-1".to_owned());
            fake.retag(&id(), |tags| tags.extend([template]));
            fake.put_runner(&access().scope, runner());
        })
        .by(DAY),
        Road::new("row 26: protected from termination, and some time later not", IdleAfterDeregistration, |fake| {
            idle_runner(fake);
            fake.state_mut().protected.insert(id());
        })
        .beside(|fake| {
            if fake.get::<InstanceRecord>("i-1").is_some_and(|record| record.protected_at.is_some()) {
                fake.state_mut().protected.clear();
            }
        })
        .by(30 * MINUTE),
        Road::new("drained, and it ends itself", None, |fake| {
            idle_runner(fake);
            beats(fake, Worker::None);
        })
        .beside(|fake| {
            let asked = fake.state().instances[&id()].tags.contains_key("ghr:drain");
            if asked {
                fake.set_instance_state(&id(), InstanceState::Terminated);
                fake.state_mut().runners.retain(|(_, runner)| runner.id != RunnerId(7));
            } else {
                beats(fake, Worker::None);
            }
        }),
        Road::new("a registration left after its record was closed", None, |fake| {
            put_companion(fake);
            let mut closed = record(fake);
            closed.gone_at = Some(fake.now());
            closed.cleaned_at = Some(fake.now());
            fake.put(&closed);
            fake.put_runner(&access().scope, Runner { online: false, ..runner() });
        })
        .beside(works),
        Road::new("a configuration left of an instance that nobody knows", None, |_| {}),
        Road::new("the registrations of most instances gone, for good", RegistrationGone, |fake| {
            // Two sweeps have found them absent before the list of the others went as well.
            for number in 1..=6 {
                let id = put_another(fake, number, false);
                edit(fake, &id, |record| {
                    record.absent = Some(Spell { since: fake.now(), last: fake.now(), sweeps: 2 });
                });
            }
        })
        .by(16 * MINUTE),
    ]
}

/// Nothing is left but the companion, and nothing was launched.
fn is_over(fake: &Fake) -> bool {
    let state = fake.state();
    let records = fake.all::<InstanceRecord>();
    state.instances.values().all(|i| i.state == InstanceState::Terminated || i.id == companion())
        && state.runners.iter().all(|(_, runner)| runner.name.as_str() == "runner-i-a0")
        && state.parameters.is_empty()
        && records.iter().all(|record| record.cleaned_at.is_some() || record.instance_id == companion())
}

/// Both functions once, each in a process of its own.
fn both(fake: &Fake) {
    if scale_down(fake, &policy()).is_none() {
        fake.heal();
    }
    if sweep(fake, &policy()).is_none() {
        fake.heal();
    }
}

/// Plays a road to its end, or to the time by which it should have come. Returns how long that took.
fn play(fake: &Fake, road: &Road, faulty_call: usize) -> Option<Duration> {
    (road.make)(fake);
    with_parameter(fake, &id());
    let begun = fake.now();
    let mut after = 0;
    for _ in 0..STEPS_MAX {
        let met = fake.calls() >= faulty_call && after < RECOVERY;
        after += usize::from(met);
        fake.pass(if met { MINUTE.min(road.step) } else { road.step });
        (road.world)(fake);
        both(fake);
        let ended: Vec<InstanceId> = fake.state().terminated.iter().map(|(id, _)| id.clone()).collect();
        for id in ended {
            fake.set_instance_state(&id, InstanceState::Terminated);
        }
        if is_over(fake) {
            return Some(fake.now().since(begun));
        }
    }
    None
}

/// Plays each road with every fault at every call; returns how many plays that was.
fn at_every_call_of(roads: &[Road]) -> usize {
    let mut all = 0;
    for road in roads {
        let Road { case, ground, .. } = road;
        let undisturbed = Fake::new();
        let took =
            play(&undisturbed, road, usize::MAX).unwrap_or_else(|| panic!("{case}: no end, {}", left(&undisturbed)));
        assert!(
            grounds(&undisturbed).iter().all(|ended| Some(*ended) == *ground),
            "{case}: {:?}",
            grounds(&undisturbed)
        );
        assert_eq!(grounds(&undisturbed).is_empty(), ground.is_none(), "{case}");
        // One fault costs at most the time after which an absence that we cannot explain is believed.
        let bound = took + (100 * MINUTE).max(3 * road.step);
        let played = at_every_call(|fake, fault| {
            let took = play(fake, road, fault.0).unwrap_or_else(|| panic!("{case}, {fault:?}: no end, {}", left(fake)));
            assert!(took <= bound, "{case}, {fault:?}: over after {took:?}, undisturbed before {bound:?}");
            for ended in grounds(fake) {
                // A DELETE whose answer was lost may leave an absence that is not known to be our doing.
                let as_meant = Some(ended) == *ground || (ground.is_some() && ended == Ground::RegistrationGone);
                assert!(as_meant, "{case}, {fault:?}: ended on {ended:?}");
            }
            assert!((road.holds)(fake), "{case}, {fault:?}: something was lost");
            let launched = fake.calls_of("Compute::create_fleet") + fake.calls_of("Registry::generate_jit_config");
            assert_eq!(launched, 0, "{case}, {fault:?}");
            assert!(fake.state().terminated.iter().all(|(ended, _)| *ended != companion()), "{case}, {fault:?}");
        });
        assert!(played >= 30, "{case}: {played} plays");
        all += played;
    }
    all
}

/// A fleet that is scaled to zero has no instance by which its scope would be known.
#[test]
fn a_registration_left_in_a_scope_without_instances_is_taken_away() {
    at_every_call_of(&[Road::new("nobody else in the scope", None, |fake| {
        // The sweeper saw the instance while it lived.
        let mut cursor = PassCursor::new("orphan-sweeper");
        cursor.note_accesses([access()], fake.now());
        fake.put(&cursor);
        let mut closed = record(fake);
        closed.gone_at = Some(fake.now());
        closed.cleaned_at = Some(fake.now());
        fake.put(&closed);
        fake.put_runner(&access().scope, Runner { online: false, ..runner() });
    })]);
}

fn left(fake: &Fake) -> String {
    let state = fake.state();
    format!(
        "left: {:?}, {} runners, {} parameters, {:?}",
        state.instances.values().map(|instance| (&instance.id, instance.state)).collect::<Vec<_>>(),
        state.runners.len(),
        state.parameters.len(),
        fake.all::<InstanceRecord>(),
    )
}

#[test]
fn what_a_runner_leaves_comes_to_the_same_end_whatever_call_the_functions_die_at() {
    let played = at_every_call_of(&roads_of_runners());
    assert!(played >= 10_000, "{played} plays");
}

#[test]
fn what_an_instance_leaves_comes_to_the_same_end_whatever_call_the_functions_die_at() {
    let played = at_every_call_of(&roads_of_instances());
    assert!(played >= 10_000, "{played} plays");
}

/// Every method of every port, read from the ports' own text: a port's call is the trait's name and the method's.
fn port_calls() -> BTreeSet<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/ports");
    let mut calls = BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("text");
        let mut port = None;
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("pub trait ") {
                port = rest.split([':', ' ', '{', '<']).next();
            } else if line == "}" {
                port = None;
            }
            // What is not awaited is no call: nothing can die in it.
            let method = line.strip_prefix("    async fn ").and_then(|rest| rest.split(['(', '<']).next());
            calls.extend(port.zip(method).map(|(port, method)| format!("{port}::{method}")));
        }
    }
    calls
}

/// What removal never does, so that no road can show what happens when it is killed there.
const NOT_REMOVALS: [(&str, &str); 11] = [
    ("Queue::send", "the demand-reconciler sends jobs"),
    ("JobSearch::installations", "and looks for them"),
    ("JobSearch::repositories_of", "in every repository"),
    ("JobSearch::open_runs", "and every run"),
    ("JobSearch::jobs_of_run", "and its jobs"),
    ("JobSearch::budget", "within its budget"),
    ("Redelivery::redeliver", "and asks for what was not delivered"),
    ("ComputeRead::instances_of_launch", "scale-up adopts what it launched"),
    ("Compute::create_fleet", "nothing is launched where something is removed"),
    ("Registry::generate_jit_config", "nothing is registered either"),
    ("Parameters::put_jit_config", "nor handed over"),
];

#[test]
fn every_call_that_a_port_offers_is_made_on_some_road_or_is_none_of_removals() {
    let fakes: Vec<Fake> = roads_of_runners()
        .iter()
        .chain(&roads_of_instances())
        .map(|road| {
            let fake = Fake::new();
            play(&fake, road, usize::MAX);
            fake
        })
        .collect();
    let calls = port_calls();
    assert!(calls.len() >= 24, "{calls:?}");
    for (call, reason) in NOT_REMOVALS {
        assert!(calls.contains(call), "{call} ({reason}) is no call of a port");
    }
    for call in calls {
        let made = fakes.iter().any(|fake| fake.calls_of(&call) > 0);
        match NOT_REMOVALS.iter().find(|(other, _)| *other == call) {
            Some((_, reason)) => assert!(!made, "{call} is made on some road, although {reason}"),
            None => assert!(made, "{call} is on no road"),
        }
    }
}

/// A case, and a job that runs while everything that can lie says that none does.
type Life = (&'static str, fn(&Fake));

fn lives_in_the_ledger() -> Vec<Life> {
    vec![
        ("started, and GitHub shows it idle", |fake| {
            idle_runner(fake);
            job_starts(fake);
            jobs_api_says(fake, 1, JobState::InProgress, Some(7));
        }),
        ("started, offline, and the jobs API does not answer", |fake| {
            idle_runner(fake);
            job_starts(fake);
            change_runner(fake, |runner| runner.online = false);
        }),
        ("started, and its registration is neither listed nor found by id", |fake| {
            idle_runner(fake);
            job_starts(fake);
            jobs_api_says(fake, 1, JobState::InProgress, Some(7));
            fake.state_mut().runners.clear();
        }),
        ("started by name only", |fake| {
            idle_runner(fake);
            edit(fake, &id(), |record| {
                record.note_started(JobStarted { runner_id: None, ..started() });
            });
        }),
        ("started by name only, and the registration is gone", |fake| {
            idle_runner(fake);
            edit(fake, &id(), |record| {
                record.note_started(JobStarted { runner_id: None, ..started() });
            });
            fake.state_mut().runners.clear();
        }),
        ("no event, and the instance said that a worker runs before it fell silent", |fake| {
            idle_runner(fake);
            beats(fake, Worker::Running);
        }),
        ("the same, and the registration is gone", |fake| {
            idle_runner(fake);
            beats(fake, Worker::Running);
            fake.state_mut().runners.clear();
        }),
        ("the same, never connected by GitHub's word", |fake| {
            idle_runner(fake);
            beats(fake, Worker::Acquiring);
            change_runner(fake, |runner| (runner.online, runner.version) = (false, Some(None)));
        }),
        ("busy was seen once and never again", |fake| {
            idle_runner(fake);
            edit(fake, &id(), |record| record.busy_seen_at = Some(fake.now()));
        }),
        ("busy was seen once, and the registration is gone", |fake| {
            idle_runner(fake);
            edit(fake, &id(), |record| record.busy_seen_at = Some(fake.now()));
            fake.state_mut().runners.clear();
        }),
        ("row 15: it surfaced after we had deregistered", |fake| {
            aged(fake, 10 * MINUTE, idle_runner);
            intends_to_deregister(fake);
            fake.state_mut().runners.clear();
            edit(fake, &id(), |record| {
                record.deregistered_at = Some(fake.now());
                record.deregistration = Some(DeregistrationOutcome::Confirmed);
                record.note_started(started());
            });
        }),
        ("it surfaced after a DELETE without answer that took effect", |fake| {
            aged(fake, 10 * MINUTE, idle_runner);
            intends_to_deregister(fake);
            fake.state_mut().runners.clear();
            job_starts(fake);
        }),
        ("it surfaced after the intent to end it was stored, and nobody did", |fake| {
            aged(fake, 20 * MINUTE, idle_runner);
            job_starts(fake);
            edit(fake, &id(), |record| {
                let ground = Ground::IdleAfterDeregistration;
                record.terminate_intent = Some(RemovalIntent { at: fake.now(), ground });
            });
        }),
        ("an old completion was sent again", |fake| {
            idle_runner(fake);
            job_starts(fake);
            edit(fake, &id(), |record| {
                record.note_completed(JobCompleted { job_id: JobId(9), at: fake.now() }, RunnerId(7));
            });
        }),
        ("EC2's listing leaves it out", |fake| {
            aged(fake, 2 * HOUR, idle_runner);
            job_starts(fake);
            change_runner(fake, |runner| runner.online = false);
            fake.state_mut().instances.clear();
        }),
        ("the list of runners leaves out most, and their jobs run", |fake| {
            (1..=6).for_each(|number| {
                let id = put_another(fake, number, false);
                edit(fake, &id, |record| {
                    record.note_started(JobStarted { runner_id: record.runner_id, ..started() });
                });
            });
        }),
    ]
}

/// The same, known to GitHub's log or jobs API alone.
fn lives_at_github() -> Vec<Life> {
    vec![
        ("the start lies in GitHub's log of failed deliveries", |fake| {
            idle_runner(fake);
            failed_delivery(fake, 1, "in_progress");
        }),
        ("the same, and the registration is gone", |fake| {
            idle_runner(fake);
            failed_delivery(fake, 1, "in_progress");
            fake.state_mut().runners.clear();
        }),
        ("only the jobs API knows, of a job that the ledger has as queued", |fake| {
            idle_runner(fake);
            fake.put(&waiting_job(fake.now().minus(HOUR)));
            jobs_api_says(fake, 1, JobState::InProgress, Some(7));
        }),
        ("only the scan of the jobs in progress shows it, and the registration is gone", |fake| {
            idle_runner(fake);
            jobs_api_says(fake, 1, JobState::InProgress, Some(7));
            fake.state_mut().runners.clear();
        }),
        ("row 15: the log alone knows of it, after we had deregistered", |fake| {
            aged(fake, 10 * MINUTE, idle_runner);
            intends_to_deregister(fake);
            fake.state_mut().runners.clear();
            edit(fake, &id(), |record| {
                record.deregistered_at = Some(fake.now());
                record.deregistration = Some(DeregistrationOutcome::Confirmed);
            });
            failed_delivery(fake, 1, "in_progress");
        }),
    ]
}

fn two_hours(fake: &Fake) {
    for _ in 0..5 {
        fake.pass(25 * MINUTE);
        both(fake);
    }
}

#[test]
fn no_fault_at_any_call_ends_a_job_that_only_one_witness_knows() {
    let mut all = 0;
    for (case, make) in lives_in_the_ledger().into_iter().chain(lives_at_github()) {
        all += at_every_call(|fake, fault| {
            make(fake);
            two_hours(fake);
            let state = fake.state();
            assert!(state.terminated.is_empty(), "{case}, {fault:?}: ended {:?}", state.terminated);
            for call in ["Registry::deregister", "Compute::terminate"] {
                assert_eq!(fake.calls_of(call), 0, "{case}, {fault:?}: {call}");
            }
        });
    }
    assert!(all >= 10_000, "{all} plays");
}

/// The counterpart: with the same steps and no witness they are ended, so that it is the witness that keeps them.
#[test]
fn without_a_witness_the_same_instances_are_ended() {
    let cases: [Life; 4] = [
        ("idle by GitHub's word", idle_runner),
        ("registration gone", |fake| {
            idle_runner(fake);
            fake.state_mut().runners.clear();
        }),
        ("never connected", |fake| {
            idle_runner(fake);
            change_runner(fake, |runner| (runner.online, runner.version) = (false, Some(None)));
        }),
        ("offline", |fake| {
            idle_runner(fake);
            change_runner(fake, |runner| runner.online = false);
        }),
    ];
    for (case, make) in cases {
        let fake = Fake::new();
        make(&fake);
        two_hours(&fake);
        assert_eq!(fake.state().terminated.len(), 1, "{case}");
    }
}
