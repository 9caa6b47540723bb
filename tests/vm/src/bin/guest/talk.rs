//! Programs the harness talks with, line by line, across many requests.

use serde_json::{json, Value};
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The running programs by name.
#[derive(Default)]
pub struct Talks(HashMap<String, Talk>);

struct Talk {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    errors: Arc<Mutex<String>>,
    /// Disconnected at the end of the error output.
    closed: Receiver<()>,
}

impl Talks {
    /// Does one request; none of ours gives nothing.
    pub fn answer(&mut self, request: &Value) -> Option<Value> {
        let name = request["name"].as_str().unwrap_or_default();
        let done = match request["op"].as_str().unwrap_or_default() {
            "begin" => self.begin(name, request),
            "tell" => self.tell(name, request["line"].as_str().unwrap_or_default()),
            "hear" => {
                self.hear(name, Duration::from_secs(request["patience"].as_u64().unwrap_or(30)))
            }
            "errors" => self.named(name).map(|talk| json!({"errors": text(&talk.errors)})),
            "end" => self.end(name),
            _ => return None,
        };
        Some(done.unwrap_or_else(|error| json!({"error": format!("{name}: {error}")})))
    }

    fn named(&mut self, name: &str) -> io::Result<&mut Talk> {
        self.0.get_mut(name).ok_or_else(|| io::Error::other("no such program"))
    }

    fn begin(&mut self, name: &str, request: &Value) -> io::Result<Value> {
        let words: Vec<&str> =
            request["argv"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let program = words.first().ok_or_else(|| io::Error::other("no program"))?;
        let mut command = Command::new(program);
        command
            .args(&words[1..])
            .env_clear()
            .envs([("PATH", "/bin"), ("VICTIM", name)])
            .current_dir(request["dir"].as_str().unwrap_or("/"))
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        as_user(&mut command, request);
        let mut child = command.spawn()?;
        let pid = child.id();
        let missing = || io::Error::other("a pipe is missing");
        let input = child.stdin.take().ok_or_else(missing)?;
        let output = child.stdout.take().ok_or_else(missing)?;
        let mut from = child.stderr.take().ok_or_else(missing)?;
        let (to, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if to.send(line).is_err() {
                    return;
                }
            }
        });
        let errors = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&errors);
        let (open, closed) = mpsc::channel();
        std::thread::spawn(move || {
            let _open: mpsc::Sender<()> = open;
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut buffer) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
        });
        self.0.insert(name.to_owned(), Talk { child, input, lines, errors, closed });
        Ok(json!({"pid": pid}))
    }

    fn tell(&mut self, name: &str, line: &str) -> io::Result<Value> {
        let talk = self.named(name)?;
        writeln!(talk.input, "{line}")?;
        talk.input.flush()?;
        Ok(json!({"ok": true}))
    }

    fn hear(&mut self, name: &str, patience: Duration) -> io::Result<Value> {
        let talk = self.named(name)?;
        let line = match talk.lines.recv_timeout(patience) {
            Ok(line) => json!(line),
            Err(RecvTimeoutError::Timeout) => json!("(silence)"),
            Err(RecvTimeoutError::Disconnected) => json!("(gone)"),
        };
        Ok(json!({"line": line, "errors": text(&talk.errors)}))
    }

    /// Waits for the end; a signal counts as 128 and its number, as in a shell.
    fn end(&mut self, name: &str) -> io::Result<Value> {
        let Talk { mut child, input, lines, errors, closed } =
            self.0.remove(name).ok_or_else(|| io::Error::other("no such program"))?;
        drop(input);
        let status = child.wait()?;
        let rc = status.code().or(status.signal().map(|signal| 128 + signal));
        // Whoever inherited a pipe may keep it open.
        let patience = Duration::from_secs(2);
        let mut rest = Vec::new();
        while let Ok(line) = lines.recv_timeout(patience) {
            rest.push(line);
        }
        let _ = closed.recv_timeout(patience);
        Ok(json!({"rc": rc, "rest": rest, "errors": text(&errors)}))
    }
}

/// What was collected so far.
fn text(errors: &Mutex<String>) -> String {
    errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Makes a command run as the user a request names.
pub fn as_user(command: &mut Command, request: &Value) {
    if let Some(uid) = request["uid"].as_u64() {
        command.uid(uid as u32).gid(uid as u32);
    }
}
