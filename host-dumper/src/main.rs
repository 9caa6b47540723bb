//! The `dumper` program.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};
use host_dumper::cli::{Cli, Command};
use host_dumper::failure::{status, Failure};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let start = Instant::now();
    let cli = Cli::try_parse().unwrap_or_else(|error| unexpected(error).exit());
    let json = match &cli.command {
        Some(Command::Check(args)) => args.json,
        Some(Command::Inspect(args)) => args.json,
        Some(Command::Send(args)) => args.json,
        Some(Command::Recv(args)) => args.json && args.output != Path::new("-"),
        Some(Command::Run(_)) | None => false,
    };
    let result = match (cli.command, cli.dump) {
        (Some(Command::Check(args)), _) => host_dumper::check::check(&args),
        (Some(Command::Inspect(args)), _) => {
            host_dumper::inspect::inspect(&args).map(|()| status::OK)
        }
        (Some(Command::Run(args)), _) => host_dumper::run::run(&args).map(|never| match never {}),
        (Some(Command::Send(args)), _) => host_dumper::medium::send(&args),
        (Some(Command::Recv(args)), _) => host_dumper::medium::recv(&args),
        (None, Some(args)) => Ok(host_dumper::dump::dump(&args, start)),
        (None, None) => Err(Failure::new(status::USAGE, "no process given", "try `dumper --help`")),
    };
    ExitCode::from(result.unwrap_or_else(|failure| {
        if json {
            // Nobody may be listening; standard error and the exit status tell all the same.
            let _ = writeln!(std::io::stdout(), "{}", failure.json());
        }
        host_dumper::console::tell(&failure.text());
        failure.status
    }))
}

/// Clap takes whatever follows the process id for a command, and speaks of one that there is not.
fn unexpected(error: clap::Error) -> clap::Error {
    match (error.kind(), error.get(ContextKind::InvalidSubcommand)) {
        (ErrorKind::ArgumentConflict, Some(ContextValue::String(word))) => Cli::command().error(
            ErrorKind::UnknownArgument,
            format!("unexpected argument '{word}': the image of one process is made at a time"),
        ),
        _ => error,
    }
}
