//! Reads a session cookie in the forms in which browsers show and copy it. Pure.

use super::credential::{Credential, CredentialError};

/// Name of the cookie of a session.
const SESSION: &str = "session";

/// Pairs of quotes around a copied text.
const QUOTES: [(char, char); 5] = [('"', '"'), ('\'', '\''), ('`', '`'), ('“', '”'), ('‘', '’')];

/// Texts before a copied cookie: names of headers, and options of a copied `curl` command.
const PREFIXES: [&str; 6] = ["cookie:", "set-cookie:", "-h ", "--header ", "-b ", "--cookie "];

/// Attributes of a `Set-Cookie` header, which are not cookies.
const ATTRIBUTES: [&str; 9] = [
    "path",
    "domain",
    "expires",
    "max-age",
    "httponly",
    "secure",
    "samesite",
    "priority",
    "partitioned",
];

/// Accepts the value of the session cookie, `session=…`, a row of the table of cookies, a whole
/// `Cookie` or `Set-Cookie` header, all headers of a request, or a `curl` command; in quotes or
/// not, URL-encoded or not.
///
/// Further cookies of a header are kept, because the market may require that of a solved challenge.
///
/// # Errors
///
/// Returns a [`CredentialError`] if the text contains no session cookie, or an invalid one.
pub fn parse(text: &str) -> Result<Credential, CredentialError> {
    let header = to_header(text)?;
    if header.contains(';') {
        Credential::from_cookie(&header)
    } else {
        Credential::from_session(&header)
    }
}

/// Returns the `Cookie` header that the text means.
fn to_header(text: &str) -> Result<String, CredentialError> {
    let text = unwrap(cut_out(text));
    if text.is_empty() {
        return Err(CredentialError::Empty);
    }
    if let Some((name, rest)) = text.split_once('\t') {
        let value = rest.split('\t').next().unwrap_or_default();
        return if unquote(name) == SESSION {
            Ok(session(value))
        } else {
            Err(CredentialError::NoSession)
        };
    }
    let text = text.trim_end_matches([';', ' ']);
    if text.contains(';') { several(text) } else { single(text) }
}

/// Returns the cookies of several copied headers or of a `curl` command. Returns another text as it
/// is.
fn cut_out(text: &str) -> &str {
    let text = text.trim();
    let lower = text.to_ascii_lowercase();
    if !lower.starts_with("curl ") && !lower.contains('\n') {
        return text;
    }
    let is_quote = |char: &char| matches!(char, '\'' | '"');
    let found = ["cookie:", "-b ", "--cookie "].iter().find_map(|name| {
        lower.match_indices(name).find_map(|(at, name)| {
            let (before, cookies) = text.split_at_checked(at)?;
            let before = before.chars().next_back();
            let is_start = before.is_none_or(|char| char.is_whitespace() || is_quote(&char));
            let cookies = cookies.get(name.len()..)?.trim_start().trim_start_matches('$');
            let quote = cookies.chars().next().filter(is_quote).or(before.filter(is_quote));
            is_start.then_some((cookies, quote))
        })
    });
    match found {
        Some((cookies, Some(quote))) => {
            let cookies = cookies.trim_start_matches(quote);
            cookies.split(quote).next().unwrap_or(cookies)
        }
        Some((cookies, None)) => cookies.lines().next().unwrap_or(cookies),
        None => text,
    }
}

/// Reads one cookie, with or without its name.
fn single(text: &str) -> Result<String, CredentialError> {
    if let Some(value) = strip_prefix(text, "session%3d") {
        return Ok(session(value));
    }
    if let Some((name, value)) = text.split_once(['=', ':'])
        && unquote(name) == SESSION
    {
        return Ok(session(value));
    }
    let is_signed =
        ["s:", "s%3a", "s%253a"].iter().any(|start| strip_prefix(text, start).is_some());
    // Base64 may end in `=`.
    let is_named = text.trim_end_matches('=').contains('=');
    if is_named && !is_signed { Err(CredentialError::NoSession) } else { Ok(session(text)) }
}

/// Reads a header with several cookies.
fn several(text: &str) -> Result<String, CredentialError> {
    let mut cookies = Vec::new();
    let mut has_session = false;
    for (name, value) in text.split(';').filter_map(|pair| pair.trim().split_once('=')) {
        if ATTRIBUTES.iter().any(|attribute| name.eq_ignore_ascii_case(attribute)) {
            continue;
        }
        if name == SESSION {
            has_session = true;
            if unquote(value).is_empty() {
                return Err(CredentialError::Empty);
            }
            cookies.push(session(value));
        } else {
            cookies.push(format!("{name}={value}"));
        }
    }
    if has_session { Ok(cookies.join("; ")) } else { Err(CredentialError::NoSession) }
}

/// Returns the cookie with this value, URL-encoded once as the market sets it.
fn session(value: &str) -> String {
    let value = unquote(value);
    if strip_prefix(value, "s%253a").is_some() {
        return format!("{SESSION}={}", value.replace("%25", "%"));
    }
    if !value.starts_with("s:") || value.contains('%') {
        return format!("{SESSION}={value}");
    }
    let mut cookie = format!("{SESSION}=");
    for char in value.chars() {
        match char {
            // The other characters are allowed in a cookie, or the credential is rejected later.
            ':' | '/' | '+' | '=' | '@' | '$' | '&' | '?' | '#' => {
                cookie.push_str(&format!("%{:02X}", u32::from(char)));
            }
            other => cookie.push(other),
        }
    }
    cookie
}

/// Removes white space, quotes and the texts before a cookie.
fn unwrap(text: &str) -> &str {
    let mut text = text;
    loop {
        let before = text;
        text = unquote(text);
        for prefix in PREFIXES {
            text = strip_prefix(text, prefix).unwrap_or(text).trim();
        }
        if text == before {
            return text;
        }
    }
}

/// Removes white space and one pair of quotes around the whole text.
pub(super) fn unquote(text: &str) -> &str {
    let text = text.trim();
    for (open, close) in QUOTES {
        let inner = text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
        if let Some(inner) = inner.filter(|inner| !inner.contains([open, close])) {
            return inner.trim();
        }
    }
    text
}

/// Removes a prefix, whose letters are lower case here and in any case in the text.
fn strip_prefix<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, CredentialError>) {
        let parsed = parse(text);
        let parsed = parsed.as_ref().map(|parsed| parsed.value().reveal()).map_err(|error| *error);
        assert_eq!(parsed, expected, "{text}");
    }

    #[test]
    fn every_usual_form_of_a_pasted_session_is_the_same_cookie() {
        for text in [
            "s%3Aabc.d%2Be%2Ff%3D",
            "s:abc.d+e/f=",
            "s%253Aabc.d%252Be%252Ff%253D",
            "session=s%3Aabc.d%2Be%2Ff%3D",
            "session=s:abc.d+e/f=;",
            "session%3Ds%253Aabc.d%252Be%252Ff%253D",
            " \"session=s%3Aabc.d%2Be%2Ff%3D\"\n",
            "'s%3Aabc.d%2Be%2Ff%3D'",
            "“s%3Aabc.d%2Be%2Ff%3D”",
            "session=\"s%3Aabc.d%2Be%2Ff%3D\"",
            "session:\"s%3Aabc.d%2Be%2Ff%3D\"",
            "\"session\": \"s%3Aabc.d%2Be%2Ff%3D\"",
            "Cookie: session=s%3Aabc.d%2Be%2Ff%3D",
            "cookie:\nsession=s%3Aabc.d%2Be%2Ff%3D\r\n",
            "-H 'cookie: session=s%3Aabc.d%2Be%2Ff%3D'",
            "-b 'session=s%3Aabc.d%2Be%2Ff%3D'",
            "Set-Cookie: session=s%3Aabc.d%2Be%2Ff%3D; Path=/; HttpOnly; SameSite=Lax",
            "curl 'https://market.example/' \\\n  -H 'accept: */*' \\\n  \
             -b 'session=s%3Aabc.d%2Be%2Ff%3D' \\\n  -H 'user-agent: a; b'",
            "curl \"https://market.example/\" -H \"Cookie: session=s%3Aabc.d%2Be%2Ff%3D\" -H \"a: b\"",
            "curl 'https://market.example/' -H 'a: b' --cookie session=s%3Aabc.d%2Be%2Ff%3D\n",
            "GET /a;b?c=d HTTP/2\nHost: market.example\nAccept: a;q=0.9\n\
             Cookie: session=s%3Aabc.d%2Be%2Ff%3D\nUser-Agent: a (b; c)\n",
            "accept:\r\n*/*; q=1\r\ncookie:\r\nsession=s%3Aabc.d%2Be%2Ff%3D\r\norigin:\r\na=b; c",
            "session\ts%3Aabc.d%2Be%2Ff%3D\t.example.com\t/\t2027-01-01\t✓",
        ] {
            check(text, Ok("session=s%3Aabc.d%2Be%2Ff%3D"));
        }
    }

    #[test]
    fn further_cookies_of_a_header_are_kept() {
        let header = "lang=en; session=s%3Aabc; cf_clearance=a.b=c";
        check(header, Ok(header));
        check(&format!("'Cookie: {header};'"), Ok(header));
        check(&format!("curl 'https://a/' \\\n -b '{header}' \\\n -H 'a: b'"), Ok(header));
        check(&format!("GET / HTTP/1.1\r\ncookie: {header}\r\naccept: */*"), Ok(header));
        check("lang=en; session=s:a/b", Ok("lang=en; session=s%3Aa%2Fb"));
    }

    #[test]
    fn a_text_without_a_session_or_with_an_invalid_one_is_rejected() {
        for empty in ["", " \n", "''", "Cookie:", "session=", "session=\"\";", "a=b; session="] {
            check(empty, Err(CredentialError::Empty));
        }
        for other in ["lang=en", "lang=en; cf_clearance=x", "xsession=s%3Aa", "lang\ten\t/"] {
            check(other, Err(CredentialError::NoSession));
        }
        check("two words", Err(CredentialError::NotOneValue));
        check("session=a\nb", Err(CredentialError::Control));
        check("sessi\u{f6}n", Err(CredentialError::NotAscii));
    }

    proptest! {
        #[test]
        fn any_text_is_rejected_or_has_a_session(text in "(session|s:|s%3A|Cookie:|[=;'\"% a\t\né“]){0,12}") {
            // No credential is created: it would be masked in the output of the other tests.
            if let Ok(header) = to_header(&text) {
                prop_assert!(header.contains("session="), "{}", header);
            }
        }
    }
}
