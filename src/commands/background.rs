//! Cold reads, on a thread of their own: the account, and what a gap of the feed has hidden.
//!
//! They parse answers and speak TLS, which takes longer than a buy may wait.

use std::{sync::Arc, thread};

use tokio::sync::{mpsc, oneshot};

use super::AppError;
use crate::{
    account::{
        AccountReader, AccountUpdate, PollConfig, RefreshRequests, fill_gaps, poller, watch,
    },
    config::{Config, Mode},
    net::tls::Tls,
    threads::{Alarm, ThreadGuard, ThreadName, wait_for_failpoint},
    ws::BackfillSender,
};

const WHAT: &str = "the look at the account";

/// The thread, as long as it is wanted. It ends when this is dropped; nobody waits for it, since
/// it only reads.
#[derive(Debug)]
pub struct BackgroundThread {
    _until: oneshot::Sender<()>,
}

/// Begins to look at the account, and to fill the gaps of the feed. Without a credential nothing
/// can be seen of an account, which is said; what is for sale is asked for all the same.
///
/// # Errors
///
/// [`AppError::Start`] if there is no thread, no event loop or no client to be had.
pub fn start(
    config: &Config,
    tls: &Tls,
    requests: Arc<RefreshRequests>,
    filler: BackfillSender,
    alarm: &Alarm,
) -> Result<(BackgroundThread, mpsc::Receiver<AccountUpdate>), AppError> {
    let credential = config.credential.as_ref();
    let reader = AccountReader::new(&config.endpoints, credential, config.feed.generation, tls)
        .map_err(|error| AppError::start(WHAT, error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| AppError::start(WHAT, error))?;
    let habits = PollConfig { purchases: config.mode == Mode::Live, ..PollConfig::default() };
    let (news, receiver) = mpsc::channel(poller::NEWS_QUEUED_MAX);
    let (until, dropped) = oneshot::channel::<()>();
    let guard = ThreadGuard::new(ThreadName::Account, alarm.clone());
    let work = move || {
        runtime.block_on(async {
            let reads = async {
                let account = async {
                    // As nobody there is nothing to look at, and the start has said so.
                    if reader.has_credential() {
                        watch(&reader, habits, &requests, &news).await;
                    }
                };
                tokio::join!(account, fill_gaps(&reader, filler));
            };
            tokio::select! {
                () = reads => {}
                _dropped = dropped => guard.finished(),
                () = wait_for_failpoint(ThreadName::Account) => {}
            }
        });
    };
    thread::Builder::new()
        .name(ThreadName::Account.to_string())
        .spawn(work)
        .map_err(|error| AppError::start(WHAT, error))?;
    Ok((BackgroundThread { _until: until }, receiver))
}
