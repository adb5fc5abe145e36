//! Cold reads with typed results: who we are, what we have bought, what is for sale.
//!
//! Every read of this program that is not a buy goes through one [`AccountReader`], which keeps the pace.
//! Nothing here runs in the thread that decides.

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
        tls::Tls,
    },
};

/// Reads, at a pace.
#[derive(Debug)]
pub struct AccountReader {
    http: HttpClient,
    generation: Generation,
    has_credential: bool,
    pace: Mutex<RateLimiter>,
}

/// Who we are, and when that was true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserReading {
    /// What the site says.
    pub user: User,
    /// The earliest moment, on our wall clock, at which it can have been true.
    pub as_of: UnixMs,
    /// The exchange that told it.
    pub exchange: ClockExchange,
    /// The answer's `Date`.
    pub date: Option<UnixMs>,
}

/// One page of what is for sale.
#[derive(Debug)]
pub struct ListingsPage {
    reply: HttpReply,
    generation: Generation,
}

impl AccountReader {
    /// Sets it up; asks nothing yet.
    ///
    /// # Errors
    ///
    /// An [`HttpError`] if the client cannot be set up.
    pub fn new(
        endpoints: &Endpoints,
        credential: Option<&Credential>,
        generation: Generation,
        tls: &Tls,
    ) -> Result<Self, HttpError> {
        Ok(Self {
            http: HttpClient::new(endpoints, credential, tls)?,
            generation,
            has_credential: credential.is_some(),
            pace: Mutex::new(RateLimiter::default()),
        })
    }

    /// Keeps another distance between two reads than the site should be spared, for a practice
    /// market.
    #[must_use]
    pub fn with_distance(self, distance: Duration) -> Self {
        Self { pace: Mutex::new(RateLimiter::with_distance(distance)), ..self }
    }

    /// Whether it asks as somebody. As nobody it sees what is for sale at most.
    pub const fn has_credential(&self) -> bool {
        self.has_credential
    }

    /// Reads who we are.
    ///
    /// # Errors
    ///
    /// A [`ReadFailure`]; [`ReadFailure::NoCredential`] without asking.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only reads.
    pub async fn current_user(&self) -> Result<UserReading, ReadFailure> {
        if !self.has_credential {
            return Err(ReadFailure::NoCredential);
        }
        let (reply, as_of) = self.ask(&operations::current_user()).await?;
        match account::read_current_user(&reply.body) {
            Ok(CurrentUser::SignedIn(user)) => {
                Ok(UserReading { user, as_of, exchange: reply.exchange, date: reply.head.date })
            }
            Ok(CurrentUser::SignedOut) => Err(ReadFailure::SignedOut),
            Err(error) => Err(about(error)),
        }
    }

    /// Reads what this account has bought, page by page. Moments are on the server's clock.
    ///
    /// # Errors
    ///
    /// A [`ReadFailure`] before [`LookBack::needed`] was reached. What was read by then is dropped: half
    /// a list proves nothing.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only reads.
    pub async fn own_purchases(
        &self,
        user: &User,
        span: LookBack,
    ) -> Result<PurchasesReading, ReadFailure> {
        let mut walk = PageWalk::new(span);
        let (page, started) = self.purchases_page(user, None).await?;
        let mut after = walk.take(page);
        while let Some(cursor) = after {
            after = match self.purchases_page(user, Some(&cursor)).await {
                Ok((page, _started)) => walk.take(page),
                Err(failure) => walk.fail(failure).map(|()| None)?,
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
        let (reply, started) = self.ask(&page).await?;
        let page = account::read_own_purchases(&reply.body).map_err(about)?;
        Ok((page, started))
    }

    /// Reads one page of what is for sale, newest first. `after`: the cursor of the page before.
    ///
    /// # Errors
    ///
    /// A [`ReadFailure`].
    ///
    /// # Cancel safety
    ///
    /// Safe: it only reads.
    pub async fn open_listings(&self, after: Option<&str>) -> Result<ListingsPage, ReadFailure> {
        let page = operations::open_listings(self.generation, PAGE_LISTINGS_MAX, after);
        let (reply, _started) = self.ask(&page).await?;
        Ok(ListingsPage { reply, generation: self.generation })
    }

    /// Asks when its turn has come. Returns the answer, and our wall clock when the request left.
    async fn ask(&self, operation: &GraphqlOperation) -> Result<(HttpReply, UnixMs), ReadFailure> {
        // One read at a time: whoever holds the pace has the turn.
        let mut pace = self.pace.lock().await;
        sleep(pace.wait(Instant::now())).await;
        pace.leaves(Instant::now());
        let started = clock::now();
        let answered = self.http.post(operation.to_json()).await;
        let checked =
            answered.map_err(ReadFailure::from).and_then(|reply| match ReadFailure::of(&reply) {
                Some(failure) => Err(failure),
                None => Ok(reply),
            });
        match checked {
            Ok(reply) => {
                pace.succeeded();
                Ok((reply, started))
            }
            Err(failure) => {
                pace.failed(Instant::now(), failure.retry_after());
                Err(failure)
            }
        }
    }
}

impl ListingsPage {
    /// What it lists.
    ///
    /// # Errors
    ///
    /// A [`ReadFailure`] if it is of no use.
    pub fn listings(&self) -> Result<Page<Trade<'_>>, ReadFailure> {
        account::read_open_listings(&self.reply.body, self.generation).map_err(about)
    }

    /// The latest that the server's clock can have shown when the page was made.
    pub fn latest(&self) -> Option<UnixMs> {
        self.reply.head.date.map(|date| date.plus(Duration::from_secs(1)))
    }
}

/// The site's own words may say that nobody is signed in.
fn about(error: ReadError) -> ReadFailure {
    match error {
        ReadError::Refused(words) if words.to_ascii_lowercase().contains("unauthenticated") => {
            ReadFailure::SignedOut
        }
        error => ReadFailure::Answer(error),
    }
}
