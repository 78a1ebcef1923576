//! The API budgets of design section 12, counted at the ports. A call that answers in pages counts as so many:
//! ⌈n/100⌉ of GitHub's runners, ⌈n/1,000⌉ of EC2's instances. What one call of the ledger's port costs on the wire is
//! counted by `tests/budgets`.

use std::cell::Cell;
use std::rc::Rc;

use super::*;
use crate::ledger::{JobCompleted, Spell};

const SIZES: [usize; 3] = [10, 1_000, 5_000];

/// GitHub's calls, the ledger's and the instances', and the others of AWS. A call that is in none of them fails the
/// test that counts.
const GITHUB: [&str; 11] = [
    "RegistryRead::runners",
    "RegistryRead::runner",
    "RegistryRead::runner_named",
    "Registry::deregister",
    "Jobs::job",
    "Jobs::jobs_in_progress",
    "Jobs::jobs_of_open_runs",
    "Jobs::repositories",
    "DeliveryLog::failed_deliveries_since",
    "DeliveryLog::delivery_payload",
    "DeliveryLog::installation_owner",
];
const TABLES: [&str; 4] = ["Ledger::read", "Ledger::write", "Ledger::open", "VitalSigns::read"];
const AWS: [&str; 6] = [
    "ComputeRead::instances",
    "Compute::request_drain",
    "Compute::terminate",
    "Parameters::kill_switch",
    "Parameters::jit_configs",
    "Parameters::delete_jit_config",
];

/// What was asked since the last count.
#[derive(Clone, Copy, Debug, Default)]
struct Calls {
    lists: usize,
    logs: usize,
    github: usize,
    tables: usize,
    aws: usize,
    tags: usize,
    terminations: usize,
    all: usize,
}

impl Calls {
    fn until_now(fake: &Fake, count: usize) -> Self {
        let of = |names: &[&str]| names.iter().map(|name| fake.calls_of(name)).sum::<usize>();
        let (github, tables, aws) = (of(&GITHUB), of(&TABLES), of(&AWS));
        assert_eq!(github + tables + aws, fake.calls(), "a call is in no list");
        let lists = fake.calls_of("RegistryRead::runners");
        Self {
            lists,
            logs: fake.calls_of("DeliveryLog::failed_deliveries_since"),
            github: github - lists + lists * count.div_ceil(100),
            tables,
            aws: aws + fake.calls_of("ComputeRead::instances") * (count.div_ceil(1_000) - 1),
            tags: fake.calls_of("Compute::request_drain"),
            terminations: fake.calls_of("Compute::terminate"),
            all: fake.calls(),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            lists: self.lists - before.lists,
            logs: self.logs - before.logs,
            github: self.github - before.github,
            tables: self.tables - before.tables,
            aws: self.aws - before.aws,
            tags: self.tags - before.tags,
            terminations: self.terminations - before.terminations,
            all: self.all - before.all,
        }
    }
}

/// Runners of one organisation, the first of them idle and the others busy, launched an hour ago.
struct Estate {
    fake: Fake,
    count: usize,
    counted: Calls,
}

/// What the instances say of themselves.
#[derive(Clone, Copy)]
enum Supervisors {
    Beating,
    Silent,
}

impl Estate {
    fn new(count: usize, idle_count: usize, supervisors: Supervisors) -> Self {
        let fake = Fake::new();
        for number in 0..count {
            let busy = number >= idle_count;
            let own = Runner {
                id: runner_id(number),
                name: RunnerName::new(format!("runner-{}", instance_id(number))),
                busy,
                ..runner()
            };
            put_fallen_silent(&fake, &instance_id(number));
            let mut own_record = record(&fake);
            own_record.instance_id = instance_id(number);
            own_record.runner_name = own.name.clone();
            own_record.runner_id = Some(own.id);
            if busy {
                own_record.note_started(JobStarted { runner_id: Some(own.id), ..started() });
            }
            fake.put(&own_record);
            fake.put_runner(&access().scope, own);
        }
        fake.pass(60 * MINUTE);
        let estate = Self { fake, count, counted: Calls::default() };
        if matches!(supervisors, Supervisors::Beating) {
            estate.beat(idle_count);
        }
        estate
    }

    fn beat(&self, idle_count: usize) {
        for number in 0..self.count {
            let worker = if number < idle_count { Worker::None } else { Worker::Running };
            let sign = VitalSign { beat_at: self.fake.now(), worker };
            self.fake.state_mut().vital_signs.insert(instance_id(number), sign);
        }
    }

    fn edit_all(&self, change: impl Fn(&mut InstanceRecord)) {
        for mut record in self.fake.all::<InstanceRecord>() {
            change(&mut record);
            self.fake.put(&record);
        }
    }

    /// One minute later, a pass with time enough.
    fn scale_down(&self) -> Report {
        self.fake.pass(MINUTE);
        scale_down(&self.fake, &policy()).expect("not killed").expect("no error")
    }

    fn sweep(&self) -> Report {
        self.fake.pass(MINUTE);
        sweep(&self.fake, &policy()).expect("not killed").expect("no error")
    }

    /// Calls since the last time.
    fn calls(&mut self) -> Calls {
        let now = Calls::until_now(&self.fake, self.count);
        let since = now.since(self.counted);
        self.counted = now;
        since
    }
}

fn instance_id(number: usize) -> InstanceId {
    InstanceId::new(format!("i-{number:05x}"))
}

fn runner_id(number: usize) -> RunnerId {
    RunnerId(1_000 + u64::try_from(number).expect("a small number"))
}

/// One line of the table: the work, how many runners, what was asked and what may be.
struct Line {
    work: &'static str,
    count: usize,
    calls: Calls,
    github_max: usize,
}

#[expect(clippy::print_stdout, reason = "the table is the test's output for people: cargo test -- --nocapture")]
fn print(lines: &[Line]) {
    println!(
        "{:<58} {:>6} {:>7} {:>7} {:>6} {:>6} {:>6} {:>7}",
        "work", "n", "GitHub", "budget", "lists", "EC2+SSM", "tables", "all"
    );
    for Line { work, count, calls, github_max } in lines {
        let Calls { lists, github, tables, aws, all, .. } = calls;
        println!("{work:<58} {count:>6} {github:>7} {github_max:>7} {lists:>6} {aws:>6} {tables:>6} {all:>7}");
    }
}

fn check(lines: &[Line]) {
    print(lines);
    let over: Vec<String> = lines
        .iter()
        .filter(|line| line.calls.github > line.github_max)
        .map(|line| format!("{} of {}: {} > {}", line.work, line.count, line.calls.github, line.github_max))
        .collect();
    assert!(over.is_empty(), "over budget: {over:#?}");
}

#[test]
fn busy_runners_cost_scale_down_no_call_of_github() {
    let mut lines = Vec::new();
    for count in SIZES {
        for (work, supervisors) in [
            ("scale-down, all busy and beating", Supervisors::Beating),
            ("scale-down, all busy and silent", Supervisors::Silent),
        ] {
            let mut estate = Estate::new(count, 0, supervisors);
            assert_eq!(estate.scale_down().kept.values().sum::<u32>() as usize, count);
            lines.push(Line { work, count, calls: estate.calls(), github_max: 0 });
        }
    }
    check(&lines);
}

#[test]
fn a_drain_costs_one_call_for_a_thousand_and_none_of_github() {
    let mut lines = Vec::new();
    for count in SIZES {
        let idle_count = count / 2;
        let mut estate = Estate::new(count, idle_count, Supervisors::Beating);
        for work in ["scale-down, half idle: drain", "scale-down, half idle: drain renewed"] {
            assert_eq!(estate.scale_down().drained_count, idle_count);
            let calls = estate.calls();
            assert_eq!(calls.tags, idle_count.div_ceil(1_000), "{work} {count}");
            lines.push(Line { work, count, calls, github_max: 0 });
        }
    }
    check(&lines);
}

#[test]
fn removal_by_the_control_plane_costs_three_calls_of_github_an_instance() {
    let mut lines = Vec::new();
    for count in SIZES {
        let idle_count = count / 2;
        let mut estate = Estate::new(count, idle_count, Supervisors::Silent);
        let ended = |estate: &Estate| estate.fake.state().terminated.len();
        let passes = (1..=PASSES_MAX).find(|_| {
            estate.scale_down();
            ended(&estate) >= idle_count
        });
        assert!(passes.is_some(), "{count}: {} of {idle_count} ended", ended(&estate));
        let calls = estate.calls();
        // Begin of the drain, idle readings, a quarter of the fleet a pass and the same after the quarantine.
        assert!(calls.lists <= 6 && calls.logs <= 6, "{count}: {calls:?}");
        assert_eq!(calls.terminations, idle_count, "{count}");
        // A page of the delivery log for each pass that acts, beside the list of the runners.
        let github_max = calls.lists * count.div_ceil(100) + calls.logs + 3 * idle_count;
        lines.push(Line { work: "scale-down, half idle: control-plane removal, all passes", count, calls, github_max });
    }
    check(&lines);
}

/// A kind of orphan, and what makes all instances ones.
type Orphans = (&'static str, fn(&Estate));

fn kinds_of_orphans() -> Vec<Orphans> {
    vec![
        ("row 12: completed and running", |estate| {
            let at = estate.fake.now().minus(30 * MINUTE);
            estate.edit_all(|record| {
                let runner_id = record.runner_id.expect("registered");
                record.note_completed(JobCompleted { job_id: JobId(1), at }, runner_id);
            });
            estate.fake.state_mut().runners.iter_mut().for_each(|(_, runner)| runner.busy = false);
        }),
        ("row 12: the same, their registrations gone", |estate| {
            let at = estate.fake.now().minus(30 * MINUTE);
            estate.edit_all(|record| {
                let runner_id = record.runner_id.expect("registered");
                record.note_completed(JobCompleted { job_id: JobId(1), at }, runner_id);
            });
            estate.fake.state_mut().runners.clear();
        }),
        ("row 18: never connected", |estate| {
            estate.edit_all(|record| record.job_started = None);
            let mut state = estate.fake.state_mut();
            for (_, runner) in &mut state.runners {
                (runner.busy, runner.online, runner.version) = (false, false, Some(None));
            }
        }),
        ("row 23: never registered", |estate| {
            estate.edit_all(|record| {
                (record.job_started, record.jit_intent_at, record.runner_id) = (None, None, None);
            });
            estate.fake.state_mut().runners.clear();
        }),
        ("row 4: terminated, their registrations left", |estate| {
            estate.edit_all(|record| record.gone_at = Some(estate.fake.now()));
            let mut state = estate.fake.state_mut();
            state.instances.values_mut().for_each(|instance| instance.state = InstanceState::Terminated);
            state.runners.iter_mut().for_each(|(_, runner)| (runner.busy, runner.online) = (false, false));
        }),
    ]
}

/// What is asked before the first of them is acted upon.
#[test]
fn a_thousand_orphans_are_found_by_lists() {
    let mut lines = Vec::new();
    for (number, (work, make)) in kinds_of_orphans().into_iter().enumerate() {
        // The lists are the same for all kinds, so that one of them stands for five thousand.
        let sizes = if number == 0 { SIZES.as_slice() } else { &[10, 1_000] };
        for count in sizes.iter().copied() {
            let estate = Estate::new(count, 0, Supervisors::Silent);
            make(&estate);
            let first_act: Rc<Cell<Option<Calls>>> = Rc::default();
            for call in 1..200 {
                let first_act = first_act.clone();
                estate.fake.meanwhile(call, move |fake| {
                    let acts = fake.calls_of("Registry::deregister") + fake.calls_of("Compute::terminate");
                    if acts > 0 && first_act.get().is_none() {
                        first_act.set(Some(Calls::until_now(fake, count)));
                    }
                });
            }
            estate.sweep();
            let calls = first_act.get().unwrap_or_else(|| panic!("{work}, {count}: no act"));
            lines.push(Line { work, count, calls, github_max: count.div_ceil(100) + 5 });
        }
    }
    check(&lines);
}

/// A sweep ends a quarter of the fleet at most and leaves the others to the next: none is abandoned.
#[test]
fn sweeps_go_on_until_no_orphan_is_left() {
    let mut lines = Vec::new();
    for count in SIZES {
        let mut estate = Estate::new(2 * count, count, Supervisors::Silent);
        let orphans: Vec<InstanceId> = (0..count).map(instance_id).collect();
        // Their registrations went without us, long ago; the others' jobs run.
        let now = estate.fake.now();
        estate.edit_all(|record| {
            if orphans.binary_search(&record.instance_id).is_ok() {
                record.absent = Some(Spell { since: record.launched_at, last: now, sweeps: 9 });
            }
        });
        estate.fake.state_mut().runners.retain(|(_, runner)| runner.busy);
        let ended = |estate: &Estate| estate.fake.state().terminated.len();
        let sweeps = (1..=PASSES_MAX).find(|_| {
            estate.fake.pass(5 * MINUTE);
            let _ = sweep(&estate.fake, &policy());
            ended(&estate) >= count
        });
        assert!(sweeps.is_some_and(|sweeps| sweeps <= 12), "{count}: {} of {count} ended", ended(&estate));
        let state_of = |id: &InstanceId| estate.fake.state().terminated.iter().any(|(ended, _)| ended == id);
        assert!(orphans.iter().all(state_of), "{count}: none is abandoned, and nothing else was ended");
        let calls = estate.calls();
        assert_eq!(calls.terminations, count);
        // A word on each before it is ended; the lists, the log and the jobs in progress once a sweep and 15 s.
        let github_max = calls.lists * (2 * count).div_ceil(100) + count + 4 * sweeps.unwrap_or_default();
        lines.push(Line { work: "orphan-sweeper, half orphans: all sweeps", count: 2 * count, calls, github_max });
    }
    check(&lines);
}

/// What waits in the queue costs a call a job when a runner is to be removed, and nothing when it is drained.
#[test]
fn queued_jobs_cost_a_call_each_and_only_where_something_is_removed() {
    let mut lines = Vec::new();
    for count in SIZES {
        for (work, supervisors, jobs_max) in [
            ("scale-down, half idle, 20 jobs queued: drain", Supervisors::Beating, 0),
            ("scale-down, half idle, 20 jobs queued: control plane", Supervisors::Silent, 20),
        ] {
            let idle_count = count / 2;
            let mut estate = Estate::new(count, idle_count, supervisors);
            for number in 0..20 {
                // No runner of the fleet has its label by the configuration, so that it holds no removal up.
                let job_id = JobId(5_000 + number);
                estate.fake.put(&waiting_job(&estate.fake, job_id));
                estate.fake.put_job(job_id, JobState::Queued);
            }
            estate.edit_all(|record| {
                if record.job_started.is_none() && jobs_max > 0 {
                    record.drain_requested_at = Some(record.launched_at);
                    record.idle_since = Some(record.launched_at);
                    record.idle_seen_at = Some(record.launched_at.plus(30 * MINUTE));
                }
            });
            let report = estate.scale_down();
            let calls = estate.calls();
            if jobs_max == 0 {
                assert_eq!(report.drained_count, idle_count, "{work}, {count}");
            } else {
                assert!(!report.deregistered.is_empty(), "{work}, {count}: {report:?}");
            }
            let acts = usize::from(jobs_max > 0) * (2 * idle_count + calls.lists * count.div_ceil(100) + calls.logs);
            lines.push(Line { work, count, calls, github_max: jobs_max + acts });
        }
    }
    check(&lines);
}

fn waiting_job(fake: &Fake, job_id: JobId) -> JobRecord {
    let queued_at = fake.now().minus(30 * MINUTE);
    JobRecord {
        job_id,
        access: access(),
        repository: repository(),
        run_id: RunId(1),
        run_attempt: 1,
        labels: vec!["another-label".into()],
        fleet: Some(FleetName::new("linux")),
        phase: JobPhase::Queued,
        next_look: fake.now(),
        launch_count: 0,
        launches: Vec::new(),
        queued_at,
        runner_id: None,
        recorded_at: Some(queued_at),
        given_up_at: None,
        ids: crate::ids::RepositoryIds::default(),
    }
}

/// Nothing follows from anything then, so that nothing is worth a call for each of them; and the switch may stay thrown
/// for days.
#[test]
fn a_thousand_orphans_cost_lists_while_the_kill_switch_is_thrown() {
    let mut lines = Vec::new();
    for (work, make) in kinds_of_orphans() {
        for count in [10, 1_000] {
            let mut estate = Estate::new(count, 0, Supervisors::Silent);
            make(&estate);
            estate.fake.state_mut().kill_switch = Some(KillSwitch::RemovalDisabled);
            assert_eq!(estate.sweep().instance_count, count);
            lines.push(Line { work, count, calls: estate.calls(), github_max: count.div_ceil(100) + 5 });
        }
    }
    check(&lines);
}

#[test]
fn an_hour_of_busy_runners_with_silent_supervisors_costs_the_sweepers_lists() {
    let mut lines = Vec::new();
    for count in SIZES {
        let mut estate = Estate::new(count, 0, Supervisors::Silent);
        for minute in 1..=60 {
            estate.scale_down();
            if minute % 5 == 0 {
                sweep(&estate.fake, &policy()).expect("not killed").expect("no error");
            }
        }
        let work = "an hour, all busy and silent: scale-down and orphan-sweeper";
        // 150 for a thousand; twelve lists, which are fifty pages each with five thousand.
        let github_max = 150.max(12 * count.div_ceil(100) + 30);
        lines.push(Line { work, count, calls: estate.calls(), github_max });
    }
    check(&lines);
}
