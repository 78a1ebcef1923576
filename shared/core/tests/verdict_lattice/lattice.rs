//! The lattice whole: 36,734,808 combinations in 20 [`regions`], each drawn twice. 27.7 million of them took 10 s of
//! processor time on a machine that others used as well, so that all take about 7 s on two cores.
//!
//! Ownership is crossed with everything: each combination is decided upon as foreign and as bypassed as well.
//!
//! What holds of every combination:
//! - A sign of life that is added never leaves or makes an act: each of seven is tried on every act, and one in turn on
//!   everything else. Excepted are rows 2, 4 and 25: GitHub itself has given up a job of that age, and nothing executes
//!   on a stopped or terminated instance. On one that listings merely missed, something may.
//! - Without our tag it is kept.
//! - Unknown never acts: without a reading that the act needs, or with one that is too old, there is no act; without any
//!   other reading it is the same act ([`Reading::is_needed_by`]). The hard age needs nothing but the record.
//! - Planning twice over unchanged facts plans nothing more.

use super::axes::*;
use super::regions::{Region, every_combination, regions_of_the_living, regions_of_the_others};
use super::*;

/// What a destructive verdict rests on: it says which readings it cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rest {
    HardAge,
    Stopped,
    /// EC2 shows it as terminated.
    Gone,
    /// Listings missed it.
    Missed,
    /// The only job is over.
    Completed,
    /// The same, and GitHub holds the runner of the lost machine busy (row 7).
    LostMachine,
    /// An absence or a flag.
    Idleness,
}

impl Rest {
    fn of(verdict: Verdict, evidence: &Evidence) -> Option<Self> {
        match verdict.action {
            Action::Terminate(Ground::HardAge) => Some(Self::HardAge),
            Action::Terminate(Ground::Stopped) | Action::Deregister(_, DeregistrationGround::Stopped) => {
                Some(Self::Stopped)
            }
            Action::Deregister(_, DeregistrationGround::InstanceGone) => {
                let missed = evidence.known_record().is_some_and(|record| record.missing_since.is_some());
                Some(if missed { Self::Missed } else { Self::Gone })
            }
            Action::Terminate(Ground::JobCompleted) if is_busy_and_offline(&evidence.registration) => {
                Some(Self::LostMachine)
            }
            Action::Terminate(Ground::JobCompleted) | Action::Deregister(_, DeregistrationGround::JobCompleted) => {
                Some(Self::Completed)
            }
            Action::Terminate(Ground::IdleAfterDeregistration | Ground::NeverConnected | Ground::RegistrationGone)
            | Action::Deregister(
                _,
                DeregistrationGround::Idle | DeregistrationGround::NeverConnected | DeregistrationGround::Offline,
            ) => Some(Self::Idleness),
            Action::Keep | Action::Look(_) | Action::Note(_) | Action::Rebuild | Action::Drain | Action::CleanUp => {
                None
            }
        }
    }
}

fn is_busy_and_offline(registration: &RegistrationEvidence) -> bool {
    matches!(registration, RegistrationEvidence::Present(runner) if runner.busy && !runner.online)
}

/// A reading that an act may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Record,
    Registration,
    VitalSign,
    Control,
    Runner,
    Deliveries,
    Jobs,
    AssignedJob,
}

impl Reading {
    /// Whether an act that rests on this needs it. Nobody is asked about the hard age, nothing executes on a stopped or
    /// terminated instance, whose only job is over has no other, and the jobs API is asked about a job that is over
    /// only where GitHub says busy.
    fn is_needed_by(self, rest: Rest) -> bool {
        match (self, rest) {
            (Self::Record, _) => true,
            (_, Rest::HardAge) => false,
            (Self::Registration | Self::Control | Self::Runner, _) => true,
            (_, Rest::Stopped | Rest::Gone) => false,
            (Self::VitalSign | Self::Deliveries, _) => true,
            (Self::Jobs, rest) => matches!(rest, Rest::Missed | Rest::Idleness),
            (Self::AssignedJob, rest) => rest == Rest::LostMachine,
        }
    }
}

type Change = fn(&mut Evidence);

/// The fields that a change can put back by copying.
#[derive(Clone, Copy)]
struct Copied {
    ownership: Ownership,
    vital_sign: VitalEvidence,
    control: PositiveControl,
    heard: Heard,
    deliveries: DeliveryEvidence,
    rechecked_at: Timestamp,
    jobs: JobsEvidence,
    assigned_job: AssignedJob,
}

impl Copied {
    fn of(evidence: &Evidence) -> Self {
        Self {
            ownership: evidence.ownership,
            vital_sign: evidence.vital_sign,
            control: evidence.control,
            heard: evidence.heard,
            deliveries: evidence.deliveries,
            rechecked_at: evidence.rechecked_at,
            jobs: evidence.jobs,
            assigned_job: evidence.assigned_job,
        }
    }

    fn put_back(self, evidence: &mut Evidence) {
        evidence.ownership = self.ownership;
        evidence.vital_sign = self.vital_sign;
        evidence.control = self.control;
        evidence.heard = self.heard;
        evidence.deliveries = self.deliveries;
        evidence.rechecked_at = self.rechecked_at;
        evidence.jobs = self.jobs;
        evidence.assigned_job = self.assigned_job;
    }
}

/// Decides with fields changed that are copied, and puts them back.
fn changed(evidence: &mut Evidence, policy: &Policy, change: Change) -> Verdict {
    let before = Copied::of(evidence);
    change(evidence);
    let verdict = decide(evidence, policy, NOW);
    before.put_back(evidence);
    verdict
}

/// Every way in which a reading that is copied can be unknown or too old.
const UNKNOWNS: [(Reading, Change); 14] = [
    (Reading::VitalSign, |e| e.vital_sign = VitalEvidence::Unread),
    (Reading::Control, |e| e.control = PositiveControl::NotAsked),
    (Reading::Control, |e| e.control = PositiveControl::Unanswered),
    (Reading::Control, |e| e.control = PositiveControl::Denied),
    (Reading::Control, |e| e.control = PositiveControl::MassAbsence),
    (Reading::Runner, |e| e.heard.from = Witness::List),
    (Reading::Runner, |e| e.heard.at = NOW.minus(Duration::from_secs(300))),
    (Reading::Deliveries, |e| e.deliveries = DeliveryEvidence::NotAsked),
    (Reading::Deliveries, |e| e.deliveries = DeliveryEvidence::Unsettled),
    (Reading::Deliveries, |e| e.rechecked_at = NOW.minus(Duration::from_secs(300))),
    (Reading::Jobs, |e| e.jobs = JobsEvidence::NotAsked),
    (Reading::Jobs, |e| e.jobs = JobsEvidence::Unread),
    (Reading::AssignedJob, |e| e.assigned_job = AssignedJob::NotAsked),
    (Reading::AssignedJob, |e| e.assigned_job = AssignedJob::Unread),
];

/// Unknown never acts: without a reading that the act needs there is none, and without one that it does not need it is
/// the same.
fn check_unknowns(evidence: &mut Evidence, policy: &Policy, act: Verdict, rest: Rest) {
    let check = |reading: Reading, then: Verdict| {
        if reading.is_needed_by(rest) {
            assert!(!is_destructive(then), "{rest:?} without {reading:?}: {then:?}");
        } else {
            assert_eq!(then.action, act.action, "{rest:?} without {reading:?}");
        }
    };
    for (reading, unknown) in UNKNOWNS {
        check(reading, changed(evidence, policy, unknown));
    }
    for unknown in [RegistrationEvidence::NotAsked, RegistrationEvidence::Unread, RegistrationEvidence::Denied] {
        let before = std::mem::replace(&mut evidence.registration, unknown);
        check(Reading::Registration, decide(evidence, policy, NOW));
        evidence.registration = before;
    }
    for unknown in [RecordEvidence::Unread, RecordEvidence::Absent, RecordEvidence::Foreign] {
        let before = std::mem::replace(&mut evidence.record, unknown);
        check(Reading::Record, decide(evidence, policy, NOW));
        evidence.record = before;
    }
}

/// Planning twice over unchanged facts plans nothing more: the intent, which is stored before the act, stops it.
fn check_once_more(evidence: &mut Evidence, policy: &Policy, act: Verdict) {
    let RecordEvidence::Present(record) = &mut evidence.record else { panic!("an act without a record") };
    let record = &mut record.record;
    let before = (record.terminate_intent, record.deregister_intent);
    match act.action {
        Action::Terminate(ground) => record.terminate_intent = Some(RemovalIntent { at: NOW, ground }),
        Action::Deregister(_, ground) => record.deregister_intent = Some(RemovalIntent { at: NOW, ground }),
        Action::Keep | Action::Look(_) | Action::Note(_) | Action::Rebuild | Action::Drain | Action::CleanUp => {
            panic!("{act:?} is no act")
        }
    }
    let again = decide(evidence, policy, NOW);
    let RecordEvidence::Present(record) = &mut evidence.record else { panic!("an act without a record") };
    (record.record.terminate_intent, record.record.deregister_intent) = before;
    assert!(!is_destructive(again), "{act:?}, and once more {again:?}");
}

/// Signs of life, one of which is added to each combination, in turn.
const SIGNS: usize = 7;

/// The verdict with that sign of life added; `None` where there is nothing to add it to.
fn with_a_sign(evidence: &mut Evidence, policy: &Policy, sign: usize) -> Option<Verdict> {
    match (sign, &mut evidence.registration, &mut evidence.record) {
        (0, _, _) => Some(changed(evidence, policy, |e| {
            e.vital_sign = VitalEvidence::Sign(VitalSign { beat_at: LONG_AGO, worker: Worker::Running });
        })),
        (1, _, _) => Some(changed(evidence, policy, |e| {
            e.vital_sign = VitalEvidence::Sign(VitalSign { beat_at: LONG_AGO, worker: Worker::Acquiring });
        })),
        (2, _, _) => Some(changed(evidence, policy, |e| {
            e.vital_sign = VitalEvidence::Sign(VitalSign { beat_at: JUST_NOW, worker: Worker::None });
        })),
        (3, _, _) => Some(changed(evidence, policy, |e| e.jobs = JobsEvidence::OnRunner(JobId(9)))),
        (4, RegistrationEvidence::Present(runner), _) => {
            let before = (runner.online, runner.busy);
            (runner.online, runner.busy) = (true, true);
            let verdict = decide(evidence, policy, NOW);
            if let RegistrationEvidence::Present(runner) = &mut evidence.registration {
                (runner.online, runner.busy) = before;
            }
            Some(verdict)
        }
        (5, _, RecordEvidence::Present(record)) => {
            let before = record.record.busy_seen_at.replace(NOW);
            let verdict = decide(evidence, policy, NOW);
            if let RecordEvidence::Present(record) = &mut evidence.record {
                record.record.busy_seen_at = before;
            }
            Some(verdict)
        }
        (6, _, RecordEvidence::Present(record)) => {
            let job = started(Some(RunnerId(7)));
            let before = (record.record.job_started.replace(job), record.record.job_completed.take());
            let verdict = decide(evidence, policy, NOW);
            if let RecordEvidence::Present(record) = &mut evidence.record {
                (record.record.job_started, record.record.job_completed) = before;
            }
            Some(verdict)
        }
        (4..=6, _, _) => None,
        (other, _, _) => panic!("there is no sign {other}"),
    }
}

/// Whether anything that was read speaks for a job, told without `decide`.
fn shows_life(evidence: &Evidence) -> bool {
    let record = evidence.known_record().expect("a destructive verdict needs a record");
    let over = record
        .job_completed
        .as_ref()
        .is_some_and(|done| done.at != JUST_NOW && record.busy_seen_at.is_none_or(|busy| busy <= done.at));
    let job = record.has_job_evidence() && !over;
    let instance = match evidence.vital_sign {
        VitalEvidence::Unread => true,
        VitalEvidence::Never => evidence.instance.launched_at == Age::Young.launched_at(),
        VitalEvidence::Sign(sign) => sign.worker != Worker::None || sign.beat_at == JUST_NOW,
    };
    let github = match &evidence.registration {
        RegistrationEvidence::NotAsked | RegistrationEvidence::Unread | RegistrationEvidence::Denied => true,
        RegistrationEvidence::Absent => false,
        // Row 7: a machine lost in mid-job stays busy at GitHub; the jobs API has said that the job is over.
        RegistrationEvidence::Present(runner) => {
            let lost = !runner.online && over && evidence.assigned_job == AssignedJob::Completed;
            (runner.busy && !lost) || runner.name != record.runner_name || runner.ephemeral == Some(false)
        }
    };
    let in_jobs = matches!(evidence.jobs, JobsEvidence::OnRunner(_));
    job || instance || github || in_jobs
}

/// Positive control, and the runner read by itself a short while ago.
fn is_controlled(evidence: &Evidence) -> bool {
    matches!(evidence.control, PositiveControl::Held | PositiveControl::Cautious)
        && evidence.heard.from == Witness::Runner
        && NOW.since(evidence.heard.at) < Duration::from_secs(300)
}

fn is_settled(evidence: &Evidence) -> bool {
    evidence.deliveries == DeliveryEvidence::Settled && NOW.since(evidence.rechecked_at) < Duration::from_secs(300)
}

/// What a destructive verdict may rest on, told without `decide`.
fn check_act(evidence: &Evidence, act: Verdict, rest: Rest) {
    let record = evidence.known_record().expect("a destructive verdict needs a record");
    let state = evidence.instance.state;
    let rebuilt = record.origin != Origin::Launch;
    match rest {
        Rest::HardAge => {
            assert!(is_past_hard_age(record));
            assert!(!matches!(state, InstanceState::ShuttingDown | InstanceState::Terminated));
            return;
        }
        Rest::Stopped => {
            assert_eq!(state, InstanceState::Stopped);
            assert!(record.stopped_since.is_some_and(|since| since != JUST_NOW));
        }
        Rest::Gone => assert_eq!(state, InstanceState::Terminated),
        Rest::Missed => {
            assert_eq!(state, InstanceState::Terminated);
            let online = matches!(&evidence.registration, RegistrationEvidence::Present(runner) if runner.online);
            let busy = matches!(&evidence.registration, RegistrationEvidence::Present(runner) if runner.busy);
            let open = record.has_job_evidence() && record.job_completed.is_none();
            let worker = matches!(evidence.vital_sign, VitalEvidence::Sign(sign)
                if sign.worker != Worker::None || Some(sign.beat_at) >= record.missing_since);
            assert!(!online && !busy && !open && !worker && evidence.vital_sign != VitalEvidence::Unread);
            assert!(is_settled(evidence) && evidence.jobs == JobsEvidence::NoneOnRunner);
        }
        Rest::Completed | Rest::LostMachine | Rest::Idleness => {
            assert!(matches!(state, InstanceState::Pending | InstanceState::Running));
            assert!(!shows_life(evidence) && is_settled(evidence));
            assert!(rest != Rest::Idleness || evidence.jobs == JobsEvidence::NoneOnRunner);
            let by_absence = act.action == Action::Terminate(Ground::RegistrationGone);
            assert!(!rebuilt || record.job_completed.is_some() || (record.deregistered_at.is_some() && !by_absence));
        }
    }
    assert!(is_controlled(evidence));
}

/// The acts that were met, and how many combinations there were.
#[derive(Default)]
struct Seen {
    acts: BTreeMap<(Rest, String), usize>,
    combinations: usize,
}

/// Checks one combination, drawn twice.
fn check(region: &Region, pair: &mut [Evidence; 2], policy: &Policy, seen: &mut Seen) {
    seen.combinations += 1;
    let verdict = decide(&pair[0], policy, NOW);
    let other = decide(&pair[1], policy, NOW);
    // What is not crossed in this region is not read in it.
    assert_eq!((verdict.action, verdict.reason), (other.action, other.reason));
    assert_eq!(verdict.action == Action::Keep, !verdict.vetoes.is_empty());
    let evidence = &mut pair[0];
    let foreign = changed(evidence, policy, |e| e.ownership = Ownership::Foreign);
    assert!(foreign.action == Action::Keep && foreign.vetoes.contains(Veto::Ownership), "{foreign:?}");
    let bypassed = changed(evidence, policy, |e| e.ownership = Ownership::Bypassed);
    match bypassed.action {
        Action::Keep => assert!(bypassed.vetoes.contains(Veto::Ownership)),
        // It is listed, so it is not gone: our own record is set right, and nothing else.
        Action::Note(Note::Seen) => {}
        Action::Look(_)
        | Action::Note(_)
        | Action::Rebuild
        | Action::Drain
        | Action::Deregister(_, _)
        | Action::Terminate(_)
        | Action::CleanUp => panic!("bypassed: {bypassed:?}"),
    }
    if let Some(rest) = Rest::of(verdict, evidence) {
        *seen.acts.entry((rest, format!("{:?}", verdict.action))).or_default() += 1;
        check_act(&pair[1], other, rest);
        let evidence = &mut pair[0];
        check_act(evidence, verdict, rest);
        check_unknowns(evidence, policy, verdict, rest);
        check_once_more(evidence, policy, verdict);
        for sign in 0..SIGNS {
            check_sign(region, evidence, policy, sign);
        }
    } else {
        check_sign(region, evidence, policy, seen.combinations % SIGNS);
    }
}

fn check_sign(region: &Region, evidence: &mut Evidence, policy: &Policy, sign: usize) {
    if region.executes.on(evidence) {
        let lively = with_a_sign(evidence, policy, sign);
        assert!(!lively.is_some_and(is_destructive), "sign {sign} added: {lively:?}");
    }
}

/// Half of a region's lives, and what is met in it.
fn check_half(region: &Region, lives: &[Vec<Life>], policy: &Policy) -> Seen {
    let mut seen = Seen::default();
    every_combination(region, lives, |pair| {
        check(region, pair, policy, &mut seen);
    });
    seen
}

/// How many combinations there are; an axis that grows or shrinks must be meant.
const COMBINATIONS: usize = 36_734_808;

#[test]
fn every_combination_is_concluded_upon_as_promised() {
    let policy = policy();
    let regions: Vec<Region> = regions_of_the_living().into_iter().chain(regions_of_the_others()).collect();
    let mut acts = BTreeMap::<(Rest, String), usize>::new();
    let mut combinations = 0;
    for region in &regions {
        let halves = region.lives.chunks(region.lives.len().div_ceil(2));
        let seen: Vec<Seen> = std::thread::scope(|scope| {
            let policy = &policy;
            let halves: Vec<_> = halves.map(|half| scope.spawn(move || check_half(region, half, policy))).collect();
            halves.into_iter().map(|half| half.join().unwrap_or_else(|_| panic!("in {}", region.name))).collect()
        });
        let of_region: usize = seen.iter().map(|seen| seen.combinations).sum();
        assert_eq!(of_region, region.combinations(), "{}", region.name);
        combinations += of_region;
        for (act, count) in seen.into_iter().flat_map(|seen| seen.acts) {
            *acts.entry(act).or_default() += count;
        }
    }
    let met: Vec<String> = acts.keys().map(|(rest, act)| format!("{rest:?}: {act}")).collect();
    let expected = [
        "HardAge: Terminate(HardAge)",
        "Stopped: Deregister(RunnerId(7), Stopped)",
        "Stopped: Terminate(Stopped)",
        "Gone: Deregister(RunnerId(7), InstanceGone)",
        "Missed: Deregister(RunnerId(7), InstanceGone)",
        "Completed: Deregister(RunnerId(7), JobCompleted)",
        "Completed: Terminate(JobCompleted)",
        "LostMachine: Terminate(JobCompleted)",
        "Idleness: Deregister(RunnerId(7), Idle)",
        "Idleness: Deregister(RunnerId(7), NeverConnected)",
        "Idleness: Deregister(RunnerId(7), Offline)",
        "Idleness: Terminate(IdleAfterDeregistration)",
        "Idleness: Terminate(NeverConnected)",
        "Idleness: Terminate(RegistrationGone)",
    ];
    assert_eq!(met, expected, "every ground is met, and no other");
    assert_eq!(combinations, COMBINATIONS);
}
