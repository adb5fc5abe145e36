//! The secrets of `sniper init`: read from files or standard input, or asked for without echo.

use std::{
    fs::File,
    io::{self, BufRead as _, Read as _},
    path::Path,
};

use super::{
    EchoOffGuard, InitArgs, InitError, PASTED_BYTES_MAX, hidden_line, prompt, read_pasted,
};
use crate::config::{
    Credential, Market, TradeUrl,
    credential::CredentialError,
    first_secrets::{FirstSecrets, account_id, pasted_credential},
    market::CredentialVariables,
    trade_url::TradeUrlError,
};

/// Questions and names of the credential of one market.
struct CredentialTexts {
    /// In errors.
    what: &'static str,
    /// Option that a script must have.
    flag: &'static str,
    /// Instruction to find it.
    introduction: String,
    prompt: &'static str,
}

impl CredentialTexts {
    fn of(market: Market) -> Self {
        let settings = market.settings();
        match settings.credential {
            CredentialVariables::Cookie { .. } => Self {
                what: "session cookie",
                flag: "--session-file (or --guest)",
                introduction: "Session cookie: log in with your browser, open the developer tools \
                               (F12), Application or\nStorage, Cookies, and paste the value of \
                               `session`. It is not shown.\n"
                    .to_owned(),
                prompt: "Session cookie (Enter: none, dry runs as a guest): ",
            },
            CredentialVariables::Key(_) => Self {
                what: "API key",
                flag: if settings.feed_needs_credential {
                    "--key-file"
                } else {
                    "--key-file (or --guest)"
                },
                introduction: format!(
                    "API key: create one in your profile at {} and paste it. It is not shown.\n",
                    settings.title
                ),
                prompt: if settings.feed_needs_credential {
                    "API key: "
                } else {
                    "API key (Enter: none, dry runs as a guest): "
                },
            },
        }
    }
}

/// Rejects options that the market does not have.
pub(super) fn check_flags(args: &InitArgs) -> Result<(), InitError> {
    let settings = args.market.settings();
    let wrong = |flag, problem: &str| {
        Err(InitError::Flag { flag, problem: format!("{problem} {}", settings.title) })
    };
    if args.guest && settings.feed_needs_credential {
        return wrong("--guest", "a dry run needs a key, too, at");
    }
    if args.trade_url_file.is_some() && !settings.needs_trade_url {
        return wrong("--trade-url-file", "orders name no trade URL at");
    }
    if args.user_id.is_some() && settings.account_id.is_none() {
        return wrong("--user-id", "no number of an account is needed at");
    }
    Ok(())
}

/// Returns the option with the credential, for the list of missing options.
pub(super) fn credential_flag(market: Market) -> &'static str {
    CredentialTexts::of(market).flag
}

/// Reads all secrets of the market: with a terminal, those that no option has are asked for.
pub(super) fn read(
    args: &InitArgs,
    terminal: Option<&io::Stdin>,
) -> Result<FirstSecrets, InitError> {
    let settings = args.market.settings();
    let mut secrets = FirstSecrets::new(args.market);
    secrets.credential = read_credential(args, terminal)?;
    if settings.needs_trade_url {
        secrets.trade_url = read_trade_url(args, terminal)?;
    }
    if settings.account_id.is_some() {
        secrets.account_id = read_account_id(args, terminal)?;
    }
    Ok(secrets)
}

/// Reads the credential from the file, or from the user, or from standard input.
fn read_credential(
    args: &InitArgs,
    terminal: Option<&io::Stdin>,
) -> Result<Option<Credential>, InitError> {
    if args.guest {
        return Ok(None);
    }
    let texts = CredentialTexts::of(args.market);
    let from_file = args.session_file.as_deref().filter(|_path| !args.is_session_on_stdin());
    let text = match (from_file, terminal) {
        (Some(path), _) => File::open(path).and_then(read_pasted),
        (None, Some(stdin)) => return ask_credential(args.market, &texts, stdin),
        (None, None) => read_pasted(io::stdin().lock()),
    };
    let text = text.map_err(|source| InitError::Read { what: texts.what, source })?;
    if text.trim().is_empty() && args.session_file.is_none() {
        return Err(InitError::Missing(texts.flag.to_owned()));
    }
    let invalid = |error| invalid_credential(args.market, error);
    pasted_credential(args.market, &text).map(Some).map_err(invalid)
}

fn invalid_credential(market: Market, error: CredentialError) -> InitError {
    match market.settings().credential {
        CredentialVariables::Cookie { .. } => InitError::Session(error),
        CredentialVariables::Key(_) => InitError::Key(error),
    }
}

/// Asks for the credential until it is valid. An empty answer is none, where a dry run needs none.
fn ask_credential(
    market: Market,
    texts: &CredentialTexts,
    stdin: &io::Stdin,
) -> Result<Option<Credential>, InitError> {
    prompt(&texts.introduction);
    loop {
        let line = ask_hidden(stdin, texts.prompt, texts.what)?;
        if line.trim().is_empty() && !market.settings().feed_needs_credential {
            return Ok(None);
        }
        match pasted_credential(market, &line) {
            Ok(credential) => return Ok(Some(credential)),
            Err(error) => prompt(&format!("  The {} {error}; copy it again.\n", texts.what)),
        }
    }
}

fn ask_hidden(stdin: &io::Stdin, question: &str, what: &'static str) -> Result<String, InitError> {
    let failed = |source| InitError::Read { what, source };
    let line = {
        let _echo_off = EchoOffGuard::start(stdin).map_err(failed)?;
        prompt(question);
        hidden_line(stdin.lock().bytes())
    };
    prompt("\n");
    line.map_err(failed)?.ok_or(InitError::Stopped)
}

fn read_trade_url(
    args: &InitArgs,
    terminal: Option<&io::Stdin>,
) -> Result<Option<TradeUrl>, InitError> {
    const WHAT: &str = "trade URL";
    if let Some(path) = &args.trade_url_file {
        let failed = |source| InitError::Read { what: WHAT, source };
        let text = File::open(Path::new(path)).and_then(read_pasted).map_err(failed)?;
        return TradeUrl::parse(text.trim()).map(Some).map_err(InitError::TradeUrl);
    }
    let Some(stdin) = terminal else { return Ok(None) };
    prompt(
        "Trade URL of the Steam account that receives the items: Inventory, Trade Offers, Who can\nsend me Trade Offers. It is not shown.\n",
    );
    loop {
        let line = ask_hidden(stdin, "Trade URL (Enter: none, dry runs only): ", WHAT)?;
        if line.trim().is_empty() {
            return Ok(None);
        }
        match TradeUrl::parse(line.trim()) {
            Ok(url) => return Ok(Some(url)),
            Err(error) => prompt(&format!("  The trade URL {error}; {}\n", TradeUrlError::REMEDY)),
        }
    }
}

fn read_account_id(
    args: &InitArgs,
    terminal: Option<&io::Stdin>,
) -> Result<Option<String>, InitError> {
    if let Some(text) = &args.user_id {
        let invalid =
            |problem: &str| InitError::Flag { flag: "--user-id", problem: problem.to_owned() };
        return account_id(text).map(Some).map_err(invalid);
    }
    let Some(stdin) = terminal else { return Ok(None) };
    loop {
        prompt("Number of your account, from the profile page (Enter: none, dry runs only): ");
        let mut line = String::new();
        let max = u64::try_from(PASTED_BYTES_MAX).unwrap_or(u64::MAX);
        if stdin.lock().take(max).read_line(&mut line).unwrap_or(0) == 0 {
            return Err(InitError::Stopped);
        }
        if line.trim().is_empty() {
            return Ok(None);
        }
        match account_id(&line) {
            Ok(id) => return Ok(Some(id)),
            Err(problem) => prompt(&format!("  It {problem}.\n")),
        }
    }
}
