//! Servers with their own workers and threads, as they are installed; clients come anew after a
//! resume. Each runs by a configuration of its own in a directory of its own, on an address that
//! nobody else uses, so that services of the system are in nobody's way.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use crate::network;
use crate::process::{children, Kind, Outcome, Process, LIMIT};
use crate::programs::{as_both, Stage};
use crate::victims::{is_stopped, until, Mode};
use crate::Case;

/// All cases.
pub fn cases() -> Vec<Case> {
    let redis = |mode| network::alone(|| redis(mode));
    let nginx = |mode| network::alone(|| nginx(mode));
    as_both("server", &[("redis", redis), ("nginx", nginx)])
}

/// An address of the loopback network that belongs to this run of the tests alone.
fn address(port: u16, mode: Mode) -> SocketAddr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let port = port + u16::from(mode == Mode::User);
    SocketAddr::from((Ipv4Addr::new(127, 64 | high, middle, low.max(1)), port))
}

fn write(stage: &Stage, name: &str, text: &str) -> Outcome {
    let path = stage.dir.join(name);
    fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))
}

fn connect(to: SocketAddr) -> Outcome<TcpStream> {
    let stream = TcpStream::connect(to).map_err(|e| format!("connecting to {to}: {e}"))?;
    stream.set_read_timeout(Some(LIMIT)).map_err(|e| e.to_string())?;
    Ok(stream)
}

/// A connection to a server that was dumped must be over for its client, not hang.
fn is_over(mut client: TcpStream) -> Outcome {
    match client.read(&mut [0; 16]) {
        Ok(0) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => Ok(()),
        other => Err(format!("a client of before the dump saw {other:?}")),
    }
}

const KEYS: usize = 200_000;
/// One of so many keys ends at some time.
const MORTAL: usize = 10;
const COMMANDS_AT_ONCE: usize = 1000;

/// A client of redis, in its protocol's form for people.
struct Client<S> {
    stream: BufReader<S>,
}

impl<S: Read + Write> Client<S> {
    fn new(stream: S) -> Client<S> {
        Client { stream: BufReader::new(stream) }
    }

    fn send(&mut self, commands: &str) -> Outcome {
        self.stream.get_mut().write_all(commands.as_bytes()).map_err(|e| format!("to redis: {e}"))
    }

    /// One reply: the text of a simple or of a long one, a number, `nil`.
    fn reply(&mut self) -> Outcome<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).map_err(|e| format!("from redis: {e}"))?;
        let line = line.trim_end();
        let Some(length) = line.strip_prefix('$') else {
            return match line.strip_prefix(['+', ':']) {
                Some(text) => Ok(text.to_owned()),
                None => Err(format!("redis says {line:?}")),
            };
        };
        let Ok(length) = length.parse::<usize>() else {
            return Ok("nil".to_owned());
        };
        let mut text = vec![0; length + 2];
        self.stream.read_exact(&mut text).map_err(|e| format!("from redis: {e}"))?;
        text.truncate(length);
        String::from_utf8(text).map_err(|e| e.to_string())
    }

    fn ask(&mut self, command: &str) -> Outcome<String> {
        self.send(&format!("{command}\r\n"))?;
        self.reply().map_err(|why| format!("{command}: {why}"))
    }

    /// Sends a command for each number, many at once, and hands out the replies.
    fn for_each(
        &mut self,
        numbers: impl Iterator<Item = usize>,
        command: impl Fn(usize) -> String,
        mut see: impl FnMut(usize, String) -> Outcome,
    ) -> Outcome {
        let numbers: Vec<usize> = numbers.collect();
        for some in numbers.chunks(COMMANDS_AT_ONCE) {
            let text: String = some.iter().map(|&n| command(n) + "\r\n").collect();
            self.send(&text)?;
            for &n in some {
                see(n, self.reply()?)?;
            }
        }
        Ok(())
    }

    /// A value of what INFO tells.
    fn info(&mut self, name: &str) -> Outcome<String> {
        let all = self.ask("INFO everything")?;
        let found = all.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
        found.map(str::to_owned).ok_or_else(|| format!("no {name} in INFO:\n{all}"))
    }

    /// Has a child write everything to a file.
    fn save(&mut self) -> Outcome {
        let forks: u64 = self.info("total_forks")?.parse().map_err(|e| format!("forks: {e}"))?;
        self.ask("BGSAVE")?;
        let mut trouble = Ok(());
        until("redis to save", || match self.info("rdb_bgsave_in_progress") {
            Ok(text) => text == "0",
            Err(why) => {
                trouble = Err(why);
                true
            }
        })?;
        trouble?;
        let (status, now) = (self.info("rdb_last_bgsave_status")?, self.info("total_forks")?);
        if status != "ok" || now != (forks + 1).to_string() {
            return Err(format!("BGSAVE: status {status}, forks {forks} before, {now} after"));
        }
        Ok(())
    }

    /// Every key is there with its value, and ends when it was told to.
    fn verify(&mut self, end: u64) -> Outcome {
        let size = self.ask("DBSIZE")?;
        if size != KEYS.to_string() {
            return Err(format!("{size} keys, should be {KEYS}"));
        }
        let get = |n| format!("GET key:{n}");
        self.for_each(0..KEYS, get, |n, got| same(&format!("key:{n}"), &got, &value(n)))?;
        let life = |n| format!("PTTL key:{n}");
        self.for_each((0..KEYS).step_by(MORTAL), life, |n, got| {
            let left: i64 = got.parse().map_err(|e| format!("key:{n}: {got:?}: {e}"))?;
            let wanted = ((end + n as u64) * 1000) as i64 - now_ms() as i64;
            // What goes by between its answer and our question.
            if (left - wanted).abs() > 20_000 {
                return Err(format!("key:{n} lives {left} ms, should be {wanted}"));
            }
            Ok(())
        })?;
        let immortal = |n| format!("PTTL key:{}", n + 1);
        self.for_each((0..KEYS).step_by(MORTAL), immortal, |n, got| {
            same(&format!("the end of key:{}", n + 1), &got, "-1")
        })
    }
}

fn same(what: &str, got: &str, wanted: &str) -> Outcome {
    if got == wanted {
        return Ok(());
    }
    Err(format!("{what} is {got:?}, should be {wanted:?}"))
}

fn value(n: usize) -> String {
    format!("value-{:x}-{}", n.wrapping_mul(0x9e37_79b9), "=".repeat(n % 50))
}

fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

/// Waits until a server takes connections at a socket file.
fn reach(path: &Path, server: &mut Process) -> Outcome<Client<UnixStream>> {
    let deadline = Instant::now() + LIMIT;
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => {
                stream.set_read_timeout(Some(LIMIT)).map_err(|e| e.to_string())?;
                return Ok(Client::new(stream));
            }
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(3)),
            Err(why) => {
                return Err(format!("{}: {why}; {}", path.display(), server.seen()));
            }
        }
    }
}

fn redis(mode: Mode) -> Outcome {
    let mut stage = Stage::new("redis", mode)?;
    let at = address(7010, mode);
    let config = format!(
        "bind {}\nport {}\nunixsocket redis.sock\nsave \"\"\nappendonly no\nloglevel warning\n",
        at.ip(),
        at.port()
    );
    write(&stage, "redis.conf", &config)?;
    let program = Path::new("/usr/bin/redis-server");
    let path = stage.dir.join("redis.sock");
    let mut server = stage.start(program, &["redis.conf"], Kind::Pipes)?;
    let mut client = reach(&path, &mut server)?;
    client.for_each(
        0..KEYS,
        |n| format!("SET key:{n} {}", value(n)),
        |_, got| same("SET", &got, "OK"),
    )?;
    let end = (now_ms() / 1000) as u64 + 3600;
    let ends = |n| format!("EXPIREAT key:{n} {}", end + n as u64);
    client.for_each((0..KEYS).step_by(MORTAL), ends, |_, got| same("EXPIREAT", &got, "1"))?;
    client.verify(end)?;
    for round in 0..2 {
        same("SET", &client.ask("SET brief kept PX 1")?, "OK")?;
        drop(client);
        let mut before = Client::new(connect(at)?);
        same("PING", &before.ask("PING")?, "PONG")?;
        let tag = |why: String| format!("round {round}: {why}");
        server = stage.travel(server, Kind::Pipes).map_err(tag)?;
        is_over(before.stream.into_inner()).map_err(tag)?;

        client = reach(&path, &mut server)?;
        same("a key whose end has come", &client.ask("GET brief")?, "nil").map_err(tag)?;
        client.verify(end).map_err(tag)?;
        let mut other = Client::new(connect(at)?);
        let list = other.ask("CLIENT LIST")?;
        if list.lines().count() != 2 {
            return Err(format!("round {round}: it has other clients than two:\n{list}"));
        }
        let saved = stage.dir.join("dump.rdb");
        let _ = fs::remove_file(&saved);
        other.save().map_err(tag)?;
        drop(other);
        if !saved.exists() {
            return Err(format!("round {round}: {} was not made", saved.display()));
        }
    }
    client.send("SHUTDOWN NOSAVE\r\n")?;
    server.exit_code(0)?;
    // What the child saved is everything.
    let mut server = stage.start(program, &["redis.conf"], Kind::Pipes)?;
    let mut client = reach(&path, &mut server)?;
    let mut loading = String::from("1");
    until("redis to load", || {
        loading = client.info("loading").unwrap_or_else(|why| why);
        loading == "0"
    })
    .map_err(|why| format!("{why}: {loading}"))?;
    client.verify(end).map_err(|why| format!("of what was saved: {why}"))?;
    client.send("SHUTDOWN NOSAVE\r\n")?;
    server.exit_code(0)
}

const PAGE: &str = "<p>A page of two workers.</p>\n";

fn get(at: SocketAddr, path: &str) -> Outcome<String> {
    let mut stream = connect(at)?;
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|e| format!("asking for {path}: {e}"))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|e| format!("reading {path}: {e}"))?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
        _ => Err(format!("{path} is {answer:?}")),
    }
}

/// How many requests all workers together have answered, which they count in shared memory.
fn requests(at: SocketAddr) -> Outcome<u64> {
    let status = get(at, "/status")?;
    let line = status.lines().nth(2).unwrap_or_default();
    let number = line.split_ascii_whitespace().nth(2).and_then(|n| n.parse().ok());
    number.ok_or_else(|| format!("the status is {status:?}"))
}

/// The first process of nginx among `pid` and its descendants: a user's resume makes a pid
/// namespace, in which the numbers are the old ones.
fn master_below(pid: i32) -> Option<i32> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    if name.trim_end() == "nginx" {
        return Some(pid);
    }
    children(pid).into_iter().find_map(master_below)
}

fn workers(master: i32) -> Vec<i32> {
    let mut all = children(master);
    all.sort_unstable();
    all
}

/// Their ids as they see themselves: a resume in place makes a namespace where one is taken.
fn inner(pids: &[i32]) -> Vec<i32> {
    let own = |pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find(|l| l.starts_with("NSpid:"))?;
        line.split_ascii_whitespace().last()?.parse().ok()
    };
    let mut all: Vec<i32> = pids.iter().filter_map(own).collect();
    all.sort_unstable();
    all
}

fn nginx(mode: Mode) -> Outcome {
    let mut stage = Stage::new("nginx", mode)?;
    let at = address(7020, mode);
    // The master is root, its workers are not; another user has no choice.
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let group = if groups.contains("nogroup:") { "nogroup" } else { "nobody" };
    let user = if mode == Mode::Root { format!("user nobody {group};") } else { String::new() };
    let config = format!(
        "{user} daemon off; worker_processes 2; pid nginx.pid; error_log error.log;
        events {{ worker_connections 64; }}
        http {{
            access_log access.log;
            client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
            uwsgi_temp_path uwsgi; scgi_temp_path scgi;
            server {{ listen {at}; root pages; location /status {{ stub_status; }} }}
        }}\n"
    );
    write(&stage, "nginx.conf", &config)?;
    fs::create_dir(stage.dir.join("pages")).map_err(|e| e.to_string())?;
    write(&stage, "pages/index.html", PAGE)?;
    let prefix = stage.dir.display().to_string();
    let arguments = ["-p", &prefix, "-c", "nginx.conf"];
    let mut server = stage.start(Path::new("/usr/sbin/nginx"), &arguments, Kind::Pipes)?;
    until("nginx to listen", || TcpStream::connect(at).is_ok()).map_err(|why| {
        let log = fs::read_to_string(stage.dir.join("error.log")).unwrap_or_default();
        format!("{why}: {}\n{log}", server.seen())
    })?;
    let mut master = server.pid;
    until("two workers", || workers(master).len() == 2)?;
    same("the page", &get(at, "/")?, PAGE)?;
    for round in 0..2 {
        let tag = |why: String| format!("round {round}: {why}");
        let (team, count) = (inner(&workers(master)), requests(at)?);
        let mut before = connect(at)?;
        before.write_all(b"GET / HTTP/1.1\r\n").map_err(|e| e.to_string())?;
        server = stage.travel(server, Kind::Pipes).map_err(tag)?;
        is_over(before).map_err(tag)?;
        until("the page", || get(at, "/").is_ok()).map_err(tag)?;
        let found = master_below(server.pid);
        master = found.ok_or_else(|| format!("round {round}: no nginx below {}", server.pid))?;
        let now = workers(master);
        if now.len() != 2 || inner(&now) != team {
            return Err(format!("round {round}: the workers were {team:?}, are {:?}", inner(&now)));
        }
        for _ in 0..20 {
            same("the page", &get(at, "/").map_err(tag)?, PAGE).map_err(tag)?;
        }
        let now = requests(at).map_err(tag)?;
        if now < count + 22 || now > count + 23 {
            return Err(format!("round {round}: {count} requests before, {now} after 22 more"));
        }
    }
    // Each worker serves by itself.
    for worker in workers(master) {
        let others: Vec<Pid> = workers(master)
            .into_iter()
            .filter(|&other| other != worker)
            .map(Pid::from_raw)
            .collect();
        others.iter().try_for_each(|&p| kill(p, Signal::SIGSTOP)).map_err(|e| e.to_string())?;
        others.iter().try_for_each(|p| until("a worker to stop", || is_stopped(p.as_raw())))?;
        let page = get(at, "/");
        others.iter().try_for_each(|&p| kill(p, Signal::SIGCONT)).map_err(|e| e.to_string())?;
        same("the page of one worker", &page?, PAGE)?;
    }
    // A reload starts new workers and retires the old.
    let team = workers(master);
    kill(Pid::from_raw(master), Signal::SIGHUP).map_err(|e| e.to_string())?;
    until("new workers", || {
        let now = workers(master);
        now.len() == 2 && now.iter().all(|pid| !team.contains(pid))
    })?;
    same("the page of new workers", &get(at, "/")?, PAGE)?;
    // A dead worker is replaced, as its master hears of it.
    let dead = workers(master)[0];
    kill(Pid::from_raw(dead), Signal::SIGKILL).map_err(|e| e.to_string())?;
    until("a worker in place of a dead one", || {
        let now = workers(master);
        now.len() == 2 && !now.contains(&dead)
    })?;
    kill(Pid::from_raw(master), Signal::SIGQUIT).map_err(|e| e.to_string())?;
    server.exit_code(0)?;
    let log = fs::read_to_string(stage.dir.join("access.log")).map_err(|e| e.to_string())?;
    let pages = log.lines().filter(|l| l.contains("GET / HTTP")).count();
    if pages < 42 {
        return Err(format!("{pages} requests for the page in its log:\n{log}"));
    }
    Ok(())
}
