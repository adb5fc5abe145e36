//! Relevant fields of an HTTP response head. Pure.

use std::time::Duration;

use crate::domain::time::UnixMs;

/// Relevant fields of an HTTP response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    pub status: u16,
    /// Wait that `Retry-After` requests.
    pub retry_after: Option<Duration>,
    /// Wait that `X-RateLimit-Reset-After` states, if `X-RateLimit-Remaining` is 0: an earlier
    /// request would be rejected.
    pub rate_limit_reset_after: Option<Duration>,
    /// `true` if there is a `cf-mitigated` header: Cloudflare sent a challenge.
    pub mitigated: bool,
    /// `true` if `Content-Type` is HTML.
    pub html: bool,
    /// Server time of the `Date` header, in whole seconds.
    pub date: Option<UnixMs>,
}

/// Web page in place of an answer of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebPage {
    /// A challenge that the user must pass in a browser: `cf-mitigated`, or 403 with HTML.
    Challenge,
    /// HTML with another status that neither asks to wait nor reports a fault: another kind of
    /// block, a sign-in page, or a wrong address.
    Html,
}

enum RetryAfter {
    Wait(Duration),
    Until(UnixMs),
}

impl ResponseHead {
    /// Reads the headers, given by name and value. Invalid values are ignored. A `Retry-After` with
    /// a date is relative to the response's own `Date`, and without one to `now`, the local wall
    /// clock.
    pub fn parse_at<'h>(
        status: u16,
        headers: impl Iterator<Item = (&'h str, &'h [u8])>,
        now: UnixMs,
    ) -> Self {
        let mut head = Self {
            status,
            retry_after: None,
            rate_limit_reset_after: None,
            mitigated: false,
            html: false,
            date: None,
        };
        let (mut wait, mut is_last) = (None, false);
        for (name, value) in headers {
            let is = |other: &str| name.eq_ignore_ascii_case(other);
            let text = str::from_utf8(value).map_or("", str::trim);
            if is("retry-after") {
                wait = parse_retry_after(text).or(wait);
            } else if is("cf-mitigated") {
                head.mitigated = true;
            } else if is("content-type") {
                head.html |= is_html(text);
            } else if is("date") {
                head.date = http_date(text).or(head.date);
            } else if is("x-ratelimit-remaining") {
                is_last = text == "0";
            } else if is("x-ratelimit-reset-after") {
                let seconds = text.parse().ok();
                head.rate_limit_reset_after =
                    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            }
        }
        head.rate_limit_reset_after = head.rate_limit_reset_after.filter(|_wait| is_last);
        head.retry_after = match wait {
            Some(RetryAfter::Wait(wait)) => Some(wait),
            // The server's own clock takes precedence: the local one may be wrong by hours.
            Some(RetryAfter::Until(end)) => Some(end.since(head.date.unwrap_or(now))),
            None => None,
        };
        head
    }

    /// Classifies a web page in place of an answer. This is the only definition of a challenge.
    pub const fn page(&self) -> Option<WebPage> {
        match self.status {
            _ if self.mitigated => Some(WebPage::Challenge),
            403 if self.html => Some(WebPage::Challenge),
            // A proxy sends HTML along with these, and they are no block.
            408 | 418 | 425 | 429 | 500..=599 => None,
            _ if self.html => Some(WebPage::Html),
            _ => None,
        }
    }
}

/// Returns the meaning of a status with which a server limits or blocks this address.
pub const fn rejection_meaning(status: u16) -> Option<&'static str> {
    Some(match status {
        418 => "this IP address is banned for too many requests (\"I'm a teapot\")",
        429 => "too many requests (rate limit)",
        451 => "unavailable for legal reasons or in this region",
        _ => return None,
    })
}

/// Returns what the user can do about a block of this address. `setting` holds the server's.
pub fn block_remedy(status: u16, setting: &str) -> Option<String> {
    Some(match status {
        418 => "wait until the ban is over; every request before then may prolong it".to_owned(),
        451 => format!("if another address serves this region, set {setting} to it"),
        _ => return None,
    })
}

fn parse_retry_after(text: &str) -> Option<RetryAfter> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number out of range means the longest wait.
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(RetryAfter::Wait(Duration::from_secs(seconds)));
    }
    http_date(text).map(RetryAfter::Until)
}

fn is_html(text: &str) -> bool {
    let kind = text.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("text/html") || kind.eq_ignore_ascii_case("application/xhtml+xml")
}

/// Parses the three date formats of HTTP.
pub fn http_date(text: &str) -> Option<UnixMs> {
    let date_value = httpdate::parse_http_date(text).ok()?;
    let since = date_value.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok().map(UnixMs)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    type Row = (u16, &'static [(&'static str, &'static str)], Option<WebPage>);

    const HTML: (&str, &str) = ("Content-Type", "text/html; charset=UTF-8");
    const MITIGATED: (&str, &str) = ("CF-Mitigated", "challenge");

    /// Statuses and headers, and the page that they mean for every classification.
    pub(crate) const PAGES: [Row; 18] = [
        (200, &[], None),
        (200, &[HTML], Some(WebPage::Html)),
        (200, &[MITIGATED], Some(WebPage::Challenge)),
        (200, &[HTML, MITIGATED], Some(WebPage::Challenge)),
        (302, &[HTML], Some(WebPage::Html)),
        (401, &[], None),
        (401, &[HTML], Some(WebPage::Html)),
        (403, &[], None),
        (403, &[HTML], Some(WebPage::Challenge)),
        (403, &[MITIGATED], Some(WebPage::Challenge)),
        (404, &[HTML], Some(WebPage::Html)),
        (418, &[HTML], None),
        (429, &[HTML], None),
        (429, &[MITIGATED], Some(WebPage::Challenge)),
        (502, &[HTML], None),
        (503, &[], None),
        (503, &[HTML], None),
        (503, &[HTML, MITIGATED], Some(WebPage::Challenge)),
    ];

    /// Local time of [`ResponseHead::parse`]: 2026-03-01T10:01:00Z.
    const NOW: UnixMs = UnixMs(1_772_359_260_000);

    impl ResponseHead {
        /// Parses headers whose meaning does not depend on the local time.
        pub(crate) fn parse<'h>(
            status: u16,
            headers: impl Iterator<Item = (&'h str, &'h [u8])>,
        ) -> Self {
            Self::parse_at(status, headers, NOW)
        }
    }

    fn parse(status: u16, headers: &[(&str, &str)]) -> ResponseHead {
        ResponseHead::parse(status, headers.iter().map(|(name, value)| (*name, value.as_bytes())))
    }

    #[test]
    fn the_last_request_of_a_window_states_when_the_next_one_is_allowed() {
        let rest = |remaining: &str, after: &str| {
            let headers =
                [("X-RateLimit-Remaining", remaining), ("X-RateLimit-Reset-After", after)];
            parse(200, &headers).rate_limit_reset_after
        };
        assert_eq!(rest("0", "1.25"), Some(Duration::from_millis(1_250)));
        assert_eq!([rest("1", "1.25"), rest("0", "-1"), rest("0", "soon")], [None; 3]);
        assert_eq!(parse(200, &[("X-RateLimit-Remaining", "0")]).rate_limit_reset_after, None);
    }

    #[test]
    fn header_names_are_parsed_in_any_case() {
        let head = parse(
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
            ResponseHead {
                status: 403,
                retry_after,
                rate_limit_reset_after: None,
                mitigated: true,
                html: true,
                date
            }
        );
        assert_eq!(head.page(), Some(WebPage::Challenge));
    }

    #[track_caller]
    fn check_retry_after(headers: &[(&str, &str)], expected: Option<u64>) {
        let parse = parse(429, headers).retry_after;
        assert_eq!(parse, expected.map(Duration::from_secs), "{headers:?}");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_relative_to_the_server_clock() {
        let date = ("Date", "Sun, 01 Mar 2026 10:00:00 GMT");
        let until = ("Retry-After", "Sun, 01 Mar 2026 10:01:30 GMT");
        check_retry_after(&[("Retry-After", "120")], Some(120));
        check_retry_after(&[date, until], Some(90));
        check_retry_after(&[until, date], Some(90));
        check_retry_after(&[("Retry-After", "soon")], None);
        check_retry_after(&[("Retry-After", "-1")], None);
        check_retry_after(&[("Retry-After", "+1")], None);
        check_retry_after(&[("Retry-After", "")], None);
        check_retry_after(&[("Retry-After", "99999999999999999999999")], Some(u64::MAX));
    }

    #[test]
    fn without_a_date_header_retry_after_is_relative_to_the_local_clock() {
        let until = [("Retry-After", "Sun, 01 Mar 2026 10:01:30 GMT")];
        let past = [("Retry-After", "Sun, 01 Mar 2026 10:00:59 GMT")];
        check_retry_after(&until, Some(30));
        check_retry_after(&past, Some(0));
    }

    #[test]
    fn a_page_is_classified_by_status_and_headers() {
        for (status, headers, page) in PAGES {
            assert_eq!(parse(status, headers).page(), page, "{status} {headers:?}");
        }
        assert_eq!(parse(403, &[("Content-Type", "application/json")]).page(), None);
    }
}
