//! Background thread that polls the account, back-fills gaps of the feed, and measures the
//! addresses of the orders.
//!
//! It parses responses and uses TLS, which takes longer than an order may be delayed.

use std::{sync::Arc, thread};

use tokio::sync::{mpsc, oneshot};

use super::AppError;
use crate::{
    account::{
        AccountReader, AccountUpdate, PollConfig, RefreshRequests, fill_gaps, look_up_orders,
        poll_account, poller,
    },
    config::{Config, Mode},
    execution::AddressWatch,
    markets::MarketApi,
    net::tls::Tls,
    threads::{Alarm, ThreadGuard, ThreadName, priority, wait_for_failpoint},
    ws::BackfillSender,
};

/// Name of the thread in errors.
const THREAD: &str = "the account thread";

/// Handle of the background thread. Dropping it stops the thread without waiting, because the
/// thread only reads.
#[derive(Debug)]
pub struct BackgroundThread {
    _stop: oneshot::Sender<()>,
}

/// Starts polling the account and back-filling gaps of the feed. Without a credential, it only
/// back-fills. In a live session it also runs the watch over the order addresses.
///
/// # Errors
///
/// Returns [`AppError::Start`] if the thread, its runtime or its HTTP client cannot be created.
pub fn start<M: MarketApi>(
    (market, config): (M, &Config),
    (tls, watch): (&Tls, Option<AddressWatch>),
    requests: Arc<RefreshRequests>,
    backfill: BackfillSender,
    alarm: &Alarm,
) -> Result<(BackgroundThread, mpsc::Receiver<AccountUpdate>), AppError> {
    let credential = config.credential.as_ref();
    let reader = AccountReader::new(market, &config.endpoints.http, credential, tls)
        .map_err(|error| AppError::start(THREAD, error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| AppError::start(THREAD, error))?;
    let poll_config =
        PollConfig { reads_purchases: config.mode == Mode::Live, ..PollConfig::default() };
    let (updates, receiver) = mpsc::channel(poller::UPDATES_QUEUED_MAX);
    let (stop, dropped) = oneshot::channel::<()>();
    let guard = ThreadGuard::new(ThreadName::Account, alarm.clone());
    let work = move || {
        priority::lower(ThreadName::Account);
        runtime.block_on(async {
            let reads = async {
                let account = async {
                    // A guest has no account; the start has logged that.
                    if reader.has_credential() {
                        tokio::join!(
                            poll_account(&reader, poll_config, &requests, &updates),
                            look_up_orders(&reader, &requests, &updates),
                        );
                    }
                };
                tokio::join!(account, fill_gaps(&reader, M::CAPABILITIES.listings_lag, backfill));
            };
            let watch = async {
                if let Some(watch) = watch {
                    watch.run().await;
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = reads => {}
                () = watch => {}
                _dropped = dropped => guard.finished(),
                () = wait_for_failpoint(ThreadName::Account) => {}
            }
        });
    };
    thread::Builder::new()
        .name(ThreadName::Account.to_string())
        .spawn(work)
        .map_err(|error| AppError::start(THREAD, error))?;
    Ok((BackgroundThread { _stop: stop }, receiver))
}
