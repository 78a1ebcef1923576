//! The loop: look, decide, act. What is decided is [`decide`]'s business; here is how one looks and what is done.

use crate::aws::{Aws, VitalSign};
use crate::clock::Clock;
use crate::config::{Config, JobMetadata, RUN_FOLDER, STATE_FOLDER};
use crate::console::{Changes, chain, say};
use crate::errands::{self, News, Shipping, Signs};
use crate::firewall::block_metadata;
use crate::launch;
use crate::metadata::Identity;
use crate::power;
use crate::process::ProcessId;
use crate::secret::Secret;
use crate::traces::{Held, Marker, Traces};
use crate::tree::{Search, Tree};
use crate::watch::{Reached, Watch, diagnostic_logs};
use runner_supervisor_decision::{
    Drain, DrainTag, Facts, Grip, Listener, Millis, Reason, Registration, Verdict, Veto, Work, decide,
};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// Between two looks when nothing comes in between.
const LOOK: Duration = Duration::from_millis(200);

/// After a start or a freezing that failed.
const PAUSE_MS: Millis = 1_000;

/// How long the last words may take before the power goes off anyway.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Supervises the instance until its power goes off, and never returns.
///
/// # Errors
/// Only when it cannot begin: the folders cannot be made, the traces of an earlier supervisor cannot be read. Whoever
/// starts it again may have more luck.
pub fn run(config: Config, clock: Arc<dyn Clock>, executable: PathBuf) -> io::Result<std::convert::Infallible> {
    let mut supervisor = Supervisor::adopt(config, clock, executable)?;
    loop {
        supervisor.step();
    }
}

/// What is done where settings are wrong: no listener can be started, and nobody would ever end the instance. When they
/// are right before the boot deadline (the user was made meanwhile, say) they are returned; else the power goes off.
///
/// Guarantees: never while a listener of this boot is on record, in the folders that are set or in the usual ones.
///
/// # Errors
/// When one is, or when nobody can say.
pub fn settings_or_off(
    others: &Config,
    clock: &dyn Clock,
    settings: impl Fn() -> Option<Config>,
) -> io::Result<Config> {
    nobody_was_started(others)?;
    let patience_ms = others.limits.boot_deadline_ms;
    say(format!("powers off in {} s: with these settings no listener can be started", patience_ms / 1_000));
    let deadline = clock.since_boot() + patience_ms;
    while clock.since_boot() < deadline {
        std::thread::sleep(LOOK);
        if let Some(config) = settings() {
            return Ok(config);
        }
    }
    nobody_was_started(others)?;
    say("powers off: no settings that can be used");
    power::off(&others.power_off)
}

fn nobody_was_started(others: &Config) -> io::Result<()> {
    for (run, state) in [(&others.run_folder, &others.state_folder), (&RUN_FOLDER.into(), &STATE_FOLDER.into())] {
        if Traces::know_a_listener(run, state)? {
            return Err(io::Error::other("the listener of this boot stays until the settings are mended"));
        }
    }
    Ok(())
}

/// Lets everyone go on who stands still: what is done when a supervisor ended, however it did.
///
/// # Errors
/// When they may still stand still.
pub fn thaw(config: &Config) -> io::Result<()> {
    let traces = Traces::new(&config.run_folder, &config.state_folder)?;
    match traces.held()? {
        Some(_) => Tree::find(config.freezer, &traces)?.thaw(),
        None => Ok(()),
    }
}

struct Supervisor {
    config: Config,
    clock: Arc<dyn Clock>,
    executable: PathBuf,
    traces: Traces,
    tree: Tree,
    aws: Arc<Aws>,
    news: Receiver<News>,
    signs: Signs,
    shipping: Option<Shipping>,
    identity: Option<Identity>,
    /// Fetched, and not yet a listener's for good.
    configuration: Option<Secret>,
    /// Not before then is a start or a freezing tried again.
    again_at: Millis,
    child: Option<Child>,
    watch: Option<Watch>,
    worker: Option<ProcessId>,
    job_started_at: Option<Millis>,
    drain: DrainTag,
    last_sign: Option<VitalSign>,
    said: Changes,
    troubles: Changes,
}

impl Supervisor {
    /// Takes over what runs, if something does.
    fn adopt(config: Config, clock: Arc<dyn Clock>, executable: PathBuf) -> io::Result<Self> {
        let traces = Traces::new(&config.run_folder, &config.state_folder)?;
        let tree = Tree::find(config.freezer, &traces)?;
        let leader = traces.leader()?;
        if traces.held()?.is_some() {
            // The supervisor before us may have died between freezing and thawing.
            tree.thaw().or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
        }
        let aws = Arc::new(Aws::new(&config, Arc::clone(&clock)));
        let (to_us, news) = channel();
        errands::look_at_tag(Arc::clone(&aws), config.drain_look, to_us.clone());
        let marker = traces.marker()?;
        let watch = if let (Some(leader), Some(marker)) = (leader, marker) {
            say(format!("takes over the listener that was started before (process {})", leader.pid));
            errands::delete(Arc::clone(&aws));
            Some(watch_of(&config, &traces, &marker))
        } else {
            // Whoever was to be started is not there: it never came so far.
            errands::fetch(Arc::clone(&aws), to_us);
            None
        };
        let signs = Signs::start(Arc::clone(&aws), config.beat);
        let shipping = config
            .log_group
            .clone()
            .map(|group| Shipping::start(Arc::clone(&aws), group, traces.output(), diagnostics_folder(&config)));
        let job_started_at = traces.job_started()?;
        Ok(Self {
            config,
            clock,
            executable,
            traces,
            tree,
            aws,
            news,
            signs,
            shipping,
            identity: None,
            configuration: None,
            again_at: 0,
            child: None,
            watch,
            worker: None,
            job_started_at,
            drain: DrainTag::default(),
            last_sign: None,
            said: Changes::default(),
            troubles: Changes::default(),
        })
    }

    fn step(&mut self) {
        match self.news.recv_timeout(LOOK) {
            Ok(News::Identity(identity)) => self.identity = Some(identity),
            Ok(News::Configuration(configuration)) => self.configuration = Some(configuration),
            Ok(News::DrainTag(value)) => self.hear_drain(value.as_deref()),
            Err(RecvTimeoutError::Timeout) => {}
            // Nobody is left who would tell us anything; that changes nothing but our pace.
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(LOOK),
        }
        self.forget_configuration();
        let verdict = self.decide(Grip::Loose);
        self.act(verdict);
        if self.watch.is_none() && self.again_at <= self.clock.since_boot() {
            self.start_listener();
        }
    }

    /// Deletes the configuration once a listener has it for good. Had we died before that, it would be fetched again.
    fn forget_configuration(&mut self) {
        if self.watch.is_some() && self.configuration.is_some() && self.listener_has_begun().unwrap_or(false) {
            self.configuration = None;
            errands::delete(Arc::clone(&self.aws));
        }
    }

    /// Whether the listener's process outlives us from now on, or has ended already.
    fn listener_has_begun(&mut self) -> io::Result<bool> {
        Ok(self.traces.leader()?.is_some() || !self.listener_runs()?)
    }

    fn hear_drain(&mut self, value: Option<&str>) {
        let before = self.drain.seen_at();
        self.drain.look(value, self.clock.wall());
        if self.drain.seen_at() != before {
            say(format!("asked to drain ({})", value.unwrap_or_default()));
        }
    }

    /// Starts the listener once its configuration is there and the job is kept from the instance's role.
    fn start_listener(&mut self) {
        let (Some(configuration), Some(identity)) = (&self.configuration, &self.identity) else { return };
        match self.try_start(configuration, identity) {
            Ok((child, watch)) => {
                say(format!("started the listener (process {})", child.id()));
                (self.child, self.watch) = (Some(child), Some(watch));
            }
            Err(error) => {
                self.troubles.say(format!("cannot start the listener: {}", chain(&error)));
                self.again_at = self.clock.since_boot() + PAUSE_MS;
            }
        }
    }

    fn try_start(&self, configuration: &Secret, identity: &Identity) -> io::Result<(Child, Watch)> {
        let program = &self.config.listener_command;
        if !program.is_file() {
            return Err(io::Error::other(format!("there is no {}", program.display())));
        }
        if self.config.job_metadata == JobMetadata::Blocked {
            block_metadata(self.config.user.uid)?;
        }
        let marker = Marker {
            boot_id: self.traces.boot_id().to_owned(),
            instance_id: identity.instance_id.clone(),
            started_at: self.clock.since_boot(),
            old_logs: diagnostic_logs(&diagnostics_folder(&self.config), &["Runner_"])?,
        };
        match &self.tree {
            Tree::Cgroup(cgroup) => {
                cgroup.make_again()?;
                self.traces.write_held(&Held::Cgroup(cgroup.path().to_owned()))?;
            }
            Tree::Marked(_) => self.traces.write_held(&Held::Marked)?,
        }
        self.traces.forget_leader()?;
        self.traces.write_marker(&marker)?;
        let child = launch::start(&self.executable, &self.config, &self.traces, &self.tree, configuration)?;
        Ok((child, watch_of(&self.config, &self.traces, &marker)))
    }

    /// Looks, decides, says what changed.
    fn decide(&mut self, grip: Grip) -> Verdict {
        let facts = self.look(grip);
        let verdict = decide(&facts, &self.config.limits).verdict;
        match verdict {
            Verdict::Keep(veto) => {
                if facts.drain == Drain::Requested && veto.answers_drain() {
                    self.drain.answer();
                    self.said.forget();
                }
                self.said.say(format!("stays: {}", why_it_stays(veto)));
            }
            Verdict::Freeze(reason) => self.said.say(format!("is about to stop: {}", why_it_ends(reason))),
            Verdict::Kill(reason) | Verdict::PowerOff(reason) => {
                self.said.say(format!("powers off: {} ({reason:?})", why_it_ends(reason)));
            }
        }
        let sign = VitalSign { worker: facts.work.occupation(), drain_seen_at: self.drain.seen_at() };
        if self.last_sign != Some(sign) {
            self.last_sign = Some(sign);
            self.signs.write(sign);
        }
        verdict
    }

    fn act(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Keep(_) => {}
            Verdict::Freeze(_) if self.clock.since_boot() < self.again_at => {}
            Verdict::Freeze(_) => self.stop(),
            // A running tree is never killed by a verdict on a loose grip; `decide` holds itself to that.
            Verdict::Kill(_) | Verdict::PowerOff(_) => self.power_off(),
        }
    }

    /// The atomic stop: what is seen after everyone stands still decides; whoever is not killed goes on.
    fn stop(&mut self) {
        let grip = match self.tree.freeze() {
            Ok(()) => Grip::Frozen,
            Err(error) => {
                self.troubles.say(format!("the listener could not be made to stand still: {}", chain(&error)));
                Grip::Failed
            }
        };
        match self.decide(grip) {
            Verdict::Kill(_) if grip == Grip::Frozen => {
                if let Err(error) = self.tree.kill() {
                    say(format!("the listener could not be killed: {}", chain(&error)));
                }
                self.power_off();
            }
            Verdict::PowerOff(_) => self.power_off(),
            Verdict::Kill(_) | Verdict::Keep(_) | Verdict::Freeze(_) => {
                self.again_at = self.clock.since_boot() + PAUSE_MS;
                while let Err(error) = self.tree.thaw() {
                    // Nothing is more urgent: a job that stands still loses its lock at GitHub.
                    self.troubles.say(format!("the listener could not be thawed: {}", chain(&error)));
                    std::thread::sleep(LOOK);
                }
            }
        }
    }

    fn power_off(&mut self) -> ! {
        let sign =
            VitalSign { worker: runner_supervisor_decision::Occupation::None, drain_seen_at: self.drain.seen_at() };
        self.signs.write_last(sign, LAST_WORDS);
        if let Some(shipping) = &self.shipping {
            shipping.finish(LAST_WORDS);
        }
        power::off(&self.config.power_off)
    }

    fn look(&mut self, grip: Grip) -> Facts {
        let now = self.clock.since_boot();
        self.drain.close_old(self.clock.wall());
        let (listener, work, registration) = match self.look_at_processes(now, grip) {
            Ok(seen) => seen,
            Err(error) => {
                self.troubles.say(format!("a look failed: {}", chain(&error)));
                (Listener::Unread, Work::Unread, Registration::Standing)
            }
        };
        Facts {
            now,
            booted_at: self.config.booted_at,
            listener,
            work,
            registration,
            drain: self.drain.open(),
            grip,
            job_started_at: self.job_started_at,
        }
    }

    fn look_at_processes(&mut self, now: Millis, grip: Grip) -> io::Result<(Listener, Work, Registration)> {
        // The listener before its workers: once it has ended it starts none, and a search that finds none is the last.
        let runs = self.watch.is_some() && self.listener_runs()?;
        // The log before the workers: a job that comes in between is seen as one.
        let read = self.watch.as_mut().map_or(Ok(Reached::End), |watch| watch.look(now));
        let worker = self.look_for_worker(now, grip)?;
        let Some(watch) = &mut self.watch else {
            let earlier = match &self.identity {
                Some(identity) => self.traces.started_in_earlier_boot(&identity.instance_id)?,
                None => false,
            };
            let listener = if earlier { Listener::OfEarlierBoot } else { Listener::NeverStarted };
            return Ok((listener, if worker { Work::Worker } else { Work::None }, Registration::Standing));
        };
        if worker {
            watch.saw_worker(now);
        }
        let log = watch.log();
        let listener = if runs { Listener::Runs { idle_since: log.idle_since() } } else { Listener::Ended };
        let work = match (worker, runs) {
            (true, true | false) => Work::Worker,
            // What a job left in the log, or goes on writing there, keeps nobody whose listener is gone.
            (false, false) => Work::None,
            (false, true) => match read? {
                Reached::End => log.work(now),
                Reached::More => Work::Unread,
            },
        };
        Ok((listener, work, log.registration()))
    }

    fn look_for_worker(&mut self, now: Millis, grip: Grip) -> io::Result<bool> {
        // A worker that is known and lives needs no search through everything that its job started.
        let known = match self.worker {
            Some(worker) => worker.is_alive()?,
            None => false,
        };
        if !known {
            let leader = match self.traces.leader()? {
                Some(leader) if leader.is_alive()? => Some(leader),
                Some(_) | None => None,
            };
            let search = match (grip, leader) {
                (Grip::Loose, Some(leader)) => Search::Below(leader),
                (Grip::Loose, None) | (Grip::Frozen | Grip::Failed, _) => Search::Everywhere,
            };
            self.worker = self.tree.worker(search)?.map(|stat| stat.id);
        }
        if self.worker.is_none() {
            return Ok(false);
        }
        if self.job_started_at.is_none() {
            self.job_started_at = Some(now);
            if let Err(error) = self.traces.write_job_started(now) {
                self.troubles.say(format!("the job's start could not be noted: {}", chain(&error)));
            }
        }
        Ok(true)
    }

    /// Whether run.sh runs, or is about to.
    fn listener_runs(&mut self) -> io::Result<bool> {
        if let Some(child) = &mut self.child {
            return Ok(child.try_wait()?.is_none());
        }
        match self.traces.leader()? {
            Some(leader) => leader.is_alive(),
            None => Ok(false),
        }
    }
}

fn diagnostics_folder(config: &Config) -> PathBuf {
    Path::new(&config.runner_folder).join("_diag")
}

fn watch_of(config: &Config, traces: &Traces, marker: &Marker) -> Watch {
    Watch::new(traces.output(), diagnostics_folder(config), marker.old_logs.clone(), marker.started_at)
}

fn why_it_stays(veto: Veto) -> &'static str {
    match veto {
        Veto::Worker => "a job runs",
        Veto::WorkerWithoutListener => "a job runs although its listener is gone",
        Veto::Acquiring => "a job is being acquired",
        Veto::Restless => "the listener may be taking a job",
        Veto::Idle => "the listener waits for a job",
        Veto::Booting => "waits for the configuration",
        Veto::Unread => "what could not be looked at may be a job",
        Veto::NotFrozen => "what does not stand still may take a job",
    }
}

fn why_it_ends(reason: Reason) -> &'static str {
    match reason {
        Reason::ListenerEnded => "the listener ended and no job is left",
        Reason::Drained => "asked to drain, and no job is here",
        Reason::IdleMaximum => "no job came",
        Reason::BootDeadline => "no configuration came in time",
        Reason::AcquireWatchdog => "a job was acknowledged and never came",
        Reason::WorkerWatchdog => "a job was acquired and has no worker",
        Reason::RegistrationGone => "the registration is gone and no job is here",
        Reason::EarlierBoot => "the configuration was spent before the last boot",
        Reason::HardAge => "older than any job may become",
    }
}
