//! The goals of a function's start and size, and whether a measurement meets them.

use comfy_table::{Table, presets::ASCII_MARKDOWN};

use crate::functions::Function;

/// The most a function may take (design section 12).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Goals {
    /// From process start to what [`Until`] says, in milliseconds.
    pub(crate) start_ms: f64,
    /// Where a start ends.
    pub(crate) until: Until,
    /// Peak memory, in MiB.
    pub(crate) memory_mib: f64,
    /// Deployment package, in MiB.
    pub(crate) zip_mib: f64,
}

/// Where a start ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// At the first answer: GitHub waits for it.
    Answer,
    /// When the process asks for an event. Its answer follows a pass of calls to AWS and GitHub, which last as long as
    /// those take; on loopback they are an emulator's, a few milliseconds each.
    Ready,
}

/// What is asked of a function.
pub(crate) fn goals(function: Function) -> Goals {
    let (memory_mib, until) = match function {
        Function::Webhook => (16.0, Until::Answer),
        Function::ScaleUp | Function::ScaleDown | Function::OrphanSweeper | Function::DemandReconciler => {
            (48.0, Until::Ready)
        }
    };
    Goals { start_ms: 15.0, until, memory_mib, zip_mib: 5.0 }
}

/// What a function's runs showed.
#[derive(Debug)]
pub(crate) struct Measured {
    /// The function.
    pub(crate) function: Function,
    /// Start to the first request for an event of every run, in milliseconds.
    pub(crate) ready_ms: Vec<f64>,
    /// Start to first answer of every run, in milliseconds.
    pub(crate) answer_ms: Vec<f64>,
    /// The highest peak of all runs, in MiB.
    pub(crate) memory_mib: f64,
    /// The stripped binary, in MiB.
    pub(crate) binary_mib: f64,
    /// The deflated package, in MiB.
    pub(crate) zip_mib: f64,
}

/// Minimum, median and maximum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    /// The least.
    pub(crate) min: f64,
    /// The middle one; of an even count the upper of the two.
    pub(crate) median: f64,
    /// The greatest.
    pub(crate) max: f64,
}

impl Spread {
    /// The spread of some values; of none there is none.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self { min: *sorted.first()?, median: *sorted.get(sorted.len() / 2)?, max: *sorted.last()? })
    }
}

impl Measured {
    /// The goals that were missed, by name.
    pub(crate) fn missed(&self) -> Vec<&'static str> {
        let goals = goals(self.function);
        // The median: a minimum flatters and a maximum measures the machine's other work.
        let start_ms = match goals.until {
            Until::Answer => &self.answer_ms,
            Until::Ready => &self.ready_ms,
        };
        let start = Spread::of(start_ms).is_some_and(|spread| spread.median <= goals.start_ms);
        [("start", start), ("memory", self.memory_mib <= goals.memory_mib), ("zip", self.zip_mib <= goals.zip_mib)]
            .into_iter()
            .filter_map(|(name, met)| (!met).then_some(name))
            .collect()
    }
}

/// A table of measurements against their goals.
pub(crate) fn table(measured: &[Measured]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header([
        "function",
        "start to ready, ms (min / median / max)",
        "start to answer, ms (min / median / max)",
        "peak memory, MiB",
        "binary, MiB",
        "zip, MiB",
        "goals (median start / memory / zip)",
        "verdict",
    ]);
    for row in measured {
        let goals = goals(row.function);
        let spread = |values: &[f64]| {
            Spread::of(values).map_or_else(
                || "not measured".to_owned(),
                |spread| format!("{:.1} / {:.1} / {:.1}", spread.min, spread.median, spread.max),
            )
        };
        let until = match goals.until {
            Until::Answer => "answer",
            Until::Ready => "ready",
        };
        let missed = row.missed();
        let verdict = if missed.is_empty() { "met".to_owned() } else { format!("MISSED: {}", missed.join(", ")) };
        table.add_row([
            row.function.name().to_owned(),
            spread(&row.ready_ms),
            spread(&row.answer_ms),
            format!("{:.1}", row.memory_mib),
            format!("{:.1}", row.binary_mib),
            format!("{:.2}", row.zip_mib),
            format!("{until} in {} ms / {} / {}", goals.start_ms, goals.memory_mib, goals.zip_mib),
            verdict,
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhook(answer_ms: &[f64], memory_mib: f64, zip_mib: f64) -> Measured {
        let (ready_ms, answer_ms) = (vec![3.0], answer_ms.to_vec());
        Measured { function: Function::Webhook, ready_ms, answer_ms, memory_mib, binary_mib: 6.0, zip_mib }
    }

    #[test]
    fn a_pass_is_not_part_of_a_scheduled_functions_start() {
        let scheduled = |ready_ms: f64| Measured {
            function: Function::ScaleDown,
            ready_ms: vec![ready_ms],
            ..webhook(&[90.0], 8.0, 3.0)
        };
        assert_eq!(scheduled(14.0).missed(), [""; 0]);
        assert_eq!(scheduled(16.0).missed(), ["start"]);
    }

    #[test]
    fn each_goal_is_judged_by_itself() {
        let cases: [(&str, Measured, &[&str]); 5] = [
            ("all met, one slow run", webhook(&[9.0, 10.0, 90.0], 15.9, 5.0), &[]),
            ("a slow median", webhook(&[9.0, 16.0, 17.0], 8.0, 3.0), &["start"]),
            ("too much memory", webhook(&[9.0], 16.1, 3.0), &["memory"]),
            ("too large", webhook(&[9.0], 8.0, 5.1), &["zip"]),
            ("never measured", webhook(&[], 8.0, 3.0), &["start"]),
        ];
        for (case, measured, missed) in cases {
            assert_eq!(measured.missed(), missed, "{case}");
        }
    }

    #[test]
    fn the_table_names_what_was_missed() {
        let text = table(&[webhook(&[9.0, 16.0, 17.0], 8.0, 3.0)]).to_string();
        assert!(text.contains("9.0 / 16.0 / 17.0") && text.contains("MISSED: start"), "{text}");
    }
}
