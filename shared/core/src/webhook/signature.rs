//! Whether a body was signed with one of our secrets. Knows bytes and headers, and nothing of what they say.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::config::Mutant;

/// Shorter secrets are refused: one that can be guessed lets anyone in. 16 bytes is what a person still sets by hand;
/// more would refuse deployments that are safe.
const SECRET_BYTES_MIN: usize = 16;

/// The current secret and, during a rotation, the next one.
const SECRETS_MAX: usize = 2;

const PREFIX: &str = "sha256=";

/// Hexadecimal digits of an HMAC-SHA256.
const DIGITS: usize = 64;

/// Why a text holds no usable secrets. The text is never repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretsError {
    /// Nothing but white space: an empty secret would verify what anyone signs.
    #[error("the webhook secret is empty")]
    Empty,
    /// A line is too short.
    #[error("line {line} of the webhook secret has fewer than {SECRET_BYTES_MIN} bytes")]
    Short {
        /// Its number, from 1.
        line: usize,
    },
    /// More lines than a rotation needs.
    #[error("the webhook secret has {count} lines; at most {SECRETS_MAX} are used, the current and the next")]
    TooMany {
        /// How many.
        count: usize,
    },
}

/// Why a delivery is not GitHub's. Says nothing about the expected value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// No `X-Hub-Signature-256`.
    #[error("no signature")]
    Missing,
    /// More than one: which one counts must not be for the sender to choose.
    #[error("more than one signature")]
    Several,
    /// Not `sha256=` and 64 lower-case hexadecimal digits, as GitHub writes it.
    #[error("malformed signature")]
    Malformed,
    /// Made with none of our secrets.
    #[error("signature made with none of the active secrets")]
    Wrong,
}

/// Which of the active secrets signed a delivery: says when a rotation has reached GitHub, and the first line can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActiveSecret {
    /// The first line.
    First,
    /// The second line.
    Second,
}

impl ActiveSecret {
    /// In the order of the lines.
    const ALL: [Self; SECRETS_MAX] = [Self::First, Self::Second];

    /// As metrics call it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Second => "second",
        }
    }
}

/// Where newer secrets may be had while a process keeps older ones.
pub trait SecretsSource {
    /// The secrets as they are now; `None` where they were read a moment ago or cannot be read. Asked for a signature
    /// that no kept secret made, which anyone can send: whoever implements it bounds how often that becomes a call.
    async fn reread(&self) -> Option<WebhookSecrets>;
}

/// The active webhook secrets; at least one, none of them short. Prints as `<redacted>`.
#[derive(Clone)]
pub struct WebhookSecrets(Vec<Vec<u8>>);

impl WebhookSecrets {
    /// Reads one secret a line, one or two of them. White space around a line is not part of it.
    pub fn parse(text: &str) -> Result<Self, SecretsError> {
        Self::parse_as(text, Mutant::None)
    }

    /// The same with the mutant's rule broken.
    pub(super) fn parse_as(text: &str, mutant: Mutant) -> Result<Self, SecretsError> {
        let lines: Vec<&str> = match text.trim() {
            "" if mutant.takes_empty_secrets() => return Ok(Self(vec![Vec::new()])),
            "" => return Err(SecretsError::Empty),
            trimmed => trimmed.lines().map(str::trim).collect(),
        };
        if let Some(index) = lines.iter().position(|line| line.len() < SECRET_BYTES_MIN) {
            return Err(SecretsError::Short { line: index + 1 });
        }
        if lines.len() > SECRETS_MAX {
            return Err(SecretsError::TooMany { count: lines.len() });
        }
        Ok(Self(lines.into_iter().map(|line| line.as_bytes().to_vec()).collect()))
    }

    /// Checks the raw body against exactly one signature header; says which secret signed it.
    ///
    /// # Guarantees
    /// The HMAC under every secret is computed and compared in constant time, whichever matches, so that the time taken
    /// says neither how much of a forgery was right nor which secret is in use.
    pub fn verify<'a>(
        &self,
        signatures: impl Iterator<Item = &'a str>,
        body: &[u8],
    ) -> Result<ActiveSecret, SignatureError> {
        self.verify_as(signatures, body, Mutant::None)
    }

    /// The same with the mutant's rule broken.
    pub(super) fn verify_as<'a>(
        &self,
        mut signatures: impl Iterator<Item = &'a str>,
        body: &[u8],
        mutant: Mutant,
    ) -> Result<ActiveSecret, SignatureError> {
        let signature = match (signatures.next(), signatures.next()) {
            (None, _) if mutant.lets_in_without_a_signature() => return Ok(ActiveSecret::First),
            (None, _) => return Err(SignatureError::Missing),
            (Some(_), Some(_)) => return Err(SignatureError::Several),
            (Some(only), None) => decode(only, mutant).ok_or(SignatureError::Malformed)?,
        };
        let mut made_by = None;
        for (secret, which) in self.0.iter().zip(ActiveSecret::ALL) {
            // Computed for every secret, whatever came before.
            let matches = signed_by(secret, &signature, body, mutant);
            made_by = made_by.or(matches.then_some(which));
        }
        made_by.ok_or(SignatureError::Wrong)
    }
}

#[cfg(feature = "mutants")]
impl WebhookSecrets {
    /// The secrets themselves.
    pub(super) fn expose(&self) -> &[Vec<u8>] {
        &self.0
    }
}

impl fmt::Debug for WebhookSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecrets(<redacted>)")
    }
}

fn signed_by(secret: &[u8], signature: &[u8], body: &[u8], mutant: Mutant) -> bool {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
    mac.update(body);
    if mutant.compares_what_there_is() {
        return signature.is_empty() || mac.verify_truncated_left(signature).is_ok();
    }
    mac.verify_slice(signature).is_ok()
}

fn decode(header: &str, mutant: Mutant) -> Option<Vec<u8>> {
    let other = if mutant.takes_sha1() { "sha1=" } else { PREFIX };
    let digits = header.strip_prefix(PREFIX).or_else(|| header.strip_prefix(other))?.as_bytes();
    if digits.len() != DIGITS && !mutant.compares_what_there_is() {
        return None;
    }
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(nibble(*high)? << 4 | nibble(*low)?),
        _ => None,
    };
    digits.chunks_exact(2).map(byte).collect()
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::fake::mutant;

    /// GitHub's own vector (docs.github.com, validating webhook deliveries; recomputed in review).
    const SECRET: &str = "It's a Secret to Everybody";
    const BODY: &[u8] = b"Hello, World!";
    const DIGEST: &str = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    type Case<'a> = (&'a str, &'a WebhookSecrets, Vec<&'a str>, &'a [u8], Result<ActiveSecret, SignatureError>);

    /// The header that GitHub would send.
    pub(crate) fn sign(secret: &str, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
        mac.update(body);
        mac.finalize().into_bytes().iter().fold(PREFIX.to_owned(), |text, byte| format!("{text}{byte:02x}"))
    }

    #[test]
    fn only_one_strict_signature_under_an_active_secret_passes() {
        let one = WebhookSecrets::parse(SECRET).expect("long enough");
        let two = WebhookSecrets::parse(&format!("another secret of length\n{SECRET}\n")).expect("a rotation");
        let twice = WebhookSecrets::parse(&format!("{SECRET}\n{SECRET}")).expect("two lines");
        let other = WebhookSecrets::parse("another secret of length").expect("long enough");
        let good = format!("sha256={DIGEST}");
        let upper = format!("sha256={}", DIGEST.to_uppercase());
        let joined = format!("{good},{good}");
        let spaced = format!("sha256= {DIGEST}");
        let short = good.strip_suffix('7').expect("ends in 7").to_owned();
        let wide = format!("sha256={}", "é".repeat(32));
        let sha1 = "sha1=0123456789012345678901234567890123456789".to_owned();
        let sha1_long = format!("sha1={DIGEST}");
        let zeros = format!("sha256={}", "0".repeat(64));
        let cases: [Case; 18] = [
            ("GitHub's vector", &one, vec![&good], BODY, Ok(ActiveSecret::First)),
            ("the second secret of a rotation", &two, vec![&good], BODY, Ok(ActiveSecret::Second)),
            ("the first of two that are the same", &twice, vec![&good], BODY, Ok(ActiveSecret::First)),
            ("another deployment's secret", &other, vec![&good], BODY, Err(SignatureError::Wrong)),
            ("one changed byte", &one, vec![&good], b"Hello, World?", Err(SignatureError::Wrong)),
            ("an empty body under that signature", &one, vec![&good], b"", Err(SignatureError::Wrong)),
            ("a signature of zeros", &one, vec![&zeros], BODY, Err(SignatureError::Wrong)),
            ("no header", &one, vec![], BODY, Err(SignatureError::Missing)),
            ("an empty header", &one, vec![""], BODY, Err(SignatureError::Malformed)),
            ("the header twice, both right", &one, vec![&good, &good], BODY, Err(SignatureError::Several)),
            ("two signatures joined by a comma", &one, vec![&joined], BODY, Err(SignatureError::Malformed)),
            ("sha1, as the old header has it", &one, vec![&sha1], BODY, Err(SignatureError::Malformed)),
            ("the right digest under sha1=", &one, vec![&sha1_long], BODY, Err(SignatureError::Malformed)),
            ("the prefix alone", &one, vec!["sha256="], BODY, Err(SignatureError::Malformed)),
            ("upper-case digits, which GitHub never sends", &one, vec![&upper], BODY, Err(SignatureError::Malformed)),
            ("63 digits", &one, vec![&short], BODY, Err(SignatureError::Malformed)),
            ("a space", &one, vec![&spaced], BODY, Err(SignatureError::Malformed)),
            ("64 bytes that are no digits", &one, vec![&wide], BODY, Err(SignatureError::Malformed)),
        ];
        for (case, secrets, headers, body, expected) in cases {
            assert_eq!(secrets.verify_as(headers.into_iter(), body, mutant()), expected, "{case}");
        }
    }

    #[test]
    fn a_secret_that_could_be_guessed_is_refused_when_it_is_read() {
        for (case, text, expected) in [
            ("empty", "", SecretsError::Empty),
            ("white space", " \n\t\n", SecretsError::Empty),
            ("15 bytes", "123456789012345", SecretsError::Short { line: 1 }),
            ("a short next secret", "1234567890123456\nshort", SecretsError::Short { line: 2 }),
            ("a blank line between", "1234567890123456\n\n1234567890123456", SecretsError::Short { line: 2 }),
            ("three", "1234567890123456\n1234567890123456\n1234567890123456", SecretsError::TooMany { count: 3 }),
        ] {
            assert_eq!(WebhookSecrets::parse_as(text, mutant()).expect_err(case), expected, "{case}");
        }
        assert!(WebhookSecrets::parse("1234567890123456").is_ok(), "16 bytes");
    }

    #[test]
    fn secrets_are_never_printed() {
        let secrets = WebhookSecrets::parse(SECRET).expect("long enough");
        assert_eq!(format!("{secrets:?}"), "WebhookSecrets(<redacted>)");
    }
}
