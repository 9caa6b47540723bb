//! The options of `./resume.elf`; they end at `--`. The text of `--help` is in the plan
//! (`linker/src/info.rs`).

use alloc::vec::Vec;
use core::ffi::CStr;

/// Bits of [`Options::asked`], by the place of the option in `NAMES`.
pub mod asked {
    /// `--help` or `-h`.
    pub const HELP: u32 = 1 << 1 | 1 << 2;
    /// `--info`.
    pub const INFO: u32 = 1 << 3;
    /// `--check`.
    pub const CHECK: u32 = 1 << 4;
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
    /// What is to be told instead of bringing the program back ([`asked`]).
    pub asked: u32,
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
    /// `--detach`.
    pub detach: bool,
}

/// What the program gets from outside.
#[derive(Debug, Default)]
pub struct Outside<'a> {
    /// Descriptors of the program, and what takes their place: a path, or `fd:` and a number.
    pub redirected: Vec<(u32, &'a CStr)>,
    /// `--root-dir`.
    pub root: Option<&'a CStr>,
    /// Which of 0, 1 and 2 were closed when the command was started: what is opened later takes
    /// such a number, and is not the program's.
    pub closed: [bool; 3],
}

/// All options, in the order of [`Options::parse`]. Looking one up takes fewer bytes than as many
/// comparisons.
const NAMES: &[u8] = b"-- --help -h --info --check -v --verbose --new-pid --same-pid --force \
--copy-all --no-verify --detach --workers --on-changed --root-dir --inherit-fd \
--stdin --stdout --stderr";
/// Place of the first that has a value.
const WITH_VALUE: usize = 13;

/// Place of a word in a list of words.
fn place(words: &[u8], wanted: &[u8]) -> Option<usize> {
    crate::text::words(words).position(|word| word == wanted)
}

impl Options {
    /// Reads the arguments after the program's name; an error is what is wrong, and with which.
    pub fn parse<'a>(
        mut args: impl Iterator<Item = &'a CStr>,
        outside: &mut Outside<'a>,
    ) -> Result<Self, (&'static str, &'a CStr)> {
        const UNKNOWN: &str = "no such option";
        const MISSING: &str = "an option lacks its value";
        const VALUE: &str = "an option has a value that makes no sense";
        let mut o = Self::default();
        while let Some(argument) = args.next() {
            let option = place(NAMES, argument.to_bytes()).ok_or((UNKNOWN, argument))?;
            let value =
                if option < WITH_VALUE { c"" } else { args.next().ok_or((MISSING, argument))? };
            let bytes = value.to_bytes();
            match option {
                0 => break,
                1..=4 => o.asked |= 1 << option,
                5 | 6 => o.verbose = true,
                7 => o.new_pid = true,
                8 => o.same_pid = true,
                9 => o.force = true,
                10 => o.copy_all = true,
                11 => o.no_verify = true,
                12 => o.detach = true,
                13 => {
                    let workers = number(bytes).filter(|n| (1..=64).contains(n));
                    o.workers = workers.ok_or((VALUE, argument))?;
                }
                14 => {
                    o.on_changed = match place(b"refuse accept embed", bytes) {
                        Some(0) => OnChanged::Refuse,
                        Some(1) => OnChanged::Accept,
                        Some(2) => OnChanged::Embed,
                        _ => return Err((VALUE, argument)),
                    }
                }
                15 => outside.root = Some(value),
                16 => outside.redirected.push(assignment(value).ok_or((VALUE, argument))?),
                _ => outside.redirected.push((option as u32 - 17, value)),
            }
            if o.new_pid && o.same_pid {
                return Err(("--new-pid and --same-pid exclude each other", c""));
            }
        }
        Ok(o)
    }
}

/// A number, an equals sign, and the rest.
fn assignment(text: &CStr) -> Option<(u32, &CStr)> {
    let bytes = text.to_bytes_with_nul();
    let at = bytes.iter().position(|byte| *byte == b'=')?;
    let rest = CStr::from_bytes_with_nul(&bytes[at + 1..]).ok()?;
    Some((number(&bytes[..at])?, rest))
}

fn number(text: &[u8]) -> Option<u32> {
    crate::text::number(text).and_then(|number| u32::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::boxed::Box;
    use alloc::ffi::CString;

    /// The arguments live on: there are few.
    fn strings(args: &[&str]) -> Vec<&'static CStr> {
        let leaked = |a: &&str| &*Box::leak(CString::new(*a).unwrap().into_boxed_c_str());
        args.iter().map(leaked).collect()
    }

    fn parse(args: &[&str]) -> Result<Options, (&'static str, &'static CStr)> {
        Options::parse(strings(args).into_iter(), &mut Outside::default())
    }

    #[test]
    fn options_end_at_two_dashes() {
        let o = parse(&["-v", "--new-pid", "--", "--unknown"]).unwrap();
        assert!(o.verbose && o.new_pid && !o.force);
        assert_eq!(parse(&["--", "--help"]).unwrap().asked, 0);
    }

    #[test]
    fn what_is_asked_for() {
        for help in ["--help", "-h"] {
            assert_ne!(parse(&[help]).unwrap().asked & asked::HELP, 0);
        }
        for both in [["--info", "--check"], ["--check", "--info"]] {
            assert_eq!(parse(&both).unwrap().asked, asked::INFO | asked::CHECK);
        }
        assert_eq!(parse(&["--check", "-v"]).unwrap().asked, asked::CHECK);
    }

    #[test]
    fn values_are_checked() {
        assert_eq!(parse(&["--workers", "3"]).unwrap().workers, 3);
        let wrong = |args: &[&str]| parse(args).unwrap_err();
        assert_eq!(
            wrong(&["--workers", "0"]),
            ("an option has a value that makes no sense", c"--workers")
        );
        assert_eq!(wrong(&["--workers"]), ("an option lacks its value", c"--workers"));
        assert_eq!(parse(&["--on-changed", "embed"]).unwrap().on_changed, OnChanged::Embed);
        assert!(parse(&["--on-changed", "x"]).is_err());
        assert_eq!(wrong(&["--bogus"]), ("no such option", c"--bogus"));
        assert!(parse(&["--new-pid", "--same-pid"]).is_err());
    }

    #[test]
    fn descriptors_from_outside() {
        let args = ["--stdin", "a", "--inherit-fd", "7=fd:3", "--root-dir", "/r", "--stderr", "b"];
        let mut outside = Outside::default();
        Options::parse(strings(&args).into_iter(), &mut outside).unwrap();
        assert_eq!(outside.redirected, [(0, c"a"), (7, c"fd:3"), (2, c"b")]);
        assert_eq!(outside.root, Some(c"/r"));
        for bad in [&["--inherit-fd", "7"][..], &["--inherit-fd", "x=y"], &["--stdin"]] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
