//! What counts of an HTTP answer's head, whoever has read it. Pure.

use std::time::Duration;

use crate::domain::time::UnixMs;

/// What counts of an HTTP answer's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status.
    pub status: u16,
    /// `Retry-After`: how long to wait.
    pub retry_after: Option<Duration>,
    /// Whether a `cf-mitigated` header is there: a challenge stands in the way.
    pub mitigated: bool,
    /// Whether the body says that it is HTML.
    pub html: bool,
    /// `Date`: the server's clock, cut to the second.
    pub date: Option<UnixMs>,
}

enum RetryAfter {
    Wait(Duration),
    Until(UnixMs),
}

impl ResponseHead {
    /// Reads the headers, given by name and value. What cannot be read is as if it were not there.
    /// A `Retry-After` that names a moment counts from the answer's own `Date`.
    pub fn read<'h>(status: u16, headers: impl Iterator<Item = (&'h str, &'h [u8])>) -> Self {
        Self::read_at(status, headers, None)
    }

    /// The same for a caller that knows the time: without a `Date` in the answer, the moment that
    /// `Retry-After` names counts from `now` by our own wall clock.
    pub fn read_at<'h>(
        status: u16,
        headers: impl Iterator<Item = (&'h str, &'h [u8])>,
        now: Option<UnixMs>,
    ) -> Self {
        let mut head =
            Self { status, retry_after: None, mitigated: false, html: false, date: None };
        let mut wait = None;
        for (name, value) in headers {
            let is = |other: &str| name.eq_ignore_ascii_case(other);
            let text = str::from_utf8(value).map_or("", str::trim);
            if is("retry-after") {
                wait = retry_after(text).or(wait);
            } else if is("cf-mitigated") {
                head.mitigated = true;
            } else if is("content-type") {
                head.html |= is_html(text);
            } else if is("date") {
                head.date = http_date(text).or(head.date);
            }
        }
        head.retry_after = match wait {
            Some(RetryAfter::Wait(wait)) => Some(wait),
            // The server's own clock first: ours may be wrong by hours.
            Some(RetryAfter::Until(moment)) => head.date.or(now).map(|date| moment.since(date)),
            None => None,
        };
        head
    }

    /// Whether a page for people stands where an answer should be.
    pub const fn is_challenge(&self) -> bool {
        self.mitigated || (self.status == 403 && self.html)
    }
}

fn retry_after(text: &str) -> Option<RetryAfter> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number can hold still say: very long.
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(RetryAfter::Wait(Duration::from_secs(seconds)));
    }
    http_date(text).map(RetryAfter::Until)
}

fn is_html(text: &str) -> bool {
    let kind = text.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("text/html") || kind.eq_ignore_ascii_case("application/xhtml+xml")
}

/// Reads the three forms of date that HTTP allows.
pub fn http_date(text: &str) -> Option<UnixMs> {
    let moment = httpdate::parse_http_date(text).ok()?;
    let since = moment.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok().map(UnixMs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, headers: &[(&str, &str)]) -> ResponseHead {
        ResponseHead::read(status, headers.iter().map(|(name, value)| (*name, value.as_bytes())))
    }

    #[test]
    fn what_counts_is_read_whatever_its_case() {
        let head = read(
            403,
            &[
                ("DATE", "Sun, 01 Mar 2026 10:00:00 GMT"),
                ("content-TYPE", "Text/HTML; charset=UTF-8"),
                ("CF-Mitigated", "challenge"),
                ("Retry-After", " 7 "),
            ],
        );
        let date = UnixMs::parse("2026-03-01T10:00:00Z");
        let retry_after = Some(Duration::from_secs(7));
        assert_eq!(
            head,
            ResponseHead { status: 403, retry_after, mitigated: true, html: true, date }
        );
        assert!(head.is_challenge());
    }

    #[track_caller]
    fn check_retry_after(headers: &[(&str, &str)], expected: Option<u64>) {
        let read = read(429, headers).retry_after;
        assert_eq!(read, expected.map(Duration::from_secs), "{headers:?}");
    }

    #[test]
    fn retry_after_is_seconds_or_a_moment_on_the_servers_own_clock() {
        let date = ("Date", "Sun, 01 Mar 2026 10:00:00 GMT");
        let until = ("Retry-After", "Sun, 01 Mar 2026 10:01:30 GMT");
        check_retry_after(&[("Retry-After", "120")], Some(120));
        check_retry_after(&[date, until], Some(90));
        check_retry_after(&[until, date], Some(90));
        check_retry_after(&[until], None);
        check_retry_after(&[("Retry-After", "soon")], None);
        check_retry_after(&[("Retry-After", "-1")], None);
        check_retry_after(&[("Retry-After", "+1")], None);
        check_retry_after(&[("Retry-After", "")], None);
        check_retry_after(&[("Retry-After", "99999999999999999999999")], Some(u64::MAX));
    }

    #[test]
    fn without_a_date_the_moment_counts_from_our_own_clock_where_that_is_known() {
        let until = [("Retry-After", "Sun, 01 Mar 2026 10:01:30 GMT")];
        let read = |date: Option<&'static str>, now: Option<&str>| {
            let date = date.map(|date| ("Date", date));
            let headers = until.into_iter().chain(date);
            let headers = headers.map(|(name, value)| (name, value.as_bytes()));
            ResponseHead::read_at(503, headers, now.and_then(UnixMs::parse)).retry_after
        };
        assert_eq!(read(None, None), None);
        let ours = Some("2026-03-01T10:01:00Z");
        assert_eq!(read(None, ours), Some(Duration::from_secs(30)));
        let theirs = Some("Sun, 01 Mar 2026 10:00:00 GMT");
        assert_eq!(read(theirs, ours), Some(Duration::from_secs(90)));
    }

    #[test]
    fn an_answer_in_html_is_a_challenge_only_where_it_is_refused() {
        let html = [("Content-Type", "text/html")];
        assert!(read(403, &html).is_challenge());
        assert!(!read(502, &html).is_challenge());
        assert!(!read(403, &[("Content-Type", "application/json")]).is_challenge());
        assert!(read(503, &[("cf-mitigated", "challenge")]).is_challenge());
    }
}
