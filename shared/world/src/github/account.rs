//! Installations of the App, their repositories, and installation tokens.

use super::{Cx, GitHub};
use crate::Millis;
use serde_json::{Value, json};

/// Installation tokens live for an hour (docs: generating an installation access token).
const TOKEN_LIFE_MS: Millis = 3_600_000;
/// The primary rate limit's window.
const RATE_WINDOW_MS: Millis = 3_600_000;

/// Whether an owner is an organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerKind {
    /// Runners may be registered for the whole organisation.
    Organization,
    /// Runners are registered for a repository.
    User,
}

/// What GitHub answers to every call about one owner for a while, whatever is true: a lost permission, a rename, a
/// suspension, an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// 404.
    NotFound,
    /// 403 without a word of patience.
    Denied,
    /// 502.
    Unavailable,
    /// 403 with `retry-after`: a secondary rate limit.
    Limited,
    /// 200, and lists that leave out most of what there is.
    Sparse,
    /// 404 to every call about runners, as to an App that lost its permission for them; all else is answered.
    RunnersNotFound,
    /// 403 to every call about runners; all else is answered.
    RunnersDenied,
    /// 403 to every call that makes or deletes a runner, as to an App whose permission was narrowed to reading them.
    RunnersReadOnly,
}

/// A repository of an installation.
#[derive(Debug, Clone)]
pub struct Repository {
    /// Its id.
    pub id: u64,
    /// `owner/name` as payloads spell it.
    pub full_name: String,
    /// The `repository` object of payloads.
    pub(super) object: Value,
}

/// The App, installed for one owner.
#[derive(Debug, Clone)]
pub struct Installation {
    /// Its id.
    pub id: u64,
    /// The owner's login.
    pub owner: String,
    /// The owner's id.
    pub owner_id: u64,
    /// What the owner is.
    pub kind: OwnerKind,
    /// Suspended: tokens are refused and webhooks are not sent.
    pub suspended: bool,
    /// The repositories it reaches.
    pub repositories: Vec<Repository>,
    pub(super) trouble: Option<(Trouble, Millis)>,
    pub(super) rate_used: u32,
    pub(super) rate_resets_at: Millis,
}

/// An installation token.
#[derive(Clone)]
pub struct Token {
    /// The installation it speaks for.
    pub installation_id: u64,
    /// When it ends.
    pub expires_at: Millis,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token(<redacted> of {})", self.installation_id)
    }
}

/// Why there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No such installation: answers 404.
    #[error("no such installation")]
    Unknown,
    /// The installation is suspended: answers 403.
    #[error("this installation has been suspended")]
    Suspended,
}

/// The state of an installation's primary rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests allowed in the window.
    pub limit: u32,
    /// Requests left.
    pub remaining: u32,
    /// When the window ends.
    pub resets_at: Millis,
}

impl Repository {
    /// Whether `owner/name` of a path means this repository. In real payloads the owner's login and the first part of
    /// `full_name` may differ (renamed owners); GitHub serves both.
    #[must_use]
    pub fn answers_to(&self, owner: &str, name: &str) -> bool {
        let is_full_name = self.full_name.split_at_checked(owner.len()).is_some_and(|(own_owner, rest)| {
            let own_name = rest.strip_prefix('/');
            own_owner.eq_ignore_ascii_case(owner) && own_name.is_some_and(|own| own.eq_ignore_ascii_case(name))
        });
        is_full_name || {
            let own_name = self.object["name"].as_str().unwrap_or_default();
            let login = self.object["owner"]["login"].as_str().unwrap_or_default();
            login.eq_ignore_ascii_case(owner) && own_name.eq_ignore_ascii_case(name)
        }
    }
}

impl GitHub {
    /// Installs the App for an owner, with these repositories (names without the owner); answers the installation's id.
    pub fn install(&mut self, owner: &str, kind: OwnerKind, repositories: &[&str]) -> u64 {
        let (id, owner_id) = (self.fresh_id(), self.fresh_id());
        let mut installation = Installation::new(id, owner, owner_id, kind);
        for name in repositories {
            let repository_id = self.fresh_id();
            installation.repositories.push(super::payload::repository(repository_id, &installation, name));
        }
        self.installations.insert(id, installation);
        id
    }

    /// An owner removes the App and installs it again: it has another id from now on, by which everything that happens in
    /// its repositories is told of, and nobody knows the old one (facts/world.md G21). What was sent before bears the
    /// old id. Answers the new one; nothing where the App was not installed.
    pub fn reinstall(&mut self, owner: &str) -> Option<u64> {
        let old = self.installation_of_owner(owner)?.id;
        let id = self.fresh_id();
        let mut installation = self.installations.remove(&old)?;
        installation.id = id;
        self.installations.insert(id, installation);
        self.tokens.retain(|_, token| token.installation_id != old);
        for job in self.jobs.values_mut().filter(|job| job.installation_id == old) {
            job.installation_id = id;
            job.template["installation"]["id"] = json!(id);
        }
        Some(id)
    }

    /// All installations.
    pub fn installations(&self) -> impl Iterator<Item = &Installation> {
        self.installations.values()
    }

    /// One installation.
    #[must_use]
    pub fn installation(&self, id: u64) -> Option<&Installation> {
        self.installations.get(&id)
    }

    /// One installation, to suspend it.
    pub fn installation_mut(&mut self, id: u64) -> Option<&mut Installation> {
        self.installations.get_mut(&id)
    }

    /// The installation for an owner.
    #[must_use]
    pub fn installation_of_owner(&self, owner: &str) -> Option<&Installation> {
        self.installations.values().find(|i| i.owner.eq_ignore_ascii_case(owner))
    }

    /// The installation that reaches a repository, and the repository.
    #[must_use]
    pub fn repository(&self, owner: &str, name: &str) -> Option<(&Installation, &Repository)> {
        self.installations.values().find_map(|installation| {
            let found = installation.repositories.iter().find(|r| r.answers_to(owner, name))?;
            Some((installation, found))
        })
    }

    /// From now until then every call about this owner is answered so.
    pub fn begin_trouble(&mut self, owner: &str, trouble: Trouble, until: Millis) {
        if let Some(found) = self.installations.values_mut().find(|i| i.owner.eq_ignore_ascii_case(owner)) {
            found.trouble = Some((trouble, until));
        }
    }

    /// The trouble with an owner, and until when.
    #[must_use]
    pub fn trouble_of(&self, owner: &str, now: Millis) -> Option<(Trouble, Millis)> {
        self.installation_of_owner(owner)?.trouble.filter(|(_, until)| now < *until)
    }

    /// Makes an installation token.
    pub fn issue_token(&mut self, cx: &mut Cx<'_>, installation_id: u64) -> Result<(String, Token), TokenError> {
        let installation = self.installations.get(&installation_id).ok_or(TokenError::Unknown)?;
        if installation.suspended {
            return Err(TokenError::Suspended);
        }
        let expires_at = cx.now + TOKEN_LIFE_MS;
        // Not 40 characters, on purpose: the format is changing (OpenAPI text of the token endpoint, 2026).
        let text = format!("ghs_{installation_id}_{:x}_{}", cx.now, self.tokens.len());
        let token = Token { installation_id, expires_at };
        self.tokens.insert(text.clone(), token.clone());
        Ok((text, token))
    }

    /// The installation that a token speaks for; nothing when it is unknown or has ended.
    #[must_use]
    pub fn installation_of_token(&self, text: &str, now: Millis) -> Option<u64> {
        self.tokens.get(text).filter(|token| now < token.expires_at).map(|token| token.installation_id)
    }

    /// Counts requests against an installation's primary limit; a new window begins when the last is over.
    pub fn spend_rate(&mut self, installation_id: u64, now: Millis, requests: u32) {
        if let Some(installation) = self.installations.get_mut(&installation_id) {
            if now >= installation.rate_resets_at {
                installation.rate_used = 0;
                installation.rate_resets_at = now + RATE_WINDOW_MS;
            }
            installation.rate_used = installation.rate_used.saturating_add(requests);
        }
    }

    /// Gives requests back that turned out to be free: answered 304 (docs: conditional requests).
    pub fn refund_rate(&mut self, installation_id: u64, requests: u32) {
        if let Some(installation) = self.installations.get_mut(&installation_id) {
            installation.rate_used = installation.rate_used.saturating_sub(requests);
        }
    }

    /// An installation's primary limit as the headers show it.
    #[must_use]
    pub fn rate_limit_of(&self, installation_id: u64) -> Option<RateLimit> {
        let installation = self.installations.get(&installation_id)?;
        let limit = self.settings.rate_limit;
        Some(RateLimit {
            limit,
            remaining: limit.saturating_sub(installation.rate_used),
            resets_at: installation.rate_resets_at,
        })
    }

    /// Whether the primary limit of an installation is spent.
    #[must_use]
    pub fn rate_is_spent(&self, installation_id: u64) -> bool {
        self.installations.get(&installation_id).is_some_and(|i| i.rate_used > self.settings.rate_limit)
    }
}

impl Installation {
    pub(super) fn new(id: u64, owner: &str, owner_id: u64, kind: OwnerKind) -> Self {
        Self {
            id,
            owner: owner.to_owned(),
            owner_id,
            kind,
            suspended: false,
            repositories: Vec::new(),
            trouble: None,
            rate_used: 0,
            rate_resets_at: 0,
        }
    }
}
