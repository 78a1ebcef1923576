//! The XML of the answers. Element names and nesting are those that aws-sdk-ec2's parsers look for; times are ISO 8601.

use super::{API_VERSION, Outcome};
use crate::Millis;
use crate::ec2::{Ec2Error, FleetAnswer, Instance, InstancePage, LaunchTemplate, Market, Pool, State, StateChange};
use chrono::{DateTime, SecondsFormat};
use quick_xml::escape::escape;

/// The account that everything belongs to.
const OWNER_ID: &str = "123456789012";

/// An XML text that grows.
#[derive(Default)]
struct Xml(String);

impl Xml {
    fn element(&mut self, name: &str, content: impl FnOnce(&mut Self)) {
        self.open(name);
        content(self);
        self.close(name);
    }

    fn open(&mut self, name: &str) {
        self.0.extend(["<", name, ">"]);
    }

    fn close(&mut self, name: &str) {
        self.0.extend(["</", name, ">"]);
    }

    fn text(&mut self, name: &str, value: &str) {
        self.element(name, |xml| xml.0.push_str(&escape(value)));
    }

    fn optional(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    fn items<T>(&mut self, name: &str, items: impl IntoIterator<Item = T>, mut render: impl FnMut(&mut Self, T)) {
        self.element(name, |xml| {
            for item in items {
                xml.element("item", |xml| render(xml, item));
            }
        });
    }
}

/// The answer of a call that was carried out.
pub(super) fn outcome(outcome: &Outcome, request_id: &str) -> String {
    match outcome {
        Outcome::Fleet(answer) => response("CreateFleetResponse", request_id, |xml| fleet(xml, answer)),
        Outcome::Page(page) => response("DescribeInstancesResponse", request_id, |xml| instances(xml, page)),
        Outcome::Tagged => response("CreateTagsResponse", request_id, |xml| xml.text("return", "true")),
        Outcome::Terminating(changes) => {
            response("TerminateInstancesResponse", request_id, |xml| xml.items("instancesSet", changes, state_change))
        }
    }
}

/// The answer of a call that was refused.
pub(super) fn error(error: &Ec2Error, request_id: &str) -> String {
    let mut xml = Xml(DECLARATION.to_owned());
    xml.element("Response", |xml| {
        xml.element("Errors", |xml| {
            xml.element("Error", |xml| {
                xml.text("Code", error.code);
                xml.text("Message", &error.message);
            });
        });
        // Spelt so by EC2 in errors only.
        xml.text("RequestID", request_id);
    });
    xml.0
}

const DECLARATION: &str = r#"<?xml version="1.0" encoding="UTF-8"?>"#;

fn response(name: &str, request_id: &str, content: impl FnOnce(&mut Xml)) -> String {
    let mut xml = Xml(format!(r#"{DECLARATION}<{name} xmlns="http://ec2.amazonaws.com/doc/{API_VERSION}/">"#));
    xml.text("requestId", request_id);
    content(&mut xml);
    xml.close(name);
    xml.0
}

fn fleet(xml: &mut Xml, answer: &FleetAnswer) {
    xml.text("fleetId", &answer.fleet_id);
    xml.items("errorSet", &answer.errors, |xml, error| {
        template_and_overrides(xml, &error.template, &error.pool);
        xml.text("lifecycle", error.market.name());
        xml.text("errorCode", &error.code);
        xml.text("errorMessage", &error.message);
    });
    xml.items("fleetInstanceSet", &answer.groups, |xml, group| {
        template_and_overrides(xml, &group.template, &group.pool);
        xml.text("lifecycle", group.market.name());
        xml.items("instanceIds", &group.instance_ids, |xml, id| xml.0.push_str(&escape(id.as_str())));
        xml.optional("instanceType", group.pool.instance_type.as_deref());
    });
}

fn template_and_overrides(xml: &mut Xml, template: &LaunchTemplate, pool: &Pool) {
    xml.element("launchTemplateAndOverrides", |xml| {
        xml.element("launchTemplateSpecification", |xml| {
            xml.optional("launchTemplateId", template.id.as_deref());
            xml.optional("launchTemplateName", template.name.as_deref());
            xml.optional("version", template.version.as_deref());
        });
        xml.element("overrides", |xml| {
            xml.optional("instanceType", pool.instance_type.as_deref());
            xml.optional("subnetId", pool.subnet_id.as_deref());
        });
    });
}

fn instances(xml: &mut Xml, page: &InstancePage) {
    // Instances of one launch share a reservation, so a caller that reads only the first of each misses some.
    let reservations = page.instances.chunk_by(|a, b| a.reservation_id == b.reservation_id);
    xml.items("reservationSet", reservations, |xml, members| {
        xml.optional("reservationId", members.first().map(|instance| instance.reservation_id.as_str()));
        xml.text("ownerId", OWNER_ID);
        xml.element("groupSet", |_| {});
        xml.items("instancesSet", members, instance);
    });
    xml.optional("nextToken", page.next_token.as_deref());
}

fn instance(xml: &mut Xml, instance: &Instance) {
    xml.text("instanceId", &instance.id);
    xml.element("instanceState", |xml| state(xml, instance.state));
    xml.text("reason", instance.state_reason.as_ref().map_or("", |reason| reason.message));
    xml.text("instanceType", &instance.instance_type);
    xml.text("launchTime", &iso_8601(instance.launched_at));
    xml.element("placement", |xml| {
        xml.text("availabilityZone", &instance.availability_zone);
        xml.text("tenancy", "default");
    });
    // A terminated instance has left its network; EC2 shows none.
    if instance.state != State::Terminated {
        xml.text("subnetId", &instance.subnet_id);
    }
    if let Some(reason) = &instance.state_reason {
        xml.element("stateReason", |xml| {
            xml.text("code", reason.code);
            xml.text("message", reason.message);
        });
    }
    match instance.market {
        Market::Spot => xml.text("instanceLifecycle", "spot"),
        Market::OnDemand => {}
    }
    xml.text("clientToken", &instance.client_token);
    xml.items("tagSet", &*instance.tags, |xml, (key, value)| {
        xml.text("key", key);
        xml.text("value", value);
    });
}

fn state_change(xml: &mut Xml, change: &StateChange) {
    xml.text("instanceId", &change.instance_id);
    xml.element("currentState", |xml| state(xml, change.current));
    xml.element("previousState", |xml| state(xml, change.previous));
}

fn state(xml: &mut Xml, state: State) {
    xml.text("code", &state.code().to_string());
    xml.text("name", state.name());
}

fn iso_8601(at: Millis) -> String {
    DateTime::from_timestamp_millis(at).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
}
