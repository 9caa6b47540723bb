//! The `dumper` program.

use clap::Parser;
use host_dumper::cli::{Cli, Command};
use host_dumper::failure::{status, Failure};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let start = Instant::now();
    let cli = Cli::parse();
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
        eprintln!("{}", failure.text());
        failure.status
    }))
}
