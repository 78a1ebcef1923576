//! What must have happened at least once over a batch of seeds: without it the batch says nothing about it.

use crate::ports::Op;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Something that has to happen.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Counter {
            $($(#[$doc])* $name,)*
        }

        impl Counter {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// In words.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

counters! {
    /// The supervisor stopped an idle listener because it was asked to.
    DrainedIdle = "drained while idle",
    /// The request met a job.
    DrainRefused = "drain refused because busy",
    /// The adversary struck before CreateTags had its effect.
    DrainStruckBefore = "job assigned before the drain request",
    /// Between its effect and its answer.
    DrainStruckBetween = "job assigned between drain request and answer",
    /// After its answer.
    DrainStruckAfter = "job assigned after the drain request",
    /// The adversary struck before DELETE had its effect.
    DeleteStruckBefore = "job assigned before DELETE",
    /// In the moment of its effect: assigned before it, and nobody knows yet.
    DeleteStruckBetween = "job assigned in the moment of DELETE",
    /// After its answer.
    DeleteStruckAfter = "adversary struck after DELETE",
    /// The adversary struck before TerminateInstances had its effect.
    TerminateStruckBefore = "adversary struck before TerminateInstances",
    /// Between its effect and its answer.
    TerminateStruckBetween = "adversary struck between TerminateInstances and answer",
    /// After its answer.
    TerminateStruckAfter = "adversary struck after TerminateInstances",
    /// The adversary struck at a read of one runner.
    ReadStruck = "job assigned while its runner was read",
    /// DELETE of a runner that has a job, answered 204 because the flag lies.
    DeletedWithJob = "DELETE 204 with a lying flag",
    /// DELETE answered 204.
    Deleted = "DELETE 204",
    /// DELETE answered 422.
    DeleteBusy = "DELETE 422",
    /// DELETE answered 404 although the registration exists.
    DeleteAbsentAlive = "DELETE 404 of a runner that exists",
    /// GET answered 404 although the registration exists.
    ReadAbsentAlive = "GET 404 of a runner that exists",
    /// TerminateInstances took effect.
    Terminated = "TerminateInstances",
    /// TerminateInstances answered `NotFound` although the instance lives.
    TerminateNotFoundAlive = "TerminateInstances NotFound of a living instance",
    /// The same token and the same request again.
    TokenReplayed = "client token replayed",
    /// The same again when its instances were dead.
    DeadTokenReplayed = "client token of a dead instance replayed",
    /// 409 where the configuration had been handed over.
    NameTakenHandedOver = "JIT 409 after the configuration was handed over",
    /// 409 where it had not.
    NameTaken = "JIT 409 without a configuration handed over",
    /// A listener that hangs after it acknowledged.
    Ghost = "ghost",
    /// A line that a handler logged was searched for secrets.
    LineRead = "what a handler logged was read",
    /// A job whose `queued` delivery was lost started.
    Rescue = "job started although its delivery was lost",
    /// Two invocations of a timer at once.
    Overlap = "passes overlap",
    /// The second began in a destructive call of the first.
    OverlapInDestruction = "doubled timer in a destructive step",
    /// A pass ended because its deadline was near.
    DeadlineStop = "pass stopped by its deadline",
    /// The next went on and came to its end.
    DeadlineResume = "pass resumed after a deadline",
    /// An invocation met its time limit.
    TimeLimit = "invocation killed at its time limit",
    /// A message became a dead letter.
    DeadLetter = "dead letter",
    /// Dead letters were sent back.
    Redrive = "dead letters redriven",
    /// A message was delivered twice.
    MessageDoubled = "message delivered twice",
    /// A delivery signed with the first secret.
    FirstSecret = "first secret in use",
    /// A delivery signed with the second.
    SecondSecret = "second secret in use",
    /// A stranger's delivery.
    Forgery = "forged delivery",
    /// GitHub was in trouble with an owner.
    Trouble = "GitHub in trouble with an owner",
    /// One owner's GitHub stayed broken for ever.
    OneStaysBroken = "one owner stays broken",
    /// A conditional write was refused.
    Conflict = "ledger conflict",
    /// EC2 had less than was asked for.
    PartialFleet = "partial fleet",
    /// EC2 had nothing.
    NoCapacity = "no capacity",
    /// A spot instance was taken back.
    Spot = "spot interruption",
    /// A delivery was asked for again.
    Redelivery = "delivery repeated",
    /// A listener lost its registration in mid-job.
    ListenerCancelled = "listener cancelled its job",
    /// A runner was deleted that listened on an instance whose supervisor is dead.
    DeletedListening = "DELETE 204 of a runner that listens",
    /// An instance was cut off from AWS for a while.
    CutOff = "instance cut off from AWS",
    /// The deployment observed for a while.
    Observes = "mode observe",
    /// The deployment was retired for a while.
    Retires = "mode retire",
    /// An invocation had the configuration from before its change.
    StaleConfiguration = "configuration of a warm process",
    /// A webhook process held the first secret only.
    StaleSecrets = "secrets of a warm process",
    /// A job wrote a vital sign.
    HostileSign = "hostile vital sign",
    /// An invocation was throttled.
    Throttled = "invocation throttled",
    /// EC2 refused a launch for good.
    LaunchRefused = "launch refused for good",
    /// GitHub's hourly limit was met.
    RateLimited = "primary rate limit met",
    /// A job was assigned while nobody of ours acted, between two events.
    Requeued = "job requeued",
    /// A call of the App met a GitHub that was in trouble with everybody.
    Outage = "GitHub in trouble with everybody",
    /// A call of the App met a GitHub that was in trouble with such calls alone.
    AppTrouble = "GitHub in trouble with the App's own calls",
    /// A call met an owner who suspended the App, or removed it and did not install it again yet.
    Suspended = "installation suspended",
    /// A call bore the id of an installation that was replaced by another one of the same owner.
    StaleInstallation = "installation id of before",
    /// A failed delivery is of an installation that GitHub does not know any more.
    UnknownInstallation = "installation unknown to GitHub",
    /// A delivery that was asked for again came without a signature.
    Unsigned = "delivery repeated without a signature",
    /// A forged delivery said that a job of ours began or ended on a runner of ours.
    ForgedProgress = "forged delivery of a job and a runner of ours",
    /// GitHub told of a job of an owner whom nobody serves.
    Stranger = "delivery of an owner whom nobody serves",
    /// Somebody stopped an instance.
    Stopped = "instance stopped by hand",
    /// On it a job ran.
    StoppedWithJob = "instance stopped by hand in mid-job",
    /// Somebody started it again.
    Started = "instance started again by hand",
    /// We ended one that somebody had stopped.
    StoppedEnded = "TerminateInstances of a stopped instance",
    /// EC2 refused to end an instance that somebody protects.
    Protected = "TerminateInstances refused: protected",
    /// A job asked for a label that means harm.
    HostileLabel = "hostile label",
    /// A job spelt the labels of a fleet in its own way.
    OddLabels = "labels in another spelling",
    /// A clock was so far behind that its instance's signs look like silence.
    ClockBehind = "clock behind by as much as silence takes",
    /// A sign that a worker is there was written late.
    LateSign = "vital sign written late",
    /// An instance was cut off from GitHub too.
    Isolated = "instance cut off from GitHub",
    /// One that was cut off looked for its configuration.
    CutOffFetch = "configuration not read: cut off",
    /// GitHub told that a job ended on a runner with the name of one of ours, which a repository has for itself.
    Neighbour = "delivery of a neighbour's runner that bears the name of ours",
    /// One pool of a launch failed for another reason than capacity.
    OverrideError = "pool failed for another reason than capacity",
    /// EC2's limit of the account was met, with fewer instances alive than it allows.
    EndedCount = "limit met by instances that ended",
    /// A launch was repeated under its token after the configuration named another template version.
    ReplayedAfterChange = "client token replayed after the template changed",
    /// GitHub refused a change that came too fast.
    Haste = "secondary rate limit met",
    /// A message was received before one that was sent before it.
    Disorder = "messages received out of order",
    /// It named a runner of ours.
    StrangerNamesOurs = "delivery of an owner whom nobody serves, about a runner of ours",
    /// An invocation began of a version that another function has left behind.
    OlderVersion = "two versions of the functions at once",
    /// It read what the newer version had written.
    NewerRecord = "record of a newer version read by an older",
    /// A deployment was rolled back.
    RolledBack = "deployment rolled back",
    /// A listener acknowledged its message, and GitHub waited for it.
    Hung = "listener hangs after it acknowledged",
    /// A job waited for an approval, and got it.
    Approved = "job approved",
    /// It did not.
    Disapproved = "job refused an approval",
    /// A delivery told that a job waits that had been queued since.
    WaitsNoMore = "delivery of waiting after that of queued",
    /// The webhook did not run for a while.
    WebhookDown = "webhook does not run",
    /// Scale-up did not.
    ScaleUpDown = "scale-up does not run",
    /// Scale-down did not.
    ScaleDownDown = "scale-down does not run",
    /// The orphan-sweeper did not.
    OrphanSweeperDown = "orphan-sweeper does not run",
    /// The demand-reconciler did not.
    DemandReconcilerDown = "demand-reconciler does not run",
    /// GitHub listed runners of others beside ours.
    OthersListed = "runners of others listed",
    /// A page of GitHub's log was not the last.
    LogPaged = "log of deliveries read in pages",
    /// Its next was read.
    LogResumed = "log of deliveries read on",
    /// Somebody removed the registration of an instance.
    RemovedByHand = "registration removed by hand",
    /// Every process of an instance died, and it ran on.
    AllDead = "every process of an instance dead",
    /// A call that ends an instance, or its runner, is refused for ever.
    Resists = "an instance that nothing ends",
    /// A listener opened a session with a configuration that had opened one before.
    UsedConfig = "used JIT configuration opened again",
}

/// Counts of everything, and of deaths and lost answers at every call.
#[derive(Debug, Clone)]
pub struct Coverage {
    counts: Vec<u64>,
    /// Calls.
    called: Vec<u64>,
    /// Deaths at a call: before and after its effect.
    died: Vec<[u64; 2]>,
    /// Answers lost after the effect.
    lost: Vec<u64>,
    /// Requests lost before it.
    vanished: Vec<u64>,
}

impl Default for Coverage {
    fn default() -> Self {
        let calls = Op::ALL.len();
        Self {
            counts: vec![0; Counter::ALL.len()],
            called: vec![0; calls],
            died: vec![[0; 2]; calls],
            lost: vec![0; calls],
            vanished: vec![0; calls],
        }
    }
}

impl Coverage {
    /// It happened.
    pub fn hit(&mut self, counter: Counter) {
        if let Some(count) = self.counts.get_mut(counter as usize) {
            *count += 1;
        }
    }

    /// A call was made.
    pub fn called(&mut self, op: Op) {
        if let Some(count) = self.called.get_mut(op as usize) {
            *count += 1;
        }
    }

    /// An invocation died at a call.
    pub fn died(&mut self, op: Op, after: bool) {
        if let Some(counts) = self.died.get_mut(op as usize) {
            counts[usize::from(after)] += 1;
        }
    }

    /// An answer was lost.
    pub fn lost(&mut self, op: Op) {
        if let Some(count) = self.lost.get_mut(op as usize) {
            *count += 1;
        }
    }

    /// A request was lost.
    pub fn vanished(&mut self, op: Op) {
        if let Some(count) = self.vanished.get_mut(op as usize) {
            *count += 1;
        }
    }

    /// How often it happened.
    #[must_use]
    pub fn count(&self, counter: Counter) -> u64 {
        self.counts.get(counter as usize).copied().unwrap_or(0)
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        for (own, others) in self.counts.iter_mut().zip(&other.counts) {
            *own += others;
        }
        for (own, others) in self.called.iter_mut().zip(&other.called) {
            *own += others;
        }
        for (own, others) in self.died.iter_mut().zip(&other.died) {
            own[0] += others[0];
            own[1] += others[1];
        }
        for (own, others) in self.lost.iter_mut().zip(&other.lost) {
            *own += others;
        }
        for (own, others) in self.vanished.iter_mut().zip(&other.vanished) {
            *own += others;
        }
    }

    /// Every count with its name.
    #[must_use]
    pub fn lines(&self) -> Vec<(String, u64)> {
        let of_counters = Counter::ALL.iter().map(|counter| (counter.text().to_owned(), self.count(*counter)));
        let of_calls = Op::ALL.iter().flat_map(|op| {
            let [before, after] = self.died.get(*op as usize).copied().unwrap_or_default();
            let lost = self.lost.get(*op as usize).copied().unwrap_or(0);
            let called = self.called.get(*op as usize).copied().unwrap_or(0);
            let died = [
                (format!("called {}", op.name()), called),
                (format!("killed before {}", op.name()), before),
                (format!("killed after {}", op.name()), after),
            ];
            let vanished = self.vanished.get(*op as usize).copied().unwrap_or(0);
            let in_doubt =
                [(format!("answer lost of {}", op.name()), lost), (format!("request lost of {}", op.name()), vanished)];
            died.into_iter().chain(in_doubt.into_iter().filter(|_| op.changes()))
        });
        of_counters.chain(of_calls).collect()
    }

    /// How many there are that have to happen.
    #[must_use]
    pub fn wanted(&self) -> usize {
        self.lines().len() - 1
    }

    /// What never happened, but for what cannot: the product writes a runner's id before it hands its configuration over,
    /// and asks for none again from then on.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let possible = |line: &(String, u64)| line.0 != Counter::NameTakenHandedOver.text();
        self.lines().into_iter().filter(possible).filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
    }
}
