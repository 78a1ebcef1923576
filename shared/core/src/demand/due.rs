//! Jobs on record that are due for a look are sent to the queue again (design section 6). Whether a job still needs a
//! runner is not asked here: scale-up asks GitHub.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tracing::{info, warn};

use super::SENDS_AT_ONCE;
use crate::config::{Fleet, Policy};
use crate::error::PortError;
use crate::ids::{FleetName, JobId, Scope};
use crate::ledger::{self, JobRecord, LaunchLeave, RegistrationBreaker, Stored, Versioned};
use crate::ports::{ComputeRead, Instance, Ledger, OpenPartition, Queue};
use crate::scale_up::room::{own_instances, room};
use crate::scale_up::{self, JobMessage, registration, select_fleet};
use crate::time::{Clock, Deadline, Timestamp};

/// Jobs sent for one fleet in one pass, of those that need room and of the others each. More, and a pass has no time for
/// other fleets; fewer, and a burst that met a full fleet drains over many passes.
const SENT_PER_FLEET_MAX: usize = 50;

/// Jobs sent beyond the room that their fleet has, longest not looked at first: some of the oldest are over by now and
/// nobody told us, or their owner's GitHub does not answer. More, and a fleet that is nearly full is asked for over and
/// over; fewer, and such jobs hold up the others.
const SENT_BEYOND_ROOM: usize = 10;

/// Due jobs read of one fleet in one pass. Those that need room stay due until there is some. More, and a long line costs
/// its reading every minute; fewer, and what needs none waits behind it, as if it did.
const READ_PER_FLEET_MAX: usize = 500;

/// A pass is begun every minute (design section 7).
const PASS_EVERY_MS: i64 = 60_000;

/// When a job is looked at again that could not be sent.
const SEND_AGAIN: Duration = Duration::from_secs(30);

/// What one pass did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SendReport {
    /// Jobs sent again.
    pub(crate) sent: BTreeSet<JobId>,
    /// What failed, in words; the jobs are due again soon.
    pub(crate) failures: Vec<String>,
    /// There was no time for some of them: they are due in the next pass.
    pub(crate) is_cut: bool,
}

/// Sends the jobs that are due: of the configured fleets, then of those that left the configuration. Of jobs that need
/// another instance only as many as their fleet has room for, the oldest, and a few of the others; what stays due is sent
/// when there is room. A job that has waited longer than GitHub lets a job wait is given up; one that no fleet takes by
/// now waits on.
///
/// # Guarantees
/// A job's next look moves ahead before it is sent, so that passes that overlap do not both send it; killed in between,
/// it is due again after the boot grace. One fleet's or job's failure does not stop the others, and where the room is not
/// known, jobs are sent as if there were some.
pub(crate) async fn send_due_jobs(
    ports: &(impl Ledger + Queue + ComputeRead + Clock),
    policy: &Policy,
    deadline: Deadline,
) -> SendReport {
    let mut report = SendReport::default();
    let mut fleets: Vec<FleetName> = policy.fleets.iter().map(|fleet| fleet.name.clone()).collect();
    match former_fleets(ports, policy).await {
        Ok(former) => fleets.extend(former),
        Err(error) => {
            warn!(error = %error, class = ?error.class, "could not list fleets that left the configuration: {error}");
            report.failures.push(error.to_string());
        }
    }
    // Each is the first in its turn: in slow times one fleet's backlog takes all of the time.
    let first = usize::try_from(ports.now().0 / PASS_EVERY_MS).unwrap_or(0).checked_rem(fleets.len()).unwrap_or(0);
    fleets.rotate_left(first);
    let mut listing = None;
    for fleet in &fleets {
        if !deadline.allows_more(ports.now()) {
            report.is_cut = true;
            break;
        }
        if let Err(error) = send_for_fleet(ports, policy, fleet, deadline, &mut listing, &mut report).await {
            warn!(fleet = %fleet, error = %error, class = ?error.class, "could not list due jobs of {fleet}: {error}");
            report.failures.push(error.to_string());
        }
    }
    report
}

/// The fleets that have a record and are not configured.
async fn former_fleets(ledger: &impl Ledger, policy: &Policy) -> Result<Vec<FleetName>, PortError> {
    let known = ledger::fleet_names(ledger).await?;
    Ok(known.into_iter().filter(|name| policy.fleet(name).is_none()).collect())
}

/// EC2's listing, read by the first fleet that needs it; within, `None` where it could not be read.
type Listing = Option<Option<Vec<Instance>>>;

async fn send_for_fleet(
    ports: &(impl Ledger + Queue + ComputeRead + Clock),
    policy: &Policy,
    fleet: &FleetName,
    deadline: Deadline,
    listing: &mut Listing,
    report: &mut SendReport,
) -> Result<(), PortError> {
    let partition = OpenPartition::Jobs(fleet.clone());
    let now = ports.now();
    let due = ledger::open::<JobRecord>(ports, &partition, now, READ_PER_FLEET_MAX).await?;
    let (need_room, mut chosen): (Vec<_>, Vec<_>) =
        due.records.into_iter().map(|job| job.record).partition(|job| needs_room(job, policy, fleet, now));
    chosen.truncate(SENT_PER_FLEET_MAX);
    let (need_room, held) = unless_refused(ports, fleet, need_room, now).await;
    let room = match policy.fleet(fleet).filter(|_| !need_room.is_empty()) {
        Some(fleet) => room_of(ports, policy, fleet, deadline, listing, report).await,
        None => None,
    };
    chosen.extend(within_room(need_room, room));
    let chosen = chosen.into_iter().map(|job| (job.job_id, None));
    let sends = chosen.chain(held).map(|(job_id, held_until)| async move {
        if !deadline.allows_more(ports.now()) {
            return (job_id, Ok(Sent::NoTime));
        }
        (job_id, send(ports, policy, fleet, job_id, held_until).await)
    });
    let sent: Vec<_> = stream::iter(sends).buffered(SENDS_AT_ONCE).collect().await;
    for (job_id, sent) in sent {
        match sent {
            Ok(Sent::Yes) => {
                report.sent.insert(job_id);
            }
            Ok(Sent::NotDue) => {}
            Ok(Sent::NoTime) => report.is_cut = true,
            Err(error) => {
                warn!(job_id = %job_id, error = %error, class = ?error.class, "could not send job {job_id} again: {error}");
                report.failures.push(error.to_string());
            }
        }
    }
    Ok(())
}

/// Whether another instance has to be launched for it, by the fleet that it waits for.
fn needs_room(job: &JobRecord, policy: &Policy, fleet: &FleetName, now: Timestamp) -> bool {
    job.waits_in_time(now)
        && scale_up::plan::next(job, now).needs_room()
        && policy.still_serves(&job.repository, job.ids)
        && select_fleet(policy, &job.labels).is_some_and(|taker| taker.name == *fleet)
}

/// Parts jobs that need room from those whose registration GitHub refused, with the time before which nothing is launched
/// for them. These are put off and not sent: each of them is older than what others wait with, and a hopeless backlog
/// would have the fleet's room and every pass to itself. Where it is time to try again, the oldest goes and the others
/// stay due.
async fn unless_refused(
    ledger: &impl Ledger,
    fleet: &FleetName,
    mut due: Vec<JobRecord>,
    now: Timestamp,
) -> (Vec<JobRecord>, Vec<(JobId, Option<Timestamp>)>) {
    if due.is_empty() {
        return (due, Vec::new());
    }
    let leaves = registration::leaves(ledger, fleet, due.iter().map(|job| &job.access.scope), now).await;
    let id_of = |job: &JobRecord| RegistrationBreaker::id_of(fleet, &job.access.scope);
    let mut oldest: BTreeMap<String, (Timestamp, JobId)> = BTreeMap::new();
    for job in &due {
        let age = (job.queued_at, job.job_id);
        oldest.entry(id_of(job)).and_modify(|oldest| *oldest = age.min(*oldest)).or_insert(age);
    }
    let mut held = Vec::new();
    due.retain(|job| match leaves.get(&id_of(job)) {
        Some(LaunchLeave::AsNeeded) | None => true,
        Some(LaunchLeave::OneToTry) => oldest.get(&id_of(job)) == Some(&(job.queued_at, job.job_id)),
        Some(LaunchLeave::NotBefore(until)) => {
            held.push((job.job_id, Some(*until)));
            false
        }
    });
    (due, held)
}

/// Those of the due jobs, longest not looked at first, that are worth a look; `room` is `None` where it is not known.
fn within_room(mut due: Vec<JobRecord>, room: Option<usize>) -> Vec<JobRecord> {
    let Some(room) = room else {
        due.truncate(SENT_PER_FLEET_MAX);
        return due;
    };
    if room == 0 {
        return Vec::new();
    }
    let age = |job: &JobRecord| (job.queued_at, job.job_id);
    let mut ages: Vec<_> = due.iter().map(age).collect();
    ages.sort_unstable();
    let first_too_young = ages.get(room.min(SENT_PER_FLEET_MAX)).copied();
    let (mut chosen, others): (Vec<_>, Vec<_>) =
        due.into_iter().partition(|job| first_too_young.is_none_or(|young| age(job) < young));
    chosen.extend(others.into_iter().take(SENT_BEYOND_ROOM));
    chosen
}

/// How many instances the fleet may still launch; `None` where that could not be read, which is in the report.
async fn room_of(
    ports: &(impl Ledger + ComputeRead + Clock),
    policy: &Policy,
    fleet: &Fleet,
    deadline: Deadline,
    listing: &mut Listing,
    report: &mut SendReport,
) -> Option<usize> {
    if listing.is_none() {
        let listed = deadline.within(ports, own_instances(ports, policy)).await;
        *listing = Some(known(listed, "the instances", report));
    }
    let listing = listing.as_ref()?.as_ref()?;
    let room = deadline.within(ports, room(ports, fleet, listing)).await;
    known(room, "the room of a fleet", report)
}

/// What was read in time.
fn known<T>(read: Option<Result<T, PortError>>, what: &str, report: &mut SendReport) -> Option<T> {
    match read {
        Some(Ok(read)) => return Some(read),
        Some(Err(error)) => {
            warn!(error = %error, class = ?error.class, "could not read {what}, jobs are sent all the same: {error}");
            report.failures.push(error.to_string());
        }
        None => report.is_cut = true,
    }
    None
}

enum Sent {
    Yes,
    NotDue,
    NoTime,
}

async fn send(
    ports: &(impl Ledger + Queue + Clock),
    policy: &Policy,
    fleet: &FleetName,
    job_id: JobId,
    held_until: Option<Timestamp>,
) -> Result<Sent, PortError> {
    let now = ports.now();
    let mut look = Look::NotDue;
    let id = job_id.to_string();
    let changed = ledger::update::<JobRecord>(ports, &id, |stored| match stored {
        Stored::Present(mut job) => {
            look = look_at(&mut job.record, policy, fleet, held_until, now);
            (look != Look::NotDue).then_some(job)
        }
        Stored::Absent | Stored::Foreign => {
            look = Look::NotDue;
            None
        }
    })
    .await?;
    let job = match (changed, look) {
        (Some(job), Look::Send) => job,
        (_, Look::Closed) => {
            info!(job_id = %job_id, fleet = %fleet, "job {job_id} is looked at no more: GitHub's time for it is over");
            return Ok(Sent::NotDue);
        }
        (_, Look::NoFleet) => {
            warn!(job_id = %job_id, fleet = %fleet, "job {job_id} of {fleet} waits, and no fleet takes it");
            return Ok(Sent::NotDue);
        }
        (_, Look::NotDue | Look::Held | Look::Send) => return Ok(Sent::NotDue),
    };
    if let Err(error) = ports.send(&message(&job.record), Duration::ZERO).await {
        back(ports, job, now.plus(SEND_AGAIN)).await;
        return Err(error);
    }
    info!(job_id = %job_id, fleet = %fleet, "sent job {job_id} again");
    Ok(Sent::Yes)
}

/// What a look at one job came to; its record is changed accordingly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// Somebody looked meanwhile.
    NotDue,
    /// GitHub's time for it is over.
    Closed,
    /// No fleet takes it: sent, it would only fail.
    NoFleet,
    /// Nothing is launched for it now.
    Held,
    /// To be sent.
    Send,
}

fn look_at(
    job: &mut JobRecord,
    policy: &Policy,
    fleet: &FleetName,
    held_until: Option<Timestamp>,
    now: Timestamp,
) -> Look {
    if job.next_look > now || job.given_up_at.is_some() {
        return Look::NotDue;
    }
    if !job.is_waiting() {
        // It started and its look has come: GitHub's limit for a job has passed, so it is over, whatever was lost.
        return if job.note_completed(now, None) { Look::Closed } else { Look::NotDue };
    }
    if job.fleet.as_ref() != Some(fleet) {
        return Look::NotDue;
    }
    if job.give_up(now) {
        return Look::Closed;
    }
    if let Some(until) = held_until {
        job.next_look = until;
        return Look::Held;
    }
    job.next_look = now.plus(policy.timers(fleet).boot_grace);
    let taken = policy.still_serves(&job.repository, job.ids) && select_fleet(policy, &job.labels).is_some();
    if taken { Look::Send } else { Look::NoFleet }
}

/// Best effort: where it fails, the job is due again after the boot grace.
async fn back(ledger: &impl Ledger, mut job: Versioned<JobRecord>, next_look: Timestamp) {
    job.record.next_look = next_look;
    if let Err(error) = ledger::store(ledger, job).await {
        warn!(error = %error, "a job that was not sent is due again only after the boot grace: {error}");
    }
}

fn message(job: &JobRecord) -> JobMessage {
    JobMessage {
        job_id: job.job_id,
        run_id: job.run_id,
        run_attempt: job.run_attempt,
        repository: job.repository.clone(),
        organization: match &job.access.scope {
            Scope::Organization { owner } => Some(owner.clone()),
            Scope::Repository { .. } => None,
        },
        installation_id: job.access.installation_id,
        labels: job.labels.clone(),
        queued_at: job.queued_at,
        look_at: Some(job.next_look),
        ids: job.ids,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Class;
    use crate::fake::{Fake, at_every_call, fleet, policy, run};
    use crate::ids::{Access, FleetName, LaunchToken, Repository, RepositoryIds, RunId};
    use crate::ledger::{FleetRecord, JobPhase, Record, Reservation};

    fn job(fake: &Fake, id: u64, due_in_seconds: i64) -> JobRecord {
        let now = fake.now();
        JobRecord {
            job_id: JobId(id),
            access: Access { scope: Scope::Organization { owner: "octo".into() }, installation_id: None },
            repository: Repository::try_from("octo/hello".to_owned()).expect("a name"),
            run_id: RunId(1),
            run_attempt: 1,
            labels: vec!["self-hosted".into(), "linux".into()],
            fleet: Some(FleetName::new("linux")),
            phase: JobPhase::Queued,
            next_look: Timestamp(now.0 + due_in_seconds * 1_000),
            launch_count: 0,
            launches: Vec::new(),
            queued_at: now,
            runner_id: None,
            recorded_at: Some(now),
            given_up_at: None,
            ids: crate::ids::RepositoryIds::default(),
        }
    }

    fn pass(fake: &Fake, policy: &Policy) -> Option<SendReport> {
        let deadline = Deadline::of(fake.now(), fake.now().plus(Duration::from_mins(1)));
        run(send_due_jobs(fake, policy, deadline))
    }

    fn with_room_for(count: u32) -> Policy {
        let mut policy = policy();
        policy.fleets[0].runner_count_max = count;
        policy
    }

    /// So many of the fleet's instances were asked for a moment ago.
    fn hold(fake: &Fake, count: u32) {
        let (token, at) = (LaunchToken::new("held"), fake.now());
        let reservations = vec![Reservation { token, count, at, answered_at: Some(at) }];
        fake.put(&FleetRecord { fleet: FleetName::new("linux"), reservations });
    }

    fn sent(fake: &Fake) -> Vec<u64> {
        fake.state().queue.iter().map(|message| message.job_id.0).collect()
    }

    #[test]
    fn a_backlog_whose_owner_was_taken_from_the_list_of_ids_is_not_sent_and_takes_nobodys_room() {
        let fake = Fake::new();
        let of = |id, owner| JobRecord { ids: RepositoryIds { owner, repository: None }, ..job(&fake, id, -1) };
        (1..=30).for_each(|id| fake.put(&of(id, Some(66))));
        fake.put(&of(31, Some(12)));
        fake.put(&of(32, None));
        let mut policy = with_room_for(2);
        policy.ids.owners = Some([12].into());
        pass(&fake, &policy).expect("not killed");
        assert_eq!(sent(&fake), [31, 32], "one of a version before ids were kept goes on");
        assert_eq!(fake.state().queue[0].ids.owner, Some(12), "what is sent again says them");
        assert!((1..=30).all(|id| fake.get::<JobRecord>(&id.to_string()).expect("kept").phase == JobPhase::Queued));
    }

    #[test]
    fn due_jobs_that_wait_are_sent_oldest_look_first_and_once() {
        let fake = Fake::new();
        let token = LaunchToken::new("t");
        let now = fake.now();
        let of = |id, due, change: fn(&mut JobRecord, LaunchToken, Timestamp)| {
            let mut record = job(&fake, id, due);
            change(&mut record, token.clone(), now);
            record
        };
        for record in [
            of(1, -10, |_, _, _| {}),
            of(2, -20, |job, token, _| job.phase = JobPhase::Launched { token }),
            of(3, -30, |job, token, now| job.phase = JobPhase::Launching { token, lease_until: now }),
            of(4, 1, |_, _, _| {}),
            of(5, -40, |job, _, at| job.phase = JobPhase::Started { at }),
            of(6, -40, |job, _, at| job.phase = JobPhase::Completed { at, conclusion: None }),
            of(7, -40, |job, _, _| job.fleet = Some(FleetName::new("elsewhere"))),
        ] {
            fake.put(&record);
        }
        let report = pass(&fake, &policy()).expect("not killed");
        let ids = [1, 2, 3].map(JobId);
        assert_eq!(report, SendReport { sent: ids.into(), ..SendReport::default() });
        assert_eq!(sent(&fake), [3, 2, 1]);
        pass(&fake, &policy());
        assert_eq!(sent(&fake).len(), 3, "their next look lies ahead");
        fake.pass(Duration::from_secs(901));
        pass(&fake, &policy());
        assert_eq!(sent(&fake).len(), 7, "again after the boot grace, and the fourth for the first time");
    }

    #[test]
    fn a_pass_is_bounded_by_count_and_by_time() {
        let fake = Fake::new();
        let roomy = with_room_for(1_000);
        (0..120).for_each(|id| fake.put(&job(&fake, id, -1)));
        let token = LaunchToken::new("t");
        let left = |id| JobRecord { phase: JobPhase::Launched { token: token.clone() }, ..job(&fake, id, -1) };
        (200..260).for_each(|id| fake.put(&left(id)));
        let sent = pass(&fake, &roomy).expect("not killed").sent;
        let left = sent.iter().filter(|id| id.0 >= 200).count();
        assert_eq!((left, sent.len()), (SENT_PER_FLEET_MAX, 2 * SENT_PER_FLEET_MAX + SENT_BEYOND_ROOM));
        let mut two = policy();
        two.fleets = vec![fleet("linux"), fleet("gpu")];
        let near = Deadline::of(fake.now().minus(Duration::from_mins(1)), fake.now().plus(Duration::from_secs(1)));
        let report = run(send_due_jobs(&fake, &two, near)).expect("not killed");
        assert_eq!((report.sent.len(), report.is_cut), (0, true));
    }

    #[test]
    fn a_full_fleet_is_sent_what_needs_no_room_and_what_waits_keeps_its_turn() {
        let fake = Fake::new();
        let now = fake.now();
        let token = || LaunchToken::new("t");
        hold(&fake, 3);
        (10..30).for_each(|id| fake.put(&job(&fake, id, -40)));
        fake.put(&JobRecord { phase: JobPhase::Launched { token: token() }, ..job(&fake, 1, -1) });
        fake.put(&JobRecord { phase: JobPhase::Launching { token: token(), lease_until: now }, ..job(&fake, 2, -1) });
        fake.put(&JobRecord { recorded_at: Some(now.minus(Duration::from_hours(72))), ..job(&fake, 3, -1) });
        let elsewhere = JobRecord { labels: vec!["self-hosted".into(), "gpu".into()], ..job(&fake, 4, -1) };
        fake.put(&elsewhere);
        let mut policy = with_room_for(3);
        policy.fleets.push(fleet("gpu"));
        let report = pass(&fake, &policy).expect("not killed");
        assert_eq!(report, SendReport { sent: [1, 2, 4].map(JobId).into(), ..SendReport::default() });
        assert!(fake.get::<JobRecord>("3").expect("stored").given_up_at.is_some(), "its time is over, room or not");
        assert!(fake.get::<JobRecord>("10").expect("stored").next_look < fake.now(), "still due");
        let writes = fake.calls_of("Ledger::write");
        pass(&fake, &policy);
        assert_eq!((sent(&fake).len(), fake.calls_of("Ledger::write")), (3, writes), "a line costs no write");
        // Room for two: the oldest two, and a few of those that were not looked at for longest.
        hold(&fake, 1);
        let sent = pass(&fake, &policy).expect("not killed").sent;
        assert!(
            sent.contains(&JobId(10)) && sent.contains(&JobId(11)) && sent.len() == 2 + SENT_BEYOND_ROOM,
            "{sent:?}"
        );
    }

    #[test]
    fn the_oldest_come_first_and_hold_up_nobody_where_they_cannot_be_served() {
        let fake = Fake::new();
        hold(&fake, 2);
        let policy = with_room_for(3);
        // By id from the youngest to the oldest; the younger a job, the longer nobody looked at it.
        let aged = |id: u64| {
            let seconds = i64::try_from(id).expect("small");
            let queued_at = Timestamp(fake.now().0 - 1_000 * seconds);
            JobRecord { queued_at, ..job(&fake, id, seconds - 1_000) }
        };
        (0..100).for_each(|id| fake.put(&aged(id)));
        let first = pass(&fake, &policy).expect("not killed").sent;
        let expected: BTreeSet<JobId> = (0..10).chain([99]).map(JobId).collect();
        assert_eq!(first, expected, "the oldest, and ten that were not looked at for longest");
        // What was sent and not served has its next look after that of the others.
        let mut all = first;
        for _ in 0..9 {
            fake.pass(Duration::from_mins(1));
            hold(&fake, 2);
            all.extend(pass(&fake, &policy).expect("not killed").sent);
        }
        assert_eq!(all.len(), 100, "each had its turn");
    }

    #[test]
    fn where_the_room_is_not_known_jobs_are_sent_all_the_same_and_the_pass_says_so() {
        let fake = Fake::new();
        hold(&fake, 3);
        (0..60).for_each(|id| fake.put(&job(&fake, id, -1)));
        fake.always_fail("ComputeRead::instances", Class::Transient);
        let report = pass(&fake, &with_room_for(3)).expect("not killed");
        assert_eq!((report.sent.len(), report.failures.len()), (SENT_PER_FLEET_MAX, 1));
    }

    #[test]
    fn fleets_take_turns_in_being_the_first() {
        let mut firsts = BTreeSet::new();
        for minute in 0..4 {
            let fake = Fake::new();
            fake.pass(Duration::from_mins(minute));
            let mut two = policy();
            two.fleets = vec![fleet("linux"), fleet("gpu")];
            fake.put(&job(&fake, 1, -1));
            let gpu = FleetName::new("gpu");
            let labels = vec!["self-hosted".into(), "gpu".into()];
            fake.put(&JobRecord { fleet: Some(gpu), labels, ..job(&fake, 2, -1) });
            pass(&fake, &two);
            firsts.insert(sent(&fake)[0]);
        }
        assert_eq!(firsts, BTreeSet::from([1, 2]));
    }

    #[test]
    fn a_job_that_could_not_be_sent_is_due_again_soon_and_stops_no_other() {
        let fake = Fake::new();
        fake.put(&job(&fake, 1, -1));
        fake.put(&job(&fake, 2, -1));
        fake.always_fail("Queue::send", Class::Transient);
        assert_eq!(pass(&fake, &policy()).expect("not killed").failures.len(), 2);
        fake.heal();
        fake.pass(Duration::from_secs(31));
        assert_eq!(pass(&fake, &policy()).expect("not killed").sent.len(), 2);
    }

    #[test]
    fn jobs_of_a_fleet_that_left_the_configuration_are_sent_once_another_takes_them() {
        let fake = Fake::new();
        let of_gone = |id| JobRecord { fleet: Some(FleetName::new("gone")), ..job(&fake, id, -1) };
        fake.put(&FleetRecord { fleet: FleetName::new("gone"), reservations: Vec::new() });
        fake.put(&of_gone(1));
        fake.put(&JobRecord { labels: vec!["gpu".into()], ..of_gone(2) });
        pass(&fake, &policy());
        assert_eq!(sent(&fake), [1], "the other is taken by no fleet");
        assert!(fake.get::<JobRecord>("2").expect("stored").next_look > fake.now(), "and waits on");
        let mut gpu = policy();
        gpu.fleets[0].labels = vec!["gpu".into()];
        fake.pass(Duration::from_secs(901));
        pass(&fake, &gpu);
        assert_eq!(sent(&fake), [1, 2]);
    }

    #[test]
    fn a_job_is_given_up_three_days_after_it_was_recorded_and_never_before() {
        let hours = Duration::from_hours;
        let token = || LaunchToken::new("t");
        for (case, recorded_hours_ago, phase, given_up) in [
            ("fresh", Some(0), JobPhase::Queued, false),
            ("just within its time", Some(71), JobPhase::Queued, false),
            ("past its time", Some(72), JobPhase::Queued, true),
            ("past its time, launched", Some(72), JobPhase::Launched { token: token() }, true),
            ("of an age that is not known", None, JobPhase::Queued, false),
        ] {
            let fake = Fake::new();
            let recorded_at = recorded_hours_ago.map(|ago| fake.now().minus(hours(ago)));
            fake.put(&JobRecord { recorded_at, phase: phase.clone(), ..job(&fake, 1, -1) });
            pass(&fake, &policy());
            let record = fake.get::<JobRecord>("1").expect("stored");
            assert_eq!((record.given_up_at.is_some(), sent(&fake).is_empty()), (given_up, given_up), "{case}");
            assert_eq!((record.may_be_anywhere(), record.open().is_none()), (!given_up, given_up), "{case}");
            assert_eq!(record.expires_at(), given_up.then(|| fake.now().plus(hours(7 * 24))), "{case}");
            assert_eq!(record.phase, phase, "{case}");
            fake.pass(hours(72));
            pass(&fake, &policy());
            assert!(fake.get::<JobRecord>("1").expect("stored").given_up_at.is_some(), "{case}, three days later");
        }
    }

    #[test]
    fn a_pass_killed_anywhere_loses_no_job() {
        let played = at_every_call(|fake, at| {
            fake.put(&job(fake, 1, -1));
            pass(fake, &policy());
            fake.heal();
            fake.pass(Duration::from_secs(901));
            pass(fake, &policy());
            assert!(sent(fake).contains(&1), "{at:?}");
            let record = fake.get::<JobRecord>("1").expect("stored");
            assert!(record.is_waiting() && record.next_look > fake.now(), "{at:?}");
        });
        assert!(played >= 16, "{played}");
    }
}
