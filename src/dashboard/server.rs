//! Routes of the dashboard, the checks before them, and the stream of changes.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{
        Arc, Mutex,
        mpsc::{RecvTimeoutError, sync_channel},
    },
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::{Body, Bytes, to_bytes},
    extract::{ConnectInfo, Extension, Path, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{MethodRouter, get, post},
};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc::Sender, watch},
    time::sleep,
};
use tracing::{debug, info};

use super::{
    access::{AccessDenied, HostRules, check_site},
    connection::ClientAddress,
    metrics,
    page::{self, PageFacts, Section, Visitor},
    rates::RateHistory,
    token::{AccessTokens, Identity},
};
use crate::{
    clock,
    domain::time::UnixMs,
    ledger::control::{ControlReply, ControlRequest, PendingRequest, REPLY_TIMEOUT},
    secret,
    sniper::view::{SessionView, SessionWatch},
    threads::lock,
    ws::FeedMetrics,
};

/// Maximum number of open streams.
pub const STREAMS_MAX: usize = 8;

/// Minimum age of a snapshot before a new one is requested: at most four a second.
const VIEW_AGE_MIN: Duration = Duration::from_millis(250);

/// Maximum time to wait for a snapshot.
const VIEW_TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum time since the last turn of the trading thread while it works.
const TURN_AGE_MAX: Duration = Duration::from_secs(3);

/// Maximum interval of messages on a stream. A page without one for some seconds shows that the
/// connection is lost.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of remembered ids of requests.
const KEYS_MAX: usize = 1_024;

/// Maximum number of bytes that are read of a request's body, which no route uses.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Allowed lengths of the id of a request.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 8..=128;

const SCRIPT: &str = include_str!("assets/app.js");
const STYLE: &str = include_str!("assets/style.css");

/// Scripts and styles come from this server only, and no other page may embed it.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                              img-src 'self' data:; connect-src 'self'; base-uri 'none'; \
                              form-action 'none'; frame-ancestors 'none'";

/// State that all requests share.
#[derive(Debug)]
pub(super) struct App {
    pub(super) facts: PageFacts,
    pub(super) watch: SessionWatch,
    pub(super) metrics: Arc<FeedMetrics>,
    pub(super) requests: Sender<PendingRequest>,
    pub(super) tokens: AccessTokens,
    pub(super) hosts: HostRules,
    pub(super) needs_token_to_read: bool,
    pub(super) start: UnixMs,
    pub(super) rates: Mutex<RateHistory>,
    pub(super) streams: Arc<Semaphore>,
    pub(super) last_view: tokio::sync::Mutex<Option<(Instant, Rendered)>>,
    pub(super) used_keys: Mutex<VecDeque<String>>,
    pub(super) stopping: watch::Receiver<bool>,
    /// Interval at which a stream looks for changes.
    pub(super) interval: Duration,
}

/// A snapshot and its page.
#[derive(Clone, Debug)]
pub(super) struct Rendered {
    view: Option<Arc<SessionView>>,
    sections: Arc<[Section]>,
}

impl App {
    /// Returns the state of the session, at most [`VIEW_AGE_MIN`] old.
    async fn rendered(&self) -> Rendered {
        // Held while waiting, so that concurrent requests share one snapshot.
        let mut last = self.last_view.lock().await;
        if let Some((at, rendered)) = &*last
            && at.elapsed() < VIEW_AGE_MIN
        {
            return rendered.clone();
        }
        let view = self.watch.next(VIEW_TIMEOUT).await;
        let sections = page::sections(view.as_deref(), &lock(&self.rates), &self.facts);
        let masked = |(id, html): Section| (id, secret::mask(&html).into_owned());
        let sections = sections.into_iter().map(masked).collect();
        let rendered = Rendered { view, sections };
        *last = Some((Instant::now(), rendered.clone()));
        rendered
    }

    fn identity(&self, headers: &HeaderMap) -> Option<Identity> {
        let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
        let bearer = headers.get(header::AUTHORIZATION).and_then(text);
        let token = bearer.as_deref().and_then(|value| value.strip_prefix("Bearer "));
        if token.is_some_and(|token| self.tokens.is_token(token)) {
            return Some(Identity::Program);
        }
        let now = clock::wall();
        let mut cookies = headers.get_all(header::COOKIE).iter().filter_map(text);
        cookies.any(|it| self.tokens.is_signed_in(&it, now)).then_some(Identity::Browser)
    }

    /// Remembers the id of a request. Returns `false` if it was used before.
    fn remember_key(&self, key: &str) -> bool {
        let mut used = lock(&self.used_keys);
        if used.iter().any(|known| known == key) {
            return false;
        }
        if used.len() >= KEYS_MAX {
            used.pop_front();
        }
        used.push_back(key.to_owned());
        true
    }
}

type Shared = State<Arc<App>>;

pub(super) fn router(app: Arc<App>) -> Router {
    let guarded = Arc::clone(&app);
    Router::new()
        .route("/", get(show_page))
        .route("/app.js", get(|| async { asset("text/javascript; charset=utf-8", SCRIPT) }))
        .route("/style.css", get(|| async { asset("text/css; charset=utf-8", STYLE) }))
        .route("/events", get(events))
        .route("/metrics", get(show_metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/api/login", post(login))
        .route("/api/halt", change(|by| ControlRequest::Halt { by }))
        .route("/api/resume", change(|by| ControlRequest::Resume { by }))
        .route(
            "/api/entries/{name}/pause",
            change_named(|entry, by| ControlRequest::PauseEntry { entry, by }),
        )
        .route(
            "/api/entries/{name}/enable",
            change_named(|entry, by| ControlRequest::EnableEntry { entry, by }),
        )
        .route(
            "/api/groups/{name}/pause",
            change_named(|group, by| ControlRequest::PauseGroup { group, by }),
        )
        .route(
            "/api/groups/{name}/enable",
            change_named(|group, by| ControlRequest::EnableGroup { group, by }),
        )
        .layer(middleware::from_fn_with_state(guarded, guard))
        .with_state(app)
}

fn asset(content_type: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

fn failure(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}

/// Checks a request before its route, and adds the headers that restrict what a browser does with
/// the response.
async fn guard(State(app): Shared, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    // A connection that is closed with unread bytes is reset, and its client may lose the response.
    // A body that is longer than this is not read to its end.
    let _is_complete = to_bytes(body, BODY_BYTES_MAX).await.is_ok();
    let mut request = Request::from_parts(parts, Body::empty());
    let mut response = match check(&app, &request) {
        Ok(identity) => {
            request.extensions_mut().insert(identity);
            next.run(request).await
        }
        Err(denied) => {
            let status = match denied {
                AccessDenied::NoToken => StatusCode::UNAUTHORIZED,
                AccessDenied::ForeignHost | AccessDenied::ForeignSite => StatusCode::FORBIDDEN,
            };
            debug!("Dashboard request rejected: {denied}");
            failure(status, &denied.to_string())
        }
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    response
}

fn check(app: &App, request: &Request) -> Result<Option<Identity>, AccessDenied> {
    let path = request.uri().path();
    if path == "/livez" {
        return Ok(None);
    }
    app.hosts.check(request.headers())?;
    check_site(request.method(), path, request.headers())?;
    let identity = app.identity(request.headers());
    let is_change = request.method() != Method::GET && request.method() != Method::HEAD;
    let is_open = match path {
        "/" | "/app.js" | "/style.css" | "/api/login" => true,
        _ => !is_change && !app.needs_token_to_read,
    };
    if is_open || identity.is_some() { Ok(identity) } else { Err(AccessDenied::NoToken) }
}

async fn show_page(
    State(app): Shared,
    Extension(identity): Extension<Option<Identity>>,
) -> Response {
    let visitor = match identity {
        Some(_) => Visitor::SignedIn,
        None if app.needs_token_to_read => Visitor::Locked,
        None => Visitor::Reader,
    };
    let html = match visitor {
        Visitor::Locked => page::page(&[], &app.facts, visitor),
        _ => page::page(&app.rendered().await.sections, &app.facts, visitor),
    };
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response()
}

async fn show_metrics(State(app): Shared) -> Response {
    let view = app.rendered().await.view;
    let text = metrics::exposition(view.as_deref(), &app.metrics, app.start);
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

/// Reports whether the process works: whether its trading thread looks for work. Any site may
/// cause this request, so it requests no snapshot.
async fn livez(State(app): Shared) -> (StatusCode, &'static str) {
    if app.watch.has_turned_within(TURN_AGE_MAX) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the trading thread does not answer\n")
    }
}

/// Reports whether orders can be sent, and if not, why and what to do.
async fn readyz(State(app): Shared) -> (StatusCode, String) {
    let view = app.rendered().await.view;
    let ready = match &view {
        Some(view) => page::check_ready(&view.status),
        None => Err("the trading thread does not answer".to_owned()),
    };
    match ready {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, secret::mask(&reason).into_owned() + "\n"),
    }
}

async fn login(State(app): Shared, headers: HeaderMap, client: Client) -> Response {
    let code = headers.get("x-sniper-code").and_then(|code| code.to_str().ok());
    let now = clock::wall();
    if !code.is_some_and(|code| app.tokens.take_code(code, now)) {
        let error = "the code is unknown, used or too old; run `sniper dashboard` again";
        return failure(StatusCode::UNAUTHORIZED, error);
    }
    info!("Dashboard: a browser signed in from {}", client.0.0.ip());
    ([(header::SET_COOKIE, app.tokens.cookie(now))], Json(json!({}))).into_response()
}

/// Client of a request.
type Client = ConnectInfo<ClientAddress>;

/// A request that changes something: its sender and its id.
struct Change {
    by: String,
    key: String,
}

impl Change {
    fn new(
        identity: Option<Identity>,
        client: Client,
        headers: &HeaderMap,
    ) -> Result<Self, Box<Response>> {
        let mut keys = headers.get_all("idempotency-key").iter();
        let key = keys.next().and_then(|key| key.to_str().ok());
        let Some(key) = key.filter(|key| KEY_BYTES.contains(&key.len()) && keys.next().is_none())
        else {
            let error = "this needs one Idempotency-Key header with 8 to 128 characters, another one \
                         for each request";
            return Err(Box::new(failure(StatusCode::BAD_REQUEST, error)));
        };
        let kind = identity.map_or("", Identity::as_str);
        Ok(Self { by: format!("dashboard {} {kind}", client.0.0.ip()), key: key.to_owned() })
    }
}

/// Returns the route of a change without further arguments.
fn change(request: fn(String) -> ControlRequest) -> MethodRouter<Arc<App>> {
    post(
        move |State(app): Shared,
              Extension(identity): Extension<Option<Identity>>,
              client: Client,
              headers: HeaderMap| async move {
            apply(&app, Change::new(identity, client, &headers), request).await
        },
    )
}

/// Returns the route of a change of the entries or the group with the name in the path.
fn change_named(request: fn(String, String) -> ControlRequest) -> MethodRouter<Arc<App>> {
    post(
        move |State(app): Shared,
              Extension(identity): Extension<Option<Identity>>,
              client: Client,
              Path(name): Path<String>,
              headers: HeaderMap| async move {
            let change = Change::new(identity, client, &headers);
            apply(&app, change, |by| request(name, by)).await
        },
    )
}

/// Sends a request to the session, as `sniper halt` does, unless its id was used before.
async fn apply(
    app: &App,
    change: Result<Change, Box<Response>>,
    request: impl FnOnce(String) -> ControlRequest,
) -> Response {
    let Change { by, key } = match change {
        Ok(change) => change,
        Err(response) => return *response,
    };
    if !app.remember_key(&key) {
        let error = "a request with this Idempotency-Key was handled already";
        return failure(StatusCode::CONFLICT, error);
    }
    let (reply, replied) = sync_channel(1);
    let pending = PendingRequest { request: request(by), reply };
    if app.requests.try_send(pending).is_err() {
        let error = "the bot is busy or stopping; try again with another Idempotency-Key";
        return failure(StatusCode::SERVICE_UNAVAILABLE, error);
    }
    let replied = tokio::task::spawn_blocking(move || replied.recv_timeout(REPLY_TIMEOUT)).await;
    let answer = match replied.unwrap_or(Err(RecvTimeoutError::Disconnected)) {
        Ok(ControlReply::Done(status)) => {
            // Otherwise the page would show the old state for a moment.
            *app.last_view.lock().await = None;
            let status = serde_json::to_value(&*status).unwrap_or(Value::Null);
            (StatusCode::OK, json!({ "done": true, "status": status }))
        }
        // The page does not reload settings.
        Ok(ControlReply::Reloaded(_)) => (StatusCode::OK, json!({ "done": true })),
        Ok(ControlReply::Rejected(why)) => (StatusCode::NOT_FOUND, json!({ "error": why })),
        Err(_late) => {
            let error = "no reply from the bot in time; it may still apply the request";
            (StatusCode::GATEWAY_TIMEOUT, json!({ "error": error }))
        }
    };
    let body = secret::mask_own_json_string(answer.1.to_string());
    (answer.0, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// One stream of changes to a page.
struct PageStream {
    app: Arc<App>,
    /// Sections as last sent.
    sent: Vec<Section>,
    last_message: Instant,
    is_first: bool,
    _permit: OwnedSemaphorePermit,
}

async fn events(State(app): Shared) -> Response {
    let Ok(permit) = Arc::clone(&app.streams).try_acquire_owned() else {
        let error = format!("{STREAMS_MAX} pages are open already; close one");
        return failure(StatusCode::SERVICE_UNAVAILABLE, &error);
    };
    let last_message = Instant::now();
    let stream =
        PageStream { app, sent: Vec::new(), last_message, is_first: true, _permit: permit };
    let chunks = stream::unfold(stream, |mut stream| async {
        let chunk = stream.next().await?;
        Some((Ok::<Bytes, Infallible>(Bytes::from(chunk)), stream))
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(chunks)).into_response()
}

impl PageStream {
    /// Waits for the next message: changed sections, or a sign of life. Ends when the bot stops.
    async fn next(&mut self) -> Option<String> {
        let mut stopping = self.app.stopping.clone();
        loop {
            if *stopping.borrow_and_update() {
                return None;
            }
            if !std::mem::replace(&mut self.is_first, false) {
                tokio::select! {
                    () = sleep(self.app.interval) => {}
                    changed = stopping.changed() => {
                        changed.ok()?;
                        continue;
                    }
                }
            }
            let rendered = self.app.rendered().await;
            let changed = self.changed(&rendered.sections);
            if changed.is_empty() && self.last_message.elapsed() < BEAT_INTERVAL {
                continue;
            }
            self.last_message = Instant::now();
            return Some(if changed.is_empty() {
                "event: beat\ndata: 1\n\n".to_owned()
            } else {
                // JSON contains no line break.
                format!("event: page\ndata: {}\n\n", Value::Object(changed))
            });
        }
    }

    /// Returns the sections that differ from those that were sent, and remembers them.
    fn changed(&mut self, sections: &[Section]) -> serde_json::Map<String, Value> {
        let mut changed = serde_json::Map::new();
        for (id, html) in sections {
            match self.sent.iter_mut().find(|(known, _)| known == id) {
                Some((_, known)) if known == html => continue,
                Some((_, known)) => known.clone_from(html),
                None => self.sent.push((id, html.clone())),
            }
            changed.insert((*id).to_owned(), Value::from(html.as_str()));
        }
        changed
    }
}
