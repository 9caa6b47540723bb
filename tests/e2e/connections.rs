//! TCP connections to another machine live on (`--tcp-established`): the other machine is a network
//! namespace behind a veth, and the other end is this test.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sched::{setns, CloneFlags};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use crate::command::{self, Finished};
use crate::network::namespace;
use crate::process::{self, Kind, Outcome, Process, LIMIT};
use crate::random::Random;
use crate::reaper;
use crate::scratch;
use crate::victims::{Mode, Victim};
use crate::{soak, Case};

/// Addresses of the machine of the victim, and of the other.
const FOUR: [&str; 2] = ["10.77.0.1", "10.77.0.2"];
const SIX: [&str; 2] = ["fd77::1", "fd77::2"];
const THEIRS: u16 = 5000;
const OURS: u16 = 4000;
/// Bytes for the victim, as it expects them.
const FOR_VICTIM: u64 = 300_000;
const REFUSED: i32 = 3;

/// All cases.
pub fn cases() -> Vec<Case> {
    let case =
        |name: &str, body: fn() -> Outcome| Case::new(format!("connections::{name}"), true, body);
    vec![
        case("live_on_ipv4", || live_on(FOUR, "live")),
        case("live_on_ipv6", || live_on(SIX, "live")),
        case("live_on_in_a_child", || live_on(FOUR, "child")),
        case("left_running", left_running),
        case("reset_without_the_option", reset_without),
        case("given_up", given_up),
        case("killed_tracer", killed_tracer),
        Case::new("connections::refused_to_users", false, || {
            let options = ["--external-sockets", "close", "--tcp-established"];
            refused_to_users("socket_outside", &options, "CAP_NET_ADMIN")
        }),
        Case::new("connections::stuck_refused_to_users", false, || {
            refused_to_users("socket_stuck", &[], "no room")
        }),
    ]
}

/// Two machines.
struct Lab {
    ours: File,
    theirs: File,
}

impl Lab {
    fn new(dir: &Path) -> Outcome<Lab> {
        let lab = Lab { ours: namespace()?, theirs: namespace()? };
        let theirs = format!("/proc/{}/fd/{}", std::process::id(), lab.theirs.as_raw_fd());
        Lab::ip(&lab.ours, dir, &format!("link add va type veth peer name vb netns {theirs}"))?;
        for (i, (space, device)) in [(&lab.ours, "va"), (&lab.theirs, "vb")].iter().enumerate() {
            Lab::ip(space, dir, "link set lo up")?;
            Lab::ip(space, dir, &format!("addr add {}/24 dev {device}", FOUR[i]))?;
            Lab::ip(space, dir, &format!("addr add {}/64 dev {device} nodad", SIX[i]))?;
            Lab::ip(space, dir, &format!("link set {device} up"))?;
        }
        Ok(lab)
    }

    fn ip(space: &File, dir: &Path, words: &str) -> Outcome {
        let mut command = Command::new("ip");
        command.args(words.split(' '));
        enter(&mut command, space.as_raw_fd());
        command::run(&mut command, dir)?.expect(0, "ip").map(drop)
    }

    /// Does something with the network of one machine.
    fn at<T: Send>(space: &File, what: impl FnOnce() -> T + Send) -> Outcome<T> {
        let at = space.try_clone().map_err(|e| e.to_string())?;
        std::thread::scope(|scope| {
            let done = scope.spawn(move || setns(at, CloneFlags::CLONE_NEWNET).map(|()| what()));
            done.join().map_err(|_| "panic")?.map_err(|e| format!("setns: {e}"))
        })
    }

    /// Resets that the victim's machine has sent.
    fn resets(&self) -> Outcome<u64> {
        let read = || fs::read_to_string("/proc/thread-self/net/snmp").unwrap_or_default();
        let text = Lab::at(&self.ours, read)?;
        let mut lines = text.lines().filter_map(|l| l.strip_prefix("Tcp: "));
        let (names, values) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
        let mut both = names.split(' ').zip(values.split(' '));
        let found = both.find(|(name, _)| *name == "OutRsts").and_then(|(_, n)| n.parse().ok());
        found.ok_or_else(|| format!("no OutRsts in {text}"))
    }

    fn no_reset(&self) -> Outcome {
        match self.resets()? {
            0 => Ok(()),
            n => Err(format!("{n} resets were sent")),
        }
    }

    fn dump(&self, process: &Process, image: &Path, options: &[&str]) -> Outcome<Finished> {
        let mut command = command::dumper(None);
        command.arg(process.pid.to_string()).arg("-o").arg(image).arg("--no-sync").args(options);
        enter(&mut command, self.ours.as_raw_fd());
        command::run(&mut command, image.parent().unwrap_or(Path::new("/")))?.expect(0, "dump")
    }

    fn resume(&self, image: &Path, dir: &Path) -> Outcome<Process> {
        let mut command = Command::new(image);
        command::as_user(&mut command, None);
        command.current_dir(dir);
        enter(&mut command, self.ours.as_raw_fd());
        process::start(command, Kind::Pipes, dir)
    }
}

fn enter(command: &mut Command, space: RawFd) {
    // SAFETY: setns is async-signal-safe and touches no memory of ours.
    unsafe {
        command.pre_exec(move || {
            if libc::setns(space, libc::CLONE_NEWNET) == 0 {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        });
    }
}

/// The other end of the victim's connections.
struct Peer {
    from_victim: TcpStream,
    to_victim: TcpStream,
    written: u64,
    read: u64,
}

/// The victim's `byte_at`.
fn byte_at(at: u64) -> u8 {
    let mut x = (at / 8).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ x >> 31) >> (at % 8 * 8)) as u8
}

impl Peer {
    fn write(&mut self, bytes: u64) -> Outcome {
        let piece: Vec<u8> = (self.written..self.written + bytes).map(byte_at).collect();
        self.written += bytes;
        self.to_victim.write_all(&piece).map_err(|e| format!("writing to the victim: {e}"))
    }

    fn read_to(&mut self, end: u64) -> Outcome {
        let mut piece = vec![0; 50_000];
        while self.read < end {
            let wanted = piece.len().min((end - self.read) as usize);
            let n = self.from_victim.read(&mut piece[..wanted]);
            let n = n.map_err(|e| format!("reading at {}: {e}", self.read))?;
            if n == 0 {
                return Err(format!("the victim's stream ends at {}", self.read));
            }
            for (i, byte) in piece[..n].iter().enumerate() {
                if *byte != byte_at(self.read + i as u64) {
                    return Err(format!("byte {} from the victim differs", self.read + i as u64));
                }
            }
            self.read += n as u64;
        }
        Ok(())
    }
}

/// Starts the victim with its two connections.
fn start(lab: &Lab, dir: &Path, address: [&str; 2], word: &str) -> Outcome<(Process, Peer)> {
    let net = |e: std::io::Error| e.to_string();
    let listening = Lab::at(&lab.theirs, || TcpListener::bind((address[1], THEIRS)))?;
    let listening = listening.map_err(net)?;
    let mut command = Command::new(Victim::named("socket_live")?.program());
    command::as_user(&mut command, None);
    command.current_dir(dir).args([address[1], word]);
    enter(&mut command, lab.ours.as_raw_fd());
    let mut process = process::start(command, Kind::Pipes, dir)?;
    let (from_victim, _) = listening.accept().map_err(net)?;
    let to_victim = Lab::at(&lab.theirs, || TcpStream::connect((address[0], OURS)))?;
    let to_victim = to_victim.map_err(net)?;
    for stream in [&from_victim, &to_victim] {
        stream.set_read_timeout(Some(LIMIT)).map_err(net)?;
        stream.set_write_timeout(Some(LIMIT)).map_err(net)?;
    }
    process.expect("READY")?;
    Ok((process, Peer { from_victim, to_victim, written: 0, read: 0 }))
}

/// Everything that was ever sent arrives at both ends.
fn finish(lab: &Lab, mut process: Process, mut peer: Peer, address: [&str; 2]) -> Outcome {
    process.send("verify")?;
    process.expect("SENT ")?;
    let end: u64 = process.expect("\n")?.parse().map_err(|_| "no number".to_string())?;
    peer.read_to(end)?;
    peer.write(FOR_VICTIM - peer.written)?;
    peer.from_victim.write_all(b"done").map_err(|e| e.to_string())?;
    let next = Lab::at(&lab.theirs, || TcpStream::connect((address[0], OURS)))?;
    next.map_err(|e| e.to_string())?.write_all(b"next").map_err(|e| e.to_string())?;
    process.expect("OK")?;
    process.exit_code(0)
}

fn directory() -> Outcome<std::path::PathBuf> {
    scratch::directory("connections", None).map_err(|e| e.to_string())
}

fn live_on(address: [&str; 2], word: &str) -> Outcome {
    let dir = directory()?;
    let lab = Lab::new(&dir)?;
    let (mut process, mut peer) = start(&lab, &dir, address, word)?;
    for round in 1..=2 {
        let tag = |e: String| format!("round {round}: {e}");
        // Waits in the victim's queue; a part of what the victim has sent is taken.
        peer.write(50_000).map_err(tag)?;
        peer.read_to(10_000 * round).map_err(tag)?;
        let image = dir.join(format!("resume{round}.elf"));
        lab.dump(&process, &image, &["--tcp-established"]).map_err(tag)?;
        command::gone(&mut process).map_err(tag)?;
        // Nobody is there to take this: it must be sent again.
        peer.write(30_000).map_err(tag)?;
        peer.read_to(10_000 * round + 5_000).map_err(tag)?;
        std::thread::sleep(Duration::from_millis(300));
        process = lab.resume(&image, &dir).map_err(tag)?;
        process.ping().map_err(tag)?;
    }
    finish(&lab, process, peer, address)?;
    lab.no_reset()
}

fn left_running() -> Outcome {
    let dir = directory()?;
    let lab = Lab::new(&dir)?;
    let (mut process, mut peer) = start(&lab, &dir, FOUR, "live")?;
    for round in 1..=3 {
        peer.write(20_000)?;
        peer.read_to(10_000 * round)?;
        let image = dir.join(format!("left{round}.elf"));
        lab.dump(&process, &image, &["--tcp-established", "--leave-running"])?;
        process.ping()?;
    }
    // Its addresses are taken as long as it runs.
    let mut command = Command::new(dir.join("left1.elf"));
    command::as_user(&mut command, None);
    enter(&mut command, lab.ours.as_raw_fd());
    command::run(&mut command, &dir)?.expect(125, "resume")?.says("EADDR")?;
    finish(&lab, process, peer, FOUR)?;
    lab.no_reset()
}

/// Shows that the other cases can fail, and what happens by default.
fn reset_without() -> Outcome {
    let dir = directory()?;
    let lab = Lab::new(&dir)?;
    let (mut process, mut peer) = start(&lab, &dir, FOUR, "reset")?;
    peer.write(50_000)?;
    let image = dir.join("resume.elf");
    lab.dump(&process, &image, &[])?.says("connected with 10.77.0.2:5000")?;
    command::gone(&mut process)?;
    match peer.read_to(u64::MAX) {
        Err(e) if e.contains("reset") || e.contains("ends at") => {}
        other => return Err(format!("the other end was not reset: {other:?}")),
    }
    if lab.resets()? == 0 {
        return Err("no reset was counted".into());
    }
    lab.resume(&image, &dir)?.verify()
}

/// An image that nobody resumes: its table can be removed by its name, and the other end is told.
fn given_up() -> Outcome {
    let dir = directory()?;
    let lab = Lab::new(&dir)?;
    let (mut process, mut peer) = start(&lab, &dir, FOUR, "live")?;
    let image = dir.join("resume.elf");
    let done = lab.dump(&process, &image, &["--tcp-established", "-v"])?;
    command::gone(&mut process)?;
    let said = done.stderr.split("nftables table inet ").nth(1).and_then(|t| t.split(')').next());
    let table = said.ok_or_else(|| format!("no table in {}", done.tell()))?;
    peer.to_victim.set_nonblocking(true).map_err(|e| e.to_string())?;
    peer.write(1000)?;
    let mut byte = [0];
    match peer.to_victim.peek(&mut byte) {
        Err(e) if e.kind() == ErrorKind::WouldBlock => {}
        other => return Err(format!("the other end noticed: {other:?}")),
    }
    let message = linker::netfilter::let_through(table);
    Lab::at(&lab.ours, move || send_to_netfilter(&message))??;
    peer.to_victim.set_nonblocking(false).map_err(|e| e.to_string())?;
    match peer.to_victim.read(&mut byte) {
        Err(e) if e.kind() == ErrorKind::ConnectionReset => Ok(()),
        other => Err(format!("after the table is gone: {other:?}")),
    }
}

/// Whatever the moment, the connections go on: in the process, or in its image.
fn killed_tracer() -> Outcome {
    let dir = directory()?;
    let lab = Lab::new(&dir)?;
    let (mut process, mut peer) = start(&lab, &dir, FOUR, "live")?;
    let rounds = if soak() { 200 } else { 20 };
    let mut random = Random::new();
    let (mut runs_on, mut imaged) = (0, 0);
    for round in 0..rounds {
        let tag = |e: String| format!("round {round}: {e}");
        peer.write(1000).map_err(tag)?;
        peer.read_to(1000 * (round + 1)).map_err(tag)?;
        let image = dir.join(format!("resume{round}.elf"));
        let mut command = command::dumper(None);
        command.arg(process.pid.to_string()).arg("-o").arg(&image);
        command.args(["--no-sync", "--tcp-established"]);
        enter(&mut command, lab.ours.as_raw_fd());
        let begun = command::begin(&mut command, &dir).map_err(tag)?;
        let delay = Duration::from_micros(random.below(60_000));
        let (began, mut tracer) = (Instant::now(), None);
        while began.elapsed() < delay && reaper::ended(begun.pid).is_none() {
            tracer = tracer.or_else(|| process::children(begun.pid).first().copied());
        }
        if let Some(tracer) = tracer.filter(|_| reaper::ended(begun.pid).is_none()) {
            let _ = kill(Pid::from_raw(tracer), Signal::SIGKILL);
        }
        let done = begun.finish(LIMIT).map_err(tag)?;
        if image.exists() {
            imaged += 1;
            command::gone(&mut process).map_err(tag)?;
            process = lab.resume(&image, &dir).map_err(tag)?;
        } else {
            runs_on += 1;
        }
        process.ping().map_err(|e| tag(format!("{e}; {}", done.tell())))?;
    }
    println!("tracer killed: {runs_on} ran on, {imaged} in a complete image");
    finish(&lab, process, peer, FOUR)?;
    lab.no_reset()
}

fn send_to_netfilter(message: &[u8]) -> Outcome {
    use nix::sys::socket::{
        send, socket, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType,
    };
    let (family, kind) = (AddressFamily::Netlink, SockType::Raw);
    let protocol = SockProtocol::NetlinkNetFilter;
    let channel =
        socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol).map_err(|e| e.to_string())?;
    send(channel.as_raw_fd(), message, MsgFlags::empty()).map(drop).map_err(|e| e.to_string())
}

fn refused_to_users(victim: &str, options: &[&str], word: &str) -> Outcome {
    let uid = Mode::User.uid();
    let dir = scratch::directory("no-admin", uid).map_err(|e| e.to_string())?;
    let mut process = Victim::named(victim)?.start(Mode::User, &dir)?;
    let mut command = command::dumper(uid);
    command.arg(process.pid.to_string()).arg("-o").arg(dir.join("resume.elf"));
    command.args(options);
    command::run(&mut command, &dir)?.expect(REFUSED, "dump")?.says(word)?;
    process.ping()?;
    process.verify()
}
