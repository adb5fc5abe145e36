//! Reads one price source: downloads it if it has changed, or reads its file, parses and checks the
//! table, and stores it.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
    time::{Duration, Instant, UNIX_EPOCH},
};

use tokio::sync::Mutex;

use super::store::{PriceStore, SourceAttempt, StoredAs, StoredTable};
use crate::{
    account::rate_limiter::RateLimiter,
    clock,
    config::{
        USER_AGENT,
        endpoint::Endpoint,
        prices::{PriceLocation, PriceSource, PricesConfig},
    },
    domain::time::{UnixMs, format_duration},
    net::{
        http_client::{
            HttpClient, HttpError,
            download::{Download, DownloadError, DownloadLimits},
        },
        http_head::{http_date, rejection_meaning},
        http_message::{Auth, HttpRequest},
        tls::Tls,
    },
    prices::{
        PriceBook, PriceTable, PriceUnit, SourceKind, TableError,
        acceptance::{self, TableRejection},
        parse,
    },
    secret,
};

/// Limits of a download. The largest known catalogues have 40 MB.
const LIMITS: DownloadLimits =
    DownloadLimits { body_bytes_max: 64 * 1024 * 1024, timeout: Duration::from_secs(300) };

/// Maximum wait that a `Retry-After` can cause: the greatest refresh interval.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Reads the sources of the settings.
#[derive(Debug)]
pub struct PriceReader {
    config: PricesConfig,
    store: PriceStore,
    /// One per source. Different sources can be read at the same time.
    clients: Vec<Mutex<SourceClient>>,
}

/// HTTP client of one source, and its rate limit.
#[derive(Debug)]
struct SourceClient {
    http: Option<HttpClient>,
    rate_limiter: RateLimiter,
}

/// Result of a successful reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PriceReading {
    /// A new table was accepted.
    New { items: usize, at: UnixMs },
    /// The source confirmed the table of this time.
    Unchanged { at: UnixMs },
}

/// Reason why a source was not read. The last good table stays in use.
#[derive(Debug, thiserror::Error)]
pub enum PriceFailure {
    #[error("the source was read {} ago and allows one read per {}", format_duration(*.ago), format_duration(*.interval))]
    TooSoon { ago: Duration, interval: Duration },
    /// An earlier response, perhaps to another process, asked to wait.
    #[error("the site asked to wait {} more", format_duration(*.left))]
    Waiting { left: Duration },
    #[error("the download failed: {0}")]
    Download(#[from] DownloadError),
    #[error("the file cannot be read: {0}")]
    File(io::Error),
    /// The site asks to wait.
    #[error("the site asks to wait (HTTP {status}){}", format_wait(*.retry_after))]
    Wait { status: u16, retry_after: Option<Duration> },
    #[error("the site redirects (HTTP {status}); the file may not exist any more")]
    Redirect { status: u16 },
    #[error("the site rejects the key (HTTP {status}){}", format_wait(*.retry_after))]
    Key { status: u16, retry_after: Option<Duration> },
    #[error("the site answers with HTTP {status}{}{}", format_meaning(*.status), format_wait(*.retry_after))]
    Status { status: u16, retry_after: Option<Duration> },
    #[error("it is no price table: {0}")]
    Table(#[from] TableError),
    #[error("table rejected: {0}; run `sniper prices update --accept` to use it anyway")]
    Rejected(TableRejection),
    #[error("the table cannot be stored: {0}")]
    Store(io::Error),
}

fn format_wait(retry_after: Option<Duration>) -> String {
    retry_after.map_or_else(String::new, |wait| format!(": {}", format_duration(wait)))
}

fn format_meaning(status: u16) -> String {
    rejection_meaning(status).map_or_else(String::new, |meaning| format!(" ({meaning})"))
}

impl PriceFailure {
    /// Returns the wait that the site asks for.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Wait { retry_after, .. }
            | Self::Key { retry_after, .. }
            | Self::Status { retry_after, .. } => retry_after.map(|wait| wait.min(RETRY_AFTER_MAX)),
            Self::Waiting { left } => Some(*left),
            _ => None,
        }
    }

    /// Returns `true` if the site answered in full, so that another download at once would most
    /// likely have the same result.
    const fn is_definite(&self) -> bool {
        matches!(
            self,
            Self::Redirect { .. }
                | Self::Key { .. }
                | Self::Status { status: 400..=407 | 409..=424 | 426..=499, .. }
                | Self::Table(_)
                | Self::Rejected(_)
        )
    }
}

/// Circumstances of one reading.
#[derive(Clone, Copy)]
struct ReadOptions {
    started: UnixMs,
    /// Accepts a table that differs too much from the last good one.
    accept: bool,
}

/// Content of a source with its time and validators.
struct SourceContent {
    bytes: Vec<u8>,
    /// Time of the prices as the source states it.
    at: Option<UnixMs>,
    etag: Option<String>,
    last_modified: Option<String>,
}

impl PriceReader {
    /// Creates a reader without sending a request. Removes what a killed process left unfinished.
    ///
    /// # Errors
    ///
    /// Returns an [`HttpError`] if an HTTP client cannot be created.
    pub fn new(config: &PricesConfig, data_dir: &Path, tls: &Tls) -> Result<Self, HttpError> {
        let client = |source: &PriceSource| {
            let http = match &source.location {
                PriceLocation::Url(endpoint) => Some(HttpClient::new(endpoint, tls)?),
                PriceLocation::File(_) => None,
            };
            let rate_limiter = RateLimiter::with_min_interval(source.kind.interval_min());
            Ok(Mutex::new(SourceClient { http, rate_limiter }))
        };
        let store = PriceStore::new(data_dir);
        store.remove_abandoned();
        Ok(Self {
            config: config.clone(),
            store,
            clients: config.sources.iter().map(client).collect::<Result<_, HttpError>>()?,
        })
    }

    pub const fn config(&self) -> &PricesConfig {
        &self.config
    }

    pub const fn store(&self) -> &PriceStore {
        &self.store
    }

    /// Returns the time from a failed reading until the next attempt: at least the wait that the
    /// site asked for, and otherwise at most the refresh interval, or half of that interval after
    /// a download whose content was useless, so that it does not make the prices too old.
    pub fn delay_after(&self, failure: &PriceFailure, index: usize, now: Instant) -> Duration {
        let (Some(source), Some(client)) =
            (self.config.sources.get(index), self.clients.get(index))
        else {
            return Duration::MAX;
        };
        // The lock is free, because a source is not read while its failure is handled.
        let own = client.try_lock().map(|client| client.rate_limiter.delay(now));
        let interval = self.config.interval(source);
        let is_remote = matches!(source.location, PriceLocation::Url(_));
        let own = match own {
            _ if is_remote && failure.is_definite() => {
                interval.checked_div(2).unwrap_or_default().max(source.kind.interval_min())
            }
            own => own.unwrap_or_default().min(interval),
        };
        failure.retry_after().unwrap_or_default().max(own)
    }

    /// Reads a source and stores its table, if that is accepted. With `accept`, a table that
    /// differs too much from the last good one is accepted nevertheless.
    ///
    /// # Errors
    ///
    /// Returns a [`PriceFailure`]; the last good table is then unchanged.
    ///
    /// # Cancel safety
    ///
    /// Safe: a table is stored as a whole or not at all.
    pub async fn read(&self, index: usize, accept: bool) -> Result<PriceReading, PriceFailure> {
        let Self { config, store, clients } = self;
        let (Some(source), Some(client)) = (config.sources.get(index), clients.get(index)) else {
            return Err(PriceFailure::File(io::ErrorKind::NotFound.into()));
        };
        let mut client = client.lock().await;
        let stored = store.last_good(source).map_err(PriceFailure::Store)?;
        let started = clock::wall();
        let options = ReadOptions { started, accept };
        if let PriceLocation::Url(_) = source.location {
            if let Some(attempt) = store.attempt(source) {
                check_attempt(source, attempt, options)?;
            }
            let attempt = SourceAttempt { at: started, retry_at: None };
            store.save_attempt(source, attempt).map_err(PriceFailure::Store)?;
        }
        // The source stated a time after that of the local clock, which was used in its place. The
        // clock may have been behind, so that time is not confirmed.
        let is_clamped = |stored: &StoredTable| stored.is_dated && stored.checked_at <= stored.at;
        let confirmable = stored.as_ref().filter(|stored| !accept && !is_clamped(stored));
        let content = client.fetch(source, confirmable).await;
        let result = finish(store, source, content, stored, options);
        match &result {
            Ok(_reading) => client.rate_limiter.on_success(),
            Err(_failure) => client.rate_limiter.on_failure(Instant::now(), None),
        }
        if let Some(wait) = result.as_ref().err().and_then(PriceFailure::retry_after) {
            let attempt = SourceAttempt { at: started, retry_at: Some(clock::wall().plus(wait)) };
            store.save_attempt(source, attempt).map_err(PriceFailure::Store)?;
        }
        result
    }

    /// Reads all local files, so that their prices are known before the first listing. Returns the
    /// failures with the names of their sources.
    pub fn read_files(&self) -> Vec<(String, PriceFailure)> {
        let read = |source: &PriceSource| {
            let PriceLocation::File(path) = &source.location else { return Ok(()) };
            let stored = self.store.last_good(source).map_err(PriceFailure::Store)?;
            let content = read_file(path).map(Some);
            let options = ReadOptions { started: clock::wall(), accept: false };
            finish(&self.store, source, content, stored, options).map(drop)
        };
        let sources = self.config.sources.iter();
        sources.filter_map(|source| Some((source.name.clone(), read(source).err()?))).collect()
    }

    /// Combines the last good tables of all sources. A table that cannot be read counts as absent.
    pub fn book(&self) -> PriceBook {
        self.store.book(&self.config)
    }
}

/// Returns an error if a site asked to wait, or if it was read less than its minimum interval ago,
/// perhaps by another process. With `accept`, a rejected table may be read again at once.
fn check_attempt(
    source: &PriceSource,
    attempt: SourceAttempt,
    ReadOptions { started: now, accept }: ReadOptions,
) -> Result<(), PriceFailure> {
    // A process whose clock was wrong may have stored any time.
    let is_plausible = |at: &UnixMs| now < *at && *at <= now.plus(RETRY_AFTER_MAX);
    if let Some(at) = attempt.retry_at.filter(is_plausible) {
        return Err(PriceFailure::Waiting { left: at.since(now) });
    }
    let (ago, interval) = (now.since(attempt.at), source.kind.interval_min());
    let is_limited = matches!(&source.location, PriceLocation::Url(url) if !url.is_loopback());
    if is_limited && !accept && attempt.at <= now && ago < interval {
        return Err(PriceFailure::TooSoon { ago, interval });
    }
    Ok(())
}

/// Stores new content, or confirms the stored table.
fn finish(
    store: &PriceStore,
    source: &PriceSource,
    content: Result<Option<SourceContent>, PriceFailure>,
    stored: Option<StoredTable>,
    options: ReadOptions,
) -> Result<PriceReading, PriceFailure> {
    match (content?, stored) {
        (Some(content), stored) => keep(store, source, content, stored, options),
        (None, Some(stored)) => confirm(store, source, stored, options.started),
        (None, None) => Err(PriceFailure::Status { status: 304, retry_after: None }),
    }
}

/// Parses, checks and stores new content.
fn keep(
    store: &PriceStore,
    source: &PriceSource,
    content: SourceContent,
    last: Option<StoredTable>,
    ReadOptions { started, accept }: ReadOptions,
) -> Result<PriceReading, PriceFailure> {
    let (table, at) = parsed(source.kind, source.unit(), &content, started)?;
    let items = table.len();
    let [etag, last_modified] = [content.etag, content.last_modified]
        .map(|header| header.filter(|header| !secret::appears_in(header)));
    let is_dated = table.at.is_some() || last_modified.is_some();
    let new = StoredTable { table, at, checked_at: started, etag, last_modified, is_dated };
    let last = last.as_ref().map(|last| &last.table);
    if let Err(rejection) = check(&new.table, last, source.kind)
        && !accept
    {
        store.save(source, StoredAs::Rejected, &new).map_err(PriceFailure::Store)?;
        return Err(PriceFailure::Rejected(rejection));
    }
    store.replace(source, &new).map_err(PriceFailure::Store)?;
    store.remove(source, StoredAs::Rejected).map_err(PriceFailure::Store)?;
    Ok(PriceReading::New { items, at })
}

/// Parses a table that was read at `started`. Returns it with its time.
fn parsed(
    kind: SourceKind,
    unit: PriceUnit,
    content: &SourceContent,
    started: UnixMs,
) -> Result<(PriceTable, UnixMs), PriceFailure> {
    let mut table = parse::parse(kind, unit, &content.bytes)?;
    table.remove_secrets();
    // A time in the future would never become too old.
    let at = table.at.or(content.at).map_or(started, |at| at.min(started));
    Ok((table, at))
}

fn check(
    table: &PriceTable,
    last: Option<&PriceTable>,
    kind: SourceKind,
) -> Result<(), TableRejection> {
    acceptance::check(table, last, kind != SourceKind::File)
}

/// Stores that the source confirmed its table. The time of a table that states none becomes the
/// time of the confirmation.
fn confirm(
    store: &PriceStore,
    source: &PriceSource,
    stored: StoredTable,
    started: UnixMs,
) -> Result<PriceReading, PriceFailure> {
    let at = if stored.is_dated { stored.at } else { started };
    let confirmed = StoredTable { at, checked_at: started, ..stored };
    store.save(source, StoredAs::Current, &confirmed).map_err(PriceFailure::Store)?;
    Ok(PriceReading::Unchanged { at })
}

impl SourceClient {
    /// Returns the content of a source; `None` if it confirmed the `stored` table. Without one, the
    /// request is not conditional.
    async fn fetch(
        &mut self,
        source: &PriceSource,
        stored: Option<&StoredTable>,
    ) -> Result<Option<SourceContent>, PriceFailure> {
        let (endpoint, http) = match (&source.location, &self.http) {
            (PriceLocation::Url(endpoint), Some(http)) => (endpoint, http),
            (PriceLocation::File(path), _) => return read_file(path).map(Some),
            (PriceLocation::Url(_), None) => {
                return Err(PriceFailure::File(io::ErrorKind::Unsupported.into()));
            }
        };
        self.rate_limiter.on_request(Instant::now());
        let request = request(endpoint, source, stored);
        let Download { head, etag, last_modified, body } = http.download(&request, LIMITS).await?;
        let retry_after = head.retry_after;
        match head.status {
            200 => {
                let at = last_modified.as_deref().and_then(http_date).or(head.date);
                Ok(Some(SourceContent { bytes: body, at, etag, last_modified }))
            }
            304 => Ok(None),
            status @ 300..=399 => Err(PriceFailure::Redirect { status }),
            status @ (401 | 403) if source.key.is_some() => {
                Err(PriceFailure::Key { status, retry_after })
            }
            status @ (429 | 503) => Err(PriceFailure::Wait { status, retry_after }),
            status => Err(PriceFailure::Status { status, retry_after }),
        }
    }
}

fn request(endpoint: &Endpoint, source: &PriceSource, stored: Option<&StoredTable>) -> HttpRequest {
    let mut request = HttpRequest::get(endpoint.path())
        .with_header("Accept-Encoding", source.kind.accept_encoding())
        .with_header("User-Agent", USER_AGENT);
    if let Some(etag) = stored.and_then(|stored| stored.etag.as_deref()) {
        request = request.with_header("If-None-Match", etag);
    } else if let Some(date) = stored.and_then(|stored| stored.last_modified.as_deref()) {
        request = request.with_header("If-Modified-Since", date);
    }
    match &source.key {
        Some(key) => Auth::Bearer.apply(key, request),
        None => request,
    }
}

/// Returns the prices of a local file, and the time of its last change.
///
/// # Errors
///
/// Returns a [`PriceFailure`] if the file cannot be read or is no price table.
pub fn read_table(path: &Path, unit: PriceUnit) -> Result<(PriceTable, UnixMs), PriceFailure> {
    parsed(SourceKind::File, unit, &read_file(path)?, clock::wall())
}

/// Reads a local file, with the time of its last change.
fn read_file(path: &Path) -> Result<SourceContent, PriceFailure> {
    let limit = u64::try_from(LIMITS.body_bytes_max).unwrap_or(u64::MAX);
    let read = || {
        let file = File::open(path)?;
        let modified = file.metadata()?.modified()?.duration_since(UNIX_EPOCH).ok();
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        Ok((bytes, modified))
    };
    let (bytes, modified) = read().map_err(PriceFailure::File)?;
    if bytes.len() > LIMITS.body_bytes_max {
        return Err(DownloadError::TooLong(LIMITS.body_bytes_max).into());
    }
    let at = modified.and_then(|since| i64::try_from(since.as_millis()).ok()).map(UnixMs);
    Ok(SourceContent { bytes, at, etag: None, last_modified: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{endpoint::Scheme, prices::SourceCurrency};

    /// Checks a site that allows one read per minute. Times are in seconds.
    #[track_caller]
    fn check(
        (attempted, retry_at): (i64, Option<i64>),
        (now, accept): (i64, bool),
        expected: &str,
    ) {
        let url = Endpoint::parse("https://example.com/", Scheme::Http).unwrap();
        let source = PriceSource {
            name: "s".to_owned(),
            kind: SourceKind::CsFloat,
            location: PriceLocation::Url(url),
            max_age: Duration::from_secs(1_800),
            currency: SourceCurrency::Usd,
            key: None,
        };
        let at = |seconds: i64| UnixMs(seconds * 1_000);
        let attempt = SourceAttempt { at: at(attempted), retry_at: retry_at.map(at) };
        let options = ReadOptions { started: at(now), accept };
        let result = check_attempt(&source, attempt, options);
        let shown = result.err().map_or_else(String::new, |failure| failure.to_string());
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_site_is_not_read_again_too_soon_also_after_a_failed_attempt() {
        let too_soon = "the source was read 20.0 s ago and allows one read per 1 min 0 s";
        check((100, None), (120, false), too_soon);
        check((100, None), (160, false), "");
        // The read of a rejected table is an attempt. Another read at once may accept the table.
        check((100, None), (120, true), "");
        // The clock was set back.
        check((900, None), (120, false), "");
    }

    #[test]
    fn a_site_that_was_too_slow_gave_no_definite_answer() {
        for (status, is_definite) in [(403, true), (404, true), (408, false), (425, false)] {
            assert_eq!(
                PriceFailure::Status { status, retry_after: None }.is_definite(),
                is_definite,
                "{status}"
            );
        }
    }

    #[test]
    fn a_wait_that_a_site_asked_for_ends_at_its_time() {
        check((100, Some(720)), (120, true), "the site asked to wait 10 min 0 s more");
        check((100, Some(720)), (720, false), "");
        check((100, Some(172_900)), (100, true), "the site asked to wait 48 h 0 min more");
        // No wait is longer than 30 days.
        check((100, Some(3_000_000)), (1_000, false), "");
    }
}
