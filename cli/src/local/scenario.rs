//! The play: what happens in the world, and when. A table of scenes and the director who acts on them.
//!
//! The director talks to the world only (GitHub's jobs, flaws of instances, the adversary's traps). It never touches
//! the functions, their queue or their tables: whatever they do follows from deliveries and schedules.

use std::collections::BTreeMap;

use runner_scaler_world::github::{Forgery, JobSpec, OwnerKind, PayloadError};
use runner_scaler_world::trap::{CallPattern, Phase, Trap, TrapAction};
use runner_scaler_world::truth::Fact;
use runner_scaler_world::world::{Flaw, FlawPlan};
use runner_scaler_world::{Millis, World};
use serde_json::Value;

use crate::local::document::{DEPLOYMENT, FleetSpec};

const QUEUED: &[u8] = include_bytes!("../../payloads/queued.payload.json");
const QUEUED_WITH_DEPLOYMENT: &[u8] = include_bytes!("../../payloads/queued.with-deployment.payload.json");

const OWNER: &str = "octo-org";
const REPOSITORY: &str = "octo-repo";

/// Longer than quarantine and one more pass: a terminate without a re-check hits the job while it runs.
const RACED_JOB_MS: Millis = 14_000;

/// One scene of the play.
#[derive(Debug, Clone, Copy)]
struct Scene {
    /// When it begins, in milliseconds after the play did.
    at_ms: Millis,
    /// The fleet it plays on; also the name of the scene.
    fleet: &'static str,
    /// What it is about, for the person who watches.
    story: &'static str,
    /// What happens.
    act: Act,
}

#[derive(Debug, Clone, Copy)]
enum Act {
    /// The job of a real delivery is queued; the delivery carries its very bytes.
    Payload(&'static [u8]),
    /// A job is queued and, once its instance is launched, cancelled: the runner is surplus.
    Surplus(Flaw),
    /// The same with a dead supervisor, and the job that another run queues is given to the runner at the moment in
    /// which scale-down deregisters it.
    Race {
        /// Whether GitHub refuses the DELETE (422), or does not know of the job yet and obeys it (204).
        github_knows: bool,
    },
    /// A job whose first instance never registers.
    NeverRegisters,
    /// This fleet's share of the burst.
    Burst(Share),
    /// A delivery of the burst comes once more.
    Duplicate,
    /// A delivery signed with another secret.
    Forgery,
    /// Somebody else's instance that bears our tags.
    LookAlike,
}

#[derive(Debug, Clone, Copy)]
enum Share {
    Larger,
    Smaller,
}

const SCENES: [Scene; 13] = [
    Scene {
        at_ms: 0,
        fleet: "ubuntu",
        story: "a real delivery: queued, an organisation's repository",
        act: Act::Payload(QUEUED),
    },
    Scene {
        at_ms: 200,
        fleet: "k8s",
        story: "a real delivery: queued after a deployment's approval, a user's repository",
        act: Act::Payload(QUEUED_WITH_DEPLOYMENT),
    },
    Scene {
        at_ms: 400,
        fleet: "drained",
        story: "the job is cancelled, its idle runner will be asked to leave",
        act: Act::Surplus(Flaw::None),
    },
    Scene {
        at_ms: 600,
        fleet: "silent",
        story: "the same with a dead supervisor: only the control plane can end it",
        act: Act::Surplus(Flaw::SupervisorDead),
    },
    Scene {
        at_ms: 800,
        fleet: "raced-known",
        story: "a job is assigned between check and terminate; GitHub knows and refuses the DELETE",
        act: Act::Race { github_knows: true },
    },
    Scene {
        at_ms: 1_000,
        fleet: "raced-unknown",
        story: "a job is assigned between check and terminate; GitHub obeys the DELETE and does not know",
        act: Act::Race { github_knows: false },
    },
    Scene {
        at_ms: 1_200,
        fleet: "unregistered",
        story: "an instance that never registers; a replacement serves its job",
        act: Act::NeverRegisters,
    },
    Scene { at_ms: 1_400, fleet: "linux", story: "somebody else's instance bears our tags", act: Act::LookAlike },
    Scene { at_ms: 2_000, fleet: "linux", story: "half of the burst", act: Act::Burst(Share::Larger) },
    Scene { at_ms: 2_000, fleet: "arm", story: "half of the burst", act: Act::Burst(Share::Smaller) },
    Scene { at_ms: 3_000, fleet: "linux", story: "a delivery comes twice", act: Act::Duplicate },
    Scene { at_ms: 3_200, fleet: "linux", story: "a delivery with a bad signature", act: Act::Forgery },
    Scene { at_ms: 9_000, fleet: "arm", story: "a delivery comes again after its job was served", act: Act::Duplicate },
];

/// The fleets of the play. A fleet serves its own scene only, by a label of its own, so that no job wanders.
pub(crate) fn fleets(jobs: u32) -> Vec<FleetSpec> {
    let fleet = |name, labels, runner_count_max| FleetSpec { name, labels, market: "spot", runner_count_max };
    vec![
        fleet("linux", &["self-hosted", "linux", "x64"], jobs),
        FleetSpec { market: "on-demand", ..fleet("arm", &["self-hosted", "linux", "arm64"], jobs) },
        fleet("ubuntu", &["ubuntu-latest"], 2),
        fleet("k8s", &["self-hosted", "k8s"], 2),
        fleet("drained", &["self-hosted", "drained"], 2),
        fleet("silent", &["self-hosted", "silent"], 2),
        fleet("raced-known", &["self-hosted", "raced-known"], 2),
        fleet("raced-unknown", &["self-hosted", "raced-unknown"], 2),
        fleet("unregistered", &["self-hosted", "unregistered"], 2),
    ]
}

/// Plays the scenes.
#[derive(Debug)]
pub(crate) struct Director {
    fleets: Vec<FleetSpec>,
    jobs: u32,
    next_scene: usize,
    /// What to do when the first instance of a fleet is launched.
    watched: BTreeMap<&'static str, Twist>,
    /// The first job of a fleet's burst, to be delivered again.
    first_of_burst: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Clone, Copy)]
struct Twist {
    cancel: u64,
    race: Option<Race>,
}

#[derive(Debug, Clone, Copy)]
struct Race {
    job: u64,
    github_knows: bool,
}

impl Director {
    /// A director for a burst of `jobs` on these fleets.
    pub(crate) fn new(fleets: Vec<FleetSpec>, jobs: u32) -> Self {
        Self { fleets, jobs, next_scene: 0, watched: BTreeMap::new(), first_of_burst: BTreeMap::new() }
    }

    /// Whether every scene has begun and every twist has come.
    pub(crate) fn is_over(&self) -> bool {
        self.next_scene >= SCENES.len() && self.watched.is_empty()
    }

    /// Begins the scenes that are due; a line for each.
    pub(crate) fn play(&mut self, world: &mut World, elapsed_ms: Millis) -> Result<Vec<String>, PayloadError> {
        let mut lines = Vec::new();
        while let Some(scene) = SCENES.get(self.next_scene).filter(|scene| scene.at_ms <= elapsed_ms) {
            self.next_scene += 1;
            lines.push(format!("{}: {}", scene.fleet, scene.story));
            self.begin(world, scene)?;
        }
        Ok(lines)
    }

    /// Lets the twist of a fleet come when its instance is launched; a line if there was one.
    pub(crate) fn react(&mut self, world: &mut World, fact: &Fact) -> Option<String> {
        let Fact::InstanceLaunched { instance_id, fleet: Some(fleet) } = fact else {
            return None;
        };
        let twist = self.watched.remove(fleet.as_str())?;
        let (github, mut cx) = world.github();
        github.cancel_queued_job(&mut cx, twist.cancel);
        if let Some(race) = twist.race {
            world.set_trap(Trap {
                on: CallPattern {
                    operation: Some("DeleteRunner".to_owned()),
                    runner_name: Some(instance_id.clone()),
                    ..CallPattern::default()
                },
                phase: Phase::BeforeEffect,
                action: TrapAction::AssignJob { job_id: race.job, github_knows: race.github_knows },
            });
        }
        Some(format!("{fleet}: job {} is cancelled, {instance_id} is surplus", twist.cancel))
    }

    fn begin(&mut self, world: &mut World, scene: &Scene) -> Result<(), PayloadError> {
        match scene.act {
            Act::Payload(bytes) => {
                let (github, mut cx) = world.github();
                github.add_job_from_payload(&mut cx, bytes, 3_000)?;
            }
            Act::Surplus(flaw) => {
                let cancel = self.surplus(world, scene.fleet, flaw)?;
                self.watched.insert(scene.fleet, Twist { cancel, race: None });
            }
            Act::Race { github_knows } => {
                let cancel = self.surplus(world, scene.fleet, Flaw::SupervisorDead)?;
                let spec = self.job(scene.fleet, "raced", RACED_JOB_MS);
                let (github, mut cx) = world.github();
                let job = github.add_held_job(&mut cx, spec)?;
                let race = Some(Race { job, github_knows });
                self.watched.insert(scene.fleet, Twist { cancel, race });
            }
            Act::NeverRegisters => {
                plan_flaw(world, scene.fleet, Flaw::NeverRegisters);
                self.queue(world, scene.fleet, "unlucky", 2_000)?;
            }
            Act::Burst(share) => self.burst(world, scene.fleet, share)?,
            Act::Duplicate => {
                if let Some(job) = self.first_of_burst.get(scene.fleet) {
                    let (github, mut cx) = world.github();
                    github.duplicate_delivery(&mut cx, *job, "queued");
                }
            }
            Act::Forgery => {
                let (github, mut cx) = world.github();
                github.forge_delivery(&mut cx, forged_body()?.into(), Forgery::BadSignature);
            }
            Act::LookAlike => {
                let tags = [("ghr:environment", DEPLOYMENT), ("ghr:fleet", scene.fleet), ("Name", "not yours")];
                world.launch_foreign(tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
            }
        }
        Ok(())
    }

    fn surplus(&self, world: &mut World, fleet: &'static str, flaw: Flaw) -> Result<u64, PayloadError> {
        plan_flaw(world, fleet, flaw);
        self.queue(world, fleet, "cancelled by its user", 2_000)
    }

    fn burst(&mut self, world: &mut World, fleet: &'static str, share: Share) -> Result<(), PayloadError> {
        let count = match share {
            Share::Larger => self.jobs.div_ceil(2),
            Share::Smaller => self.jobs / 2,
        };
        for number in 1..=count {
            // From 1.5 to 4.5 s, mixed, so that jobs neither start nor end in step.
            let duration_ms = 1_500 + Millis::from(number) * 700 % 3_000;
            let job = self.queue(world, fleet, &format!("burst {number}"), duration_ms)?;
            self.first_of_burst.entry(fleet).or_insert(job);
        }
        Ok(())
    }

    fn queue(&self, world: &mut World, fleet: &str, name: &str, duration_ms: Millis) -> Result<u64, PayloadError> {
        let spec = self.job(fleet, name, duration_ms);
        let (github, mut cx) = world.github();
        github.add_job(&mut cx, spec)
    }

    fn job(&self, fleet: &str, name: &str, duration_ms: Millis) -> JobSpec {
        let labels = self
            .fleets
            .iter()
            .find(|spec| spec.name == fleet)
            .map(|spec| spec.labels.iter().map(|label| (*label).to_owned()).collect())
            .unwrap_or_default();
        JobSpec {
            repository: format!("{OWNER}/{REPOSITORY}"),
            name: format!("{fleet} {name}"),
            labels,
            duration_ms,
            conclusion: "success".to_owned(),
        }
    }
}

/// Installs the App where the scenes' jobs come from.
pub(crate) fn install(world: &mut World) {
    let (github, _) = world.github();
    github.install(OWNER, OwnerKind::Organization, &[REPOSITORY]);
}

/// The body of a real delivery.
pub(crate) fn real_payload() -> &'static [u8] {
    QUEUED
}

/// The body of a real delivery with another job's id, which nobody may ever act on.
pub(crate) fn payload_with_job_id(job_id: u64) -> Result<Vec<u8>, serde_json::Error> {
    let mut payload: Value = serde_json::from_slice(QUEUED)?;
    if let Some(id) = payload.pointer_mut("/workflow_job/id") {
        *id = job_id.into();
    }
    serde_json::to_vec(&payload)
}

fn forged_body() -> Result<Vec<u8>, PayloadError> {
    Ok(payload_with_job_id(666_666_666)?)
}

fn plan_flaw(world: &mut World, fleet: &str, flaw: Flaw) {
    world.plan_flaw(FlawPlan { fleet: Some(fleet.to_owned()), skip: 0, flaw });
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_scaler_world::github::JobState;
    use runner_scaler_world::{Settings, Tape};

    fn world() -> World {
        let mut world = World::new(Settings::local(), Tape::from_seed(1), 1_800_000_000_000);
        install(&mut world);
        world
    }

    #[test]
    fn every_scene_has_its_fleet_and_begins_in_order() {
        let fleets = fleets(20);
        for scene in SCENES {
            assert!(fleets.iter().any(|fleet| fleet.name == scene.fleet), "{}", scene.fleet);
        }
        assert!(SCENES.is_sorted_by_key(|scene| scene.at_ms));
    }

    #[test]
    fn the_play_queues_the_jobs_it_announces() {
        let mut world = world();
        let mut director = Director::new(fleets(20), 20);
        assert_eq!(director.play(&mut world, 0).unwrap().len(), 1);
        assert_eq!(director.play(&mut world, 60_000).unwrap().len(), SCENES.len() - 1);
        let (github, _) = world.github();
        let held = github.jobs().filter(|job| job.state == JobState::Held).count();
        assert_eq!((github.jobs().count(), held), (2 + 2 + 2 * 2 + 1 + 20, 2));
        assert!(!director.is_over(), "no instance was launched yet");
    }

    #[test]
    fn a_surplus_runner_comes_from_a_job_cancelled_after_its_launch() {
        let mut world = world();
        let mut director = Director::new(fleets(20), 20);
        director.play(&mut world, 60_000).unwrap();
        for fleet in ["drained", "silent", "raced-known", "raced-unknown"] {
            let launched = Fact::InstanceLaunched { instance_id: format!("i-{fleet}"), fleet: Some(fleet.to_owned()) };
            assert!(director.react(&mut world, &launched).is_some(), "{fleet}");
            assert!(director.react(&mut world, &launched).is_none(), "{fleet} has one twist");
        }
        assert!(director.is_over());
        assert_eq!(world.traps.waiting().len(), 2);
        let (github, _) = world.github();
        let cancelled = github.jobs().filter(|job| matches!(job.state, JobState::Completed { .. })).count();
        assert_eq!(cancelled, 4);
    }
}
