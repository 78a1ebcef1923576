//! Whether what a scene announced has happened, judged by the world's facts alone.
//!
//! The promises say what must never happen; a scene's verdict says that what should happen did, so that a run in which
//! nothing was put to the test is not taken for a good one.

use std::collections::BTreeSet;

use runner_scaler_world::ec2::Origin;
use runner_scaler_world::misfortune::Misfortune;
use runner_scaler_world::truth::{Ending, Fact};
use runner_scaler_world::{Millis, World};

use super::scenes::{Act, LATE_MS, Loss, Race, Scene};
use crate::local::document::{GONE_GRACE_SECONDS, QUARANTINE_SECONDS};

/// What became of a scene.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SceneVerdict {
    /// The scene's name.
    pub(crate) name: &'static str,
    /// Whether what it announced happened.
    pub(crate) held: bool,
    /// What happened, or what did not.
    pub(crate) detail: String,
}

/// Whom a scene is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Played {
    /// Its jobs.
    pub(super) jobs: Vec<u64>,
    /// Its instance, where it is about one.
    pub(super) instance_id: Option<String>,
}

/// Judges one scene.
pub(super) fn judge(world: &World, scene: &Scene, played: Option<&Played>) -> SceneVerdict {
    let outcome = played
        .ok_or_else(|| "nothing came of it".to_owned())
        .and_then(|played| Story { world, fleet: scene.fleet, played }.outcome(scene.act));
    let (held, detail) = outcome.map_or_else(|failure| (false, failure), |detail| (true, detail));
    SceneVerdict { name: scene.name, held, detail }
}

/// The facts about a scene's jobs and its instance.
struct Story<'a> {
    world: &'a World,
    fleet: &'static str,
    played: &'a Played,
}

/// What happened, or what did not.
type Outcome = Result<String, String>;

impl Story<'_> {
    fn outcome(&self, act: Act) -> Outcome {
        match act {
            Act::Payload(_) => self.all_completed(),
            Act::Burst(_) => self.burst(),
            Act::Surplus => self.drained(),
            Act::Silent => self.removed(),
            Act::Race(race) => self.raced(race),
            Act::Mishap { misfortune, .. } => self.mishap(misfortune),
            Act::Protected => self.protected(),
            Act::LiveOrphan => self.live_orphan(),
            Act::NeverRegisters => self.never_registered(),
            Act::Untold(loss) => self.untold(loss),
            Act::Duplicate => self.duplicate(),
            Act::Forgery => self.forgery(),
            Act::LookAlike => self.look_alike(),
        }
    }

    fn all_completed(&self) -> Outcome {
        let jobs = &self.played.jobs;
        for job in jobs {
            self.completed(*job)?;
        }
        Ok(format!("{} job(s) completed", jobs.len()))
    }

    /// Every job completed; with how many instances of its fleet at once (that the cap held is P4's).
    fn burst(&self) -> Outcome {
        let completed = self.all_completed()?;
        Ok(format!("{completed}, at most {} instances of fleet {} at once", self.most_at_once(), self.fleet))
    }

    fn most_at_once(&self) -> usize {
        let mut living = BTreeSet::new();
        let mut most = 0;
        for (_, fact) in self.world.truth.facts() {
            if let Fact::InstanceLaunched { instance_id, fleet: Some(fleet) } = fact {
                if fleet == self.fleet {
                    living.insert(instance_id.as_str());
                }
            } else if let Fact::InstanceTerminated { instance_id } | Fact::InstanceEnding { instance_id, .. } = fact {
                living.remove(instance_id.as_str());
            }
            most = most.max(living.len());
        }
        most
    }

    /// The instance was asked, and ended itself.
    fn drained(&self) -> Outcome {
        let id = self.instance()?;
        let asked = self.world.ec2.instance(id).is_some_and(|instance| instance.tags.contains_key("ghr:drain"));
        require(asked, || format!("{id} was not asked to drain"))?;
        let (_, ending) = self.ended()?;
        require(*ending == Ending::PowerOff, || format!("{id} {ending} instead of ending itself"))?;
        Ok(format!("{id} was asked to drain and powered itself off"))
    }

    /// The control plane deregistered the runner and ended the instance a quarantine later.
    fn removed(&self) -> Outcome {
        let id = self.instance()?;
        let deregistered_at = self.deregistered_idle()?;
        let ended_at = self.terminated_idle()?;
        let waited_ms = ended_at - deregistered_at;
        require(waited_ms >= quarantine_ms(), || format!("{id} was ended {} after its DELETE", seconds(waited_ms)))?;
        Ok(format!("{id} was deregistered, and terminated {} later", seconds(waited_ms)))
    }

    /// The job that came at the worst moment ran to its end on the instance, which lived as long.
    fn raced(&self, race: Race) -> Outcome {
        let id = self.instance()?;
        let job = self.job()?;
        let (started_at, on) = self.started(job)?;
        require(on == Some(id), || format!("job {job} did not run on {id}"))?;
        let completed_at = self.completed(job)?;
        let how = match race {
            Race::Known => {
                self.first(|fact| matches!(fact, Fact::DeregistrationRefused { runner, .. } if runner.ends_with(id)))
                    .ok_or_else(|| format!("no DELETE of {id}'s runner was refused"))?;
                "the DELETE was refused".to_owned()
            }
            Race::Unknown => {
                self.deregistered_idle()?;
                "the DELETE was obeyed".to_owned()
            }
            Race::Late => {
                self.deregistered_idle()?;
                let told_at = self
                    .first(|fact| {
                        matches!(fact, Fact::DeliveryAnswered { action, job_id, .. }
                            if action == "in_progress" && *job_id == Some(job))
                    })
                    .ok_or_else(|| format!("in_progress of job {job} was not delivered"))?;
                let late_ms = told_at - started_at;
                require(late_ms >= LATE_MS, || format!("in_progress came {} after the start", seconds(late_ms)))?;
                format!("the DELETE was obeyed, in_progress came {} late", seconds(late_ms))
            }
        };
        let (ended_at, _) = self.ended()?;
        require(ended_at >= completed_at, || format!("{id} ended before job {job} did"))?;
        Ok(format!("{how}; job {job} completed on {id}, which ended after it"))
    }

    fn mishap(&self, misfortune: Misfortune) -> Outcome {
        let id = self.instance()?;
        let befell_at = self.befell(misfortune)?;
        let what = match misfortune {
            Misfortune::RegistrationRemoved => {
                let waited_ms = self.terminated_idle()? - befell_at;
                require(waited_ms >= gone_grace_ms(), || format!("{id} was ended after {} only", seconds(waited_ms)))?;
                format!("was terminated {} later", seconds(waited_ms))
            }
            Misfortune::Stopped => format!("was terminated {} later", seconds(self.terminated_idle()? - befell_at)),
            Misfortune::TakenBack => {
                let waited_ms = self.deregistered_idle()? - befell_at;
                format!("left a registration, which was deleted {} later", seconds(waited_ms))
            }
            Misfortune::Started
            | Misfortune::ListenerDead
            | Misfortune::Unlisted
            | Misfortune::Protected
            | Misfortune::Unprotected => return self.removed(),
        };
        Ok(format!("{id} {misfortune}; it {what}"))
    }

    /// EC2's refusal was taken for an answer, and the instance left to whoever protects it.
    fn protected(&self) -> Outcome {
        let id = self.instance()?;
        self.befell(Misfortune::Protected)?;
        let refused = |fact: &Fact| matches!(fact, Fact::TerminationRefused { instance_id, .. } if instance_id == id);
        let refused_at = self.first(refused).ok_or_else(|| format!("EC2 was not asked to end {id}"))?;
        let refusals = self.facts().filter(|(_, fact)| refused(fact)).count();
        require(refusals == 1, || format!("EC2 was asked to end {id} {refusals} times"))?;
        let (ended_at, ending) = self.ended()?;
        require(*ending == Ending::PowerOff, || format!("{id} {ending} although it was protected"))?;
        let kept = seconds(ended_at - refused_at);
        Ok(format!("EC2 refused to end {id}; it was not asked again and kept for {kept}, until its owner ended it"))
    }

    /// The job ran to its end, long after an orphan would have been ended, and the instance was ended after it.
    fn live_orphan(&self) -> Outcome {
        let id = self.instance()?;
        let job = self.job()?;
        let unlisted_at = self.befell(Misfortune::Unlisted)?;
        self.first(|fact| {
            matches!(fact, Fact::DeliveryLost { action, job_id } if action == "in_progress" && *job_id == Some(job))
        })
        .ok_or_else(|| format!("in_progress of job {job} was not lost"))?;
        let completed_at = self.completed(job)?;
        let worked_ms = completed_at - unlisted_at;
        require(worked_ms > gone_grace_ms(), || format!("job {job} ended after {} only", seconds(worked_ms)))?;
        let (ended_at, _) = self.ended()?;
        require(ended_at >= completed_at, || format!("{id} ended before job {job} did"))?;
        Ok(format!("{id} worked {} without GitHub finding its runner; its job completed", seconds(worked_ms)))
    }

    /// The job ran elsewhere, and the instance that never had a runner was ended.
    fn never_registered(&self) -> Outcome {
        let id = self.instance()?;
        let job = self.job()?;
        let (_, on) = self.started(job)?;
        let served_by = on.filter(|on| *on != id).ok_or_else(|| format!("job {job} did not run elsewhere"))?;
        self.completed(job)?;
        self.terminated_idle()?;
        Ok(format!("{id} was terminated, job {job} completed on {served_by}"))
    }

    /// The delivery was lost, and the job was found and served all the same.
    fn untold(&self, loss: Loss) -> Outcome {
        let job = self.job()?;
        let about = |action: &str, job_id: &Option<u64>| action == "queued" && *job_id == Some(job);
        let lost_at = self
            .first(|fact| matches!(fact, Fact::DeliveryLost { action, job_id } if about(action, job_id)))
            .ok_or_else(|| format!("queued of job {job} was not lost"))?;
        let repeated = self.first(|fact| {
            matches!(fact, Fact::DeliveryAnswered { action, job_id, status: Some(200..=299), .. } if about(action, job_id))
        });
        let how = match (loss, repeated) {
            (Loss::Vanished, None) => "found by looking",
            (Loss::Vanished, Some(_)) => return Err(format!("a delivery told of job {job}")),
            (Loss::Failed, Some(_)) => "delivered once more",
            (Loss::Failed, None) => return Err(format!("the delivery of job {job} was not made once more")),
        };
        let (started_at, _) = self.started(job)?;
        self.completed(job)?;
        Ok(format!("job {job} was {how}, started {} after it was queued and completed", seconds(started_at - lost_at)))
    }

    /// Twice accepted, and the job started once.
    fn duplicate(&self) -> Outcome {
        let job = self.job()?;
        let accepted = |fact: &Fact| {
            matches!(fact, Fact::DeliveryAnswered { action, job_id, status: Some(200..=299), .. }
                if action == "queued" && *job_id == Some(job))
        };
        let deliveries = self.facts().filter(|(_, fact)| accepted(fact)).count();
        require(deliveries >= 2, || format!("{deliveries} deliveries of job {job} were accepted"))?;
        let started = |fact: &Fact| matches!(fact, Fact::JobStarted { job_id, .. } if *job_id == job);
        let starts = self.facts().filter(|(_, fact)| started(fact)).count();
        require(starts == 1, || format!("job {job} started {starts} times"))?;
        Ok(format!("job {job} started once"))
    }

    fn forgery(&self) -> Outcome {
        let job = self.job()?;
        self.first(
            |fact| matches!(fact, Fact::ForgeryAnswered { status: Some(400..=499), job_id } if *job_id == Some(job)),
        )
        .ok_or_else(|| "the forged delivery was not refused".to_owned())?;
        Ok("it was refused".to_owned())
    }

    fn look_alike(&self) -> Outcome {
        let id = self.instance()?;
        let touched = |fact: &Fact| matches!(fact, Fact::ForeignTouched { instance_id, .. } if instance_id == id);
        require(self.first(touched).is_none(), || format!("{id} was touched"))?;
        let lives = self.world.ec2.instance(id).is_some_and(|i| i.origin == Origin::Foreign && i.state.is_alive());
        require(lives, || format!("{id} is gone"))?;
        Ok(format!("{id} was left alone"))
    }

    fn instance(&self) -> Result<&str, String> {
        self.played.instance_id.as_deref().ok_or_else(|| "no instance was launched".to_owned())
    }

    fn job(&self) -> Result<u64, String> {
        self.played.jobs.first().copied().ok_or_else(|| "no job was queued".to_owned())
    }

    fn facts(&self) -> impl Iterator<Item = &(Millis, Fact)> {
        self.world.truth.facts().iter()
    }

    /// When the first such thing happened.
    fn first(&self, wanted: impl Fn(&Fact) -> bool) -> Option<Millis> {
        self.facts().find(|(_, fact)| wanted(fact)).map(|(at, _)| *at)
    }

    fn befell(&self, what: Misfortune) -> Result<Millis, String> {
        let id = self.instance()?;
        self.first(
            |fact| matches!(fact, Fact::Befell { instance_id, misfortune } if instance_id == id && *misfortune == what),
        )
        .ok_or_else(|| format!("it did not come to it that {id} {what}"))
    }

    /// When a job succeeded.
    fn completed(&self, job: u64) -> Result<Millis, String> {
        self.first(|fact| {
            matches!(fact, Fact::JobCompleted { job_id, conclusion } if *job_id == job && conclusion == "success")
        })
        .ok_or_else(|| format!("job {job} did not complete"))
    }

    /// When a job started, and on which instance.
    fn started(&self, job: u64) -> Result<(Millis, Option<&str>), String> {
        let start = self.facts().find_map(|(at, fact)| {
            if let Fact::JobStarted { job_id, instance_id, .. } = fact
                && *job_id == job
            {
                return Some((*at, instance_id.as_deref()));
            }
            None
        });
        start.ok_or_else(|| format!("job {job} did not start"))
    }

    /// When the instance began to end, and how.
    fn ended(&self) -> Result<(Millis, &Ending), String> {
        let id = self.instance()?;
        let end = self.facts().find_map(|(at, fact)| {
            if let Fact::InstanceEnding { instance_id, ending, .. } = fact
                && instance_id == id
            {
                return Some((*at, ending));
            }
            None
        });
        end.ok_or_else(|| format!("{id} did not end"))
    }

    /// When a function deleted the registration of the instance's runner, which had no job.
    fn deregistered_idle(&self) -> Result<Millis, String> {
        let id = self.instance()?;
        self.first(
            |fact| matches!(fact, Fact::RunnerDeregistered { runner, active_job: None, .. } if runner.ends_with(id)),
        )
        .ok_or_else(|| format!("the runner of {id} was not deregistered"))
    }

    /// When a function ended the instance, on which nothing ran.
    fn terminated_idle(&self) -> Result<Millis, String> {
        let id = self.instance()?;
        self.first(|fact| {
            matches!(fact, Fact::InstanceEnding { instance_id, ending: Ending::Api { .. }, active_job: None }
                if instance_id == id)
        })
        .ok_or_else(|| format!("{id} was not terminated"))
    }
}

fn require(is_so: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(otherwise()) }
}

/// Between a DELETE and the earliest end of its instance.
fn quarantine_ms() -> Millis {
    Millis::from(QUARANTINE_SECONDS) * 1_000
}

/// Between the loss of a registration and the earliest end of its instance.
fn gone_grace_ms() -> Millis {
    Millis::from(GONE_GRACE_SECONDS) * 1_000
}

fn seconds(ms: Millis) -> String {
    format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::scenario::scenes::SCENES;
    use runner_scaler_world::{Settings, Tape};

    const ID: &str = "i-1";

    /// What happened in words, the scene, the facts with their seconds, whether it holds.
    type Case = (&'static str, &'static str, Vec<(Millis, Fact)>, bool);

    fn ending(ending: Ending) -> Fact {
        Fact::InstanceEnding { instance_id: ID.to_owned(), ending, active_job: None }
    }

    fn by_us() -> Ending {
        Ending::Api { caller: "scale-down".to_owned() }
    }

    fn deregistered() -> Fact {
        Fact::RunnerDeregistered { runner: format!("f-{ID}"), caller: "scale-down".to_owned(), active_job: None }
    }

    fn befell(misfortune: Misfortune) -> Fact {
        Fact::Befell { instance_id: ID.to_owned(), misfortune }
    }

    fn started() -> Fact {
        Fact::JobStarted { job_id: 7, runner: format!("f-{ID}"), instance_id: Some(ID.to_owned()) }
    }

    fn completed() -> Fact {
        Fact::JobCompleted { job_id: 7, conclusion: "success".to_owned() }
    }

    fn told() -> Fact {
        Fact::DeliveryAnswered { delivery_id: 1, action: "in_progress".to_owned(), job_id: Some(7), status: Some(202) }
    }

    fn queued_lost() -> Fact {
        Fact::DeliveryLost { action: "queued".to_owned(), job_id: Some(7) }
    }

    fn queued_told() -> Fact {
        Fact::DeliveryAnswered { delivery_id: 1, action: "queued".to_owned(), job_id: Some(7), status: Some(202) }
    }

    fn lost() -> Fact {
        Fact::DeliveryLost { action: "in_progress".to_owned(), job_id: Some(7) }
    }

    fn refused() -> Fact {
        Fact::TerminationRefused { instance_id: ID.to_owned(), caller: "scale-down".to_owned() }
    }

    fn kept() -> Fact {
        Fact::DeregistrationRefused { runner: format!("f-{ID}"), caller: "scale-down".to_owned() }
    }

    #[test]
    fn a_job_whose_delivery_is_lost_holds_when_it_is_found() {
        hold_as_expected(vec![
            ("found by looking", "untold", vec![(0, queued_lost()), (9, started()), (11, completed())], true),
            ("never lost", "untold", vec![(0, queued_told()), (9, started()), (11, completed())], false),
            ("never found", "untold", vec![(0, queued_lost())], false),
            (
                "delivered once more",
                "undelivered",
                vec![(0, queued_lost()), (2, queued_told()), (9, started()), (11, completed())],
                true,
            ),
            (
                "not delivered once more",
                "undelivered",
                vec![(0, queued_lost()), (9, started()), (11, completed())],
                false,
            ),
        ]);
    }

    #[test]
    fn a_scene_holds_when_what_it_announced_happened() {
        let cases: Vec<Case> = vec![
            ("nothing", "silent", vec![], false),
            ("removed after the quarantine", "silent", vec![(0, deregistered()), (8, ending(by_us()))], true),
            ("ended too soon", "silent", vec![(0, deregistered()), (7, ending(by_us()))], false),
            ("ended itself", "silent", vec![(0, deregistered()), (7, ending(Ending::PowerOff))], false),
            (
                "the job outlived the DELETE's refusal",
                "raced-known",
                vec![(0, kept()), (1, started()), (15, completed()), (20, ending(by_us()))],
                true,
            ),
            (
                "nobody was refused",
                "raced-known",
                vec![(1, started()), (15, completed()), (20, ending(by_us()))],
                false,
            ),
            (
                "the instance ended first",
                "raced-unknown",
                vec![(0, deregistered()), (1, started()), (9, ending(by_us())), (15, completed())],
                false,
            ),
            (
                "the job outlived the DELETE",
                "raced-unknown",
                vec![(0, deregistered()), (1, started()), (15, completed()), (20, ending(by_us()))],
                true,
            ),
            (
                "in_progress came late",
                "raced-late",
                vec![(0, deregistered()), (1, started()), (5, told()), (15, completed()), (20, ending(by_us()))],
                true,
            ),
            (
                "in_progress came in time",
                "raced-late",
                vec![(0, deregistered()), (1, started()), (2, told()), (15, completed()), (20, ending(by_us()))],
                false,
            ),
            (
                "reaped in its time",
                "orphan",
                vec![(0, befell(Misfortune::RegistrationRemoved)), (8, ending(by_us()))],
                true,
            ),
            (
                "reaped at the first sight",
                "orphan",
                vec![(0, befell(Misfortune::RegistrationRemoved)), (3, ending(by_us()))],
                false,
            ),
            ("left lying", "stopped", vec![(0, befell(Misfortune::Stopped))], false),
            ("reaped", "stopped", vec![(0, befell(Misfortune::Stopped)), (9, ending(by_us()))], true),
            (
                "its registration deleted",
                "taken-back",
                vec![(0, befell(Misfortune::TakenBack)), (9, deregistered())],
                true,
            ),
            (
                "ended while it worked",
                "live-orphan",
                vec![(0, befell(Misfortune::Unlisted)), (0, lost()), (9, ending(by_us()))],
                false,
            ),
            (
                "kept until its job was done",
                "live-orphan",
                vec![(0, befell(Misfortune::Unlisted)), (0, lost()), (19, completed()), (25, ending(by_us()))],
                true,
            ),
            (
                "refused, then left to its owner",
                "protected",
                vec![(0, befell(Misfortune::Protected)), (9, refused()), (14, ending(Ending::PowerOff))],
                true,
            ),
            (
                "never refused",
                "protected",
                vec![(0, befell(Misfortune::Protected)), (11, ending(Ending::PowerOff))],
                false,
            ),
        ];
        hold_as_expected(cases);
    }

    fn hold_as_expected(cases: Vec<Case>) {
        for (case, name, facts, expected) in cases {
            let scene = SCENES.iter().find(|scene| scene.name == name).unwrap();
            let mut world = World::new(Settings::local(), Tape::from_seed(1), 0);
            for (at, fact) in facts {
                world.truth.record(at * 1_000, fact);
            }
            let played = Played { jobs: vec![7], instance_id: Some(ID.to_owned()) };
            let verdict = judge(&world, scene, Some(&played));
            assert_eq!((verdict.held, verdict.name), (expected, name), "{case}: {}", verdict.detail);
        }
    }

    #[test]
    fn a_scene_of_which_nothing_came_does_not_hold() {
        let world = World::new(Settings::local(), Tape::from_seed(1), 0);
        let surplus = SCENES.iter().filter(|scene| !matches!(scene.act, Act::Payload(_) | Act::Burst(_)));
        for scene in surplus {
            assert!(!judge(&world, scene, Some(&Played::default())).held, "{}", scene.name);
            assert!(!judge(&world, scene, None).held, "{}", scene.name);
        }
    }
}
