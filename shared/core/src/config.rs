//! Variables and the configuration document to typed policy; every mistake is reported in one error.
//!
//! Names and addresses are environment variables ([`Environment`]), policy is the JSON document in SSM ([`Policy`]).
//! Both are read whole before either is refused.

mod document;
mod environment;
mod idle;
mod labels;
mod mutant;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::ids::{Deployment, FleetName, InstanceId, Repository, RepositoryIds, RunnerName, Scope};
use crate::time::Timestamp;

pub use document::parse_policy;
pub use environment::Environment;
pub use idle::{IdleSchedule, ScheduleMistake};
pub use labels::{Fit, INSTANCE_TYPE_LABEL, LabelOverrides, MARKET_LABEL, Misfit, Overrides};
pub use mutant::Mutant;

/// Every mistake that was found.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} mistake{} in the configuration: {}", .0.len(), if .0.len() == 1 { "" } else { "s" }, .0.join("; "))]
pub struct ConfigError(pub Vec<String>);

/// What the functions may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Launch and remove.
    Enforce,
    /// Record every verdict of removal and carry none out: no drain, no DELETE, no terminate.
    Observe,
    /// Launch nothing, drain everything.
    Retire,
}

/// What is wanted, from the configuration document.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The deployment all of this belongs to.
    pub deployment: Deployment,
    /// What may be done.
    pub mode: Mode,
    /// Owners whose jobs are served, by glob of their login, without case.
    pub owners: Vec<Glob>,
    /// Repositories whose jobs are served, by `owner/name` glob, without case.
    pub repositories: Vec<Glob>,
    /// Owners and repositories whose jobs are served, by id.
    pub ids: AllowedIds,
    /// The fleets, in the document's order.
    pub fleets: Vec<Fleet>,
    /// Timers for instances of a fleet that the document does not name any more.
    pub orphan_timers: Timers,
    /// When the ledger was restored from a backup, where it ever was: what it says of instances launched before may
    /// lack what happened after the backup, so they count as rebuilt.
    pub ledger_epoch: Option<Timestamp>,
    /// How jobs are looked for that nobody told us of.
    pub search: Search,
    /// The rule that this build breaks on purpose; none outside of test builds.
    pub mutant: Mutant,
}

/// How jobs are looked for at GitHub (design section 7); fixed but for test timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Search {
    /// Between the begins of two searches: 5 min. Shorter, and a quiet search's conditional requests crowd GitHub; longer,
    /// and a job whose event was lost waits longer.
    pub interval: Duration,
    /// Younger jobs are left to their events: 60 s.
    pub job_age: Duration,
    /// An idle runner counts for a job that has waited for less: 3 min. What an idle runner does not take in that time,
    /// it is not going to take: it is a ghost, or another job's.
    pub idle_trust: Duration,
}

impl Policy {
    /// The fleet of that name, if the document still has it.
    #[must_use]
    pub fn fleet(&self, name: &FleetName) -> Option<&Fleet> {
        self.fleets.iter().find(|fleet| &fleet.name == name)
    }

    /// The timers of that fleet; of a fleet that is gone, the defaults.
    #[must_use]
    pub fn timers(&self, name: &FleetName) -> &Timers {
        self.fleet(name).map_or(&self.orphan_timers, |fleet| &fleet.timers)
    }

    /// Whether jobs of a repository of that name are served: both its owner and itself have to be.
    #[must_use]
    pub fn serves(&self, repository: &Repository) -> bool {
        let full_name = repository.to_string();
        self.owners.iter().any(|glob| glob.matches(repository.owner()))
            && self.repositories.iter().any(|glob| glob.matches(&full_name))
    }

    /// Whether a job that was admitted before goes on being launched for: by name, and by every id of it that is known. A
    /// job of a version before ids were kept has none, and whoever admitted it asked for those that lists named.
    #[must_use]
    pub fn still_serves(&self, repository: &Repository, ids: RepositoryIds) -> bool {
        self.serves(repository) && !self.ids.exclude(ids)
    }

    /// Whether any repository of an owner may be served, by all that is known before its repositories are: where not, the
    /// owner need not be asked for them. An id that is not known excludes nobody.
    #[must_use]
    pub fn may_serve_owner(&self, login: &str, owner_id: Option<u64>) -> bool {
        let of_owner = format!("{login}/");
        !self.ids.exclude(RepositoryIds { owner: owner_id, repository: None })
            && self.owners.iter().any(|glob| glob.matches(login))
            && self.repositories.iter().any(|glob| glob.may_begin_with(&of_owner))
    }

    /// The time of the last restore of the ledger. One that lies ahead is a mistake and says nothing: records marked by
    /// it would stay marked.
    #[must_use]
    pub fn epoch(&self, now: Timestamp) -> Option<Timestamp> {
        self.ledger_epoch.filter(|epoch| *epoch <= now)
    }

    /// Whether an EC2 launch template is this deployment's.
    #[must_use]
    pub fn owns_template(&self, template_id: &str) -> bool {
        self.fleets.iter().any(|fleet| fleet.launch_template.id == template_id)
    }
}

/// Allow-lists by id: names can be changed and taken over by somebody else, ids cannot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedIds {
    /// Of owners; `None` asks for none.
    pub owners: Option<BTreeSet<u64>>,
    /// Of repositories; `None` asks for none.
    pub repositories: Option<BTreeSet<u64>>,
}

impl AllowedIds {
    /// Whether an owner and a repository with these ids are on every list that there is. An id that is not known is on
    /// none.
    #[must_use]
    pub fn admit(&self, owner_id: Option<u64>, repository_id: Option<u64>) -> bool {
        let on = |list: &Option<BTreeSet<u64>>, id: Option<u64>| {
            list.as_ref().is_none_or(|list| id.is_some_and(|id| list.contains(&id)))
        };
        on(&self.owners, owner_id) && on(&self.repositories, repository_id)
    }

    /// Whether an id that is known is not on its list. One that is not known excludes nobody.
    #[must_use]
    pub fn exclude(&self, ids: RepositoryIds) -> bool {
        let off = |list: &Option<BTreeSet<u64>>, id: Option<u64>| {
            list.as_ref().zip(id).is_some_and(|(list, id)| !list.contains(&id))
        };
        off(&self.owners, ids.owner) || off(&self.repositories, ids.repository)
    }
}

/// `owner/name` with `*` for any run of characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// Takes a pattern; matching ignores case, as GitHub's names do.
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        Self(pattern.to_ascii_lowercase())
    }

    /// Whether a text that begins so may match.
    #[must_use]
    pub fn may_begin_with(&self, beginning: &str) -> bool {
        let beginning = beginning.to_ascii_lowercase();
        match self.0.split_once('*') {
            None => self.0.starts_with(&beginning),
            Some((literal, _)) => literal.starts_with(&beginning) || beginning.starts_with(literal),
        }
    }

    /// Whether the whole text matches.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let text = text.to_ascii_lowercase();
        let mut pieces = self.0.split('*');
        let Some(mut rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else { return false };
        let mut pieces = pieces.peekable();
        if pieces.peek().is_none() {
            return rest.is_empty();
        }
        while let Some(piece) = pieces.next() {
            if pieces.peek().is_none() {
                return rest.ends_with(piece);
            }
            let Some((_, after)) = rest.split_once(piece) else { return false };
            rest = after;
        }
        true
    }
}

/// How a job's labels must relate to a fleet's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matching {
    /// The same set.
    Exact,
    /// Every label of the job is one of the fleet's.
    Subset,
}

/// How instances are bought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Market {
    /// Spot, `price-capacity-optimized`.
    Spot,
    /// On-demand, `lowest-price`.
    OnDemand,
}

/// Where a fleet's runners are registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// With the organisation, or with the repository where its owner is a user, who has no runners of their own.
    Organization,
    /// With the job's repository.
    Repository,
}

/// GitHub's default runner group, the only one that a repository has.
pub const DEFAULT_RUNNER_GROUP: u64 = 1;

/// Which of a fleet's idle instances are drained first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Eviction {
    /// The oldest go: their end at `idle_maximum` is the nearest.
    #[default]
    OldestFirst,
    /// The newest go: what stays has been ready for the longest.
    NewestFirst,
}

/// A launch template, version pinned: `$Latest` under a fixed client token is undefined (facts/github.md section 4).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchTemplate {
    /// `lt-…`
    pub id: String,
    /// A number, as EC2 writes it.
    pub version: String,
}

/// One fleet: which jobs it serves, how its instances are launched and when they are ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Fleet {
    /// Its name.
    pub name: FleetName,
    /// Labels its runners register with.
    pub labels: Vec<String>,
    /// How a job's labels select it.
    pub matching: Matching,
    /// Where its runners are registered.
    pub registration: Registration,
    /// GitHub's runner group in an organisation. A repository has none but the default.
    pub runner_group_id: u64,
    /// Runner name = this and the instance id.
    pub runner_name_prefix: String,
    /// At most this many living instances.
    pub runner_count_max: u32,
    /// Spot or on-demand.
    pub market: Market,
    /// The market that is tried where EC2 has nothing on the first.
    pub fallback: Option<Market>,
    /// What jobs may ask for by label; nothing by default.
    pub label_overrides: LabelOverrides,
    /// The launch template.
    pub launch_template: LaunchTemplate,
    /// Overrides: instance types, each in every subnet; each is named once.
    pub instance_types: Vec<String>,
    /// Overrides: subnets, each of an availability zone of its own: two pools of one type and zone EC2 refuses.
    pub subnet_ids: Vec<String>,
    /// When idle runners are kept; where several schedules hold, the largest count wins.
    pub idle: Vec<IdleSchedule>,
    /// Where the runners that idle schedules keep are registered; `None`: at the only place there is.
    pub idle_owner: Option<Scope>,
    /// Which of its idle instances go first.
    pub eviction: Eviction,
    /// Its timers.
    pub timers: Timers,
}

impl Fleet {
    /// Name of the runner on that instance.
    #[must_use]
    pub fn runner_name(&self, instance_id: &InstanceId) -> RunnerName {
        RunnerName::new(format!("{}{instance_id}", self.runner_name_prefix))
    }

    /// Whether this fleet takes a job with these labels.
    #[must_use]
    pub fn accepts(&self, job_labels: &[String]) -> bool {
        matches!(self.fit(job_labels), Fit::Takes { .. })
    }

    /// How many idle runners its schedules keep in the minute of `now`; 0 where none holds.
    #[must_use]
    pub fn idle_count(&self, now: Timestamp) -> u32 {
        self.idle.iter().filter(|schedule| schedule.holds(now)).map(IdleSchedule::count).max().unwrap_or(0)
    }
}

/// Durations of one fleet; defaults and minimums are design section 5's table unless a field says otherwise.
///
/// Each is longer than a lag that was measured at GitHub or AWS (facts/github.md section 5.0): a lower value ends
/// runners on readings that may still be wrong, a higher one lets an unneeded instance live longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timers {
    /// W: `busy: false` must be read twice, this far apart.
    pub idle_window: Duration,
    /// Q: wait between a DELETE answered 204 and the re-check.
    pub quarantine: Duration,
    /// G: wait after a job's completion; post steps and logs may still run (actions/runner issue 4492).
    pub completed_grace: Duration,
    /// `T_boot`: younger instances and registrations count as booting.
    pub boot_grace: Duration,
    /// `T_gone`: how long a registration must be absent before its absence counts.
    pub gone_grace: Duration,
    /// An instance that never had a job ends itself after this.
    pub idle_maximum: Duration,
    /// How long a drain request may go unanswered before the control plane takes over.
    pub drain_answer: Duration,
    /// A vital sign younger than this vetoes; fixed at 10 min (design section 4) but for test timers.
    pub vital_sign_silence: Duration,
    /// Age under which an idle instance is not drained: it was launched for a job that may be about to come.
    pub minimum_running: Duration,
    /// No drain while a matching job that was queued within this time waits; fixed at 10 min but for test timers.
    pub queue_quiet: Duration,
    /// How long one invocation may hold a launch (design section 6); fixed at 5 min but for test timers.
    pub launch_lease: Duration,
    /// Beyond the boot grace, how long an instance may stand idle before its job is launched for anew: GitHub re-queues
    /// a job that was not picked up within 60 s (facts/github.md 2.1).
    pub pick_up: Duration,
    /// How long a stored intent to remove belongs to the pass that stored it. Longer than one GitHub call (10 s), one
    /// AWS call and two writes to the ledger: a shorter one lets two passes carry out one intent side by side, a longer
    /// one only lets what a dead pass left behind lie for longer.
    pub removal_lease: Duration,
}

/// GitHub fails a self-hosted job after 5 days (docs.github.com, actions/reference/limits, read 2026-11-20); 2 hours of
/// margin. No configuration shortens it: it is the one bound that ends an instance without asking GitHub.
pub const HARD_AGE: Duration = Duration::from_hours(5 * 24 + 2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::fleet;

    #[test]
    fn globs_match_whole_names_without_case() {
        for (pattern, text, expected) in [
            ("octo/*", "Octo/hello", true),
            ("octo/*", "octopus/hello", false),
            ("*", "any/thing", true),
            ("octo/hello", "octo/hello-2", false),
            ("*/he*o", "octo/hello", true),
            ("*/he*o", "octo/help", false),
            ("a*b*c", "abc", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(Glob::new(pattern).matches(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn what_a_glob_may_match_is_told_by_a_beginning() {
        for (pattern, beginning, expected) in [
            ("*", "octo/", true),
            ("octo/*", "Octo/", true),
            ("octo/hello-*", "octo/", true),
            ("octo/hello", "octo/", true),
            ("oct*", "octo/", true),
            ("*/hello", "octo/", true),
            ("octo*", "oct/", false),
            ("octo/hello", "octopus/", false),
            ("octo/*", "octopus/", false),
            ("octopus/*", "octo/", false),
            ("octo", "octo/", false),
        ] {
            assert_eq!(Glob::new(pattern).may_begin_with(beginning), expected, "{pattern} {beginning}");
        }
    }

    #[test]
    fn an_owner_is_asked_for_its_repositories_only_where_every_list_may_admit_one() {
        type Case = (&'static str, fn(&mut crate::config::Policy), bool);
        let cases: [Case; 7] = [
            ("no list", |_| {}, true),
            ("its login", |policy| policy.owners = vec![Glob::new("acme"), Glob::new("OCTO")], true),
            ("another login", |policy| policy.owners = vec![Glob::new("acme")], false),
            ("its id", |policy| policy.ids.owners = Some([1, 12].into()), true),
            ("another id", |policy| policy.ids.owners = Some([1].into()), false),
            ("a repository of its", |policy| policy.repositories = vec![Glob::new("octo/hello")], true),
            ("another's repository", |policy| policy.repositories = vec![Glob::new("acme/*")], false),
        ];
        for (case, change, expected) in cases {
            let mut policy = crate::fake::policy();
            change(&mut policy);
            assert_eq!(policy.may_serve_owner("octo", Some(12)), expected, "{case}");
        }
        let mut policy = crate::fake::policy();
        policy.ids.owners = Some([1].into());
        assert!(policy.may_serve_owner("octo", None), "its repositories tell");
    }

    #[test]
    fn the_largest_count_of_the_schedules_that_hold_wins() {
        let schedule = |cron, count| IdleSchedule::try_new(cron, "UTC", count).expect("valid");
        let pool = Fleet {
            idle: vec![schedule("* * * * *", 1), schedule("* 9-17 * * 1-5", 4), schedule("* 12 * * *", 2)],
            ..fleet("linux")
        };
        for (case, now, expected) in [
            ("one holds", "2026-11-20T03:00:00Z", 1),
            ("all hold, and the largest is not the last", "2026-11-20T12:00:00Z", 4),
            ("two hold", "2026-11-21T12:00:00Z", 2),
        ] {
            assert_eq!(pool.idle_count(Timestamp::parse(now).expect("RFC 3339")), expected, "{case}: {now}");
        }
        assert_eq!(fleet("linux").idle_count(Timestamp(0)), 0, "no schedule keeps nothing");
    }
}
