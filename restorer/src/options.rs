//! The options of `./resume.elf`; they end at `--`.

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Command {
    /// Bring the program back.
    #[default]
    Resume,
    /// `--help`.
    Help,
    /// `--info`.
    Info,
    /// `--check`.
    Check,
}

/// `--on-changed`: what becomes of a file that is not as it was at the dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnChanged {
    /// As the dump said; an error if it said nothing.
    #[default]
    AsDumped,
    /// An error.
    Refuse,
    /// Taken as it is.
    Accept,
    /// The contents of the dump take its place.
    Embed,
}

/// The options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// What is to be done.
    pub command: Command,
    /// `-v`.
    pub verbose: bool,
    /// `--new-pid`.
    pub new_pid: bool,
    /// `--same-pid`.
    pub same_pid: bool,
    /// `--force`.
    pub force: bool,
    /// `--copy-all`.
    pub copy_all: bool,
    /// `--no-verify`.
    pub no_verify: bool,
    /// `--workers`; 0 lets the restorer choose.
    pub workers: u32,
    /// `--on-changed`.
    pub on_changed: OnChanged,
}

/// An argument that is not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown<'a> {
    /// The argument.
    pub argument: &'a [u8],
    /// What is wrong with it.
    pub what: &'static str,
}

/// Text of `--help`.
pub const HELP: &str = "\
Usage: resume.elf [OPTION]... [--]
Brings back the program that was dumped into this file.

      --info         tell what is inside, and stop
      --check        check image, processor, kernel and memory; change nothing
      --new-pid      become the program: no supervisor, a new process id
      --same-pid     fail where the original process id is taken or not permitted in place
      --force        resume although the processor lacks features
      --copy-all     leave nothing of this file mapped
      --no-verify    do not verify the checksums of the memory
      --workers N    copy memory with N threads
      --on-changed refuse|accept|embed
                     what to do with an open file that is not as it was
  -v                 tell what is being done
      --help         this text

Exit status: that of the program; 125 if it could not be brought back.
";

impl Options {
    /// Reads the arguments after the program's name.
    pub fn parse<'a>(mut args: impl Iterator<Item = &'a [u8]>) -> Result<Self, Unknown<'a>> {
        let mut o = Self::default();
        while let Some(argument) = args.next() {
            match argument {
                b"--" => break,
                b"--help" | b"-h" => o.command = Command::Help,
                b"--info" => o.command = Command::Info,
                b"--check" => o.command = Command::Check,
                b"-v" | b"--verbose" => o.verbose = true,
                b"--new-pid" => o.new_pid = true,
                b"--same-pid" => o.same_pid = true,
                b"--force" => o.force = true,
                b"--copy-all" => o.copy_all = true,
                b"--no-verify" => o.no_verify = true,
                b"--workers" => {
                    o.workers =
                        args.next().and_then(number).filter(|n| (1..=64).contains(n)).ok_or(
                            Unknown { argument, what: "wants a number from 1 to 64 after it" },
                        )?;
                }
                b"--on-changed" => {
                    o.on_changed = match args.next() {
                        Some(b"refuse") => OnChanged::Refuse,
                        Some(b"accept") => OnChanged::Accept,
                        Some(b"embed") => OnChanged::Embed,
                        _ => {
                            let what = "wants refuse, accept or embed after it";
                            return Err(Unknown { argument, what });
                        }
                    };
                }
                _ => return Err(Unknown { argument, what: "unknown option" }),
            }
        }
        if o.new_pid && o.same_pid {
            return Err(Unknown { argument: b"--same-pid", what: "contradicts --new-pid" });
        }
        Ok(o)
    }
}

fn number(text: &[u8]) -> Option<u32> {
    crate::text::number(text).and_then(|number| u32::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<'a>(args: &[&'a str]) -> Result<Options, Unknown<'a>> {
        Options::parse(args.iter().map(|a| a.as_bytes()))
    }

    #[test]
    fn options_end_at_two_dashes() {
        let o = parse(&["-v", "--new-pid", "--", "--unknown"]).unwrap();
        assert!(o.verbose && o.new_pid && !o.force);
        assert_eq!(parse(&["--", "--help"]).unwrap().command, Command::Resume);
    }

    #[test]
    fn values_are_checked() {
        assert_eq!(parse(&["--workers", "3"]).unwrap().workers, 3);
        assert!(parse(&["--workers", "0"]).is_err());
        assert!(parse(&["--workers"]).is_err());
        assert_eq!(parse(&["--on-changed", "embed"]).unwrap().on_changed, OnChanged::Embed);
        assert!(parse(&["--on-changed", "x"]).is_err());
        assert_eq!(parse(&["--bogus"]).unwrap_err().argument, b"--bogus");
        assert!(parse(&["--new-pid", "--same-pid"]).is_err());
    }
}
