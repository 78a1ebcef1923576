//! What a job's labels ask of a fleet. Labels are text of a workflow's author: they *select* what the configuration
//! names, and no text of a label goes anywhere but into comparisons.

use super::{Fleet, Market, Matching};

/// A label that begins like this asks for an instance type: `ghr-instance-type:c7i.2xlarge`.
pub const INSTANCE_TYPE_LABEL: &str = "ghr-instance-type:";

/// A label that begins like this asks for a market: `ghr-market:on-demand`.
pub const MARKET_LABEL: &str = "ghr-market:";

/// What jobs may ask of a fleet by label, each value one of a list. Empty, the default, allows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelOverrides {
    /// Instance types that [`INSTANCE_TYPE_LABEL`] may name.
    pub instance_types: Vec<String>,
    /// Markets that [`MARKET_LABEL`] may name.
    pub markets: Vec<Market>,
}

/// What one job asks beyond its fleet, in the configuration's own values.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Overrides {
    /// This instance type alone.
    #[serde(default)]
    pub instance_type: Option<String>,
    /// This market alone, without a fallback.
    #[serde(default)]
    pub market: Option<Market>,
}

/// What a fleet makes of a job's labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It takes the job, with these overrides, and its runners have so many labels that the job does not ask for.
    Takes {
        /// What the job asks beyond the fleet.
        overrides: Overrides,
        /// Labels of the fleet that the job does not name.
        unasked_count: usize,
    },
    /// It does not.
    Misses(Misfit),
}

/// Why a fleet does not take a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Misfit {
    /// Labels of the job that the fleet's runners do not have, overrides that it does not allow among them.
    pub missing: Vec<String>,
    /// Labels of the fleet that the job would have to name, where the fleet matches exactly.
    pub unasked: Vec<String>,
}

impl Market {
    /// As the configuration document and labels spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spot => "spot",
            Self::OnDemand => "on-demand",
        }
    }
}

impl Overrides {
    /// The labels that runners launched for this need beyond their fleet's. Written from the configuration's values:
    /// GitHub compares without case, so they are the job's labels, and no text of the job's.
    #[must_use]
    pub fn labels(&self) -> Vec<String> {
        let instance_type = self.instance_type.as_ref().map(|value| format!("{INSTANCE_TYPE_LABEL}{value}"));
        let market = self.market.map(|market| format!("{MARKET_LABEL}{}", market.as_str()));
        instance_type.into_iter().chain(market).collect()
    }
}

/// What one label is to a fleet.
enum Reading {
    Own,
    InstanceType(String),
    Market(Market),
    Foreign,
}

impl Fleet {
    /// Whether this fleet takes a job with these labels, and with what overrides.
    ///
    /// A label that the fleet has is that label, whatever it begins with. One that asks for something beyond the fleet is
    /// taken only where the fleet's configuration lists its value, and only one of each kind. GitHub compares labels
    /// without case and as sets; so does this. A job that names no label of the fleet's own is nobody's.
    #[must_use]
    pub fn fit(&self, job_labels: &[String]) -> Fit {
        let mut overrides = Overrides::default();
        let mut misfit = Misfit::default();
        let mut own = false;
        for label in job_labels {
            let taken = match self.read(label) {
                Reading::Own => {
                    own = true;
                    true
                }
                Reading::InstanceType(value) => agree(&mut overrides.instance_type, value),
                Reading::Market(market) => agree(&mut overrides.market, market),
                Reading::Foreign => false,
            };
            if !taken && !contains(&misfit.missing, label) {
                misfit.missing.push(label.clone());
            }
        }
        let unasked = self.distinct_labels().filter(|own| !contains(job_labels, own));
        let unasked_count = unasked.clone().count();
        match self.matching {
            Matching::Exact => misfit.unasked = unasked.cloned().collect(),
            Matching::Subset => {}
        }
        if own && misfit == Misfit::default() { Fit::Takes { overrides, unasked_count } } else { Fit::Misses(misfit) }
    }

    /// Whether a runner of this fleet may have that label: its own, or one of an override that it allows.
    #[must_use]
    pub fn may_have(&self, label: &str) -> bool {
        match self.read(label) {
            Reading::Own | Reading::InstanceType(_) | Reading::Market(_) => true,
            Reading::Foreign => false,
        }
    }

    fn distinct_labels(&self) -> impl Iterator<Item = &String> + Clone {
        let first = |(index, label): &(usize, &String)| !contains(self.labels.get(..*index).unwrap_or_default(), label);
        self.labels.iter().enumerate().filter(first).map(|(_, label)| label)
    }

    fn read(&self, label: &str) -> Reading {
        if contains(&self.labels, label) {
            return Reading::Own;
        }
        let LabelOverrides { instance_types, markets } = &self.label_overrides;
        if let Some(asked) = value_of(label, INSTANCE_TYPE_LABEL) {
            let allowed = instance_types.iter().find(|allowed| allowed.eq_ignore_ascii_case(asked));
            return allowed.map_or(Reading::Foreign, |allowed| Reading::InstanceType(allowed.clone()));
        }
        if let Some(asked) = value_of(label, MARKET_LABEL) {
            let allowed = markets.iter().find(|allowed| allowed.as_str().eq_ignore_ascii_case(asked));
            return allowed.map_or(Reading::Foreign, |allowed| Reading::Market(*allowed));
        }
        Reading::Foreign
    }
}

/// Notes a value; `false` where another one was noted before: a job cannot have two.
fn agree<T: PartialEq>(place: &mut Option<T>, value: T) -> bool {
    if let Some(noted) = place {
        return *noted == value;
    }
    *place = Some(value);
    true
}

fn value_of<'a>(label: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, value) = label.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(value)
}

fn contains(labels: &[String], wanted: &str) -> bool {
    labels.iter().any(|label| label.eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests;
