//! `sniper replay`: the orders that the settings would have sent in a recording, and the reasons
//! against the other listings.

use std::{collections::BTreeMap, ops::ControlFlow, path::PathBuf, process::ExitCode};

use clap::Args;
use serde_json::{Value, json};

use super::{ReplayDecision, ReplayOutcome, ReplayResult, ReplayRules, input::ReplayInput};
use crate::{
    commands::{
        AppError, CommandContext,
        capture::MarketSource,
        progress::{Progress, ProgressCount, ProgressCounter},
        report,
    },
    config::Config,
    domain::time::UnixMs,
    domain::unit,
    log::OutputStream,
    prices::PercentOfReference,
    sniper::eligibility::Eligibility,
    text::Escaped,
    whitelist::{Decision, Whitelist},
};

/// Examples in the help.
pub(in crate::commands) const EXAMPLES: &str = "\
Examples:
  sniper replay
  sniper replay data/recordings/2026-03-01T10-00-00Z --all
  sniper replay --prices saved-prices --json";

/// Maximum number of lines about matching listings, and about others, without `--all`.
const LINES_MAX: usize = 200;

/// Arguments of `replay`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct ReplayArgs {
    /// Directory of one session [default: the newest one of `sniper run --record`]
    #[arg(value_name = "RECORDING")]
    pub recording: Option<PathBuf>,
    /// Folder with stored price tables, or the file of the only source, instead of the recorded
    /// prices
    #[arg(long, value_name = "PATH")]
    pub prices: Option<PathBuf>,
    /// Show every listing that an entry could be about, also those of other categories or variants
    #[arg(long)]
    pub all: bool,
}

/// Runs `sniper replay`.
///
/// # Errors
///
/// Returns an [`AppError`] if the settings or the recording are invalid, or the result cannot be
/// printed.
pub fn run(
    context: CommandContext<'_>,
    args: &ReplayArgs,
    market: impl FnOnce(&Config) -> MarketSource,
) -> Result<ExitCode, AppError> {
    let config = context.load_and_check_names()?.config;
    let input = ReplayInput::open(&config, args.recording.as_deref(), args.prices.as_deref())?;
    let rules = ReplayRules::of(&config, input.prices.clone());
    let mut lines = DecisionLines {
        whitelist: &rules.whitelist,
        as_json: context.output.is_json(),
        is_all: args.all,
        kept: Vec::new(),
        matching: 0,
        others: 0,
        mismatches: BTreeMap::new(),
        failure: None,
    };
    let source = market(&config);
    let counter = ProgressCounter::default();
    // With `--all`, the lines show it.
    let progress = (!args.all)
        .then(|| Progress::start("Replaying", &ProgressCount::Of("listings"), counter.clone()));
    let result = source.replay(&input.recording, &rules, &mut |decision| {
        counter.add(1);
        lines.add(&decision)
    });
    drop(progress);
    let result = result.map_err(|error| AppError::failed("replay the recording", &error))?;
    if let Some(failure) = lines.failure {
        return Err(failure);
    }
    context.output.print(&lines.to_text(&input, &result), || lines.to_json(&input, &result))?;
    Ok(ExitCode::SUCCESS)
}

/// Lines about the decisions: kept up to [`LINES_MAX`] each, or printed at once with `--all`.
struct DecisionLines<'w> {
    whitelist: &'w Whitelist,
    as_json: bool,
    is_all: bool,
    kept: Vec<DecisionLine>,
    matching: usize,
    others: usize,
    /// Number of listings by the condition that they did not meet.
    mismatches: BTreeMap<&'static str, u64>,
    /// First failure to print a line.
    failure: Option<AppError>,
}

/// One decision, ready to print.
struct DecisionLine {
    time: UnixMs,
    word: &'static str,
    price: String,
    item: String,
    /// Reason without an order, or the share of the reference and the margin of one.
    details: String,
    entry: String,
    /// Share of the reference, if there is one.
    share: Option<PercentOfReference>,
}

impl DecisionLines<'_> {
    fn add(&mut self, decision: &ReplayDecision<'_, '_>) -> ControlFlow<()> {
        let matched = matches!(decision.verdict, Decision::Matched(_));
        if let Decision::Mismatched { entry, mismatch } = decision.verdict {
            let count = self.mismatches.entry(mismatch.name()).or_default();
            *count = count.saturating_add(1);
            let is_other = || self.whitelist.is_about_other_items(entry, &mismatch, decision.trade);
            if !self.is_all && is_other() {
                return ControlFlow::Continue(());
            }
        }
        let Some(line) = DecisionLine::new(decision, self.whitelist) else {
            return ControlFlow::Continue(());
        };
        if self.is_all {
            let text = if self.as_json { format!("{}\n", line.to_json()) } else { line.to_text() };
            self.failure = self.failure.take().or(report::print(&text).err());
            // Without a reader, as after `head`, the rest of the recording is not needed.
            return if self.failure.is_some() || OutputStream::Stdout.is_reader_gone() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            };
        }
        let count = if matched { &mut self.matching } else { &mut self.others };
        *count = count.saturating_add(1);
        if *count <= LINES_MAX {
            self.kept.push(line);
        }
        ControlFlow::Continue(())
    }

    /// Returns the number of lines that are not shown.
    const fn left_out(&self) -> usize {
        self.matching
            .saturating_sub(LINES_MAX)
            .saturating_add(self.others.saturating_sub(LINES_MAX))
    }

    fn to_text(&self, input: &ReplayInput, result: &ReplayResult) -> String {
        let mut text: String = self.kept.iter().map(DecisionLine::to_text).collect();
        if self.left_out() > 0 {
            text.push_str(&format!("… and {} more; --all shows every line\n", self.left_out()));
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&input.describe(result.span_ns));
        let unit = unit::name();
        let stats = &result.stats;
        let mut line = |count: u64, what: &str| text.push_str(&format!("{count:>8}  {what}\n"));
        line(stats.listings, "listings");
        line(stats.matched, "matched");
        let spend = format!("would have been ordered, for {} {unit}", stats.would_spend);
        line(stats.would_buy, &spend);
        let decided = stats.would_buy.saturating_add(stats.skipped_total());
        let waiting = stats.matched.saturating_sub(decided);
        if waiting > 0 {
            line(waiting, "still waiting at the end");
        }
        let skipped = stats.skipped.iter().map(|(reason, count)| (reason.text, *count));
        text.push_str(&reasons("skipped", skipped.collect()));
        let mismatches = self.mismatches.iter().map(|(reason, count)| (*reason, *count));
        text.push_str(&reasons("named by an entry that did not match", mismatches.collect()));
        let mismatched: u64 = self.mismatches.values().sum();
        let others = [
            (stats.repeated, "repeated after they had matched"),
            (stats.unreadable, "not readable"),
        ];
        for (count, what) in others.into_iter().filter(|(count, _)| *count > 0) {
            text.push_str(&format!("{count:>8}  {what}\n"));
        }
        let counted = [stats.matched, mismatched, stats.repeated, stats.unreadable];
        let rest = counted.into_iter().fold(stats.listings, u64::saturating_sub);
        text.push_str(&format!("{rest:>8}  of items that no entry names\n"));
        text
    }

    fn to_json(&self, input: &ReplayInput, result: &ReplayResult) -> Value {
        let stats = &result.stats;
        json!({
            "recording": input.recording.directory().display().to_string(),
            "complete": input.recording.is_complete(),
            "prices": input.to_json(result.span_ns),
            "messages": result.messages,
            "unreadable": result.unreadable,
            "listings": stats.listings,
            "matched": stats.matched,
            "would_buy": stats.would_buy,
            "would_spend": stats.would_spend.to_string(),
            "skipped": stats.skipped_total(),
            "skipped_because": stats.skipped,
            "not_matched_because": self.mismatches,
            "decisions": self.kept.iter().map(DecisionLine::to_json).collect::<Vec<_>>(),
            "decisions_left_out": self.left_out(),
        })
    }
}

/// Formats a total and a line for each reason, sorted by count.
fn reasons(title: &str, mut reasons: Vec<(&str, u64)>) -> String {
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let total = reasons.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
    if total == 0 {
        return String::new();
    }
    let lines = reasons.iter().map(|(reason, count)| format!("{count:>14}  {reason}\n"));
    format!("{total:>8}  {title}\n{}", lines.collect::<String>())
}

impl DecisionLine {
    /// Returns `None` for a listing that no entry is about, and for the repetition of one.
    fn new(decision: &ReplayDecision<'_, '_>, whitelist: &Whitelist) -> Option<Self> {
        let ReplayDecision { ns, trade, verdict, eligibility, prices, result } = *decision;
        let entry_at = |index: usize| whitelist.entries().get(index);
        let mut share = None;
        let (word, details, entry) = match (verdict, result) {
            (Decision::NoEntry, _) | (Decision::Matched(_), ReplayOutcome::Repeated) => {
                return None;
            }
            (Decision::Unreadable(defects), _) => {
                let fields: Vec<&str> = defects.iter().map(|defect| defect.label()).collect();
                ("NO MATCH", format!("cannot read {}", fields.join(", ")), None)
            }
            (Decision::Mismatched { entry, mismatch }, _) => {
                let found = entry_at(entry);
                share =
                    found.and_then(|entry| Some(prices.compared_reference(entry, trade)?.share));
                ("NO MATCH", whitelist.reason_with_share(entry, &mismatch, share), found)
            }
            (Decision::Matched(index), result) => {
                let entry = entry_at(index);
                share =
                    entry.and_then(|entry| Some(prices.compared_reference(entry, trade)?.share));
                let margin = prices.margin(trade).map(|margin| format!("margin {margin} %"));
                let (word, reason) = match result {
                    ReplayOutcome::Skipped(reason) => ("SKIPPED", Some(reason.text.to_owned())),
                    ReplayOutcome::Waits => match eligibility {
                        Some(Eligibility::From(at)) => ("WAIT", Some(format!("opens at {at}"))),
                        _ => ("WAIT", None),
                    },
                    _ => ("WOULD BUY", None),
                };
                let share = share.map(|share| share.to_string());
                let details = reason.into_iter().chain(share).chain(margin);
                (word, details.collect::<Vec<_>>().join("  "), entry)
            }
        };
        Some(Self {
            time: UnixMs::from_nanos(ns),
            word,
            price: trade.total_value.map_or_else(|| "?".to_owned(), |price| price.to_string()),
            item: trade.full_name().into_owned(),
            details,
            entry: entry.map_or_else(String::new, |entry| entry.label().to_owned()),
            share,
        })
    }

    fn to_text(&self) -> String {
        let Self { time, word, price, item, details, entry, .. } = self;
        let (item, entry) = (Escaped(item), Escaped(entry));
        let entry = if self.entry.is_empty() { String::new() } else { format!("  [{entry}]") };
        let details = if details.is_empty() { String::new() } else { format!(": {details}") };
        format!("{time} {word:<9} {price:>8}  {item}{details}{entry}\n")
    }

    fn to_json(&self) -> Value {
        json!({
            "time": self.time.to_string(),
            "decision": self.word,
            "price": self.price,
            "item": self.item,
            "details": self.details,
            "entry": self.entry,
            "reference": self.share.map(|share| share.reference.in_coins().to_string()),
            "percent": self.share.map(|share| share.reference.percent(share.price).to_string()),
        })
    }
}
