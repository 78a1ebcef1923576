//! The director: begins the scenes that are due, and lets their twists come when the world is ready for them.

use std::collections::BTreeMap;

use runner_scaler_world::github::{Fate, Forgery, JobSpec, PayloadError};
use runner_scaler_world::misfortune::Misfortune;
use runner_scaler_world::trap::{CallPattern, Phase, Trap, TrapAction};
use runner_scaler_world::truth::Fact;
use runner_scaler_world::world::{Flaw, FlawPlan};
use runner_scaler_world::{Millis, World};

use super::scenes::{Act, LATE_MS, LIVE_ORPHAN_JOB_MS, Loss, PROTECTED_MS, Play, RACED_JOB_MS, Race, Scene, Share};
use super::verdict::{self, Played, SceneVerdict};
use super::{OWNER, REPOSITORY, payload_with_job_id};
use crate::local::document::{DEPLOYMENT, FleetSpec};

/// The job id of the forged delivery, which nobody may ever act on.
const FORGED_JOB: u64 = 666_666_666;

/// Plays the scenes.
#[derive(Debug)]
pub(crate) struct Director {
    fleets: Vec<FleetSpec>,
    play: Play,
    next_scene: usize,
    /// What was played so far, by the scene's name.
    played: BTreeMap<&'static str, Played>,
    /// What waits for its cue, in the order of each scene.
    twists: Vec<Twist>,
    /// What waited for a cue that cannot come any more: its instance has ended.
    missed: Vec<Twist>,
    /// What has had its cue and waits for its time: when, in milliseconds after the play began, what, and to whom.
    later: Vec<(Millis, Twist, String)>,
    /// How long the play lasts so far, in milliseconds.
    elapsed_ms: Millis,
}

/// Something that a scene has in store for the first instance of its fleet.
#[derive(Debug, Clone, Copy)]
struct Twist {
    scene: &'static str,
    cue: Cue,
    deed: Deed,
    /// How long it waits after its cue, in milliseconds.
    pause_ms: Millis,
}

/// What a twist waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cue {
    /// The instance is launched.
    Launched,
    /// Its listener is connected.
    Connected,
    /// A job started on it.
    Started,
    /// EC2 refused to end it.
    Refused,
}

#[derive(Debug, Clone, Copy)]
enum Deed {
    /// The job that it was launched for is cancelled.
    Cancel(u64),
    /// The job is given to its runner while a DELETE is on its way.
    Assign { job: u64, github_knows: bool },
    /// Something befalls it.
    Befall(Misfortune),
    /// Whoever protected it shuts it down from inside, which no protection prevents.
    PowerOff,
}

impl std::fmt::Display for Cue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Launched => "its instance to be launched",
            Self::Connected => "its listener to connect",
            Self::Started => "its job to start",
            Self::Refused => "EC2 to refuse to end its instance",
        })
    }
}

impl std::fmt::Display for Deed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cancel(job) => write!(f, "job {job} could be cancelled"),
            Self::Assign { job, .. } => write!(f, "job {job} could be assigned to it"),
            Self::Befall(misfortune) => write!(f, "it {misfortune}"),
            Self::PowerOff => f.write_str("it was shut down from inside"),
        }
    }
}

impl Director {
    /// A director for that play.
    pub(crate) fn new(play: Play) -> Self {
        Self {
            fleets: play.fleets(),
            play,
            next_scene: 0,
            played: BTreeMap::new(),
            twists: Vec::new(),
            missed: Vec::new(),
            later: Vec::new(),
            elapsed_ms: 0,
        }
    }

    /// Whether every scene has begun and every twist has come that still can.
    pub(crate) fn is_over(&self) -> bool {
        self.next_scene >= self.play.scenes().len() && self.twists.is_empty() && self.later.is_empty()
    }

    /// What the play waited for in vain, one line each.
    pub(crate) fn waiting(&self) -> Vec<String> {
        let later =
            self.play.scenes().iter().skip(self.next_scene).map(|scene| format!("{}: it did not begin", scene.name));
        let twists = self.twists.iter().map(|twist| format!("{}: waits for {}", twist.scene, twist.cue));
        let missed =
            self.missed.iter().map(|twist| format!("{}: its instance ended before {}", twist.scene, twist.deed));
        later.chain(twists).chain(missed).collect()
    }

    /// Whether what each scene announced has happened, by the world's truth; nothing where nothing was played.
    pub(crate) fn verdicts(&self, world: &World) -> Vec<SceneVerdict> {
        let began = self.play.scenes().iter().take(self.next_scene);
        began.map(|scene| verdict::judge(world, scene, self.played.get(scene.name))).collect()
    }

    /// Begins the scenes that are due and does what had to wait; a line for each.
    pub(crate) fn play(&mut self, world: &mut World, elapsed_ms: Millis) -> Result<Vec<String>, PayloadError> {
        let mut lines = Vec::new();
        while let Some(scene) = self.play.scenes().get(self.next_scene).filter(|scene| scene.at_ms <= elapsed_ms) {
            self.next_scene += 1;
            lines.push(format!("{}: {}", scene.name, scene.story));
            self.begin(world, scene)?;
        }
        self.elapsed_ms = elapsed_ms;
        for (_, twist, instance_id) in self.later.extract_if(.., |(at, ..)| *at <= elapsed_ms) {
            lines.push(format!("{}: {}", twist.scene, do_it(world, twist.deed, &instance_id)));
        }
        Ok(lines)
    }

    /// Lets the twists come whose cue this fact is; a line for each.
    pub(crate) fn react(&mut self, world: &mut World, fact: &Fact) -> Vec<String> {
        if let Fact::InstanceTerminated { instance_id, .. } = fact {
            let stars = &self.played;
            let is_over = |twist: &mut Twist| is_star(stars, twist, instance_id);
            self.missed.extend(self.twists.extract_if(.., is_over));
        }
        let Some((cue, instance_id)) = cue_of(fact) else { return Vec::new() };
        if let Fact::InstanceLaunched { fleet: Some(fleet), .. } = fact {
            self.cast(fleet, instance_id);
        }
        let mut lines = Vec::new();
        let stars = &self.played;
        let is_due = |twist: &Twist| twist.cue == cue && is_star(stars, twist, instance_id);
        while let Some(position) = self.twists.iter().position(is_due) {
            let twist = self.twists.remove(position);
            if twist.pause_ms > 0 {
                self.later.push((self.elapsed_ms + twist.pause_ms, twist, instance_id.to_owned()));
                continue;
            }
            lines.push(format!("{}: {}", twist.scene, do_it(world, twist.deed, instance_id)));
        }
        lines
    }

    /// The first instance of a fleet is the one that its scenes are about.
    fn cast(&mut self, fleet: &str, instance_id: &str) {
        for scene in self.play.scenes().iter().take(self.next_scene).filter(|scene| scene.fleet == fleet) {
            let played = self.played.entry(scene.name).or_default();
            played.instance_id.get_or_insert_with(|| instance_id.to_owned());
        }
    }

    fn begin(&mut self, world: &mut World, scene: &Scene) -> Result<(), PayloadError> {
        match scene.act {
            Act::Payload(bytes) => {
                let (github, mut cx) = world.github();
                let job = github.add_job_from_payload(&mut cx, bytes, 3_000)?;
                self.note_job(scene, job);
            }
            Act::Surplus => self.surplus(world, scene, Flaw::None)?,
            Act::Silent => self.surplus(world, scene, Flaw::SupervisorDead)?,
            Act::Race(race) => self.race(world, scene, race)?,
            Act::Mishap { misfortune, flaw } => {
                self.surplus(world, scene, flaw)?;
                self.twist(scene, Cue::Connected, Deed::Befall(misfortune));
            }
            Act::Protected => {
                self.surplus(world, scene, Flaw::SupervisorDead)?;
                self.twist(scene, Cue::Connected, Deed::Befall(Misfortune::Protected));
                self.twists.push(Twist {
                    scene: scene.name,
                    cue: Cue::Refused,
                    deed: Deed::PowerOff,
                    pause_ms: PROTECTED_MS,
                });
            }
            Act::LiveOrphan => {
                plan_flaw(world, scene.fleet, Flaw::SupervisorDead);
                let job = self.queue(world, scene, "long", LIVE_ORPHAN_JOB_MS)?;
                world.github.plan_delivery(job, "in_progress", Fate::Vanished);
                self.twist(scene, Cue::Started, Deed::Befall(Misfortune::Unlisted));
            }
            Act::NeverRegisters => {
                plan_flaw(world, scene.fleet, Flaw::NeverRegisters);
                self.queue(world, scene, "unlucky", 2_000)?;
            }
            Act::Untold(loss) => self.untold(world, scene, loss)?,
            Act::Burst(share) => self.burst(world, scene, share)?,
            Act::Duplicate => {
                let burst = self
                    .play
                    .scenes()
                    .iter()
                    .find(|other| other.fleet == scene.fleet && matches!(other.act, Act::Burst(_)));
                let first = burst.and_then(|burst| self.played.get(burst.name)?.jobs.first().copied());
                if let Some(job) = first {
                    let (github, mut cx) = world.github();
                    github.duplicate_delivery(&mut cx, job, "queued");
                    self.note_job(scene, job);
                }
            }
            Act::Forgery => {
                let (github, mut cx) = world.github();
                let body = payload_with_job_id(FORGED_JOB)?;
                github.forge_delivery(&mut cx, body.into(), Forgery::BadSignature);
                self.note_job(scene, FORGED_JOB);
            }
            Act::LookAlike => {
                let tags = [("ghr:environment", DEPLOYMENT), ("ghr:fleet", scene.fleet), ("Name", "not yours")];
                let tags = tags.map(|(key, value)| (key.to_owned(), value.to_owned()));
                let instance_id = world.launch_foreign(tags.into());
                self.played.entry(scene.name).or_default().instance_id = Some(instance_id);
            }
        }
        Ok(())
    }

    /// A job that is cancelled as soon as an instance was launched for it: the runner is nobody's.
    fn surplus(&mut self, world: &mut World, scene: &Scene, flaw: Flaw) -> Result<(), PayloadError> {
        plan_flaw(world, scene.fleet, flaw);
        let spec = self.job(scene.fleet, "cancelled by its user", 2_000);
        let (github, mut cx) = world.github();
        let job = github.add_job(&mut cx, spec)?;
        self.twist(scene, Cue::Launched, Deed::Cancel(job));
        Ok(())
    }

    fn race(&mut self, world: &mut World, scene: &Scene, race: Race) -> Result<(), PayloadError> {
        self.surplus(world, scene, Flaw::SupervisorDead)?;
        let spec = self.job(scene.fleet, "raced", RACED_JOB_MS);
        let (github, mut cx) = world.github();
        let job = github.add_held_job(&mut cx, spec)?;
        if race == Race::Late {
            github.plan_delivery(job, "queued", Fate::Vanished);
            github.plan_delivery(job, "in_progress", Fate::Late(LATE_MS));
        }
        self.note_job(scene, job);
        self.twist(scene, Cue::Launched, Deed::Assign { job, github_knows: race == Race::Known });
        Ok(())
    }

    /// A job of which no delivery tells; it is held until what becomes of its delivery is decided.
    fn untold(&mut self, world: &mut World, scene: &Scene, loss: Loss) -> Result<(), PayloadError> {
        let fate = match loss {
            Loss::Vanished => Fate::Vanished,
            Loss::Failed => Fate::Failed,
        };
        let spec = self.job(scene.fleet, "untold", 2_000);
        let (github, mut cx) = world.github();
        let job = github.add_held_job(&mut cx, spec)?;
        github.plan_delivery(job, "queued", fate);
        github.release_job(&mut cx, job);
        self.note_job(scene, job);
        Ok(())
    }

    fn burst(&mut self, world: &mut World, scene: &Scene, share: Share) -> Result<(), PayloadError> {
        let count = match share {
            Share::Larger => self.play.jobs().div_ceil(2),
            Share::Smaller => self.play.jobs() / 2,
        };
        for number in 1..=count {
            // From 1.5 to 4.5 s, mixed, so that jobs neither start nor end in step.
            let duration_ms = 1_500 + Millis::from(number) * 700 % 3_000;
            self.queue(world, scene, &format!("burst {number}"), duration_ms)?;
        }
        Ok(())
    }

    /// Queues a job that the scene is about.
    fn queue(
        &mut self,
        world: &mut World,
        scene: &Scene,
        name: &str,
        duration_ms: Millis,
    ) -> Result<u64, PayloadError> {
        let spec = self.job(scene.fleet, name, duration_ms);
        let (github, mut cx) = world.github();
        let job = github.add_job(&mut cx, spec)?;
        self.note_job(scene, job);
        Ok(job)
    }

    fn note_job(&mut self, scene: &Scene, job: u64) {
        self.played.entry(scene.name).or_default().jobs.push(job);
    }

    fn twist(&mut self, scene: &Scene, cue: Cue, deed: Deed) {
        self.twists.push(Twist { scene: scene.name, cue, deed, pause_ms: 0 });
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

/// Whether this is the instance that a twist is in store for.
fn is_star(played: &BTreeMap<&'static str, Played>, twist: &Twist, instance_id: &str) -> bool {
    played.get(twist.scene).and_then(|played| played.instance_id.as_deref()) == Some(instance_id)
}

/// What a fact is the cue for, and the instance it is about.
fn cue_of(fact: &Fact) -> Option<(Cue, &str)> {
    if let Fact::InstanceLaunched { instance_id, .. } = fact {
        Some((Cue::Launched, instance_id))
    } else if let Fact::RunnerConnected { instance_id: Some(id), .. } = fact {
        Some((Cue::Connected, id))
    } else if let Fact::JobStarted { instance_id: Some(id), .. } = fact {
        Some((Cue::Started, id))
    } else if let Fact::TerminationRefused { instance_id, .. } = fact {
        Some((Cue::Refused, instance_id))
    } else {
        None
    }
}

/// Does a deed; a line about it.
fn do_it(world: &mut World, deed: Deed, instance_id: &str) -> String {
    match deed {
        Deed::Cancel(job) => {
            let (github, mut cx) = world.github();
            github.cancel_queued_job(&mut cx, job);
            format!("job {job} is cancelled, {instance_id} is surplus")
        }
        Deed::Assign { job, github_knows } => {
            world.set_trap(Trap {
                on: CallPattern {
                    operation: Some("DeleteRunner".to_owned()),
                    runner_name: Some(instance_id.to_owned()),
                    ..CallPattern::default()
                },
                phase: Phase::BeforeEffect,
                action: TrapAction::AssignJob { job_id: job, github_knows },
            });
            format!("job {job} waits for the DELETE of {instance_id}")
        }
        Deed::Befall(misfortune) => {
            if world.befall(instance_id, misfortune) {
                format!("{instance_id} {misfortune}")
            } else {
                format!("it could not be that {instance_id} {misfortune}")
            }
        }
        Deed::PowerOff => {
            world.power_off(instance_id);
            format!("{instance_id} is shut down from inside by whoever protected it")
        }
    }
}

fn plan_flaw(world: &mut World, fleet: &str, flaw: Flaw) {
    world.plan_flaw(FlawPlan { fleet: Some(fleet.to_owned()), skip: 0, flaw });
}

#[cfg(test)]
mod tests {
    use super::super::scenes::{SCENES, fleets};
    use super::*;
    use crate::local::scenario::install;
    use runner_scaler_world::github::JobState;
    use runner_scaler_world::{Settings, Tape};

    fn world() -> World {
        let mut world = World::new(Settings::local(), Tape::from_seed(1), 1_800_000_000_000);
        install(&mut world);
        world
    }

    fn director() -> Director {
        Director::new(Play::Whole { jobs: 20 })
    }

    #[test]
    fn every_scene_has_its_fleet_and_a_name_of_its_own_and_begins_in_order() {
        let fleets = fleets(20);
        for (number, scene) in SCENES.iter().enumerate() {
            assert!(fleets.iter().any(|fleet| fleet.name == scene.fleet), "{}", scene.name);
            assert!(SCENES.iter().skip(number + 1).all(|other| other.name != scene.name), "{}", scene.name);
        }
        assert!(SCENES.is_sorted_by_key(|scene| scene.at_ms));
    }

    #[test]
    fn the_play_queues_the_jobs_it_announces() {
        let (mut world, mut director) = (world(), director());
        assert_eq!(director.play(&mut world, 0).unwrap().len(), 1);
        assert_eq!(director.play(&mut world, 60_000).unwrap().len(), SCENES.len() - 1);
        let (github, _) = world.github();
        let held = github.jobs().filter(|job| job.state == JobState::Held).count();
        // Real ones; a live orphan's and an unlucky one; a cancelled one for each surplus; a raced one each; two that
        // nobody is told of; the burst.
        assert_eq!((github.jobs().count(), held), (2 + 2 + 10 + 3 + 2 + 20, 3));
        assert!(!director.is_over(), "no instance was launched yet");
        let waiting = director.waiting();
        assert!(waiting.contains(&"drained: waits for its instance to be launched".to_owned()), "{waiting:?}");
    }

    #[test]
    fn a_burst_alone_queues_its_jobs_at_once_on_two_fleets_of_ten() {
        let (mut world, mut director) = (world(), Director::new(Play::Burst { jobs: 101 }));
        assert_eq!(director.play(&mut world, 0).unwrap().len(), 2);
        assert!(director.is_over());
        let (github, _) = world.github();
        assert_eq!(github.jobs().count(), 101);
        let fleets = Play::Burst { jobs: 101 }.fleets();
        assert_eq!(fleets.iter().map(|fleet| fleet.runner_count_max).collect::<Vec<_>>(), [10, 10]);
    }

    #[test]
    fn a_surplus_runner_comes_from_a_job_cancelled_after_its_launch() {
        let (mut world, mut director) = (world(), director());
        director.play(&mut world, 60_000).unwrap();
        let launched =
            |fleet: &str| Fact::InstanceLaunched { instance_id: format!("i-{fleet}"), fleet: Some(fleet.to_owned()) };
        for fleet in ["drained", "silent", "raced-known", "raced-unknown", "raced-late"] {
            assert!(!director.react(&mut world, &launched(fleet)).is_empty(), "{fleet}");
            assert!(director.react(&mut world, &launched(fleet)).is_empty(), "{fleet}: its second instance is spared");
        }
        assert_eq!(world.traps.waiting().len(), 3);
        let (github, _) = world.github();
        let cancelled = github.jobs().filter(|job| matches!(job.state, JobState::Completed { .. })).count();
        assert_eq!(cancelled, 5);
    }

    #[test]
    fn a_misfortune_waits_for_its_cue_on_the_first_instance_of_its_fleet() {
        let (mut world, mut director) = (world(), director());
        director.play(&mut world, 60_000).unwrap();
        let connected = |fleet: &str, id: &str| Fact::RunnerConnected {
            runner: format!("{fleet}-{id}"),
            instance_id: Some(id.to_owned()),
        };
        for id in ["i-1", "i-2"] {
            director.react(
                &mut world,
                &Fact::InstanceLaunched { instance_id: id.to_owned(), fleet: Some("orphan".to_owned()) },
            );
        }
        assert!(director.react(&mut world, &connected("orphan", "i-2")).is_empty(), "not the first");
        assert!(director.react(&mut world, &connected("drained", "i-3")).is_empty(), "no twist there");
        // The world knows no such instance: the line says so.
        let lines = director.react(&mut world, &connected("orphan", "i-1"));
        assert!(lines.concat().contains("it could not be that i-1"), "{lines:?}");
        assert!(director.react(&mut world, &connected("orphan", "i-1")).is_empty(), "once");
        let refused = Fact::TerminationRefused { instance_id: "i-1".to_owned(), caller: "scale-down".to_owned() };
        assert!(director.react(&mut world, &refused).is_empty(), "another scene's cue");
    }

    #[test]
    fn a_twist_whose_instance_has_ended_is_not_waited_for_and_is_named_as_missed() {
        let (mut world, mut director) = (world(), director());
        director.play(&mut world, 60_000).unwrap();
        for scene in &SCENES {
            let (instance_id, fleet) = (format!("i-{}", scene.fleet), Some(scene.fleet.to_owned()));
            director.react(&mut world, &Fact::InstanceLaunched { instance_id, fleet });
        }
        for scene in SCENES.iter().filter(|scene| scene.fleet != "offline") {
            let instance_id = format!("i-{}", scene.fleet);
            director.react(&mut world, &Fact::InstanceTerminated { instance_id });
        }
        assert!(!director.is_over(), "the runner of the scene offline may still connect");
        director.react(&mut world, &Fact::InstanceTerminated { instance_id: "i-offline".to_owned() });
        assert!(director.is_over());
        let waiting = director.waiting();
        let missed = |scene: &str| waiting.iter().any(|line| line.starts_with(&format!("{scene}: its instance ended")));
        assert!(["offline", "orphan", "protected", "live-orphan"].into_iter().all(missed), "{waiting:?}");
    }
}
