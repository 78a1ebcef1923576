//! The App's own token: a JWT, RS256, signed with ring.
//!
//! Not octocrab's: it has no `jti`, and two tokens made in the same second are then the same text, which GitHub was
//! seen to refuse (upstream terraform-aws-github-runner issue 5025, read 2026-11-20).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use runner_scaler_core::time::Timestamp;
use serde_json::json;

use crate::secret::Secret;

/// GitHub allows 10 min ahead and advises 60 s back (GitHub documentation, "Generating a JWT", read 2026-11-20).
const LIFETIME_SECONDS: i64 = 9 * 60;
const BACKDATED_SECONDS: i64 = 60;

/// Why there is no token. Says nothing of the key itself.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyError {
    /// No PEM block, or its content is no base64.
    #[error("the App's private key is not PEM")]
    NotPem,
    /// PEM, but no RSA key that we can read.
    #[error("the App's private key is not an RSA key in PKCS#1 or PKCS#8 without a password")]
    NotRsa,
    /// ring could not sign.
    #[error("signing with the App's private key failed")]
    Unsigned,
}

/// The App's id and key.
pub(super) struct AppKey {
    app_id: String,
    key: RsaKeyPair,
}

impl AppKey {
    /// Reads a PEM file as GitHub hands it out (PKCS#1), or converted to PKCS#8; line ends may have been lost to `\n`.
    pub(super) fn parse(app_id: &str, pem: &str) -> Result<Self, KeyError> {
        let pem = pem.replace("\\n", "\n");
        let (_, rest) = pem.split_once("-----BEGIN ").ok_or(KeyError::NotPem)?;
        let (label, rest) = rest.split_once("-----").ok_or(KeyError::NotPem)?;
        let (body, _) = rest.split_once("-----END ").ok_or(KeyError::NotPem)?;
        let body: String = body.split_whitespace().collect();
        let der = STANDARD.decode(body).map_err(|_| KeyError::NotPem)?;
        let key = match label {
            "RSA PRIVATE KEY" => RsaKeyPair::from_der(&der),
            "PRIVATE KEY" => RsaKeyPair::from_pkcs8(&der),
            _ => return Err(KeyError::NotRsa),
        };
        Ok(Self { app_id: app_id.trim().to_owned(), key: key.map_err(|_| KeyError::NotRsa)? })
    }

    /// A token that is good for 9 min, unlike any other.
    pub(super) fn token(&self, now: Timestamp) -> Result<Secret, KeyError> {
        let random = SystemRandom::new();
        let mut unique = [0_u8; 16];
        random.fill(&mut unique).map_err(|_| KeyError::Unsigned)?;
        let now_seconds = now.0 / 1_000;
        let claims = json!({
            "iat": now_seconds - BACKDATED_SECONDS,
            "exp": now_seconds + LIFETIME_SECONDS,
            "iss": self.app_id,
            "jti": URL_SAFE_NO_PAD.encode(unique),
        });
        let header = json!({ "alg": "RS256", "typ": "JWT" });
        let signed = format!("{}.{}", part(&header), part(&claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).map_err(|_| KeyError::Unsigned)?;
        Ok(Secret::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))))
    }
}

impl fmt::Debug for AppKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppKey").field("app_id", &self.app_id).field("key", &"<redacted>").finish()
    }
}

fn part(value: &serde_json::Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

#[cfg(test)]
mod tests {
    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    use serde_json::Value;

    use super::*;

    const PKCS1: &str = include_str!("../../tests/fixtures/test-key-pkcs1.pem");
    const PKCS8: &str = include_str!("../../tests/fixtures/test-key-pkcs8.pem");

    #[test]
    fn a_token_is_signed_backdated_and_unlike_the_last() {
        for pem in [PKCS1.to_owned(), PKCS8.to_owned(), PKCS8.replace('\n', "\\n")] {
            let key = AppKey::parse(" 123\n", &pem).expect("a key");
            let token = key.token(Timestamp(1_700_000_000_500)).expect("a token");
            let again = key.token(Timestamp(1_700_000_000_500)).expect("a token");
            assert_ne!(token, again, "two tokens of one second");

            let (signed, signature) = token.expose().rsplit_once('.').expect("three parts");
            let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64");
            UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.key.public())
                .verify(signed.as_bytes(), &signature)
                .expect("the signature is the key's");
            let (header, claims) = signed.split_once('.').expect("two parts");
            let read = |part: &str| -> Value {
                serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("JSON")
            };
            assert_eq!(read(header), json!({ "alg": "RS256", "typ": "JWT" }));
            let claims = read(claims);
            assert_eq!(claims["iat"], 1_700_000_000 - 60);
            assert_eq!(claims["exp"], 1_700_000_000 + 540);
            assert_eq!(claims["iss"], "123");
            assert_eq!(claims["jti"].as_str().map(str::len), Some(22));
        }
    }

    #[test]
    fn what_is_no_rsa_key_is_refused_without_a_word_of_it() {
        for (case, pem, expected) in [
            ("empty", String::new(), KeyError::NotPem),
            ("no PEM", "hunter2".to_owned(), KeyError::NotPem),
            ("cut off", PKCS1.chars().take(200).collect(), KeyError::NotPem),
            ("no base64", "-----BEGIN PRIVATE KEY-----\n***\n-----END PRIVATE KEY-----".to_owned(), KeyError::NotPem),
            ("a certificate", PKCS1.replace("RSA PRIVATE KEY", "CERTIFICATE"), KeyError::NotRsa),
            ("with a password", PKCS8.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), KeyError::NotRsa),
            ("the wrong label", PKCS1.replace("RSA PRIVATE KEY", "PRIVATE KEY"), KeyError::NotRsa),
        ] {
            let refused = AppKey::parse("123", &pem).expect_err(case);
            assert_eq!(refused, expected, "{case}");
            assert!(!refused.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn a_key_is_not_printed() {
        let key = AppKey::parse("123", PKCS1).expect("a key");
        assert_eq!(format!("{key:?}"), r#"AppKey { app_id: "123", key: "<redacted>" }"#);
    }
}
