//! Cold reads of the account, on a thread of their own.
//!
//! They parse answers and speak TLS, which takes longer than a buy may wait.

use std::{sync::Arc, thread};

use tokio::sync::{mpsc, oneshot};

use super::AppError;
use crate::{
    account::{Habits, News, Reader, Requests, watch},
    config::{Config, Mode},
    net::tls::Tls,
};

const WHAT: &str = "the look at the account";

/// The thread, as long as it is wanted. It ends when this is dropped; nobody waits for it, since
/// it only reads.
#[derive(Debug)]
pub struct Background {
    _until: oneshot::Sender<()>,
}

/// Begins to look at the account. Without a credential there is nothing to be seen.
///
/// # Errors
///
/// [`AppError::Start`] if there is no thread, no event loop or no client to be had.
pub fn start(
    config: &Config,
    tls: &Tls,
    requests: Arc<Requests>,
) -> Result<(Background, mpsc::Receiver<News>), AppError> {
    let credential = config.credential.as_ref();
    let reader = Reader::new(&config.endpoints, credential, config.feed.generation, tls)
        .map_err(|error| AppError::start(WHAT, error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| AppError::start(WHAT, error))?;
    let habits = Habits { purchases: config.mode == Mode::Live, ..Habits::default() };
    let (news, receiver) = mpsc::channel(watch::NEWS_QUEUED_MAX);
    let (until, dropped) = oneshot::channel::<()>();
    let work = move || {
        runtime.block_on(async {
            tokio::select! {
                () = watch(&reader, habits, &requests, &news) => {}
                _dropped = dropped => {}
            }
        });
    };
    thread::Builder::new()
        .name("account".to_owned())
        .spawn(work)
        .map_err(|error| AppError::start(WHAT, error))?;
    Ok((Background { _until: until }, receiver))
}
