//! The rules of design section 8, and what the real listener does on its own.

use super::*;

const NOW: Millis = 1_800_000_000_000; // 2027-01-15T08:00:00Z
const RUNNER: u64 = 7;

fn settings() -> SupervisorSettings {
    SupervisorSettings::default()
}

fn job() -> Job {
    Job { job_id: 42, duration_ms: 90_000, conclusion: "success".into() }
}

/// What an instance did, vital signs and looks at the tag left out.
fn acts(machine: &mut Machine, at: Millis, input: Input) -> Vec<Effect> {
    let mut effects = machine.handle(NOW + at, input);
    effects.retain(|effect| !matches!(effect, Effect::WriteVitalSign(_) | Effect::ReadDrainTag));
    effects
}

fn signs(machine: &mut Machine, at: Millis, input: Input) -> Vec<Worker> {
    let sign = |effect| if let Effect::WriteVitalSign(sign) = effect { Some(sign.worker) } else { None };
    machine.handle(NOW + at, input).into_iter().filter_map(sign).collect()
}

fn booted(flaw: Flaw) -> Machine {
    let mut machine = Machine::new(settings(), flaw);
    machine.handle(NOW, Input::Booted);
    machine
}

fn listening(flaw: Flaw) -> Machine {
    let mut machine = booted(flaw);
    machine.handle(NOW, Input::Parameter(Answer::Found(JitConfig::new("secret"))));
    machine.handle(NOW, Input::ParameterDeleted(Answer::Found(())));
    assert_eq!(
        acts(&mut machine, 0, Input::Session(SessionAnswer::Opened { runner_id: RUNNER })),
        [Effect::Poll { runner_id: RUNNER }]
    );
    machine
}

fn acquiring(flaw: Flaw) -> Machine {
    let mut machine = listening(flaw);
    machine.handle(NOW, Input::Polled(PollAnswer::Job(job())));
    machine
}

fn running(flaw: Flaw) -> Machine {
    let mut machine = acquiring(flaw);
    machine.handle(NOW, Input::Acquired(Answer::Found(())));
    machine
}

fn drain_at(time: &str) -> Input {
    Input::DrainTag(Some(format!("2027-01-15T{time}Z")))
}

/// Lets time pass as a front end does, until the instance wants something else than beats and looks.
fn wait(machine: &mut Machine) -> Option<(Millis, Vec<Effect>)> {
    for _ in 0..100_000 {
        let at = machine.next_wake_at()? - NOW;
        let wanted = acts(machine, at, Input::Tick);
        if !wanted.is_empty() {
            return Some((at, wanted));
        }
    }
    panic!("nothing but beats");
}

fn off(reason: Reason) -> Vec<Effect> {
    vec![Effect::StopListener, Effect::PowerOff(reason)]
}

#[test]
fn a_good_life_is_one_job_and_power_off() {
    let mut machine = Machine::new(settings(), Flaw::None);
    assert_eq!(acts(&mut machine, 0, Input::Booted), [Effect::FetchParameter]);
    assert_eq!(acts(&mut machine, 10, Input::Parameter(Answer::Absent)), []);
    assert_eq!(wait(&mut machine), Some((5_010, vec![Effect::FetchParameter])));
    let jit_config = JitConfig::new("secret");
    assert_eq!(
        acts(&mut machine, 5_010, Input::Parameter(Answer::Found(jit_config.clone()))),
        [Effect::DeleteParameter, Effect::OpenSession { jit_config }],
    );
    assert!(!format!("{machine:?}").contains("secret"));
    acts(&mut machine, 5_020, Input::ParameterDeleted(Answer::Found(())));
    acts(&mut machine, 5_020, Input::Session(SessionAnswer::Opened { runner_id: RUNNER }));
    assert_eq!(acts(&mut machine, 6_000, Input::Polled(PollAnswer::Nothing)), [Effect::Poll { runner_id: RUNNER }]);
    assert_eq!(
        acts(&mut machine, 7_000, Input::Polled(PollAnswer::Job(job()))),
        [Effect::Acquire { runner_id: RUNNER, job_id: 42 }]
    );
    assert_eq!(acts(&mut machine, 8_000, Input::Acquired(Answer::Found(()))), [Effect::Poll { runner_id: RUNNER }]);
    assert_eq!(wait(&mut machine), Some((68_000, vec![Effect::Renew { runner_id: RUNNER, job_id: 42 }])));
    let complete = Effect::Complete { runner_id: RUNNER, job_id: 42, conclusion: "success".into() };
    assert_eq!(wait(&mut machine), Some((98_000, vec![complete.clone()])));
    acts(&mut machine, 98_100, Input::Completed(Answer::Failed));
    assert_eq!(wait(&mut machine), Some((103_100, vec![complete])), "a report that failed is made again");
    assert_eq!(
        acts(&mut machine, 103_200, Input::Completed(Answer::Found(()))),
        [Effect::PowerOff(Reason::ListenerEnded)]
    );
    assert!(machine.is_off());
    assert_eq!(machine.next_wake_at(), None);
}

#[test]
fn a_drain_stops_an_instance_only_when_nothing_occupies_it() {
    let fresh = || drain_at("08:00:00");
    for (case, mut machine, input, expected) in [
        ("an idle listener is stopped", listening(Flaw::None), fresh(), off(Reason::Drained)),
        ("one that has no configuration yet too", booted(Flaw::None), fresh(), off(Reason::Drained)),
        ("an acquisition keeps it", acquiring(Flaw::None), fresh(), vec![]),
        ("a worker keeps it", running(Flaw::None), fresh(), vec![]),
        ("an old request is ignored", listening(Flaw::None), drain_at("07:44:59"), vec![]),
        ("no tag is no request", listening(Flaw::None), Input::DrainTag(None), vec![]),
        ("a dead supervisor hears nothing", listening(Flaw::SupervisorDead), fresh(), vec![]),
    ] {
        assert_eq!(acts(&mut machine, 1_000, input), expected, "{case}");
    }
}

#[test]
fn a_request_that_found_a_job_is_spent() {
    let mut machine = acquiring(Flaw::None);
    assert_eq!(acts(&mut machine, 0, drain_at("08:00:00")), []);
    acts(&mut machine, 0, Input::Acquired(Answer::Absent));
    assert_eq!(acts(&mut machine, 0, drain_at("08:00:00")), [], "the same value again");
}

#[test]
fn a_request_that_met_a_session_being_opened_is_decided_when_it_is_open() {
    let mut machine = booted(Flaw::None);
    machine.handle(NOW, Input::Parameter(Answer::Found(JitConfig::new("secret"))));
    assert_eq!(acts(&mut machine, 0, drain_at("08:00:00")), []);
    let opened = acts(&mut machine, 100, Input::Session(SessionAnswer::Opened { runner_id: RUNNER }));
    assert_eq!(opened[1..], off(Reason::Drained));
}

#[test]
fn an_acquisition_without_an_answer_is_given_up_when_github_has() {
    let mut machine = acquiring(Flaw::None);
    assert_eq!(wait(&mut machine), Some((900_000, off(Reason::WorkerWatchdog))));
}

#[test]
fn an_answer_after_the_stop_starts_nothing() {
    let mut machine = listening(Flaw::None);
    acts(&mut machine, 0, drain_at("08:00:00"));
    assert_eq!(machine.handle(NOW + 1, Input::Polled(PollAnswer::Job(job()))), []);
    assert_eq!(machine.handle(NOW + 1, drain_at("08:00:01")), []);
    assert_eq!(machine.next_wake_at(), None);
}

#[test]
fn the_supervisor_bounds_every_wait() {
    let refused = || {
        let mut machine = acquiring(Flaw::None);
        acts(&mut machine, 0, Input::Acquired(Answer::Absent));
        machine
    };
    let ghost = acquiring(Flaw::Ghost);
    for (case, mut machine, at, reason) in [
        ("no session by the boot deadline", booted(Flaw::None), 600_000, Reason::BootDeadline),
        ("idle for the maximum", listening(Flaw::None), 3_600_000, Reason::IdleMaximum),
        ("a refused acquisition", refused(), 180_000, Reason::AcquireWatchdog),
        ("a ghost", ghost, 180_000, Reason::AcquireWatchdog),
    ] {
        assert_eq!(wait(&mut machine), Some((at, off(reason))), "{case}");
    }
    let mut worker = running(Flaw::None);
    assert!(acts(&mut worker, 4_000_000, Input::Tick).iter().all(|e| !matches!(e, Effect::PowerOff(_))));
}

#[test]
fn a_lost_registration_ends_the_listener_and_cancels_its_job() {
    let gone = || Input::Polled(PollAnswer::RunnerNotFound);
    for (case, mut machine, expected) in [
        ("idle", listening(Flaw::None), vec![Effect::PowerOff(Reason::ListenerEnded)]),
        (
            "in mid-job",
            running(Flaw::None),
            vec![Effect::CancelJob { job_id: 42 }, Effect::PowerOff(Reason::ListenerEnded)],
        ),
        (
            "with a dead supervisor the instance stays",
            running(Flaw::SupervisorDead),
            vec![Effect::CancelJob { job_id: 42 }],
        ),
    ] {
        assert_eq!(acts(&mut machine, 1_000, gone()), expected, "{case}");
    }
    let mut given_up = running(Flaw::None);
    assert_eq!(acts(&mut given_up, 0, Input::Renewed(Answer::Absent))[0], Effect::CancelJob { job_id: 42 });
}

#[test]
fn a_dead_supervisor_works_and_never_leaves() {
    let mut machine = running(Flaw::SupervisorDead);
    let (at, wanted) = wait(&mut machine).unwrap();
    assert!(matches!(wanted[0], Effect::Renew { .. }), "{wanted:?}");
    assert!(matches!(wait(&mut machine).unwrap().1[0], Effect::Complete { .. }));
    assert_eq!(machine.handle(NOW + at + 40_000, Input::Completed(Answer::Found(()))), []);
    assert_eq!((machine.next_wake_at(), machine.is_off()), (None, false));
}

#[test]
fn an_instance_that_never_registers_does_nothing_at_all() {
    let mut machine = Machine::new(settings(), Flaw::NeverRegisters);
    assert_eq!(machine.handle(NOW, Input::Booted), []);
    assert_eq!(machine.next_wake_at(), None);
}

#[test]
fn vital_signs_beat_and_change_with_the_worker() {
    let mut machine = listening(Flaw::None);
    assert_eq!(signs(&mut machine, 60_000, Input::Tick), [Worker::None], "a beat a minute");
    assert_eq!(signs(&mut machine, 60_100, Input::Polled(PollAnswer::Nothing)), []);
    let mut effects = machine.handle(NOW + 61_000, Input::Polled(PollAnswer::Job(job())));
    let first = effects.remove(0);
    assert!(
        matches!(first, Effect::WriteVitalSign(VitalSign { worker: Worker::Acquiring, .. })),
        "the veto comes first"
    );
    assert_eq!(signs(&mut machine, 61_100, Input::Acquired(Answer::Found(()))), [Worker::Running]);
    assert_eq!(signs(&mut machine, 61_200, drain_at("08:01:00")), [Worker::Running], "an answer to the drain");
}

#[test]
fn failed_requests_are_made_again() {
    let retried = |mut machine: Machine, failed: Input| {
        assert_eq!(acts(&mut machine, 0, failed), []);
        wait(&mut machine).unwrap()
    };
    let mut connecting = booted(Flaw::None);
    connecting.handle(NOW, Input::Parameter(Answer::Found(JitConfig::new("s"))));
    let again = |effect| (5_000, vec![effect]);
    for (case, machine, failed, expected) in [
        ("the parameter", booted(Flaw::None), Input::Parameter(Answer::Failed), Effect::FetchParameter),
        ("its deletion", connecting.clone(), Input::ParameterDeleted(Answer::Failed), Effect::DeleteParameter),
        (
            "a session in conflict",
            connecting,
            Input::Session(SessionAnswer::Conflict),
            Effect::OpenSession { jit_config: JitConfig::new("s") },
        ),
        ("a poll", listening(Flaw::None), Input::Polled(PollAnswer::Failed), Effect::Poll { runner_id: RUNNER }),
        (
            "an acquisition",
            acquiring(Flaw::None),
            Input::Acquired(Answer::Failed),
            Effect::Acquire { runner_id: RUNNER, job_id: 42 },
        ),
    ] {
        assert_eq!(retried(machine, failed), again(expected), "{case}");
    }
}
