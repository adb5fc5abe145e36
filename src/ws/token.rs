//! Requests the token that some marketplaces require for each connection.

use super::error::FeedError;
use crate::{
    config::Config,
    net::{
        http_client::HttpClient,
        http_message::{HttpRequest, HttpResponse},
        tls::Tls,
    },
};

/// Sends a token request and returns its response, which has status 200. The client bounds the
/// time and the size.
///
/// # Cancel safety
///
/// Cancel safe: the request may have been sent; the next connection requests another token.
pub(super) async fn fetch(
    config: &Config,
    request: &HttpRequest,
) -> Result<HttpResponse, FeedError> {
    let tls = Tls::from_config(config).map_err(FeedError::TlsSetUp)?;
    let client = HttpClient::new(&config.endpoints.http, &tls).map_err(FeedError::Token)?;
    let reply = client.send(request).await.map_err(FeedError::Token)?;
    let head = reply.response.head;
    if head.status != 200 || head.page().is_some() {
        return Err(FeedError::TokenRejected(head.into()));
    }
    Ok(reply.response)
}
