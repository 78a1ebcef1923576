//! Secrets made for one run: the GitHub App's key and the webhook secret. Nothing of them is worth stealing.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use crate::failure::Failure;

/// The App of the world's GitHub.
pub(crate) const APP_ID: u64 = 4242;

/// Secrets of one run.
pub(crate) struct Secrets {
    /// The App's RSA key, PEM.
    pub(crate) private_key: String,
    /// Its public half, PKCS#1 DER: GitHub verifies the App's tokens with it.
    pub(crate) public_key_der: Vec<u8>,
    /// The secret that deliveries are signed with.
    pub(crate) webhook_secret: String,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secrets(<redacted>)")
    }
}

impl Secrets {
    /// Makes new ones with openssl and the kernel's randomness.
    pub(crate) fn generate() -> Result<Self, Failure> {
        let private_key = rsa_key()?;
        Ok(Self {
            public_key_der: openssl(&["rsa", "-RSAPublicKey_out", "-outform", "DER"], &private_key)?,
            private_key,
            webhook_secret: format!("{:032x}{:032x}", random()?, random()?),
        })
    }
}

/// A PKCS#1 key, as GitHub hands them out; openssl before 3.0 makes no other and does not know the option.
fn rsa_key() -> Result<String, Failure> {
    let pem = openssl(&["genrsa", "-traditional", "2048"], "").or_else(|_| openssl(&["genrsa", "2048"], ""))?;
    String::from_utf8(pem).map_err(|_| Failure::Shape { what: "the key made by openssl".to_owned() })
}

fn openssl(arguments: &[&str], input: &str) -> Result<Vec<u8>, Failure> {
    let failure = |output: String| Failure::Program { program: format!("openssl {}", arguments.join(" ")), output };
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|_| Failure::Missing {
            what: "openssl",
            remedy: "install it (Debian: `apt-get install openssl`)".to_owned(),
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A key is smaller than a pipe: this cannot wait for a reader. An openssl that reads nothing may be gone.
        let _unread = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| failure(error.to_string()))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(failure(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// 128 bits of the kernel's randomness.
pub(crate) fn random() -> Result<u128, Failure> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(Failure::io("cannot read /dev/urandom"))?;
    Ok(u128::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_print() {
        let secrets = Secrets { private_key: "KEY".into(), public_key_der: vec![1], webhook_secret: "SECRET".into() };
        assert_eq!(format!("{secrets:?}"), "Secrets(<redacted>)");
    }
}
