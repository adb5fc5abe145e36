//! `sniper shared`: creates, shows and changes the budget that several bots share, and releases a
//! member that is gone.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{AppError, CommandContext, block_on, doctor::step::StepProblem, exit_code};
use crate::{
    account::{AccountReader, LookBack, ReadFailure},
    clock::{self, format_local},
    config::{Config, SharedConfig, shared::DatabaseUrl},
    domain::{
        money::{Amount, Decimals},
        time::{UnixMs, format_duration},
        trade::TradeId,
    },
    ledger::{
        OwnTrade,
        shared_status::{MEMBERS_SHOWN_MAX, more_members},
    },
    markets::MarketApi,
    net::tls::Tls,
    shared::{
        convert,
        database::LimitRow,
        exchange::Limit,
        store::{
            GroupStatus, Initialized, MemberStatus, OrderStatus, RoleStatus, SetError, Store,
            StoreError,
        },
    },
    text::{Escaped, counted, error_chain},
};

/// Examples in the help.
pub(super) const EXAMPLES: &str = "\
Examples:
  sniper shared init
  sniper shared status
  sniper shared set
  sniper shared release host2
  sniper shared release host2 --spent 37.50 --stopped";

/// Arguments of `shared`.
#[derive(Clone, Debug, Args)]
pub struct SharedGroupArgs {
    #[command(subcommand)]
    pub command: SharedGroupCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub enum SharedGroupCommand {
    /// Create the tables and the group of the settings, unless they exist
    Init,
    /// Show the members: last contact, slice, used, and who is active since when
    Status,
    /// Write `total` of the settings into the database
    Set {
        /// Also go on after the database was restored from a backup, when all members have reported
        #[arg(long)]
        restored: bool,
    },
    /// Release a member that is gone; without --spent, only show what is known about it
    Release {
        #[arg(value_name = "MEMBER")]
        member: String,
        /// Amount that the member spent of the total, in the unit of the group; the rest becomes
        /// free
        #[arg(long, value_name = "AMOUNT", value_parser = parse_amount)]
        spent: Option<Amount>,
        /// Number of another limit that the member used, as `shared status --json` names it
        #[arg(long = "used", value_name = "LIMIT=NUMBER", value_parser = parse_used)]
        used: Vec<(String, i64)>,
        /// Declare that the process of the member does not run
        #[arg(long)]
        stopped: bool,
    },
}

/// Failure of the command.
#[derive(Debug, thiserror::Error)]
pub enum SharedGroupError {
    #[error("there is no [shared] section in sniper.toml")]
    NoSection,
    #[error("{0:?} is not a limit; `sniper shared status --json` names them")]
    UnknownLimit(String),
    #[error("the shared budget cannot be used")]
    Store(#[from] SetError),
}

impl SharedGroupError {
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::NoSection => exit_code::CONFIG,
            Self::UnknownLimit(_) => exit_code::USAGE,
            Self::Store(SetError::Store(_)) => exit_code::UNAVAILABLE,
            Self::Store(_) => exit_code::FAILURE,
        }
    }
}

impl From<StoreError> for SharedGroupError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.into())
    }
}

fn parse_amount(text: &str) -> Result<Amount, String> {
    let amount = Amount::parse(text, Decimals::Three).map_err(|error| error.to_string())?;
    if amount < Amount::ZERO { Err("is negative".to_owned()) } else { Ok(amount) }
}

fn parse_used(text: &str) -> Result<(String, i64), String> {
    let (limit, number) = text.rsplit_once('=').ok_or("write LIMIT=NUMBER")?;
    let number = number.parse().ok().filter(|number| *number >= 0).ok_or("is not a number")?;
    Ok((limit.to_owned(), number))
}

/// Assumed maximum difference of the clocks of the database and of a market.
const CLOCK_MARGIN: Duration = Duration::from_secs(60);

/// Purchases of an account, as its market lists them, or why they must be looked up there.
type ListedPurchases = Result<Vec<OwnTrade>, String>;

/// Reads the purchases of a member's account since its last contact from the market.
///
/// # Errors
///
/// Returns the reason for which the settings of this machine do not permit that.
///
/// # Cancel safety
///
/// Safe: it only reads.
pub async fn listed_purchases<M: MarketApi>(
    api: M,
    config: &Config,
    member: &MemberStatus,
) -> ListedPurchases {
    let market = M::CAPABILITIES.name;
    if member.market != market {
        return Err(format!("the settings of this machine are for {market}"));
    }
    let failed = |failure: ReadFailure| Escaped(&failure.to_string()).to_string();
    let tls = Tls::from_config(config).map_err(|error| error_chain(&error))?;
    let credential = config.credential.as_ref();
    let reader = AccountReader::new(api, &config.endpoints.http, credential, &tls);
    let reader = reader.map_err(|error| error_chain(&error))?;
    let user = reader.current_user().await.map_err(failed)?.user;
    if convert::account_hash(market, &user.id) != member.account {
        return Err("the credentials of this machine are for another account".to_owned());
    }
    let since = UnixMs(clock::wall().minus(CLOCK_MARGIN).0.saturating_sub(member.silent_ms));
    let reading = reader.own_purchases(&user, LookBack::back_to(since)).await.map_err(failed)?;
    if let Some(reason) = reading.incomplete {
        return Err(Escaped(reason.cause().text()).to_string());
    }
    let is_later = |trade: &OwnTrade| trade.joined_at.is_none_or(|at| since <= at);
    Ok(reading.trades.into_iter().filter(is_later).collect())
}

/// Text and JSON of a result, and whether it is a success.
struct GroupReport {
    text: String,
    json: Value,
    is_success: bool,
}

/// Runs `sniper shared`.
///
/// # Errors
///
/// Returns an [`AppError`] if the settings are invalid, the database cannot be used, or the result
/// cannot be printed.
pub fn run(
    context: CommandContext<'_>,
    args: &SharedGroupArgs,
    listed: impl AsyncFn(&Config, &MemberStatus) -> ListedPurchases,
) -> Result<ExitCode, AppError> {
    let config = context.load()?.config;
    let report = block_on(async { Ok(run_command(&config, &args.command, listed).await?) })?;
    context.output.print(&report.text, || report.json)?;
    Ok(if report.is_success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn run_command(
    config: &Config,
    command: &SharedGroupCommand,
    listed: impl AsyncFn(&Config, &MemberStatus) -> ListedPurchases,
) -> Result<GroupReport, SharedGroupError> {
    let shared = config.shared.as_ref().ok_or(SharedGroupError::NoSection)?;
    let mut store = Store::new(shared, config.market.name())?;
    match command {
        SharedGroupCommand::Init => init(shared, &mut store).await,
        SharedGroupCommand::Status => {
            let status = store.status().await?;
            let group = Group { name: &shared.group, status: &status };
            let is_success = group.problems().is_empty();
            Ok(GroupReport { text: group.to_string(), json: group.to_json(), is_success })
        }
        SharedGroupCommand::Set { restored } => {
            let total = shared.total.thousandths();
            if *restored {
                store.end_restored(total).await?;
            } else {
                store.set_total(total).await?;
            }
            let status = store.status().await?;
            let group = Group { name: &shared.group, status: &status };
            Ok(GroupReport { text: group.to_string(), json: group.to_json(), is_success: true })
        }
        SharedGroupCommand::Release { member, spent, used, stopped } => {
            let mut limits = BTreeMap::new();
            for (name, number) in used {
                let limit = Limit::from_text(name);
                let limit = limit.ok_or_else(|| SharedGroupError::UnknownLimit(name.clone()))?;
                limits.insert(limit, *number);
            }
            let Some(spent) = spent else {
                return report_member(config, shared, &mut store, member, listed).await;
            };
            limits.insert(Limit::Total, spent.thousandths());
            store.release(member, &limits, *stopped).await?;
            let unit = shared.unit.name();
            Ok(GroupReport {
                text: format!("Released {}: {spent} {unit} count as spent.\n", Escaped(member)),
                json: json!({"mode": "shared release", "member": member, "spent": spent.to_string()}),
                is_success: true,
            })
        }
    }
}

async fn init(shared: &SharedConfig, store: &mut Store) -> Result<GroupReport, SharedGroupError> {
    let term_ms = i64::try_from(shared.term.as_millis()).unwrap_or(i64::MAX);
    let done = store.initialize(shared.total.thousandths(), term_ms).await?;
    let status = store.status().await?;
    let (group, unit) = (&shared.group, &status.unit);
    let total = Amount::from_thousandths(status.total);
    let text = match done {
        Initialized::Created => {
            format!("Created the group {group} with a total of {total} {unit}.\n")
        }
        Initialized::Exists if total == shared.total => {
            format!("The group {group} exists already, with a total of {total} {unit}.\n")
        }
        Initialized::Exists => format!(
            "The group {group} exists already, with a total of {total} {unit}. To set it to {}, run \
             `sniper shared set`.\n",
            shared.total
        ),
    };
    let json = json!({
        "mode": "shared init",
        "group": group,
        "created": done == Initialized::Created,
        "total": total.to_string(),
        "unit": unit,
    });
    Ok(GroupReport { text, json, is_success: true })
}

/// Shows what the database and the market know about a member, so that the user can state its
/// spending.
async fn report_member(
    config: &Config,
    shared: &SharedConfig,
    store: &mut Store,
    member: &str,
    listed: impl AsyncFn(&Config, &MemberStatus) -> ListedPurchases,
) -> Result<GroupReport, SharedGroupError> {
    let status = store.status().await?;
    let found = status.members.iter().find(|it| it.name.0 == member);
    let found = found.ok_or_else(|| SetError::NoMember(member.to_owned()))?;
    let orders = store.member_orders(member).await?;
    let reported = store.orders(&found.account, i64::MAX).await?.into_iter();
    let counting = reported.filter(|(_member, order)| order.state.counts());
    let reported: HashSet<TradeId> = counting.map(|(_member, order)| order.key.id).collect();
    // The restore counts as the last contact of every member.
    let mut unreported = if status.is_restored {
        Err("the database was restored, so the last contact is not known".to_owned())
    } else {
        listed(config, found).await
    };
    if let Ok(trades) = &mut unreported {
        trades.retain(|trade| !reported.contains(&trade.id));
    }
    let report = MemberReport {
        shared,
        member: found,
        orders: &orders,
        unreported: &unreported,
        unit: &status.unit,
    };
    let purchase = |trade: &OwnTrade| {
        let price = trade.price.map(|price| price.to_string());
        json!({"listing": trade.id.as_str(), "status": trade.status.as_str(), "price": price})
    };
    let json = json!({
        "mode": "shared release",
        "group": shared.group,
        "member": member_json(found),
        "orders": orders.iter().map(order_json).collect::<Vec<_>>(),
        "unreported": unreported.as_ref().ok().map(|it| it.iter().map(purchase).collect::<Vec<_>>()),
        "unreported_problem": unreported.as_ref().err(),
        "released": false,
    });
    Ok(GroupReport { text: report.to_string(), json, is_success: false })
}

/// Report of a member that may be released, as the database and its market have it.
struct MemberReport<'a> {
    member: &'a MemberStatus,
    orders: &'a [OrderStatus],
    /// Purchases since its last contact that no member of its account has reported.
    unreported: &'a ListedPurchases,
    shared: &'a SharedConfig,
    unit: &'a str,
}

impl fmt::Display for MemberReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { member, orders, unreported, shared, unit } = self;
        let total = total_of(member);
        let name = &member.name.0;
        writeln!(f, "{name} on {}, last contact {} ago", member.market, silent(member))?;
        writeln!(f, "  slice       {} {unit}", amount(total.slice))?;
        writeln!(f, "  reported    {} {unit} used", amount(total.used))?;
        let rest = total.slice.saturating_sub(total.used);
        writeln!(f, "  unreported  at most {} {unit}", amount(rest))?;
        for (limit, row) in member.limits.iter().filter(|(limit, _)| **limit != Limit::Total) {
            let limit = limit.to_string();
            write!(f, "  {}  slice {}, used {}", Escaped(&limit), row.slice, row.used)?;
            if row.used < row.slice {
                let quoted = limit.replace('\'', r"'\''");
                write!(f, "; to free the rest: --used '{}={}'", Escaped(&quoted), row.used)?;
            }
            writeln!(f)?;
        }
        if !orders.is_empty() {
            let count = counted(orders.len(), "order", "orders");
            writeln!(f, "  {count} that may have been charged, newest first:")?;
        }
        for order in *orders {
            let (listing, price) = (Escaped(&order.listing), amount(order.price));
            writeln!(f, "    {:>6}  {:<10} {price:>10}  {listing}", order.number, order.state)?;
        }
        let mut least = total.used;
        match unreported {
            Ok(trades) => {
                let count = counted(trades.len(), "purchase", "purchases");
                writeln!(
                    f,
                    "  {count} since its last contact, listed by the market but not reported:"
                )?;
                for OwnTrade { id, status, price, commission, .. } in trades {
                    let charged = if status.gives_back() { commission } else { price };
                    least = least.saturating_add(charged.map_or(0, |it| shared.to_group(it)));
                    let price = price.map_or_else(|| "unreadable".to_owned(), |it| it.to_string());
                    writeln!(f, "    {status:<19} {price:>10}  {}", Escaped(id.as_str()))?;
                }
            }
            Err(reason) => writeln!(f, "  Look its purchases up on the market: {reason}.")?,
        }
        writeln!(
            f,
            "Nothing was changed. To release it, run:\n  sniper shared release {name} --spent AMOUNT\n\
             with all that it spent since it joined the group, at least {}, and with --used for other \
             limits, with what it used or more; without it, they keep the slice. Add --stopped if its \
             last contact was less than 66 min ago and its process does not run.",
            amount(least)
        )
    }
}

/// A group with its name.
struct Group<'a> {
    name: &'a str,
    status: &'a GroupStatus,
}

impl Group<'_> {
    /// Returns the problems that need the user.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.status.is_restored {
            problems.push(
                "The database was restored from a backup, so slices may be lost and no member orders. \
                 When all members have reported, run `sniper shared set --restored`."
                    .to_owned(),
            );
        }
        let free = self.status.free();
        if free < 0 {
            problems.push(format!(
                "The slices exceed the total by {}: it was lowered, or a member spent more than it was \
                 released with.",
                amount(free.saturating_neg())
            ));
        }
        problems
    }

    fn to_json(&self) -> Value {
        let status = self.status;
        let roles = status.roles.iter().map(|role| {
            json!({
                "standby": role.standby,
                "active": role.role.active.0,
                "epoch": role.role.epoch,
                "since_ms": role.role.since_ms,
                "renewed_ago_ms": role.renewed_ago_ms,
                "resigned": role.role.is_resigned,
            })
        });
        json!({
            "mode": "shared status",
            "group": self.name,
            "unit": status.unit,
            "total": amount(status.total),
            "used": amount(status.used()),
            "free": amount(status.free()),
            "term_ms": status.term_ms,
            "sequence": status.sequence,
            "restored": status.is_restored,
            "members": status.members.iter().map(member_json).collect::<Vec<_>>(),
            "standbys": roles.collect::<Vec<_>>(),
            "problems": self.problems(),
        })
    }

    /// Returns the role that a member has, or was the last to have.
    fn role_of(&self, member: &MemberStatus) -> Option<&RoleStatus> {
        let standby = member.standby.as_ref()?;
        let mut roles = self.status.roles.iter();
        roles.find(|role| role.standby == *standby && role.role.active == member.name)
    }

    fn state_of(&self, member: &MemberStatus) -> String {
        if member.is_released {
            return "released".to_owned();
        }
        let Some(standby) = &member.standby else {
            return if member.can_order { "" } else { "does not order" }.to_owned();
        };
        let standby = Escaped(standby);
        let Some(role) = self.role_of(member) else { return format!("standby for {standby}") };
        let since = format_local(UnixMs(role.role.since_ms));
        let state = if role.role.is_resigned {
            "resigned"
        } else if role.renewed_ago_ms > self.status.term_ms {
            "term ended"
        } else if !member.can_order {
            "active, but does not order,"
        } else {
            "active"
        };
        format!("{state} for {standby}, since {since}")
    }

    /// Returns a heading and the line of each of these members.
    fn table<'m>(&self, members: impl Iterator<Item = &'m MemberStatus>) -> Vec<String> {
        let line = |[name, slice, used, seen, state]: [&str; 5]| {
            let line = format!("{name:<28} {slice:>10} {used:>10}  {seen:<14} {state}");
            line.trim_end().to_owned()
        };
        let mut lines = vec![line(["member", "slice", "used", "last contact", "state"])];
        lines.extend(members.map(|member| {
            let (total, name) = (total_of(member), Escaped(&member.name.0).to_string());
            let seen = format!("{} ago", silent(member));
            line([&name, &amount(total.slice), &amount(total.used), &seen, &self.state_of(member)])
        }));
        lines
    }

    /// Describes the group in one line, and its members below: active ones first, and released ones
    /// last.
    fn summary(&self, address: &DatabaseUrl) -> String {
        let (status, unit) = (self.status, &self.status.unit);
        let count = counted(status.members.len(), "member", "members");
        let [total, used, free] = [status.total, status.used(), status.free()].map(amount);
        let (name, used) = (self.name, format!("{used} of {total} {unit} used"));
        let group = format!("group {name}, {count}, {used}, {free} {unit} free, at {address}");
        let mut members: Vec<&MemberStatus> = status.members.iter().collect();
        members.sort_by_key(|member| (member.is_released, self.role_of(member).is_none()));
        let more = more_members(members.len().saturating_sub(MEMBERS_SHOWN_MAX));
        members.truncate(MEMBERS_SHOWN_MAX);
        let table = (!members.is_empty()).then(|| self.table(members.into_iter()));
        let lines = [group].into_iter().chain(table.into_iter().flatten()).chain(more);
        lines.collect::<Vec<_>>().join("\n")
    }
}

impl fmt::Display for Group<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (status, unit) = (self.status, &self.status.unit);
        let [total, used, free] = [status.total, status.used(), status.free()].map(amount);
        writeln!(f, "Group {}: total {total} {unit}, used {used}, free {free}", self.name)?;
        for problem in self.problems() {
            writeln!(f, "Warning: {problem}")?;
        }
        if status.members.is_empty() {
            return writeln!(f, "No member yet: start a bot with these settings.");
        }
        self.table(status.members.iter()).iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

fn total_of(member: &MemberStatus) -> LimitRow {
    member.limits.get(&Limit::Total).copied().unwrap_or_default()
}

fn amount(units: i64) -> String {
    Amount::from_thousandths(units).to_string()
}

fn silent(member: &MemberStatus) -> String {
    format_duration(Duration::from_millis(u64::try_from(member.silent_ms).unwrap_or(0)))
}

fn member_json(member: &MemberStatus) -> Value {
    let limits = member.limits.iter().map(
        |(limit, row)| json!({"limit": limit.to_string(), "slice": row.slice, "used": row.used}),
    );
    let total = total_of(member);
    json!({
        "name": member.name.0,
        "market": member.market,
        "standby": member.standby,
        "silent_ms": member.silent_ms,
        "released": member.is_released,
        "can_order": member.can_order,
        "slice": amount(total.slice),
        "used": amount(total.used),
        "limits": limits.collect::<Vec<_>>(),
    })
}

fn order_json(order: &OrderStatus) -> Value {
    json!({
        "number": order.number,
        "listing": order.listing,
        "state": order.state,
        "price": amount(order.price),
    })
}

/// Reads the group for `doctor`, and returns a description of it and its members.
pub(super) async fn check(config: &Config) -> Result<String, StepProblem> {
    let Some(shared) = &config.shared else { return Ok("no [shared] budget".to_owned()) };
    let failed = |error: StoreError| {
        let remedy = match error {
            StoreError::NoGroup | StoreError::NoSchema | StoreError::OlderSchema { .. } => {
                "run `sniper shared init`"
            }
            StoreError::NewerSchema { .. } => "update sniper",
            StoreError::Unit { .. } => "correct `unit` in [shared]",
            _ => "check the address in .env, the database and the network",
        };
        StepProblem { detail: error_chain(&error), remedy }
    };
    let mut store = Store::new(shared, config.market.name()).map_err(failed)?;
    let status = store.status().await.map_err(failed)?;
    let group = Group { name: &shared.group, status: &status };
    if let Some(problem) = group.problems().into_iter().next() {
        return Err(StepProblem { detail: problem, remedy: "run `sniper shared status`" });
    }
    let own = status.members.iter().find(|member| member.name.0 == shared.member);
    if own.is_some_and(|own| own.is_released) {
        let detail = format!("the member {} was released", shared.member);
        return Err(StepProblem { detail, remedy: "set another `member` in [shared]" });
    }
    if status.total != shared.total.thousandths() {
        let (total, ours) = (amount(status.total), shared.total);
        let detail = format!("the database's total is {total}, and `total` in [shared] is {ours}");
        return Err(StepProblem { detail, remedy: "run `sniper shared set`, or correct `total`" });
    }
    let term = Duration::from_millis(status.term_ms.max(0).unsigned_abs());
    if term != shared.term {
        let [term, ours] = [term, shared.term].map(format_duration);
        let detail = format!("the term of the group is {term}, and `term_s` in [shared] is {ours}");
        let remedy = "correct `term_s`; the term of a group never changes";
        return Err(StepProblem { detail, remedy });
    }
    Ok(group.summary(&shared.url))
}
