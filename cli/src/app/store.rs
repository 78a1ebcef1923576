//! Where the App's id, key and secret go: three `SecureString` parameters below one path.

use std::time::Duration;

use serde_json::{Value, json};

use super::github::NewApp;
use crate::aws::{Aws, may_pass};
use crate::failure::Failure;

/// The parameters, in the order in which they are written: the id last, for it makes the others be used.
const NAMES: [&str; 3] = ["private-key", "webhook-secret", "app-id"];

/// How often a parameter is written before it is given up.
const TRIES: u32 = 4;

/// Whether parameters that exist may be written over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    /// They are kept, and the command refuses.
    Keep,
    /// They are written over.
    Replace,
}

/// A place for an App.
#[derive(Debug)]
pub(crate) struct Store<'a> {
    /// SSM.
    pub(crate) aws: &'a Aws,
    /// Begins with a slash and ends with none.
    pub(crate) path: &'a str,
    /// A KMS key other than the account's own for SSM.
    pub(crate) kms_key_id: Option<&'a str>,
    /// What to do with what is there.
    pub(crate) existing: Existing,
}

impl Store<'_> {
    /// Refuses before an App is made what could not be stored after.
    pub(crate) async fn check(&self) -> Result<(), Failure> {
        let names = NAMES.map(|name| self.name(name));
        let answer = self.aws.ssm("GetParameters", &json!({ "Names": names, "WithDecryption": false })).await?;
        let found: Vec<&str> = answer["Parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|parameter| parameter["Name"].as_str())
            .collect();
        match (self.existing, found.as_slice()) {
            (Existing::Replace, _) | (Existing::Keep, []) => Ok(()),
            (Existing::Keep, found) => Err(Failure::Unusable {
                what: format!("there is an App below {}: {}", self.path, found.join(", ")),
                remedy: "name another --app-path, or write over it with --replace; the old App stays at GitHub"
                    .to_owned(),
            }),
        }
    }

    /// Stores the App; what fails on the way is tried again, for GitHub hands a key out once.
    pub(crate) async fn put(&self, app: &NewApp, mut hear: impl FnMut(&Failure)) -> Result<(), Failure> {
        let id = app.id.to_string();
        for (name, value) in NAMES.into_iter().zip([app.pem.as_str(), app.webhook_secret.as_str(), id.as_str()]) {
            let mut overwrite = self.existing == Existing::Replace;
            let mut pause = Duration::from_secs(1);
            for left in (0..TRIES).rev() {
                match self.put_one(name, value, overwrite).await {
                    Ok(()) => break,
                    Err(failure) if left > 0 && may_pass(&failure) => {
                        hear(&failure);
                        tokio::time::sleep(pause).await;
                        pause *= 2;
                        // The parameter may be there: ours, with its answer lost.
                        overwrite = true;
                    }
                    Err(failure) => return Err(failure),
                }
            }
        }
        Ok(())
    }

    async fn put_one(&self, name: &str, value: &str, overwrite: bool) -> Result<(), Failure> {
        let mut request =
            json!({ "Name": self.name(name), "Type": "SecureString", "Value": value, "Overwrite": overwrite });
        if let Some(key) = self.kms_key_id {
            request["KeyId"] = Value::from(key);
        }
        self.aws.ssm("PutParameter", &request).await.map(|_| ())
    }

    fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }
}
