//! `sniper completions`: scripts that complete commands and options in a shell, generated from the
//! definition of the command line.

use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;
use serde_json::json;

use super::{AppError, cli::Cli, report::Output};

/// Examples in the help.
pub(super) const EXAMPLES: &str = "\
Examples:
  sniper completions bash > ~/.local/share/bash-completion/completions/sniper
  sniper completions zsh > ~/.zfunc/_sniper
  sniper completions fish > ~/.config/fish/completions/sniper.fish";

/// Arguments of `sniper completions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
pub struct CompletionsArgs {
    /// Shell that reads the script
    pub shell: Shell,
}

/// Prints the script.
///
/// # Errors
///
/// Returns [`AppError::Print`] if it cannot be printed.
pub fn run(args: CompletionsArgs, output: Output) -> Result<ExitCode, AppError> {
    let mut command = Cli::command_line();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    let script = String::from_utf8_lossy(&script);
    output.print(&script, || json!({ "shell": args.shell.to_string(), "script": script }))?;
    Ok(ExitCode::SUCCESS)
}
