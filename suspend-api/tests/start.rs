//! What a start leaves behind that fails, and what a child that no hook has run in begins with.

mod dumper;

use suspend_api::{Error, Options};

fn is_default(signal: i32) -> bool {
    // SAFETY: a zeroed structure that the call fills.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        assert_eq!(libc::sigaction(signal, std::ptr::null(), &raw mut action), 0);
        action.sa_sigaction == libc::SIG_DFL
    }
}

/// One test, as a process is started once.
#[test]
fn starts() {
    let refused = Err(Error::System(libc::EINVAL));
    for (suspend, resume) in [
        (libc::SIGUSR1, libc::SIGKILL),
        (libc::SIGSTOP, libc::SIGUSR2),
        (libc::SIGUSR1, 65),
        (-1, libc::SIGUSR2),
        (libc::SIGUSR1, libc::SIGUSR1),
    ] {
        assert_eq!(Options::new().signals(suspend, resume).start(), refused);
        assert!(is_default(libc::SIGUSR1) && is_default(libc::SIGUSR2), "{suspend} {resume}");
        assert_eq!(dumper::find(), None);
    }
    assert!(suspend_api::suspend_self("x.elf", suspend_api::SelfOptions::default()).is_err());
    Options::new().start().unwrap();
    let _pair = suspend_api::register(|_| panic!("the child has none"), |_| ());
    assert_eq!(Options::new().start(), Err(Error::AlreadyStarted));
    a_child_starts_itself();
    assert_eq!(Options::new().start(), Err(Error::AlreadyStarted));
}

/// A child of clone(2), in which no hook of fork(3) runs: it is not its parent, and may opt in itself.
fn a_child_starts_itself() {
    let parents = dumper::find();
    // SAFETY: the child makes system calls only.
    let child = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) } as i32;
    if child == 0 {
        let own = suspend_api::suspend_self("x.elf", suspend_api::SelfOptions::default());
        let refused = own == Err(Error::System(libc::EINVAL));
        // SAFETY: there are no callbacks in the child.
        let started = unsafe { Options::new().start_in_handler() } == Ok(());
        let signals = !is_default(libc::SIGUSR1) && !is_default(libc::SIGUSR2);
        let dead = i32::from(!refused) + 2 * i32::from(!started) + 4 * i32::from(!signals);
        // SAFETY: ends without the test's exit handlers.
        unsafe { libc::_exit(dead) }
    }
    let mut status = 0;
    // SAFETY: the child is ours.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(status, 0);
    assert_eq!(dumper::find(), parents);
}
