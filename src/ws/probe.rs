//! Connection test of `doctor`: connects to the market step by step and reports each step.
//!
//! Takes the same steps as the feed, each with its own deadline. A token is requested in the step
//! of the upgrade; the feed requests it before it dials. Nothing is retried.

use std::{collections::VecDeque, fmt, net::SocketAddr, time::Duration};

use tokio::{net::TcpStream, sync::Notify};
use tokio_rustls::TlsConnector;

use super::{
    connect::{Arrival, MaybeTlsStream, fetch_token, upgrade},
    error::{ConnectStep, FeedError},
    feed::{Feed, FeedSession},
    session::{Session, SessionHandler, SessionNotice, now},
    watchdog::ArrivalStats,
};
use crate::{
    markets::{Decoded, MarketEvent, MarketSubscription, Marketplace},
    net::{
        busy_poll::BusyPollStream,
        deadline::{self, Late},
        dial::{self, race},
        tls::{Tls, server_name},
    },
    protocol::{FeedProtocol, OperationId, SubscriptionState},
    text::{Escaped, counted},
};

/// A step of the probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeStep {
    Dns,
    Tcp,
    Tls,
    Upgrade,
    /// `connection_init`, its acknowledgment and the subscription.
    Ack,
    Listing,
}

impl fmt::Display for ProbeStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dns => "DNS",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Upgrade => "upgrade",
            Self::Ack => "ack",
            Self::Listing => "first listing",
        })
    }
}

/// The step at which a probe failed, and its error.
#[derive(Debug)]
pub struct StepError {
    pub step: ProbeStep,
    pub took: Duration,
    pub error: FeedError,
}

/// Runs the probe. `on_step` is called after each step with its duration and a detail.
///
/// # Errors
///
/// Returns the [`StepError`] of the first failed step.
///
/// # Cancel safety
///
/// Cancel safe: the connection is closed.
pub async fn probe<M: Marketplace>(
    feed: &Feed<M>,
    listing_wait: Duration,
    on_step: impl FnMut(ProbeStep, Duration, &str),
) -> Result<(), StepError> {
    let limit = feed.config.reconnection.limits().connect_timeout;
    let mut prober = Prober { feed, limit, on_step };
    let addresses = prober.resolve().await?;
    let tcp = prober.connect(addresses).await?;
    let stream = prober.encrypt(tcp).await?;
    let mut session = prober.open(stream).await?;
    prober.first_listing(&mut session, listing_wait).await
}

struct Prober<'c, M, P> {
    feed: &'c Feed<M>,
    limit: Duration,
    on_step: P,
}

impl<M: Marketplace, P: FnMut(ProbeStep, Duration, &str)> Prober<'_, M, P> {
    /// Runs one step under a deadline.
    async fn step<T>(
        &mut self,
        step: ProbeStep,
        limit: Duration,
        work: impl Future<Output = Result<(T, String), FeedError>>,
    ) -> Result<T, StepError> {
        let started = now();
        let result = deadline::timeout(limit, work).await;
        let took = now().saturating_duration_since(started);
        let connect_step = match step {
            ProbeStep::Dns | ProbeStep::Tcp => ConnectStep::Connect,
            ProbeStep::Tls => ConnectStep::Tls,
            ProbeStep::Upgrade => ConnectStep::Upgrade,
            ProbeStep::Ack | ProbeStep::Listing => ConnectStep::Ack,
        };
        match result {
            Ok(Ok((done, detail))) => {
                (self.on_step)(step, took, &detail);
                Ok(done)
            }
            Ok(Err(error)) => Err(StepError { step, took, error }),
            Err(Late) if step == ProbeStep::Listing => {
                Err(StepError { step, took, error: FeedError::Idle(limit) })
            }
            Err(Late) => Err(StepError {
                step,
                took,
                error: FeedError::Deadline { step: connect_step, after: limit },
            }),
        }
    }

    async fn resolve(&mut self) -> Result<VecDeque<SocketAddr>, StepError> {
        let endpoint = &self.feed.config.endpoints.ws;
        let work = async {
            let found = dial::lookup(endpoint).await;
            let addresses: VecDeque<SocketAddr> = found.map_err(FeedError::Dial)?.into();
            let (host, count) = (endpoint.host(), addresses.len());
            let detail = format!("{host} has {}", counted(count, "address", "addresses"));
            Ok((addresses, detail))
        };
        self.step(ProbeStep::Dns, self.limit, work).await
    }

    async fn connect(&mut self, addresses: VecDeque<SocketAddr>) -> Result<TcpStream, StepError> {
        let work = async {
            let stream = race(addresses).await.map_err(FeedError::Dial)?;
            let detail = stream.peer_addr().map(|address| address.to_string());
            Ok((stream, detail.unwrap_or_default()))
        };
        self.step(ProbeStep::Tcp, self.limit, work).await
    }

    async fn encrypt(&mut self, tcp: TcpStream) -> Result<MaybeTlsStream, StepError> {
        let endpoints = &self.feed.config.endpoints;
        let tcp = BusyPollStream::new(tcp, false);
        let work = async {
            if !endpoints.ws.is_tls() {
                return Ok((MaybeTlsStream::Plain(tcp), "not needed: loopback".to_owned()));
            }
            let tls = Tls::from_config(&self.feed.config).map_err(FeedError::TlsSetUp)?;
            let name = server_name(endpoints.ws.host()).map_err(FeedError::TlsSetUp)?;
            let stream = TlsConnector::from(tls.config()).connect(name, tcp).await;
            let stream = stream.map_err(FeedError::Tls)?;
            Ok((MaybeTlsStream::Tls(Box::new(stream)), "certificate valid".to_owned()))
        };
        self.step(ProbeStep::Tls, self.limit, work).await
    }

    async fn open(
        &mut self,
        stream: MaybeTlsStream,
    ) -> Result<FeedSession<M, MaybeTlsStream>, StepError> {
        let Feed { market, config, .. } = self.feed;
        let limits = config.reconnection.limits();
        let work = async {
            let credential = config.credential.as_ref();
            let token = match market.token_request(credential) {
                Some(request) => Some(fetch_token(config, &request, M::CAPABILITIES.reads).await?),
                None => None,
            };
            let plan = market.dial(credential, token.as_ref()).map_err(FeedError::Prepare)?;
            let mut subscriptions =
                SubscriptionState::new(plan.protocol, limits.initial_delay, limits.max_delay);
            for MarketSubscription { subscription, .. } in market.subscriptions(None) {
                if !subscription.is_optional {
                    subscriptions.subscribe(subscription, now());
                }
            }
            let authority = config.endpoints.ws.authority();
            let subprotocol = subscriptions.subprotocol();
            let socket = upgrade(stream, &authority, &plan.upgrade, subprotocol).await?;
            Ok(((socket, subscriptions), "a WebSocket".to_owned()))
        };
        let (socket, subscriptions) = self.step(ProbeStep::Upgrade, self.limit, work).await?;
        let work = async {
            let mut session = Session::new(socket, subscriptions, limits);
            session.init().await?;
            session.subscribe().await?;
            Ok((session, "acknowledged and subscribed".to_owned()))
        };
        self.step(ProbeStep::Ack, self.limit, work).await
    }

    async fn first_listing(
        &mut self,
        session: &mut FeedSession<M, MaybeTlsStream>,
        wait: Duration,
    ) -> Result<(), StepError> {
        let mut arrival_stats = ArrivalStats::default();
        let work = async {
            let notify = Notify::new();
            let mut first = FirstListing {
                market: &self.feed.market,
                listings: 0,
                rejection: None,
                notify: &notify,
            };
            let ended = tokio::select! {
                ended = session.run(&mut first, &mut arrival_stats) => ended,
                () = notify.notified() => FeedError::Cut,
            };
            match first.listings {
                0 => Err(first
                    .rejection
                    .map_or(ended, |reason| FeedError::SessionRejected { reason })),
                listings => Ok(((), format!("{listings} listing(s)"))),
            }
        };
        let result = self.step(ProbeStep::Listing, wait, work).await;
        session.close(1_000).await;
        result
    }
}

/// Waits for the first listing.
struct FirstListing<'h, M> {
    market: &'h M,
    listings: usize,
    rejection: Option<String>,
    notify: &'h Notify,
}

impl<M: Marketplace> SessionHandler<M::Protocol> for FirstListing<'_, M> {
    type Payload<'a> = Decoded<M::Events<'a>>;

    fn decode<'a>(
        &self,
        input: &mut <M::Protocol as FeedProtocol>::Input<'a>,
    ) -> Result<Self::Payload<'a>, <M::Protocol as FeedProtocol>::DecodeError> {
        self.market.decode(input)
    }

    fn on_data(
        &mut self,
        _of: Option<OperationId>,
        payload: Decoded<M::Events<'_>>,
        _arrival: &Arrival<'_>,
    ) -> bool {
        let events = payload.events.into_iter();
        let listings = events.filter(|event| matches!(event, MarketEvent::Trade(_))).count();
        self.listings = self.listings.saturating_add(listings);
        if self.listings != 0 {
            self.notify.notify_one();
        }
        true
    }

    fn on_notice(&mut self, notice: SessionNotice<'_>) {
        if let SessionNotice::Ended { error: Some(error), .. } = notice {
            self.rejection = Some(Escaped(error).to_string());
            self.notify.notify_one();
        }
    }
}
