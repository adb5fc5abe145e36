//! Which requests are answered: `Host`, `Origin` and `Sec-Fetch-Site`. Pure.
//!
//! A page of another site can send requests to this machine. After DNS rebinding it is even of the
//! same origin, but its `Host` still names the other site. A browser states in `Sec-Fetch-Site`
//! from where a request comes, and in `Origin` which site sent it; an older browser sends only
//! `Origin`, and a program neither.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, Method, header};

/// Reason for which a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessDenied {
    #[error("this address is not served here; add it to allowed_hosts of [dashboard]")]
    ForeignHost,
    #[error("requests of other sites are not answered")]
    ForeignSite,
    #[error("this needs the token: run `sniper dashboard` and open the address that it prints")]
    NoToken,
}

/// Values of the `Host` header that are accepted.
#[derive(Clone, Debug)]
pub struct HostRules {
    allowed: Vec<String>,
}

impl HostRules {
    /// Accepts the names of the loopback addresses with the port of `listen`, the address itself,
    /// and `more`.
    pub fn new(listen: SocketAddr, more: &[String]) -> Self {
        let port = listen.port();
        let mut names: Vec<String> = ["127.0.0.1", "[::1]", "localhost"].map(str::to_owned).into();
        names.push(match listen.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        });
        let mut allowed: Vec<String> = names.iter().map(|name| format!("{name}:{port}")).collect();
        if port == 80 {
            // Browsers omit the default port.
            allowed.extend(names);
        }
        allowed.extend(more.iter().map(|name| name.to_ascii_lowercase()));
        Self { allowed }
    }

    /// Checks the `Host` header, of which there must be one.
    ///
    /// # Errors
    ///
    /// Returns [`AccessDenied::ForeignHost`] for any other host.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), AccessDenied> {
        let host = single(headers, header::HOST.as_str());
        let is_allowed = |host: &str| self.allowed.contains(&host.to_ascii_lowercase());
        if host.is_some_and(is_allowed) { Ok(()) } else { Err(AccessDenied::ForeignHost) }
    }
}

/// Rejects requests that a page of another site has caused, except a link to `/`.
///
/// # Errors
///
/// Returns [`AccessDenied::ForeignSite`].
pub fn check_site(method: &Method, path: &str, headers: &HeaderMap) -> Result<(), AccessDenied> {
    let is_read = method == Method::GET || method == Method::HEAD;
    let site = headers.get("sec-fetch-site").map(|site| site.to_str().unwrap_or_default());
    let is_own_site = match site {
        None | Some("same-origin" | "none") => true,
        // A link to the page, in contrast to a script, an image, a form, or a frame.
        Some(_) => {
            path == "/"
                && is_read
                && single(headers, "sec-fetch-mode") == Some("navigate")
                && single(headers, "sec-fetch-dest") == Some("document")
        }
    };
    let own_origins = single(headers, header::HOST.as_str())
        .map(|host| [format!("http://{host}"), format!("https://{host}")]);
    let is_own_origin = match headers.get(header::ORIGIN) {
        None => true,
        Some(origin) => own_origins.is_some_and(|own| {
            let is_origin = |own: &String| own.eq_ignore_ascii_case(origin.to_str().unwrap_or(""));
            own.iter().any(is_origin)
        }),
    };
    if is_own_site && is_own_origin { Ok(()) } else { Err(AccessDenied::ForeignSite) }
}

/// Returns the value of a header that occurs once.
fn single<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let named = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let mut headers = HeaderMap::new();
        for (name, value) in list.iter().map(named) {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn only_the_own_names_with_the_port_are_hosts() {
        let rules = HostRules::new("127.0.0.1:8098".parse().unwrap(), &["Sniper:8098".to_owned()]);
        for host in
            ["127.0.0.1:8098", "localhost:8098", "[::1]:8098", "sniper:8098", "LOCALHOST:8098"]
        {
            assert_eq!(rules.check(&headers(&[("host", host)])), Ok(()), "{host}");
        }
        for host in ["evil.example:8098", "127.0.0.1", "127.0.0.1:8099", "127.0.0.1:8098.evil", ""]
        {
            assert!(rules.check(&headers(&[("host", host)])).is_err(), "{host}");
        }
        assert!(rules.check(&HeaderMap::new()).is_err());
        let twice = [("host", "127.0.0.1:8098"), ("host", "evil.example")];
        assert!(rules.check(&headers(&twice)).is_err());
        let on_port_80 = HostRules::new("127.0.0.1:80".parse().unwrap(), &[]);
        assert_eq!(on_port_80.check(&headers(&[("host", "localhost")])), Ok(()));
    }

    #[track_caller]
    fn check(
        (method, path): (&Method, &str),
        list: &[(&'static str, &'static str)],
        is_allowed: bool,
    ) {
        let mut headers = headers(list);
        headers.insert(header::HOST, HeaderValue::from_static("127.0.0.1:8098"));
        assert_eq!(check_site(method, path, &headers).is_ok(), is_allowed, "{method} {list:?}");
    }

    #[test]
    fn a_change_of_another_site_is_rejected() {
        let post = (&Method::POST, "/");
        check(post, &[], true);
        check(post, &[("sec-fetch-site", "same-origin")], true);
        check(post, &[("sec-fetch-site", "none")], true);
        for site in ["cross-site", "same-site", "", "other"] {
            check(post, &[("sec-fetch-site", site)], false);
            check(post, &[("sec-fetch-site", site), ("sec-fetch-mode", "navigate")], false);
        }
        check(post, &[("origin", "http://127.0.0.1:8098")], true);
        for origin in
            ["http://evil.example", "null", "http://127.0.0.1:8099", "http://localhost:8098"]
        {
            check(post, &[("origin", origin)], false);
            check(post, &[("origin", origin), ("sec-fetch-site", "same-origin")], false);
        }
    }

    #[test]
    fn another_site_may_link_to_the_page_but_not_read_it() {
        let get = (&Method::GET, "/");
        let link = |destination| {
            [
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", destination),
            ]
        };
        check(get, &link("document"), true);
        check(get, &link("iframe"), false);
        for path in ["/events", "/metrics", "/readyz"] {
            check((&Method::GET, path), &link("document"), false);
        }
        check(get, &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "cors")], false);
        check(get, &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")], false);
        check(get, &[("origin", "http://evil.example")], false);
        check(get, &[("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors")], true);
    }
}
