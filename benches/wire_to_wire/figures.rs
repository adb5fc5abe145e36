//! The table of results: medians over the rounds, ratios within each round, and the counts of
//! missed, duplicate and cold orders.

use std::{collections::BTreeMap, fmt};

use crate::{
    run::{Outcome, PLACES},
    waterfall::Waterfall,
};

/// Results of all runs of one case. The first client is the baseline of the ratios.
pub(crate) struct Table {
    title: String,
    has_bursts: bool,
    /// The CPU time per listing is printed.
    has_cpu_time: bool,
    names: Vec<&'static str>,
    runs: BTreeMap<(usize, &'static str), Outcome>,
}

impl Table {
    pub(crate) const fn new(title: String, has_bursts: bool, has_cpu_time: bool) -> Self {
        Self { title, has_bursts, has_cpu_time, names: Vec::new(), runs: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, round: usize, name: &'static str, outcome: Outcome) {
        if !self.names.contains(&name) {
            self.names.push(name);
        }
        self.runs.insert((round, name), outcome);
    }

    /// Returns `true` if the sniper missed a listing or ordered one twice.
    pub(crate) fn has_failed(&self) -> bool {
        let is_ours = |name: &str| name.starts_with("the sniper");
        let has_failed = |outcome: &Outcome| outcome.missed > 0 || outcome.doubled > 0;
        self.runs.iter().any(|((_, name), outcome)| is_ours(name) && has_failed(outcome))
    }

    fn of(&self, name: &str) -> impl Iterator<Item = (usize, &Outcome)> {
        self.runs
            .iter()
            .filter(move |((_, of), _)| *of == name)
            .map(|((round, _), one)| (*round, one))
    }

    /// Returns the median and the spread over the rounds of a percentile, in ns.
    fn figure(&self, name: &str, percent: usize) -> Spread {
        Spread::of(self.of(name).map(|(_, outcome)| percentile(outcome, percent)).collect())
    }

    /// Returns the median and the spread of the ratio to the baseline in the same round, in
    /// hundredths.
    fn ratio(&self, name: &str, percent: usize) -> Spread {
        let first = self.names.first().copied().unwrap_or_default();
        let ratios = self.of(name).filter_map(|(round, outcome)| {
            let base = percentile(self.runs.get(&(round, first))?, percent);
            (percentile(outcome, percent) * 100).checked_div(base)
        });
        Spread::of(ratios.collect())
    }

    /// Writes the CPU time per listing, and the mean interval between two listings.
    fn write_cpu_time(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{name:<26} µs per listing:")?;
        for part in ["user", "system", "written every"] {
            let ns = |(_, outcome): (usize, &Outcome)| {
                let listings = u64::try_from(outcome.listings).unwrap().max(1);
                let time = match part {
                    "user" => outcome.cpu.user,
                    "system" => outcome.cpu.system,
                    _ => outcome.elapsed,
                };
                u64::try_from(time.as_nanos()).unwrap() / listings
            };
            let Spread { min, median, max } = Spread::of(self.of(name).map(ns).collect());
            let [min, median, max] = [min, median, max].map(|ns| two_decimals(ns / 10));
            write!(f, " {part} {median} ({min}–{max})")?;
        }
        writeln!(f)
    }

    fn sum(&self, name: &str, what: impl Fn(&Outcome) -> usize) -> usize {
        self.of(name).map(|(_, outcome)| what(outcome)).sum()
    }
}

struct Spread {
    min: u64,
    median: u64,
    max: u64,
}

impl Spread {
    fn of(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let at = |index: usize| values.get(index).copied().unwrap_or(0);
        let last = values.len().saturating_sub(1);
        Self { min: at(0), median: at(last / 2), max: at(last) }
    }
}

fn percentile(outcome: &Outcome, percent: usize) -> u64 {
    let index =
        (outcome.latencies.len() * percent / 100).min(outcome.latencies.len().saturating_sub(1));
    outcome.latencies.get(index).copied().unwrap_or(0)
}

/// Formats nanoseconds as microseconds with one decimal.
fn us(ns: u64) -> String {
    format!("{}.{}", ns / 1_000, ns % 1_000 / 100)
}

/// Formats a number of hundredths with two decimals.
fn two_decimals(hundredths: u64) -> String {
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        writeln!(
            f,
            "{:<26}{:>9}{:>23}{:>9}{:>23}{:>7}{:>8}{:>6}{:>9}",
            "µs, listing to order",
            "p50",
            "× (spread)",
            "p99",
            "× (spread)",
            "orders",
            "missed",
            "cold",
            "doubled"
        )?;
        for name in &self.names {
            write!(f, "{name:<26}")?;
            for percent in [50, 99] {
                let Spread { min, median, max } = self.ratio(name, percent);
                let [min, median, max] = [min, median, max].map(two_decimals);
                let spread = format!("{median} ({min}–{max})");
                write!(f, "{:>9}{spread:>23}", us(self.figure(name, percent).median))?;
            }
            writeln!(
                f,
                "{:>7}{:>8}{:>6}{:>9}",
                self.sum(name, |outcome| outcome.latencies.len()),
                self.sum(name, |outcome| outcome.missed),
                self.sum(name, |outcome| outcome.cold),
                self.sum(name, |outcome| outcome.doubled),
            )?;
        }
        for name in &self.names {
            if self.has_bursts {
                let p50 = |place: usize| {
                    let all = self.of(name).flat_map(|(_, outcome)| &outcome.by_place[place]);
                    us(Spread::of(all.copied().collect()).median)
                };
                let places: Vec<String> = (0..PLACES).map(p50).collect();
                writeln!(f, "{name:<26} p50 by quarter of the burst: {}", places.join(" "))?;
            }
        }
        for name in self.names.iter().filter(|_name| self.has_cpu_time) {
            self.write_cpu_time(name, f)?;
        }
        for name in &self.names {
            let step_times: Vec<_> =
                self.of(name).flat_map(|(_, outcome)| &outcome.step_times).collect();
            if !step_times.is_empty() {
                writeln!(
                    f,
                    "{:<32}{:>8}{:>8}{:>8}",
                    format!("{name}, {} orders", step_times.len()),
                    "p50",
                    "p90",
                    "p99"
                )?;
                write!(f, "{}", Waterfall(step_times))?;
            }
        }
        Ok(())
    }
}
