//! A world right before an act, and what is done to it: for the incidents, the guards, and whoever else begins there.

use std::cell::Cell;
use std::rc::Rc;

use super::*;
use crate::ledger::JobCompleted;
use crate::verdict::Reason;

/// A case, and how it comes about.
pub(super) type Made = (&'static str, fn(&Fake));

/// Where on the road of an idle runner, its supervisor dead, the next pass of scale-down acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    BeforeDelete,
    BeforeTerminate,
}

impl Moment {
    pub(super) const ALL: [Self; 2] = [Self::BeforeDelete, Self::BeforeTerminate];

    /// A world in that moment.
    pub(super) fn reached(self) -> Fake {
        let fake = Fake::new();
        idle_runner(&fake);
        of_our_template(&fake, &id());
        fake.pass(20 * MINUTE);
        let asked = fake.now().minus(6 * MINUTE);
        edit(&fake, &id(), |record| {
            record.idle_since = Some(asked);
            record.idle_seen_at = Some(asked);
            record.drain_requested_at = Some(asked);
        });
        match self {
            Self::BeforeDelete => {}
            Self::BeforeTerminate => {
                down(&fake, &policy());
                assert!(fake.state().runners.is_empty(), "deregistered");
                fake.pass(6 * MINUTE);
            }
        }
        fake
    }
}

/// One guard of removal: a signal that keeps, and the same world without it.
pub(super) struct Guard {
    pub(super) case: &'static str,
    /// Makes the signal; before every minute.
    pub(super) signal: fn(&Fake, &mut Policy),
    /// Takes it away again; `None` where it is remembered for good.
    pub(super) withdraw: Option<fn(&Fake, &mut Policy)>,
    /// Where it speaks, and the reason that the report gives; `None` where the instance is not even judged.
    pub(super) speaks: &'static [(Moment, Option<Reason>)],
}

/// Both directions of each: without the signal the next pass acts; with it no pass does, and the report says why; and
/// where it is withdrawn, the instance is ended after all.
pub(super) fn assert_guards(guards: &[Guard]) {
    for guard in guards {
        for (moment, reason) in guard.speaks {
            let case = format!("{}, {moment:?}", guard.case);
            let free = moment.reached();
            let before = acts(&free);
            down(&free, &policy());
            assert_eq!(acts(&free), before + 1, "{case}: without it the pass acts");

            let fake = moment.reached();
            let mut policy = policy();
            let before = acts(&fake);
            for minute in 0..12 {
                (guard.signal)(&fake, &mut policy);
                let kept = down(&fake, &policy).kept;
                if minute == 0 {
                    assert_eq!(kept.keys().copied().collect::<Vec<_>>(), Vec::from_iter(*reason), "{case}");
                }
                swept(&fake, &policy);
                fake.pass(MINUTE);
            }
            assert_eq!(acts(&fake), before, "{case}: it does not fire");

            if let Some(withdraw) = guard.withdraw {
                withdraw(&fake, &mut policy);
                let ended = (0..120).any(|_| {
                    minutes(&fake, &policy, 1);
                    !fake.state().terminated.is_empty()
                });
                assert!(ended, "{case}: withdrawn, and a leak: {:?}", record_of(&fake));
            } else {
                minutes(&fake, &policy, 120);
                assert_eq!(acts(&fake), before, "{case}: it was forgotten");
            }
        }
    }
}

/// What a pass reported, whether or not it failed visibly.
fn reported(outcome: Option<Result<Report, FailedPass>>) -> Report {
    match outcome.expect("not killed") {
        Ok(report) => report,
        Err(FailedPass(report)) => *report,
    }
}

/// A pass of scale-down.
pub(super) fn down(fake: &Fake, policy: &Policy) -> Report {
    reported(scale_down(fake, policy))
}

/// A pass of the orphan-sweeper.
pub(super) fn swept(fake: &Fake, policy: &Policy) -> Report {
    reported(sweep(fake, policy))
}

/// So many minutes with a pass of each function.
pub(super) fn minutes(fake: &Fake, policy: &Policy, count: usize) {
    for _ in 0..count {
        tick(fake, policy);
    }
}

/// Calls that destroy something.
pub(super) fn acts(fake: &Fake) -> usize {
    fake.calls_of("Registry::deregister") + fake.calls_of("Compute::terminate")
}

/// Plays, while something happens right after each call that is made meanwhile.
pub(super) fn after_each_call<T>(fake: &Fake, act: impl Fn(&Fake) + 'static, play: impl FnOnce(&Fake) -> T) -> T {
    let (act, playing) = (Rc::new(act), Rc::new(Cell::new(true)));
    for call in 1..=500 {
        let (act, playing) = (act.clone(), playing.clone());
        fake.meanwhile(fake.calls() + call, move |fake| {
            if playing.get() {
                act(fake);
            }
        });
    }
    let outcome = play(fake);
    playing.set(false);
    outcome
}

/// A pass of scale-down, while something happens right after each of its calls.
pub(super) fn down_with(fake: &Fake, act: impl Fn(&Fake) + 'static) -> Report {
    after_each_call(fake, act, |fake| down(fake, &policy()))
}

/// How many calls a pass of scale-down makes in that world.
pub(super) fn calls_of_a_pass(fake: &Fake) -> usize {
    let before = fake.calls();
    down(fake, &policy());
    fake.calls() - before
}

/// Sets or takes away a tag of the one instance.
pub(super) fn tag(fake: &Fake, key: &str, value: Option<&str>) {
    fake.retag(&id(), |tags| {
        match value {
            Some(value) => tags.insert(key.to_owned(), value.to_owned()),
            None => tags.remove(key),
        };
    });
}

pub(super) fn of_our_template(fake: &Fake, id: &InstanceId) {
    fake.retag(id, |tags| {
        tags.insert(crate::evidence::TEMPLATE_TAG.to_owned(), "lt-1".to_owned());
    });
}

/// The instance last spoke so long ago.
pub(super) fn put_sign(fake: &Fake, worker: Worker, ago: Duration) {
    let sign = VitalSign { beat_at: fake.now().minus(ago), worker };
    fake.state_mut().vital_signs.insert(id(), sign);
}

/// Job 1 was queued an hour ago, so that nobody keeps an idle runner for it, and waits as far as the ledger knows; the
/// jobs API says this.
pub(super) fn put_job_that_waits(fake: &Fake, state: JobState, runner_id: Option<u64>) {
    fake.put(&waiting_job(fake.now().minus(HOUR)));
    jobs_api_says(fake, 1, state, runner_id);
}

/// An event of job 1 on the runner that our webhook did not take.
pub(super) fn put_failed_delivery(fake: &Fake, action: &str) {
    let payload = serde_json::json!({
        "action": action,
        "workflow_job": {"id": 1, "run_id": 2, "labels": ["self-hosted", "linux"], "runner_id": 7,
            "runner_name": "runner-i-1"},
        "repository": {"full_name": "octo/hello", "owner": {"login": "octo", "type": "Organization"}},
    });
    let delivery = Delivery {
        id: 1,
        guid: DeliveryGuid::new("guid"),
        delivered_at: fake.now(),
        event: "workflow_job".into(),
        action: Some(action.into()),
        installation_id: None,
    };
    fake.state_mut().deliveries.push((delivery, payload.to_string()));
}

/// The webhook's write: the job of the instance has ended, now.
pub(super) fn job_ends(fake: &Fake) {
    let now = fake.now();
    edit(fake, &id(), |record| {
        record.note_completed(JobCompleted { job_id: JobId(1), at: now }, RunnerId(7));
    });
}

pub(super) fn of_many(number: u64) -> InstanceId {
    InstanceId::new(format!("i-{number:03x}"))
}

/// One of many: an instance of our template, its record and its runner, number + 100, online and idle.
pub(super) fn put_runner_of_many(fake: &Fake, number: u64) {
    let id = of_many(number);
    let name = RunnerName::new(format!("runner-{id}"));
    put_fallen_silent(fake, &id);
    of_our_template(fake, &id);
    let runner_id = RunnerId(number + 100);
    fake.put(&InstanceRecord {
        instance_id: id,
        runner_name: name.clone(),
        runner_id: Some(runner_id),
        ..record(fake)
    });
    fake.put_runner(&access().scope, Runner { id: runner_id, name, ..runner() });
}

/// The webhook's write: a job of its own started on that instance, now.
pub(super) fn job_starts_on(fake: &Fake, id: &InstanceId) {
    let now = fake.now();
    edit(fake, id, |record| {
        let job_id = JobId(record.runner_id.expect("registered").0);
        record.note_started(JobStarted { job_id, at: now, runner_id: record.runner_id, ..started() });
    });
}

/// EC2 is done with the instances that were ended.
pub(super) fn bury(fake: &Fake) {
    let ended: Vec<InstanceId> = fake.state().terminated.iter().map(|(id, _)| id.clone()).collect();
    for id in ended {
        fake.set_instance_state(&id, InstanceState::Terminated);
    }
}

pub(super) fn registered(fake: &Fake) -> bool {
    fake.state().runners.iter().any(|(_, own)| own.id == runner().id)
}

pub(super) fn closed(fake: &Fake) -> bool {
    fake.get::<InstanceRecord>("i-1").is_some_and(|record| record.gone_at.is_some() && record.cleaned_at.is_some())
}

/// The instance is ended, and then nothing of it is left.
pub(super) fn ends_and_leaves_nothing(fake: &Fake, case: &str) {
    let ended = |fake: &Fake| {
        bury(fake);
        closed(fake)
    };
    let record = || fake.get::<InstanceRecord>("i-1");
    assert!(minutes_until(fake, ended).is_some(), "{case}: not closed: {:?}", record());
    assert!(!fake.state().terminated.is_empty(), "{case}: closed and never ended: {:?}", record());
    assert!(!registered(fake) && fake.state().parameters.is_empty(), "{case}: something is left: {:?}", record());
}
