//! Programs that hold terminals for others: multiplexers, recorders of sessions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;
use crate::process::{self, Kind, Outcome, Process};
use crate::programs::{as_both, Stage};
use crate::victims::{resume_with, until, Mode, Victim};
use crate::Case;

/// All cases.
pub fn cases() -> Vec<Case> {
    as_both("multiplexer", &[("script", script), ("tmux", tmux)])
}

const PROMPT: &str = "@prompt@ ";
const SHELL: &str = "/bin/bash --norc --noprofile --noediting -i";

/// A shell in a terminal that `script` holds and records.
fn script(mode: Mode) -> Outcome {
    let mut stage = Stage::new("script", mode)?;
    let arguments = ["-q", "-e", "-c", SHELL, "record.txt"];
    let program = Path::new("/usr/bin/script");
    let mut process = stage.start_with(program, &arguments, Kind::Pty, &[("PS1", PROMPT)])?;
    process.expect(PROMPT)?;
    let job = Victim::named("terminal")?.program();
    process.send("kept=before; stty -echo; sleep 1000 &")?;
    process.expect(PROMPT)?;
    for round in 0..2 {
        process = stage.travel(process, Kind::Pty)?;
        process.send(&format!("echo \"<$kept {round} $(jobs -r | grep -c 1000)>\""))?;
        process.expect(&format!("<before {round} 1>"))?;
        process.expect(PROMPT)?;
        process.send("stty -a | tr ' ' '\\n' | grep -cx -e -echo")?;
        process.expect("1")?;
        process.expect(PROMPT)?;
        // Keys are signals to the foreground, and to nobody else.
        process.send(&job.display().to_string())?;
        process.expect("READY")?;
        process.send_raw(b"\x1a")?;
        process.expect("Stopped")?;
        process.expect(PROMPT)?;
        process.send("fg")?;
        process.ping()?;
        process.send_raw(b"\x03")?;
        process.expect(PROMPT)?;
        process.send("echo \"<$? $(jobs | wc -l)>\"")?;
        process.expect("<130 1>")?;
        process.expect(PROMPT)?;
    }
    process.send("kill %1; wait %1; exit 5")?;
    process.exit_code(5)?;
    let record = fs::read_to_string(stage.dir.join("record.txt")).map_err(|e| e.to_string())?;
    for wanted in ["<before 0 1>", "<before 1 1>", "<130 1>"] {
        if !record.contains(wanted) {
            return Err(format!("{wanted} was not recorded:\n{record}"));
        }
    }
    Ok(())
}

/// A server of tmux, which clients come to by its socket.
struct Server {
    dir: PathBuf,
    mode: Mode,
}

impl Server {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("/usr/bin/tmux");
        command::as_user(&mut command, self.mode.uid());
        command.env("TERM", "vt100").env("HOME", &self.dir).env("SHELL", "/bin/sh");
        command.current_dir(&self.dir).args(["-S", "server.sock", "-f", "/dev/null"]).args(words);
        command
    }

    fn ask(&self, words: &[&str]) -> Outcome<String> {
        let done = command::run(&mut self.command(words), &self.dir)?;
        Ok(done.expect(0, &words.join(" "))?.stdout)
    }

    /// Types a line into a pane and waits for a text to be on its screen.
    fn type_line(&self, pane: &str, line: &str, wanted: &str) -> Outcome {
        self.ask(&["send-keys", "-t", pane, line, "Enter"])?;
        self.shows(pane, wanted)
    }

    fn shows(&self, pane: &str, wanted: &str) -> Outcome {
        let mut screen = String::new();
        until(&format!("{wanted:?} in pane {pane}"), || {
            screen = self.ask(&["capture-pane", "-p", "-t", pane]).unwrap_or_else(|why| why);
            screen.contains(wanted)
        })
        .map_err(|why| format!("{why}; its screen:\n{screen}"))
    }

    fn attach(&self) -> Outcome<Process> {
        process::start(self.command(&["attach-session", "-t", "kept"]), Kind::Pty, &self.dir)
    }

    /// A pid that a format of tmux tells.
    fn number(&self, pane: &str, format: &str) -> Outcome<i32> {
        let text = self.ask(&["display-message", "-p", "-t", pane, format])?;
        text.trim().parse().map_err(|_| format!("{format} is {text:?}"))
    }
}

fn has_ended(pid: i32) -> Outcome {
    until(&format!("{pid} to end"), || !Path::new(&format!("/proc/{pid}")).exists())
}

/// A server with two panes; clients attach before and after it travels.
fn tmux(mode: Mode) -> Outcome {
    let stage = Stage::new("tmux", mode)?;
    let server = Server { dir: stage.dir.clone(), mode };
    if !Path::new("/usr/bin/tmux").exists() {
        return Err("tmux is not installed: run `cargo xtask test`".into());
    }
    server.ask(&["new-session", "-d", "-s", "kept", "-x", "80", "-y", "24", SHELL])?;
    // Keys that follow each other too fast for hands are keys all the same.
    server.ask(&["set-option", "-g", "assume-paste-time", "0"])?;
    let first = Guard(server.number("kept", "#{pid}")?);
    server.ask(&["split-window", "-t", "kept", SHELL])?;
    server.type_line("kept.0", "kept=before; sleep 1000 &", "1000 &")?;
    server.type_line("kept.1", "cat", "cat")?;

    // A client is not part of the tree.
    let mut client = server.attach()?;
    client.expect("1000 &")?;
    let image = stage.dir.join("attached.elf");
    let mut dump = command::dumper(mode.uid());
    dump.arg(first.0.to_string()).arg("-o").arg(&image);
    let refused = command::run(&mut dump, &stage.dir)?.expect(3, "dump of a server in use")?;
    refused.says("tmux: client")?;
    client.send_raw(b"\x02d")?;
    client.exit_code(0)?;

    let shell = server.number("kept.0", "#{pane_pid}")?;
    let mut pid = first.0;
    let mut resumed: Option<Process> = None;
    for round in 0..2 {
        let image = stage.dir.join(format!("resume{round}.elf"));
        command::dump(pid, &image, mode.uid(), &[])?;
        has_ended(pid)?;
        if let Some(before) = &mut resumed {
            command::gone(before)?;
        }
        let process = resume_with(mode, &image, &stage.dir, Kind::Pipes, &[])?;
        pid = process.pid;
        resumed = Some(process);
        until("the server to answer", || server.ask(&["list-sessions"]).is_ok())?;
        if server.number("kept.0", "#{pane_pid}")? != shell {
            return Err("the pane has another shell".into());
        }
        let wanted = format!("<before {round} 1>");
        let line = format!("echo \"<$kept {round} $(jobs -r | wc -l)>\"");
        server.type_line("kept.0", &line, &wanted)?;
        server.type_line(
            "kept.1",
            &format!("line {round}"),
            &format!("line {round}\nline {round}"),
        )?;
        let mut client = server.attach()?;
        client.expect(&wanted)?;
        client
            .send_raw(format!("kept=before; echo \"<client {round} $((40 + 2))>\"\r").as_bytes())?;
        // The second pane is the current one, where cat gives back what it reads.
        server.shows("kept.1", &format!("<client {round} $((40 + 2))>"))?;
        client.send_raw(b"\x02d")?;
        client.exit_code(0)?;
    }
    // Its end is not told to every job of a shell.
    server.type_line("kept.0", "kill %1; wait; echo go\"\"ne", "gone")?;
    server.ask(&["kill-server"])?;
    match resumed {
        Some(mut process) => process.exit_code(0),
        None => Ok(()),
    }
}

/// A process that is not to outlive its test.
struct Guard(i32);

impl Drop for Guard {
    fn drop(&mut self) {
        // Its number may be a resumed server's by now, which is not to live on either.
        let name = fs::read_to_string(format!("/proc/{}/comm", self.0)).unwrap_or_default();
        if name.starts_with("tmux") {
            let pid = nix::unistd::Pid::from_raw(self.0);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }
}
