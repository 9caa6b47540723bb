//! From an empty initramfs to a machine with a shell, devices and modules.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::process::Command;

/// Mounts, installs busybox's names, loads the modules in their order.
pub fn prepare() -> io::Result<()> {
    // The kernel starts its first process in session 0, in which no ordinary program lives.
    // SAFETY: a plain system call without memory.
    unsafe { libc::setsid() };
    for folder in ["/proc", "/sys", "/dev", "/tmp", "/mnt", "/sbin"] {
        fs::create_dir_all(folder)?;
    }
    for (kind, target) in
        [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/tmp")]
    {
        mount(kind, target)?;
    }
    fs::create_dir_all("/dev/pts")?;
    mount("devpts", "/dev/pts")?;
    Command::new("/bin/busybox").args(["--install", "-s", "/bin"]).status()?;
    let mut modules =
        fs::read_dir("/modules")?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    modules.sort();
    for module in modules {
        load(&module)?;
    }
    Ok(())
}

fn mount(kind: &str, target: &str) -> io::Result<()> {
    let kind = CString::new(kind)?;
    let target = CString::new(target)?;
    // SAFETY: all strings end with a zero byte and live across the call.
    let done =
        unsafe { libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn load(path: &std::path::Path) -> io::Result<()> {
    let module = File::open(path)?;
    // SAFETY: the descriptor is open and the parameter string ends with a zero byte.
    let done =
        unsafe { libc::syscall(libc::SYS_finit_module, module.as_raw_fd(), c"".as_ptr(), 0) };
    let error = io::Error::last_os_error();
    if done == 0 || error.raw_os_error() == Some(libc::EEXIST) {
        return Ok(());
    }
    // Said on the console, which the harness keeps: a missing module shows
    // in the test that needs it.
    let mut log = OpenOptions::new().write(true).open("/dev/kmsg")?;
    // Each write is a line of its own there.
    log.write_all(format!("guest: {}: {error}\n", path.display()).as_bytes())
}

/// The second serial port, without echo and line editing.
pub fn open_channel() -> io::Result<File> {
    let port = OpenOptions::new().read(true).write(true).open("/dev/ttyS1")?;
    // SAFETY: termios is plain data, filled by tcgetattr before it is used.
    let mut settings: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open; the structure lives across the calls.
    let done = unsafe {
        libc::tcgetattr(port.as_raw_fd(), &raw mut settings);
        libc::cfmakeraw(&raw mut settings);
        libc::tcsetattr(port.as_raw_fd(), libc::TCSANOW, &raw const settings)
    };
    if done == 0 {
        Ok(port)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Ends the machine; QEMU runs with -no-reboot, so a restart leaves it.
pub fn power_off() {
    // SAFETY: plain system calls without memory.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_AUTOBOOT);
    }
    loop {
        std::thread::park();
    }
}
