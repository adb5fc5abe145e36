//! The page as HTML: a shell with one section per subject. Pure.
//!
//! Every text that is not a constant passes through [`Html`] or [`PathSegment`].

use std::{
    collections::BTreeSet,
    fmt::{self, Display, Write as _},
    time::Duration,
};

use super::{
    html::{Html, PathSegment},
    rates::RateHistory,
};
use crate::{
    domain::latency::format_latency,
    domain::money::Amount,
    domain::outcome::Outcome,
    domain::time::{UnixMs, format_duration},
    domain::unit,
    domain::whitelist_entry::EntryGroup,
    ledger::{
        OrderState,
        entries::EntryUsage,
        price_status::PriceStatus,
        status::{FeedStatus, LedgerStatus, LimitStatus, loss_end},
    },
    sniper::{
        activity::{MatchResult, OrderProgress},
        view::{EntryCounts, GroupCounts, SessionView},
    },
    text::counted,
    whitelist::WhitelistEntry,
};

/// Width and height of the charts, in units of their `viewBox`.
const WIDTH: usize = 240;
const HEIGHT: u64 = 40;

/// Settings that the page shows.
#[derive(Clone, Debug, Default)]
pub struct PageFacts {
    /// Name of the market for display.
    pub market: String,
    /// Such as `LIVE (spends real money)`.
    pub mode: String,
}

/// Id of a section and its HTML.
pub(super) type Section = (&'static str, String);

/// Sections in the order of the page.
const SECTIONS: [&str; 7] = ["state", "money", "orders", "matches", "feed", "latency", "entries"];

/// Permissions of a visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Visitor {
    /// May use the controls.
    SignedIn,
    Reader,
    /// May not read either.
    Locked,
}

/// Renders the whole page.
pub(super) fn page(sections: &[Section], facts: &PageFacts, visitor: Visitor) -> String {
    let class = match visitor {
        Visitor::SignedIn => "signed-in",
        Visitor::Reader => "",
        Visitor::Locked => "locked",
    };
    let mut main = String::new();
    for id in SECTIONS {
        let html = sections.iter().find(|(name, _)| *name == id).map_or("", |(_, html)| html);
        main.push_str(&format!("<section id=\"{id}\">{html}</section>\n"));
    }
    if visitor == Visitor::Locked {
        main = format!("<section><h1>sniper</h1>{SIGN_IN}</section>\n");
    }
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>sniper · {market}</title>\n<link rel=\"icon\" href=\"data:,\">\n\
         <link rel=\"stylesheet\" href=\"/style.css\">\n\
         <script src=\"/app.js\" defer></script>\n\
         <noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript>\n</head>\n\
         <body class=\"{class}\">\n<p id=\"notice\" role=\"alert\" hidden></p>\n\
         <p class=\"lost\" role=\"alert\">Connection to the bot lost. The page shows the state at \
         <span id=\"since\"></span>.</p>\n<main>\n{main}</main>\n</body>\n</html>\n",
        market = Html(&facts.market),
    )
}

const SIGN_IN: &str = "<p class=\"sign-in dim\">To sign in, run <code>sniper dashboard</code> on \
                       the machine of the bot and open the address that it prints.</p>";

/// Renders the sections. Without a snapshot, only the first one: the others stay as they are.
pub(super) fn sections(
    view: Option<&SessionView>,
    rates: &RateHistory,
    facts: &PageFacts,
) -> Vec<Section> {
    let Some(view) = view else {
        let html = "<h1 class=\"bad\">No answer</h1>\n<p>The bot's trading thread does not answer. \
                    It may be stopping; if this lasts, look at its log and start it again.</p>";
        return vec![("state", html.to_owned())];
    };
    let render = |section: &dyn Fn(&mut String) -> fmt::Result| {
        let mut html = String::new();
        // Writing to a string cannot fail.
        let written = section(&mut html);
        debug_assert!(written.is_ok());
        html
    };
    let html = [
        render(&|out| state(out, view, facts)),
        render(&|out| money(out, view)),
        render(&|out| orders(out, view)),
        render(&|out| matches(out, view)),
        render(&|out| feed(out, view, rates)),
        render(&|out| latency(out, view)),
        render(&|out| entries(out, view)),
    ];
    SECTIONS.into_iter().zip(html).collect()
}

/// Writes whether the bot buys, why not, and what to do.
fn state(out: &mut String, view: &SessionView, facts: &PageFacts) -> fmt::Result {
    let status = &view.status;
    let (class, headline) = headline(view);
    writeln!(out, "<h1 class=\"{class}\">{headline}</h1>")?;
    for halt in &status.halts {
        let age = format_duration(Duration::from_millis(halt.age_ms));
        writeln!(out, "<p class=\"bad\">{}</p>", Html(&halt.reason))?;
        writeln!(out, "<p class=\"dim\">Since {}, {age} ago.</p>", FullTime(&halt.since))?;
        writeln!(out, "<p>What to do: {}.</p>", Html(&halt.remedy))?;
    }
    if let Some(remedy) = status.not_ordering_remedy.as_ref().filter(|_| status.halts.is_empty()) {
        writeln!(out, "<p>What to do: {}.</p>", Html(remedy))?;
    }
    if let Some(failure) = &status.failure {
        writeln!(out, "<p class=\"bad\">The ledger cannot be written: {}</p>", Html(failure))?;
    }
    if let Some(FeedStatus { cause: Some(cause), remedy, .. }) = &status.feed {
        writeln!(out, "<p class=\"warn\">{}</p>", Html(cause))?;
        if let Some(remedy) = remedy {
            writeln!(out, "<p>What to do: {}.</p>", Html(remedy))?;
        }
    }
    if let Some(until) = &status.paused_until {
        writeln!(out, "<p>The market asked to slow down, until {}.</p>", FullTime(until))?;
    }
    if let Some(shared) = &status.shared {
        let class = if shared.problem().is_some() { "bad" } else { "dim" };
        let mut shown = shared.clone();
        let since = shown.active_since.take().map(|since| format!(" since {}", FullTime(&since)));
        let (headline, since) = (Html(shown.headline()), since.unwrap_or_default());
        writeln!(out, "<p class=\"{class}\">{headline}{since}</p>")?;
        for line in shared.member_lines() {
            writeln!(out, "<p class=\"dim\">{}</p>", Html(line))?;
        }
    }
    for failing in &status.account_failures {
        let (read, cause) = (Html(&failing.read), Html(&failing.cause));
        writeln!(out, "<p class=\"warn\">Account read failing: {read}, {cause}.</p>")?;
        writeln!(out, "<p>What to do: {}.</p>", Html(&failing.remedy))?;
    }
    let prices = PriceStatus::all(&view.prices, view.whitelist.entries(), view.at);
    for stale in prices.iter().filter(|source| source.stale && 0 < source.entries) {
        writeln!(out, "<p class=\"warn\">Prices: {}.</p>", Html(stale))?;
    }
    for (name, text) in status.notes() {
        writeln!(out, "<p class=\"warn\">{}: {}.</p>", Html(name), Html(text))?;
    }
    let running = format_duration(Duration::from_secs(view.running.as_secs()));
    let (mode, market) = (Html(&facts.mode), Html(&facts.market));
    writeln!(out, "<p class=\"dim\">{mode} · {market} · running {running}</p>")?;
    let (path, class, text, question) = if status.halts.is_empty() {
        ("/api/halt", "stop", "Halt", "")
    } else {
        ("/api/resume", "go", "Resume", " data-confirm=\"Resume ordering?\"")
    };
    writeln!(
        out,
        "<p><button class=\"{class}\" data-post=\"{path}\"{question}>{text}</button></p>\n{SIGN_IN}"
    )
}

fn headline(view: &SessionView) -> (&'static str, String) {
    let LedgerStatus { buying, not_ordering_because, needs_user, .. } = &view.status;
    let class = if *needs_user { "bad" } else { "warn" };
    match (not_ordering_because, view.is_live) {
        (Some(_), _) if buying == "halted" => ("bad", "Halted".to_owned()),
        (Some(why), true) => (class, format!("Not buying: {}", Html(why))),
        (Some(why), false) => (class, format!("Watching (dry run): {}", Html(why))),
        (None, true) => ("good", "Buying".to_owned()),
        (None, false) => ("good", "Watching (dry run)".to_owned()),
    }
}

/// Writes one pair of a `<dl>`.
fn pair(out: &mut String, name: &str, value: impl Display) -> fmt::Result {
    writeln!(out, "<div><dt>{}</dt><dd>{}</dd></div>", Html(name), Html(value))
}

fn money(out: &mut String, view: &SessionView) -> fmt::Result {
    let status = &view.status;
    writeln!(out, "<h2>Budget</h2>\n<dl>")?;
    pair(out, "Balance", status.balance.as_deref().unwrap_or("unknown"))?;
    if let Some(least) = &status.balance_least {
        pair(out, "Available at least", least)?;
    }
    for LimitStatus { name, used, bound, left } in &status.limits {
        let (used, bound) = (Html(used), Html(bound));
        writeln!(
            out,
            "<div><dt>{}</dt><dd>{used} of {bound}</dd><meter min=\"0\" max=\"{bound}\" \
             value=\"{used}\">{} left</meter></div>",
            limit_name(name),
            Html(left)
        )?;
    }
    if status.lost_buys > 0 {
        let orders = counted(status.lost_buys, "order", "orders");
        let end = loss_end(status.lost_until.as_deref().map(FullTime));
        let held = format!("{} (up to {orders}), {end}", Html(&status.lost_coins));
        writeln!(out, "<div><dt>Reserved after a power loss</dt><dd>{held}</dd></div>")?;
    }
    pair(out, "Waiting", view.counts.waiting)?;
    let unit = unit::name();
    pair(out, "Unknown", format_args!("{} ({} {unit})", status.unknown, status.unknown_coins))?;
    let (returning, coins) = (view.ledger.returning, view.ledger.returning_coins);
    pair(out, "Cancelled, not refunded", format_args!("{returning} ({coins} {unit})"))?;
    pair(out, "Not delivered yet", status.undelivered)?;
    writeln!(out, "</dl>")
}

/// Returns the heading of a limit, by the name of its setting.
fn limit_name(setting: &str) -> &'static str {
    match setting {
        "total" => "Spent",
        "per_hour" => "Spent in an hour",
        "per_day" => "Spent in a day",
        "max_buys_per_minute" => "Orders in a minute",
        "max_in_flight" => "In flight",
        _ => "Limit",
    }
}

/// Displays a time in UTC, which the page shows with its day in the zone of its reader.
struct FullTime<'t>(&'t str);

impl Display for FullTime<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<time class=\"full\" datetime=\"{0}\">{0}</time>", Html(self.0))
    }
}

/// Writes a time of day, which the page shows in the zone of its reader.
fn time(out: &mut String, at: UnixMs) -> fmt::Result {
    let text = at.to_string();
    let clock = text.get(11..19).unwrap_or(&text);
    write!(out, "<time datetime=\"{text}\">{clock}</time> ")
}

fn orders(out: &mut String, view: &SessionView) -> fmt::Result {
    let counts = &view.counts;
    write!(out, "<h2>Orders</h2>\n<p class=\"dim\">This session: ")?;
    if view.is_live {
        write!(out, "{} bought, {} returned", counts.bought, counts.returned)?;
        write!(out, ", {} rejected, {} unknown", counts.rejected, counts.unknown)?;
        writeln!(out, ", {} not sent</p>\n<ol>", counts.not_sent)?;
    } else {
        writeln!(out, "{} would have been bought</p>\n<ol>", counts.would_buy)?;
    }
    for order in &view.orders {
        let (class, result) = progress(&order.result);
        write!(out, "<li>")?;
        time(out, order.at)?;
        let (price, item, entry) = (order.price, Html(&order.item), Html(&order.entry));
        write!(
            out,
            "<b class=\"{class}\">{}</b> <span class=\"price\">{price}</span> \
             <span class=\"item\">{item}</span> <span class=\"label\">{entry}</span>",
            Html(result)
        )?;
        if let Some(latency) = order.latency {
            write!(out, " <span class=\"dim\">{}", format_latency(latency))?;
            if let Some(took) = order.response_time {
                write!(out, " + {}", format_latency(took))?;
            }
            write!(out, "</span>")?;
        }
        writeln!(out, "</li>")?;
    }
    writeln!(out, "</ol>")
}

/// Returns the class and the text of an order's state.
fn progress(result: &OrderProgress) -> (&'static str, String) {
    let (class, text) = match result {
        OrderProgress::WouldBuy => ("good", "would buy"),
        OrderProgress::Sent => ("warn", "sent"),
        OrderProgress::Answered(Outcome::Bought { .. })
        | OrderProgress::Resolved(OrderState::Bought) => ("good", "bought"),
        OrderProgress::Resolved(OrderState::Unknown) => ("bad", "unknown"),
        OrderProgress::Answered(Outcome::Rejected(reason)) => {
            return ("dim", format!("rejected: {reason}"));
        }
        OrderProgress::Answered(Outcome::NotSent(reason)) => {
            return ("warn", format!("not sent: {reason}"));
        }
        OrderProgress::Answered(Outcome::Unknown(reason)) => {
            return ("bad", format!("unknown: {reason}"));
        }
        OrderProgress::Resolved(OrderState::Completed) => ("good", "delivered"),
        OrderProgress::Resolved(OrderState::Returning) => ("warn", "cancelled, not refunded"),
        OrderProgress::Resolved(OrderState::Returned) => ("warn", "returned"),
        OrderProgress::Resolved(OrderState::NotBought) => ("dim", "not bought"),
        OrderProgress::Resolved(_) => ("dim", "resolved"),
    };
    (class, text.to_owned())
}

fn matches(out: &mut String, view: &SessionView) -> fmt::Result {
    writeln!(out, "<h2>Matches and near misses</h2>\n<ol>")?;
    for found in &view.matches {
        write!(out, "<li>")?;
        time(out, found.at)?;
        let price = found.price.map_or_else(|| "?".to_owned(), |price| price.to_string());
        let (class, result) = match found.result {
            MatchResult::Ordered => ("good", "ordered".to_owned()),
            MatchResult::WouldBuy => ("good", "would buy".to_owned()),
            MatchResult::Waiting => ("warn", "waiting".to_owned()),
            MatchResult::Skipped(reason) => ("dim", format!("skipped: {reason}")),
        };
        let (item, entry) = (Html(&found.item), Html(&found.entry));
        write!(
            out,
            "<span class=\"price\">{price}</span> of {} <span class=\"item\">{item}</span> \
             <span class=\"label\">{entry}</span> <span class=\"{class}\">{}</span>",
            found.limit,
            Html(result)
        )?;
        if let Some(share) = found.share {
            write!(out, " <span class=\"dim\">{}</span>", Html(share))?;
        }
        writeln!(out, "</li>")?;
    }
    writeln!(out, "</ol>\n<h3>Near misses</h3>\n<ol>")?;
    for miss in &view.near_misses {
        write!(out, "<li>")?;
        time(out, miss.at)?;
        let label = view.whitelist.entries().get(miss.entry).map_or("", WhitelistEntry::label);
        let reason = view.whitelist.reason(miss.entry, &miss.mismatch);
        let (item, label, reason) = (Html(&miss.item), Html(label), Html(reason));
        writeln!(
            out,
            "<span class=\"item\">{item}</span> <span class=\"label\">{label}</span> \
             <span class=\"dim\">{reason}</span></li>"
        )?;
    }
    writeln!(out, "</ol>")
}

fn feed(out: &mut String, view: &SessionView, rates: &RateHistory) -> fmt::Result {
    writeln!(out, "<h2>Feed</h2>")?;
    let Some(feed) = &view.status.feed else { return Ok(()) };
    let FeedStatus { state, reconnects, gaps, .. } = feed;
    let seconds = |ms: u64| format_duration(Duration::from_secs(ms / 1_000));
    writeln!(out, "<dl>")?;
    pair(out, "State", state)?;
    if let Some(connected) = feed.connected_ms {
        pair(out, "Connected for", seconds(connected))?;
    }
    if let Some(age) = feed.last_listing_ms {
        pair(out, "Last listing", format_args!("{} ago", seconds(age)))?;
    }
    pair(out, "Listings", view.counts.listings)?;
    let tenths = rates.per_second_tenths();
    pair(out, "Listings and changes a second", format_args!("{}.{}", tenths / 10, tenths % 10))?;
    pair(out, "Matched", view.counts.matched)?;
    pair(out, "Reconnects", reconnects)?;
    pair(out, "Gaps", format_args!("{gaps} ({})", seconds(feed.gap_ms)))?;
    writeln!(out, "</dl>")?;
    sparkline(out, rates)?;
    if !feed.connections.is_empty() {
        writeln!(out, "<ul>")?;
        for (index, connection) in feed.connections.iter().enumerate() {
            let number = index.saturating_add(1);
            let address = connection.address.as_deref().unwrap_or("");
            let (first, late) = (connection.first, connection.late);
            writeln!(
                out,
                "<li>Connection {number} <span class=\"dim\">{}</span> delivered {first} first, {late} \
                 late</li>",
                Html(address)
            )?;
        }
        writeln!(out, "</ul>")?;
    }
    Ok(())
}

/// Draws the listings and changes of each second.
fn sparkline(out: &mut String, rates: &RateHistory) -> fmt::Result {
    let max = rates.values().max().unwrap_or(0).max(1);
    let steps = RateHistory::CAPACITY.saturating_sub(1);
    let first = RateHistory::CAPACITY.saturating_sub(rates.values().count());
    write!(
        out,
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"Listings and changes a second in the last two minutes, at most {max}\">\
         <polyline points=\""
    )?;
    for (index, value) in (first..).zip(rates.values()) {
        let x = index.saturating_mul(WIDTH) / steps;
        let y = HEIGHT.saturating_sub(value.saturating_mul(HEIGHT) / max);
        write!(out, "{x},{y} ")?;
    }
    writeln!(
        out,
        "\"/></svg>\n<p class=\"axis\"><span>2 min ago</span><span>now, max {max}/s</span></p>"
    )
}

fn latency(out: &mut String, view: &SessionView) -> fmt::Result {
    writeln!(out, "<h2>Latency, receive to order</h2>")?;
    let counts = view.latency.read();
    let shown = |thousandths| match counts.quantile(thousandths) {
        Some(ns) => format_latency(Duration::from_nanos(ns)),
        None => "–".to_owned(),
    };
    writeln!(out, "<dl>")?;
    pair(out, "p50", shown(500))?;
    pair(out, "p99", shown(990))?;
    pair(out, "Orders", counts.count())?;
    writeln!(out, "</dl>")?;
    let octaves: Vec<(u64, u64)> = counts.octaves().collect();
    let used = |(_, count): &(u64, u64)| *count > 0;
    let Some(first) = octaves.iter().position(used) else { return Ok(()) };
    let last = octaves.iter().rposition(used).unwrap_or(first);
    let bars = octaves.get(first..=last).unwrap_or_default();
    histogram(out, bars)
}

/// Draws one bar for each octave of the latency: its upper bound in nanoseconds and its count.
fn histogram(out: &mut String, bars: &[(u64, u64)]) -> fmt::Result {
    let max = bars.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    let step = WIDTH / bars.len().max(1);
    write!(
        out,
        "<svg class=\"bars\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" \
         role=\"img\" aria-label=\"Number of orders by latency\">"
    )?;
    for (x, (_, count)) in (0..).map(|index: usize| index.saturating_mul(step)).zip(bars) {
        let bar = count.saturating_mul(HEIGHT) / max;
        let (y, bar_width) = (HEIGHT.saturating_sub(bar), step.saturating_sub(1).max(1));
        write!(out, "<rect x=\"{x}\" y=\"{y}\" width=\"{bar_width}\" height=\"{bar}\"/>")?;
    }
    let from = bars.first().map_or(0, |(bound, _)| bound / 2);
    let until = bars.last().map_or(0, |(bound, _)| *bound);
    let [from, until] = [from, until].map(|ns| format_latency(Duration::from_nanos(ns)));
    writeln!(out, "</svg>\n<p class=\"axis\"><span>{from}</span><span>{until}</span></p>")
}

fn entries(out: &mut String, view: &SessionView) -> fmt::Result {
    let all = view.whitelist.entries();
    let count = counted(all.len(), "entry", "entries");
    writeln!(out, "<h2>Whitelist: {count}</h2>\n<ul>")?;
    let shown = view.entries.len();
    for counts in &view.entries {
        if let Some(entry) = all.get(counts.index) {
            entry_row(out, entry, Some(counts), view.whitelist.is_paused(counts.index))?;
        }
    }
    let is_hidden = |index: &usize| view.entries.iter().all(|entry| entry.index != *index);
    for index in view.whitelist.paused().filter(is_hidden).take(shown) {
        if let Some(entry) = all.get(index) {
            entry_row(out, entry, None, true)?;
        }
    }
    writeln!(out, "</ul>")?;
    if all.len() > shown {
        writeln!(
            out,
            "<p class=\"dim\">{shown} are shown, those that matched or bought first, and the paused \
             ones.</p>"
        )?;
    }
    groups(out, view)
}

/// Writes each group of entries with what it has bought, what is left, and whether it is paused.
fn groups(out: &mut String, view: &SessionView) -> fmt::Result {
    if view.groups.is_empty() {
        return Ok(());
    }
    let paused = view.whitelist.paused_groups();
    let all = view.whitelist.entries();
    let of_paused = view.whitelist.paused().filter_map(|index| all.get(index)?.group_name());
    let partly_paused: BTreeSet<&str> = of_paused.collect();
    writeln!(out, "<h3>Groups</h3>\n<ul class=\"groups\">")?;
    for GroupCounts { group, used } in &view.groups {
        let EntryGroup { name, max_quantity, max_total } = group;
        let pauses = if paused.contains(&**name) {
            RowPauses::All
        } else if partly_paused.contains(&**name) {
            RowPauses::Some
        } else {
            RowPauses::None
        };
        begin_row(out, name, pauses)?;
        let EntryUsage { quantity, total } = used;
        write!(out, "{quantity} bought for {total}")?;
        if let Some(max) = max_quantity {
            write!(out, " · {} of {max} left", max.saturating_sub(*quantity))?;
        }
        if let Some(max) = max_total {
            let left = max.saturating_sub(*total).max(Amount::ZERO);
            write!(out, " · {left} of {max} left")?;
        }
        end_row(out, "groups", name, pauses)?;
    }
    writeln!(out, "</ul>")
}

fn entry_row(
    out: &mut String,
    entry: &WhitelistEntry,
    counts: Option<&EntryCounts>,
    is_paused: bool,
) -> fmt::Result {
    let pauses = if is_paused { RowPauses::All } else { RowPauses::None };
    begin_row(out, entry.label(), pauses)?;
    write!(out, "up to {}", entry.max_price)?;
    if let Some(EntryCounts { matched, used, .. }) = counts {
        let (quantity, total) = (used.quantity, used.total);
        write!(out, " · {matched} matched · {quantity} of {} bought", entry.max_quantity)?;
        match entry.max_total {
            Some(max) => write!(out, " for {total} of {max}")?,
            None => write!(out, " for {total}")?,
        }
    }
    end_row(out, "entries", entry.label(), pauses)
}

/// Part of an entry or a group that is paused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RowPauses {
    None,
    Some,
    All,
}

/// Begins the row of an entry or a group.
fn begin_row(out: &mut String, name: &str, pauses: RowPauses) -> fmt::Result {
    let mark = match pauses {
        RowPauses::None => "",
        RowPauses::Some => " <b class=\"warn\">entries paused</b>",
        RowPauses::All => " <b class=\"warn\">paused</b>",
    };
    write!(out, "<li><span class=\"item\">{}{mark}</span> <span class=\"dim\">", Html(name))
}

/// Ends the row with the buttons that pause and enable it. `kind` is `entries` or `groups`.
fn end_row(out: &mut String, kind: &str, name: &str, pauses: RowPauses) -> fmt::Result {
    write!(out, "</span>")?;
    let buttons = [
        ("enable", "Enable", pauses != RowPauses::None),
        ("pause", "Pause", pauses != RowPauses::All),
    ];
    let path = PathSegment(name);
    for (action, text, _) in buttons.iter().filter(|(_, _, is_shown)| *is_shown) {
        write!(out, " <button data-post=\"/api/{kind}/{path}/{action}\">{text}</button>")?;
    }
    writeln!(out, "</li>")
}

/// Checks that orders can be sent; in a dry run, that they would be.
///
/// # Errors
///
/// Returns the reason if not, and what to do.
pub(super) fn check_ready(status: &LedgerStatus) -> Result<(), String> {
    let (reason, remedy) = match (status.halts.first(), &status.not_ordering_because) {
        (Some(halt), _) => (format!("halted: {}", halt.reason), Some(&halt.remedy)),
        (None, Some(reason)) => (reason.clone(), status.not_ordering_remedy.as_ref()),
        (None, None) => return Ok(()),
    };
    let remedy = remedy.map_or_else(String::new, |remedy| format!(". What to do: {remedy}"));
    Err(reason + &remedy)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::Instant,
    };

    use super::*;
    use crate::{
        alerts::{AlertEvent, SessionFigures, systemd::status_line},
        config::Budget,
        domain::{
            latency::LatencyHistogram,
            outcome::{RejectReason, Unknown},
            percent_rule::PriceCurrency,
            server_clock::ServerClock,
            trade::{KeyedBy, TradeId},
        },
        execution::OrderClient,
        ledger::{
            Ledger, Obstacle,
            status::{HaltStatus, SharedStatus},
        },
        prices::book::SourceLabel,
        sniper::{
            Engine, Executor, Now,
            activity::{InlineText, RecentOrder},
            view::ENTRIES_MAX,
        },
        whitelist::{
            Whitelist,
            tests::{book_at, entry, percent_entry},
        },
    };

    fn engine(entries: Vec<WhitelistEntry>) -> Engine<Arc<OrderClient>> {
        let coins = Amount::from_cents(10_000);
        let budget =
            Budget { total: coins, max_buys_per_minute: 9, max_in_flight: 9, ..Budget::default() };
        let ledger = Ledger::in_memory(budget, &entries, false);
        let clock = Arc::new(Mutex::new(ServerClock::new(Instant::now())));
        let whitelist = Arc::new(Whitelist::new(entries));
        Engine::new(whitelist, ledger, Executor::Dry, KeyedBy::Id, clock)
    }

    /// Returns the state of a live bot with these entries, which has ordered nothing.
    fn view(entries: Vec<WhitelistEntry>) -> SessionView {
        live(&mut engine(entries))
    }

    fn live(engine: &mut Engine<Arc<OrderClient>>) -> SessionView {
        let feed = FeedStatus { state: "connected".to_owned(), ..FeedStatus::default() };
        SessionView { is_live: true, ..engine.view(feed, Duration::ZERO, Now::read()) }
    }

    fn title(view: &SessionView) -> String {
        headline(view).1
    }

    #[test]
    fn old_prices_that_an_entry_needs_and_settings_that_are_not_in_force_are_shown() {
        let label = SourceLabel { name: "buff".into(), currency: PriceCurrency::Usd };
        let book = book_at(UnixMs(0)).with_labels([label].into_iter());
        let mut shown = view(vec![percent_entry()]);
        let html = |view: &SessionView| {
            sections(Some(view), &RateHistory::default(), &PageFacts::default())[0].1.clone()
        };
        shown.at = UnixMs(0);
        shown.prices = Arc::new(book);
        let html_before = html(&shown);
        assert!(!html_before.contains("Prices:") && !html_before.contains("sniper reload"));
        shown.at = UnixMs(86_400_000 * 365);
        shown.status.settings_changed = true;
        let html = html(&shown);
        assert!(html.contains("<p class=\"warn\">Prices: buff too old"), "{html}");
        assert!(
            html.contains("changed on disk, not applied; apply them with: sniper reload"),
            "{html}"
        );
    }

    #[test]
    fn halts_and_pauses_have_times_that_the_page_can_show_in_the_zone_of_its_reader() {
        let mut shown = view(vec![entry()]);
        let at = |hour| format!("2026-03-01T{hour}:00:00.000Z");
        shown.status.halts = vec![HaltStatus {
            since: at(10),
            age_ms: 61_000,
            reason: "why".to_owned(),
            remedy: "what".to_owned(),
        }];
        shown.status.paused_until = Some(at(11));
        (shown.status.lost_buys, shown.status.lost_until) = (1, Some(at(12)));
        let active_since = Some(at(13));
        let shared = SharedStatus { active_since, more_members: 1, ..SharedStatus::default() };
        shown.status.shared = Some(shared);
        let sections = sections(Some(&shown), &RateHistory::default(), &PageFacts::default());
        let html: String = sections.into_iter().map(|(_, html)| html).collect();
        assert!(
            html.contains("<p class=\"dim\">and 1 more member; see: sniper shared status</p>"),
            "{html}"
        );
        let halted = html.split_once("Since <time class=\"full\" datetime=").unwrap().1;
        assert!(halted.contains("</time>, 1 min 1 s ago."), "{html}");
        for hour in 10..14 {
            let (at, shown) = (at(hour), format!("datetime=\"{0}\">{0}</time>", at(hour)));
            assert_eq!((html.matches(&at).count(), html.contains(&shown)), (2, true), "{html}");
        }
    }

    #[test]
    fn a_bot_that_can_order_nothing_is_not_shown_as_buying() {
        let fresh = view(vec![entry()]);
        assert_eq!(headline(&fresh), ("good", "Buying".to_owned()));
        let mut paused = engine(vec![entry()]);
        paused
            .view(FeedStatus::default(), Duration::ZERO, Now::read())
            .whitelist
            .set_paused(entry().label(), true);
        assert_eq!(title(&live(&mut paused)), "Not buying: every entry is paused");
        let bought = WhitelistEntry { max_quantity: 0, ..entry() };
        let spent = WhitelistEntry { max_total: Some(Amount::ZERO), ..entry() };
        let of_group = |max_quantity, max_total| {
            let group = EntryGroup { name: "a".into(), max_quantity, max_total };
            WhitelistEntry { group: Some(Arc::new(group)), ..entry() }
        };
        let all =
            "Not buying: every entry is paused or has used up a limit of its own or its group";
        for entries in [
            vec![spent, bought.clone()],
            vec![of_group(Some(0), None)],
            vec![of_group(None, Some(Amount::ZERO))],
            vec![bought.clone(); ENTRIES_MAX + 1],
        ] {
            assert_eq!(title(&view(entries)), all);
        }
        let mut entries = vec![bought; ENTRIES_MAX + 1];
        entries.push(entry());
        assert_eq!(title(&view(entries)), "Buying");
    }

    #[test]
    fn each_place_shows_the_same_reason_why_no_order_is_sent() {
        let mut shown = view(vec![entry()]);
        shown.status.mode = "live".to_owned();
        for obstacle in Obstacle::samples() {
            let reason = obstacle.to_string();
            shown.status.set_obstacle(Some(obstacle));
            let figures = SessionFigures {
                is_live: true,
                obstacle: Some(obstacle),
                ..SessionFigures::default()
            };
            let (day, period, down) = (figures, Duration::ZERO, Duration::ZERO);
            let summary = AlertEvent::DailySummary { day, period, gaps: 0, down }.text();
            let text = shown.status.to_string();
            let line = match obstacle {
                Obstacle::Halted(_) | Obstacle::Off => obstacle.name().to_owned(),
                _ => format!("none: {reason}"),
            };
            assert!(text.contains(&format!("\nordering        {line}\n")), "{text}");
            assert!(title(&shown) == format!("Not buying: {reason}") || title(&shown) == "Halted");
            assert!(status_line(&figures).contains(&reason), "{reason}");
            assert!(summary.contains(&reason), "{summary}");
            let ready = check_ready(&shown.status).unwrap_err();
            let what_to_do = ready.strip_prefix(&reason).unwrap().strip_prefix(". What to do: ");
            assert_eq!(what_to_do, obstacle.remedy());
            let json = serde_json::to_value(&shown.status).unwrap();
            let json = (&json["not_ordering_because"], &json["needs_user"]);
            assert_eq!(json, (&reason.into(), &obstacle.needs_user().into()));
            let remedy = obstacle.remedy().unwrap_or_default();
            let mut html = String::new();
            state(&mut html, &shown, &PageFacts::default()).unwrap();
            assert!(text.contains(remedy), "{remedy}: {text}");
            assert!(html.contains(&*Html(remedy).to_string()), "{remedy}: {html}");
            // A halt and a failure of the ledger have lines of their own.
            let is_listed = matches!(obstacle, Obstacle::Halted(_) | Obstacle::Unwritable);
            let has_problem = !shown.status.problems().is_empty();
            assert_eq!(has_problem, obstacle.needs_user() && !is_listed, "{obstacle:?}");
        }
        shown.status.set_obstacle(None);
        assert_eq!((title(&shown).as_str(), check_ready(&shown.status)), ("Buying", Ok(())));
    }

    #[test]
    fn the_reserve_after_a_power_loss_and_the_cause_of_a_blocked_feed_are_shown() {
        let mut shown = view(vec![entry()]);
        (shown.status.lost_buys, shown.status.lost_coins) = (64, "320.00".to_owned());
        shown.status.lost_until = Some("2026-03-01T10:00:00.000Z".to_owned());
        shown.status.feed = Some(FeedStatus {
            state: "blocked".to_owned(),
            cause: Some("HTTP 403 <b>".to_owned()),
            remedy: Some("copy the cookie again".to_owned()),
            ..FeedStatus::default()
        });
        let sections = sections(Some(&shown), &RateHistory::default(), &PageFacts::default());
        let all: String = sections.into_iter().map(|(_, html)| html).collect();
        for part in [
            "<p class=\"warn\">HTTP 403 &lt;b&gt;</p>\n<p>What to do: copy the cookie again.</p>",
            "<dt>Reserved after a power loss</dt><dd>320.00 (up to 64 orders), until \
             the account shows that they were not sent, from <time ",
            ">2026-03-01T10:00:00.000Z</time> at the earliest</dd>",
        ] {
            assert!(all.contains(part), "{part}: {all}");
        }
    }

    #[test]
    fn an_order_has_its_result_its_entry_and_its_latency() {
        let mut shown = view(vec![entry()]);
        let results = [
            (OrderProgress::Sent, "<b class=\"warn\">sent</b>"),
            (OrderProgress::Answered(Outcome::Rejected(RejectReason::Taken)), "rejected: "),
            (OrderProgress::Answered(Outcome::Unknown(Unknown::Cut)), "<b class=\"bad\">unknown: "),
            (OrderProgress::Resolved(OrderState::Unknown), "<b class=\"bad\">unknown</b>"),
            (OrderProgress::Resolved(OrderState::Returned), "<b class=\"warn\">returned</b>"),
            (OrderProgress::Resolved(OrderState::Completed), "<b class=\"good\">delivered</b>"),
        ];
        for (result, text) in results {
            shown.orders = vec![RecentOrder {
                key: KeyedBy::Id.key(TradeId::new("a").unwrap(), None),
                at: UnixMs(0),
                item: InlineText::new("AK-47"),
                entry: InlineText::new("red <line>"),
                price: Amount::from_cents(1_250),
                latency: Some(Duration::from_micros(73)),
                response_time: Some(Duration::from_millis(3)),
                result,
            }];
            let mut html = String::new();
            orders(&mut html, &shown).unwrap();
            assert!(html.contains(text), "{text}: {html}");
            let row = "<span class=\"price\">12.50</span> <span class=\"item\">AK-47</span> \
                       <span class=\"label\">red &lt;line&gt;</span> \
                       <span class=\"dim\">73 µs + 3.0 ms</span></li>";
            assert!(html.contains(row), "{html}");
        }
    }

    #[test]
    fn the_latency_has_its_quantiles_and_a_bar_for_each_octave() {
        let mut shown = view(vec![entry()]);
        let mut html = String::new();
        latency(&mut html, &shown).unwrap();
        assert!(html.contains("<dt>p50</dt><dd>–</dd>") && !html.contains("<svg"), "{html}");
        let mut histogram = LatencyHistogram::new();
        for us in [50, 50, 50, 700] {
            histogram.record(Duration::from_micros(us));
        }
        shown.latency = histogram.buckets();
        html.clear();
        latency(&mut html, &shown).unwrap();
        assert!(html.contains("<dt>Orders</dt><dd>4</dd>"), "{html}");
        let bars: Vec<&str> = html.split("<rect ").skip(1).collect();
        let heights = bars.iter().filter(|bar| !bar.contains("height=\"0\"")).count();
        assert_eq!((bars.len() > 2, heights), (true, 2), "{html}");
        assert!(bars[0].contains("height=\"40\""), "the most frequent one fills it: {html}");
    }

    #[test]
    fn of_many_entries_those_that_bought_are_shown() {
        let number =
            |index: usize| WhitelistEntry { name: Some(format!("entry {index}")), ..entry() };
        let mut shown = view((0..ENTRIES_MAX + 9).map(number).collect());
        assert_eq!(shown.entries.len(), ENTRIES_MAX);
        shown.entries[0].index = ENTRIES_MAX + 3;
        let mut html = String::new();
        entries(&mut html, &shown).unwrap();
        let row =
            |index: usize| html.contains(&format!("<span class=\"item\">entry {index}</span>"));
        assert!(row(ENTRIES_MAX + 3) && row(1) && !row(0), "{html}");
    }
}
