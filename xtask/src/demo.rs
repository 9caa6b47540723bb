//! `cargo xtask demo`: a program that asks two questions travels from one terminal to another
//! between them.

use crate::terminal::Terminal;
use crate::{cargo, packages, Failure};
use std::io::IsTerminal;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = "two_inputs";

/// Whether somebody looks on.
pub fn is_watched() -> bool {
    std::io::stdout().is_terminal()
}

/// Says what comes next, and leaves time to read it.
fn tell(text: &str) {
    println!("\n-- {text}");
    if is_watched() {
        std::thread::sleep(Duration::from_millis(1200));
    }
}

/// Shows the whole journey; an error unless the answer is right.
pub fn run() -> Result<(), Failure> {
    packages::install(&[packages::COMPILERS])?;
    println!("-- Building dumper and a small C++ program");
    let dumper = cargo::release_dumper()?;
    let stage = cargo::target().join("demo");
    match std::fs::remove_dir_all(&stage) {
        Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
            return Err(format!("{}: {why}", stage.display()).into())
        }
        _ => std::fs::create_dir_all(&stage)?,
    }
    let source = cargo::root().join("tests/victims/two_inputs.cc");
    let mut compiler = Command::new("g++");
    compiler.args(["-O2", "-o"]).arg(stage.join(PROGRAM)).arg(source);
    if !compiler.status()?.success() {
        return Err("g++ could not build the program".into());
    }

    tell("A shell in a first terminal. The program asks for two numbers; it gets the first.");
    let mut first = Terminal::open("terminal 1", (24, 80), shell(&stage))?;
    first.expect("$ ")?;
    first.enter("./two_inputs")?;
    first.expect("First number: ")?;
    first.enter("20")?;
    first.expect("Second number: ")?;
    let pid = find(first.leader())?;
    first.leave();

    tell("From elsewhere, the process is turned into a file, and ends.");
    println!("    $ dumper {pid} -o resume.elf");
    let status = Command::new(&dumper)
        .current_dir(&stage)
        .args([&pid.to_string(), "-o", "resume.elf"])
        .stdin(Stdio::null())
        .status()?;
    if !status.success() {
        return Err(format!("dumper failed ({status}); what it said stands above").into());
    }
    first.expect("$ ")?;
    first.enter("exit")?;
    first.close()?;

    tell("The first terminal is closed, and the program's own file deleted. This is all there is:");
    std::fs::remove_file(stage.join(PROGRAM))?;
    println!("    $ ls -l");
    Command::new("ls").arg("-l").current_dir(&stage).stdin(Stdio::null()).status()?;

    tell("A shell in a second terminal, of another size. The second number is still to come.");
    let mut second = Terminal::open("terminal 2", (40, 120), shell(&stage))?;
    second.expect("$ ")?;
    second.enter("./resume.elf")?;
    find(second.leader())?;
    second.enter("22")?;
    second.expect("20 + 22 = 42")?;
    second.expect("$ ")?;
    second.enter("echo the status was $?")?;
    second.expect("the status was 0")?;
    second.expect("$ ")?;
    second.enter("exit")?;
    second.close()?;

    tell("It has answered with both numbers: the one from before, and the one from after.");
    let image = stage.join("resume.elf");
    println!(
        "   Again, by hand: type a number after {}",
        image.strip_prefix(cargo::root()).unwrap_or(&image).display()
    );
    Ok(())
}

/// An interactive shell without anybody's own settings.
fn shell(stage: &Path) -> Command {
    let mut shell = Command::new("bash");
    shell.args(["--norc", "--noprofile", "--noediting", "-i"]).current_dir(stage);
    shell.env("PS1", "$ ").env("TERM", "dumb").env("HISTFILE", "").env_remove("PROMPT_COMMAND");
    shell
}

/// Waits until the program runs somewhere below this process.
fn find(above: u32) -> Result<i32, Failure> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        let below = crate::tree::descendants(above);
        let found = below.into_iter().find(|pid| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
            name.is_ok_and(|name| name.trim_end() == PROGRAM)
        });
        if let Some(pid) = found {
            return Ok(pid);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(format!("no {PROGRAM} runs in the shell").into())
}
