//! Prepares each connection of a handle to a marketplace: its token, its upgrade request and its
//! protocol.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::{
    config::{Config, Credential},
    markets::{DialPlan, Marketplace},
    ws::{FeedError, connect::fetch_token},
};

type Plan<P> =
    dyn Fn(Option<Credential>) -> BoxFuture<'static, Result<DialPlan<P>, FeedError>> + Send + Sync;

/// Prepares the connections of a marketplace.
pub(super) struct Planner<P>(Arc<Plan<P>>);

impl<P: Send + 'static> Planner<P> {
    pub(super) fn of<M: Marketplace<Protocol = P>>(market: &M, config: &Config) -> Self {
        let (market, config) = (market.clone(), Arc::new(config.clone()));
        Self(Arc::new(move |credential| {
            let (market, config) = (market.clone(), Arc::clone(&config));
            Box::pin(async move {
                let credential = credential.as_ref();
                let token = match market.token_request(credential) {
                    Some(request) => {
                        Some(fetch_token(&config, &request, M::CAPABILITIES.reads).await?)
                    }
                    None => None,
                };
                market.dial(credential, token.as_ref()).map_err(FeedError::Prepare)
            })
        }))
    }

    /// Prepares one connection. Requests a token if the market needs one.
    pub(super) fn plan(
        &self,
        credential: Option<Credential>,
    ) -> BoxFuture<'static, Result<DialPlan<P>, FeedError>> {
        (self.0)(credential)
    }
}
