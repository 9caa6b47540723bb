//! The first process of a test guest: mounts, loads modules, and does what
//! the harness asks for, one JSON line at a time on the second serial port.

mod asleep;
mod confirm;
mod evil;
mod files;
mod gadget;
mod pace;
mod start;
mod stress;
mod talk;
mod terminal;

use serde_json::{json, Value};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

fn main() {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("asleep") => std::process::exit(asleep::main(arguments)),
        Some("evil") => std::process::exit(evil::main(arguments)),
        Some("stress") => std::process::exit(stress::main(arguments)),
        Some("confirm") => std::process::exit(confirm::main(arguments)),
        Some("pace") => std::process::exit(pace::main(arguments)),
        _ if std::process::id() == 1 => {}
        _ => {
            eprintln!("guest: runs as the first process of a test machine");
            std::process::exit(2);
        }
    }
    if let Err(error) = start::prepare().and_then(|()| serve()) {
        eprintln!("guest: {error}");
    }
    start::power_off();
}

fn serve() -> std::io::Result<()> {
    let port = start::open_channel()?;
    let mut out = port.try_clone()?;
    let mut agent = Agent::default();
    writeln!(out, "{}", json!({"ready": true}))?;
    for line in BufReader::new(port).lines() {
        let line = line?;
        // A nudge, which has woken the machine.
        if line.trim().is_empty() {
            continue;
        }
        let answer = match serde_json::from_str::<Value>(&line) {
            Ok(request) => agent.answer(&request),
            Err(error) => json!({"error": error.to_string()}),
        };
        writeln!(out, "{answer}")?;
        if answer["bye"] == json!(true) {
            break;
        }
    }
    Ok(())
}

#[derive(Default)]
struct Agent {
    files: files::Files,
    jobs: HashMap<String, Child>,
    talks: talk::Talks,
    terminals: terminal::Terminals,
}

impl Agent {
    fn answer(&mut self, request: &Value) -> Value {
        let name = request["name"].as_str().unwrap_or_default();
        let command = request["cmd"].as_str().unwrap_or_default();
        match request["op"].as_str().unwrap_or_default() {
            "sh" => {
                let mut shell = shell(command);
                talk::as_user(&mut shell, request);
                finished(shell.output())
            }
            "start" => match shell(command).spawn() {
                Ok(child) => {
                    let id = child.id();
                    self.jobs.insert(name.to_owned(), child);
                    json!({"pid": id})
                }
                Err(error) => json!({"error": error.to_string()}),
            },
            "wait" => match self.jobs.remove(name) {
                Some(child) => finished(child.wait_with_output()),
                None => json!({"error": "no such job"}),
            },
            "running" => match self.jobs.get_mut(name).map(Child::try_wait) {
                Some(Ok(done)) => json!({"running": done.is_none()}),
                _ => json!({"error": "no such job"}),
            },
            "bye" => json!({"bye": true}),
            _ => self
                .talks
                .answer(request)
                .or_else(|| self.terminals.answer(request))
                .unwrap_or_else(|| self.files.answer(request)),
        }
    }
}

fn shell(command: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", command])
        .env("PATH", "/bin:/sbin")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    shell
}

fn finished(output: std::io::Result<std::process::Output>) -> Value {
    match output {
        Ok(output) => json!({
            "rc": output.status.code().unwrap_or(255),
            "out": String::from_utf8_lossy(&output.stdout),
            "err": String::from_utf8_lossy(&output.stderr),
        }),
        Err(error) => json!({"error": error.to_string()}),
    }
}
