//! Terminals that the harness types on, as a person would.

use serde_json::{json, Value};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// The terminals by name.
#[derive(Default)]
pub struct Terminals(HashMap<String, Terminal>);

struct Terminal {
    shell: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    /// What was shown and not yet looked at.
    shown: String,
}

impl Terminals {
    /// Does one request; none of ours gives nothing.
    pub fn answer(&mut self, request: &Value) -> Option<Value> {
        let name = request["name"].as_str().unwrap_or_default();
        let text = request["text"].as_str().unwrap_or_default();
        let done = match request["op"].as_str().unwrap_or_default() {
            "terminal" => self.open(name, request),
            "type" => self.named(name).and_then(|terminal| {
                terminal.keyboard.write_all(text.as_bytes())?;
                Ok(json!({"ok": true}))
            }),
            "await" => self.named(name).map(|terminal| {
                let patience = request["patience"].as_u64().unwrap_or(240);
                terminal.wait(text, Duration::from_secs(patience))
            }),
            "leave" => self.leave(name),
            _ => return None,
        };
        Some(done.unwrap_or_else(|error| json!({"error": format!("terminal {name}: {error}")})))
    }

    fn named(&mut self, name: &str) -> io::Result<&mut Terminal> {
        self.0.get_mut(name).ok_or_else(|| io::Error::other("no such terminal"))
    }

    /// A shell with job control on a new terminal.
    fn open(&mut self, name: &str, request: &Value) -> io::Result<Value> {
        let (master, slave, path) = pair()?;
        if let Some(uid) = request["uid"].as_u64() {
            // As login does; whoever resumes here opens it by its name.
            std::os::unix::fs::chown(&path, Some(uid as u32), None)?;
        }
        let mut shell = Command::new("/bin/sh");
        shell
            .arg("-i")
            .env_clear()
            .envs([("PATH", "/bin:/sbin"), ("PS1", "prompt: "), ("TERM", "dumb")])
            .current_dir(request["dir"].as_str().unwrap_or("/"))
            .stdin(slave.try_clone()?)
            .stdout(slave.try_clone()?)
            .stderr(slave);
        super::talk::as_user(&mut shell, request);
        // SAFETY: only system calls between fork and exec.
        unsafe {
            shell.pre_exec(|| {
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let shell = shell.spawn()?;
        let pid = shell.id();
        let mut screen = master.try_clone()?;
        let (to, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // EIO at the end: nobody has the other side open any more.
            while let Ok(n @ 1..) = screen.read(&mut buffer) {
                if to.send(buffer[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        let terminal = Terminal { shell, keyboard: master, screen: lines, shown: String::new() };
        self.0.insert(name.to_owned(), terminal);
        Ok(json!({"pid": pid}))
    }

    fn leave(&mut self, name: &str) -> io::Result<Value> {
        let mut terminal =
            self.0.remove(name).ok_or_else(|| io::Error::other("no such terminal"))?;
        terminal.keyboard.write_all(b"exit\n")?;
        let status = terminal.shell.wait()?;
        Ok(json!({"rc": status.code()}))
    }
}

impl Terminal {
    /// Looks until `text` was shown; what stood before it.
    fn wait(&mut self, text: &str, patience: Duration) -> Value {
        let start = Instant::now();
        loop {
            if let Some(at) = self.shown.find(text) {
                let rest = self.shown.split_off(at + text.len());
                let seen = std::mem::replace(&mut self.shown, rest);
                return json!({"seen": seen});
            }
            let left = patience.saturating_sub(start.elapsed());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.shown.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => return json!({"missing": text, "seen": self.shown}),
            }
        }
    }
}

/// Both sides of a new terminal, and the second one's path.
fn pair() -> io::Result<(File, File, String)> {
    // SAFETY: a plain system call; the descriptor is fresh and owned by nobody else.
    let master = unsafe {
        let fd = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    let mut number: libc::c_int = 0;
    let locked: libc::c_int = 0;
    // SAFETY: the kernel reads and writes one int each, in locals.
    let done = unsafe {
        libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const locked)
            | libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number)
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    let path = format!("/dev/pts/{number}");
    // A terminal must not become this process's own.
    let slave =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(&path)?;
    Ok((master.into(), slave, path))
}
