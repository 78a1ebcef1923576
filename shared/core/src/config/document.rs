//! The configuration document: JSON as written by a person or by Terraform, checked once, trusted after.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;

use super::{
    AllowedIds, ConfigError, DEFAULT_RUNNER_GROUP, Environment, Eviction, Fleet, Glob, IdleSchedule, LabelOverrides,
    LaunchTemplate, Market, Matching, Mode, Policy, Registration, Search, Timers,
};
use crate::ids::{FleetName, Repository, Scope};
use crate::time::Timestamp;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    mode: ModeText,
    #[serde(default)]
    test_timers: bool,
    #[serde(default = "any")]
    owners: Vec<String>,
    owner_ids: Option<BTreeSet<u64>>,
    #[serde(default = "any")]
    repositories: Vec<String>,
    repository_ids: Option<BTreeSet<u64>>,
    ledger_epoch: Option<String>,
    search_interval_seconds: Option<u64>,
    search_job_age_seconds: Option<u64>,
    search_idle_trust_seconds: Option<u64>,
    fleets: Vec<FleetDocument>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ModeText {
    #[default]
    Enforce,
    Observe,
    Retire,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FleetDocument {
    name: String,
    labels: Vec<String>,
    #[serde(default)]
    matching: MatchingText,
    #[serde(default)]
    registration: RegistrationText,
    #[serde(default = "default_group")]
    runner_group_id: u64,
    #[serde(default = "default_prefix")]
    runner_name_prefix: String,
    runner_count_max: u32,
    market: Market,
    fallback: Option<Market>,
    #[serde(default)]
    label_overrides: LabelOverridesDocument,
    launch_template: LaunchTemplate,
    instance_types: Vec<String>,
    subnet_ids: Vec<String>,
    #[serde(default)]
    idle: Vec<IdleDocument>,
    idle_owner: Option<String>,
    #[serde(default)]
    eviction: Eviction,
    /// Accepted only to be refused with the reason.
    #[serde(default = "yes")]
    ephemeral: bool,
    idle_window_seconds: Option<u64>,
    quarantine_seconds: Option<u64>,
    completed_grace_seconds: Option<u64>,
    boot_grace_seconds: Option<u64>,
    gone_grace_seconds: Option<u64>,
    idle_maximum_seconds: Option<u64>,
    drain_answer_seconds: Option<u64>,
    vital_sign_silence_seconds: Option<u64>,
    minimum_running_seconds: Option<u64>,
    queue_quiet_seconds: Option<u64>,
    launch_lease_seconds: Option<u64>,
    pick_up_seconds: Option<u64>,
    removal_lease_seconds: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelOverridesDocument {
    #[serde(default)]
    instance_types: Vec<String>,
    #[serde(default)]
    markets: Vec<Market>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IdleDocument {
    cron: String,
    #[serde(default = "utc")]
    time_zone: String,
    count: u32,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum MatchingText {
    #[default]
    Exact,
    Subset,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RegistrationText {
    #[default]
    Organization,
    Repository,
}

fn any() -> Vec<String> {
    vec!["*".to_owned()]
}

fn default_group() -> u64 {
    DEFAULT_RUNNER_GROUP
}

fn default_prefix() -> String {
    "runner-".to_owned()
}

fn yes() -> bool {
    true
}

fn utc() -> String {
    "UTC".to_owned()
}

/// Name, default and minimum of a timer, in seconds (design section 5).
struct Timer(&'static str, u64, u64);

const IDLE_WINDOW: Timer = Timer("idle_window_seconds", 300, 120);
const QUARANTINE: Timer = Timer("quarantine_seconds", 300, 120);
const COMPLETED_GRACE: Timer = Timer("completed_grace_seconds", 900, 600);
const BOOT_GRACE: Timer = Timer("boot_grace_seconds", 900, 300);
const GONE_GRACE: Timer = Timer("gone_grace_seconds", 1_800, 900);
const IDLE_MAXIMUM: Timer = Timer("idle_maximum_seconds", 3_600, 60);
const DRAIN_ANSWER: Timer = Timer("drain_answer_seconds", 300, 60);
const VITAL_SIGN_SILENCE: Timer = Timer("vital_sign_silence_seconds", 600, 600);
const MINIMUM_RUNNING: Timer = Timer("minimum_running_seconds", 300, 0);
const QUEUE_QUIET: Timer = Timer("queue_quiet_seconds", 600, 600);
const LAUNCH_LEASE: Timer = Timer("launch_lease_seconds", 300, 300);
const PICK_UP: Timer = Timer("pick_up_seconds", 60, 60);
const REMOVAL_LEASE: Timer = Timer("removal_lease_seconds", 120, 120);
const SEARCH_INTERVAL: Timer = Timer("search_interval_seconds", 300, 300);
const SEARCH_JOB_AGE: Timer = Timer("search_job_age_seconds", 60, 60);
const SEARCH_IDLE_TRUST: Timer = Timer("search_idle_trust_seconds", 180, 180);

/// Longest timer that is accepted: 5 days, GitHub's limit for a job. A longer one is a slip of the pen.
const TIMER_SECONDS_MAX: u64 = 5 * 24 * 3_600;

/// Checks the document and makes the policy of it; every mistake is named with its path.
pub fn parse_policy(json: &str, environment: &Environment) -> Result<Policy, ConfigError> {
    let document: Document = serde_json::from_str(json)
        .map_err(|error| ConfigError(vec![format!("{}: {error}", environment.config_parameter)]))?;
    let mut mistakes = Vec::new();
    if document.test_timers && !environment.loopback {
        mistakes.push(
            "test_timers: true is accepted only while GITHUB_API_URL and AWS_ENDPOINT_URL are both loopback addresses; \
             remove it"
                .to_owned(),
        );
    }
    let mut checks = Checks { mistakes, test_timers: document.test_timers };
    if document.fleets.is_empty() {
        checks.refuse("fleets", "empty; name at least one fleet");
    }
    checks.allow_lists(&document);
    let mut names = BTreeSet::new();
    for (index, fleet) in document.fleets.iter().enumerate() {
        if !names.insert(fleet.name.clone()) {
            checks.refuse(&format!("fleets[{index}].name"), &format!("{:?} is used twice", fleet.name));
        }
    }
    let fleets = document.fleets.into_iter().enumerate().map(|(index, fleet)| checks.fleet(index, fleet)).collect();
    let orphan_timers = checks.timers("", None);
    let search = Search {
        interval: checks.duration("", &SEARCH_INTERVAL, document.search_interval_seconds),
        job_age: checks.duration("", &SEARCH_JOB_AGE, document.search_job_age_seconds),
        idle_trust: checks.duration("", &SEARCH_IDLE_TRUST, document.search_idle_trust_seconds),
    };
    let ledger_epoch = checks.time("ledger_epoch", document.ledger_epoch.as_deref());
    if !checks.mistakes.is_empty() {
        return Err(ConfigError(checks.mistakes));
    }
    Ok(Policy {
        deployment: environment.deployment.clone(),
        mode: match document.mode {
            ModeText::Enforce => Mode::Enforce,
            ModeText::Observe => Mode::Observe,
            ModeText::Retire => Mode::Retire,
        },
        owners: globs(&document.owners),
        repositories: globs(&document.repositories),
        ids: AllowedIds { owners: document.owner_ids, repositories: document.repository_ids },
        fleets,
        orphan_timers,
        ledger_epoch,
        search,
        mutant: environment.mutant,
    })
}

fn globs(patterns: &[String]) -> Vec<Glob> {
    patterns.iter().map(|pattern| Glob::new(pattern)).collect()
}

struct Checks {
    mistakes: Vec<String>,
    test_timers: bool,
}

impl Checks {
    fn refuse(&mut self, path: &str, why: &str) {
        self.mistakes.push(format!("{path}: {why}"));
    }

    fn time(&mut self, path: &str, text: Option<&str>) -> Option<Timestamp> {
        let text = text?;
        let time = Timestamp::parse(text);
        if time.is_none() {
            self.refuse(path, &format!("{text:?} is no RFC 3339 time; write for example \"2026-11-20T14:30:00Z\""));
        }
        time
    }

    /// A list that admits nobody, or a pattern that no name can match, is a slip of the pen: it would lose every job.
    fn allow_lists(&mut self, document: &Document) {
        let ids = [("owner_ids", &document.owner_ids), ("repository_ids", &document.repository_ids)];
        for (path, _) in ids.into_iter().filter(|(_, ids)| ids.as_ref().is_some_and(BTreeSet::is_empty)) {
            self.refuse(path, "empty, so that no job would be served; name an id or remove the field");
        }
        for (path, patterns) in [("owners", &document.owners), ("repositories", &document.repositories)] {
            if patterns.is_empty() {
                self.refuse(path, "empty, so that no job would be served; name a pattern or remove the field");
            }
        }
        for (index, pattern) in document.owners.iter().enumerate().filter(|(_, pattern)| pattern.contains('/')) {
            self.refuse(
                &format!("owners[{index}]"),
                &format!("{pattern:?} is no login; owner/name goes to repositories"),
            );
        }
        let nameless = |(_, pattern): &(usize, &String)| !pattern.contains(['/', '*']);
        for (index, pattern) in document.repositories.iter().enumerate().filter(nameless) {
            let why =
                format!("{pattern:?} matches no owner/name; write {:?} for all of an owner", format!("{pattern}/*"));
            self.refuse(&format!("repositories[{index}]"), &why);
        }
    }

    fn idle(&mut self, path: &str, runner_count_max: u32, schedules: &[IdleDocument]) -> Vec<IdleSchedule> {
        let mut checked = Vec::new();
        for (index, IdleDocument { cron, time_zone, count }) in schedules.iter().enumerate() {
            match IdleSchedule::try_new(cron, time_zone, *count) {
                Ok(schedule) => checked.push(schedule),
                Err(mistakes) => {
                    for mistake in mistakes {
                        self.refuse(&format!("{path}[{index}].{}", mistake.field), &mistake.why);
                    }
                }
            }
            if *count > runner_count_max {
                let why = format!("{count} is above the fleet's runner_count_max {runner_count_max}");
                self.refuse(&format!("{path}[{index}].count"), &why);
            }
        }
        checked
    }

    /// Where a pool registers: a login, or for a repository `owner/name`.
    fn owner(&mut self, path: &str, registration: RegistrationText, text: Option<&str>) -> Option<Scope> {
        let text = text?;
        // What is a login is the first half of a repository's full name.
        let full_name = if text.contains('/') { text.to_owned() } else { format!("{text}/any") };
        let scope = Scope::parse(text).filter(|_| Repository::try_from(full_name).is_ok());
        match (&scope, registration) {
            (None, _) => self.refuse(path, &format!("{text:?} is neither a login nor a repository `owner/name`")),
            (Some(Scope::Organization { .. }), RegistrationText::Repository) => {
                self.refuse(path, &format!("{text:?} is no repository, and the fleet registers with repositories"));
            }
            (Some(_), _) => {}
        }
        scope
    }

    fn fleet(&mut self, index: usize, fleet: FleetDocument) -> Fleet {
        let path = format!("fleets[{index}].");
        let at = |field: &str| format!("{path}{field}");
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if fleet.name.is_empty() || fleet.name.len() > 64 || !plain(&fleet.name) {
            self.refuse(&at("name"), &format!("{:?} is not [A-Za-z0-9_-]{{1,64}}", fleet.name));
        }
        if !fleet.ephemeral {
            self.refuse(
                &at("ephemeral"),
                "false; reusable runners are refused: their busy flag lies, a second assignment cancels the first job, \
                 and a registration token would lie on the instance. Remove the field",
            );
        }
        self.labels(&at, &fleet.labels, &fleet.label_overrides);
        match (fleet.market, fleet.fallback) {
            (_, None) | (Market::Spot, Some(Market::OnDemand)) => {}
            (Market::Spot | Market::OnDemand, Some(_)) => {
                self.refuse(&at("fallback"), "only spot falls back, and only to on-demand; remove the field");
            }
        }
        match fleet.registration {
            RegistrationText::Repository if fleet.runner_group_id != default_group() => {
                self.refuse(&at("runner_group_id"), "repositories have no runner groups; remove the field");
            }
            RegistrationText::Repository | RegistrationText::Organization => {}
        }
        // GitHub's limit for a runner's name is 64 characters, an instance id has 19.
        if fleet.runner_name_prefix.len() > 40 || !plain(&fleet.runner_name_prefix) {
            self.refuse(&at("runner_name_prefix"), "must be at most 40 of [A-Za-z0-9_-]");
        }
        if fleet.runner_count_max == 0 {
            self.refuse(&at("runner_count_max"), "0 launches nothing; remove the fleet, or set mode to retire");
        }
        if !fleet.launch_template.id.starts_with("lt-") {
            self.refuse(&at("launch_template.id"), "must be a launch template id, lt-…");
        }
        if fleet.launch_template.version.parse::<u64>().is_err() {
            self.refuse(&at("launch_template.version"), "must be a number: $Latest and $Default change under a launch");
        }
        if fleet.instance_types.is_empty() {
            self.refuse(&at("instance_types"), "empty; name at least one instance type");
        }
        if fleet.subnet_ids.is_empty() {
            self.refuse(&at("subnet_ids"), "empty; name at least one subnet");
        }
        self.once(&at("instance_types"), &fleet.instance_types);
        self.once(&at("subnet_ids"), &fleet.subnet_ids);
        let idle = self.idle(&at("idle"), fleet.runner_count_max, &fleet.idle);
        let idle_owner = self.owner(&at("idle_owner"), fleet.registration, fleet.idle_owner.as_deref());
        let timers = self.timers(&path, Some(&fleet));
        Fleet {
            name: FleetName::new(fleet.name),
            labels: fleet.labels,
            matching: match fleet.matching {
                MatchingText::Exact => Matching::Exact,
                MatchingText::Subset => Matching::Subset,
            },
            registration: match fleet.registration {
                RegistrationText::Organization => Registration::Organization,
                RegistrationText::Repository => Registration::Repository,
            },
            runner_group_id: fleet.runner_group_id,
            runner_name_prefix: fleet.runner_name_prefix,
            runner_count_max: fleet.runner_count_max,
            market: fleet.market,
            fallback: fleet.fallback,
            label_overrides: LabelOverrides {
                instance_types: fleet.label_overrides.instance_types,
                markets: fleet.label_overrides.markets,
            },
            launch_template: fleet.launch_template,
            instance_types: fleet.instance_types,
            subnet_ids: fleet.subnet_ids,
            idle,
            idle_owner,
            eviction: fleet.eviction,
            timers,
        }
    }

    fn duration(&mut self, path: &str, Timer(name, default, minimum): &Timer, seconds: Option<u64>) -> Duration {
        let seconds = seconds.unwrap_or(*default);
        if seconds < *minimum && !self.test_timers {
            self.refuse(&format!("{path}{name}"), &format!("{seconds} is below the minimum {minimum}"));
        }
        if seconds > TIMER_SECONDS_MAX {
            self.refuse(&format!("{path}{name}"), &format!("{seconds} is above the maximum {TIMER_SECONDS_MAX}"));
        }
        Duration::from_secs(seconds)
    }

    /// EC2 refuses a whole `CreateFleet` in which two overrides are of one type and zone: the fleet would launch nothing.
    fn once(&mut self, path: &str, values: &[String]) {
        for (index, value) in values.iter().enumerate() {
            if values.iter().take(index).any(|earlier| earlier == value) {
                let why =
                    format!("{value:?} is named twice, and EC2 refuses every launch with duplicate pools; remove it");
                self.refuse(&format!("{path}[{index}]"), &why);
            }
        }
    }

    fn labels(&mut self, at: &impl Fn(&str) -> String, labels: &[String], overrides: &LabelOverridesDocument) {
        // An override is a label of the runner as well.
        let kinds = usize::from(!overrides.instance_types.is_empty()) + usize::from(!overrides.markets.is_empty());
        if labels.is_empty() || labels.len() + kinds > 100 {
            self.refuse(&at("labels"), &format!("must be 1 to {} labels (GitHub's limit is 100)", 100 - kinds));
        }
        for label in labels.iter().filter(|label| label.is_empty() || label.len() > 256) {
            self.refuse(&at("labels"), &format!("{label:?} must have 1 to 256 characters"));
        }
        for (index, label) in labels.iter().enumerate() {
            if labels.iter().take(index).any(|earlier| earlier.eq_ignore_ascii_case(label)) {
                self.refuse(&at("labels"), &format!("{label:?} is named twice; GitHub compares labels without case"));
            }
        }
        let plain = |text: &str| {
            let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'.' || byte == b'-';
            (1..=64).contains(&text.len()) && text.bytes().all(known)
        };
        for (index, value) in overrides.instance_types.iter().enumerate().filter(|(_, value)| !plain(value)) {
            let path = at(&format!("label_overrides.instance_types[{index}]"));
            self.refuse(&path, &format!("{value:?} is no instance type; write for example \"c7i.2xlarge\""));
        }
    }

    /// Of no fleet: all at their defaults.
    fn timers(&mut self, path: &str, fleet: Option<&FleetDocument>) -> Timers {
        let mut of =
            |timer: Timer, field: fn(&FleetDocument) -> Option<u64>| self.duration(path, &timer, fleet.and_then(field));
        Timers {
            idle_window: of(IDLE_WINDOW, |fleet| fleet.idle_window_seconds),
            quarantine: of(QUARANTINE, |fleet| fleet.quarantine_seconds),
            completed_grace: of(COMPLETED_GRACE, |fleet| fleet.completed_grace_seconds),
            boot_grace: of(BOOT_GRACE, |fleet| fleet.boot_grace_seconds),
            gone_grace: of(GONE_GRACE, |fleet| fleet.gone_grace_seconds),
            idle_maximum: of(IDLE_MAXIMUM, |fleet| fleet.idle_maximum_seconds),
            drain_answer: of(DRAIN_ANSWER, |fleet| fleet.drain_answer_seconds),
            vital_sign_silence: of(VITAL_SIGN_SILENCE, |fleet| fleet.vital_sign_silence_seconds),
            minimum_running: of(MINIMUM_RUNNING, |fleet| fleet.minimum_running_seconds),
            queue_quiet: of(QUEUE_QUIET, |fleet| fleet.queue_quiet_seconds),
            launch_lease: of(LAUNCH_LEASE, |fleet| fleet.launch_lease_seconds),
            pick_up: of(PICK_UP, |fleet| fleet.pick_up_seconds),
            removal_lease: of(REMOVAL_LEASE, |fleet| fleet.removal_lease_seconds),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Repository;

    fn environment(loopback: bool) -> Environment {
        let url = if loopback { "http://127.0.0.1:1" } else { "https://api.github.com" };
        Environment::from_vars(|name| {
            Some(match name {
                "GITHUB_API_URL" | "AWS_ENDPOINT_URL" => url.to_owned(),
                "ENVIRONMENT" => "prod".to_owned(),
                "RUNNER_SCALER_MUTANT" | "GITHUB_POINTS_PER_MINUTE" => return None,
                _ => "x".to_owned(),
            })
        })
        .expect("complete")
    }

    fn document(extra: &str) -> String {
        format!(
            r#"{{"fleets": [{{"name": "linux", "labels": ["self-hosted", "linux"], "runner_count_max": 5, "market": "spot",
                "launch_template": {{"id": "lt-1", "version": "2"}}, "instance_types": ["m7i.large"],
                "subnet_ids": ["subnet-1"] {extra}}}]}}"#
        )
    }

    #[test]
    fn a_small_document_gets_the_designs_defaults() {
        let policy = parse_policy(&document(""), &environment(false)).expect("valid");
        let fleet = policy.fleets.first().expect("one fleet");
        assert_eq!(policy.mode, Mode::Enforce);
        assert_eq!(fleet.timers.idle_window, Duration::from_secs(300));
        assert_eq!(fleet.timers.completed_grace, Duration::from_secs(900));
        assert_eq!(fleet.timers.removal_lease, Duration::from_secs(120));
        assert_eq!(fleet.timers, policy.orphan_timers);
        assert_eq!((&fleet.idle, &fleet.idle_owner), (&Vec::new(), &None));
        let seconds =
            [policy.search.interval, policy.search.job_age, policy.search.idle_trust].map(|time| time.as_secs());
        assert_eq!(seconds, [300, 60, 180]);
        assert_eq!(fleet.eviction, Eviction::OldestFirst);
        assert_eq!(policy.ledger_epoch, None);
    }

    #[test]
    fn the_pool_and_the_epoch_are_read_as_written() {
        let text = document(
            r#", "eviction": "newest_first", "removal_lease_seconds": 180,
                "idle": [{"cron": "* 9-17 * * 1-5", "time_zone": "Europe/Berlin", "count": 5},
                         {"cron": "* * * * *", "count": 1}]"#,
        )
        .replacen('{', r#"{"ledger_epoch": "2026-11-20T14:30:00+01:00", "#, 1);
        let policy = parse_policy(&text, &environment(false)).expect("valid");
        let fleet = policy.fleets.first().expect("one fleet");
        assert_eq!(policy.ledger_epoch, Timestamp::parse("2026-11-20T13:30:00Z"));
        assert_eq!(fleet.eviction, Eviction::NewestFirst);
        assert_eq!(fleet.timers.removal_lease, Duration::from_secs(180));
        let count = |now| fleet.idle_count(Timestamp::parse(now).expect("RFC 3339"));
        assert_eq!(count("2026-11-20T08:30:00Z"), 5, "09:30 in Berlin");
        assert_eq!(count("2026-11-20T17:30:00Z"), 1, "18:30 in Berlin, and a schedule in UTC that always holds");
    }

    #[test]
    fn a_mistake_in_the_pool_or_the_epoch_names_itself() {
        for (case, top, fleet, expected) in [
            (
                "an epoch that is only a day",
                r#""ledger_epoch": "2026-11-20", "#,
                "",
                "ledger_epoch: \"2026-11-20\" is no RFC 3339 time; write for example \"2026-11-20T14:30:00Z\"",
            ),
            (
                "seconds in the second schedule",
                "",
                r#", "idle": [{"cron": "* * * * *", "count": 1}, {"cron": "* * 9-17 * * 1-5", "count": 1}]"#,
                "fleets[0].idle[1].cron: \"* * 9-17 * * 1-5\" has 6 fields; remove the first",
            ),
            (
                "a zone that is none",
                "",
                r#", "idle": [{"cron": "* * * * *", "time_zone": "Berlin", "count": 1}]"#,
                "fleets[0].idle[0].time_zone: \"Berlin\" is no time zone",
            ),
            (
                "nothing to keep",
                "",
                r#", "idle": [{"cron": "* * * * *", "count": 0}]"#,
                "fleets[0].idle[0].count: 0 keeps nothing",
            ),
            (
                "more than the fleet may have",
                "",
                r#", "idle": [{"cron": "* * * * *", "count": 6}]"#,
                "fleets[0].idle[0].count: 6 is above the fleet's runner_count_max 5",
            ),
            (
                "an owner that is none",
                "",
                r#", "idle_owner": "octo/hello/x""#,
                "fleets[0].idle_owner: \"octo/hello/x\" is neither a login nor a repository `owner/name`",
            ),
            (
                "an organisation for a fleet that registers with repositories",
                "",
                r#", "registration": "repository", "idle_owner": "octo""#,
                "fleets[0].idle_owner: \"octo\" is no repository",
            ),
            (
                "a search more often than GitHub likes",
                r#""search_interval_seconds": 60, "#,
                "",
                "search_interval_seconds: 60 is below the minimum 300",
            ),
            ("no count", "", r#", "idle": [{"cron": "* * * * *"}]"#, "missing field `count`"),
            ("another's spelling", "", r#", "idle": [{"cron": "* * * * *", "idleCount": 1}]"#, "idleCount"),
            ("an order that is none", "", r#", "eviction": "random""#, "unknown variant `random`"),
            (
                "a lease shorter than what it covers",
                "",
                r#", "removal_lease_seconds": 119"#,
                "fleets[0].removal_lease_seconds: 119 is below the minimum 120",
            ),
        ] {
            let text = document(fleet).replacen('{', &format!("{{{top}"), 1);
            let error = parse_policy(&text, &environment(false)).expect_err(case);
            assert_eq!(error.0.len(), 1, "{case}: {error}");
            assert!(error.to_string().contains(expected), "{case}: {error}");
        }
    }

    #[test]
    fn overrides_and_the_fallback_are_off_unless_written() {
        let policy = parse_policy(&document(""), &environment(false)).expect("valid");
        let fleet = policy.fleets.first().expect("one fleet");
        assert_eq!((&fleet.label_overrides, fleet.fallback), (&LabelOverrides::default(), None));
        let text = r#", "fallback": "on-demand",
            "label_overrides": {"instance_types": ["c7i.2xlarge", "u-6tb1.metal"], "markets": ["on-demand"]}"#;
        let policy = parse_policy(&document(text), &environment(false)).expect("valid");
        let fleet = policy.fleets.first().expect("one fleet");
        assert_eq!(fleet.fallback, Some(Market::OnDemand));
        assert_eq!(fleet.label_overrides.instance_types, ["c7i.2xlarge", "u-6tb1.metal"]);
        assert_eq!(fleet.label_overrides.markets, [Market::OnDemand]);
    }

    #[test]
    fn a_mistake_in_labels_overrides_or_the_fallback_names_itself() {
        for (case, fleet, expected) in [
            ("a label twice", r#""labels": ["a", "A"]"#.to_owned(), r#"fleets[0].labels: "A" is named twice"#),
            (
                "no instance type",
                r#""label_overrides": {"instance_types": ["c7i.large; reboot"]}"#.to_owned(),
                r#"fleets[0].label_overrides.instance_types[0]: "c7i.large; reboot" is no instance type"#,
            ),
            ("no market", r#""label_overrides": {"markets": ["cheap"]}"#.to_owned(), "unknown variant `cheap`"),
            ("no such override", r#""label_overrides": {"images": ["ami-1"]}"#.to_owned(), "unknown field `images`"),
            ("back to itself", r#""fallback": "spot""#.to_owned(), "fleets[0].fallback: only spot falls back"),
            (
                "a group of a repository",
                r#""registration": "repository", "runner_group_id": 3"#.to_owned(),
                "fleets[0].runner_group_id: repositories have no runner groups; remove the field",
            ),
        ] {
            let text = match fleet.strip_prefix(r#""labels": "#) {
                Some(labels) => document("").replace(r#"["self-hosted", "linux"]"#, labels),
                None => document(&format!(", {fleet}")),
            };
            let error = parse_policy(&text, &environment(false)).expect_err(case);
            assert_eq!(error.0.len(), 1, "{case}: {error}");
            assert!(error.to_string().contains(expected), "{case}: {error}");
        }
    }

    #[test]
    fn a_type_or_a_subnet_that_is_named_twice_names_itself() {
        let twice = document("").replace(r#"["m7i.large"]"#, r#"["m7i.large", "c7i.large", "m7i.large"]"#);
        let twice = twice.replace(r#"["subnet-1"]"#, r#"["subnet-1", "subnet-1", "subnet-2"]"#);
        let error = parse_policy(&twice, &environment(false)).expect_err("EC2 would refuse every launch");
        let [types, subnets] = error.0.as_slice() else { panic!("both, once each: {error}") };
        assert!(types.starts_with(r#"fleets[0].instance_types[2]: "m7i.large" is named twice"#), "{types}");
        assert!(subnets.starts_with(r#"fleets[0].subnet_ids[1]: "subnet-1" is named twice"#), "{subnets}");
        assert!(error.0.iter().all(|mistake| mistake.ends_with("remove it")), "each says what to do: {error}");
    }

    #[test]
    fn a_runner_has_at_most_a_hundred_labels_overrides_among_them() {
        let with = |count: usize| {
            let labels =
                serde_json::to_string(&(0..count).map(|n| format!("l{n}")).collect::<Vec<_>>()).expect("plain");
            let text = document(r#", "label_overrides": {"instance_types": ["c7i.large"], "markets": ["spot"]}"#);
            parse_policy(&text.replace(r#"["self-hosted", "linux"]"#, &labels), &environment(false))
        };
        assert!(with(98).is_ok());
        let error = with(99).expect_err("101 with its overrides");
        assert!(error.to_string().contains("fleets[0].labels: must be 1 to 98 labels"), "{error}");
    }

    #[test]
    fn every_mistake_is_reported_at_once_with_its_path() {
        let text = document(r#", "boot_grace_seconds": 60, "ephemeral": false, "runner_name_prefix": "a b""#);
        let error = parse_policy(&text, &environment(false)).expect_err("three mistakes");
        assert_eq!(error.0.len(), 3, "{error}");
        assert!(error.to_string().contains("fleets[0].boot_grace_seconds: 60 is below the minimum 300"), "{error}");
        assert!(error.to_string().contains("fleets[0].ephemeral: false; reusable runners are refused"), "{error}");
    }

    #[test]
    fn allow_lists_are_read_as_written_and_one_that_admits_nobody_names_itself() {
        let with = |top: &str| document("").replacen('{', &format!("{{{top}, "), 1);
        let text = with(
            r#""owners": ["octo", "acme-*"], "owner_ids": [7, 8], "repositories": ["*/hello"], "repository_ids": [9]"#,
        );
        let policy = parse_policy(&text, &environment(false)).expect("valid");
        let names = ["Octo/hello", "acme-lab/Hello", "octo/other", "acme/hello", "octopus/hello"];
        let served = names.map(|name| policy.serves(&Repository::try_from(name.to_owned()).expect("a full name")));
        assert_eq!(served, [true, true, false, false, false]);
        for (owner, repository, expected) in [
            (Some(7), Some(9), true),
            (Some(8), Some(9), true),
            (Some(9), Some(7), false),
            (Some(7), None, false),
            (None, Some(9), false),
        ] {
            assert_eq!(policy.ids.admit(owner, repository), expected, "{owner:?} {repository:?}");
        }
        let open = parse_policy(&document(""), &environment(false)).expect("valid").ids;
        assert!(open.admit(None, None), "no list asks for no id");
        for (top, expected) in [
            (r#""owners": []"#, "owners: empty, so that no job would be served"),
            (r#""repositories": []"#, "repositories: empty, so that no job would be served"),
            (r#""owner_ids": []"#, "owner_ids: empty, so that no job would be served"),
            (r#""repository_ids": []"#, "repository_ids: empty, so that no job would be served"),
            (r#""owners": ["*", "octo/hello"]"#, "owners[1]: \"octo/hello\" is no login"),
            (r#""repositories": ["octo"]"#, "repositories[0]: \"octo\" matches no owner/name; write \"octo/*\""),
            (r#""owner_ids": ["octo"]"#, "invalid type: string \"octo\", expected u64"),
        ] {
            let error = parse_policy(&with(top), &environment(false)).expect_err(top);
            assert!(error.to_string().contains(expected), "{top}: {error}");
        }
    }

    #[test]
    fn test_timers_are_for_loopback_only() {
        let text = document(r#", "idle_window_seconds": 1"#).replacen('{', r#"{"test_timers": true, "#, 1);
        assert!(parse_policy(&text, &environment(true)).is_ok());
        let error = parse_policy(&text, &environment(false)).expect_err("not on this machine");
        assert!(error.to_string().contains("test_timers"), "{error}");
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let error = parse_policy(&document(r#", "idle_windows_seconds": 300"#), &environment(false)).expect_err("typo");
        assert!(error.to_string().contains("idle_windows_seconds"), "{error}");
    }
}
