//! A program that sleeps until its device is gone: `guest asleep PATH` says "asleep", and what woke it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Runs it.
pub fn main(mut arguments: impl Iterator<Item = String>) -> i32 {
    match sleep_on(&arguments.next().unwrap_or_default()) {
        Ok(what) => {
            println!("{what}");
            0
        }
        Err(error) => {
            eprintln!("{error}");
            1
        }
    }
}

fn sleep_on(path: &str) -> io::Result<&'static str> {
    let device = File::open(path)?;
    println!("asleep");
    // Asked for nothing, poll() returns for a hang-up or an error only: the driver has to wake it.
    let mut entry = libc::pollfd { fd: device.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: one entry, as told.
    if unsafe { libc::poll(&raw mut entry, 1, -1) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(if entry.revents & libc::POLLHUP != 0 { "hang-up" } else { "something else" })
}
