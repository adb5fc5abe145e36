//! Control channel between the command line and a running bot.
//!
//! The client sends one request and receives one reply, each a line of JSON of bounded length, over
//! a socket that only its owner may open. The bot listens in `SNIPER_DATA` and in the user's state
//! directory; the second socket works when `SNIPER_DATA` was deleted or its path is too long. The
//! listener threads only forward requests. The bot's own thread handles them ([`handle_request`]),
//! so the ledger has one owner.
//!
//! # Invariants
//!
//! 1. A line has at most [`LINE_BYTES_MAX`] bytes. At most [`PENDING_REQUESTS_MAX`] requests wait
//!    for the bot, each for at most [`REPLY_TIMEOUT`], a reload for [`RELOAD_TIMEOUT`].
//! 2. No request or reply passes through a socket that other users can open.

use std::{
    ffi::OsStr,
    fs,
    io::{self, Read as _, Write as _},
    os::{
        fd::AsRawFd as _,
        unix::{
            ffi::OsStrExt as _,
            fs::{FileTypeExt as _, PermissionsExt as _},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::Sender;

use super::{
    Effects, Evidence, HaltReason, Intent, InvalidTransition, Ledger, Operator,
    event::{EvidenceSource, OrderState},
    mark::data_key,
    private::{self, FileIdentity},
    status::LedgerStatus,
};
use crate::{
    config::{Market, load::make_directory},
    domain::time::UnixMs,
    domain::trade::TradeId,
    secret,
    threads::{Alarm, ThreadGuard, ThreadName, failpoint},
};

/// Maximum size of a request or reply, with its newline.
pub const LINE_BYTES_MAX: usize = 65_536;
/// Time limit for the bot's thread to handle a request. The client waits twice as long.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit for a reload, which may read files of many entries, and waits for the disk.
pub const RELOAD_TIMEOUT: Duration = Duration::from_secs(90);
/// Capacity of the queue of requests to the bot's thread.
pub const PENDING_REQUESTS_MAX: usize = 8;
/// Wait after a failed request.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Used instead of a listing's id in a [`ControlRequest::Resolve`] for the orders that a power loss
/// may have removed from the record.
pub const LOST_ID: &str = "lost";

/// One of the two bots that may run with one `SNIPER_DATA`. Each has its own channel, so that
/// neither can receive the other's requests or prevent it from starting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instance {
    Live,
    /// Keeps its ledger in memory and sends no orders.
    Dry,
}

/// Name of the socket's directory in `SNIPER_DATA`; in the state directory a hash of the path of
/// `SNIPER_DATA` is appended.
const DIRECTORY: &str = "control";

/// Directories in which the bot of one `SNIPER_DATA` listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlAddress {
    /// Tried in this order by the client.
    directories: Vec<PathBuf>,
    instance: Instance,
}

impl ControlAddress {
    pub fn new(data: &Path, state: Option<&Path>, instance: Instance) -> Self {
        let within = |state: &Path| state.join(format!("{DIRECTORY}-{:016x}", data_key(data)));
        let state = state.map(within);
        let directories = std::iter::once(data.join(DIRECTORY)).chain(state).collect();
        Self { directories, instance }
    }

    /// Returns `true` if a bot listens.
    fn is_open(&self) -> bool {
        let is_open = |directory: &PathBuf| {
            let address = SocketAddress::within(directory, self.instance);
            check_permissions(directory).is_ok()
                && address.is_ok_and(|address| {
                    address.identity().is_some() && UnixStream::connect(&address.path).is_ok()
                })
        };
        self.directories.iter().any(is_open)
    }
}

/// Paths by which commands find the bot of a settings file.
#[derive(Clone, Copy, Debug)]
pub struct SettingsPaths<'p> {
    pub state_dir: &'p Path,
    pub settings: &'p Path,
}

impl SettingsPaths<'_> {
    /// Returns the file that stores the [`BotLocation`] of the last bot with these settings.
    fn location_file(self, instance: Instance) -> PathBuf {
        let name = match instance {
            Instance::Live => "live",
            Instance::Dry => "dry",
        };
        self.state_dir.join(format!("settings-{:016x}.{name}", data_key(self.settings)))
    }
}

/// Data directory and market of a bot, as they were at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BotLocation {
    /// `SNIPER_DATA`.
    pub data: PathBuf,
    /// `None` if an earlier version stored it.
    pub market: Option<Market>,
}

impl BotLocation {
    /// Stores the location for [`find`](Self::find).
    ///
    /// # Errors
    ///
    /// Returns the error of the state directory.
    pub fn store(&self, paths: SettingsPaths<'_>, instance: Instance) -> io::Result<()> {
        make_directory(paths.state_dir)?;
        let mut file = private::open(&paths.location_file(instance))?;
        file.set_len(0)?;
        let data = std::path::absolute(&self.data)?;
        let market = self.market.map_or("", Market::name);
        // No path contains a zero byte.
        file.write_all(&[data.as_os_str().as_bytes(), market.as_bytes()].join(&0))
    }

    fn load(file: &Path) -> Option<Self> {
        let bytes = fs::read(file).ok()?;
        let mut parts = bytes.splitn(2, |byte| *byte == 0);
        let data = PathBuf::from(OsStr::from_bytes(parts.next()?));
        let market = parts.next().and_then(|name| Market::parse(str::from_utf8(name).ok()?));
        Some(Self { data, market })
    }

    /// Returns the location of the running bot of a settings file, which may name another
    /// `SNIPER_DATA` or market since; `data` is the one that it names now. While none runs, returns
    /// that of the last live bot with `data`.
    ///
    /// A live bot has precedence over a dry run in either folder, and a bot that runs with `data`
    /// over another one of its kind.
    pub fn find(data: &Path, paths: SettingsPaths<'_>) -> Option<Self> {
        let is_open = |data: &Path, instance| {
            ControlAddress::new(data, Some(paths.state_dir), instance).is_open()
        };
        let last = |instance| Self::load(&paths.location_file(instance));
        let running = |instance| last(instance).filter(|bot| is_open(&bot.data, instance));
        let precedes = |bot: &Self, instance| bot.is_in(data) || !is_open(data, instance);
        let dry = || running(Instance::Dry).filter(|bot| precedes(bot, Instance::Dry));
        let bot = running(Instance::Live).or_else(dry);
        let bot = bot.filter(|bot| precedes(bot, Instance::Live));
        bot.or_else(|| last(Instance::Live).filter(|bot| bot.is_in(data)))
    }

    /// Returns `true` if this is the `SNIPER_DATA` of the bot.
    pub fn is_in(&self, data: &Path) -> bool {
        data_key(&self.data) == data_key(data)
    }
}

/// Control channel of a bot. It listens until it is dropped.
#[derive(Debug)]
pub struct ControlServer {
    _listeners: Vec<Listener>,
}

impl ControlServer {
    /// Listens at this address and forwards the requests. The thread of each listener raises the
    /// alarm if it panics or ends early.
    ///
    /// # Errors
    ///
    /// Fails if it cannot listen in any of the directories.
    pub fn start(
        address: &ControlAddress,
        requests: &Sender<PendingRequest>,
        alarm: &Alarm,
    ) -> Result<Self, ControlError> {
        let (mut listeners, mut failed) = (Vec::new(), None);
        for directory in &address.directories {
            match Listener::start(directory, address.instance, requests.clone(), alarm) {
                Ok(listener) => listeners.push(listener),
                Err(error) => {
                    tracing::debug!("Could not open a control channel in {directory:?}: {error}");
                    failed = failed.or(Some(error));
                }
            }
        }
        match failed {
            Some(error) if listeners.is_empty() => Err(error),
            _ => Ok(Self { _listeners: listeners }),
        }
    }
}

/// A request of the operator to a bot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum ControlRequest {
    Status,
    /// Stops ordering until a resume.
    Halt {
        by: String,
    },
    /// Ends every halt and pause, so that orders are approved again.
    Resume {
        by: String,
    },
    /// Records the outcome of an order.
    Resolve {
        /// Id of the listing, or [`LOST_ID`].
        id: String,
        verdict: Resolution,
        by: String,
    },
    /// Resets the spent coins that count against `total`.
    NewBudget {
        by: String,
    },
    /// Pauses the whitelist entries with this name, or without a name for this item.
    PauseEntry {
        entry: String,
        by: String,
    },
    /// Enables paused entries.
    EnableEntry {
        entry: String,
        by: String,
    },
    /// Pauses every whitelist entry of a group.
    PauseGroup {
        group: String,
        by: String,
    },
    /// Enables every whitelist entry of a group.
    EnableGroup {
        group: String,
        by: String,
    },
    /// Reads the settings again and applies what can change while the bot runs.
    Reload {
        by: String,
        /// Counts changed entries without a name from zero.
        new_entries: bool,
    },
}

impl ControlRequest {
    pub const fn is_reload(&self) -> bool {
        matches!(self, Self::Reload { .. })
    }

    /// Returns the time limit for the bot to handle the request. The client waits twice as long.
    const fn timeout(&self) -> Duration {
        match self {
            Self::Reload { .. } => RELOAD_TIMEOUT,
            _ => REPLY_TIMEOUT,
        }
    }
}

/// Outcome of an order as found by the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    Bought,
    NotBought,
    /// The coins of a cancelled order are back in the account.
    Returned,
}

impl Resolution {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bought => "bought",
            Self::NotBought => "not bought",
            Self::Returned => "returned",
        }
    }

    const fn evidence(self) -> Evidence {
        match self {
            Self::Bought => Evidence::Bought,
            Self::NotBought => Evidence::NotBought,
            Self::Returned => Evidence::Returned,
        }
    }

    /// Returns `true` if this outcome can resolve an order in this state.
    const fn applies_to(self, state: OrderState) -> bool {
        use OrderState::{Bought, Completed, Returning, Unknown};
        match self {
            Self::Bought => matches!(state, Unknown),
            Self::NotBought => matches!(state, Unknown | Bought | Completed),
            Self::Returned => matches!(state, Returning),
        }
    }

    const fn requirement(self) -> &'static str {
        match self {
            Self::Bought => "--bought applies to unknown orders only",
            Self::NotBought => {
                "--not-bought applies to unknown orders, and to purchases that the market's own \
                 records have not shown"
            }
            Self::Returned => "--returned applies to returning orders only",
        }
    }
}

/// The bot's reply to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlReply {
    /// The request was applied; contains the status after it.
    Done(Box<LedgerStatus>),
    /// The settings were applied; contains a line for each change.
    Reloaded(Vec<String>),
    /// The request was rejected; contains the reason.
    #[serde(rename = "cannot")]
    Rejected(String),
}

/// A request in the queue to the thread that owns the ledger.
#[derive(Debug)]
pub struct PendingRequest {
    pub request: ControlRequest,
    /// Has capacity for one reply, so that the thread of the bot never blocks.
    pub reply: SyncSender<ControlReply>,
}

/// A failure of the control channel.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("no bot is running with this SNIPER_DATA")]
    NotRunning,
    /// Another bot listens in this directory.
    #[error("another bot is already running with this SNIPER_DATA; stop it first")]
    AlreadyRunning,
    /// Other users could read requests or send replies.
    #[error("{path:?} is accessible to other users; run `chmod 700` on it")]
    NotPrivate { path: PathBuf },
    #[error("cannot {action} the bot's control channel")]
    Io {
        /// The failed operation, as a verb phrase.
        action: &'static str,
        source: io::Error,
    },
    /// The reply is not valid JSON of the expected form.
    #[error("cannot read the bot's reply; run this command with the same version as the bot")]
    InvalidReply,
}

/// Sends a request to the bot that listens at this address and waits for its reply.
///
/// # Errors
///
/// Returns [`ControlError::NotRunning`] if no bot listens, and another error if the exchange fails.
pub fn send_request(
    address: &ControlAddress,
    request: &ControlRequest,
) -> Result<ControlReply, ControlError> {
    let line = serde_json::to_string(request).map_err(|_never| ControlError::InvalidReply)?;
    let mut failed = ControlError::NotRunning;
    for directory in &address.directories {
        match exchange(directory, address.instance, &line, request.timeout()) {
            Ok(answer) => {
                return serde_json::from_str(&answer)
                    .map_err(|_invalid| ControlError::InvalidReply);
            }
            Err(ControlError::NotRunning) => {}
            // The bot may have received the request, so it is not repeated on the other socket.
            Err(error @ ControlError::Io { action: EXCHANGE, .. }) => return Err(error),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// The failed operation of an error after which the bot may still apply the request.
const EXCHANGE: &str = "exchange messages over";

/// Applies a request and builds the reply. Runs in the thread that owns the ledger. The effects are
/// those on orders: the caller logs the request itself.
pub fn handle_request(
    ledger: &mut Ledger,
    request: &ControlRequest,
    mode: &str,
    now: UnixMs,
) -> (ControlReply, Effects) {
    let (effects, result) = apply_request(ledger, request, now);
    let reply = match result {
        Ok(()) => {
            let (snapshot, failure) = (ledger.snapshot(now), ledger.failure());
            let status = LedgerStatus::from_snapshot(&snapshot, mode, failure, now);
            ControlReply::Done(Box::new(status))
        }
        Err(why) => ControlReply::Rejected(why),
    };
    (reply, effects)
}

/// Applies a request to the ledger. Returns the reason if it is rejected, or if the change cannot
/// be recorded; it has its effects then too.
pub(crate) fn apply_request(
    ledger: &mut Ledger,
    request: &ControlRequest,
    now: UnixMs,
) -> (Effects, Result<(), String>) {
    let effects = match apply_change(ledger, request, now) {
        Ok(effects) => effects,
        Err(why) => return (Effects::default(), Err(why)),
    };
    if matches!(request, ControlRequest::Status) || ledger.is_recorded() {
        return (effects, Ok(()));
    }
    let why = ledger.failure().unwrap_or_default();
    let why = format!(
        "the change applies now, but is not recorded until the ledger can be written: {why}; if the \
         bot ends before that, repeat the command"
    );
    (effects, Err(why))
}

fn apply_change(
    ledger: &mut Ledger,
    request: &ControlRequest,
    now: UnixMs,
) -> Result<Effects, String> {
    match request {
        ControlRequest::Status => {}
        ControlRequest::Reload { .. } => {
            return Err("no bot is running; it reads the settings at its start".to_owned());
        }
        ControlRequest::Halt { by } => {
            let _effects = ledger.halt(HaltReason::Operator(Operator::new(by)), now);
        }
        ControlRequest::Resume { by } => ledger.resume(Operator::new(by), now),
        ControlRequest::NewBudget { by } => ledger.new_budget(Operator::new(by), now),
        ControlRequest::Resolve { id, verdict, by } => {
            let resolved = resolve(ledger, id, *verdict, now, Operator::new(by));
            return resolved.map_err(|why| why.to_string());
        }
        // The bot's whitelist, not its ledger, stores which entries are paused.
        ControlRequest::PauseEntry { .. }
        | ControlRequest::EnableEntry { .. }
        | ControlRequest::PauseGroup { .. }
        | ControlRequest::EnableGroup { .. } => {
            return Err("no bot is running; remove the entry from sniper.toml instead".to_owned());
        }
    }
    Ok(Effects::default())
}

/// A rejected [`ControlRequest::Resolve`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum ResolveError {
    #[error("no order for listing {0:?} in the ledger; list the ids with: sniper ledger export")]
    NoSuchListing(String),
    #[error("order {id} is {state}, nothing was changed: {}", verdict.requirement())]
    OtherState { id: String, state: OrderState, verdict: Resolution },
    #[error("`lost` can only be resolved with --not-bought")]
    LossNotPurchase,
    #[error("nothing to resolve: no power loss is on record")]
    NoLoss,
    #[error("{0}")]
    InvalidTransition(InvalidTransition),
}

fn resolve(
    ledger: &mut Ledger,
    id: &str,
    verdict: Resolution,
    now: UnixMs,
    by: Operator,
) -> Result<Effects, ResolveError> {
    if id == LOST_ID {
        if verdict != Resolution::NotBought {
            return Err(ResolveError::LossNotPurchase);
        }
        if ledger.state().loss().count == 0 {
            return Err(ResolveError::NoLoss);
        }
        ledger.clear_crash_reserve(EvidenceSource::Operator(by), now);
        return Ok(Effects::default());
    }
    let no_such = || ResolveError::NoSuchListing(id.to_owned());
    let listing = TradeId::new(id).ok_or_else(no_such)?;
    let state = ledger.state().intent(&listing).ok_or_else(no_such)?.state;
    let orders = ledger.state().orders_of(&listing);
    let is_proven =
        |intent: &Intent| verdict == Resolution::NotBought && ledger.state().is_shown(intent);
    let orders = orders.filter(|intent| verdict.applies_to(intent.state) && !is_proven(intent));
    let orders: Vec<_> = orders.copied().collect();
    let Some(last) = orders.first() else {
        return Err(ResolveError::OtherState { id: id.to_owned(), state, verdict });
    };
    // Of several orders, an unknown one is resolved first.
    let is_purchase = orders.iter().all(|intent| intent.state.is_charged());
    let resolved = if verdict == Resolution::NotBought && is_purchase {
        ledger.revoke_purchase(last.sequence, by, now)
    } else {
        ledger.resolve(&listing, verdict.evidence(), by, now)
    };
    resolved.map_err(ResolveError::InvalidTransition)
}

const fn socket_name(instance: Instance) -> &'static str {
    match instance {
        Instance::Live => "bot.sock",
        Instance::Dry => "dry.sock",
    }
}

/// Listens in one directory until it is dropped.
#[derive(Debug)]
pub(super) struct Listener {
    address: SocketAddress,
    /// Identity of the socket's file. On drop, a different file at the same path is not removed: it
    /// belongs to another bot.
    identity: Option<FileIdentity>,
    is_stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Path of a socket. Socket paths are limited to about 100 bytes, so on Linux the path goes through
/// the open directory's entry in `/proc/self/fd`.
#[derive(Debug)]
struct SocketAddress {
    path: PathBuf,
    _directory: Option<fs::File>,
}

impl SocketAddress {
    fn within(directory: &Path, instance: Instance) -> io::Result<Self> {
        let name = socket_name(instance);
        if cfg!(target_os = "linux") {
            let handle = fs::File::open(directory)?;
            let path = format!("/proc/self/fd/{}/{name}", handle.as_raw_fd());
            if fs::symlink_metadata(Path::new(&path).parent().unwrap_or(directory)).is_ok() {
                return Ok(Self { path: path.into(), _directory: Some(handle) });
            }
        }
        Ok(Self { path: directory.join(name), _directory: None })
    }

    /// Returns the identity of the socket's file, or `None` if it does not exist or is not a
    /// socket, such as a symbolic link.
    fn identity(&self) -> Option<FileIdentity> {
        let metadata = fs::symlink_metadata(&self.path).ok()?;
        metadata.file_type().is_socket().then(|| FileIdentity::of(&metadata))
    }
}

impl Listener {
    /// Listens in this directory and forwards the requests.
    ///
    /// # Errors
    ///
    /// Fails if the directory cannot be used or another bot listens there.
    pub(super) fn start(
        directory: &Path,
        instance: Instance,
        requests: Sender<PendingRequest>,
        alarm: &Alarm,
    ) -> Result<Self, ControlError> {
        let address = prepare(directory, instance)?;
        let listener = UnixListener::bind(&address.path).map_err(io_error("open"))?;
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&address.path, mode).map_err(io_error("set the permissions of"))?;
        let identity = address.identity();
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&is_stopped);
        let guard = ThreadGuard::new(ThreadName::Control, alarm.clone());
        let builder = thread::Builder::new().name(ThreadName::Control.to_string());
        let thread = builder.spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Acquire) {
                    return guard.finished();
                }
                if failpoint(ThreadName::Control) {
                    return;
                }
                let served = stream.and_then(|stream| serve(stream, &requests));
                if let Err(error) = served {
                    tracing::debug!("Control request failed: {error}");
                    // With too many open files, every `accept` fails at once.
                    thread::sleep(ACCEPT_PAUSE);
                }
            }
        });
        let thread = thread.map_err(io_error("listen to"))?;
        Ok(Self { address, identity, is_stopped, thread: Some(thread) })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Release);
        // The thread blocks in `accept`; this connection wakes it.
        if let Err(error) = UnixStream::connect(&self.address.path) {
            tracing::debug!("The control channel was already closed: {error}");
        } else if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::debug!("The control channel's thread panicked");
        }
        if self.identity.is_some() && self.address.identity() == self.identity {
            let removed = fs::remove_file(&self.address.path);
            if let Err(error) = removed {
                tracing::debug!("Could not remove the control socket: {error}");
            }
        }
    }
}

/// Creates the directory and removes the socket of a bot that has ended.
fn prepare(directory: &Path, instance: Instance) -> Result<SocketAddress, ControlError> {
    make_directory(directory).map_err(io_error("create a directory for"))?;
    check_permissions(directory)?;
    let address = SocketAddress::within(directory, instance).map_err(io_error("access"))?;
    let metadata = match fs::symlink_metadata(&address.path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(address),
        metadata => metadata.map_err(io_error("access"))?,
    };
    // A symbolic link is removed and never followed.
    let is_socket = metadata.file_type().is_socket();
    if is_socket && UnixStream::connect(&address.path).is_ok() {
        return Err(ControlError::AlreadyRunning);
    }
    fs::remove_file(&address.path).map_err(io_error("remove the old socket of"))?;
    Ok(address)
}

fn io_error(action: &'static str) -> impl FnOnce(io::Error) -> ControlError {
    move |source| ControlError::Io { action, source }
}

/// Fails if other users have any permission on the directory.
fn check_permissions(inner: &Path) -> Result<(), ControlError> {
    let metadata = fs::symlink_metadata(inner);
    let metadata = metadata.map_err(io_error("access"))?;
    if metadata.is_dir() && metadata.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(ControlError::NotPrivate { path: inner.to_owned() })
}

fn serve(mut stream: UnixStream, requests: &Sender<PendingRequest>) -> io::Result<()> {
    set_timeouts(&stream, REPLY_TIMEOUT)?;
    let line = read_line(&mut stream)?;
    match serde_json::from_str::<ControlRequest>(&line) {
        // A reload is served in a thread of its own, because a halt must not wait for it.
        Ok(request) if request.is_reload() => {
            let requests = requests.clone();
            let serve = move || {
                let written = write_reply(stream, &forward(request, &requests));
                if let Err(error) = written {
                    tracing::debug!("Control request failed: {error}");
                }
            };
            thread::Builder::new().name("reload-reply".to_owned()).spawn(serve).map(drop)
        }
        Ok(request) => write_reply(stream, &forward(request, requests)),
        Err(error) => {
            write_reply(stream, &ControlReply::Rejected(format!("invalid request: {error}")))
        }
    }
}

fn write_reply(mut stream: UnixStream, reply: &ControlReply) -> io::Result<()> {
    let mut text =
        secret::mask_own_json_string(serde_json::to_string(reply).map_err(io::Error::other)?);
    text.push('\n');
    stream.write_all(text.as_bytes())
}

fn forward(request: ControlRequest, requests: &Sender<PendingRequest>) -> ControlReply {
    let (reply, replied) = sync_channel(1);
    let timeout = request.timeout();
    if requests.try_send(PendingRequest { request, reply }).is_err() {
        return ControlReply::Rejected("the bot is busy or stopping; try again".to_owned());
    }
    replied.recv_timeout(timeout).unwrap_or_else(|_late| {
        ControlReply::Rejected(
            "no reply from the bot in time; it may still apply the request, check with: sniper status"
                .to_owned(),
        )
    })
}

/// Sends a line to the bot that listens in this directory and returns its reply.
pub(super) fn exchange(
    directory: &Path,
    instance: Instance,
    line: &str,
    timeout: Duration,
) -> Result<String, ControlError> {
    if !directory.exists() {
        return Err(ControlError::NotRunning);
    }
    check_permissions(directory)?;
    let address = SocketAddress::within(directory, instance).map_err(io_error("access"))?;
    if address.identity().is_none() {
        return Err(ControlError::NotRunning);
    }
    let mut stream = match UnixStream::connect(&address.path) {
        Ok(stream) => stream,
        Err(_error) => return Err(ControlError::NotRunning),
    };
    let exchanged = set_timeouts(&stream, timeout)
        .and_then(|()| stream.write_all(line.as_bytes()))
        .and_then(|()| stream.write_all(b"\n"))
        .and_then(|()| read_line(&mut stream));
    exchanged.map_err(io_error(EXCHANGE))
}

/// Sets the timeouts of a client's socket. `timeout` is the time limit for the bot to handle the
/// request.
fn set_timeouts(stream: &UnixStream, timeout: Duration) -> io::Result<()> {
    // The listener may wait for the whole time limit before it replies.
    stream.set_read_timeout(Some(timeout.saturating_mul(2)))?;
    stream.set_write_timeout(Some(REPLY_TIMEOUT))
}

/// Reads up to the newline, at most [`LINE_BYTES_MAX`] bytes.
fn read_line(stream: &mut UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    let mut reader = io::BufReader::new(stream);
    while line.len() < LINE_BYTES_MAX {
        reader.read_exact(&mut byte)?;
        if byte == *b"\n" {
            return String::from_utf8(line).map_err(io::Error::other);
        }
        line.extend_from_slice(&byte);
    }
    Err(io::ErrorKind::FileTooLarge.into())
}
