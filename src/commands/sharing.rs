//! Background thread of a shared budget: it carries the state of the ledger to the database and the
//! permissions back, and is the only part of a session that waits for the database.
//!
//! Each round gives the engine its permission, reads in the same step the use of the limits, and
//! sends an exchange if one is due. The engine never waits for it: without a further round, a
//! permission ends by itself.

mod seen_file;

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use self::seen_file::SEEN_FILE;
use super::AppError;
#[cfg(feature = "shared")]
use crate::shared::store::Store;
use crate::{
    alerts::{AlertEvent, AlertSender},
    clock,
    config::{Config, Mode, shared::SharedConfig},
    domain::{
        money::Amount,
        time::{UnixMs, format_duration},
        whitelist_entry::WhitelistEntry,
    },
    execution::OrderClient,
    ledger::{
        Allowance, OrderState, SharedUsage,
        allowance::{OrderPermit, SHARED_ENTRIES_MAX},
        shared_status::{ACTIVE, MEMBERS_SHOWN_MAX, STANDBY, SharedMember},
        status::SharedStatus,
    },
    markets::Marketplace,
    net::deadline::timeout,
    shared::{
        convert::{self, GroupView, Holdings},
        database::LIVE_MS,
        exchange::{Exchange, Limit, MemberName, Reply, ReportedOrder, Role},
        exchanger::{ExchangeError, Exchanger, MemoryGroup},
        member::{Member, MemberSettings, MemberState, Permission, Report},
        split,
    },
    sniper::{
        Engine, Now, Sniper,
        sharing::{OwnsListing, SharedReport, SharedUpdate, Takeover},
    },
    text::counted,
    threads::{Alarm, ThreadGuard, ThreadName, priority, wait_for_failpoint},
};

const WHAT: &str = "the thread of the shared budget";
/// Maximum number of updates that wait for the engine.
const UPDATES_QUEUED_MAX: usize = 1;
/// Interval at which the usage of the slices is read.
const USAGE_INTERVAL: Duration = Duration::from_millis(500);
/// Minimum interval, as while an exchange waits until the ledger obeys.
const OBEY_INTERVAL: Duration = Duration::from_millis(10);
/// Interval at which the engine is asked for the account until it is known.
const ACCOUNT_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum time of an exchange of a bot without standbys.
const EXCHANGE_MAX: Duration = Duration::from_secs(3);
/// Time without contact after which it is reported.
const REPORTED_AFTER_MS: i64 = if cfg!(test) { 100 } else { 10_000 };
/// Maximum time from the first contact to the first slice.
const FIRST_SLICE_MS: i64 = 5_000;
/// Time after which a bot that cannot order, such as a paused one, leaves its unused slice to
/// others. Within it, a bot that only waits for a read of its account keeps the slice.
const IDLE_AFTER_MS: i64 = if cfg!(test) { 100 } else { 10_000 };
/// Maximum time to give the slice back when the session stops.
const STOP_MAX: Duration = Duration::from_secs(5);
/// Maximum number of unreported orders. The oldest are dropped first.
const UNREPORTED_MAX: usize = 65_536;
/// Maximum number of limits that a text about a takeover names.
const LIMITS_NAMED_MAX: usize = 5;

/// What the thread needs to know of the session.
struct SharingSettings {
    config: SharedConfig,
    market: &'static str,
    /// Id of the ledger.
    ledger: String,
    /// Folder of the ledger.
    data_dir: PathBuf,
    alerts: AlertSender,
    alarm: Alarm,
}

/// Handle of the thread. Dropping it stops the thread.
#[derive(Debug)]
pub(super) struct SharingThread {
    stop: oneshot::Sender<()>,
}

impl SharingThread {
    /// Gives the unused slice and the role back, and ends the thread. Waits at most [`STOP_MAX`]
    /// for the database. The engine must have stopped ordering.
    ///
    /// # Cancel safety
    ///
    /// Safe: the thread ends with the updates.
    pub(super) async fn finish(self, sniper: &Sniper, mut updates: mpsc::Receiver<SharedUpdate>) {
        // The thread may have ended.
        let _ended = self.stop.send(()).is_err();
        let serve = async {
            while let Some(update) = updates.recv().await {
                sniper.with_engine(|engine| engine.on_shared_update(update, Now::read()));
            }
        };
        if timeout(STOP_MAX, serve).await.is_err() {
            warn!("The slice of the shared budget was not given back: the database did not answer");
        }
    }
}

/// Parts of a session whose budget is shared.
pub(super) type SharingParts = (SharingThread, mpsc::Receiver<SharedUpdate>);

/// Shares the budget of a live session with other bots, if the settings say so. `group` replaces
/// the database of the settings.
///
/// # Errors
///
/// Returns [`AppError::Start`] if the whitelist has too many names, or the thread cannot be
/// started.
pub(super) fn share<M: Marketplace>(
    config: &Config,
    engine: &mut Engine<Arc<OrderClient>>,
    (alerts, alarm): (AlertSender, &Alarm),
    group: Option<MemoryGroup>,
) -> Result<Option<SharingParts>, AppError> {
    if config.mode != Mode::Live {
        return Ok(None);
    }
    let Some(shared) = &config.shared else {
        // A ledger that was shared before is alone with the account again.
        engine.ledger().set_account_shared(false, Now::read().wall);
        return Ok(None);
    };
    check_names(&config.whitelist)?;
    if clock::uptime_ms().is_none() {
        let message = "it needs a clock that includes suspends, which this system does not have";
        return Err(AppError::start(WHAT, message));
    }
    let market = M::CAPABILITIES.name;
    let exchanger: Box<dyn Exchanger> = match group {
        Some(group) => Box::new(group),
        None => open_store(shared, market)?,
    };
    let ledger = engine.ledger().id().unwrap_or_default().to_owned();
    engine.share(&shared.group, shared.standby.is_some(), Now::read());
    let settings = SharingSettings {
        config: shared.clone(),
        market,
        ledger,
        data_dir: config.data_dir.clone(),
        alerts,
        alarm: alarm.clone(),
    };
    start(settings, exchanger).map(Some)
}

#[cfg(feature = "shared")]
fn open_store(config: &SharedConfig, market: &str) -> Result<Box<dyn Exchanger>, AppError> {
    let store = Store::new(config, market).map_err(|error| AppError::start(WHAT, error))?;
    Ok(Box::new(store))
}

#[cfg(not(feature = "shared"))]
fn open_store(_config: &SharedConfig, _market: &str) -> Result<Box<dyn Exchanger>, AppError> {
    Err(AppError::start(WHAT, "this program was built without the feature `shared`"))
}

/// Checks that the limits of every named entry and group can be shared.
pub(super) fn check_names(entries: &[WhitelistEntry]) -> Result<(), AppError> {
    let names: HashSet<&str> = entries.iter().filter_map(|entry| entry.name.as_deref()).collect();
    let groups: HashSet<&str> = entries.iter().filter_map(WhitelistEntry::group_name).collect();
    if names.len().max(groups.len()) <= SHARED_ENTRIES_MAX {
        return Ok(());
    }
    let message = format!(
        "a shared budget allows at most {SHARED_ENTRIES_MAX} named entries and as many groups"
    );
    Err(AppError::start(WHAT, message))
}

/// Starts the thread. Returns the updates for the engine.
fn start(
    settings: SharingSettings,
    exchanger: Box<dyn Exchanger>,
) -> Result<(SharingThread, mpsc::Receiver<SharedUpdate>), AppError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| AppError::start(WHAT, error))?;
    let (updates, receiver) = mpsc::channel(UPDATES_QUEUED_MAX);
    let (stop, stopped) = oneshot::channel();
    let guard = ThreadGuard::new(ThreadName::Sharing, settings.alarm.clone());
    let work = move || {
        priority::lower(ThreadName::Sharing);
        let task = SharingTask::new(settings, exchanger, updates);
        runtime.block_on(async {
            tokio::select! {
                () = task.run(stopped, guard) => {}
                () = wait_for_failpoint(ThreadName::Sharing) => {}
            }
        });
    };
    thread::Builder::new()
        .name(ThreadName::Sharing.to_string())
        .spawn(work)
        .map_err(|error| AppError::start(WHAT, error))?;
    Ok((SharingThread { stop }, receiver))
}

struct SharingTask {
    settings: SharingSettings,
    exchanger: Box<dyn Exchanger>,
    updates: mpsc::Sender<SharedUpdate>,
    /// Hash of the account, once it is known.
    account: String,
    usage: Option<SharedUsage>,
    /// Orders whose current state is not in the database.
    unreported: BTreeMap<u32, ReportedOrder>,
    takeover: Option<Takeover>,
    role: Option<Role>,
    /// Last other active member of the standby name.
    before: Option<MemberName>,
    /// Term of the group.
    term: Duration,
    contact: Contact,
    state: MemberState,
    /// Text about a bot with the same account.
    problem: Option<String>,
    /// Bot with another whitelist, as last logged.
    unlike: Option<MemberName>,
    /// Since when this bot has the role without the orders of the bot before, with the text about
    /// it once it was reported.
    takeover_failing: Option<(i64, Option<String>)>,
    seen: u64,
    /// Last revision of a permission that the ledger obeyed, also in case of a power loss.
    in_force: u64,
    /// `true` if the file with `seen` could not be written.
    is_seen_outdated: bool,
    first_contact: Option<i64>,
    has_had_slice: bool,
    /// Time since which the engine cannot order.
    idle_since: Option<i64>,
    holdings: Holdings,
}

/// Contact with the database.
#[derive(Default)]
struct Contact {
    exchanges: u64,
    failures: u64,
    error: Option<String>,
    /// Start of the failures since the last success.
    failing_since: Option<i64>,
    is_reported: bool,
}

/// Request to stop, which stays readable after it was received.
struct Stop {
    requested: oneshot::Receiver<()>,
    is_requested: bool,
}

impl Stop {
    /// Waits for this time, or until the stop is requested.
    async fn sleep(&mut self, time: Duration) {
        if self.is_requested {
            return tokio::time::sleep(time).await;
        }
        tokio::select! {
            _dropped = &mut self.requested => self.is_requested = true,
            () = tokio::time::sleep(time) => {}
        }
    }

    fn is_requested(&mut self) -> bool {
        self.is_requested |=
            !matches!(self.requested.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        self.is_requested
    }
}

impl SharingTask {
    fn new(
        settings: SharingSettings,
        exchanger: Box<dyn Exchanger>,
        updates: mpsc::Sender<SharedUpdate>,
    ) -> Self {
        Self {
            term: settings.config.term,
            settings,
            exchanger,
            updates,
            account: String::new(),
            usage: None,
            unreported: BTreeMap::new(),
            takeover: None,
            role: None,
            before: None,
            contact: Contact::default(),
            state: MemberState::NoContact,
            problem: None,
            unlike: None,
            takeover_failing: None,
            seen: 0,
            in_force: 0,
            is_seen_outdated: false,
            first_contact: None,
            has_had_slice: false,
            idle_since: None,
            holdings: Holdings::default(),
        }
    }

    /// Runs until the engine is gone, or until the slice was given back after the stop.
    async fn run(mut self, stopped: oneshot::Receiver<()>, guard: ThreadGuard) {
        let mut stop = Stop { requested: stopped, is_requested: false };
        self.exchange_until(&mut stop).await;
        if stop.is_requested() || self.updates.is_closed() {
            guard.finished();
        }
    }

    async fn exchange_until(&mut self, stop: &mut Stop) {
        let Some(mut member) = self.join(stop).await else { return };
        loop {
            if stop.is_requested() {
                member.stop();
            }
            let now = clock::now().0;
            let permission = member.usable(now);
            self.report_state(&permission);
            self.report_same_account(member.same_account());
            self.report_other_whitelist(member.other_whitelist());
            let permission = self.take_over(&mut member, permission).await;
            let Some(report) = self.update_engine(&member, &permission).await else { return };
            if let Some(exchange) = member.next(&report, clock::now().0) {
                self.exchange(&mut member, &exchange).await;
                continue;
            }
            if member.is_stopped() {
                return;
            }
            let wait = member.next_at().saturating_sub(clock::now().0).max(0);
            let wait = Duration::from_millis(u64::try_from(wait).unwrap_or(u64::MAX));
            stop.sleep(wait.clamp(OBEY_INTERVAL, USAGE_INTERVAL)).await;
        }
    }

    /// Waits until the account is known. Returns `None` if the session ends before.
    async fn join(&mut self, stop: &mut Stop) -> Option<Member> {
        let account = loop {
            if stop.is_requested() {
                return None;
            }
            let status = self.status_of("starting");
            let report = self.send((Box::default(), None), (None, status)).await?;
            self.take_usage(report.usage);
            if let Some(account) = report.account {
                break account;
            }
            stop.sleep(ACCOUNT_INTERVAL).await;
        };
        let SharingSettings { config, market, ledger, .. } = &self.settings;
        self.account = convert::account_hash(market, &account);
        self.seen = seen_file::read(&self.settings.data_dir, &self.settings.config.group);
        Some(Member::new(MemberSettings {
            name: MemberName(config.member.clone()),
            ledger: ledger.clone(),
            market: (*market).to_owned(),
            account: self.account.clone(),
            standby: config.standby.clone(),
            seen: self.seen,
        }))
    }

    /// Reads the orders of the account's other bots when this one becomes active. Until that has
    /// succeeded, it stays on standby.
    async fn take_over(&mut self, member: &mut Member, permission: Permission) -> Permission {
        let Some(epoch) = permission.epoch else {
            if permission.state == MemberState::Standby && self.takeover.take().is_some() {
                // Listings wait for the slices of the next takeover, too.
                (self.has_had_slice, self.first_contact) = (false, None);
                self.alert_role(|standby| AlertEvent::OnStandby { standby });
            }
            return permission;
        };
        if self.takeover.as_ref().is_some_and(|takeover| takeover.epoch == epoch) {
            return permission;
        }
        let own = MemberName(self.settings.config.member.clone());
        let limit = self.exchange_max();
        let failure = match timeout(limit, self.exchanger.orders(&self.account)).await {
            Ok(Ok(orders)) => {
                let before = self.spent_before(member, &orders);
                info!("Took over. {before}");
                let others = orders.into_iter().filter(|(member, _order)| *member != own);
                let ordered = others.map(|(_member, order)| (order.key.id, order.state)).collect();
                self.takeover = Some(Takeover { epoch, ordered });
                self.takeover_failing = None;
                self.alert_role(|standby| AlertEvent::TookOver { standby, before });
                return permission;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_elapsed) => "the database did not answer in time".to_owned(),
        };
        warn!(
            "Active, but still on standby until the orders of the bot before are read: {failure}"
        );
        let (since, reported) = self.takeover_failing.take().unwrap_or((clock::now().0, None));
        let is_due = REPORTED_AFTER_MS <= clock::now().0.saturating_sub(since);
        let text = reported.or_else(|| {
            let text = is_due.then(|| {
                format!(
                    "This bot has the role and sends no orders until it can read those of the bot \
                     before: {failure}"
                )
            })?;
            self.report_problem("Takeover incomplete", text.clone());
            Some(text)
        });
        self.takeover_failing = Some((since, text));
        self.contact.error = Some(failure);
        member.on_lost_connection();
        Permission { state: MemberState::Standby, epoch: None, ..permission }
    }

    fn alert_role(&self, event: impl FnOnce(String) -> AlertEvent) {
        if let Some(standby) = self.settings.config.standby.clone() {
            self.settings.alerts.emit(|| event(standby));
        }
    }

    /// Describes the amount that the active bot before this one may have spent.
    fn spent_before(&self, member: &Member, orders: &[(MemberName, ReportedOrder)]) -> String {
        let peer = member.peers().find(|peer| Some(&peer.name) == self.before.as_ref());
        let Some(peer) = peer else { return "No other bot was active before.".to_owned() };
        let is_open =
            |state| matches!(state, OrderState::Reserved | OrderState::Sent | OrderState::Unknown);
        let open = orders.iter().filter(|(name, order)| *name == peer.name && is_open(order.state));
        let open: Vec<Amount> = open.map(|(_name, order)| order.price).collect();
        let sum = open.iter().fold(Amount::ZERO, |sum, price| sum.saturating_add(*price));
        let [slice, used] = [peer.slice, peer.used].map(Amount::from_thousandths);
        let mut used_up: Vec<String> = member.exhausted().map(Limit::to_string).collect();
        let others = used_up.len().saturating_sub(LIMITS_NAMED_MAX);
        used_up.truncate(LIMITS_NAMED_MAX);
        let used_up = match (used_up.join(", "), others) {
            (names, 0) if names.is_empty() => String::new(),
            (names, 0) => format!(" Nothing is left of {names}."),
            (names, others) => format!(" Nothing is left of {names} and {others} other limits."),
        };
        format!(
            "{} keeps its slice of {slice} {}: it has reported {used} as used, {} of {sum} without a \
             known outcome, and may have spent the rest without a report.{used_up}",
            peer.name.0,
            self.settings.config.unit.name(),
            counted(open.len(), "order", "orders"),
        )
    }

    /// Reports that the database rejects this bot, or that it may order no longer.
    fn report_state(&mut self, permission: &Permission) {
        let before = std::mem::replace(&mut self.state, permission.state.clone());
        if before == self.state {
            return;
        }
        match &self.state {
            MemberState::Rejected(rejection) => {
                let reason = convert::rejection_text(rejection);
                error!("Shared budget rejected this bot, sending no orders: {reason}");
                self.settings.alerts.emit(|| AlertEvent::SharedRejected { reason });
            }
            MemberState::NoContact if before == MemberState::Active => {
                let cause = self.contact.error.as_deref().unwrap_or("no answer");
                let text = format!(
                    "No order is sent until the database of the shared budget answers again: {cause}. \
                     What to do: check the database, and the network to it"
                );
                self.report_problem("No contact with the shared database", text);
            }
            _ if matches!(before, MemberState::Rejected(_)) => {
                info!("Shared budget accepts this bot again");
            }
            _ => {}
        }
    }

    fn report_same_account(&mut self, other: Option<&MemberName>) {
        let problem = other.map(|MemberName(other)| {
            format!(
                "{other} orders with the same account. What to do: give both the same `standby` in \
                 [shared], or stop one of them"
            )
        });
        if problem != self.problem {
            self.problem.clone_from(&problem);
            let report = |text| self.report_problem("Two bots on one account", text);
            problem.into_iter().for_each(report);
        }
    }

    fn report_other_whitelist(&mut self, other: Option<&MemberName>) {
        if self.unlike.as_ref() != other {
            self.unlike = other.cloned();
            if let Some(MemberName(other)) = other {
                warn!(
                    "The whitelist of {other} differs, so both order the listings that both want, and \
                     one of the orders is rejected"
                );
            }
        }
    }

    fn report_problem(&self, title: &'static str, text: String) {
        error!("{title}: {text}");
        self.settings.alerts.emit(|| AlertEvent::SharedProblem { title, text });
    }

    /// Gives the engine its permission, and reads the use of the limits. Returns `None` if the
    /// engine is gone.
    async fn update_engine(&mut self, member: &Member, permission: &Permission) -> Option<Report> {
        let mut allowance =
            convert::allowance(&self.settings.config, permission, self.usage.as_ref());
        if matches!(allowance.permit, OrderPermit::Until(until) if clock::now() < until)
            && !self.has_slice(permission, &allowance)
        {
            allowance.permit = OrderPermit::Starting;
        }
        let owns = self.owns(permission);
        let status = self.status(member, permission);
        let takeover = permission.epoch.and(self.takeover.clone());
        let report = self.send((Box::new(allowance), owns), (takeover, status)).await?;
        self.take_usage(report.usage);
        let (can_order, whitelist, now) = (report.can_order, report.whitelist, clock::now().0);
        self.idle_since = self.idle_since.or(Some(now)).filter(|_since| !report.needs_slice);
        let is_idle = self.idle_since.is_some_and(|at| IDLE_AFTER_MS <= now.saturating_sub(at));
        if report.is_durable {
            self.in_force = permission.revision;
        }
        let used = self.usage.as_ref()?;
        let slice = permission.slices.get(&Limit::Total).copied().unwrap_or_default();
        let view = GroupView {
            free: member.free().unwrap_or_default(),
            slice,
            others: member.others().clone(),
            is_standby: is_idle || !member.may_order_soon(now),
        };
        let denied = report.denied.iter().filter_map(|(limit, entry, group)| {
            convert::limit(*limit, entry.as_deref(), group.as_deref())
        });
        let denied: Vec<Limit> = denied.collect();
        let mut usage = convert::usage(&self.settings.config, used, &view);
        self.holdings.adjust(&mut usage, &denied, &view.others, now);
        Some(Report {
            usage,
            orders: self
                .unreported
                .values()
                .rev()
                .take(crate::shared::exchange::REPORTS_MAX)
                .cloned()
                .collect(),
            in_force: self.in_force,
            can_order,
            is_idle,
            // The database has signed numbers.
            whitelist: whitelist >> 1,
            approved: used.approved,
        })
    }

    /// Returns `true` from the first slice on, or if none came in time. Before, listings wait.
    fn has_slice(&mut self, permission: &Permission, allowance: &Allowance) -> bool {
        if !self.has_had_slice {
            let now = clock::now().0;
            let first = permission.contact_ms.map(|at| *self.first_contact.get_or_insert(at));
            let is_late = first.is_some_and(|first| FIRST_SLICE_MS <= now.saturating_sub(first));
            self.has_had_slice = is_late || Amount::ZERO < allowance.total;
        }
        self.has_had_slice
    }

    async fn send(
        &self,
        (allowance, owns): (Box<Allowance>, Option<OwnsListing>),
        (takeover, status): (Option<Takeover>, SharedStatus),
    ) -> Option<SharedReport> {
        let (reply, report) = oneshot::channel();
        let update = SharedUpdate { allowance, owns, takeover, status, reply };
        self.updates.send(update).await.ok()?;
        report.await.ok()
    }

    fn take_usage(&mut self, usage: SharedUsage) {
        let changed = usage.changed.iter().filter_map(convert::order_record);
        self.unreported.extend(changed.map(|order| (order.sequence, order)));
        while self.unreported.len() > UNREPORTED_MAX {
            self.unreported.pop_first();
        }
        self.usage = Some(usage);
    }

    /// Returns which listings this bot orders, if the market's listings are split.
    fn owns(&self, permission: &Permission) -> Option<OwnsListing> {
        let accounts = permission.accounts.clone();
        if accounts.len() < 2 {
            return None;
        }
        let own = self.account.clone();
        Some(Box::new(move |id| split::owner(id, &accounts) == Some(own.as_str())))
    }

    /// Returns the maximum time of an exchange: an active bot must be able to try again within its
    /// term.
    fn exchange_max(&self) -> Duration {
        match self.settings.config.standby {
            Some(_) => (self.term * 2 / 5).clamp(Duration::from_secs(1), EXCHANGE_MAX),
            None => EXCHANGE_MAX,
        }
    }

    async fn exchange(&mut self, member: &mut Member, exchange: &Exchange) {
        self.contact.exchanges = self.contact.exchanges.saturating_add(1);
        let limit = self.exchange_max();
        let done = timeout(limit, self.exchanger.exchange(exchange)).await;
        let now = clock::now().0;
        let late = || Err(ExchangeError("the database did not answer in time".to_owned()));
        match done.unwrap_or_else(|_elapsed| late()) {
            Ok(reply) => {
                self.on_contact(now);
                self.on_reply(&reply);
                if member.on_reply(exchange, &reply, now) {
                    for order in &exchange.orders {
                        if self.unreported.get(&order.sequence) == Some(order) {
                            self.unreported.remove(&order.sequence);
                        }
                    }
                }
                if self.seen != member.seen() {
                    self.seen = member.seen();
                    self.write_seen();
                }
            }
            Err(error) => {
                member.on_failure(exchange);
                self.on_failure(error.to_string(), now);
            }
        }
    }

    fn on_reply(&mut self, reply: &Reply) {
        if let Reply::Done(confirmed) | Reply::Stale(confirmed) = reply {
            self.role.clone_from(&confirmed.role);
            self.term = Duration::from_millis(confirmed.term_ms.max(0).unsigned_abs());
            let active = self.role.as_ref().map(|role| &role.active);
            let before = active.filter(|active| active.0 != self.settings.config.member);
            if before.is_some() {
                self.takeover_failing = None;
            }
            self.before = before.or(self.before.as_ref()).cloned();
        }
    }

    fn on_contact(&mut self, now: i64) {
        let Contact { failing_since, is_reported, error, .. } = &mut self.contact;
        *error = None;
        let since = failing_since.take();
        if std::mem::take(is_reported) {
            let after = now.saturating_sub(since.unwrap_or(now));
            let after = Duration::from_millis(u64::try_from(after).unwrap_or_default());
            info!("Shared budget reachable again after {}", format_duration(after));
            self.settings.alerts.emit(|| AlertEvent::SharedBack { after });
        }
    }

    fn on_failure(&mut self, cause: String, now: i64) {
        let contact = &mut self.contact;
        contact.failures = contact.failures.saturating_add(1);
        let since = *contact.failing_since.get_or_insert(now);
        contact.error = Some(cause.clone());
        if !contact.is_reported && REPORTED_AFTER_MS <= now.saturating_sub(since) {
            contact.is_reported = true;
            let has_slice = self.has_had_slice;
            let effect = if has_slice {
                "orders go on within the confirmed slice"
            } else {
                "no order is sent, because no slice was confirmed since the start"
            };
            warn!("Shared budget not reachable: {cause}; {effect}");
            let alerts = &self.settings.alerts;
            alerts.emit(|| AlertEvent::SharedDown { cause, has_slice });
        }
    }

    fn status(&self, member: &Member, permission: &Permission) -> SharedStatus {
        let now = clock::now().0;
        let state = match (&permission.state, permission.contact_ms) {
            (MemberState::Active, _) if now < permission.until_ms => ACTIVE,
            (MemberState::Standby, _) => STANDBY,
            (MemberState::Rejected(_), _) => "refused",
            (MemberState::Stopped, _) => "stopping",
            (_, None) => "starting",
            (_, Some(_contact)) => "no contact",
        };
        let slice = permission.slices.get(&Limit::Total).copied().unwrap_or_default();
        let used =
            self.usage.as_ref().map_or(0, |usage| self.settings.config.to_group(usage.total.used));
        let age = |at: i64| u64::try_from(now.saturating_sub(at)).unwrap_or_default();
        let contact_ms = permission.contact_ms.map(age);
        // Without the database, nothing is known of the other members since the last contact.
        let unknown_ms = contact_ms.filter(|_age| self.contact.error.is_some());
        let members = member.peers().map(|peer| {
            let silent_ms = u64::try_from(peer.silent_ms).unwrap_or_default();
            let silent_ms = silent_ms.saturating_add(unknown_ms.unwrap_or_default());
            (peer, silent_ms, silent_ms < LIVE_MS.unsigned_abs())
        });
        let more = members.clone().skip(MEMBERS_SHOWN_MAX);
        let members =
            members.take(MEMBERS_SHOWN_MAX).map(|(peer, silent_ms, is_live)| SharedMember {
                name: peer.name.0.clone(),
                market: peer.market.clone(),
                is_live,
                is_idle: !peer.can_order,
                silent_ms,
                slice: peer.slice,
                used: peer.used,
            });
        SharedStatus {
            contact_ms,
            slice,
            used,
            free: member.free().unwrap_or_default(),
            members: members.collect(),
            more_members: more.clone().count(),
            more_live: more.filter(|(.., is_live)| *is_live).count(),
            ..self.status_of(state)
        }
    }

    fn status_of(&self, state: &str) -> SharedStatus {
        let SharedConfig { group, member, unit, .. } = &self.settings.config;
        let Contact { exchanges, failures, error, .. } = &self.contact;
        let role = self.role.as_ref().filter(|role| !role.is_resigned);
        let rejection = match &self.state {
            MemberState::Rejected(reason) => Some(convert::rejection_text(reason).to_owned()),
            _ => None,
        };
        SharedStatus {
            group: group.clone(),
            member: member.clone(),
            unit: unit.name().to_owned(),
            state: state.to_owned(),
            refused: rejection,
            warning: self.problem.clone().or_else(|| self.takeover_failing.clone()?.1),
            active: role.map(|role| role.active.0.clone()),
            active_since: role.map(|role| UnixMs(role.since_ms).to_string()),
            exchanges: *exchanges,
            failures: *failures,
            error: error.clone(),
            ..SharedStatus::default()
        }
    }

    fn write_seen(&mut self) {
        let written =
            seen_file::write(&self.settings.data_dir, &self.settings.config.group, self.seen);
        let was_written = !std::mem::replace(&mut self.is_seen_outdated, written.is_err());
        if let Err(error) = written
            && was_written
        {
            let text = format!(
                "{SEEN_FILE}, {error}; after a restart, a restored database of the shared budget may \
                 go unnoticed. What to do: check the free space and the permissions of SNIPER_DATA"
            );
            self.report_problem("File not writable", text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        sync::{
            Mutex,
            atomic::{AtomicBool, Ordering},
            mpsc::Receiver,
        },
        time::Instant,
    };

    use futures_util::future::BoxFuture;

    use super::*;
    use crate::{
        account::{AccountUpdate, UserReading},
        alerts::Alert,
        config::{
            Budget,
            shared::{DatabaseUrl, GroupUnit},
        },
        domain::outcome::{Outcome, RejectReason},
        domain::{
            account::User,
            percent_rule::CoinUsd,
            server_clock::{ClockExchange, ServerClock},
            trade::KeyedBy,
        },
        ledger::{Ledger, entries::tests::entry, tests},
        shared::exchange::{Confirmed, Demand, RoleRequest},
        sniper::Executor,
        whitelist::Whitelist,
    };

    const TERM: Duration = Duration::from_secs(3);
    const WAIT_MAX: Duration = Duration::from_secs(60);

    /// A group in memory that can be away.
    #[derive(Clone)]
    struct FaultyGroup {
        group: MemoryGroup,
        is_away: Arc<AtomicBool>,
        has_no_orders: Arc<AtomicBool>,
    }

    fn away() -> ExchangeError {
        ExchangeError("connection refused".to_owned())
    }

    impl Exchanger for FaultyGroup {
        fn exchange<'a>(
            &'a mut self,
            exchange: &'a Exchange,
        ) -> BoxFuture<'a, Result<Reply, ExchangeError>> {
            match self.is_away.load(Ordering::Relaxed) {
                true => Box::pin(async { Err(away()) }),
                false => self.group.exchange(exchange),
            }
        }

        fn orders<'a>(
            &'a mut self,
            account: &'a str,
        ) -> BoxFuture<'a, Result<Vec<(MemberName, ReportedOrder)>, ExchangeError>> {
            match self.has_no_orders.load(Ordering::Relaxed) {
                true => Box::pin(async { Err(away()) }),
                false => self.group.orders(account),
            }
        }
    }

    struct TestBot {
        group: FaultyGroup,
        engine: Engine<Arc<OrderClient>>,
        updates: mpsc::Receiver<SharedUpdate>,
        alerts: Receiver<Alert>,
        folder: tempfile::TempDir,
        alarm: Alarm,
        thread: SharingThread,
    }

    impl TestBot {
        fn start(standby: Option<&str>, seen: &str) -> Self {
            let ledger = Ledger::in_memory(Budget::default(), &[entry(Some("first"))], false);
            Self::start_with(ledger, standby, seen)
        }

        fn start_with(ledger: Ledger, standby: Option<&str>, seen: &str) -> Self {
            Self::join(MemoryGroup::new(100_000, 3_000), ledger, standby, seen)
        }

        fn join(group: MemoryGroup, ledger: Ledger, standby: Option<&str>, seen: &str) -> Self {
            let (is_away, has_no_orders) = (Arc::default(), Arc::default());
            let group = FaultyGroup { group, is_away, has_no_orders };
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(SEEN_FILE), seen).unwrap();
            let (sender, alerts) = AlertSender::with_queue();
            let config = SharedConfig {
                url: DatabaseUrl::parse("postgres://me@localhost/b").unwrap(),
                group: "main".to_owned(),
                total: Amount::from_cents(10_000),
                unit: GroupUnit::Usd,
                rate: CoinUsd::ONE,
                standby: standby.map(str::to_owned),
                member: "a".to_owned(),
                term: TERM,
            };
            let alarm = Alarm::default();
            let settings = SharingSettings {
                config,
                market: "waxpeer",
                ledger: "ledger".to_owned(),
                data_dir: folder.path().to_path_buf(),
                alerts: sender,
                alarm: alarm.clone(),
            };
            let clock = Arc::new(Mutex::new(ServerClock::new(Instant::now())));
            let whitelist = Arc::new(Whitelist::new(vec![entry(Some("first"))]));
            let mut engine = Engine::new(whitelist, ledger, Executor::Dry, KeyedBy::Id, clock);
            engine.share("main", standby.is_some(), Now::read());
            let (thread, updates) = start(settings, Box::new(group.clone())).unwrap();
            let mut bot = Self { group, engine, updates, alerts, folder, alarm, thread };
            bot.read_account();
            bot
        }

        fn read_account(&mut self) {
            let now = Now::read();
            let user = User {
                id: "account".to_owned(),
                balance: Some(Amount::from_cents(10_000)),
                ..User::default()
            };
            let exchange = ClockExchange { sent: now.instant, received: now.instant };
            let reading = UserReading { user, as_of: now.wall, exchange, date: None };
            self.engine.on_account_update(AccountUpdate::User(reading), now);
        }

        /// Serves the thread until `is_done` holds, and returns the status.
        fn until(&mut self, is_done: impl Fn(&Self, &SharedStatus) -> bool) -> SharedStatus {
            let began = Instant::now();
            loop {
                while let Ok(update) = self.updates.try_recv() {
                    self.engine.on_shared_update(update, Now::read());
                }
                let status = self.engine.shared_status().unwrap();
                if is_done(self, &status) {
                    return status;
                }
                assert!(began.elapsed() < WAIT_MAX, "{status:?}");
                thread::park_timeout(Duration::from_millis(5));
            }
        }

        /// Serves the thread until this state, and returns the titles of the alerts since the last
        /// call.
        fn until_state(&mut self, state: &str) -> Vec<String> {
            self.until(|_bot, status| status.state == state);
            self.alerts.try_iter().map(|alert| alert.event.title()).collect()
        }

        fn set_away(&self, is_away: bool) {
            self.group.is_away.store(is_away, Ordering::Relaxed);
        }

        fn seen(&self) -> String {
            fs::read_to_string(self.folder.path().join(SEEN_FILE)).unwrap()
        }
    }

    fn other(name: &str, seen: u64) -> Exchange {
        Exchange {
            member: MemberName(name.to_owned()),
            ledger: name.to_owned(),
            market: "waxpeer".to_owned(),
            account: convert::account_hash("waxpeer", "account"),
            standby: None,
            attempt: 1,
            version: 0,
            seen,
            can_order: true,
            whitelist: 0,
            approved: 0,
            demands: BTreeMap::new(),
            orders: Vec::new(),
            role: RoleRequest::None,
        }
    }

    #[test]
    fn an_active_bot_tells_why_it_stops_and_goes_on_by_itself_when_the_database_is_back() {
        let mut bot = TestBot::start(Some("pair"), "");
        bot.group.has_no_orders.store(true, Ordering::Relaxed);
        // The role is taken over, but the orders of the bot before cannot be read.
        let waiting = |_: &TestBot, status: &SharedStatus| {
            status.active.is_some() && status.error.is_some() && status.state == STANDBY
        };
        bot.until(waiting);
        assert_eq!(bot.engine.permit(), Some(OrderPermit::Standby));
        let status = bot.until(|_bot, status| status.problem().is_some());
        assert!(status.problem().unwrap().starts_with("This bot has the role and sends no orders"));
        bot.group.has_no_orders.store(false, Ordering::Relaxed);
        assert_eq!(bot.until_state(ACTIVE), ["Takeover incomplete", "Took over"]);
        bot.set_away(true);
        bot.until(|_bot, status| status.state == "no contact" && status.failures >= 3);
        let mut alerts = bot.until_state("no contact");
        alerts.sort_unstable();
        assert_eq!(alerts, ["No contact with the shared database", "Shared budget not reachable"]);
        assert!(matches!(bot.engine.permit(), Some(OrderPermit::Until(until)) if until.0 > 0));
        bot.set_away(false);
        assert_eq!(bot.until_state(STANDBY), ["Shared budget reachable again", "On standby"]);
        assert_eq!(bot.until_state(ACTIVE), ["Took over"]);
    }

    #[test]
    fn a_takeover_that_another_bot_has_completed_is_no_problem_any_more() {
        let mut bot = TestBot::start(Some("pair"), "");
        bot.group.has_no_orders.store(true, Ordering::Relaxed);
        bot.until(|_bot, status| status.problem().is_some());
        bot.set_away(true);
        let mut group = bot.group.group.clone();
        let (mut role, mut version) = (RoleRequest::Watch, 0);
        let began = Instant::now();
        loop {
            let standby = Some("pair".to_owned());
            let taking = Exchange { standby, role, version, ..other("b", 0) };
            let confirmed = meet(&mut group, &taking);
            let seen = confirmed.role.unwrap();
            if seen.active == MemberName("b".to_owned()) {
                break;
            }
            version = confirmed.version;
            role = RoleRequest::TakeOver { epoch: seen.epoch, renewals: seen.renewals };
            assert!(began.elapsed() < WAIT_MAX);
            thread::park_timeout(Duration::from_millis(50));
        }
        bot.set_away(false);
        let is_other = |status: &SharedStatus| status.active.as_deref() == Some("b");
        let status = bot.until(|_bot, status| is_other(status));
        assert_eq!((status.state.as_str(), status.problem()), (STANDBY, None));
    }

    #[test]
    fn a_rejection_and_a_bot_with_the_same_account_are_alerted_and_the_sequence_is_kept() {
        let mut bot = TestBot::start(None, "other-group 900000");
        bot.until(|bot, status| status.state == ACTIVE && bot.seen().starts_with("main "));
        let mut group = bot.group.clone();
        let mut meet = |exchange: Exchange| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(group.exchange(&exchange)).unwrap()
        };
        assert!(matches!(meet(other("b", 0)), Reply::Done(_)));
        let status = bot.until(|_bot, status| status.problem().is_some());
        assert!(status.problem().unwrap().starts_with("b orders with the same account"));
        assert!(matches!(meet(other("b", 1_000_000)), Reply::Stale(_)));
        let alerts = bot.until_state("refused");
        assert_eq!(alerts, ["Two bots on one account", "Shared budget rejects this bot"]);
        let text = bot.engine.shared_status().unwrap().problem().unwrap();
        assert!(text.contains("shared set --restored"), "{text}");
    }

    #[test]
    fn a_status_counts_the_members_that_it_does_not_show() {
        let mut group = MemoryGroup::new(100_000, 3_000);
        for number in 0..MEMBERS_SHOWN_MAX + 2 {
            let account = String::new();
            meet(&mut group, &Exchange { account, ..other(&format!("b{number}"), 0) });
        }
        let ledger = Ledger::in_memory(tests::budget(), &[entry(Some("first"))], false);
        let mut bot = TestBot::join(group, ledger, None, "");
        let status = bot.until(|_bot, status| !status.members.is_empty());
        assert_eq!((status.members.len(), status.more_members), (MEMBERS_SHOWN_MAX, 2));
        assert_eq!((status.more_live, status.live_others()), (2, MEMBERS_SHOWN_MAX + 2));
    }

    #[test]
    fn without_the_database_the_last_contacts_of_the_other_members_grow_older() {
        let mut group = MemoryGroup::new(100_000, 3_000);
        meet(&mut group, &other("b", 0));
        let ledger = Ledger::in_memory(tests::budget(), &[entry(Some("first"))], false);
        let mut bot = TestBot::join(group, ledger, None, "");
        let status = bot.until(|_bot, status| !status.members.is_empty());
        bot.set_away(true);
        let later = status.members[0].silent_ms + 1_000;
        let away = |_: &TestBot, status: &SharedStatus| {
            status.error.is_some() && later < status.members[0].silent_ms
        };
        bot.until(away);
    }

    #[test]
    fn a_bot_that_started_without_the_database_tells_that_it_sends_no_order() {
        let mut bot = TestBot::start(None, "");
        bot.set_away(true);
        bot.until(|_bot, status| status.failures >= 3);
        let text = bot.alerts.recv_timeout(WAIT_MAX).unwrap().event.text();
        assert!(text.contains("No order is sent until it answers"), "{text}");
    }

    #[test]
    fn orders_that_were_settled_without_contact_reach_the_database_after_a_start() {
        const ORDERS: u32 = 300;
        let mut ledger = Ledger::in_memory(tests::budget(), &[entry(Some("first"))], false);
        for number in 0..ORDERS {
            let approved = ledger.reserve(tests::order_request(number, 1), tests::T0).unwrap();
            let rejected = Outcome::Rejected(RejectReason::Taken);
            let _effects = ledger.settle(approved.key(), &rejected, tests::T0).unwrap();
        }
        let mut bot = TestBot::start_with(ledger, None, "");
        let account = convert::account_hash("waxpeer", "account");
        let stored = |bot: &TestBot| {
            let mut group = bot.group.group.clone();
            futures_util::FutureExt::now_or_never(group.orders(&account)).unwrap().unwrap().len()
        };
        bot.until(|bot, _status| u32::try_from(stored(bot)) == Ok(ORDERS));
    }

    fn meet(group: &mut MemoryGroup, exchange: &Exchange) -> Confirmed {
        let reply = futures_util::FutureExt::now_or_never(group.exchange(exchange)).unwrap();
        let Ok(Reply::Done(confirmed)) = reply else { panic!("{reply:?}") };
        confirmed
    }

    #[test]
    fn the_unused_slice_of_a_paused_bot_is_free_for_the_others() {
        let ledger = Ledger::in_memory(tests::budget(), &[entry(Some("first"))], false);
        let mut bot = TestBot::start_with(ledger, None, "");
        bot.until(|_bot, status| 0 < status.slice);
        let now = Now::read().wall;
        let _effects = bot.engine.ledger().pause(now.plus(Duration::from_secs(3_600)), now);
        bot.until(|_bot, status| status.slice == 0 && status.free == 100_000);
        let all = Demand { wanted: 100_000, ..Demand::default() };
        let demands = BTreeMap::from([(Limit::Total, all)]);
        let confirmed = meet(&mut bot.group.group, &Exchange { demands, ..other("b", 0) });
        assert_eq!(confirmed.slices[&Limit::Total], 100_000);
        assert!(confirmed.others.is_empty(), "it takes no share: {:?}", confirmed.others);
    }

    #[test]
    fn an_idle_bot_leaves_its_unused_slice_to_one_that_was_denied_an_order() {
        let ledger = Ledger::in_memory(tests::budget(), &[entry(Some("first"))], false);
        let mut bot = TestBot::start_with(ledger, None, "");
        bot.until(|_bot, status| 0 < status.slice);
        let mut group = bot.group.group.clone();
        let mut version = 0;
        let mut demand = |is_denied| {
            let wanted = 100_000;
            let demand = Demand { wanted, max: wanted, is_denied, ..Demand::default() };
            let demands = BTreeMap::from([(Limit::Total, demand)]);
            let confirmed = meet(&mut group, &Exchange { demands, version, ..other("b", 0) });
            version = confirmed.version;
            confirmed.slices[&Limit::Total]
        };
        let began = Instant::now();
        let hold = Duration::from_millis(convert::HOLD_MS.unsigned_abs());
        bot.until(|_bot, _status| hold * 2 < began.elapsed());
        assert!(demand(false) < 100_000);
        let exchanges = bot.engine.shared_status().unwrap().exchanges;
        let status = bot.until(|_bot, status| exchanges + 3 < status.exchanges);
        assert!(0 < status.slice, "the other one has enough");
        assert!(demand(true) < 100_000);
        bot.until(|_bot, status| status.slice == 0 && 0 < status.free);
        assert_eq!(demand(true), 100_000);
    }

    #[test]
    fn a_bot_without_the_feed_keeps_its_slice() {
        let ledger = Ledger::in_memory(tests::budget(), &[entry(Some("first"))], false);
        let mut bot = TestBot::start_with(ledger, None, "");
        bot.until(|_bot, status| 0 < status.slice);
        bot.engine.note_feed(false);
        let exchanges = bot.engine.shared_status().unwrap().exchanges;
        let idle = Duration::from_millis(IDLE_AFTER_MS.unsigned_abs());
        let began = Instant::now();
        bot.until(|_bot, status| idle * 5 < began.elapsed() && exchanges + 3 < status.exchanges);
        assert!(0 < bot.engine.shared_status().unwrap().slice);
    }

    #[test]
    fn the_alert_about_a_takeover_names_the_limits_that_the_bot_before_has_used_up() {
        let mut group = MemoryGroup::new(100_000, 3_000);
        let entry = WhitelistEntry { max_quantity: 1, ..entry(Some("first")) };
        let unit = Limit::EntryQuantity("first".to_owned());
        let crashed = Exchange {
            standby: Some("pair".to_owned()),
            demands: BTreeMap::from([(unit, Demand { wanted: 1, max: 1, ..Demand::default() })]),
            role: RoleRequest::TakeOver { epoch: 0, renewals: 0 },
            ..other("b", 0)
        };
        meet(&mut group, &crashed);
        let ledger = Ledger::in_memory(tests::budget(), &[entry], false);
        let mut bot = TestBot::join(group, ledger, Some("pair"), "");
        bot.until(|_bot, status| status.state == ACTIVE);
        let alert = bot.alerts.recv_timeout(WAIT_MAX).unwrap().event;
        assert_eq!(alert.title(), "Took over");
        let text = alert.text();
        assert!(text.contains("b keeps its slice"), "{text}");
        assert!(text.contains("Nothing is left of entry_quantity first."), "{text}");
    }

    #[test]
    fn a_sequence_that_cannot_be_kept_is_alerted_once() {
        let mut bot = TestBot::start(None, "");
        bot.until_state(ACTIVE);
        fs::remove_dir_all(bot.folder.path()).unwrap();
        let exchanges = bot.engine.shared_status().unwrap().exchanges;
        bot.until(|_bot, status| exchanges + 2 < status.exchanges);
        let alerts: Vec<String> = bot.alerts.try_iter().map(|it| it.event.title()).collect();
        assert_eq!(alerts, ["File not writable"]);
    }

    #[test]
    fn a_bot_that_has_seen_more_than_the_database_is_rejected_after_a_restart() {
        let mut bot = TestBot::start(None, "main 900000\n");
        bot.until_state("refused");
        let mut damaged = TestBot::start(None, "");
        damaged.until_state(ACTIVE);
    }

    #[test]
    fn a_thread_that_ends_before_the_session_is_lost_and_one_that_ends_with_it_is_not() {
        let mut lost = TestBot::start(None, "");
        // The session answers every update, so the thread ends without a reply.
        drop(lost.updates.blocking_recv().unwrap());
        let began = Instant::now();
        while !lost.alarm.is_raised() {
            assert!(began.elapsed() < WAIT_MAX);
            thread::park_timeout(Duration::from_millis(5));
        }
        let threads: Vec<ThreadName> = Alarm::lost_threads(lost.alarm.bits()).collect();
        assert_eq!(threads, [ThreadName::Sharing]);

        let TestBot { mut engine, mut updates, alarm, thread, .. } = TestBot::start(None, "");
        drop(thread);
        while let Some(update) = updates.blocking_recv() {
            engine.on_shared_update(update, Now::read());
        }
        assert!(!alarm.is_raised());
    }
}
