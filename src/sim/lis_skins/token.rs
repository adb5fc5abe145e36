//! Tokens of the feed. Pure.
//!
//! A token has the shape of a JSON web token, and its signature depends on the seed of the market.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{domain::time::UnixMs, sim::random};

/// State of a presented token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// Valid until this time.
    Valid(UnixMs),
    Expired,
    Invalid,
}

/// Returns a token for a user that expires at this time, rounded down to a second.
pub fn issue(seed: u64, user_id: &str, expires_at: UnixMs) -> String {
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let exp = expires_at.0.div_euclid(1_000);
    let header = encode(json!({"alg": "HS256", "typ": "JWT"}));
    let payload = encode(json!({"sub": user_id, "exp": exp}));
    format!("{header}.{payload}.{}", signature(seed, exp))
}

/// Checks a token.
pub fn check(seed: u64, token: &str, now: UnixMs) -> TokenState {
    let mut parts = token.split('.').skip(1);
    let (Some(payload), Some(signed), None) = (parts.next(), parts.next(), parts.next()) else {
        return TokenState::Invalid;
    };
    let payload = URL_SAFE_NO_PAD.decode(payload).unwrap_or_default();
    let payload: Value = serde_json::from_slice(&payload).unwrap_or(Value::Null);
    match payload.get("exp").and_then(Value::as_i64) {
        Some(exp) if signed == signature(seed, exp) => {
            let expires_at = UnixMs(exp.saturating_mul(1_000));
            if now < expires_at { TokenState::Valid(expires_at) } else { TokenState::Expired }
        }
        _ => TokenState::Invalid,
    }
}

fn signature(seed: u64, exp: i64) -> String {
    let mut rng = random::stream(seed, exp.unsigned_abs());
    format!("{:016x}{:016x}", rng.u64(..), rng.u64(..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_valid_until_it_expires_and_only_on_its_market() {
        let token = issue(7, "4711", UnixMs(5_900));
        assert_eq!(check(7, &token, UnixMs(4_999)), TokenState::Valid(UnixMs(5_000)));
        assert_eq!(check(7, &token, UnixMs(5_000)), TokenState::Expired);
        assert_eq!(check(8, &token, UnixMs(0)), TokenState::Invalid);
        for text in ["", "a.b.c", "a.e30.c", &token.replace('.', "-")] {
            assert_eq!(check(7, text, UnixMs(0)), TokenState::Invalid, "{text}");
        }
    }
}
