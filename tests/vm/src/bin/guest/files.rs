//! Files the harness holds open across requests, and single system calls on
//! them, answered with their exact result.

use serde_json::{json, Value};
use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use vm::pattern;

const BLKGETSIZE64: libc::Ioctl = 0x8008_1272_u32 as libc::Ioctl;
const BLKSSZGET: libc::Ioctl = 0x1268;
const BLKFLSBUF: libc::Ioctl = 0x1261;

/// The open files by name.
#[derive(Default)]
pub struct Files(HashMap<String, OwnedFd>);

impl Files {
    /// Does one request.
    pub fn answer(&mut self, request: &Value) -> Value {
        match self.run(request) {
            Ok(value) => value,
            Err(error) => json!({"errno": name_of(&error)}),
        }
    }

    fn run(&mut self, request: &Value) -> io::Result<Value> {
        let name = request["name"].as_str().unwrap_or_default();
        let op = request["op"].as_str().unwrap_or_default();
        if op == "open" {
            let path = CString::new(request["path"].as_str().unwrap_or_default())?;
            let flags = request["flags"].as_i64().unwrap_or(0) as i32;
            // SAFETY: the path ends with a zero byte.
            let fd =
                check(i64::from(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) }))?;
            // SAFETY: just opened, owned by nobody else.
            let file = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
            self.0.insert(name.to_owned(), file);
            return Ok(json!({"ok": true}));
        }
        if op == "usbreset" {
            return reset(request["vendor"].as_str().unwrap_or_default());
        }
        if op == "close" {
            let file = self.0.remove(name).ok_or_else(unknown)?;
            // SAFETY: the descriptor was taken out of its owner just now.
            check(i64::from(unsafe { libc::close(file.into_raw_fd()) }))?;
            return Ok(json!({"ok": true}));
        }
        let fd = self.0.get(name).ok_or_else(unknown)?.as_raw_fd();
        call(fd, op, request)
    }
}

/// Resets the port of every device of a vendor, as usbreset(1) does.
fn reset(vendor: &str) -> io::Result<Value> {
    const USBDEVFS_RESET: libc::Ioctl = 0x5514;
    let read =
        |path: std::path::PathBuf| std::fs::read_to_string(path).map(|text| text.trim().to_owned());
    let mut done = 0;
    for device in std::fs::read_dir("/sys/bus/usb/devices")?.flatten() {
        let folder = device.path();
        if read(folder.join("idVendor")).unwrap_or_default() != vendor {
            continue;
        }
        let number = |name| -> io::Result<u32> {
            read(folder.join(name))?
                .parse()
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
        };
        let path = format!("/dev/bus/usb/{:03}/{:03}", number("busnum")?, number("devnum")?);
        let file = std::fs::OpenOptions::new().write(true).open(path)?;
        // SAFETY: this request takes no argument.
        check(i64::from(unsafe { libc::ioctl(file.as_raw_fd(), USBDEVFS_RESET, 0) }))?;
        done += 1;
    }
    Ok(json!({"n": done}))
}

fn call(fd: RawFd, op: &str, request: &Value) -> io::Result<Value> {
    let pos = request["pos"].as_i64().unwrap_or(0);
    let len = request["len"].as_u64().unwrap_or(0) as usize;
    let seed = request["seed"].as_u64().unwrap_or(0);
    match op {
        "pread" => {
            let mut bytes = vec![0_u8; len];
            // SAFETY: the buffer holds len bytes.
            let got =
                check(unsafe { libc::pread(fd, bytes.as_mut_ptr().cast(), len, pos) } as i64)?;
            bytes.truncate(got as usize);
            Ok(json!({
                "n": got,
                "wrong": pattern::mismatch(seed, pos as u64, &bytes),
            }))
        }
        "pwrite" => {
            let mut bytes = vec![0_u8; len];
            pattern::fill(seed, pos as u64, &mut bytes);
            // SAFETY: the buffer holds len bytes.
            let got = check(unsafe { libc::pwrite(fd, bytes.as_ptr().cast(), len, pos) } as i64)?;
            Ok(json!({"n": got}))
        }
        // A pointer to nowhere: half of the request is beyond the mapping.
        "pwrite_fault" | "pread_fault" => fault(fd, op == "pread_fault", len, pos),
        // SAFETY: no memory is passed.
        "fsync" => check(i64::from(unsafe { libc::fsync(fd) })).map(|_| json!({"ok": true})),
        "forget" => {
            // SAFETY: this request takes no argument.
            let done = unsafe { libc::ioctl(fd, BLKFLSBUF, 0) };
            check(i64::from(done)).map(|_| json!({"ok": true}))
        }
        "seek" => {
            let whence = request["whence"].as_i64().unwrap_or(0) as i32;
            // SAFETY: no memory is passed.
            let at = check(unsafe { libc::lseek(fd, pos, whence) })?;
            Ok(json!({"n": at}))
        }
        "size" => {
            let mut size = 0_u64;
            let mut block = 0_i32;
            // SAFETY: the kernel writes 8 bytes and 4 bytes to locals of that size.
            unsafe {
                check(i64::from(libc::ioctl(fd, BLKGETSIZE64, &mut size)))?;
                check(i64::from(libc::ioctl(fd, BLKSSZGET, &mut block)))?;
            }
            Ok(json!({"n": size, "block": block}))
        }
        "poll" => {
            let mut entry = libc::pollfd { fd, events: libc::POLLIN | libc::POLLOUT, revents: 0 };
            let wait = request["timeout"].as_i64().unwrap_or(0) as i32;
            // SAFETY: one entry, as told.
            let n = check(i64::from(unsafe { libc::poll(&raw mut entry, 1, wait) }))?;
            Ok(json!({
                "n": n,
                "in": entry.revents & libc::POLLIN != 0,
                "out": entry.revents & libc::POLLOUT != 0,
                "err": entry.revents & libc::POLLERR != 0,
                "hup": entry.revents & libc::POLLHUP != 0,
            }))
        }
        _ => Ok(json!({"error": format!("no such operation: {op}")})),
    }
}

fn fault(fd: RawFd, read: bool, len: usize, pos: i64) -> io::Result<Value> {
    // SAFETY: fresh anonymous memory; its second half is unmapped before use
    // and only the kernel touches the rest.
    unsafe {
        let memory = libc::mmap(
            std::ptr::null_mut(),
            2 * len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        libc::munmap(memory.byte_add(len), len);
        let start = memory.byte_add(len / 2);
        let got =
            if read { libc::pread(fd, start, len, pos) } else { libc::pwrite(fd, start, len, pos) };
        let result = check(got as i64);
        libc::munmap(memory, len);
        Ok(json!({"n": result?}))
    }
}

fn check(result: i64) -> io::Result<i64> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn unknown() -> io::Error {
    io::Error::from_raw_os_error(libc::EBADF)
}

/// The names the scenarios compare with.
fn name_of(error: &io::Error) -> String {
    let number = error.raw_os_error().unwrap_or(0);
    let names = [
        (libc::EIO, "EIO"),
        (libc::ENXIO, "ENXIO"),
        (libc::ENODEV, "ENODEV"),
        (libc::ENOENT, "ENOENT"),
        (libc::ENOSPC, "ENOSPC"),
        (libc::EROFS, "EROFS"),
        (libc::EBUSY, "EBUSY"),
        (libc::EBADF, "EBADF"),
        (libc::EINVAL, "EINVAL"),
        (libc::EFAULT, "EFAULT"),
        (libc::EINTR, "EINTR"),
        (libc::ENOTTY, "ENOTTY"),
        (libc::ENOMEM, "ENOMEM"),
        (libc::ENOMEDIUM, "ENOMEDIUM"),
    ];
    names
        .iter()
        .find(|(value, _)| *value == number)
        .map_or_else(|| error.to_string(), |(_, name)| (*name).to_owned())
}
