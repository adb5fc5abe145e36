//! Reads the account now and then, and soon after something has happened that it should show.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, mpsc},
    time::sleep,
};

use super::{
    failure::ReadFailure,
    health::ReadKind,
    look_back::LookBackTimes,
    purchases::PurchasesReading,
    reader::{AccountReader, UserReading},
};
use crate::{clock, domain::time::UnixMs, markets::csgoroll::account::User};

/// How much news may wait to be taken.
pub const NEWS_QUEUED_MAX: usize = 16;

/// How often the account is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollConfig {
    /// How often if nothing happens.
    pub every: Duration,
    /// The least distance between two readings, however often they are asked for.
    pub distance: Duration,
    /// Whether purchases are read too. A dry run has none.
    pub purchases: bool,
}

impl Default for PollConfig {
    fn default() -> Self {
        Self { every: Duration::from_secs(60), distance: Duration::from_secs(5), purchases: true }
    }
}

/// What was learned.
#[derive(Debug)]
pub enum AccountUpdate {
    /// Who we are and what we hold.
    User(UserReading),
    /// What we have bought. It was read after the newest [`AccountUpdate::User`], within seconds.
    Purchases(PurchasesReading),
    /// It could not be read. This is sent each time.
    Failed {
        /// What was read.
        read: ReadKind,
        /// Why it failed.
        failure: ReadFailure,
    },
}

/// What is asked of the watch, from any thread, without waiting.
#[derive(Debug)]
pub struct RefreshRequests {
    soon: Notify,
    oldest_open_ms: AtomicI64,
}

impl Default for RefreshRequests {
    fn default() -> Self {
        Self { soon: Notify::new(), oldest_open_ms: AtomicI64::new(i64::MAX) }
    }
}

impl RefreshRequests {
    /// Read soon: something has happened that the account should show.
    pub fn soon(&self) {
        self.soon.notify_one();
    }

    /// Purchases must be read back to this moment: the oldest that is still open; `None`: none is.
    pub fn oldest_open(&self, moment: Option<UnixMs>) {
        let ms = moment.map_or(i64::MAX, |moment| moment.0);
        self.oldest_open_ms.store(ms, Ordering::Relaxed);
    }

    fn back_to(&self, started: UnixMs) -> UnixMs {
        UnixMs(self.oldest_open_ms.load(Ordering::Relaxed)).min(started)
    }
}

/// Reads the account until nobody takes the news any more. Without a credential it says so once.
///
/// # Cancel safety
///
/// Safe: it only reads.
pub async fn watch(
    reader: &AccountReader,
    habits: PollConfig,
    requests: &RefreshRequests,
    news: &mpsc::Sender<AccountUpdate>,
) {
    let started = clock::now();
    let mut depth = LookBackTimes::default();
    loop {
        let began = Instant::now();
        let user = match reader.current_user().await {
            Ok(reading) => {
                let user = reading.user.clone();
                if news.send(AccountUpdate::User(reading)).await.is_err() {
                    return;
                }
                Some(user)
            }
            Err(failure) => {
                let is_final = matches!(failure, ReadFailure::NoCredential);
                let told =
                    news.send(AccountUpdate::Failed { read: ReadKind::Balance, failure }).await;
                if is_final || told.is_err() {
                    return;
                }
                None
            }
        };
        if let Some(user) = user.filter(|_user| habits.purchases)
            && let Some(told) =
                purchases(reader, &user, requests.back_to(started), &mut depth).await
            && news.send(told).await.is_err()
        {
            return;
        }
        tokio::select! {
            () = sleep(habits.every.saturating_sub(began.elapsed())) => {}
            () = requests.soon.notified() => {
                sleep(habits.distance.saturating_sub(began.elapsed())).await;
            }
            () = news.closed() => return,
        }
    }
}

/// Reads the purchases back to where that is due; `None`: nothing is due.
async fn purchases(
    reader: &AccountReader,
    user: &User,
    needed: UnixMs,
    depth: &mut LookBackTimes,
) -> Option<AccountUpdate> {
    let span = depth.span(Instant::now(), clock::now(), needed)?;
    Some(match reader.own_purchases(user, span).await {
        Ok(reading) => {
            depth.read(Instant::now(), span, &reading);
            AccountUpdate::Purchases(reading)
        }
        Err(failure) => AccountUpdate::Failed { read: ReadKind::Purchases, failure },
    })
}
