//! Every combination of what a look can show, through [`decide`].

use runner_supervisor_decision::{
    Decision, Drain, Facts, Grip, Limits, Listener, Millis, Reason, Registration, Verdict, Veto, Work, decide,
};
use std::collections::BTreeMap;

const LIMITS: Limits = Limits {
    boot_deadline_ms: 600,
    idle_maximum_ms: 3_600,
    acquire_watchdog_ms: 180,
    worker_watchdog_ms: 900,
    restless_maximum_ms: 60,
    hard_age_ms: 439_200,
};

const BOOTED_AT: Millis = 1_000;

/// The instances' ages: both sides of every limit.
fn ages() -> Vec<Millis> {
    let limits = [
        LIMITS.boot_deadline_ms,
        LIMITS.idle_maximum_ms,
        LIMITS.acquire_watchdog_ms,
        LIMITS.worker_watchdog_ms,
        LIMITS.restless_maximum_ms,
        LIMITS.idle_maximum_ms + LIMITS.hard_age_ms,
        LIMITS.idle_maximum_ms + 2_000 + LIMITS.hard_age_ms,
    ];
    limits.iter().flat_map(|limit| [limit - 1, *limit]).chain([0]).collect()
}

fn lattice() -> Vec<Facts> {
    let mut all = Vec::new();
    for age in ages() {
        // What began, began with the boot, a while ago, or just now.
        let begun = [BOOTED_AT, BOOTED_AT + age / 2, BOOTED_AT + age];
        let listeners = [Listener::NeverStarted, Listener::OfEarlierBoot, Listener::Ended, Listener::Unread];
        let listeners = listeners.into_iter().chain(begun.map(|idle_since| Listener::Runs { idle_since }));
        for listener in listeners {
            let works = [Work::None, Work::Worker, Work::Unread].into_iter();
            let works = works.chain(begun.map(|at| Work::Acknowledged { at }));
            let works = works.chain(begun.map(|at| Work::Acquired { at }));
            let works = works.chain(begun.map(|since| Work::Restless { since }));
            for work in works {
                for registration in [Registration::Standing, Registration::Gone] {
                    for drain in [Drain::NotAsked, Drain::Requested] {
                        for grip in [Grip::Loose, Grip::Frozen, Grip::Failed] {
                            for job_started_at in [None, Some(BOOTED_AT), Some(BOOTED_AT + 5_600)] {
                                all.push(Facts {
                                    now: BOOTED_AT + age,
                                    booted_at: BOOTED_AT,
                                    listener,
                                    work,
                                    registration,
                                    drain,
                                    grip,
                                    job_started_at,
                                });
                            }
                        }
                    }
                }
            }
        }
    }
    all
}

fn hard_age_at(facts: &Facts) -> Millis {
    let idle_at_most = BOOTED_AT + LIMITS.idle_maximum_ms;
    facts.job_started_at.map_or(idle_at_most, |at| at.max(idle_at_most)) + LIMITS.hard_age_ms
}

fn ends(verdict: Verdict) -> Option<Reason> {
    match verdict {
        Verdict::Keep(_) => None,
        Verdict::Freeze(reason) | Verdict::Kill(reason) | Verdict::PowerOff(reason) => Some(reason),
    }
}

/// One rule of the promise: what is wrong with the decision, if anything.
type Rule = fn(&Facts, &Decision) -> Option<&'static str>;

const RULES: [Rule; 9] = [
    |facts, decision| {
        let at_work = matches!(facts.work, Work::Worker | Work::Unread);
        (at_work && facts.now < hard_age_at(facts) && ends(decision.verdict).is_some()).then_some("a worker was ended")
    },
    |facts, decision| {
        let young = match facts.work {
            Work::Acknowledged { at } => facts.now < at + LIMITS.acquire_watchdog_ms,
            Work::Acquired { at } => facts.now < at + LIMITS.worker_watchdog_ms,
            Work::None | Work::Restless { .. } | Work::Worker | Work::Unread => false,
        };
        let runs = matches!(facts.listener, Listener::Runs { .. } | Listener::Unread);
        (young && runs && ends(decision.verdict).is_some() && facts.now < hard_age_at(facts))
            .then_some("an acquisition was ended")
    },
    |facts, decision| {
        (matches!(decision.verdict, Verdict::Kill(_)) && facts.grip != Grip::Frozen).then_some("killed while it ran")
    },
    |facts, decision| {
        let runs = matches!(facts.listener, Listener::Runs { .. } | Listener::Unread);
        let off = matches!(decision.verdict, Verdict::PowerOff(_));
        (runs && off && facts.now < hard_age_at(facts)).then_some("power off under a running listener")
    },
    |facts, decision| {
        (facts.listener == Listener::Unread && facts.now < hard_age_at(facts) && ends(decision.verdict).is_some())
            .then_some("ended what was not read")
    },
    |facts, decision| {
        (hard_age_at(facts) <= facts.now && decision.verdict != Verdict::PowerOff(Reason::HardAge))
            .then_some("outlived the hard age")
    },
    |facts, decision| {
        // No keep is for ever: time alone leads to a later look, at the latest at the hard age.
        match (decision.verdict, decision.look_at) {
            (Verdict::Keep(_), Some(at)) => (at <= facts.now || hard_age_at(facts) < at).then_some("looks too late"),
            (Verdict::Keep(_), None) => Some("kept without a next look"),
            (Verdict::Freeze(_) | Verdict::Kill(_) | Verdict::PowerOff(_), Some(_)) => Some("a final verdict looks on"),
            (Verdict::Freeze(_) | Verdict::Kill(_) | Verdict::PowerOff(_), None) => None,
        }
    },
    |facts, decision| {
        let asked = facts.drain == Drain::Requested && facts.grip != Grip::Failed;
        let idle = facts.work == Work::None && matches!(facts.listener, Listener::Runs { .. } | Listener::NeverStarted);
        (asked && idle && ends(decision.verdict).is_none()).then_some("an idle instance did not hear the drain")
    },
    |facts, decision| {
        // What a drain kept is asked again, unless a job was the answer.
        let job = matches!(facts.work, Work::Worker | Work::Acknowledged { .. } | Work::Acquired { .. });
        match decision.verdict {
            Verdict::Keep(veto) if veto.answers_drain() && !job => Some("a drain was answered without a job"),
            Verdict::Keep(_) | Verdict::Freeze(_) | Verdict::Kill(_) | Verdict::PowerOff(_) => None,
        }
    },
];

#[test]
fn every_combination_keeps_every_rule() {
    let all = lattice();
    assert!(all.len() > 30_000, "{}", all.len());
    for facts in &all {
        let decision = decide(facts, &LIMITS);
        for rule in RULES {
            assert_eq!(rule(facts, &decision), None, "{facts:?} -> {decision:?}");
        }
    }
}

#[test]
fn the_look_that_is_announced_changes_the_verdict_or_the_next_look() {
    for facts in lattice() {
        let Decision { verdict: Verdict::Keep(veto), look_at: Some(at) } = decide(&facts, &LIMITS) else { continue };
        let later = decide(&Facts { now: at, ..facts }, &LIMITS);
        assert!(later.verdict != Verdict::Keep(veto) || later.look_at > Some(at), "{facts:?} -> {veto:?} until {at}");
        let before = decide(&Facts { now: at - 1, ..facts }, &LIMITS);
        assert_eq!(before.verdict, Verdict::Keep(veto), "{facts:?}: changed before {at}");
    }
}

#[test]
fn freezing_changes_nothing_but_what_may_be_done() {
    for facts in lattice() {
        let verdict = |grip| decide(&Facts { grip, ..facts }, &LIMITS).verdict;
        let expected = match verdict(Grip::Loose) {
            Verdict::Freeze(reason) => (Verdict::Kill(reason), Verdict::Keep(Veto::NotFrozen)),
            other @ (Verdict::Keep(_) | Verdict::PowerOff(_)) => (other, other),
            Verdict::Kill(_) => panic!("killed while it ran: {facts:?}"),
        };
        assert_eq!((verdict(Grip::Frozen), verdict(Grip::Failed)), expected, "{facts:?}");
    }
}

#[test]
fn every_verdict_is_some_combinations() {
    let mut counts = BTreeMap::new();
    for facts in lattice() {
        *counts.entry(format!("{:?}", decide(&facts, &LIMITS).verdict)).or_insert(0) += 1;
    }
    let seen: Vec<_> = counts.keys().map(String::as_str).collect();
    assert_eq!(
        seen,
        [
            "Freeze(AcquireWatchdog)",
            "Freeze(Drained)",
            "Freeze(IdleMaximum)",
            "Freeze(RegistrationGone)",
            "Freeze(WorkerWatchdog)",
            "Keep(Acquiring)",
            "Keep(Booting)",
            "Keep(Idle)",
            "Keep(NotFrozen)",
            "Keep(Restless)",
            "Keep(Unread)",
            "Keep(Worker)",
            "Keep(WorkerWithoutListener)",
            "Kill(AcquireWatchdog)",
            "Kill(Drained)",
            "Kill(IdleMaximum)",
            "Kill(RegistrationGone)",
            "Kill(WorkerWatchdog)",
            "PowerOff(BootDeadline)",
            "PowerOff(Drained)",
            "PowerOff(EarlierBoot)",
            "PowerOff(HardAge)",
            "PowerOff(ListenerEnded)",
        ]
    );
}

#[test]
fn the_rules_by_name() {
    let idle = Facts {
        now: BOOTED_AT + 500,
        booted_at: BOOTED_AT,
        listener: Listener::Runs { idle_since: BOOTED_AT + 100 },
        work: Work::None,
        registration: Registration::Standing,
        drain: Drain::NotAsked,
        grip: Grip::Loose,
        job_started_at: None,
    };
    let drained = Facts { drain: Drain::Requested, ..idle };
    let acknowledged = |at| Facts { work: Work::Acknowledged { at }, ..drained };
    let listener = |listener| Facts { listener, ..idle };
    for (case, facts, expected) in [
        ("an idle listener waits", idle, Verdict::Keep(Veto::Idle)),
        ("a drain freezes it first", drained, Verdict::Freeze(Reason::Drained)),
        ("what is frozen and idle is killed", Facts { grip: Grip::Frozen, ..drained }, Verdict::Kill(Reason::Drained)),
        (
            "a worker that the frozen look found keeps it",
            Facts { grip: Grip::Frozen, work: Work::Worker, ..drained },
            Verdict::Keep(Veto::Worker),
        ),
        ("an acquisition keeps it", acknowledged(BOOTED_AT + 400), Verdict::Keep(Veto::Acquiring)),
        ("a ghost is given up", acknowledged(BOOTED_AT + 320), Verdict::Freeze(Reason::AcquireWatchdog)),
        (
            "an acquired job has more time for its worker",
            Facts { work: Work::Acquired { at: BOOTED_AT + 100 }, ..drained },
            Verdict::Keep(Veto::Acquiring),
        ),
        (
            "unrest delays a drain",
            Facts { work: Work::Restless { since: BOOTED_AT + 450 }, ..drained },
            Verdict::Keep(Veto::Restless),
        ),
        (
            "unrest without end does not",
            Facts { work: Work::Restless { since: BOOTED_AT + 440 }, ..drained },
            Verdict::Freeze(Reason::Drained),
        ),
        ("the listener ended", listener(Listener::Ended), Verdict::PowerOff(Reason::ListenerEnded)),
        (
            "its worker may finish",
            Facts { work: Work::Worker, ..listener(Listener::Ended) },
            Verdict::Keep(Veto::WorkerWithoutListener),
        ),
        ("a second boot", listener(Listener::OfEarlierBoot), Verdict::PowerOff(Reason::EarlierBoot)),
        ("no configuration yet", listener(Listener::NeverStarted), Verdict::Keep(Veto::Booting)),
        (
            "no configuration in time",
            Facts { now: BOOTED_AT + 600, ..listener(Listener::NeverStarted) },
            Verdict::PowerOff(Reason::BootDeadline),
        ),
        (
            "a job moves the hard age",
            Facts {
                now: BOOTED_AT + 3_600 + LIMITS.hard_age_ms,
                work: Work::Worker,
                job_started_at: Some(BOOTED_AT + 3_601),
                ..idle
            },
            Verdict::Keep(Veto::Worker),
        ),
    ] {
        assert_eq!(decide(&facts, &LIMITS).verdict, expected, "{case}");
    }
}
