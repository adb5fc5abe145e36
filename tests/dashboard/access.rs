//! Which requests are answered.

use std::{fs, os::unix::fs::PermissionsExt as _};

use sniper::{clock, dashboard::token, ledger::control::Instance};

use crate::harness::{Bot, bearer, control, get, send};

const PATHS: [&str; 6] = ["/", "/events", "/metrics", "/readyz", "/app.js", "/nowhere"];

#[test]
fn a_foreign_host_is_answered_on_livez_only() {
    let bot = Bot::start_with("allowed_hosts = [\"sniper:8098\"]").ready();
    let port = bot.address.port();
    for foreign in ["evil.example", "127.0.0.1", "127.0.0.1:1", "sniper", "sniper:1"] {
        for path in PATHS {
            let reply = send(bot.address, ("GET", path), &[("Host", foreign)], "");
            assert_eq!(reply.status, 403, "{foreign} {path}");
        }
        assert_eq!(send(bot.address, ("GET", "/livez"), &[("Host", foreign)], "").status, 200);
        let headers =
            [("Host", foreign), ("Authorization", &*bearer()), ("Idempotency-Key", "12345678")];
        assert_eq!(send(bot.address, ("POST", "/api/halt"), &headers, "").status, 403, "{foreign}");
    }
    for own in [format!("localhost:{port}"), format!("[::1]:{port}"), "SNIPER:8098".to_owned()] {
        assert_eq!(send(bot.address, ("GET", "/readyz"), &[("Host", &*own)], "").status, 200);
    }
}

#[test]
fn a_change_of_another_site_is_rejected_although_it_has_the_token() {
    let bot = Bot::start().ready();
    let own = format!("http://{}", bot.address);
    let origins: [&[(&str, &str)]; 5] = [
        &[("Origin", "http://evil.example")],
        &[("Origin", "null")],
        &[("Sec-Fetch-Site", "cross-site")],
        &[("Sec-Fetch-Site", "same-site"), ("Origin", &own)],
        &[("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate")],
    ];
    let authorization = bearer();
    for (number, origin) in origins.into_iter().enumerate() {
        let key = format!("foreign-{number}");
        let mut headers = vec![("Authorization", &*authorization), ("Idempotency-Key", &*key)];
        headers.extend(origin);
        let reply = send(bot.address, ("POST", "/api/halt"), &headers, "");
        assert_eq!(reply.status, 403, "{origin:?}");
    }
    let reading = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")];
    assert_eq!(send(bot.address, ("GET", "/metrics"), &reading, "").status, 403);
    let mut link = vec![
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "document"),
    ];
    assert_eq!(send(bot.address, ("GET", "/events"), &link, "").status, 403);
    assert_eq!(send(bot.address, ("GET", "/"), &link, "").status, 200);
    link[2].1 = "iframe";
    assert_eq!(send(bot.address, ("GET", "/"), &link, "").status, 403);
    assert_eq!(get(bot.address, "/readyz").status, 200, "nothing was halted");
    let headers = [
        ("Authorization", &*authorization),
        ("Idempotency-Key", "own-origin"),
        ("Sec-Fetch-Site", "same-origin"),
        ("Origin", &*own),
    ];
    assert_eq!(send(bot.address, ("POST", "/api/halt"), &headers, "").status, 200);
}

#[test]
fn a_change_needs_the_token_and_an_id_that_is_accepted_once() {
    let bot = Bot::start().ready();
    let post = |headers: &[(&str, &str)]| send(bot.address, ("POST", "/api/halt"), headers, "");
    let key = ("Idempotency-Key", "a-key-of-its-own");
    assert_eq!(post(&[key]).status, 401);
    assert_eq!(post(&[key, ("Authorization", "Bearer wrong")]).status, 401);
    assert_eq!(post(&[key, ("Cookie", "sniper_dashboard_1=9999999999999.00")]).status, 401);
    let bearer = bearer();
    let token = ("Authorization", &*bearer);
    assert_eq!(post(&[token]).status, 400, "without an id");
    assert_eq!(post(&[token, ("Idempotency-Key", "short")]).status, 400);
    assert_eq!(post(&[token, key, key]).status, 400, "two ids");
    assert_eq!(get(bot.address, "/readyz").status, 200, "nothing was halted");
    assert_eq!(post(&[token, key]).status, 200);
    assert_eq!(post(&[token, key]).status, 409);
    assert_eq!(control(bot.address, "/api/resume", "a-key-of-its-own").status, 409);
    assert_eq!(get(bot.address, "/readyz").status, 503, "it is still halted");
    assert_eq!(send(bot.address, ("GET", "/api/halt"), &[token], "").status, 405);
}

#[test]
fn a_code_signs_one_browser_in_once() {
    let bot = Bot::start().ready();
    let data = bot.directory.path().join("data");
    let shown = fs::read_to_string(token::address_file(&data, Instance::Live)).unwrap();
    assert_eq!(shown.trim(), bot.address.to_string());
    let login =
        |code: &str| send(bot.address, ("POST", "/api/login"), &[("X-Sniper-Code", code)], "");
    assert_eq!(login("").status, 401);
    let code = token::write_code(&data, clock::wall()).unwrap();
    assert_eq!(login("another").status, 401);
    let reply = login(&code);
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(login(&code).status, 401, "the code is used");
    let cookie = reply.header("Set-Cookie").unwrap().split(';').next().unwrap().to_owned();
    assert!(cookie.starts_with(&format!("sniper_dashboard_{}=", bot.address.port())), "{cookie}");
    let headers = [("Cookie", &*cookie), ("Idempotency-Key", "from-the-browser")];
    assert_eq!(send(bot.address, ("POST", "/api/halt"), &headers, "").status, 200);
    let page = send(bot.address, ("GET", "/"), &[("Cookie", &*cookie)], "").body;
    assert!(page.contains("<body class=\"signed-in\">"), "{page}");
    assert!(get(bot.address, "/").body.contains("<body class=\"\">"));
}

#[test]
fn with_allow_remote_reading_needs_the_token_too() {
    let bot = Bot::start_with("allow_remote = true");
    let with_token =
        |path| send(bot.address, ("GET", path), &[("Authorization", &*bearer())], "").status;
    for path in ["/metrics", "/readyz", "/events"] {
        assert_eq!(get(bot.address, path).status, 401, "{path}");
    }
    assert_eq!(with_token("/metrics"), 200);
    assert_eq!(get(bot.address, "/livez").status, 200);
    let page = get(bot.address, "/").body;
    assert!(page.contains("<body class=\"locked\">") && !page.contains("Balance"), "{page}");
}

#[test]
fn every_response_restricts_the_browser_and_the_page_has_no_inline_code() {
    let bot = Bot::start().ready();
    for path in PATHS.into_iter().filter(|path| *path != "/events") {
        let reply = get(bot.address, path);
        let policy = reply.header("Content-Security-Policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{path}: {policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(reply.header("X-Content-Type-Options"), Some("nosniff"));
        assert_eq!(reply.header("Cache-Control"), Some("no-store"));
        assert_eq!(reply.header("Access-Control-Allow-Origin"), None);
    }
    let page = get(bot.address, "/").body;
    for inline in
        [" style=", "<style", "<script>", " onclick=", "javascript:", "http://", "https://"]
    {
        assert!(!page.contains(inline), "{inline} in {page}");
    }
}

#[test]
fn a_generated_token_is_a_file_of_its_owner() {
    let directory = tempfile::tempdir().unwrap();
    let tokens = token::AccessTokens::open(None, directory.path(), 8_098).unwrap();
    let path = directory.path().join(token::TOKEN_FILE);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(tokens.is_token(fs::read_to_string(&path).unwrap().trim()));
}
