//! EC2's query protocol: `CreateFleet`, `DescribeInstances`, `CreateTags`, `TerminateInstances`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::body::Bytes;
use runner_scaler_adapters::SystemClock;
use runner_scaler_core::time::Clock as _;

use super::reply::{Refusal, Reply};

/// Instances a page and resources a `CreateTags` call, the most that EC2 takes (API reference, read 2026-11-20).
const MOST: usize = 1_000;

/// Instances by id.
#[derive(Debug, Default)]
pub struct Ec2 {
    /// The instances.
    pub instances: BTreeMap<String, Instance>,
    /// Fleets by client token: the request, and the ids that it was answered.
    fleets: BTreeMap<String, (Form, Vec<String>)>,
}

/// One instance.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Launch time, RFC 3339.
    pub launched_at: String,
    /// Whether it was told to end; it then shows as `shutting-down`.
    pub ending: bool,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// A form's fields by name.
type Form = BTreeMap<String, String>;

impl Ec2 {
    /// The operation and its answer; `None` where it is not spoken here.
    pub(super) fn answer(&mut self, body: &Bytes) -> (String, Option<Reply>) {
        let form: Form = form_urlencoded::parse(body).into_owned().collect();
        let operation = form.get("Action").cloned().unwrap_or_default();
        let outcome = match operation.as_str() {
            "CreateFleet" => self.create_fleet(&form),
            "DescribeInstances" => self.describe(&form),
            "CreateTags" => self.tag(&form),
            "TerminateInstances" => self.terminate(&form),
            _ => return (operation, None),
        };
        let reply = Reply::of_ec2(&operation, outcome);
        (operation, Some(reply))
    }

    /// All instances that are asked for, of the first type and subnet; the same to a repetition under its token.
    fn create_fleet(&mut self, form: &Form) -> Result<String, Refusal> {
        let field = |name: &str| form.get(name).cloned().ok_or_else(|| Refusal::new("MissingParameter", name));
        let token = field("ClientToken")?;
        if field("Type")? != "instant" {
            return Err(invalid("Type"));
        }
        let ids = match self.fleets.get(&token) {
            Some((request, ids)) if request == form => ids.clone(),
            Some(_) => return Err(Refusal::new("IdempotentParameterMismatch", "the token was used")),
            None => {
                let ids = self.launch(form, field)?;
                self.fleets.insert(token, (form.clone(), ids.clone()));
                ids
            }
        };
        let shown = ids.iter().fold(String::new(), |xml, id| format!("{xml}<item>{id}</item>"));
        Ok(format!(
            "<fleetId>fleet-1</fleetId><fleetInstanceSet><item><instanceIds>{shown}</instanceIds>\
             <lifecycle>spot</lifecycle></item></fleetInstanceSet>"
        ))
    }

    fn launch(&mut self, form: &Form, field: impl Fn(&str) -> Result<String, Refusal>) -> Result<Vec<String>, Refusal> {
        let count = field("TargetCapacitySpecification.TotalTargetCapacity")?;
        let count: usize = count.parse().map_err(|_| invalid("TotalTargetCapacity"))?;
        let template = field("LaunchTemplateConfigs.1.LaunchTemplateSpecification.LaunchTemplateId")?;
        let keys = values_of(form, "TagSpecification.1.Tag.", ".Key");
        let mut tags: BTreeMap<String, String> =
            keys.into_iter().zip(values_of(form, "TagSpecification.1.Tag.", ".Value")).collect();
        // EC2's own, which no caller can set.
        tags.insert("aws:ec2launchtemplate:id".to_owned(), template);
        let first = self.instances.len() + 1;
        let ids: Vec<String> = (first..first + count).map(|number| format!("i-{number:017x}")).collect();
        let instance = Instance { launched_at: SystemClock.now().to_string(), ending: false, tags };
        self.instances.extend(ids.iter().map(|id| (id.clone(), instance.clone())));
        Ok(ids)
    }

    /// A page of those that match every `tag:` filter, by id; the token is where the next begins.
    fn describe(&self, form: &Form) -> Result<String, Refusal> {
        let mut filters = Vec::new();
        for index in 1.. {
            let Some(name) = form.get(&format!("Filter.{index}.Name")) else { break };
            let key = name.strip_prefix("tag:").ok_or_else(|| invalid(name))?;
            filters.push((key, values(form, &format!("Filter.{index}.Value."))));
        }
        let size = match form.get("MaxResults").map(|text| text.parse::<usize>()) {
            None => MOST,
            Some(Ok(size @ 5..=MOST)) => size,
            Some(_) => return Err(invalid("MaxResults")),
        };
        let start = form.get("NextToken").map_or(Ok(0), |token| token.parse().map_err(|_| invalid("NextToken")))?;
        let matching = self.instances.iter().filter(|(_, instance)| {
            filters.iter().all(|(key, wanted)| instance.tags.get(*key).is_some_and(|value| wanted.contains(value)))
        });
        let mut matching = matching.skip(start);
        let mut xml = String::from("<reservationSet>");
        for (id, instance) in matching.by_ref().take(size) {
            instance.write(id, &mut xml);
        }
        xml.push_str("</reservationSet>");
        if matching.next().is_some() {
            // Writing to a String cannot fail.
            let _ = write!(xml, "<nextToken>{}</nextToken>", start + size);
        }
        Ok(xml)
    }

    fn tag(&mut self, form: &Form) -> Result<String, Refusal> {
        let ids = values(form, "ResourceId.");
        if ids.is_empty() || ids.len() > MOST {
            return Err(invalid("ResourceId"));
        }
        self.known(&ids)?;
        for index in 1.. {
            let Some(key) = form.get(&format!("Tag.{index}.Key")) else { break };
            let value = form.get(&format!("Tag.{index}.Value")).cloned().unwrap_or_default();
            for id in &ids {
                if let Some(instance) = self.instances.get_mut(id) {
                    instance.tags.insert(key.clone(), value.clone());
                }
            }
        }
        Ok("<return>true</return>".to_owned())
    }

    fn terminate(&mut self, form: &Form) -> Result<String, Refusal> {
        let ids = values(form, "InstanceId.");
        self.known(&ids)?;
        let mut xml = String::from("<instancesSet>");
        for id in ids {
            if let Some(instance) = self.instances.get_mut(&id) {
                let previous = instance.state();
                instance.ending = true;
                let _ = write!(
                    xml,
                    "<item><instanceId>{id}</instanceId><currentState>{}</currentState>\
                     <previousState>{previous}</previousState></item>",
                    instance.state()
                );
            }
        }
        xml.push_str("</instancesSet>");
        Ok(xml)
    }

    /// One that is not known refuses the whole call.
    fn known(&self, ids: &[String]) -> Result<(), Refusal> {
        match ids.iter().find(|id| !self.instances.contains_key(*id)) {
            None => Ok(()),
            Some(id) => {
                Err(Refusal::new("InvalidInstanceID.NotFound", format!("The instance ID '{id}' does not exist")))
            }
        }
    }
}

impl Instance {
    fn state(&self) -> &'static str {
        if self.ending { "<code>32</code><name>shutting-down</name>" } else { "<code>16</code><name>running</name>" }
    }

    /// Of texts that need no escaping: ids, times and tags of ours.
    fn write(&self, id: &str, xml: &mut String) {
        let _ = write!(
            xml,
            "<item><reservationId>r-{id}</reservationId><ownerId>123456789012</ownerId><groupSet/><instancesSet><item>\
             <instanceId>{id}</instanceId><instanceState>{}</instanceState><launchTime>{}</launchTime><tagSet>",
            self.state(),
            self.launched_at
        );
        for (key, value) in &self.tags {
            let _ = write!(xml, "<item><key>{key}</key><value>{value}</value></item>");
        }
        xml.push_str("</tagSet></item></instancesSet></item>");
    }
}

/// The texts `prefix1`, `prefix2` and so on.
fn values(form: &Form, prefix: &str) -> Vec<String> {
    values_of(form, prefix, "")
}

/// The texts `prefix1suffix`, `prefix2suffix` and so on.
fn values_of(form: &Form, prefix: &str, suffix: &str) -> Vec<String> {
    (1..).map_while(|index| form.get(&format!("{prefix}{index}{suffix}")).cloned()).collect()
}

fn invalid(what: &str) -> Refusal {
    Refusal::new("InvalidParameterValue", format!("Value for {what} is invalid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ec2(count: usize) -> Ec2 {
        let instance = |environment: &str| Instance {
            launched_at: "2026-11-20T10:00:00.000Z".to_owned(),
            ending: false,
            tags: BTreeMap::from([("ghr:environment".to_owned(), environment.to_owned())]),
        };
        let mut instances: BTreeMap<_, _> = (0..count).map(|n| (format!("i-{n:017x}"), instance("prod"))).collect();
        instances.insert("i-foreign".to_owned(), instance("other"));
        Ec2 { instances, ..Ec2::default() }
    }

    fn call(ec2: &mut Ec2, form: &str) -> (u16, String) {
        let (_, reply) = ec2.answer(&Bytes::from(form.to_owned()));
        let reply = reply.expect("spoken");
        let (status, _, body) = reply.parts();
        (status, body.to_owned())
    }

    #[test]
    fn instances_are_shown_by_tag_and_in_pages() {
        let mut ec2 = ec2(1_001);
        let form = "Action=DescribeInstances&Filter.1.Name=tag%3Aghr%3Aenvironment&Filter.1.Value.1=prod";
        let (_, first) = call(&mut ec2, &format!("{form}&MaxResults=1000"));
        assert_eq!(first.matches("<instanceId>").count(), 1_000);
        assert!(first.contains("<nextToken>1000</nextToken>"));
        let (_, second) = call(&mut ec2, &format!("{form}&MaxResults=1000&NextToken=1000"));
        assert_eq!((second.matches("<instanceId>").count(), second.contains("nextToken")), (1, false));
        assert_eq!(call(&mut ec2, &format!("{form}&MaxResults=1001")).0, 400, "more than a page holds");
    }

    #[test]
    fn a_fleet_is_launched_once_a_token_with_its_tags_and_its_template() {
        let mut ec2 = Ec2::default();
        let fleet = "Action=CreateFleet&ClientToken=t&Type=instant&TagSpecification.1.Tag.1.Key=ghr%3Alaunch\
                     &TagSpecification.1.Tag.1.Value=t&TargetCapacitySpecification.TotalTargetCapacity=2\
                     &LaunchTemplateConfigs.1.LaunchTemplateSpecification.LaunchTemplateId=lt-1";
        let (status, first) = call(&mut ec2, fleet);
        assert_eq!((status, first.matches("<item>i-").count()), (200, 2), "{first}");
        assert_eq!(call(&mut ec2, fleet).1, first, "a repetition");
        assert_eq!(ec2.instances.len(), 2);
        for instance in ec2.instances.values() {
            let tag = |key: &str| instance.tags.get(key).map(String::as_str);
            assert_eq!((tag("ghr:launch"), tag("aws:ec2launchtemplate:id")), (Some("t"), Some("lt-1")));
        }
        let (status, refused) = call(&mut ec2, &fleet.replace("Capacity=2", "Capacity=3"));
        assert!(status == 400 && refused.contains("IdempotentParameterMismatch"), "{refused}");
        assert_eq!(call(&mut ec2, "Action=CreateFleet&ClientToken=u&Type=maintain").0, 400);
    }

    #[test]
    fn a_call_is_refused_whole_where_one_instance_is_unknown_or_there_are_too_many() {
        let mut ec2 = ec2(2);
        let id = |n: usize| format!("i-{n:017x}");
        let tag = "Tag.1.Key=ghr%3Adrain&Tag.1.Value=now";
        let unknown = format!("Action=CreateTags&ResourceId.1={}&ResourceId.2=i-9&{tag}", id(0));
        let (status, body) = call(&mut ec2, &unknown);
        assert!(status == 400 && body.contains("InvalidInstanceID.NotFound"), "{body}");
        let many: Vec<String> = (1..=1_001).map(|n| format!("&ResourceId.{n}={}", id(0))).collect();
        assert_eq!(call(&mut ec2, &format!("Action=CreateTags&{tag}{}", many.concat())).0, 400);
        assert!(!ec2.instances[&id(0)].tags.contains_key("ghr:drain"));
        assert_eq!(call(&mut ec2, &format!("Action=CreateTags&ResourceId.1={}&{tag}", id(1))).0, 200);
        assert_eq!(ec2.instances[&id(1)].tags["ghr:drain"], "now");
    }

    #[test]
    fn an_instance_that_was_ended_shows_it() {
        let mut ec2 = ec2(1);
        let (status, body) = call(&mut ec2, "Action=TerminateInstances&InstanceId.1=i-00000000000000000");
        assert!(status == 200 && body.contains("shutting-down") && body.contains("running"), "{body}");
        assert!(ec2.instances["i-00000000000000000"].ending);
        assert_eq!(call(&mut ec2, "Action=TerminateInstances&InstanceId.1=i-9").0, 400);
    }
}
