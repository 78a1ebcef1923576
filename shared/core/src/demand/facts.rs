//! What EC2 and the ledger have for the jobs that wait: instances, launches that are not shown yet, and the jobs on
//! record. The order of reads is part of it: EC2's listing first, so that what is launched from then on is counted by its
//! reservation (as in scale-up).

use std::collections::BTreeMap;

use super::DemandPorts;
use super::plan::{self, Capacity, Condition};
use super::report::Report;
use crate::config::{Fleet, Mutant, Policy};
use crate::error::PortError;
use crate::ids::{FleetName, InstanceId, LaunchToken, Scope};
use crate::ledger::{self, FleetRecord, InstanceRecord, JobPhase, JobRecord, LaunchRecord, Reservation, Stored};
use crate::ports::{Instance, InstanceState, OpenPartition, VitalSign, VitalSigns};
use crate::scale_up::aftermath::{Sight, sight};
use crate::scale_up::plan::{has_ended, is_from_template, lapsed, room};
use crate::time::Timestamp;

/// Jobs read from the index of one fleet. A fleet with more waiting ones counts with those whose look is nearest.
const JOBS_READ_MAX: usize = 2_000;

/// Everything that was read, once a pass.
pub(super) struct Facts {
    /// As EC2 listed it.
    pub(super) listing: Vec<Instance>,
    machines: Vec<Machine>,
    reservations: BTreeMap<FleetName, Vec<Reservation>>,
    unseen: Vec<Unseen>,
    jobs: BTreeMap<FleetName, Vec<JobRecord>>,
    now: Timestamp,
    mutant: Mutant,
}

struct Machine {
    fleet: FleetName,
    scope: Option<Scope>,
    token: Option<LaunchToken>,
    condition: Condition,
    barren: bool,
}

/// Instances that were asked for and that the listing does not show.
struct Unseen {
    fleet: FleetName,
    scope: Option<Scope>,
    token: LaunchToken,
    count: usize,
}

impl Facts {
    /// # Errors
    /// EC2 or the ledger could not be read. Vital signs that could not be are in the report: without them an instance whose
    /// job only it knows of counts as capacity, which launches less and not more.
    pub(super) async fn read<P: DemandPorts>(
        ports: &P,
        policy: &Policy,
        report: &mut Report,
    ) -> Result<Self, PortError> {
        let now = ports.now();
        let shown = ports.instances(&policy.deployment).await?;
        let ids = shown.iter().map(|instance| instance.id.to_string());
        let records = ledger::load_all::<InstanceRecord>(ports, ids).await?;
        let (listing, records): (Vec<Instance>, Vec<_>) = shown
            .into_iter()
            .zip(records)
            .filter(|(instance, (_, stored))| is_from_template(instance, policy) || !matches!(stored, Stored::Absent))
            .unzip();
        let living = |instance: &&Instance| matches!(instance.state, InstanceState::Pending | InstanceState::Running);
        let living: Vec<InstanceId> = listing.iter().filter(living).map(|instance| instance.id.clone()).collect();
        let signs: BTreeMap<InstanceId, VitalSign> = if living.is_empty() {
            BTreeMap::new()
        } else {
            let read = VitalSigns::read(ports, &living).await.unwrap_or_else(|error| {
                report.error(error);
                Vec::new()
            });
            read.into_iter().collect()
        };
        let machines = listing
            .iter()
            .zip(records)
            .map(|(instance, (_, stored))| machine(instance, &stored, signs.get(&instance.id), policy, now))
            .collect();
        let mut facts = Self {
            listing,
            machines,
            reservations: BTreeMap::new(),
            unseen: Vec::new(),
            jobs: BTreeMap::new(),
            now,
            mutant: policy.mutant,
        };
        for fleet in &policy.fleets {
            facts.read_fleet(ports, fleet).await?;
        }
        Ok(facts)
    }

    async fn read_fleet<P: DemandPorts>(&mut self, ports: &P, fleet: &Fleet) -> Result<(), PortError> {
        let name = &fleet.name;
        let partition = OpenPartition::Jobs(name.clone());
        let jobs = ledger::open::<JobRecord>(ports, &partition, Timestamp(i64::MAX), JOBS_READ_MAX).await?;
        let jobs: Vec<JobRecord> = jobs.records.into_iter().map(|job| job.record).collect();
        let reservations = match ledger::load::<FleetRecord>(ports, name.as_str()).await? {
            Stored::Present(record) => record.record.reservations,
            Stored::Absent | Stored::Foreign => Vec::new(),
        };
        let open: Vec<Reservation> =
            reservations.into_iter().filter(|reservation| !lapsed(reservation, self.now)).collect();
        let launches =
            ledger::load_all::<LaunchRecord>(ports, open.iter().map(|reservation| reservation.token.to_string()));
        for (reservation, (_, launch)) in open.iter().zip(launches.await?) {
            let shown =
                self.machines.iter().filter(|machine| machine.token.as_ref() == Some(&reservation.token)).count();
            let (scope, hopeless) = match launch {
                Stored::Present(launch) => {
                    let abandoned = is_abandoned(reservation, &launch.record, &jobs, fleet, self.now);
                    let hopeless = abandoned || is_over(&launch.record, self.now);
                    (Some(launch.record.access.scope), hopeless)
                }
                Stored::Absent | Stored::Foreign => (None, false),
            };
            let count = if hopeless { 0 } else { (reservation.count as usize).saturating_sub(shown) };
            self.unseen.push(Unseen { fleet: name.clone(), scope, token: reservation.token.clone(), count });
        }
        self.jobs.insert(name.clone(), jobs);
        self.reservations.insert(name.clone(), open);
        Ok(())
    }

    /// What there is for jobs of that fleet in that scope.
    pub(super) fn capacity(&self, fleet: &FleetName, scope: &Scope) -> Capacity {
        let here = |own: &FleetName, at: Option<&Scope>| own == fleet && at.is_some_and(|at| at.agrees_with(scope));
        let machines = || self.machines.iter().filter(|machine| here(&machine.fleet, machine.scope.as_ref()));
        let unseen: usize = self
            .unseen
            .iter()
            .filter(|unseen| here(&unseen.fleet, unseen.scope.as_ref()))
            .map(|unseen| unseen.count)
            .sum();
        Capacity {
            booting: machines().filter(|machine| machine.condition == Condition::Booting).count() + unseen,
            idle: machines().filter(|machine| machine.condition == Condition::Idle).count(),
            barren: machines().filter(|machine| machine.barren).count() + unseen,
        }
    }

    /// Whether a launch has an instance that can still take a job, shown or not.
    pub(super) fn launch_is_free(&self, token: &LaunchToken) -> bool {
        if self.mutant.lets_instances_claim_jobs() {
            let of_launch = |i: &&Instance| i.tags.get("ghr:launch").is_some_and(|own| own == token.as_str());
            return self.listing.iter().filter(of_launch).any(|instance| !has_ended(instance.state));
        }
        let free = |machine: &Machine| {
            machine.token.as_ref() == Some(token) && matches!(machine.condition, Condition::Booting | Condition::Idle)
        };
        self.machines.iter().any(free) || self.unseen.iter().any(|unseen| unseen.token == *token && unseen.count > 0)
    }

    /// Whether a launch of the last minutes has an instance of which no job is known.
    pub(super) fn launch_is_barren(&self, token: &LaunchToken) -> bool {
        self.machines.iter().any(|machine| machine.token.as_ref() == Some(token) && machine.barren)
    }

    /// Jobs on record that wait for that fleet in that scope and were not given up.
    pub(super) fn waiting<'a>(&'a self, fleet: &FleetName, scope: &'a Scope) -> impl Iterator<Item = &'a JobRecord> {
        let of_fleet = self.jobs.get(fleet).into_iter().flatten();
        of_fleet.filter(move |job| job.is_waiting() && job.given_up_at.is_none() && job.access.scope.agrees_with(scope))
    }

    /// Begin of the reading.
    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    /// How many instances the fleet's cap leaves.
    pub(super) fn room(&self, fleet: &Fleet) -> usize {
        room(fleet, &self.listing, self.reservations.get(&fleet.name).map_or(&[], Vec::as_slice), self.now)
    }
}

/// Whether nothing is going to come of a launch: its call was never answered, its lease is over, so that what it
/// launched would be shown, and none of its jobs is left for whose sake somebody repeats the call. It holds room for as
/// long as it may ([`room`]), but it serves no job that waits. A pool's launch has no jobs; its pass repeats it.
fn is_abandoned(
    reservation: &Reservation,
    launch: &LaunchRecord,
    jobs: &[JobRecord],
    fleet: &Fleet,
    now: Timestamp,
) -> bool {
    let repeats =
        |job: &JobRecord| matches!(&job.phase, JobPhase::Launching { token, .. } if *token == reservation.token);
    reservation.answered_at.is_none()
        && now.since(reservation.at) > fleet.timers.launch_lease
        && !launch.job_ids.is_empty()
        && !jobs.iter().any(repeats)
}

/// Whether what a launch made has ended where a listing begun at `listed_at` does not show it: the answer came so long ago
/// that it would be. To a repetition EC2 names instances that ended long before (facts/world.md E2), and what ran one short
/// job may be gone from the listing within minutes. It holds room for as long as it may ([`room`]).
fn is_over(launch: &LaunchRecord, listed_at: Timestamp) -> bool {
    launch.answered_at.is_some() && sight(launch, None, listed_at) == Sight::Gone
}

fn machine(
    instance: &Instance,
    stored: &Stored<InstanceRecord>,
    sign: Option<&VitalSign>,
    policy: &Policy,
    now: Timestamp,
) -> Machine {
    let tag = |name: &str| instance.tags.get(name).map(String::as_str);
    let record = match stored {
        Stored::Present(record) => Some(&record.record),
        Stored::Absent | Stored::Foreign => None,
    };
    let fleet =
        record.map_or_else(|| FleetName::new(tag("ghr:fleet").unwrap_or_default()), |record| record.fleet.clone());
    let scope = record.map(|record| record.access.scope.clone()).or_else(|| tag("ghr:owner").and_then(Scope::parse));
    Machine {
        condition: plan::condition(instance, record, sign, policy.timers(&fleet), now),
        barren: plan::is_barren(instance, record, now),
        token: tag("ghr:launch").map(LaunchToken::new),
        scope,
        fleet,
    }
}
