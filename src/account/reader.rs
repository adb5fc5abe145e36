//! Typed reads over HTTP: user and balance, own purchases, open listings.
//!
//! All requests except orders go through one [`AccountReader`], which limits their rate. Nothing here
//! runs on the thread that decides.

use std::time::{Duration, Instant};

use tokio::{sync::Mutex, time::sleep};

use super::{
    failure::ReadFailure,
    purchases::{LookBack, PageWalk, PurchasesReading},
    rate_limiter::RateLimiter,
};
use crate::{
    clock,
    config::{Credential, Endpoints, Generation},
    domain::server_clock::ClockExchange,
    domain::time::UnixMs,
    domain::trade::Trade,
    markets::csgoroll::{
        account::{self, CurrentUser, OwnPurchase, Page, ReadError, User},
        operations::{self, GraphqlOperation, PAGE_LISTINGS_MAX},
    },
    net::{
        http_client::{HttpClient, HttpError, HttpReply},
        http_message::HttpResponse,
        tls::Tls,
    },
};

/// Rate-limited reader.
#[derive(Debug)]
pub struct AccountReader {
    http: HttpClient,
    endpoints: Endpoints,
    credential: Option<Credential>,
    generation: Generation,
    rate_limiter: Mutex<RateLimiter>,
}

/// User and balance at a point in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserReading {
    pub user: User,
    /// Earliest time at which the data was current, on the local wall clock.
    pub as_of: UnixMs,
    pub exchange: ClockExchange,
    /// `Date` header of the answer.
    pub date: Option<UnixMs>,
}

/// One page of open listings.
#[derive(Debug)]
pub struct ListingsPage {
    response: HttpResponse,
    generation: Generation,
}

impl AccountReader {
    /// Creates a reader without sending a request.
    ///
    /// # Errors
    ///
    /// Returns an [`HttpError`] if the HTTP client cannot be created.
    pub fn new(
        endpoints: &Endpoints,
        credential: Option<&Credential>,
        generation: Generation,
        tls: &Tls,
    ) -> Result<Self, HttpError> {
        Ok(Self {
            http: HttpClient::new(&endpoints.http, tls)?,
            endpoints: endpoints.clone(),
            credential: credential.cloned(),
            generation,
            rate_limiter: Mutex::new(RateLimiter::default()),
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
        let (reply, as_of) = self.send(&operations::current_user()).await?;
        let HttpReply { response, exchange } = reply;
        match account::read_current_user(text_of(&response)?) {
            Ok(CurrentUser::SignedIn(user)) => {
                Ok(UserReading { user, as_of, exchange, date: response.head.date })
            }
            Ok(CurrentUser::SignedOut) => Err(ReadFailure::SignedOut),
            Err(error) => Err(read_failure(error)),
        }
    }

    /// Reads the own purchases page by page. Times are on the server's clock.
    ///
    /// # Errors
    ///
    /// Returns a [`ReadFailure`] if a page cannot be read before [`LookBack::needed`] was reached. A
    /// partial list is dropped because it is no evidence.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only reads.
    pub async fn own_purchases(
        &self,
        user: &User,
        look_back: LookBack,
    ) -> Result<PurchasesReading, ReadFailure> {
        let mut walk = PageWalk::new(look_back);
        let (page, started) = self.purchases_page(user, None).await?;
        let mut after = walk.add_page(page);
        while let Some(cursor) = after {
            after = match self.purchases_page(user, Some(&cursor)).await {
                Ok((page, _started)) => walk.add_page(page),
                Err(failure) => walk.on_page_error(failure).map(|()| None)?,
            };
        }
        Ok(walk.finish(started))
    }

    async fn purchases_page(
        &self,
        user: &User,
        after: Option<&str>,
    ) -> Result<(Page<OwnPurchase>, UnixMs), ReadFailure> {
        let page = operations::own_purchases(&user.id, PAGE_LISTINGS_MAX, after)
            .ok_or(ReadFailure::UserId)?;
        let (reply, started) = self.send(&page).await?;
        let page = account::read_own_purchases(text_of(&reply.response)?).map_err(read_failure)?;
        Ok((page, started))
    }

    /// Reads one page of open listings, newest first. `after`: the cursor of the previous page.
    ///
    /// # Errors
    ///
    /// Returns a [`ReadFailure`] if the page cannot be read.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only reads.
    pub async fn open_listings(&self, after: Option<&str>) -> Result<ListingsPage, ReadFailure> {
        let page = operations::open_listings(self.generation, PAGE_LISTINGS_MAX, after);
        let (reply, _started) = self.send(&page).await?;
        Ok(ListingsPage { response: reply.response, generation: self.generation })
    }

    /// Sends a request as soon as the rate limit allows it. Returns the reply, and the local wall
    /// clock at the time of the request.
    async fn send(&self, operation: &GraphqlOperation) -> Result<(HttpReply, UnixMs), ReadFailure> {
        // The lock also limits the reader to one request at a time.
        let mut rate_limiter = self.rate_limiter.lock().await;
        sleep(rate_limiter.delay(Instant::now())).await;
        rate_limiter.on_request(Instant::now());
        let started = clock::now();
        let request =
            operations::request(&self.endpoints, self.credential.as_ref(), operation.to_json());
        let answered = self.http.send(&request).await;
        let checked =
            answered.map_err(ReadFailure::from).and_then(|reply| match ReadFailure::from_response(
                &reply.response,
            ) {
                Some(failure) => Err(failure),
                None => Ok(reply),
            });
        match checked {
            Ok(reply) => {
                rate_limiter.on_success();
                Ok((reply, started))
            }
            Err(failure) => {
                rate_limiter.on_failure(Instant::now(), failure.retry_after());
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
    pub fn listings(&self) -> Result<Page<Trade<'_>>, ReadFailure> {
        account::read_open_listings(text_of(&self.response)?, self.generation).map_err(read_failure)
    }

    /// Returns the latest server time at which the page can have been generated.
    pub fn latest(&self) -> Option<UnixMs> {
        self.response.head.date.map(|date| date.plus(Duration::from_secs(1)))
    }
}

fn text_of(response: &HttpResponse) -> Result<&str, ReadFailure> {
    response.text().map_err(|error| ReadError::from(error).into())
}

/// Converts a read error. The message of a site error may mean that the session is signed out.
fn read_failure(error: ReadError) -> ReadFailure {
    match error {
        ReadError::SiteError(message)
            if message.to_ascii_lowercase().contains("unauthenticated") =>
        {
            ReadFailure::SignedOut
        }
        error => ReadFailure::Answer(error),
    }
}
