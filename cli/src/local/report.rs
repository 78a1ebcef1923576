//! The summary at the end: what the world knows to have happened, and whether every promise held.
//!
//! Its sources are the world's ground truth, the proxy's counts, the parameters that are left and the emulator's
//! word on which invocations failed; never the functions' ledger or logs.

use std::collections::BTreeMap;

use comfy_table::{Table, presets::ASCII_MARKDOWN};
use runner_scaler_world::call::Api;
use runner_scaler_world::trap::Trap;
use runner_scaler_world::truth::{Ending, Outside, Promise, Summary, promises, summary};
use runner_scaler_world::{Millis, World};
use serde_json::{Value, json};

use crate::Outcome;
use crate::functions::Function;
use crate::local::proxy::CallKind;
use crate::local::scenario::{Play, SceneVerdict};

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Report {
    /// From the command's start to the end of the play, in seconds.
    pub(crate) total_seconds: f64,
    /// The play alone, in milliseconds.
    pub(crate) play_ms: Millis,
    /// The world's figures.
    pub(crate) summary: Summary,
    /// The promises, judged.
    pub(crate) promises: Vec<Promise>,
    /// Calls by (function, service).
    pub(crate) calls: BTreeMap<(String, String), u64>,
    /// Failed invocations by function.
    pub(crate) failures: BTreeMap<Function, u64>,
    /// Messages that failed too often.
    pub(crate) dead_letters: u64,
    /// Processes of functions that were killed on purpose.
    pub(crate) functions_killed: usize,
    /// What the play or the adversary waited for in vain: a run without it has not shown what it should.
    pub(crate) unplayed: Vec<String>,
    /// Whether what each scene announced happened.
    pub(crate) scenes: Vec<SceneVerdict>,
    /// What scale-up's calls may be and were; of a burst alone, where nothing else costs any.
    pub(crate) budgets: Vec<Budget>,
}

/// One kind of call, how many there were and how many there may be (design section 12).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Budget {
    /// What is counted.
    pub(crate) what: &'static str,
    /// How many there were.
    pub(crate) count: u64,
    /// How many there may be.
    pub(crate) most: u64,
}

/// What the report needs besides the world.
#[derive(Debug)]
pub(crate) struct Observed {
    /// From the command's start to the end of the play, in seconds.
    pub(crate) total_seconds: f64,
    /// The play alone, in milliseconds.
    pub(crate) play_ms: Millis,
    /// What the proxy counted.
    pub(crate) aws_calls: BTreeMap<CallKind, u64>,
    /// Failed invocations by function.
    pub(crate) failures: BTreeMap<Function, u64>,
    /// Messages that failed too often.
    pub(crate) dead_letters: u64,
    /// Parameters left and caps of the fleets.
    pub(crate) outside: Outside,
    /// What was not over when the time was.
    pub(crate) late: Vec<String>,
    /// Processes of functions that were killed on purpose.
    pub(crate) functions_killed: usize,
    /// What the play waited for in vain, and kills whose call did not come.
    pub(crate) waiting: Vec<String>,
    /// Whether what each scene announced happened.
    pub(crate) scenes: Vec<SceneVerdict>,
    /// What was played.
    pub(crate) play: Play,
}

impl Report {
    /// Judges the world.
    pub(crate) fn new(world: &World, observed: Observed) -> Self {
        let summary = summary(&world.truth);
        let budgets = match observed.play {
            Play::Whole { .. } => Vec::new(),
            Play::Burst { .. } => budgets(world, &summary, &observed.aws_calls),
        };
        let mut calls: BTreeMap<(String, String), u64> = BTreeMap::new();
        for call in &summary.calls {
            let service = match call.api {
                Api::GitHub => "github",
                Api::Ec2 => "ec2",
            };
            *calls.entry((call.caller.clone(), service.to_owned())).or_default() += call.count;
        }
        for (kind, count) in observed.aws_calls {
            *calls.entry((kind.caller, kind.service)).or_default() += count;
        }
        let mut promises = promises(world, &observed.outside);
        // Whatever did not end in time is a leak, even if the world has no fact about it.
        if let Some(leaks) = promises.iter_mut().find(|promise| promise.name == "P2") {
            leaks.evidence.extend(observed.late);
            leaks.held = leaks.evidence.is_empty();
        }
        Self {
            total_seconds: observed.total_seconds,
            play_ms: observed.play_ms,
            summary,
            promises,
            calls,
            failures: observed.failures,
            dead_letters: observed.dead_letters,
            functions_killed: observed.functions_killed,
            unplayed: world.traps.waiting().iter().map(waited_for).chain(observed.waiting).collect(),
            scenes: observed.scenes,
            budgets,
        }
    }

    /// Good when the whole play was played, what every scene announced happened, and every promise and budget held.
    pub(crate) fn outcome(&self) -> Outcome {
        let as_announced = self.unplayed.is_empty()
            && self.scenes.iter().all(|scene| scene.held)
            && self.budgets.iter().all(Budget::is_met);
        if as_announced && self.promises.iter().all(|promise| promise.held) { Outcome::Good } else { Outcome::Bad }
    }

    /// Tables for people.
    pub(crate) fn tables(&self) -> String {
        let (figures, calls) = (self.figures(), self.call_table());
        let (scenes, promises) = (self.scene_table(), self.promise_table());
        let mut text = format!("\n{figures}\n\n{calls}\n\n{scenes}\n\n{promises}\n\n");
        if !self.budgets.is_empty() {
            text.extend([self.budget_table().to_string(), "\n\n".to_owned()]);
        }
        for promise in &self.promises {
            text.extend(promise.evidence.iter().map(|line| format!("{} BROKEN: {line}\n", promise.name)));
        }
        text.extend(self.unplayed.iter().map(|line| format!("not played: {line}\n")));
        text
    }

    /// The same for programs.
    pub(crate) fn json(&self) -> Value {
        let sum = &self.summary;
        let ended: BTreeMap<String, usize> =
            sum.instances_ended.iter().map(|(ending, count)| (ended_by(ending), *count)).collect();
        let mut calls: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
        for ((caller, service), count) in &self.calls {
            calls.entry(caller).or_default().insert(service, *count);
        }
        let failures: BTreeMap<&str, u64> =
            self.failures.iter().map(|(function, count)| (function.name(), *count)).collect();
        json!({
            "total_seconds": self.total_seconds,
            "play_ms": self.play_ms,
            "jobs": {
                "queued": sum.jobs_queued, "completed": sum.jobs_completed,
                "cancelled": sum.jobs_cancelled, "lost": sum.jobs_lost,
            },
            "queue_to_start_ms": { "p50": sum.queue_to_start_p50_ms, "p99": sum.queue_to_start_p99_ms },
            "instances": { "launched": sum.instances_launched, "ended_by": ended },
            "runners": {
                "deregistered": sum.runners_deregistered,
                "deregistrations_refused": sum.deregistrations_refused,
            },
            "deliveries": {
                "accepted": sum.deliveries_accepted, "failed": sum.deliveries_failed,
                "lost": sum.deliveries_lost, "forgeries_refused": sum.forgeries_refused,
            },
            "dead_letters": self.dead_letters,
            "failed_invocations": failures,
            "functions_killed": self.functions_killed,
            "calls": calls,
            "not_played": self.unplayed,
            "scenes": self.scenes.iter().map(scene_json).collect::<Vec<Value>>(),
            "budgets": self.budgets.iter().map(budget_json).collect::<Vec<Value>>(),
            "promises": self.promises,
        })
    }

    fn figures(&self) -> Table {
        let sum = &self.summary;
        let seconds = |ms: Option<Millis>| ms.map_or_else(|| "-".to_owned(), milliseconds_as_seconds);
        let ended: Vec<String> =
            sum.instances_ended.iter().map(|(ending, count)| format!("{count} {}", ended_by(ending))).collect();
        let failures: Vec<String> =
            self.failures.iter().map(|(function, count)| format!("{} {count}", function.name())).collect();
        let rows = [
            (
                "jobs",
                format!(
                    "{} queued, {} completed, {} cancelled by their users, {} lost",
                    sum.jobs_queued, sum.jobs_completed, sum.jobs_cancelled, sum.jobs_lost
                ),
            ),
            (
                "queue to start",
                format!("p50 {}, p99 {}", seconds(sum.queue_to_start_p50_ms), seconds(sum.queue_to_start_p99_ms)),
            ),
            ("instances launched", sum.instances_launched.to_string()),
            ("instances ended", none_or(&ended)),
            ("runners deregistered", sum.runners_deregistered.to_string()),
            ("kept by GitHub's veto (422)", sum.deregistrations_refused.to_string()),
            (
                "deliveries",
                format!(
                    "{} accepted, {} failed, {} lost, {} forged and refused",
                    sum.deliveries_accepted, sum.deliveries_failed, sum.deliveries_lost, sum.forgeries_refused
                ),
            ),
            ("failed invocations", none_or(&failures)),
            ("functions killed on purpose", self.functions_killed.to_string()),
            ("not played", self.unplayed.len().to_string()),
            ("dead letters", self.dead_letters.to_string()),
            (
                "time",
                format!("{:.1} s, of which the play {}", self.total_seconds, milliseconds_as_seconds(self.play_ms)),
            ),
        ];
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN);
        table.set_header(["what", "in the world's ground truth"]);
        for (what, value) in rows {
            table.add_row([what.to_owned(), value]);
        }
        table
    }

    fn call_table(&self) -> Table {
        const SERVICES: [&str; 5] = ["github", "ec2", "sqs", "ssm", "dynamodb"];
        let mut callers: Vec<&str> = Function::ALL.iter().map(|function| function.name()).collect();
        for (caller, _) in self.calls.keys() {
            if !callers.contains(&caller.as_str()) {
                callers.push(caller);
            }
        }
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN);
        table.set_header(["calls by", "GitHub", "EC2", "SQS", "SSM", "DynamoDB"]);
        for caller in callers {
            let count = |service: &str| {
                let key = (caller.to_owned(), service.to_owned());
                self.calls.get(&key).copied().unwrap_or_default().to_string()
            };
            let mut row = vec![caller.to_owned()];
            row.extend(SERVICES.iter().map(|service| count(service)));
            table.add_row(row);
        }
        table
    }

    fn scene_table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN);
        table.set_header(["scene", "verdict", "what happened"]);
        for scene in &self.scenes {
            let verdict = if scene.held { "held" } else { "NOT HELD" };
            table.add_row([scene.name, verdict, &scene.detail]);
        }
        table
    }

    fn budget_table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN);
        table.set_header(["calls of scale-up", "were", "may be", "verdict"]);
        for budget in &self.budgets {
            let verdict = if budget.is_met() { "met" } else { "NOT MET" };
            table.add_row([
                budget.what.to_owned(),
                budget.count.to_string(),
                budget.most.to_string(),
                verdict.to_owned(),
            ]);
        }
        table
    }

    fn promise_table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN);
        table.set_header(["promise", "says", "verdict"]);
        for promise in &self.promises {
            let verdict = if promise.held { "held" } else { "BROKEN" };
            table.add_row([promise.name, promise.title, verdict]);
        }
        table
    }
}

impl Budget {
    fn is_met(&self) -> bool {
        self.count <= self.most
    }
}

/// One question to GitHub for each message and one registration for each runner, a token for each process, one fleet call
/// for each fleet of a batch, one put for each runner. Each batch asks once which instances there are; a job that found
/// no room is a message again.
fn budgets(world: &World, summary: &Summary, aws_calls: &BTreeMap<CallKind, u64>) -> Vec<Budget> {
    let of = |api: Api, wanted: &str| {
        let calls = world.truth.calls().iter();
        let own =
            calls.filter(|((caller, own, operation), _)| caller == "scale-up" && *own == api && operation == wanted);
        own.map(|(_, count)| *count).sum::<u64>()
    };
    let aws = |wanted: &str| {
        let own = aws_calls.iter().filter(|(kind, _)| kind.caller == "scale-up" && kind.operation == wanted);
        own.map(|(_, count)| *count).sum::<u64>()
    };
    let runners = summary.instances_launched as u64;
    let sent = aws_calls.iter().filter(|(kind, _)| kind.operation == "SendMessage");
    let messages: u64 = sent.map(|(_, count)| *count).sum();
    let github = summary.calls.iter().filter(|calls| calls.caller == "scale-up" && calls.api == Api::GitHub);
    let tokens = of(Api::GitHub, "CreateAccessToken") + of(Api::GitHub, "GetInstallation");
    let batches = of(Api::Ec2, "DescribeInstances");
    vec![
        Budget {
            what: "GitHub, but for tokens: one for each message and one for each runner",
            count: github.map(|calls| calls.count).sum::<u64>() - tokens,
            most: messages + runners,
        },
        Budget {
            what: "GitHub for tokens: one for each batch, if each was a process",
            count: tokens,
            most: 2 * batches,
        },
        Budget {
            what: "CreateFleet: one for each batch and fleet",
            count: of(Api::Ec2, "CreateFleet"),
            most: (2 * batches).min(runners),
        },
        Budget { what: "PutParameter: one for each runner", count: aws("PutParameter"), most: runners },
    ]
}

fn budget_json(budget: &Budget) -> Value {
    json!({ "what": budget.what, "count": budget.count, "most": budget.most, "met": budget.is_met() })
}

fn scene_json(scene: &SceneVerdict) -> Value {
    json!({ "name": scene.name, "held": scene.held, "detail": scene.detail })
}

fn waited_for(trap: &Trap) -> String {
    let any = || "any call".to_owned();
    let by = trap.on.caller.as_deref().unwrap_or("any function");
    format!("{} by {by}: {:?}", trap.on.operation.clone().unwrap_or_else(any), trap.action)
}

fn ended_by(ending: &Ending) -> String {
    match ending {
        Ending::PowerOff => "by themselves".to_owned(),
        Ending::Spot => "by EC2 (spot)".to_owned(),
        Ending::Api { caller } => format!("by {caller}"),
    }
}

fn none_or(items: &[String]) -> String {
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

fn milliseconds_as_seconds(ms: Millis) -> String {
    format!("{}.{:02} s", ms / 1_000, ms % 1_000 / 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_scaler_world::truth::Fact;
    use runner_scaler_world::{Settings, Tape};

    fn report(facts: Vec<Fact>, late: Vec<String>) -> Report {
        report_of(facts, late, Vec::new())
    }

    fn report_of(facts: Vec<Fact>, late: Vec<String>, scenes: Vec<SceneVerdict>) -> Report {
        let mut world = World::new(Settings::local(), Tape::from_seed(1), 0);
        for (at, fact) in (0..).step_by(1_500).zip(facts) {
            world.truth.record(at, fact);
        }
        let kind = CallKind { caller: "webhook".into(), service: "sqs".into(), operation: "SendMessage".into() };
        let observed = Observed {
            total_seconds: 42.0,
            play_ms: 30_000,
            aws_calls: BTreeMap::from([(kind, 3)]),
            failures: BTreeMap::from([(Function::ScaleUp, 1)]),
            dead_letters: 0,
            outside: Outside::default(),
            late,
            functions_killed: 1,
            waiting: Vec::new(),
            scenes,
            play: Play::Whole { jobs: 1 },
        };
        Report::new(&world, observed)
    }

    fn life() -> Vec<Fact> {
        let (runner, name) = ("linux-i-1".to_owned(), "build".to_owned());
        let instance_id = "i-1".to_owned();
        vec![
            Fact::JobQueued { job_id: 1, name },
            Fact::JobStarted { job_id: 1, runner, instance_id: Some(instance_id.clone()) },
            Fact::JobCompleted { job_id: 1, conclusion: "success".into() },
            Fact::InstanceEnding { instance_id, ending: Ending::PowerOff, active_job: None },
        ]
    }

    #[test]
    fn a_good_run_says_so_in_every_form() {
        let report = report(life(), vec![]);
        assert_eq!(report.outcome(), Outcome::Good);
        let text = report.tables();
        for part in ["p50 1.50 s", "1 by themselves", "scale-up 1", "42.0 s", "held"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let json = report.json();
        assert_eq!(json.pointer("/calls/webhook/sqs"), Some(&json!(3)));
        assert_eq!(json.pointer("/instances/ended_by/by themselves"), Some(&json!(1)));
    }

    #[test]
    fn a_broken_promise_is_named_with_its_evidence() {
        let mut facts = life();
        facts.push(Fact::InstanceEnding {
            instance_id: "i-2".into(),
            ending: Ending::Api { caller: "scale-down".into() },
            active_job: Some(7),
        });
        let report = report(facts, vec![]);
        assert_eq!(report.outcome(), Outcome::Bad);
        assert!(report.tables().contains("P1 BROKEN: scale-down terminated i-2 while job 7"));
    }

    #[test]
    fn a_scene_that_did_not_come_to_what_it_announced_makes_the_run_a_bad_one() {
        let scene = |held| SceneVerdict { name: "silent", held, detail: "i-1 did not end".into() };
        for (held, outcome, word) in [(true, Outcome::Good, "| held"), (false, Outcome::Bad, "| NOT HELD")] {
            let report = report_of(life(), vec![], vec![scene(held)]);
            assert_eq!(report.outcome(), outcome);
            let line = report.tables().lines().find(|line| line.contains("silent")).unwrap().to_owned();
            assert!(line.contains(word) && line.contains("i-1 did not end"), "{line}");
            let shown = json!([{ "name": "silent", "held": held, "detail": "i-1 did not end" }]);
            assert_eq!(report.json()["scenes"], shown);
        }
    }

    #[test]
    fn what_is_not_over_in_time_is_a_leak() {
        let report = report(life(), vec!["2 messages wait in the queue".into()]);
        let broken: Vec<_> =
            report.promises.iter().filter(|promise| !promise.held).map(|promise| promise.name).collect();
        assert_eq!(broken, ["P2"]);
    }
}
