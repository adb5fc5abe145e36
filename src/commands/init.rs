//! `sniper init`: asks for the settings of a new user and writes `.env` and `sniper.toml`. Existing
//! files stay unchanged. Questions go to standard error, and a secret is read without echo.

mod secrets;

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, BufRead as _, IsTerminal as _, Read, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use serde_json::json;

use super::{AppError, CommandContext, exit_code, report::print, simulated_market::parse_market};
use crate::{
    config::{
        Market,
        credential::{COOKIE_BYTES_MAX, CredentialError},
        first_settings::{FirstSettings, Question, Unanswered},
        load::{CONFIG_FILE, DOTENV_FILE, process_environment},
        trade_url::TradeUrlError,
    },
    text::Escaped,
};

/// Examples in the help.
pub(super) const EXAMPLES: &str = "\
Examples:
  sniper init
  sniper init --market waxpeer
  sniper init --session-file cookie.txt --total 30 --max-price 10 \\
    --item \"AK-47 | Redline (Field-Tested)\" --entry-max-price 9.50 --yes";

/// Maximum length of a secret as it is pasted, in bytes.
const PASTED_BYTES_MAX: usize = 4 * COOKIE_BYTES_MAX;

/// Control characters that edit a line without echo.
const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const BACKSPACE: u8 = 8;
const CTRL_U: u8 = 21;
const DELETE: u8 = 127;

/// Arguments of `init`. The secret is never one of them, because other users can see arguments.
#[derive(Clone, Debug, Args)]
pub struct InitArgs {
    /// Market to trade on; `sniper markets` lists them
    #[arg(long, value_name = "NAME", default_value = Market::default().name(), value_parser = parse_market)]
    pub market: Market,
    /// File with the session cookie as copied from the browser, or with the API key of the market;
    /// `-` reads standard input
    #[arg(long, visible_alias = "key-file", value_name = "FILE")]
    pub session_file: Option<PathBuf>,
    /// File with the trade URL of the Steam account that receives the items
    #[arg(long, value_name = "FILE")]
    pub trade_url_file: Option<PathBuf>,
    /// Number of the account at the market
    #[arg(long, value_name = "NUMBER")]
    pub user_id: Option<String>,
    /// Write no session cookie or key: a dry run connects as a guest
    #[arg(long, conflicts_with = "session_file")]
    pub guest: bool,
    /// Budget: amount to spend in all
    #[arg(long, value_name = "AMOUNT")]
    pub total: Option<String>,
    /// Maximum price of one order
    #[arg(long, value_name = "AMOUNT")]
    pub max_price: Option<String>,
    /// Balance that no order may go below
    #[arg(long, value_name = "AMOUNT")]
    pub min_balance: Option<String>,
    /// First item of the whitelist
    #[arg(long, value_name = "NAME")]
    pub item: Option<String>,
    /// Maximum price of that item
    #[arg(long, value_name = "AMOUNT")]
    pub entry_max_price: Option<String>,
    /// Maximum percentage of that item's price on Buff163
    #[arg(long, value_name = "PERCENT")]
    pub max_percent: Option<String>,
    /// Dollars that a coin is worth, for --max-percent
    #[arg(long, value_name = "DOLLARS", requires = "max_percent")]
    pub coin_usd: Option<String>,
    /// Maximum number of that item
    #[arg(long, value_name = "COUNT")]
    pub max_quantity: Option<String>,
    /// Name of the whitelist entry [default: the words of its item]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Ask nothing: use the default of what is not given
    #[arg(long)]
    pub yes: bool,
}

impl InitArgs {
    fn answer(&self, question: Question) -> Option<&str> {
        let answer = match question {
            Question::Total => &self.total,
            Question::MaxPrice => &self.max_price,
            Question::MinBalance => &self.min_balance,
            Question::Item => &self.item,
            Question::MaxPercent => &self.max_percent,
            Question::CoinUsd => &self.coin_usd,
            Question::EntryMaxPrice => &self.entry_max_price,
            Question::MaxQuantity => &self.max_quantity,
            Question::Name => &self.name,
        };
        answer.as_deref()
    }

    fn is_session_on_stdin(&self) -> bool {
        self.session_file.as_deref() == Some(Path::new("-"))
    }
}

/// Failure of `init`. Never contains an answer to the question for the secret.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error("{} exists already; nothing was changed. Edit it, or move it away first", Escaped(.0))]
    Exists(String),
    #[error("without questions these are needed: {0}; nothing was changed")]
    Missing(String),
    #[error("{flag}: {problem}; nothing was changed")]
    Flag { flag: &'static str, problem: String },
    #[error("the session cookie {0}; copy it from your browser again; nothing was changed")]
    Session(CredentialError),
    #[error("the API key {0}; copy it from your profile at the market again; nothing was changed")]
    Key(CredentialError),
    #[error("the trade URL {0}; {remedy}; nothing was changed", remedy = TradeUrlError::REMEDY)]
    TradeUrl(TradeUrlError),
    #[error("cannot read the {what}; nothing was changed")]
    Read { what: &'static str, source: io::Error },
    #[error("stopped before the last answer; nothing was changed")]
    Stopped,
    #[error("cannot write {}; nothing was changed", Escaped(.name))]
    Write { name: String, source: io::Error },
}

impl InitError {
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Missing(_) | Self::Flag { .. } => exit_code::USAGE,
            Self::Write { .. } => exit_code::OS,
            Self::Exists(_)
            | Self::Session(_)
            | Self::Key(_)
            | Self::TradeUrl(_)
            | Self::Read { .. }
            | Self::Stopped => exit_code::FAILURE,
        }
    }
}

/// Asks for the settings that are not in the arguments, writes the files, and loads them.
///
/// # Errors
///
/// Returns [`AppError::Init`] if nothing was written, and [`AppError::Settings`] if the files were
/// written and this environment makes them invalid.
pub fn run(context: CommandContext<'_>, args: &InitArgs) -> Result<ExitCode, AppError> {
    let named = context.global.config.clone();
    let config_file = named
        .clone()
        .or_else(|| process_environment("SNIPER_CONFIG").map(PathBuf::from))
        .filter(|path| !path.as_os_str().is_empty())
        .unwrap_or_else(|| PathBuf::from(CONFIG_FILE));
    for path in [Path::new(DOTENV_FILE), &config_file] {
        check_absent(path)?;
    }
    secrets::check_flags(args)?;
    let stdin = io::stdin();
    let is_asking = stdin.is_terminal() && !args.yes && !args.is_session_on_stdin();
    let mut settings = from_flags(context, args)?;
    let secrets = if is_asking {
        let secrets = secrets::read(args, Some(&stdin))?;
        ask(&mut settings, &stdin)?;
        secrets
    } else {
        let missing = use_defaults(&mut settings)?;
        let has_session = args.session_file.is_some() || args.guest || !stdin.is_terminal();
        let credential = (!has_session).then(|| secrets::credential_flag(args.market));
        report_missing(missing, credential)?;
        secrets::read(args, None)?
    };
    write_both(&secrets.environment_file(), (&config_file, &settings.settings_file()))?;
    finish(context, &config_file, named.is_some())
}

/// Returns an error if there is something at this path, even a broken symbolic link.
fn check_absent(path: &Path) -> Result<(), InitError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(InitError::Write { name: path.display().to_string(), source }),
        Ok(_exists) => Err(InitError::Exists(path.display().to_string())),
    }
}

fn from_flags(context: CommandContext<'_>, args: &InitArgs) -> Result<FirstSettings, InitError> {
    let mut settings = FirstSettings::new(args.market, context.decimals);
    for question in Question::ALL {
        if let Some(text) = args.answer(question) {
            let flag = question.flag();
            settings.answer(question, text).map_err(|problem| InitError::Flag { flag, problem })?;
        }
    }
    Ok(settings)
}

/// Answers every question that has a default. Returns the options that are missing.
fn use_defaults(settings: &mut FirstSettings) -> Result<Vec<&'static str>, InitError> {
    let mut missing = Vec::new();
    for question in Question::ALL {
        let flag = question.flag();
        match settings.unanswered(question) {
            Some(Unanswered::Required) => missing.push(flag),
            Some(Unanswered::Default(text)) => {
                let invalid = |problem| InitError::Flag { flag, problem };
                settings.answer(question, &text).map_err(invalid)?;
            }
            Some(Unanswered::Optional | Unanswered::Irrelevant) | None => {}
        }
    }
    Ok(missing)
}

fn report_missing(
    mut missing: Vec<&'static str>,
    credential: Option<&'static str>,
) -> Result<(), InitError> {
    if let Some(flag) = credential {
        missing.insert(0, flag);
    }
    if missing.is_empty() { Ok(()) } else { Err(InitError::Missing(missing.join(", "))) }
}

/// Asks every question until its answer is valid.
fn ask(settings: &mut FirstSettings, stdin: &io::Stdin) -> Result<(), InitError> {
    for question in Question::ALL.into_iter().filter(|question| *question != Question::Name) {
        loop {
            let (default, is_optional) = match settings.unanswered(question) {
                None | Some(Unanswered::Irrelevant) => break,
                Some(Unanswered::Optional) => (None, true),
                Some(Unanswered::Default(text)) => (Some(text), false),
                Some(Unanswered::Required) => (None, false),
            };
            let shown = default.as_ref().map(|text| format!(" [{text}]")).unwrap_or_default();
            prompt(&format!("{}{shown}: ", settings.prompt(question)));
            let mut line = String::new();
            // The end of the input, or a line that is no text.
            if stdin.lock().read_line(&mut line).unwrap_or(0) == 0 {
                return Err(InitError::Stopped);
            }
            let text = match (line.trim(), default) {
                ("", _) if is_optional => break,
                ("", Some(default)) => default,
                (text, _) => text.to_owned(),
            };
            if let Err(problem) = settings.answer(question, &text) {
                prompt(&format!("  {problem}\n"));
            }
        }
    }
    Ok(())
}

fn read_pasted(from: impl Read) -> io::Result<String> {
    let max = u64::try_from(PASTED_BYTES_MAX).unwrap_or(u64::MAX);
    let mut text = String::new();
    from.take(max).read_to_string(&mut text)?;
    Ok(text)
}

/// Disables the echo of the terminal until it is dropped. Lines are not edited by the terminal,
/// which would cut them at 4,095 bytes, and Ctrl-C is a character, because a signal would leave the
/// echo off.
struct EchoOffGuard<'s> {
    stdin: &'s io::Stdin,
    before: Termios,
}

impl<'s> EchoOffGuard<'s> {
    fn start(stdin: &'s io::Stdin) -> io::Result<Self> {
        let before = tcgetattr(stdin)?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        hidden.special_codes[SpecialCodeIndex::VMIN] = 1;
        hidden.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(stdin, OptionalActions::Now, &hidden)?;
        Ok(Self { stdin, before })
    }
}

impl Drop for EchoOffGuard<'_> {
    fn drop(&mut self) {
        // The terminal may be gone.
        let shown = tcsetattr(self.stdin, OptionalActions::Now, &self.before);
        drop(shown.map_err(io::Error::from));
    }
}

/// Reads a line with the editing keys of a terminal. Returns `None` after Ctrl-C or the end of the
/// input.
fn hidden_line(bytes: impl Iterator<Item = io::Result<u8>>) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    for byte in bytes {
        match byte? {
            // A copied `curl` command goes on in the next line.
            b'\n' | b'\r' if line.ends_with(b"\\") => {
                line.pop();
                line.push(b'\n');
            }
            b'\n' | b'\r' => return Ok(Some(String::from_utf8_lossy(&line).into_owned())),
            CTRL_C => return Ok(None),
            CTRL_D if line.is_empty() => return Ok(None),
            // A character of several bytes ends in bytes of the form 10xxxxxx.
            BACKSPACE | DELETE => while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            CTRL_U => line.clear(),
            byte if line.len() < PASTED_BYTES_MAX => line.push(byte),
            _too_long => {}
        }
    }
    Ok(None)
}

/// Prints to standard error, so that standard output has the result only.
fn prompt(text: &str) {
    let mut err = io::stderr().lock();
    // Without a terminal for the question, its answer ends the command.
    drop(err.write_all(text.as_bytes()).and_then(|()| err.flush()));
}

/// Writes both files or none.
fn write_both(secrets: &str, (path, settings): (&Path, &str)) -> Result<(), InitError> {
    let dotenv = Path::new(DOTENV_FILE);
    write_new(dotenv, 0o600, secrets)?;
    write_new(path, 0o644, settings).inspect_err(|_error| drop(fs::remove_file(dotenv)))
}

/// Writes a new file, and removes it again if that fails.
fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), InitError> {
    let name = || path.display().to_string();
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(InitError::Exists(name()));
        }
        Err(source) => return Err(InitError::Write { name: name(), source }),
    };
    // The umask may have cleared bits of the owner.
    let written = file
        .set_permissions(Permissions::from_mode(mode))
        .and_then(|()| file.write_all(text.as_bytes()))
        .and_then(|()| file.sync_all());
    written.map_err(|source| {
        drop(fs::remove_file(path));
        InitError::Write { name: name(), source }
    })
}

/// Loads the written files, and prints the next steps.
fn finish(
    context: CommandContext<'_>,
    config_file: &Path,
    is_named: bool,
) -> Result<ExitCode, AppError> {
    let shown = Escaped(&config_file.display().to_string()).to_string();
    if !context.output.is_json() {
        print(&format!("Wrote {DOTENV_FILE} (mode 600) and {shown}.\n"))?;
    }
    let loaded = context.load_and_check_names()?;
    let option = if is_named { format!(" --config {shown}") } else { String::new() };
    let next = [format!("sniper doctor{option}"), format!("sniper run{option}")];
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    if context.output.is_json() {
        let written = [DOTENV_FILE, &shown];
        context.output.json(&json!({ "written": written, "warnings": warnings, "next": next }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    for warning in warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    let [doctor, run] = next;
    text.push_str(&format!(
        "The settings are valid. Next:\n  \
         {doctor}    tests the connection and the account; never buys\n  \
         {run}       watches the market and logs what it would buy\n"
    ));
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(bytes: &[u8]) -> Option<String> {
        hidden_line(bytes.iter().map(|byte| Ok(*byte))).unwrap()
    }

    #[test]
    fn a_hidden_line_is_edited_as_in_a_terminal() {
        assert_eq!(typed(b"abc\nd").as_deref(), Some("abc"));
        assert_eq!(typed(b"abx\x7f\x08bc\r").as_deref(), Some("abc"));
        assert_eq!(typed("a\u{e9}\u{20ac}\x7f\x7f\x7f\x7fbc\n".as_bytes()).as_deref(), Some("bc"));
        assert_eq!(typed(b"wrong\x15right\n").as_deref(), Some("right"));
        let copied = b"curl 'a' \\\n -b 'c'\nd";
        assert_eq!(typed(copied).as_deref(), Some("curl 'a' \n -b 'c'"));
        assert_eq!(typed(b"a\x03b\n"), None);
        assert_eq!(typed(b"\x04"), None);
        assert_eq!(typed(b"never ended"), None);
        let long = [b"x".repeat(PASTED_BYTES_MAX + 9), b"\n".to_vec()].concat();
        assert_eq!(typed(&long).unwrap().len(), PASTED_BYTES_MAX);
    }

    #[test]
    fn every_option_of_a_question_is_accepted_by_the_command_line() {
        use clap::Parser as _;
        for question in Question::ALL {
            let words = ["sniper", "init", question.flag(), "1", "--max-percent=2"];
            let words = words.iter().take(if question == Question::MaxPercent { 4 } else { 5 });
            let cli = super::super::cli::Cli::try_parse_from(words).unwrap();
            let super::super::cli::Command::Init(args) = cli.command() else { panic!() };
            assert_eq!(args.answer(question), Some("1"));
        }
    }
}
