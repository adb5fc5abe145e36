//! Query strings of requests. Pure.

use std::collections::VecDeque;
use std::time::Duration;

/// Interval of a request limit.
const MINUTE: Duration = Duration::from_secs(60);

/// The decoded pairs of a query string, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Parses the part of a request target behind the question mark.
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let decoded = pairs.map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        });
        Self(decoded.collect())
    }

    /// Returns the first value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Returns the values of a key.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// Splits a request target into its path and its query.
pub fn split_target(target: &str) -> (&str, Query) {
    match target.split_once('?') {
        Some((path, query)) => (path, Query::parse(query)),
        None => (target, Query::default()),
    }
}

/// Decodes `%XX` and `+`. An invalid escape stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let escaped = match (byte, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match (byte, escaped) {
            (_, Some((high, low))) => {
                bytes.push(high * 16 + low);
                rest = after.get(2..).unwrap_or_default();
            }
            (b'+', None) => bytes.push(b' '),
            (byte, None) => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// A limit of requests per minute.
#[derive(Clone, Debug)]
pub struct RequestLimit {
    per_minute: usize,
    recent: VecDeque<Duration>,
}

impl RequestLimit {
    pub fn new(per_minute: usize) -> Self {
        Self { per_minute, recent: VecDeque::new() }
    }

    /// Counts a request. Returns `false` if it exceeds the limit, in which case it does not count.
    pub fn allows(&mut self, now: Duration) -> bool {
        while self.recent.front().is_some_and(|at| at.saturating_add(MINUTE) <= now) {
            self.recent.pop_front();
        }
        let is_allowed = self.recent.len() < self.per_minute;
        if is_allowed {
            self.recent.push_back(now);
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded_in_order() {
        let (path, query) = split_target("/v1/market/info?custom_ids%5B%5D=a-1&custom_ids[]=b+c&x");
        assert_eq!(path, "/v1/market/info");
        assert_eq!(query.all("custom_ids[]").collect::<Vec<_>>(), ["a-1", "b c"]);
        assert_eq!((query.get("x"), query.get("y")), (Some(""), None));
        assert_eq!(Query::parse("a=%E2%98%85%2").get("a"), Some("★%2"));
        assert_eq!(split_target("/v1").1, Query::default());
    }

    #[test]
    fn a_limit_counts_the_requests_of_a_minute() {
        let mut limit = RequestLimit::new(2);
        let mut allows = |seconds| limit.allows(Duration::from_secs(seconds));
        assert_eq!(
            [0, 1, 2, 59, 60, 61, 62].map(&mut allows),
            [true, true, false, false, true, true, false]
        );
    }
}
