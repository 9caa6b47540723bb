//! The command line.

use crate::capture;
use crate::consent::Policy;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

const STATUSES: &str = "\
Exit status:
  0    the image is complete (or: the question is answered)
  1    failed; the process runs on
  2    wrong arguments
  3    refused: the process holds something that cannot be carried; every reason is listed
  4    no such process, or no permission to stop it
  5    the output cannot be written
  6    cancelled: --consent require, and a process has no handler for it; nothing was disturbed
  7    cancelled: the program refuses to be suspended; its reason is shown
  8    cancelled: the program did not answer in time
  130  interrupted (SIGINT), 143 (SIGTERM), 129 (SIGHUP); the process runs on";

/// Turns a running process into one executable that brings it back.
#[derive(Debug, Parser)]
#[command(
    name = "dumper",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = STATUSES,
    override_usage = "dumper <PID> -o FILE [OPTIONS]\n       dumper check <PID>\n       dumper inspect <FILE>\n       dumper run <FILE> [ARGS]...\n       dumper send <FILE> <DEVICE>\n       dumper recv <DEVICE> -o FILE"
)]
pub struct Cli {
    /// What to do instead of dumping.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The dump.
    #[command(flatten)]
    pub dump: Option<DumpArgs>,
}

/// Commands beside the dump.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Tells what becomes of everything that a process holds, and whether it can be dumped, without
    /// stopping it
    Check(CheckArgs),
    /// Shows what an image holds
    Inspect(InspectArgs),
    /// Starts an image from where execution is not permitted (noexec, FAT), or from a pipe
    Run(RunArgs),
    /// Copies an image onto a stick (/dev/pen0) and reads it back
    Send(SendArgs),
    /// Copies the image on a stick into a file
    Recv(RecvArgs),
}

/// What becomes of an open file that has changed by the time of the resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnChanged {
    /// The resume fails and names it
    Refuse,
    /// The file is taken as it is then
    Accept,
    /// Its contents at the dump travel along and take its place
    Embed,
}

/// What becomes of Unix sockets that are connected with a process outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExternalSockets {
    /// The dump is refused, and names the other process
    Refuse,
    /// They connect anew, to the same name, when the image is resumed
    Reconnect,
    /// The program sees that the other end was closed
    Close,
}

/// What becomes of pipes of which a process outside has an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExternalPipes {
    /// The dump is refused, and names the other process
    Refuse,
    /// The program sees that it was closed there
    Close,
}

/// Who is asked before it is suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Consent {
    /// Programs that registered for it; the others are suspended as they are
    Auto,
    /// Those, and programs with a handler for SIGUSR1; where one has none, nothing is suspended
    Require,
    /// Nobody
    Ignore,
}

impl From<Consent> for Policy {
    fn from(consent: Consent) -> Self {
        match consent {
            Consent::Auto => Self::Auto,
            Consent::Require => Self::Require,
            Consent::Ignore => Self::Ignore,
        }
    }
}

impl From<ExternalPipes> for capture::ExternalPipes {
    fn from(policy: ExternalPipes) -> Self {
        match policy {
            ExternalPipes::Refuse => Self::Refuse,
            ExternalPipes::Close => Self::Close,
        }
    }
}

impl From<ExternalSockets> for capture::ExternalSockets {
    fn from(policy: ExternalSockets) -> Self {
        match policy {
            ExternalSockets::Refuse => Self::Refuse,
            ExternalSockets::Reconnect => Self::Reconnect,
            ExternalSockets::Close => Self::Close,
        }
    }
}

/// Arguments of the dump.
#[derive(Debug, Args)]
pub struct DumpArgs {
    /// The process
    #[arg(value_name = "PID", value_parser = parse_pid)]
    pub pid: u32,
    /// Where the image goes: a file, a stick (/dev/pen0), or "-" for standard output; then the
    /// process is not ended unless --kill is given
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Let the process run on afterwards
    #[arg(long, conflicts_with = "kill")]
    pub leave_running: bool,
    /// End the process although the image goes to standard output
    #[arg(long)]
    pub kill: bool,
    /// Open files up to this size travel along (bytes, or with K, M, G)
    #[arg(long, value_name = "LIMIT", default_value = "1M", value_parser = parse_size)]
    pub embed_files: u64,
    /// What the resume does about an open file that has changed since
    #[arg(long, value_enum, default_value = "refuse")]
    pub on_changed: OnChanged,
    /// What becomes of Unix sockets that are connected with another process
    #[arg(long, value_enum, value_name = "POLICY", default_value = "refuse")]
    pub external_sockets: ExternalSockets,
    /// What becomes of pipes of which another process has an end, and of eventfds, timers and epoll
    /// sets that it holds as well
    #[arg(long, value_enum, value_name = "POLICY", default_value = "refuse")]
    pub external_pipes: ExternalPipes,
    /// TCP connections with others live on (needs CAP_NET_ADMIN here and at the resume); without it
    /// the program finds them reset
    #[arg(long)]
    pub tcp_established: bool,
    /// System V shared memory, semaphores and queues that other processes use as well travel along,
    /// too
    #[arg(long)]
    pub sysv_ipc: bool,
    /// Who is asked before it is suspended
    #[arg(long, value_enum, value_name = "POLICY", default_value = "auto")]
    pub consent: Consent,
    /// How long a program may take for its answer (seconds, or with ms)
    #[arg(long, value_name = "TIME", default_value = "30", value_parser = parse_time)]
    pub consent_timeout: Duration,
    /// The process that is to be dumped has started this command
    #[arg(long, hide = true)]
    pub for_itself: bool,
    /// Replace FILE if it exists, overwrite what the stick holds
    #[arg(long)]
    pub force: bool,
    /// Do not wait until the image is on the disk
    #[arg(long)]
    pub no_sync: bool,
    /// Threads that read and write the pages of a large process, 1 to 6 [default: one for each processor, at most 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=6))]
    pub workers: Option<u32>,
    /// Tell what is being done
    #[arg(short, long)]
    pub verbose: bool,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
    /// Print nothing but errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The process
    #[arg(value_name = "PID", value_parser = parse_pid)]
    pub pid: u32,
    /// Open files up to this size would travel along (bytes, or with K, M, G)
    #[arg(long, value_name = "LIMIT", default_value = "1M", value_parser = parse_size)]
    pub embed_files: u64,
    /// What would become of Unix sockets that are connected with another process
    #[arg(long, value_enum, value_name = "POLICY", default_value = "refuse")]
    pub external_sockets: ExternalSockets,
    /// What would become of pipes of which another process has an end, and of eventfds, timers and
    /// epoll sets that it holds as well
    #[arg(long, value_enum, value_name = "POLICY", default_value = "refuse")]
    pub external_pipes: ExternalPipes,
    /// TCP connections with others would live on
    #[arg(long)]
    pub tcp_established: bool,
    /// System V shared memory, semaphores and queues that other processes use as well would travel
    /// along, too
    #[arg(long)]
    pub sysv_ipc: bool,
    /// Who would be asked before it is suspended
    #[arg(long, value_enum, value_name = "POLICY", default_value = "auto")]
    pub consent: Consent,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The image; "-" is standard input
    pub file: PathBuf,
    /// Print the model as JSON
    #[arg(long, conflicts_with = "plan")]
    pub json: bool,
    /// Print the steps of the resume
    #[arg(long)]
    pub plan: bool,
    /// Skip the check of the page data
    #[arg(long)]
    pub no_verify: bool,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(override_usage = "dumper run <FILE> [ARGS]...")]
pub struct RunArgs {
    /// The image ("-" is standard input), then options for the image itself, which `dumper run
    /// FILE --help` lists
    #[arg(required = true, num_args = 1.., value_names = ["FILE", "ARGS"], trailing_var_arg = true)]
    pub command: Vec<OsString>,
}

/// Arguments of `send`.
#[derive(Debug, Args)]
pub struct SendArgs {
    /// The image
    pub file: PathBuf,
    /// The stick, such as /dev/pen0
    pub device: PathBuf,
    /// Overwrite what the stick holds
    #[arg(long)]
    pub force: bool,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
    /// Print nothing but errors
    #[arg(short, long)]
    pub quiet: bool,
}

/// Arguments of `recv`.
#[derive(Debug, Args)]
pub struct RecvArgs {
    /// The stick, such as /dev/pen0
    pub device: PathBuf,
    /// Where the image goes; "-" is standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Replace FILE if it exists
    #[arg(long)]
    pub force: bool,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
    /// Print nothing but errors
    #[arg(short, long)]
    pub quiet: bool,
}

/// Reads a pid.
fn parse_pid(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| {
        String::from("not a process id, which is a number; `ps` and `pgrep NAME` tell it")
    })
}

/// Reads a size such as "300", "64K", "10M" or "2G".
fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "K" | "KB" | "KIB" => 1 << 10,
        "M" | "MB" | "MIB" => 1 << 20,
        "G" | "GB" | "GIB" => 1 << 30,
        "T" | "TB" | "TIB" => 1 << 40,
        other => return Err(format!("unknown unit \"{other}\"; use K, M or G")),
    };
    let number: u64 =
        digits.parse().map_err(|_| "not a size; examples: 4096, 64K, 10M, 2G".to_string())?;
    number.checked_mul(unit).ok_or_else(|| "too large".to_string())
}

/// Reads a time such as "30", "1.5s" or "200ms".
fn parse_time(text: &str) -> Result<Duration, String> {
    let example = || String::from("not a time; examples: 30, 1.5s, 200ms");
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let number: f64 = number.trim().parse().map_err(|_| example())?;
    Duration::try_from_secs_f64(number * unit).map_err(|_| example())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("300"), Ok(300));
        assert_eq!(parse_size("64k"), Ok(64 << 10));
        assert_eq!(parse_size("2G"), Ok(2 << 30));
        assert!(parse_size("").is_err());
        assert!(parse_size("12X").is_err());
        assert!(parse_size("99999999999T").is_err());
    }

    #[test]
    fn times() {
        assert_eq!(parse_time("30"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_time("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_time("200ms"), Ok(Duration::from_millis(200)));
        assert!(parse_time("-1").is_err());
        assert!(parse_time("soon").is_err());
    }

    #[test]
    fn a_pid_or_a_command() {
        let cli = Cli::try_parse_from(["dumper", "12", "-o", "x"]).unwrap();
        assert_eq!(cli.dump.unwrap().pid, 12);
        let cli = Cli::try_parse_from(["dumper", "run", "x", "--help"]).unwrap();
        let Some(Command::Run(run)) = cli.command else { panic!("not run") };
        assert_eq!(run.command, ["x", "--help"]);
        assert!(Cli::try_parse_from(["dumper", "12"]).is_err());
        assert!(Cli::try_parse_from(["dumper"]).is_err());
        assert!(Cli::try_parse_from(["dumper", "abc", "-o", "x"]).is_err());
        assert!(
            Cli::try_parse_from(["dumper", "12", "-o", "x", "--kill", "--leave-running"]).is_err()
        );
    }
}
