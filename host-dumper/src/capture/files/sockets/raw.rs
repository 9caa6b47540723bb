//! Questions to a socket, through a duplicate of the process's own descriptor.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Bytes of the largest socket address.
const ADDRESS: usize = 128;
/// Bytes of the largest option asked for (`struct tcp_info` grows).
const OPTION: usize = 512;
/// Descriptors that one message can carry (SCM_MAX_FD), as control data with its header.
const CONTROL: usize = 16 + 253 * 4 + 64;

/// The value of an option.
pub fn option(fd: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<Vec<u8>> {
    option_of(fd, level, name, OPTION)
}

/// The value of an option that has at most so many bytes; some want it exactly.
pub fn option_of(fd: BorrowedFd<'_>, level: i32, name: i32, room: usize) -> io::Result<Vec<u8>> {
    let mut value = [0u8; OPTION];
    let room = room.min(OPTION);
    let mut len = room as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to the buffer, and the length.
    let got = unsafe {
        libc::getsockopt(fd.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut len)
    };
    if got != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(value.get(..(len as usize).min(room)).unwrap_or(&value).to_vec())
}

/// Asks for an option by a structure that says what is wanted; the answer takes its place.
pub fn exchange(fd: BorrowedFd<'_>, level: i32, name: i32, value: &mut [u8]) -> io::Result<()> {
    let mut len = value.len() as libc::socklen_t;
    let at = value.as_mut_ptr().cast();
    // SAFETY: the kernel reads and writes at most `len` bytes of the buffer, and the length.
    let got = unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, at, &raw mut len) };
    if got == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The value of an option that is an int.
pub fn number(fd: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<i32> {
    let value = option(fd, level, name)?;
    let bytes = value.first_chunk().ok_or(io::ErrorKind::InvalidData)?;
    Ok(i32::from_ne_bytes(*bytes))
}

/// Sets an option that is an int.
pub fn set_number(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    let (at, len) = (std::ptr::from_ref(&value).cast(), size_of::<i32>() as u32);
    // SAFETY: the kernel reads one int, which lives over the call.
    let done = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, at, len) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Closes a connection by a reset: nothing lingers, nothing waits for a timeout.
pub fn reset(fd: OwnedFd) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let (at, len) = (std::ptr::from_ref(&linger).cast(), size_of::<libc::linger>() as u32);
    // SAFETY: the kernel reads the structure, which lives over the call.
    let _ = unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, at, len) };
    drop(fd);
}

/// The classic filter that is attached: instructions of 8 bytes each. For this option alone
/// lengths are counted in instructions.
pub fn filter(fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let mut count: libc::socklen_t = 0;
    let (level, name) = (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER);
    // SAFETY: with a count of zero the kernel writes the count alone.
    let got = unsafe {
        libc::getsockopt(fd.as_raw_fd(), level, name, std::ptr::null_mut(), &raw mut count)
    };
    if got != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut value = vec![0u8; count as usize * 8];
    if count > 0 {
        // SAFETY: the buffer has room for so many instructions.
        let got = unsafe {
            libc::getsockopt(fd.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut count)
        };
        if got != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(value)
}

/// A call such as getsockname(2).
type Asking =
    unsafe extern "C" fn(libc::c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int;

fn address(fd: BorrowedFd<'_>, ask: Asking) -> io::Result<Vec<u8>> {
    let mut address = vec![0u8; ADDRESS];
    let mut len = ADDRESS as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to the buffer, and the length.
    let got = unsafe { ask(fd.as_raw_fd(), address.as_mut_ptr().cast(), &raw mut len) };
    if got != 0 {
        return Err(io::Error::last_os_error());
    }
    address.truncate(len as usize);
    Ok(address)
}

/// Its own address.
pub fn name(fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    address(fd, libc::getsockname)
}

/// The address of its peer; none if it is not connected.
pub fn peer(fd: BorrowedFd<'_>) -> Option<Vec<u8>> {
    address(fd, libc::getpeername).ok()
}

fn count(fd: BorrowedFd<'_>, request: libc::c_ulong) -> io::Result<usize> {
    let mut n: libc::c_int = 0;
    // SAFETY: both requests write one int, which lives over the call.
    let got = unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw mut n) };
    if got == 0 {
        Ok(n.max(0) as usize)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Bytes that wait to be received (of the first message, for datagrams).
pub fn incoming(fd: BorrowedFd<'_>) -> io::Result<usize> {
    count(fd, libc::FIONREAD)
}

/// Bytes that were sent and not yet taken by the other side.
pub fn outgoing(fd: BorrowedFd<'_>) -> io::Result<usize> {
    count(fd, libc::TIOCOUTQ)
}

/// Bytes of them that were not even sent.
pub fn not_sent(fd: BorrowedFd<'_>) -> io::Result<usize> {
    /// linux/sockios.h.
    const SIOCOUTQNSD: libc::c_ulong = 0x894b;
    count(fd, SIOCOUTQNSD)
}

/// Urgent data (MSG_OOB) that was not taken, or that is announced.
pub fn is_urgent(fd: BorrowedFd<'_>) -> bool {
    let mut byte = 0u8;
    let flags = libc::MSG_OOB | libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: the kernel writes at most one byte, which lives over the call.
    let got = unsafe { libc::recv(fd.as_raw_fd(), (&raw mut byte).cast(), 1, flags) };
    got > 0 || got < 0 && io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock
}

/// A socket of ours, of the same sort.
pub fn socket(family: u32, kind: u32, protocol: u32) -> io::Result<OwnedFd> {
    let kind = kind as i32 | libc::SOCK_CLOEXEC;
    // SAFETY: takes numbers only.
    let fd = unsafe { libc::socket(family as i32, kind, protocol as i32) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What a look at the queue showed.
#[derive(Debug)]
pub struct Peeked {
    /// The bytes.
    pub data: Vec<u8>,
    /// Duplicates of the descriptors that travel along.
    pub files: Vec<OwnedFd>,
    /// The sender's address.
    pub from: Vec<u8>,
}

/// Looks at what waits, as far as `room` bytes, without taking it; none where nothing waits.
pub fn peek(fd: BorrowedFd<'_>, room: usize) -> io::Result<Option<Peeked>> {
    let mut data: Vec<u8> = Vec::with_capacity(room);
    let mut from = vec![0u8; ADDRESS];
    let mut control = vec![0u64; CONTROL / 8];
    let mut piece = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: room };
    // SAFETY: a message header of zeroes is an empty one.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = from.as_mut_ptr().cast();
    header.msg_namelen = ADDRESS as libc::socklen_t;
    header.msg_iov = &raw mut piece;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = control.len() * 8;
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header names buffers with their sizes, which live over the call.
    let got = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, flags) };
    if got < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
    }
    let bytes: Vec<u8> = control.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let files = descriptors(&bytes[..header.msg_controllen.min(bytes.len())]);
    if header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return Err(io::Error::other("it does not fit in the buffer"));
    }
    // SAFETY: the kernel wrote so many bytes, and not more than there is room for (checked above).
    unsafe { data.set_len(got as usize) };
    data.shrink_to_fit();
    from.truncate(header.msg_namelen as usize);
    Ok(Some(Peeked { data, files, from }))
}

/// Of a stream's next `bytes` bytes, how many belong to pieces that end before the last of them.
///
/// A look passes over what has no room, descriptors of the next piece included, so that lengths
/// tell nothing. But the kernel copies piece by piece and stops at the first of which a byte has
/// no place to go: the last byte gets an address where there is no memory.
pub fn whole_pieces_before(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<usize> {
    let Some(valid) = bytes.checked_sub(1).filter(|valid| *valid > 0) else { return Ok(0) };
    let mut data: Vec<u8> = Vec::with_capacity(valid);
    let nowhere = std::ptr::without_provenance_mut(1);
    let mut pieces = [
        libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: valid },
        libc::iovec { iov_base: nowhere, iov_len: 1 },
    ];
    // SAFETY: a message header of zeroes is an empty one.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = pieces.as_mut_ptr();
    header.msg_iovlen = pieces.len();
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: the kernel writes to the buffer, and finds no memory at the other address: nothing
    // can be mapped in the first page.
    let got = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, flags) };
    if got >= 0 {
        return Ok(got as usize);
    }
    match io::Error::last_os_error() {
        e if e.raw_os_error() == Some(libc::EFAULT) => Ok(0),
        e => Err(e),
    }
}

/// The descriptors in control data that the kernel wrote.
fn descriptors(mut control: &[u8]) -> Vec<OwnedFd> {
    let mut files = Vec::new();
    // struct cmsghdr: length (8 bytes), level, type.
    while let Some(len) = control.first_chunk().map(|b| usize::from_ne_bytes(*b)) {
        let Some(message) = control.get(..len).filter(|m| m.len() >= 16) else { break };
        let word = |at: usize| {
            message.get(at..).and_then(|b| b.first_chunk()).map_or(-1, |b| i32::from_ne_bytes(*b))
        };
        if word(8) == libc::SOL_SOCKET && word(12) == libc::SCM_RIGHTS {
            for at in (16..len).step_by(4) {
                // SAFETY: the kernel made this descriptor for this process just now.
                files.push(unsafe { OwnedFd::from_raw_fd(word(at)) });
            }
        }
        control = control.get(len.next_multiple_of(8)..).unwrap_or(&[]);
    }
    files
}
