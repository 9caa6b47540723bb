//! The `dumper` program.

use clap::Parser;
use host_dumper::cli::{Cli, Command};
use host_dumper::failure::{status, Failure};
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let start = Instant::now();
    let cli = Cli::parse();
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
        eprintln!("{}", failure.text());
        failure.status
    }))
}
