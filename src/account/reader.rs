//! Typed reads over HTTP: user and balance, own purchases, open listings.
//!
//! All requests except orders go through one [`AccountReader`], which limits their rate. Nothing
//! here runs on the thread that decides.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tokio::{sync::Mutex, time::sleep};

use super::{
    failure::ReadFailure,
    purchases::{LookBack, PageWalk, PurchasesReading},
    rate_limiter::RateLimiter,
};

use crate::{
    clock,
    config::Credential,
    config::endpoint::Endpoint,
    domain::account::{OwnPurchase, Page, User},
    domain::server_clock::ClockExchange,
    domain::time::UnixMs,
    domain::trade::Trade,
    markets::{AccountQuery, MarketApi, OrderReference, ReadError},
    net::{
        http_client::{HttpClient, HttpError, HttpReply, acquire_quota, pause_host, pause_of_host},
        http_message::HttpResponse,
        tls::Tls,
    },
};

/// Maximum time by which the local clock may be ahead of the server's without a correction. Lists
/// reach back further than needed by more than that.
const AHEAD_TOLERATED: Duration = Duration::from_secs(60);

/// Rate-limited reader.
#[derive(Debug)]
pub struct AccountReader<M> {
    market: M,
    http: HttpClient,
    credential: Option<Credential>,
    rate_limiter: Mutex<RateLimiter>,
    /// Time by which the local wall clock is ahead of the server's, in milliseconds.
    ahead_ms: AtomicU64,
}

/// User and balance at a point in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserReading {
    pub user: User,
    /// Earliest time at which the data was current, on [`clock::now`].
    pub as_of: UnixMs,
    pub exchange: ClockExchange,
    /// `Date` header of the response.
    pub date: Option<UnixMs>,
}

impl UserReading {
    /// Returns an upper bound on the time by which the local clock is ahead of the server's; zero
    /// up to [`AHEAD_TOLERATED`], and `None` without a `Date`.
    fn local_clock_ahead(&self) -> Option<Duration> {
        let ClockExchange { sent, received } = self.exchange;
        let ahead = self.as_of.plus(received.saturating_duration_since(sent)).since(self.date?);
        Some(if AHEAD_TOLERATED < ahead { ahead } else { Duration::ZERO })
    }
}

/// One page of open listings.
#[derive(Debug)]
pub struct ListingsPage {
    response: HttpResponse,
}

impl<M: MarketApi> AccountReader<M> {
    /// Creates a reader without sending a request.
    ///
    /// # Errors
    ///
    /// Returns an [`HttpError`] if the HTTP client cannot be created.
    pub fn new(
        market: M,
        endpoint: &Endpoint,
        credential: Option<&Credential>,
        tls: &Tls,
    ) -> Result<Self, HttpError> {
        Ok(Self {
            market,
            http: HttpClient::new(endpoint, tls)?,
            credential: credential.cloned(),
            rate_limiter: Mutex::new(RateLimiter::new(M::CAPABILITIES.reads)),
            ahead_ms: AtomicU64::default(),
        })
    }

    /// Sets the minimum interval between two reads, for a simulated market.
    #[must_use]
    pub fn with_min_interval(self, interval_min: Duration) -> Self {
        Self { rate_limiter: Mutex::new(RateLimiter::with_min_interval(interval_min)), ..self }
    }

    /// Returns `true` if a credential is set. Without one only open listings can be read.
    pub const fn has_credential(&self) -> bool {
        self.credential.is_some()
    }

    /// Reads the user and the balance.
    ///
    /// # Errors
    ///
    /// Returns a [`ReadFailure`]. Without a credential it is [`ReadFailure::NoCredential`], and no
    /// request is sent.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only reads.
    pub async fn current_user(&self) -> Result<UserReading, ReadFailure> {
        if !self.has_credential() {
            return Err(ReadFailure::NoCredential);
        }
        let (HttpReply { response, exchange }, as_of) = self.send(AccountQuery::User).await?;
        let user = self.market.read_user(&response)?;
        let reading = UserReading { user, as_of, exchange, date: response.head.date };
        if let Some(ahead) = reading.local_clock_ahead() {
            let ms = u64::try_from(ahead.as_millis()).unwrap_or(u64::MAX);
            if self.ahead_ms.swap(ms, Ordering::Relaxed) == 0 && 0 < ms {
                tracing::warn!(
                    "This machine's clock is {} s ahead of the market's; set it",
                    ahead.as_secs()
                );
            }
        }
        Ok(reading)
    }

    /// Reads the own purchases page by page. Times are on the server's clock, or on the local one
    /// if the last [`current_user`](Self::current_user) has shown that it is ahead.
    ///
    /// # Errors
    ///
    /// Returns a [`ReadFailure`] if a page cannot be read before [`LookBack::needed`] was reached.
    /// A partial list is discarded: it cannot show that an order is absent.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only reads.
    pub async fn own_purchases(
        &self,
        user: &User,
        look_back: LookBack,
    ) -> Result<PurchasesReading, ReadFailure> {
        let ahead = Duration::from_millis(self.ahead_ms.load(Ordering::Relaxed));
        let mut walk = PageWalk::new(look_back).with_clock_ahead(ahead);
        let (page, started) = self.purchases_page(user, None).await?;
        let mut after = walk.add_page(page);
        while let Some(cursor) = after {
            after = match self.purchases_page(user, Some(&cursor)).await {
                Ok((page, _started)) => walk.add_page(page),
                Err(failure) => {
                    walk.on_page_error(failure, &M::CAPABILITIES.environment)?;
                    break;
                }
            };
        }
        Ok(walk.finish(started))
    }

    async fn purchases_page(
        &self,
        user: &User,
        after: Option<&str>,
    ) -> Result<(Page<OwnPurchase>, UnixMs), ReadFailure> {
        let query = AccountQuery::Purchases { user: &user.id, after };
        let (reply, started) = self.send(query).await?;
        Ok((self.market.read_purchases(&reply.response)?, started))
    }

    /// Looks up orders by their own ids. Returns `None` for each that the market does not know, and
    /// the start of the read on [`clock::now`].
    ///
    /// # Errors
    ///
    /// Returns a [`ReadFailure`] if the response cannot be read.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only reads.
    pub async fn orders(
        &self,
        orders: &[OrderReference<'_>],
    ) -> Result<(Vec<Option<OwnPurchase>>, UnixMs), ReadFailure> {
        let (reply, started) = self.send(AccountQuery::Orders { orders }).await?;
        let read = |order: &OrderReference<'_>| self.market.read_order(*order, &reply.response);
        let found: Result<_, ReadError> = orders.iter().map(read).collect();
        Ok((found?, started))
    }

    /// Returns `true` if the market has a list of open listings.
    pub const fn has_open_listings(&self) -> bool {
        M::CAPABILITIES.has_open_listings
    }

    /// Returns `true` if the market has a list of the account's purchases.
    pub const fn has_purchases(&self) -> bool {
        M::CAPABILITIES.has_purchases
    }

    /// Reads one page of open listings.
    ///
    /// # Errors
    ///
    /// Returns a [`ReadFailure`] if the page cannot be read.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only reads.
    pub async fn listings(&self, query: AccountQuery<'_>) -> Result<ListingsPage, ReadFailure> {
        Ok(ListingsPage { response: self.send(query).await?.0.response })
    }

    /// Sends a request as soon as the rate limit allows it. Returns the reply, and the time of the
    /// request on [`clock::now`].
    async fn send(&self, query: AccountQuery<'_>) -> Result<(HttpReply, UnixMs), ReadFailure> {
        let request = self.market.account_request(&query)?;
        let request = M::authenticated(self.credential.as_ref(), request);
        // The lock also limits the reader to one request at a time.
        let mut rate_limiter = self.rate_limiter.lock().await;
        let paused = pause_of_host(self.http.origin());
        sleep(rate_limiter.delay(Instant::now()).max(paused)).await;
        acquire_quota(self.http.origin(), M::CAPABILITIES.reads.read_quota()).await;
        rate_limiter.on_request(Instant::now());
        let started = clock::now();
        let received = self.http.send(&request).await.map_err(ReadFailure::from);
        let check = |reply: HttpReply| match ReadFailure::from_response::<M>(&reply.response) {
            Some(failure) => Err(failure),
            None => Ok(reply),
        };
        match received.and_then(check) {
            Ok(reply) => {
                rate_limiter.on_success();
                Ok((reply, started))
            }
            Err(failure) => {
                let now = Instant::now();
                rate_limiter.on_failure(now, failure.retry_after());
                if let ReadFailure::Wait { status: 429, .. }
                | ReadFailure::Status { status: 418, .. } = failure
                {
                    pause_host(self.http.origin(), rate_limiter.delay(now));
                }
                Err(failure)
            }
        }
    }
}

impl ListingsPage {
    /// Parses the listings of the page.
    ///
    /// # Errors
    ///
    /// Returns a [`ReadFailure`] if the page cannot be parsed.
    pub fn listings<M: MarketApi>(
        &self,
        reader: &AccountReader<M>,
    ) -> Result<Page<Trade<'_>>, ReadFailure> {
        Ok(reader.market.read_listings(&self.response)?)
    }

    /// Returns an upper bound on the server time of the page: its `Date` has a resolution of 1 s.
    pub fn latest(&self) -> Option<UnixMs> {
        self.response.head.date.map(|date| date.plus(Duration::from_secs(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_shows_by_how_much_the_local_clock_is_ahead() {
        let (sent, as_of) = (Instant::now(), UnixMs(1_000_000_000));
        let ahead = |date| {
            let exchange = ClockExchange { sent, received: sent + Duration::from_secs(2) };
            let reading = UserReading { user: User::default(), as_of, exchange, date };
            reading.local_clock_ahead()
        };
        assert_eq!(ahead(None), None);
        let date = |seconds: i64| Some(UnixMs(as_of.0 + seconds * 1_000));
        assert_eq!(ahead(date(3_600)), Some(Duration::ZERO), "behind");
        assert_eq!(ahead(date(-58)), Some(Duration::ZERO));
        assert_eq!(ahead(date(-59)), Some(Duration::from_secs(61)));
        assert_eq!(ahead(date(-86_400)), Some(Duration::from_secs(86_402)));
    }
}
