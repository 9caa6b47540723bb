//! A terminal of our own: a pseudo-terminal whose user is this program.

use crate::Failure;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// No step of a demonstration takes this long.
const LIMIT: Duration = Duration::from_secs(30);

/// A terminal with a program that leads its session, everything shown.
pub struct Terminal {
    master: File,
    child: Child,
    name: &'static str,
    seen: Vec<u8>,
    /// What was found already by [`Terminal::expect`].
    at: usize,
    fresh_line: bool,
}

impl Terminal {
    /// Opens a terminal of this size and starts a program in it.
    pub fn open(
        name: &'static str,
        (rows, columns): (u16, u16),
        mut command: Command,
    ) -> Result<Terminal, Failure> {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let (mut master, mut slave) = (-1, -1);
        // SAFETY: both descriptors are ours to write, the size is valid, the others may be null.
        let opened = unsafe {
            libc::openpty(
                &raw mut master,
                &raw mut slave,
                std::ptr::null_mut(),
                std::ptr::null(),
                &raw const size,
            )
        };
        if opened != 0 {
            let why = std::io::Error::last_os_error();
            return Err(format!("opening a pseudo-terminal: {why}").into());
        }
        // SAFETY: openpty has just made both, and nothing else owns them.
        let (master, slave) =
            unsafe { (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        // SAFETY: a flag of a descriptor that is open; the program must not inherit our end.
        unsafe { libc::fcntl(master.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
        command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
        // SAFETY: these system calls may be made between fork and execve, and touch no memory.
        unsafe {
            command.pre_exec(|| {
                crate::tree::keep_only_standard();
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().map_err(|e| format!("starting {command:?}: {e}"))?;
        // The command still holds the terminal's other end; without it, its end can be seen.
        drop(command);
        let master = File::from(master);
        Ok(Terminal { master, child, name, seen: Vec::new(), at: 0, fresh_line: true })
    }

    /// The program that leads the session.
    pub fn leader(&self) -> u32 {
        self.child.id()
    }

    /// Types a line, as fast as somebody who shows something.
    pub fn enter(&mut self, line: &str) -> Result<(), Failure> {
        let slowly = crate::demo::is_watched();
        for key in line.chars().chain(['\n']) {
            if slowly {
                std::thread::sleep(Duration::from_millis(70));
            }
            let mut bytes = [0; 4];
            self.master.write_all(key.encode_utf8(&mut bytes).as_bytes())?;
            self.show(Duration::from_millis(1))?;
        }
        Ok(())
    }

    /// Waits for a text after what was waited for before.
    pub fn expect(&mut self, wanted: &str) -> Result<(), Failure> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let fresh = &self.seen[self.at..];
            if let Some(found) = fresh.windows(wanted.len()).position(|w| w == wanted.as_bytes()) {
                self.at += found + wanted.len();
                return Ok(());
            }
            if Instant::now() > deadline || !self.show(Duration::from_millis(100))? {
                return Err(format!("{}: waited in vain for \"{wanted}\"", self.name).into());
            }
        }
    }

    /// Leaves the line it is in, for something else to be shown.
    pub fn leave(&mut self) {
        if !self.fresh_line {
            println!();
            self.fresh_line = true;
        }
    }

    /// Waits for the end of its program.
    pub fn close(mut self) -> Result<ExitStatus, Failure> {
        while self.show(Duration::from_secs(1))? {}
        self.leave();
        Ok(self.child.wait()?)
    }

    /// Shows what comes; false when nobody is at the other end any more.
    fn show(&mut self, wait: Duration) -> Result<bool, Failure> {
        let mut poll =
            libc::pollfd { fd: self.master.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid structure is given.
        if unsafe { libc::poll(&raw mut poll, 1, wait.as_millis() as libc::c_int) } <= 0 {
            return Ok(true);
        }
        let mut buffer = [0; 4096];
        // A terminal whose last user is gone answers EIO.
        let Ok(count @ 1..) = self.master.read(&mut buffer) else { return Ok(false) };
        self.seen.extend_from_slice(&buffer[..count]);
        for text in
            String::from_utf8_lossy(&buffer[..count]).replace('\r', "").split_inclusive('\n')
        {
            if self.fresh_line {
                print!("    {} | ", self.name);
            }
            print!("{text}");
            self.fresh_line = text.ends_with('\n');
        }
        std::io::stdout().flush()?;
        Ok(true)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Hanging up ends what a failed demonstration leaves; a leader that ended is no matter.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
