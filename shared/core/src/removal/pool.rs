//! Which idle instances a fleet's idle schedule keeps.
//!
//! It only spares: an instance that is not kept is judged as if there were no pool. It knows neither jobs nor GitHub;
//! that an instance is idle is the caller's finding.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use crate::config::{Eviction, Fleet};
use crate::ids::InstanceId;
use crate::time::Timestamp;

/// One idle instance as the pool sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Idle<'a> {
    /// Which.
    pub(super) instance_id: &'a InstanceId,
    /// When EC2 launched it.
    pub(super) launched_at: Timestamp,
    /// Whether it was asked to drain, at any time.
    pub(super) drain_requested: bool,
    /// Whether its vital sign is young.
    pub(super) beating: bool,
}

/// The instances that the fleet's idle schedules keep: as many as they say for the minute of `now`, or all that may be
/// kept where there are fewer. The order of `idle` does not matter, so two passes that see the same keep the same.
///
/// Never kept is what was asked to drain, because it may stop at any moment, and what has reached `idle_maximum` since
/// its launch: its supervisor should have ended it, so it is about to go, or a ghost that would fill the pool for ever.
pub(super) fn kept<'a>(fleet: &Fleet, idle: &[Idle<'a>], now: Timestamp) -> BTreeSet<&'a InstanceId> {
    let count = usize::try_from(fleet.idle_count(now)).unwrap_or(usize::MAX);
    let may_be_kept =
        |idle: &&Idle<'a>| !idle.drain_requested && now.since(idle.launched_at) < fleet.timers.idle_maximum;
    let mut candidates: Vec<&Idle<'a>> = idle.iter().filter(may_be_kept).collect();
    candidates.sort_by(|one, other| best_first(fleet.eviction, one, other));
    candidates.into_iter().take(count).map(|idle| idle.instance_id).collect()
}

/// What beats comes before what is silent, which may be a ghost; then what eviction would take last; then the id, so
/// that no two are alike.
fn best_first(eviction: Eviction, one: &Idle<'_>, other: &Idle<'_>) -> Ordering {
    let oldest_first = one.launched_at.cmp(&other.launched_at);
    let evicted_last = match eviction {
        Eviction::OldestFirst => oldest_first.reverse(),
        Eviction::NewestFirst => oldest_first,
    };
    let beating_first = other.beating.cmp(&one.beating);
    beating_first.then(evicted_last).then_with(|| one.instance_id.cmp(other.instance_id))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::IdleSchedule;
    use crate::fake::fleet;

    /// 2026-11-20T12:00:00Z, a Friday.
    const NOW: Timestamp = Timestamp(1_795_176_000_000);

    fn pool(count: u32, eviction: Eviction) -> Fleet {
        let idle = if count == 0 {
            Vec::new()
        } else {
            vec![IdleSchedule::try_new("* * * * *", "UTC", count).expect("valid")]
        };
        Fleet { idle, eviction, ..fleet("linux") }
    }

    /// Age in seconds, whether asked to drain, whether beating; its id is its place.
    type Facts = (u64, bool, bool);

    fn ids(count: usize) -> Vec<InstanceId> {
        (0..count).map(|place| InstanceId::new(format!("i-{place}"))).collect()
    }

    fn seen<'a>(ids: &'a [InstanceId], facts: &[Facts]) -> Vec<Idle<'a>> {
        let idle = |(instance_id, &(age, drain_requested, beating))| Idle {
            instance_id,
            launched_at: NOW.minus(Duration::from_secs(age)),
            drain_requested,
            beating,
        };
        ids.iter().zip(facts).map(idle).collect()
    }

    fn kept_places(fleet: &Fleet, facts: &[Facts]) -> Vec<usize> {
        let ids = ids(facts.len());
        let kept = kept(fleet, &seen(&ids, facts), NOW);
        (0..facts.len()).filter(|&place| kept.contains(&ids[place])).collect()
    }

    #[test]
    fn the_schedule_keeps_the_best_that_may_be_kept() {
        use Eviction::{NewestFirst, OldestFirst};
        const IDLE_MAXIMUM: u64 = 3_600;
        let beating = |age| (age, false, true);
        let silent = |age| (age, false, false);
        let asked = |age| (age, true, true);
        for (case, count, eviction, facts, expected) in [
            ("no schedule keeps nothing", 0, OldestFirst, vec![beating(10), beating(20)], vec![]),
            ("fewer than wanted are all kept", 3, OldestFirst, vec![beating(10), silent(20)], vec![0, 1]),
            (
                "the oldest go, so the newest stay",
                2,
                OldestFirst,
                vec![beating(30), beating(10), beating(20)],
                vec![1, 2],
            ),
            (
                "the newest go, so the oldest stay",
                2,
                NewestFirst,
                vec![beating(30), beating(10), beating(20)],
                vec![0, 2],
            ),
            ("a young one that is silent gives way", 1, OldestFirst, vec![silent(10), beating(900)], vec![1]),
            ("an old one that is silent gives way", 1, NewestFirst, vec![silent(900), beating(10)], vec![1]),
            (
                "silent ones stay where too few beat",
                2,
                OldestFirst,
                vec![silent(30), beating(20), silent(10)],
                vec![1, 2],
            ),
            ("asked to drain, and the best otherwise", 1, OldestFirst, vec![asked(10), silent(900)], vec![1]),
            ("asked to drain, and the only one", 1, OldestFirst, vec![asked(10)], vec![]),
            ("just short of its longest idle time", 1, NewestFirst, vec![beating(IDLE_MAXIMUM - 1)], vec![0]),
            ("at its longest idle time, and beating", 1, NewestFirst, vec![beating(IDLE_MAXIMUM)], vec![]),
            ("a ghost does not take a place", 1, NewestFirst, vec![silent(IDLE_MAXIMUM * 9), beating(10)], vec![1]),
            ("the same age: the smaller id", 1, OldestFirst, vec![beating(10), beating(10)], vec![0]),
            ("the same age, the other order: the smaller id", 1, NewestFirst, vec![beating(10), beating(10)], vec![0]),
        ] {
            assert_eq!(kept_places(&pool(count, eviction), &facts), expected, "{case}");
        }
    }

    #[test]
    fn a_launch_that_lies_ahead_of_a_skewed_clock_is_young() {
        let ids = ids(1);
        let ahead = Idle {
            instance_id: &ids[0],
            launched_at: NOW.plus(Duration::from_secs(60)),
            drain_requested: false,
            beating: true,
        };
        assert_eq!(kept(&pool(1, Eviction::OldestFirst), &[ahead], NOW).len(), 1);
    }

    /// All sets of up to four instances, every one of three ages, asked to drain or not, beating or not.
    #[test]
    fn whatever_is_idle_the_pool_is_small_enough_and_as_full_as_it_may_be() {
        let kinds: Vec<Facts> = [10, 20, 3_600]
            .into_iter()
            .flat_map(|age| [(age, false, false), (age, false, true), (age, true, false), (age, true, true)])
            .collect();
        let may_be_kept = |&(age, asked, _): &Facts| !asked && age < 3_600;
        for eviction in [Eviction::OldestFirst, Eviction::NewestFirst] {
            let pools: Vec<(usize, Fleet)> =
                [0, 1, 2, 5].into_iter().map(|count| (count as usize, pool(count, eviction))).collect();
            for size in 0_u32..=4 {
                let ids = ids(size as usize);
                for set in 0..kinds.len().pow(size) {
                    let facts: Vec<Facts> =
                        (0..size).map(|place| kinds[set / kinds.len().pow(place) % kinds.len()]).collect();
                    let idle = seen(&ids, &facts);
                    for (count, fleet) in &pools {
                        let kept_now = kept(fleet, &idle, NOW);
                        let possible = facts.iter().filter(|facts| may_be_kept(facts)).count();
                        assert_eq!(kept_now.len(), possible.min(*count), "{count} of {facts:?}");
                        for (facts, id) in facts.iter().zip(&ids) {
                            assert!(!kept_now.contains(id) || may_be_kept(facts), "{id} of {facts:?}");
                        }
                        // Every rotation of the list and of its mirror image.
                        let mut shuffled = idle.clone();
                        for turn in 0..2 * shuffled.len() {
                            shuffled.rotate_left(1);
                            if turn == idle.len() {
                                shuffled.reverse();
                            }
                            assert_eq!(kept(fleet, &shuffled, NOW), kept_now, "{count} of {shuffled:?}");
                        }
                    }
                }
            }
        }
    }
}
