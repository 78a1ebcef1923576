//! One newtype per kind of id, so that a job's id is never taken for a runner's.
//!
//! GitHub's ids exceed 32 bits (the payload examples of octokit/webhooks 3a58428, read 2026-11-20), so they are `u64`.

use std::fmt;
use std::sync::Arc;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

/// Ids are handed on far more often than made, so their text is shared.
fn shared_text<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

/// As read, without a `String` of its own in between.
fn text_to_share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
    struct Text;

    impl Visitor<'_> for Text {
        type Value = Arc<str>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Arc<str>, E> {
            Ok(text.into())
        }
    }

    deserializer.deserialize_str(Text)
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(#[serde(serialize_with = "shared_text", deserialize_with = "text_to_share")] Arc<str>);

        impl $name {
            /// Takes the text as it is.
            #[must_use]
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

number_id!(
    /// GitHub's id of a `workflow_job`; each re-run attempt has new ones.
    JobId
);
number_id!(
    /// GitHub's id of a workflow run.
    RunId
);
number_id!(
    /// GitHub's id of a runner's registration; unique within its scope.
    RunnerId
);
number_id!(
    /// GitHub's id of an App installation.
    InstallationId
);
text_id!(
    /// EC2's id of an instance, for example `i-0123456789abcdef0`.
    InstanceId
);
text_id!(
    /// The deployment, `[a-z0-9-]{1,32}`: value of the tag `ghr:environment`.
    Deployment
);
text_id!(
    /// A fleet's name in the configuration document: value of the tag `ghr:fleet`.
    FleetName
);
text_id!(
    /// A runner's name at GitHub: `<fleet prefix><instance id>`.
    RunnerName
);
text_id!(
    /// EC2's client token of one launch attempt, at most 64 ASCII characters: value of the tag `ghr:launch`.
    LaunchToken
);
text_id!(
    /// `X-GitHub-Delivery`: the same for every redelivery of one event.
    DeliveryGuid
);

impl RunnerName {
    /// The instance that the name ends in, `<prefix><instance id>`, whatever the prefix: a fleet's prefix may have
    /// changed since.
    #[must_use]
    pub fn instance_id(&self) -> Option<InstanceId> {
        let (_, digits) = self.0.rsplit_once("i-")?;
        (!digits.is_empty() && digits.bytes().all(is_id_digit)).then(|| InstanceId::new(format!("i-{digits}")))
    }
}

impl InstanceId {
    /// Every text in a longer one that has the shape of an instance id.
    pub fn all_in(text: &str) -> impl Iterator<Item = Self> + '_ {
        text.match_indices("i-").filter_map(|(at, _)| {
            let digits = text.get(at + 2..)?;
            let end = digits.bytes().position(|byte| !is_id_digit(byte)).unwrap_or(digits.len());
            (1..=17).contains(&end).then(|| Self::new(format!("i-{}", &digits[..end])))
        })
    }
}

fn is_id_digit(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

/// Ids of a repository and of its owner, as far as they are known: an allow-list may name them by these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryIds {
    /// The owner's.
    #[serde(default)]
    pub owner: Option<u64>,
    /// The repository's own.
    #[serde(default)]
    pub repository: Option<u64>,
}

impl RepositoryIds {
    /// These, and for what they lack those.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self { owner: self.owner.or(others.owner), repository: self.repository.or(others.repository) }
    }
}

/// Where a runner is registered, and so which jobs it may take.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// An organisation's runners: `/orgs/{owner}/actions/runners`.
    Organization {
        /// The organisation's login.
        owner: String,
    },
    /// One repository's runners: `/repos/{owner}/{name}/actions/runners`.
    Repository {
        /// Login of the owner, as in the repository's `full_name`.
        owner: String,
        /// The repository's name without its owner.
        name: String,
    },
}

impl Scope {
    /// Reads what [`Scope`]'s `Display` wrote; the value of the tag `ghr:owner`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(owner), None, None) if !owner.is_empty() => Some(Self::Organization { owner: owner.to_owned() }),
            (Some(owner), Some(name), None) if !owner.is_empty() && !name.is_empty() => {
                Some(Self::Repository { owner: owner.to_owned(), name: name.to_owned() })
            }
            (_, _, _) => None,
        }
    }

    /// Login of the owner.
    #[must_use]
    pub fn owner(&self) -> &str {
        match self {
            Self::Organization { owner } | Self::Repository { owner, .. } => owner,
        }
    }

    /// Whether both mean the same place: GitHub's logins and names ignore case.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Organization { owner }, Self::Organization { owner: other }) => owner.eq_ignore_ascii_case(other),
            (Self::Repository { owner, name }, Self::Repository { owner: other_owner, name: other_name }) => {
                owner.eq_ignore_ascii_case(other_owner) && name.eq_ignore_ascii_case(other_name)
            }
            (Self::Organization { .. }, Self::Repository { .. })
            | (Self::Repository { .. }, Self::Organization { .. }) => false,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Organization { owner } => f.write_str(owner),
            Self::Repository { owner, name } => write!(f, "{owner}/{name}"),
        }
    }
}

/// A scope and the installation whose token reaches it.
///
/// The installation id is a hint from a signed payload: ids go stale when an App is installed anew
/// (facts/world.md G21), so an adapter that gets a 404 for it looks the owner's installation up once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Access {
    /// Where runners are registered.
    pub scope: Scope,
    /// The installation, where a payload named one.
    pub installation_id: Option<InstallationId>,
}

/// A repository's `full_name`, `owner/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Repository {
    owner: Arc<str>,
    name: Arc<str>,
}

impl Serialize for Repository {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Repository {
    /// Login of the owner.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Name without its owner.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl TryFrom<String> for Repository {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let plain = |part: &str| {
            !part.is_empty()
                && part.len() <= 100
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
                && part != "."
                && part != ".."
        };
        match text.split_once('/') {
            Some((owner, name)) if plain(owner) && plain(name) => Ok(Self { owner: owner.into(), name: name.into() }),
            Some(_) | None => Err(format!("{text:?} is not a repository's full name `owner/name`")),
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instance_ids_are_found_in_names_and_texts() {
        for (name, id) in [
            ("runner-i-0123456789abcdef0", Some("i-0123456789abcdef0")),
            ("i-0a", Some("i-0a")),
            ("ci-i-0a", Some("i-0a")),
            ("runner-i-", None),
            ("runner-i-0A", None),
            ("runner-i-0a ", None),
            ("GitHub Actions 5", None),
            ("", None),
        ] {
            assert_eq!(RunnerName::new(name).instance_id(), id.map(InstanceId::new), "{name}");
        }
        let ids: Vec<String> = InstanceId::all_in(r#"{"runner_name": "ci-i-0a1", "x": "i-2", "y": "i-"}"#)
            .map(|id| id.to_string())
            .collect();
        assert_eq!(ids, ["i-0a1", "i-2"]);
    }

    #[test]
    fn a_scope_is_read_back_from_its_tag() {
        for scope in [
            Scope::Organization { owner: "octo".into() },
            Scope::Repository { owner: "octo".into(), name: "hello".into() },
        ] {
            assert_eq!(Scope::parse(&scope.to_string()), Some(scope));
        }
        for wrong in ["", "/", "a/", "/b", "a/b/c"] {
            assert_eq!(Scope::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_repository_is_owner_and_name_and_nothing_that_could_steer_a_path() {
        assert!(Repository::try_from("octo/hello.world".to_owned()).is_ok());
        for wrong in ["octo", "octo/", "/x", "a/b/c", "a/..", "a/b c", "a/b?x"] {
            assert!(Repository::try_from(wrong.to_owned()).is_err(), "{wrong:?}");
        }
    }
}
