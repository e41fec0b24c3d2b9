//! What was measured, as a table while it is measured and as JSON at the end.

use std::path::Path;

use serde::Serialize;

use crate::Result;
use crate::machine::Machine;
use crate::statistics::{Pair, Spread, Target, Verdict, ratios};

/// All of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The words that repeat it.
    command: String,
    machine: Machine,
    /// What this machine, its disk and its database can do at all, before and after.
    floors: Vec<Floor>,
    rows: Vec<Row>,
    /// Measures that could not be run, and why.
    not_run: Vec<(String, String)>,
    #[serde(skip)]
    shown: String,
}

/// A floor of the machine.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Floor {
    /// What was done.
    pub(crate) name: String,
    /// How often in a second, or how long.
    pub(crate) value: f64,
    /// What the value counts.
    pub(crate) unit: &'static str,
}

/// One comparison, or a number that has nothing to be compared with.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// The measure.
    pub(crate) measure: &'static str,
    /// Its case.
    pub(crate) case: String,
    /// What the numbers count.
    pub(crate) unit: &'static str,
    /// The library.
    pub(crate) subject: Spread,
    /// What it stands beside, in words.
    pub(crate) floor_is: String,
    /// The same in numbers.
    pub(crate) floor: Option<Spread>,
    /// Of each round.
    pub(crate) ratio: Option<Spread>,
    /// What the ratio, or where there is none the number, is to be.
    pub(crate) target: Option<Target>,
    /// Whether it is.
    pub(crate) verdict: Option<Verdict>,
    /// What `--quick` has made smaller, if anything.
    pub(crate) scaled: Option<String>,
    /// How many rounds.
    pub(crate) rounds: usize,
}

impl Row {
    /// A comparison.
    pub(crate) fn compared(
        measure: &'static str,
        case: impl Into<String>,
        unit: &'static str,
        pairs: &[Pair],
        floor_is: impl Into<String>,
    ) -> Self {
        let subjects: Vec<_> = pairs.iter().map(|pair| pair.subject).collect();
        let floors: Vec<_> = pairs.iter().map(|pair| pair.floor).collect();
        Self {
            floor: Some(Spread::of(&floors)),
            ratio: Some(Spread::of(&ratios(pairs))),
            floor_is: floor_is.into(),
            ..Self::alone(measure, case, unit, &subjects)
        }
    }

    /// A number by itself.
    pub(crate) fn alone(
        measure: &'static str,
        case: impl Into<String>,
        unit: &'static str,
        values: &[f64],
    ) -> Self {
        Self {
            measure,
            case: case.into(),
            unit,
            subject: Spread::of(values),
            floor_is: String::new(),
            floor: None,
            ratio: None,
            target: None,
            verdict: None,
            scaled: None,
            rounds: values.len(),
        }
    }

    /// The same with a target.
    pub(crate) fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self.verdict = Some(target.verdict(self.ratio.unwrap_or(self.subject).median));
        self
    }

    /// The same, with what was made smaller, where anything was.
    pub(crate) fn scaled(mut self, scaled: Option<String>) -> Self {
        self.scaled = scaled;
        self
    }

    fn line(&self) -> String {
        let numbers = |spread: Spread| {
            let [median, least, most] = [spread.median, spread.least, spread.most].map(number);
            format!("{median} ({least}..{most})")
        };
        let subject = format!("{} {}", numbers(self.subject), self.unit);
        let floor =
            self.floor.map_or_else(String::new, |floor| format!("{}: {}", self.floor_is, numbers(floor)));
        let ratio = self.ratio.map_or_else(String::new, |ratio| {
            format!("{:.2} ({:.2}..{:.2})", ratio.median, ratio.least, ratio.most)
        });
        let target = match (self.target, self.verdict) {
            (Some(target), Some(verdict)) => {
                let verdict = if verdict == Verdict::Reached { "reached" } else { "missed" };
                match target {
                    Target::AtLeast(least) => format!(">= {least}: {verdict}"),
                    Target::AtMost(most) => format!("<= {most}: {verdict}"),
                }
            }
            _ => String::new(),
        };
        let scaled = self.scaled.as_ref().map_or_else(String::new, |what| format!("  [quick: {what}]"));
        format!("{:<42} {subject:<44} {ratio:<20} {target:<16} {floor}{scaled}", self.case)
    }
}

/// Three digits that count, and no more than two behind the point.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => grouped(value),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = if value < 0.0 { "-".to_owned() } else { String::new() };
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl Report {
    /// An empty one, of this machine; prints what it is.
    pub(crate) fn new(command: String, machine: Machine) -> Self {
        println!("{command}\n{machine}");
        Self {
            command,
            machine,
            floors: Vec::new(),
            rows: Vec::new(),
            not_run: Vec::new(),
            shown: String::new(),
        }
    }

    /// Takes a floor of the machine in, and prints it.
    pub(crate) fn floor(&mut self, floor: Floor) {
        println!("floor: {:<58} {} {}", floor.name, number(floor.value), floor.unit);
        self.floors.push(floor);
    }

    /// Takes a row in, and prints it.
    pub(crate) fn row(&mut self, row: Row) {
        if self.shown != row.measure {
            println!(
                "\n{:<42} {:<44} {:<20} {:<16} beside",
                row.measure, "median (least..most)", "ratio", "target"
            );
            self.shown = row.measure.to_owned();
        }
        println!("{}", row.line());
        self.rows.push(row);
    }

    /// A measure that could not be run is not passed over in silence.
    pub(crate) fn not_run(&mut self, measure: &str, why: impl std::fmt::Display) {
        println!("\n{measure} was not run: {why}");
        self.not_run.push((measure.to_owned(), why.to_string()));
    }

    /// Whether something of a measure could not be run.
    pub(crate) fn lacks(&self, measure: &str) -> bool {
        self.not_run.iter().any(|(what, _)| what.starts_with(measure))
    }

    /// The rows so far.
    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The targets in one place.
    pub(crate) fn end(&mut self) {
        self.machine.ends();
        let missed: Vec<_> = self.rows.iter().filter(|row| row.verdict == Some(Verdict::Missed)).collect();
        let reached = self.rows.iter().filter(|row| row.verdict == Some(Verdict::Reached)).count();
        println!(
            "\n{reached} targets reached, {} missed; load average now {}",
            missed.len(),
            self.machine.load_after()
        );
        for row in missed {
            println!("missed: {}, {}", row.measure, row.line());
        }
        for (measure, why) in &self.not_run {
            println!("not run: {measure}: {why}");
        }
    }

    /// Writes all of it.
    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shown: Vec<_> = [1_234_567.8, 999.6, 100.0, 12.34, 1.234, 0.066, -1234.0].map(number).into();
        assert_eq!(shown, ["1,234,568", "1,000", "100", "12.3", "1.23", "0.07", "-1,234"]);
    }

    #[test]
    fn a_row_says_what_it_stands_beside_and_what_came_of_it() {
        let pairs = [Pair { subject: 80.0, floor: 100.0 }, Pair { subject: 60.0, floor: 100.0 }];
        let row = Row::compared("drain", "batch 500", "events/s", &pairs, "page read")
            .target(Target::AtLeast(0.65))
            .scaled(Some("20,000 events".to_owned()));
        assert_eq!(row.verdict, Some(Verdict::Reached));
        let line = row.line();
        for part in ["0.70 (0.60..0.80)", ">= 0.65: reached", "page read: 100", "[quick: 20,000 events]"] {
            assert!(line.contains(part), "{line}");
        }
    }

    #[test]
    fn a_number_without_a_floor_is_its_own_ratio() {
        let row = Row::alone("idle", "queries", "1/s", &[6.0]).target(Target::AtMost(5.0));
        assert_eq!((row.verdict, row.ratio), (Some(Verdict::Missed), None));
    }
}
