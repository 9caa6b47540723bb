//! The `dumper` program.

use clap::Parser;
use host_dumper::cli::{Cli, Command};
use host_dumper::failure::{status, Failure};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Some(Command::Inspect(args)) => host_dumper::inspect::inspect(&args).map(|()| status::OK),
        Some(Command::Run(args)) => host_dumper::run::run(&args).map(|never| match never {}),
        _ => Err(Failure::new(status::USAGE, "no image given", "try `dumper --help`")),
    };
    ExitCode::from(result.unwrap_or_else(|failure| {
        eprintln!("{}", failure.text());
        failure.status
    }))
}
