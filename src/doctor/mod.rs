//! `sniper doctor`: what works and what does not, step by step, and what to do about it.
//!
//! It goes the ways that the bot goes, with the same settings and the same code: the feed to its
//! first listing, reads of the account over HTTP, a file in `SNIPER_DATA`. It sends no buy, and nothing that
//! could is built.

pub mod step;

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use self::step::{BOT, DoctorReport, DoctorStep, STEPS};
use crate::{
    account::{
        AccountReader, IncompleteReason, LookBack, PurchasesReading, ReadFailure,
        purchases::UnknownStatus,
    },
    clock,
    config::{Config, Mode},
    domain::server_clock::ServerClock,
    ledger::standing::Standing,
    markets::csgoroll::{
        account::{BalanceError, CurrentUser, User, read_current_user},
        operations,
    },
    net::{
        http_client::{HttpClient, HttpReply},
        tls::Tls,
    },
    summary::{lasting, short},
    text::{Escaped, error_chain},
    ws::{
        FeedError, SettingNames,
        policy::RETRY_AFTER_MAX,
        probe::{ProbeStep, StepError, probe},
    },
};

/// How long the first listing is waited for.
pub const LISTING_WAIT: Duration = Duration::from_secs(30);

/// How many pages of own trades are read: enough to see whether the cursor moves.
const OWN_TRADES_PAGES_MAX: u32 = 2;

/// How far the two clocks may differ before a person should know.
const SKEW_MAX: Duration = Duration::from_secs(60);

/// Examines everything, and hands each step out as it is done.
///
/// # Cancel safety
///
/// Safe: it only reads, but for a file of its own that may be left in `SNIPER_DATA`.
pub async fn examine(
    config: &Config,
    listing_wait: Duration,
    mut on_step: impl FnMut(&DoctorStep),
) -> DoctorReport {
    let mut examination = DoctorReport::default();
    let mut done = |step: DoctorStep| {
        on_step(&step);
        examination.steps.push(step);
    };
    done(settings(config));
    feed(config, listing_wait, &mut done).await;
    account(config, &mut done).await;
    done(disk(&config.data_dir));
    done(bot(config).await);
    examination
}

/// What an examination comes to whose settings are wrong.
pub fn without_settings(problems: &str, mut on_step: impl FnMut(&DoctorStep)) -> DoctorReport {
    let mut steps = vec![DoctorStep::red(
        "settings",
        Duration::ZERO,
        problems.trim_end(),
        "mend what is named above; `sniper check` reads it again",
    )];
    steps.extend(STEPS.iter().skip(1).map(|name| DoctorStep::untried(name)));
    steps.iter().for_each(&mut on_step);
    DoctorReport { steps }
}

fn settings(config: &Config) -> DoctorStep {
    let mode = match config.mode {
        Mode::Dry => "dry",
        Mode::Live => "live",
    };
    let entries = config.whitelist.entries().len();
    let seen = format!("{mode}, {entries} whitelist entries, feed {}", config.endpoints.ws);
    DoctorStep::green("settings", Duration::ZERO, seen)
}

async fn feed(config: &Config, listing_wait: Duration, done: &mut impl FnMut(DoctorStep)) {
    const LEGS: [ProbeStep; 6] = [
        ProbeStep::Dns,
        ProbeStep::Tcp,
        ProbeStep::Tls,
        ProbeStep::Upgrade,
        ProbeStep::Ack,
        ProbeStep::Listing,
    ];
    let probed = probe(config, listing_wait, |leg, took, seen| {
        done(DoctorStep::green(name_of(leg), took, Escaped(seen).to_string()));
    })
    .await;
    if let Err(StepError { leg, took, error }) = probed {
        let remedy =
            error.advice(SettingNames::MARKETPLACE).unwrap_or_else(|| remedy(leg).to_owned());
        done(DoctorStep::red(name_of(leg), took, error.chain(), waiting(&error) + &remedy));
        for leg in LEGS.into_iter().filter(|other| leg < *other) {
            done(DoctorStep::untried(name_of(leg)));
        }
    }
}

const fn name_of(leg: ProbeStep) -> &'static str {
    match leg {
        ProbeStep::Dns => "DNS",
        ProbeStep::Tcp => "TCP",
        ProbeStep::Tls => "TLS",
        ProbeStep::Upgrade => "upgrade",
        ProbeStep::Ack => "ack",
        ProbeStep::Listing => "first listing",
    }
}

const fn remedy(leg: ProbeStep) -> &'static str {
    match leg {
        ProbeStep::Dns => "check the host in CSGOROLL_WS_URL, and this machine's network",
        ProbeStep::Tcp => "check the network, and whether a firewall stands in between",
        ProbeStep::Tls => {
            "check the address and this machine's date; if both are right, something in between \
             reads along"
        }
        ProbeStep::Upgrade => {
            "open the site in your browser, pass a challenge if there is one, copy the cookie \
             again, and check CSGOROLL_WS_URL"
        }
        ProbeStep::Ack => "check CSGOROLL_WS_URL; if it is right, copy the cookie again",
        ProbeStep::Listing => {
            "the market may be quiet: try again later; if it stays so, try the other `generation` \
             in [feed]"
        }
    }
}

/// One question over HTTP answers four steps, and a second one the own trades.
async fn account(config: &Config, done: &mut impl FnMut(DoctorStep)) {
    let begun = Instant::now();
    let asked = ask(config).await;
    let took = begun.elapsed();
    let reply = match asked {
        Ok(reply) => {
            done(DoctorStep::green("HTTP", took, format!("HTTP {}", reply.head.status)));
            reply
        }
        Err(failure) => {
            done(failed("HTTP", took, &failure));
            for name in ["sign-in", "balance", "own trades", "clock interval"] {
                done(DoctorStep::untried(name));
            }
            return;
        }
    };
    match who(config, &reply) {
        Ok(user) => {
            let seen = match user.suspected_trader {
                Some(true) => "signed in; the site has flagged this account",
                Some(false) | None => "signed in",
            };
            done(DoctorStep::green("sign-in", took, seen));
            done(balance(config, &user, took));
            done(own_trades(config, &user).await);
        }
        Err(failure) => {
            done(failed("sign-in", took, &failure));
            done(DoctorStep::untried("balance"));
            done(DoctorStep::untried("own trades"));
        }
    }
    done(clock_interval(&reply, took));
}

/// A step that failed as a read of the account does.
fn failed(name: &'static str, took: Duration, failure: &ReadFailure) -> DoctorStep {
    let cause = failure.cause();
    DoctorStep::red(name, took, cause.text(), cause.remedy())
}

fn tls(config: &Config) -> Result<Tls, ReadFailure> {
    match &config.tls {
        Some(tls) => Ok(tls.clone()),
        None => Tls::new().map_err(|_broken_build| ReadFailure::NoCredential),
    }
}

async fn ask(config: &Config) -> Result<HttpReply, ReadFailure> {
    let tls = tls(config)?;
    let client = HttpClient::new(&config.endpoints, config.credential.as_ref(), &tls)?;
    let reply = client.post(operations::current_user().to_json()).await?;
    match ReadFailure::of(&reply) {
        Some(failure) => Err(failure),
        None => Ok(reply),
    }
}

fn who(config: &Config, reply: &HttpReply) -> Result<User, ReadFailure> {
    if config.credential.is_none() {
        return Err(ReadFailure::NoCredential);
    }
    match read_current_user(&reply.body)? {
        CurrentUser::SignedIn(user) => Ok(user),
        CurrentUser::SignedOut => Err(ReadFailure::SignedOut),
    }
}

fn balance(config: &Config, user: &User, took: Duration) -> DoctorStep {
    let floor = config.budget.min_balance;
    match user.balance {
        Some(balance) if balance < floor => DoctorStep::red(
            "balance",
            took,
            format!("{balance} coins, below min_balance"),
            "deposit, or lower min_balance in [budget]; the bot would stop at once",
        ),
        Some(balance) => DoctorStep::green("balance", took, format!("{balance} coins")),
        None => {
            let error = user.balance_error.clone().unwrap_or(BalanceError::NoAmount);
            failed("balance", took, &ReadFailure::Balance(error))
        }
    }
}

/// Whether the account's own purchases can be read, the way the bot reads them.
async fn own_trades(config: &Config, user: &User) -> DoctorStep {
    let begun = Instant::now();
    let read = read_own_trades(config, user).await;
    let (name, took) = ("own trades", begun.elapsed());
    let reading = match read {
        Ok(reading) => reading,
        Err(failure) => return failed(name, took, &failure),
    };
    let is_cut = matches!(reading.incomplete, Some(IncompleteReason::TooManyPages { .. }));
    match &reading.incomplete {
        Some(incomplete) if !is_cut => {
            let cause = incomplete.cause();
            DoctorStep::red(name, took, cause.text(), cause.remedy())
        }
        _ => DoctorStep::green(name, took, seen_of_own_trades(&reading, is_cut)),
    }
}

async fn read_own_trades(config: &Config, user: &User) -> Result<PurchasesReading, ReadFailure> {
    let credential = config.credential.as_ref();
    let generation = config.feed.generation;
    let reader = AccountReader::new(&config.endpoints, credential, generation, &tls(config)?)?;
    let span = LookBack { pages_max: OWN_TRADES_PAGES_MAX, ..LookBack::back_to(clock::now()) };
    reader.own_purchases(user, span).await
}

fn seen_of_own_trades(reading: &PurchasesReading, is_cut: bool) -> String {
    let (count, pages) = (reading.trades.len(), reading.pages);
    let more = if is_cut { ", more follow" } else { "" };
    let mut seen = format!("{count} purchases on {pages} page(s){more}");
    if let Some(UnknownStatus { word, .. }) = reading.unknown.first() {
        seen.push_str(&format!("; status {} is unknown to this version", Escaped(word)));
    }
    if let Some((count, _first)) = reading.unpriced {
        seen.push_str(&format!("; {count} without a price that can be read"));
    }
    seen
}

/// How exactly the server's clock is known after one answer.
fn clock_interval(reply: &HttpReply, took: Duration) -> DoctorStep {
    let name = "clock interval";
    let Some(date) = reply.head.date else {
        let remedy = "what can be bought later cannot be timed; check CSGOROLL_HTTP_URL";
        return DoctorStep::red(name, took, "the answer has no date", remedy);
    };
    let mut clock = ServerClock::new(reply.exchange.sent);
    clock.observe_date(reply.exchange, date);
    let width = clock.width(Instant::now()).unwrap_or_default();
    let ours = clock::now();
    let skew = ours.since(date).max(date.since(ours));
    if skew > SKEW_MAX {
        let seen = format!("this machine's clock is {} off", short(skew));
        return DoctorStep::red(name, took, seen, "set this machine's clock, or let NTP set it");
    }
    DoctorStep::green(name, took, format!("the server's clock is known to {}", short(width)))
}

/// What a refused upgrade says about waiting.
fn waiting(error: &FeedError) -> String {
    let wait = error.retry_after().map(|wait| wait.min(RETRY_AFTER_MAX));
    wait.map_or_else(String::new, |wait| format!("wait {} as the server asks; ", lasting(wait)))
}

/// How the bot of this `SNIPER_DATA` stands, as `sniper status` shows it.
async fn bot(config: &Config) -> DoctorStep {
    let begun = Instant::now();
    let (directory, state) = (config.data_dir.clone(), config.state_dir.clone());
    // It waits for the bot's answer, up to a bound of its own.
    let look = move || Standing::of(&directory, state.as_deref(), clock::now());
    let asked = tokio::task::spawn_blocking(look).await;
    let took = begun.elapsed();
    let standing = match asked {
        Ok(Ok(standing)) => standing,
        Ok(Err(error)) => {
            let remedy = "run `sniper status`, and `sniper ledger verify` where no bot runs";
            return DoctorStep::red(BOT, took, Escaped(&error_chain(&error)).to_string(), remedy);
        }
        Err(_panicked) => {
            return DoctorStep::red(BOT, took, "the look at the bot failed", "run `sniper status`");
        }
    };
    let problems = standing.problems();
    if !problems.is_empty() {
        let remedy = "run `sniper status`, do what it names, then `sniper resume` if it is halted";
        return DoctorStep::red(BOT, took, Escaped(&problems.join("; ")).to_string(), remedy);
    }
    let seen = match (&standing.live, &standing.dry, &standing.resting) {
        (Some(live), ..) => format!("live, buying {}", live.buying),
        (None, Some(_), _) => "a dry run".to_owned(),
        (None, None, Some(_)) => "not running, and its ledger holds no halt".to_owned(),
        (None, None, None) => "not running, and there is no ledger yet".to_owned(),
    };
    DoctorStep::green(BOT, took, seen)
}

/// Whether the bot can write where it writes.
fn disk(directory: &Path) -> DoctorStep {
    let begun = Instant::now();
    let written = write_and_remove(directory);
    let took = begun.elapsed();
    match written {
        Ok(()) => DoctorStep::green("disk", took, format!("{} takes files", directory.display())),
        Err(error) => DoctorStep::red(
            "disk",
            took,
            format!("cannot write in {}: {error}", directory.display()),
            "make SNIPER_DATA a directory that this user can write, on a disk with space left",
        ),
    }
}

fn write_and_remove(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let path = directory.join(format!("doctor-{}.tmp", std::process::id()));
    let written = OpenOptions::new().write(true).create(true).truncate(true).open(&path).and_then(
        |mut file| {
            file.write_all(&[0; 4_096])?;
            file.sync_all()
        },
    );
    let removed = fs::remove_file(&path);
    written.and(removed)
}
