//! `CreateFleet` of type `instant`: pools, capacity, partial answers and client tokens.

use super::change::check_keys;
use super::instance::Step;
use super::{Ec2, Ec2Error, Ec2Event, Instance, Market, Origin, State, Tags};
use crate::{Millis, Tape};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The longest client token (API reference, `CreateFleet`: 64 ASCII characters, read 2026-11-20).
const TOKEN_MAX: usize = 64;

/// Reference to a launch template.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LaunchTemplate {
    /// `lt-...`.
    pub id: Option<String>,
    /// Its name, in place of the id.
    pub name: Option<String>,
    /// A number, `$Latest` or `$Default`.
    pub version: Option<String>,
}

/// One override: a pool to launch in.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pool {
    /// Instance type; the template's own when absent.
    pub instance_type: Option<String>,
    /// Subnet; the template's own when absent.
    pub subnet_id: Option<String>,
}

/// A template with the pools to use it in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TemplateConfig {
    /// The template.
    pub template: LaunchTemplate,
    /// Pools; none means the template as it is.
    pub overrides: Vec<Pool>,
}

/// A `CreateFleet` call. Two calls are the same when every field but the token is equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetRequest {
    /// Idempotency token.
    pub client_token: Option<String>,
    /// `instant`, `request` or `maintain`; only the first is known here.
    pub kind: String,
    /// Templates and pools.
    pub configs: Vec<TemplateConfig>,
    /// How many instances.
    pub total_target_capacity: u32,
    /// Spot or on-demand, for all of them.
    pub market: Market,
    /// Launch nothing unless at least as many can be launched.
    pub min_target_capacity: Option<u32>,
    /// Tags of the instances.
    pub instance_tags: Tags,
    /// Every other parameter as it was sent: it changes nothing here, but counts when a token is used again.
    pub other: BTreeMap<String, String>,
}

/// Instances of one pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetGroup {
    /// The template.
    pub template: LaunchTemplate,
    /// The pool.
    pub pool: Pool,
    /// Spot or on-demand.
    pub market: Market,
    /// The instances.
    pub instance_ids: Vec<String>,
}

/// A pool that gave nothing, or not enough. It describes the override, not an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetError {
    /// The template.
    pub template: LaunchTemplate,
    /// The pool.
    pub pool: Pool,
    /// Spot or on-demand.
    pub market: Market,
    /// EC2's code.
    pub code: String,
    /// EC2's words.
    pub message: String,
}

/// What `CreateFleet` answers: instances and errors together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetAnswer {
    /// `fleet-...`.
    pub fleet_id: String,
    /// What was launched.
    pub groups: Vec<FleetGroup>,
    /// What was not.
    pub errors: Vec<FleetError>,
}

/// A token's first call and its answer.
#[derive(Debug, Clone)]
pub(super) struct RememberedFleet {
    request: FleetRequest,
    answer: FleetAnswer,
}

impl Ec2 {
    /// `CreateFleet`.
    ///
    /// # Guarantees
    /// The same token with the same request gives the same answer, even when its instances are dead by now: EC2 keeps
    /// tokens at least 24 h past an instance's end. A token is also spent by a call that found no capacity.
    ///
    /// # Errors
    /// `IdempotentParameterMismatch` for a token seen with another request; codes of the API for a request that is
    /// wrong.
    pub fn create_fleet(
        &mut self,
        request: &FleetRequest,
        now: Millis,
        tape: &mut Tape,
    ) -> Result<FleetAnswer, Ec2Error> {
        check_request(request)?;
        if let Some(known) = request.client_token.as_ref().and_then(|token| self.fleets.get(token)) {
            if known.request == *request {
                return Ok(known.answer.clone());
            }
            return Err(Ec2Error::refused(
                "IdempotentParameterMismatch",
                "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
            ));
        }
        let answer = self.launch(request, now, tape);
        self.look_ahead();
        if let Some(token) = &request.client_token {
            let remembered = RememberedFleet { request: request.clone(), answer: answer.clone() };
            self.fleets.insert(token.clone(), remembered);
        }
        Ok(answer)
    }

    /// Another account user's instance, running and visible at once; no event comes of it.
    pub fn launch_foreign(&mut self, tags: Tags, now: Millis) -> String {
        let pool = Pool { instance_type: Some("t3.small".to_owned()), subnet_id: Some("subnet-0f0f0f0f".to_owned()) };
        let id = self.insert_instance(&pool, Market::OnDemand, tags.into(), "fleet-of-somebody-else", now);
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.origin = Origin::Foreign;
            instance.state = State::Running;
            instance.next = None;
        }
        self.look_ahead();
        id
    }

    fn launch(&mut self, request: &FleetRequest, now: Millis, tape: &mut Tape) -> FleetAnswer {
        self.fleets_created += 1;
        let fleet_id = fleet_id(self.fleets_created);
        let mut pools = pools_of(request);
        // Price and capacity decide which pool comes first; the caller cannot foresee it.
        let first = tape.draw(u64::try_from(pools.len().saturating_sub(1)).unwrap_or(0));
        pools.rotate_left(usize::try_from(first).unwrap_or(0));

        let mut errors = Vec::new();
        let mut planned: Vec<(LaunchTemplate, Pool, u32)> = Vec::new();
        let mut wanted = request.total_target_capacity;
        for (template, pool) in pools {
            let (room, lack) = self.room(&pool, request.market, &planned, (now, tape));
            let room = room.min(wanted);
            wanted -= room;
            if wanted > 0 {
                errors.push(lacking(&template, &pool, request.market, lack));
            }
            if room > 0 {
                planned.push((template, pool, room));
            }
            if wanted == 0 {
                break;
            }
        }
        let launched = request.total_target_capacity - wanted;
        if request.min_target_capacity.is_some_and(|min| launched < min) {
            planned.clear();
        }
        let groups = planned
            .into_iter()
            .map(|(template, pool, count)| self.launch_group(request, template, pool, count, &fleet_id, (now, tape)))
            .collect();
        FleetAnswer { fleet_id, groups, errors }
    }

    fn launch_group(
        &mut self,
        request: &FleetRequest,
        template: LaunchTemplate,
        pool: Pool,
        count: u32,
        fleet_id: &str,
        (now, tape): (Millis, &mut Tape),
    ) -> FleetGroup {
        let tags = Arc::new(tags_of(request, &template, fleet_id));
        let instance_ids = (0..count)
            .map(|_| {
                let id = self.insert_instance(&pool, request.market, Arc::clone(&tags), fleet_id, now);
                self.schedule(&id, now, tape);
                self.outbox.push((now, Ec2Event::Launched { instance_id: id.clone(), tags: Arc::clone(&tags) }));
                id
            })
            .collect();
        FleetGroup { template, pool, market: request.market, instance_ids }
    }

    fn insert_instance(&mut self, pool: &Pool, market: Market, tags: Arc<Tags>, fleet_id: &str, now: Millis) -> String {
        self.launched += 1;
        let id = format!("i-0{:016x}", mixed(self.launched));
        let subnet_id = pool.subnet_id.clone().unwrap_or_else(|| "subnet-0d0d0d0d".to_owned());
        let instance = Instance {
            id: id.clone(),
            sequence: self.launched,
            reservation_id: format!("r-0{:016x}", mixed(self.fleets_created)),
            origin: Origin::Fleet,
            state: State::Pending,
            launched_at: now,
            visible_at: now,
            instance_type: pool.instance_type.clone().unwrap_or_else(|| "m7i.large".to_owned()),
            availability_zone: zone_of(&self.settings.region, &subnet_id),
            subnet_id,
            market,
            client_token: format!("{fleet_id}-{}", self.launched),
            tags,
            protected: false,
            state_reason: None,
            next: None,
            interruption_at: None,
        };
        self.instances.insert(id.clone(), instance);
        id
    }

    fn schedule(&mut self, id: &str, now: Millis, tape: &mut Tape) {
        let boot_ms = tape.between(self.settings.boot_ms.0, self.settings.boot_ms.1);
        let lag_ms = tape.between(self.settings.visibility_lag_ms.0, self.settings.visibility_lag_ms.1);
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.next = Some((now + boot_ms, Step::Boot));
        instance.visible_at = now + lag_ms;
        if instance.market == Market::Spot && tape.chance(self.settings.spot_interruption) {
            let (lo, hi) = self.settings.spot_interruption_after_ms;
            instance.interruption_at = Some(now + tape.between(lo, hi));
        }
    }

    /// How many more instances this pool gives, those already planned in this call counted, and EC2's code for why not
    /// more.
    fn room(
        &self,
        pool: &Pool,
        market: Market,
        planned: &[(LaunchTemplate, Pool, u32)],
        (now, tape): (Millis, &mut Tape),
    ) -> (u32, &'static str) {
        const NO_CAPACITY: &str = "InsufficientInstanceCapacity";
        if tape.chance(self.settings.no_capacity_rate) {
            return (0, NO_CAPACITY);
        }
        if tape.chance(self.settings.override_error_rate) {
            let place = tape.draw(OVERRIDE_ERRORS.len() as u64 - 1);
            return (
                0,
                usize::try_from(place).ok().and_then(|at| OVERRIDE_ERRORS.get(at)).copied().unwrap_or(NO_CAPACITY),
            );
        }
        let of_account = self.settings.instance_limit.map_or(u32::MAX, |limit| {
            let counted = self.instances().filter(|instance| self.counts(instance, now)).count();
            let reserved: u32 = planned.iter().map(|(.., count)| *count).sum();
            limit.saturating_sub(u32::try_from(counted).unwrap_or(u32::MAX)).saturating_sub(reserved)
        });
        let of_kind = self.room_of_kind(pool, planned);
        let of_market = match market {
            Market::Spot => "MaxSpotInstanceCountExceeded",
            Market::OnDemand => "VcpuLimitExceeded",
        };
        if of_account < of_kind { (of_account, of_market) } else { (of_kind, NO_CAPACITY) }
    }

    /// Whether an instance counts against the account's limit.
    fn counts(&self, instance: &Instance, now: Millis) -> bool {
        let forgotten_at = instance.next.map_or(now, |(at, _)| at);
        instance.state != State::Terminated
            || now < forgotten_at - self.settings.terminated_lingers_ms + self.settings.limit_lag_ms
    }

    fn room_of_kind(&self, pool: &Pool, planned: &[(LaunchTemplate, Pool, u32)]) -> u32 {
        let Some(kind) = pool.instance_type.as_ref() else { return u32::MAX };
        let Some(capacity) = self.settings.capacity.get(kind) else { return u32::MAX };
        let living = self.instances().filter(|instance| instance.state.is_alive() && instance.instance_type == *kind);
        let reserved = planned.iter().filter(|(_, pool, _)| pool.instance_type.as_ref() == Some(kind));
        let used = u32::try_from(living.count()).unwrap_or(u32::MAX);
        let reserved: u32 = reserved.map(|(_, _, count)| *count).sum();
        capacity.saturating_sub(used).saturating_sub(reserved)
    }
}

fn check_request(request: &FleetRequest) -> Result<(), Ec2Error> {
    let refused = |code, message: &str| Err(Ec2Error::refused(code, message));
    if request.kind != "instant" {
        return refused("UnsupportedOperation", "Only fleets of type instant are simulated");
    }
    if request.client_token.as_ref().is_some_and(|token| token.len() > TOKEN_MAX || !token.is_ascii()) {
        return refused("InvalidParameterValue", "The client token must be at most 64 ASCII characters");
    }
    if request.configs.is_empty() {
        return refused("MissingParameter", "The request must contain the parameter LaunchTemplateConfigs");
    }
    if request.total_target_capacity == 0 {
        return refused("InvalidParameterValue", "TotalTargetCapacity must be at least 1 for an instant fleet");
    }
    for config in &request.configs {
        match (&config.template.id, &config.template.name) {
            (Some(id), None) if id.starts_with("lt-") => {}
            (Some(_), None) => {
                return refused("InvalidLaunchTemplateId.Malformed", "The launch template ID is malformed");
            }
            (None, Some(_)) => {}
            (Some(_), Some(_)) | (None, None) => {
                return refused(
                    "InvalidLaunchTemplateSpecification",
                    "Specify either the launch template ID or its name",
                );
            }
        }
        if config.template.version.is_none() {
            return refused("MissingParameter", "The launch template version is required in a fleet request");
        }
    }
    check_keys(&request.instance_tags)
}

fn pools_of(request: &FleetRequest) -> Vec<(LaunchTemplate, Pool)> {
    let of_config = |config: &TemplateConfig| {
        let pools = if config.overrides.is_empty() { vec![Pool::default()] } else { config.overrides.clone() };
        let template = config.template.clone();
        pools.into_iter().map(move |pool| (template.clone(), pool)).collect::<Vec<_>>()
    };
    request.configs.iter().flat_map(of_config).collect()
}

/// The tags asked for and those that EC2 sets itself and no user can write.
fn tags_of(request: &FleetRequest, template: &LaunchTemplate, fleet_id: &str) -> Tags {
    let mut tags = request.instance_tags.clone();
    // A template known by its name only has an id too; the double derives one.
    let template_id =
        template.id.clone().unwrap_or_else(|| format!("lt-of-{}", template.name.as_deref().unwrap_or("nothing")));
    let version = match template.version.as_deref() {
        Some("$Latest" | "$Default") | None => "1",
        Some(number) => number,
    };
    tags.insert("aws:ec2launchtemplate:id".to_owned(), template_id);
    tags.insert("aws:ec2launchtemplate:version".to_owned(), version.to_owned());
    tags.insert("aws:ec2:fleet-id".to_owned(), fleet_id.to_owned());
    tags
}

/// Other codes that `CreateFleet` gives for one override (API reference, `CreateFleetError`, and the error codes of
/// `RunInstances`; read 2026-11-20).
const OVERRIDE_ERRORS: [&str; 12] = [
    "UnfulfillableCapacity",
    "InsufficientFreeAddressesInSubnet",
    "Unsupported",
    "SpotMaxPriceTooLow",
    "InsufficientVolumeCapacity",
    "InvalidFleetConfiguration",
    "InvalidParameterValue",
    "InvalidLaunchTemplateId.VersionNotFound",
    "InvalidSubnetID.NotFound",
    "UnauthorizedOperation",
    "RequestLimitExceeded",
    "InternalError",
];

fn lacking(template: &LaunchTemplate, pool: &Pool, market: Market, code: &str) -> FleetError {
    let kind = pool.instance_type.as_deref().unwrap_or("the requested type");
    FleetError {
        template: template.clone(),
        pool: pool.clone(),
        market,
        code: code.to_owned(),
        message: format!("We currently cannot give you {kind} in the Availability Zone you requested ({code})."),
    }
}

/// Every subnet lies in one zone, the same one each time.
fn zone_of(region: &str, subnet_id: &str) -> String {
    let sum: u32 = subnet_id.bytes().map(u32::from).sum();
    let letter = match sum % 3 {
        0 => 'a',
        1 => 'b',
        _ => 'c',
    };
    format!("{region}{letter}")
}

fn fleet_id(number: u64) -> String {
    let low = mixed(number);
    format!(
        "fleet-{:08x}-{:04x}-4{:03x}-8{:03x}-{number:012x}",
        low >> 32,
        (low >> 16) & 0xffff,
        low & 0xfff,
        (low >> 4) & 0xfff
    )
}

/// The finaliser of splitmix64: one-to-one, so that ids made from a counter are unique and look like EC2's.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
