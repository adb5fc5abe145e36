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
    reader::{PurchasesReading, Reader, UserReading},
};
use crate::{clock, time::UnixMs};

/// How much news may wait to be taken.
pub const NEWS_QUEUED_MAX: usize = 16;

/// How often the account is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Habits {
    /// How often if nothing happens.
    pub every: Duration,
    /// The least distance between two readings, however often they are asked for.
    pub distance: Duration,
    /// Whether purchases are read too. A dry run has none.
    pub purchases: bool,
}

impl Default for Habits {
    fn default() -> Self {
        Self { every: Duration::from_secs(60), distance: Duration::from_secs(5), purchases: true }
    }
}

/// What was learned.
#[derive(Debug)]
pub enum News {
    /// Who we are and what we hold.
    User(UserReading),
    /// What we have bought. It was read after the newest [`News::User`], within seconds.
    Purchases(PurchasesReading),
    /// It could not be read. Said each time; whoever tells a person says it once.
    Failed(ReadFailure),
}

/// What is asked of the watch, from any thread, without waiting.
#[derive(Debug)]
pub struct Requests {
    soon: Notify,
    oldest_open_ms: AtomicI64,
}

impl Default for Requests {
    fn default() -> Self {
        Self { soon: Notify::new(), oldest_open_ms: AtomicI64::new(i64::MAX) }
    }
}

impl Requests {
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
    reader: &Reader,
    habits: Habits,
    requests: &Requests,
    news: &mpsc::Sender<News>,
) {
    let started = clock::now();
    loop {
        let began = Instant::now();
        let is_taken = match read(reader, habits, requests.back_to(started), news).await {
            Ok(is_taken) => is_taken,
            Err(ReadFailure::NoCredential) => {
                let _nobody = news.send(News::Failed(ReadFailure::NoCredential)).await;
                return;
            }
            Err(failure) => news.send(News::Failed(failure)).await.is_ok(),
        };
        if !is_taken {
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

/// One reading. Returns whether somebody takes the news.
async fn read(
    reader: &Reader,
    habits: Habits,
    back_to: UnixMs,
    news: &mpsc::Sender<News>,
) -> Result<bool, ReadFailure> {
    let reading = reader.current_user().await?;
    let user = reading.user.clone();
    if news.send(News::User(reading)).await.is_err() {
        return Ok(false);
    }
    if !habits.purchases {
        return Ok(true);
    }
    let purchases = reader.own_purchases(&user, back_to).await?;
    Ok(news.send(News::Purchases(purchases)).await.is_ok())
}
