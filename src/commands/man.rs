//! `sniper man`: one manual page with every command, generated from the definition of the command
//! line.

use std::{io, process::ExitCode};

use clap::Command;
use clap_mangen::{
    Man,
    roff::{Roff, roman},
};
use serde_json::json;

use super::{AppError, cli::Cli, report::Output};

/// Prints the page.
///
/// # Errors
///
/// Returns [`AppError::Print`] if it cannot be printed.
pub fn run(output: Output) -> Result<ExitCode, AppError> {
    let page = page(&Cli::command_line())?;
    output.print(&page, || json!({ "page": page }))?;
    Ok(ExitCode::SUCCESS)
}

/// Definition of the apostrophe, which the renderer puts before each section.
const PREAMBLE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

/// Renders the page: the program, then a section for each command that is not hidden.
fn page(program: &Command) -> io::Result<String> {
    let man = Man::new(program.clone());
    let mut sections = Vec::new();
    man.render_name_section(&mut sections)?;
    man.render_synopsis_section(&mut sections)?;
    man.render_description_section(&mut sections)?;
    man.render_options_section(&mut sections)?;
    let mut page = String::from_utf8_lossy(&sections).replace(PREAMBLE, "");
    page.push_str(&heading("EXAMPLES"));
    page.push_str(&examples(program));
    add_commands(&mut page, program, program.get_name())?;
    // Without a date, so that the page depends on the program only.
    let version = program.get_version().unwrap_or_default();
    let title = format!(".TH SNIPER 1 \"\" \"sniper {version}\"");
    // The renderer leaves trailing blanks, which have no meaning in roff.
    let lines = PREAMBLE.lines().chain([title.as_str()]).chain(page.lines());
    Ok(lines.flat_map(|line| [line.trim_end(), "\n"]).collect())
}

/// Adds a section for each subcommand, and for those below it.
fn add_commands(page: &mut String, parent: &Command, parent_name: &str) -> io::Result<()> {
    for command in parent.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = format!("{parent_name} {}", command.get_name());
        // The section of the program describes `--help` for all commands.
        let shown = command.clone().bin_name(&name).disable_help_flag(true);
        let man = Man::new(shown);
        let (mut usage, mut description, mut options) = (Vec::new(), Vec::new(), Vec::new());
        man.render_synopsis_section(&mut usage)?;
        man.render_description_section(&mut description)?;
        man.render_options_section(&mut options)?;
        page.push_str(&heading(&name.to_uppercase()));
        page.push_str(&body(&usage));
        page.push_str(".PP\n");
        page.push_str(&body(&description));
        page.push_str(&body(&options));
        page.push_str(".PP\n");
        page.push_str(&examples(command));
        add_commands(page, command, &name)?;
    }
    Ok(())
}

/// Returns the text of a rendered section, which follows its `.SH` line.
fn body(section: &[u8]) -> String {
    let section = String::from_utf8_lossy(section);
    section
        .split_once("\n.SH ")
        .and_then(|(_, rest)| rest.split_once('\n'))
        .map_or_else(String::new, |(_, body)| body.to_owned())
}

fn heading(text: &str) -> String {
    let mut roff = Roff::new();
    roff.control("SH", [text]);
    roff.to_roff()
}

/// Returns the examples of a command's help, with its line breaks.
fn examples(command: &Command) -> String {
    let Some(help) = command.get_after_help() else { return String::new() };
    let mut roff = Roff::new();
    roff.control("nf", []);
    for line in help.to_string().lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    roff.to_roff()
}
