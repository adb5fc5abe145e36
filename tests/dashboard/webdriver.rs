//! A headless Chromium over the `WebDriver` protocol, or a loud message that there is none.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{WAIT_MAX, send};

/// Names of the programs, in the order in which they are tried.
const DRIVERS: [&str; 2] = ["chromedriver", "/usr/lib/chromium/chromedriver"];
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// Set by `.ci/run` where the browser is installed: a skipped test is then a failure.
const REQUIRED: &str = "SNIPER_TEST_BROWSER";

/// Number of skipped tests.
static SKIPPED: AtomicUsize = AtomicUsize::new(0);

fn exists(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn find(programs: &'static [&'static str]) -> Option<&'static str> {
    programs.iter().copied().find(|program| exists(program))
}

/// A browser with one window. Both processes end when it is dropped.
pub(crate) struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser. Without one, says so on standard error, which the test harness does not
    /// capture, and returns `None`.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let (Some(driver), Some(browser)) = (find(&DRIVERS), find(&BROWSERS)) else {
            let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
            let message = format!(
                "SKIPPED {test} ({count} browser tests so far): no chromium with chromedriver; \
                 install them with: apt-get install -y chromium chromium-driver\n"
            );
            std::io::stderr().write_all(message.as_bytes()).unwrap();
            assert!(std::env::var_os(REQUIRED).is_none(), "{message}");
            return None;
        };
        Some(Self::launch(driver, browser))
    }

    fn launch(driver: &str, browser: &str) -> Self {
        let mut driver =
            Command::new(driver).arg("--port=0").stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse::<u16>().ok()
        });
        // Further output would fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let address = SocketAddr::from(([127, 0, 0, 1], port.unwrap()));
        let profile = tempfile::tempdir().unwrap();
        let profile_option = format!("--user-data-dir={}", profile.path().display());
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--host-resolver-rules=MAP foreign.example 127.0.0.1",
            &profile_option,
        ];
        let binary = ["/usr/bin/", ""].map(|prefix| format!("{prefix}{browser}"));
        let binary = binary.iter().find(|path| std::path::Path::new(path).exists());
        let mut options = json!({ "args": arguments });
        if let Some(binary) = binary {
            options["binary"] = json!(binary);
        }
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "unhandledPromptBehavior": "ignore",
        }}});
        let mut started = Self { driver, address, session: String::new(), _profile: profile };
        let session = started.request("POST", "/session", &capabilities);
        started.session = session["sessionId"].as_str().unwrap().to_owned();
        started
    }

    #[track_caller]
    fn request(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if method == "GET" { String::new() } else { body.to_string() };
        let headers = [("Content-Type", "application/json")];
        let reply = send(self.address, (method, path), &headers, &body);
        let answer: Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!(reply.status, 200, "{path}: {answer}");
        answer["value"].clone()
    }

    #[track_caller]
    fn command(&self, path: &str, body: &Value) -> Value {
        self.request("POST", &format!("/session/{}/{path}", self.session), body)
    }

    #[track_caller]
    pub(crate) fn open(&self, url: &str) {
        self.command("url", &json!({ "url": url }));
    }

    /// Runs a script, which returns its result.
    #[track_caller]
    pub(crate) fn run(&self, script: &str) -> Value {
        self.command("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Runs the body of an asynchronous function, and waits for its result.
    #[track_caller]
    pub(crate) fn run_async(&self, script: &str) -> Value {
        let script = format!(
            "const done = arguments[0]; (async () => {{ {script} }})().then(done, e => done('' + e));"
        );
        self.command("execute/async", &json!({ "script": script, "args": [] }))
    }

    /// Waits until a script returns `true`.
    #[track_caller]
    pub(crate) fn until(&self, script: &str) {
        self.until_within(script, WAIT_MAX);
    }

    /// Waits until a script returns `true`, and returns how long this took.
    #[track_caller]
    pub(crate) fn until_within(&self, script: &str, max: Duration) -> Duration {
        let begun = Instant::now();
        while self.run(script) != Value::Bool(true) {
            if begun.elapsed() > max {
                let page = self.run("return document.body.innerText");
                panic!("never true within {max:?}: {script}\n{page}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        begun.elapsed()
    }

    pub(crate) fn accept_dialog(&self) {
        self.command("alert/accept", &json!({}));
    }

    /// Shows the page as on a phone, or in a window of this size.
    pub(crate) fn resize(&self, (width, height): (u32, u32), is_mobile: bool) {
        let parameters =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_mobile});
        self.command(
            "goog/cdp/execute",
            &json!({"cmd": "Emulation.setDeviceMetricsOverride", "params": parameters}),
        );
    }

    /// Returns a screenshot as PNG.
    pub(crate) fn screenshot(&self) -> Vec<u8> {
        use base64::Engine as _;
        let path = format!("/session/{}/screenshot", self.session);
        let image = self.request("GET", &path, &Value::Null);
        base64::prelude::BASE64_STANDARD.decode(image.as_str().unwrap()).unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            send(self.address, ("DELETE", &format!("/session/{}", self.session)), &[], "");
        }
        // The driver ends its browser on SIGTERM; a kill would leave it.
        let pid = self.driver.id().to_string();
        drop(Command::new("kill").args(["-TERM", &pid]).status());
        drop(self.driver.wait());
    }
}
