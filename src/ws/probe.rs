//! One connection to the marketplace, tried leg by leg: for a person who asks where it fails.
//!
//! The same steps as the feed takes, in the same order, each with its time and under its own
//! deadline. It ends with the first listing, says goodbye and leaves; nothing is tried twice.

use std::{collections::VecDeque, fmt, net::SocketAddr, time::Duration};

use tokio::{net::TcpStream, sync::Notify};
use tokio_rustls::TlsConnector;

use super::{
    connect::{MaybeTlsStream, upgrade},
    error::{ConnectStep, FeedError},
    protocol::{GraphqlTransportWs, OperationId, Subscription, SubscriptionState},
    session::{Session, SessionHandler, SessionNotice, now},
    upgrade::UpgradeRequest,
    watchdog::ArrivalStats,
};
use crate::{
    config::Config,
    latency::RxTimestamps,
    markets::csgoroll::{feed::NextPayload, operations},
    net::{
        busy_poll::BusyPollStream,
        deadline::{self, Late},
        dial::{self, Reach, race},
        tls::{Tls, server_name},
    },
};

/// A leg of the way to the first listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeStep {
    /// The name server.
    Dns,
    /// The TCP connection.
    Tcp,
    /// The TLS handshake.
    Tls,
    /// The upgrade to a WebSocket.
    Upgrade,
    /// The greeting's acknowledgement, and the subscription written.
    Ack,
    /// The first listing.
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

/// A leg that was not made.
#[derive(Debug)]
pub struct StepError {
    /// Which.
    pub leg: ProbeStep,
    /// How long it was tried.
    pub took: Duration,
    /// Why it failed.
    pub error: FeedError,
}

/// Goes the way once. `passed` hears of each leg with its time and a word about it.
///
/// # Errors
///
/// [`StepError`] where it went no further.
///
/// # Cancel safety
///
/// Safe: whatever was under way is closed.
pub async fn probe(
    config: &Config,
    listing_wait: Duration,
    passed: impl FnMut(ProbeStep, Duration, &str),
) -> Result<(), StepError> {
    let limit = config.reconnection.limits().connect_timeout;
    let mut way = Prober { config, limit, passed };
    let addresses = way.lookup().await?;
    let tcp = way.connect(addresses).await?;
    let stream = way.encrypt(tcp).await?;
    let mut session = way.open(stream).await?;
    way.listen(&mut session, listing_wait).await
}

struct Prober<'c, P> {
    config: &'c Config,
    limit: Duration,
    passed: P,
}

impl<P: FnMut(ProbeStep, Duration, &str)> Prober<'_, P> {
    /// Goes one leg under a deadline.
    async fn leg<T>(
        &mut self,
        leg: ProbeStep,
        limit: Duration,
        going: impl Future<Output = Result<(T, String), FeedError>>,
    ) -> Result<T, StepError> {
        let begun = now();
        let gone = deadline::timeout(limit, going).await;
        let took = now().saturating_duration_since(begun);
        let step = match leg {
            ProbeStep::Dns | ProbeStep::Tcp => ConnectStep::Connect,
            ProbeStep::Tls => ConnectStep::Tls,
            ProbeStep::Upgrade => ConnectStep::Upgrade,
            ProbeStep::Ack | ProbeStep::Listing => ConnectStep::Ack,
        };
        match gone {
            Ok(Ok((done, word))) => {
                (self.passed)(leg, took, &word);
                Ok(done)
            }
            Ok(Err(error)) => Err(StepError { leg, took, error }),
            Err(Late) if leg == ProbeStep::Listing => {
                Err(StepError { leg, took, error: FeedError::Idle(limit) })
            }
            Err(Late) => {
                Err(StepError { leg, took, error: FeedError::Deadline { step, after: limit } })
            }
        }
    }

    async fn lookup(&mut self) -> Result<VecDeque<SocketAddr>, StepError> {
        let endpoint = &self.config.endpoints.ws;
        let looking = async {
            let reach = Reach::of(endpoint.is_tls());
            let found = dial::lookup(endpoint.host(), endpoint.port(), reach).await;
            let addresses: VecDeque<SocketAddr> = found.map_err(FeedError::Dial)?.into();
            let word = format!("{} has {} address(es)", endpoint.host(), addresses.len());
            Ok((addresses, word))
        };
        self.leg(ProbeStep::Dns, self.limit, looking).await
    }

    async fn connect(&mut self, addresses: VecDeque<SocketAddr>) -> Result<TcpStream, StepError> {
        let connecting = async {
            let stream = race(addresses).await.map_err(FeedError::Dial)?;
            let word = stream.peer_addr().map(|address| address.to_string());
            Ok((stream, word.unwrap_or_default()))
        };
        self.leg(ProbeStep::Tcp, self.limit, connecting).await
    }

    async fn encrypt(&mut self, tcp: TcpStream) -> Result<MaybeTlsStream, StepError> {
        let Config { endpoints, tls, .. } = self.config;
        let tcp = BusyPollStream::new(tcp, false);
        let encrypting = async {
            if !endpoints.ws.is_tls() {
                return Ok((MaybeTlsStream::Plain(tcp), "not needed on this machine".to_owned()));
            }
            let tls = tls.clone().map_or_else(Tls::new, Ok).map_err(FeedError::TlsSetUp)?;
            let name = server_name(endpoints.ws.host()).map_err(FeedError::TlsSetUp)?;
            let stream = TlsConnector::from(tls.config()).connect(name, tcp).await;
            let stream = stream.map_err(FeedError::Tls)?;
            Ok((MaybeTlsStream::Tls(Box::new(stream)), "the certificate is good".to_owned()))
        };
        self.leg(ProbeStep::Tls, self.limit, encrypting).await
    }

    async fn open(
        &mut self,
        stream: MaybeTlsStream,
    ) -> Result<Session<MaybeTlsStream, GraphqlTransportWs>, StepError> {
        let Config { endpoints, credential, reconnection, feed, .. } = self.config;
        let limits = reconnection.limits();
        let mut machine =
            SubscriptionState::new(GraphqlTransportWs, limits.initial_delay, limits.max_delay);
        let essential = operations::subscriptions(feed.generation).into_iter();
        for operation in essential.filter(|operation| operation.is_essential) {
            machine.want(Subscription { topic: operation.to_json(), is_optional: false }, now());
        }
        let authority = endpoints.ws.authority();
        let request = UpgradeRequest {
            authority: &authority,
            path: endpoints.ws.path(),
            origin: Some(&endpoints.origin),
            user_agent: Some(&endpoints.user_agent),
            credential: credential.as_ref(),
            subprotocol: machine.subprotocol(),
        };
        let upgrading = async { Ok((upgrade(stream, &request).await?, "a WebSocket".to_owned())) };
        let socket = self.leg(ProbeStep::Upgrade, self.limit, upgrading).await?;
        let greeting = async {
            let mut session = Session::new(socket, machine, limits);
            session.greet().await?;
            session.subscribe().await?;
            Ok((session, "acknowledged and subscribed".to_owned()))
        };
        self.leg(ProbeStep::Ack, self.limit, greeting).await
    }

    async fn listen(
        &mut self,
        session: &mut Session<MaybeTlsStream, GraphqlTransportWs>,
        wait: Duration,
    ) -> Result<(), StepError> {
        let mut rhythm = ArrivalStats::default();
        let listening = async {
            let heard = Notify::new();
            let mut first = FirstListing { listings: 0, refusal: None, heard: &heard };
            let ended = tokio::select! {
                ended = session.run(&mut first, &mut rhythm) => ended,
                () = heard.notified() => FeedError::Cut,
            };
            match first.listings {
                0 => {
                    Err(first.refusal.map_or(ended, |reason| FeedError::SessionRefused { reason }))
                }
                listings => Ok(((), format!("{listings} listing(s)"))),
            }
        };
        let heard = self.leg(ProbeStep::Listing, wait, listening).await;
        session.farewell(1_000).await;
        heard
    }
}

/// Waits for the first listing.
struct FirstListing<'h> {
    listings: usize,
    refusal: Option<String>,
    heard: &'h Notify,
}

impl SessionHandler for FirstListing<'_> {
    type Payload<'a> = NextPayload<'a>;

    fn arrived(&mut self, _text: &str) {}

    fn data(
        &mut self,
        _of: Option<OperationId>,
        payload: NextPayload<'_>,
        _arrival: RxTimestamps,
    ) -> bool {
        self.listings = self.listings.saturating_add(payload.len());
        if self.listings != 0 {
            self.heard.notify_one();
        }
        true
    }

    fn notice(&mut self, notice: SessionNotice<'_>) {
        if let SessionNotice::Ended { error: Some(error), .. } = notice {
            self.refusal = Some(crate::text::Escaped(error.0).to_string());
            self.heard.notify_one();
        }
    }
}
