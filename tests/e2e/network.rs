//! Network namespaces: a port that a dumped program gives up must not go to another test before the
//! resume takes it back.

use std::fs::File;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use nix::sched::{unshare, CloneFlags};

use crate::process::Outcome;
use crate::scratch;

/// Runs a test, and all that it starts, with a network in which there is nobody else. Only root can
/// make one; for another user it is the machine's.
pub fn alone(what: impl FnOnce() -> Outcome + Send) -> Outcome {
    if !scratch::is_root() {
        return what();
    }
    std::thread::scope(|scope| {
        // A child inherits the namespaces of the thread that starts it, and this one ends with it.
        let test = scope.spawn(|| {
            new()?;
            loopback()?;
            what()
        });
        test.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A new network namespace, in which even the loopback interface is down.
pub fn namespace() -> Outcome<File> {
    let made = std::thread::spawn(|| {
        new()?;
        File::open("/proc/thread-self/ns/net").map_err(|e| e.to_string())
    });
    made.join().map_err(|_| "panic")?.map_err(|e| format!("a network namespace: {e}"))
}

fn new() -> Outcome {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|e| format!("a network namespace: {e}"))
}

/// Has the loopback interface of this thread's network work.
fn loopback() -> Outcome {
    // Any socket will do (netdevice(7)); binding one to port 0 needs no interface.
    let socket = UdpSocket::bind("0.0.0.0:0").map_err(|e| format!("a socket: {e}"))?;
    // SAFETY: a struct ifreq is numbers and unions of numbers, for which zeros are right.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the kernel reads the request, which lives across the call.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) } == 0 {
        return Ok(());
    }
    Err(format!("the loopback interface: {}", std::io::Error::last_os_error()))
}
