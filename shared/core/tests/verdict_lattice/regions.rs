//! The regions of the lattice, and how every combination of one is drawn.
//!
//! A plain product of the axes has more than 10^11 combinations, nearly all of which differ in fields that nobody looks
//! at. So the lattice is cut into regions by how far `decide` reads on, and in each every axis that it reads there is
//! crossed with every other; the axes that it does not read are drawn, twice for each combination, and the two must be
//! concluded upon alike. A change that makes `decide` read on in some region fails there.
//!
//! | region | crossed with each other |
//! |---|---|
//! | no job, by every telling word of GitHub | 30 removal histories, 3 origins, 3 ages, vital sign, registration (ephemeral and version too), control 6, witness and its age 4, deliveries 3, age of the re-check 2, jobs 4 |
//! | no job, idle at GitHub | the same and demand 6 |
//! | job ended (4 histories) | as the first; with the job in question (6) where GitHub holds the runner busy and offline |
//! | job open (11 histories) | 30 removal histories, origins, ages, vital sign, registration, control 6, deliveries 3, jobs 4, the job in question 6 |
//! | a worker, or the vital sign unread | all 16 job histories, 30 removal histories, origins, ages, registration |
//! | GitHub does not tell, or tells enough to keep | the same, vital sign, demand 6, jobs 4 |
//! | past the hard age | all histories and registrations, every state but terminated |
//! | stopped | all job histories with 37 others, registration, control 6, witness and its age 4 |
//! | gone | all job histories with 12 ends, registration, vital sign, control, witness, deliveries, re-check, jobs |
//! | shutting down, stopping, unknown, terminated for the first time; no record that we know | all histories; states |

use super::axes::*;
use super::*;

/// A part of the lattice in which `decide` reads the same fields: a product of axes, of which those that it does not
/// read there are a single class ([`axes`]).
pub(crate) struct Region {
    pub(crate) name: &'static str,
    states: Axis<InstanceState>,
    pub(crate) lives: Vec<Vec<Life>>,
    registrations: Vec<Vec<RegistrationEvidence>>,
    vital_signs: Axis<VitalEvidence>,
    demands: Axis<DemandEvidence>,
    controls: Axis<PositiveControl>,
    heard: Axis<Heard>,
    deliveries: Axis<DeliveryEvidence>,
    rechecks: Axis<Timestamp>,
    jobs: Axis<JobsEvidence>,
    assigned_jobs: Axis<AssignedJob>,
    /// How often each combination is drawn.
    draws: usize,
    /// Whether something executes on its instances, so that a sign of life is one.
    pub(crate) executes: Executes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Executes {
    /// It may.
    Maybe,
    /// Row 25: nothing executes on a stopped instance, whatever is said of it.
    No,
    /// Row 4: nothing where EC2 shows it as terminated; where listings merely missed it, it may.
    WhereMissed,
    /// Row 2: GitHub itself has given up whatever executes there.
    GivenUp,
}

impl Executes {
    pub(crate) fn on(self, evidence: &Evidence) -> bool {
        match self {
            Self::Maybe => true,
            Self::No | Self::GivenUp => false,
            Self::WhereMissed => evidence.known_record().is_some_and(|record| record.missing_since.is_some()),
        }
    }
}

impl Region {
    /// Nothing is crossed but lives, states and registrations.
    fn new(name: &'static str, states: Axis<InstanceState>, lives: Vec<Vec<Life>>) -> Self {
        Self {
            name,
            states,
            lives,
            registrations: every_registration(),
            vital_signs: ANY_VITAL_SIGN,
            demands: ANY_DEMAND,
            controls: ANY_CONTROL,
            heard: ANY_HEARD,
            deliveries: ANY_DELIVERY,
            rechecks: ANY_RECHECK,
            jobs: ANY_JOBS,
            assigned_jobs: ANY_ASSIGNED,
            draws: 1,
            executes: Executes::Maybe,
        }
    }

    /// Who said it and when, and everything that is asked before an act, is crossed.
    fn with_every_gate(self) -> Self {
        Self {
            controls: EVERY_CONTROL,
            heard: EVERY_HEARD,
            deliveries: EVERY_DELIVERY,
            rechecks: EVERY_RECHECK,
            jobs: EVERY_JOBS,
            ..self
        }
    }

    pub(crate) fn combinations(&self) -> usize {
        let copied = [
            self.states.len(),
            self.vital_signs.len(),
            self.demands.len(),
            self.controls.len(),
            self.heard.len(),
            self.deliveries.len(),
            self.rechecks.len(),
            self.jobs.len(),
            self.assigned_jobs.len(),
        ];
        self.lives.len() * self.registrations.len() * copied.iter().product::<usize>() * self.draws
    }
}

/// Living instances whose age is one of these.
fn living(ages: &[Age], jobs: &[fn(&mut InstanceRecord, Timestamp)]) -> Vec<Vec<Life>> {
    let mut lives = lives(jobs, &REMOVALS);
    lives.retain(|class| class.iter().all(|life| ages.contains(&life.age) && !is_past(life)));
    lives
}

/// A living instance, by how far decisions about it read on.
pub(crate) fn regions_of_the_living() -> Vec<Region> {
    let all = all_jobs();
    let ages: [(&[Age], Axis<VitalEvidence>); 2] =
        [(&[Age::Young], QUIET_AND_YOUNG), (&[Age::Grown, Age::Ancient], QUIET)];
    let of_ages = |(ages, vital_signs): (&[Age], Axis<VitalEvidence>)| {
        let no_job = Region {
            registrations: telling_registrations(),
            vital_signs,
            ..Region::new("no job", LIVING, living(ages, &NO_JOB)).with_every_gate()
        };
        let idle = Region {
            registrations: idle_registrations(),
            vital_signs,
            demands: EVERY_DEMAND,
            ..Region::new("no job, idle at GitHub", LIVING, living(ages, &NO_JOB)).with_every_gate()
        };
        let ended = Region {
            registrations: registrations_after_a_job(),
            vital_signs,
            ..Region::new("job ended", LIVING, living(ages, &ENDED_JOBS)).with_every_gate()
        };
        let ended_and_lost = Region {
            registrations: lost_registrations(),
            vital_signs,
            assigned_jobs: EVERY_ASSIGNED,
            ..Region::new("job ended, busy and offline at GitHub", LIVING, living(ages, &ENDED_JOBS)).with_every_gate()
        };
        let open = Region {
            registrations: [lost_registrations(), registrations_after_a_job()].concat(),
            vital_signs,
            controls: EVERY_CONTROL,
            deliveries: EVERY_DELIVERY,
            jobs: EVERY_JOBS,
            assigned_jobs: EVERY_ASSIGNED,
            ..Region::new("job open", LIVING, living(ages, &OPEN_JOBS))
        };
        let lively = Region {
            vital_signs: LIVELY,
            draws: 8,
            ..Region::new("a worker, or nobody knows", LIVING, living(ages, &all))
        };
        let silent = Region {
            registrations: silent_registrations(),
            vital_signs,
            demands: EVERY_DEMAND,
            jobs: EVERY_JOBS,
            draws: 2,
            ..Region::new("GitHub does not tell, or tells enough", LIVING, living(ages, &all))
        };
        vec![no_job, idle, ended, ended_and_lost, open, lively, silent]
    };
    ages.into_iter().flat_map(of_ages).collect()
}

/// Every instance of which a record tells, in every other state, and past the hard age.
pub(crate) fn regions_of_the_others() -> Vec<Region> {
    let all = all_jobs();
    let mut past = lives(&all, &REMOVALS);
    past.retain(|class| class.iter().all(is_past));
    let not_past = |mut classes: Vec<Vec<Life>>| {
        for class in &mut classes {
            class.retain(|life| !is_past(life));
        }
        classes
    };
    let but_the_gone: Vec<_> = REMOVALS[..REMOVALS.len() - 1].to_vec();
    vec![
        Region { draws: 16, executes: Executes::GivenUp, ..Region::new("past the hard age", NOT_TERMINATED, past) },
        Region { draws: 4, ..Region::new("in between", IN_BETWEEN, living(&AGES, &all)) },
        Region { draws: 4, ..Region::new("terminated, news", TERMINATED, lives(&all, &but_the_gone)) },
        Region {
            registrations: every_registration_by_flags(),
            controls: EVERY_CONTROL,
            heard: EVERY_HEARD,
            draws: 16,
            executes: Executes::No,
            ..Region::new("stopped", STOPPED, not_past(lives_alike(&all, &[STOPS.as_slice(), &REMOVALS].concat())))
        },
        Region {
            registrations: every_registration_by_flags(),
            vital_signs: EVERY_VITAL_SIGN,
            executes: Executes::WhereMissed,
            ..Region::new("gone", TERMINATED, lives_alike(&all, &ENDS)).with_every_gate()
        },
        Region { draws: 200, ..Region::new("no record that we know", EVERY_STATE, unknown_lives()) },
    ]
}

fn unknown_lives() -> Vec<Vec<Life>> {
    let of = |age| {
        [RecordEvidence::Unread, RecordEvidence::Absent, RecordEvidence::Foreign]
            .map(|record| vec![Life { age, record }])
    };
    AGES.into_iter().flat_map(of).collect()
}

/// Draws; the same at every run.
struct Dice(u64);

impl Dice {
    fn pick<'a, T>(&mut self, class: &'a [T]) -> &'a T {
        if let [only] = class {
            return only;
        }
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let sides = u64::try_from(class.len()).expect("a few");
        &class[usize::try_from(self.0 % sides).expect("below the length")]
    }
}

/// Calls `check` with every combination of these lives, drawn twice.
pub(crate) fn every_combination(region: &Region, lives: &[Vec<Life>], mut check: impl FnMut(&mut [Evidence; 2])) {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut pair = [evidence(record()), evidence(record())];
    let tuples: Vec<Tuple> = region.tuples();
    for life in lives {
        for registration in &region.registrations {
            for drawn in &mut pair {
                let life = dice.pick(life);
                drawn.record = life.record.clone();
                drawn.instance.launched_at = life.age.launched_at();
                drawn.registration = dice.pick(registration).clone();
            }
            for _ in 0..region.draws {
                for tuple in &tuples {
                    for drawn in &mut pair {
                        tuple.draw(drawn, &mut dice);
                    }
                    check(&mut pair);
                }
            }
        }
    }
}

/// One class of each axis whose values are copied.
#[derive(Clone, Copy)]
struct Tuple {
    state: &'static [InstanceState],
    vital_sign: &'static [VitalEvidence],
    demand: &'static [DemandEvidence],
    control: &'static [PositiveControl],
    heard: &'static [Heard],
    deliveries: &'static [DeliveryEvidence],
    rechecked_at: &'static [Timestamp],
    jobs: &'static [JobsEvidence],
    assigned_job: &'static [AssignedJob],
}

impl Tuple {
    fn draw(&self, evidence: &mut Evidence, dice: &mut Dice) {
        evidence.instance.state = *dice.pick(self.state);
        evidence.vital_sign = *dice.pick(self.vital_sign);
        evidence.demand = *dice.pick(self.demand);
        evidence.control = *dice.pick(self.control);
        evidence.heard = *dice.pick(self.heard);
        evidence.deliveries = *dice.pick(self.deliveries);
        evidence.rechecked_at = *dice.pick(self.rechecked_at);
        evidence.jobs = *dice.pick(self.jobs);
        evidence.assigned_job = *dice.pick(self.assigned_job);
    }
}

/// Every tuple with every class of one more axis.
fn cross<T>(tuples: &[Tuple], axis: Axis<T>, set: impl Fn(&mut Tuple, &'static [T])) -> Vec<Tuple> {
    let with = |tuple: &Tuple, class: &'static [T]| {
        let mut tuple = *tuple;
        set(&mut tuple, class);
        tuple
    };
    tuples.iter().flat_map(|tuple| axis.iter().map(|class| with(tuple, class)).collect::<Vec<_>>()).collect()
}

impl Region {
    fn tuples(&self) -> Vec<Tuple> {
        let none = Tuple {
            state: &[],
            vital_sign: &[],
            demand: &[],
            control: &[],
            heard: &[],
            deliveries: &[],
            rechecked_at: &[],
            jobs: &[],
            assigned_job: &[],
        };
        let tuples = cross(&[none], self.states, |tuple, class| tuple.state = class);
        let tuples = cross(&tuples, self.vital_signs, |tuple, class| tuple.vital_sign = class);
        let tuples = cross(&tuples, self.demands, |tuple, class| tuple.demand = class);
        let tuples = cross(&tuples, self.controls, |tuple, class| tuple.control = class);
        let tuples = cross(&tuples, self.heard, |tuple, class| tuple.heard = class);
        let tuples = cross(&tuples, self.deliveries, |tuple, class| tuple.deliveries = class);
        let tuples = cross(&tuples, self.rechecks, |tuple, class| tuple.rechecked_at = class);
        let tuples = cross(&tuples, self.jobs, |tuple, class| tuple.jobs = class);
        cross(&tuples, self.assigned_jobs, |tuple, class| tuple.assigned_job = class)
    }
}
