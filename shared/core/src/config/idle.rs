//! Idle schedules: when how many idle runners are kept for jobs that are still to come.
//!
//! A schedule's cron expression names the minutes in which it holds, not a minute at which something begins: from nine
//! to six on working days is `* 9-17 * * 1-5`. That is `idle_config` of terraform-aws-github-runner without its first
//! field, the seconds, and with the largest count instead of the first where several match (its docs/configuration.md,
//! read 2026-11-21).
//!
//! Time zones are those of the IANA database as jiff compiles it in: no file of the machine and no variable of the
//! process has a say. Only UTC is turned into local time, never the other way round, so a local time that a change of
//! the clocks leaves out is never met and one that comes twice matches twice.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::time::Timestamp;

/// So many idle runners are kept in every minute that the expression names.
#[derive(Clone, Debug, PartialEq)]
pub struct IdleSchedule {
    cron: Cron,
    time_zone: TimeZone,
    count: u32,
}

/// One thing that is wrong with a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleMistake {
    /// The document's name of the field.
    pub field: &'static str,
    /// What is wrong with it, and where it can be said, the remedy.
    pub why: String,
}

impl IdleSchedule {
    /// Checks a schedule as the document writes it: five cron fields, a name of the IANA database, at least one runner.
    ///
    /// Errors: every mistake in it, in the order of the parameters.
    pub fn try_new(cron: &str, time_zone: &str, count: u32) -> Result<Self, Vec<ScheduleMistake>> {
        let mut mistakes = Vec::new();
        let mut refuse = |field, why| mistakes.push(ScheduleMistake { field, why });
        let cron = minutes(cron).map_err(|why| refuse("cron", why)).ok();
        let time_zone = zone(time_zone).map_err(|why| refuse("time_zone", why)).ok();
        if count == 0 {
            refuse("count", "0 keeps nothing; remove the schedule".to_owned());
        }
        let (Some(cron), Some(time_zone), true) = (cron, time_zone, mistakes.is_empty()) else { return Err(mistakes) };
        Ok(Self { cron, time_zone, count })
    }

    /// How many idle runners are kept while it holds; at least one.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether it holds in the minute of `now`.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        // Outside of the years -9999 to 9999, and outside of those that cron knows, no schedule holds: what is not kept
        // is drained, which never ends a job.
        let Ok(instant) = jiff::Timestamp::from_millisecond(now.0) else { return false };
        let local = self.time_zone.to_datetime(instant);
        // An expression of five fields stands for the first second of its minutes.
        let minute = local.date().at(local.hour(), local.minute(), 0, 0);
        self.cron.is_time_matching(&minute).unwrap_or(false)
    }
}

fn minutes(text: &str) -> Result<Cron, String> {
    match text.split_whitespace().count() {
        5 => {
            let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
            parser.parse(text).map_err(|error| format!("{text:?} is no cron expression: {error}"))
        }
        6 => Err(format!("{text:?} has 6 fields; remove the first: schedules have minutes, not seconds")),
        fields => Err(format!(
            "{text:?} has {fields} field{}; write 5 (minute, hour, day of month, month, day of week), for example \
             \"* 9-17 * * 1-5\"",
            if fields == 1 { "" } else { "s" },
        )),
    }
}

fn zone(name: &str) -> Result<TimeZone, String> {
    TimeZoneDatabase::bundled().get(name).map_err(|_| {
        format!("{name:?} is no time zone of the IANA database; write for example \"Europe/Berlin\" or \"UTC\"")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("RFC 3339")
    }

    fn schedule(cron: &str, time_zone: &str) -> IdleSchedule {
        IdleSchedule::try_new(cron, time_zone, 1).expect("valid")
    }

    #[test]
    fn an_expression_names_the_minutes_in_which_it_holds() {
        let working_hours = "* 9-17 * * 1-5";
        for (case, cron, zone, now, expected) in [
            ("the first millisecond of the first minute", working_hours, "UTC", "2026-11-20T09:00:00.000Z", true),
            ("any second of a minute", working_hours, "UTC", "2026-11-20T12:34:56.789Z", true),
            ("the last millisecond of the last hour", working_hours, "UTC", "2026-11-20T17:59:59.999Z", true),
            ("the hour before", working_hours, "UTC", "2026-11-20T08:59:59.999Z", false),
            ("the hour after", working_hours, "UTC", "2026-11-20T18:00:00Z", false),
            ("a Saturday", working_hours, "UTC", "2026-11-21T12:00:00Z", false),
            ("09:30 in Berlin in winter", working_hours, "Europe/Berlin", "2026-11-20T08:30:00Z", true),
            ("18:30 in Berlin in winter", working_hours, "Europe/Berlin", "2026-11-20T17:30:00Z", false),
            ("09:30 in Berlin in summer", working_hours, "Europe/Berlin", "2026-07-17T07:30:00Z", true),
            ("18:30 in Berlin in summer", working_hours, "Europe/Berlin", "2026-07-17T16:30:00Z", false),
            ("Monday in Auckland is Sunday in UTC", working_hours, "Pacific/Auckland", "2026-11-22T21:00:00Z", true),
            ("a zone half an hour off", "0 9 * * *", "Asia/Kolkata", "2026-11-20T03:30:59Z", true),
            ("one minute is no more than that minute", "0 9 * * *", "UTC", "2026-11-20T09:01:00Z", false),
            ("Sunday is 0", "* * * * 0", "UTC", "2026-11-22T12:00:00Z", true),
            ("Sunday is 7", "* * * * 7", "UTC", "2026-11-22T12:00:00Z", true),
            ("Sunday by name", "* * * * sun", "UTC", "2026-11-22T12:00:00Z", true),
            ("either day field is enough: the 13th", "* * 13 * 5", "UTC", "2026-12-13T12:00:00Z", true),
            ("either day field is enough: a Friday", "* * 13 * 5", "UTC", "2026-11-20T12:00:00Z", true),
            ("neither day field", "* * 13 * 5", "UTC", "2026-11-19T12:00:00Z", false),
            ("a leap day", "* * 29 2 *", "UTC", "2028-02-29T12:00:00Z", true),
        ] {
            assert_eq!(schedule(cron, zone).holds(at(now)), expected, "{case}: {cron} {zone} {now}");
        }
    }

    #[test]
    fn a_change_of_the_clocks_skips_or_repeats_minutes_and_panics_nowhere() {
        // Berlin went from 02:00 to 03:00 on 2026-03-29 and back from 03:00 to 02:00 on 2026-10-25, both at 01:00Z.
        for (case, cron, now, expected) in [
            ("the minute before the gap", "59 1 29 3 *", "2026-03-29T00:59:00Z", true),
            ("the gap's minutes do not come", "* 2 29 3 *", "2026-03-29T01:30:00Z", false),
            ("the minute after the gap", "0 3 29 3 *", "2026-03-29T01:00:00Z", true),
            ("an hour that comes twice, at first", "30 2 25 10 *", "2026-10-25T00:30:00Z", true),
            ("an hour that comes twice, again", "30 2 25 10 *", "2026-10-25T01:30:00Z", true),
        ] {
            assert_eq!(schedule(cron, "Europe/Berlin").holds(at(now)), expected, "{case}: {cron} {now}");
        }
        let always = schedule("* * * * *", "Europe/Berlin");
        for change in ["2026-03-29T00:00:00Z", "2026-10-25T00:00:00Z"] {
            for minute in 0..180 {
                assert!(always.holds(Timestamp(at(change).0 + minute * 60_000)), "{change} + {minute} min");
            }
        }
    }

    #[test]
    fn a_time_that_no_calendar_has_is_in_no_schedule() {
        let always = schedule("* * * * *", "America/New_York");
        assert!(!always.holds(Timestamp(i64::MIN)));
        assert!(!always.holds(Timestamp(i64::MAX)));
    }

    #[test]
    fn a_mistake_names_its_field_and_the_remedy() {
        for (case, cron, zone, count, expected) in [
            ("seconds", "* * 9-17 * * 1-5", "UTC", 1, vec![("cron", "has 6 fields; remove the first")]),
            ("nothing", "", "UTC", 1, vec![("cron", "\"\" has 0 fields; write 5")]),
            ("a nickname", "@daily", "UTC", 1, vec![("cron", "\"@daily\" has 1 field; write 5")]),
            ("seven fields", "0 0 9 * * * 2026", "UTC", 1, vec![("cron", "has 7 fields; write 5")]),
            ("an hour that no day has", "* 24 * * *", "UTC", 1, vec![("cron", "\"* 24 * * *\" is no cron expression")]),
            ("a range that runs back", "* 17-9 * * *", "UTC", 1, vec![("cron", "is no cron expression")]),
            ("a step of nothing", "*/0 * * * *", "UTC", 1, vec![("cron", "is no cron expression")]),
            ("a word", "* * * * someday", "UTC", 1, vec![("cron", "is no cron expression")]),
            ("letters of another alphabet", "* * * * ß", "UTC", 1, vec![("cron", "is no cron expression")]),
            (
                "a zone misspelt",
                "* * * * *",
                "Europe/Berlim",
                1,
                vec![("time_zone", "\"Europe/Berlim\" is no time zone")],
            ),
            ("an offset", "* * * * *", "+01:00", 1, vec![("time_zone", "\"+01:00\" is no time zone")]),
            ("a path", "* * * * *", "../../etc/passwd", 1, vec![("time_zone", "is no time zone")]),
            ("no zone", "* * * * *", "", 1, vec![("time_zone", "\"\" is no time zone")]),
            ("no runner", "* * * * *", "UTC", 0, vec![("count", "0 keeps nothing")]),
            (
                "all at once",
                "* *",
                "Mars",
                0,
                vec![("cron", "has 2 fields"), ("time_zone", "\"Mars\""), ("count", "0 keeps nothing")],
            ),
        ] {
            let mistakes = IdleSchedule::try_new(cron, zone, count).expect_err(case);
            assert_eq!(mistakes.len(), expected.len(), "{case}: {mistakes:?}");
            for (mistake, (field, why)) in mistakes.iter().zip(expected) {
                assert_eq!(mistake.field, field, "{case}");
                assert!(mistake.why.contains(why), "{case}: {mistake:?}");
            }
        }
    }
}
