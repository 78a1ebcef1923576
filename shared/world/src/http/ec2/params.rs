//! The form of a call: flat names with dots and numbers, read as fields and lists.

use crate::ec2::{Ec2Error, Tags};
use std::collections::BTreeMap;

/// Parameters that nobody has read yet, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Params(BTreeMap<String, String>);

impl Params {
    /// Reads a form.
    pub(super) fn parse(form_body: &[u8]) -> Self {
        Self(form_urlencoded::parse(form_body).into_owned().collect())
    }

    /// Takes one parameter.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// Takes a parameter that must be there.
    pub(super) fn required(&mut self, name: &str) -> Result<String, Ec2Error> {
        self.take(name).ok_or_else(|| missing(name))
    }

    /// Takes a number.
    pub(super) fn number<N: std::str::FromStr>(&mut self, name: &str) -> Result<Option<N>, Ec2Error> {
        let Some(text) = self.take(name) else { return Ok(None) };
        let number = text.parse().map_err(|_| {
            Ec2Error::refused("InvalidParameterValue", format!("Value ({text}) for parameter {name} is invalid"))
        })?;
        Ok(Some(number))
    }

    /// Takes the parameters `name.1...`, `name.2...`: one set an element, in order of their numbers. The value of a
    /// list of texts has the empty name.
    pub(super) fn list(&mut self, name: &str) -> Vec<Self> {
        let mut elements: BTreeMap<u32, Self> = BTreeMap::new();
        let prefix = format!("{name}.");
        self.0.retain(|key, value| {
            let Some(tail) = key.strip_prefix(&prefix) else { return true };
            let (number, field) = tail.split_once('.').unwrap_or((tail, ""));
            let Ok(number) = number.parse() else { return true };
            elements.entry(number).or_default().0.insert(field.to_owned(), std::mem::take(value));
            false
        });
        elements.into_values().collect()
    }

    /// Takes a list of texts.
    pub(super) fn texts(&mut self, name: &str) -> Vec<String> {
        self.list(name).into_iter().filter_map(|mut element| element.take("")).collect()
    }

    /// Takes `Tag.1.Key`, `Tag.1.Value` and so on; a tag without a value is empty.
    pub(super) fn tags(&mut self) -> Result<Tags, Ec2Error> {
        let mut tags = Tags::new();
        for mut tag in self.list("Tag") {
            let key = tag.required("Key")?;
            tags.insert(key, tag.take("Value").unwrap_or_default());
            tag.finish()?;
        }
        Ok(tags)
    }

    /// Takes everything whose name begins like one of these.
    pub(super) fn take_prefixed(&mut self, prefixes: &[&str]) -> BTreeMap<String, String> {
        let mut taken = BTreeMap::new();
        self.0.retain(|key, value| {
            let wanted = prefixes.iter().any(|prefix| key.starts_with(prefix));
            if wanted {
                taken.insert(key.clone(), std::mem::take(value));
            }
            !wanted
        });
        taken
    }

    /// Refuses what nobody read.
    pub(super) fn finish(self) -> Result<(), Ec2Error> {
        match self.0.into_keys().next() {
            None => Ok(()),
            Some(name) => Err(Ec2Error::refused("UnknownParameter", format!("The parameter {name} is not recognized"))),
        }
    }

    /// The instances that the call names, for the adversary and the truth; read without taking.
    pub(super) fn instance_ids(&self) -> Vec<String> {
        let named = |key: &str| key.starts_with("InstanceId.") || key.starts_with("ResourceId.");
        self.0.iter().filter(|(key, _)| named(key)).map(|(_, id)| id.clone()).collect()
    }
}

/// A parameter that must be there and is not.
fn missing(name: &str) -> Ec2Error {
    Ec2Error::refused("MissingParameter", format!("The request must contain the parameter {name}"))
}
