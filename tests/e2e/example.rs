//! The sample server of examples/kv, built as its users build it: by make and pkg-config, with the
//! shared library.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::command;
use crate::library;
use crate::network;
use crate::process::{self, Kind, Outcome, Process};
use crate::scratch;
use crate::victims::{resume_with, Mode};
use crate::Case;

/// Exit status of `dumper` when a program refuses.
const VETO: i32 = 7;

/// All cases.
pub fn cases() -> Vec<Case> {
    [("root", Mode::Root), ("user", Mode::User), ("newpid", Mode::NewPid)]
        .map(|(name, mode)| {
            let name = format!("consent::example_kv::{name}");
            Case::new(name, mode.needs_root(), move || network::alone(|| travels(mode)))
        })
        .into_iter()
        .chain([Case::new("consent::example_kv::clones", false, || network::alone(clones))])
        .collect()
}

/// Builds it, while children are still ours to wait for; a failure is told by the cases.
pub fn prepare() {
    let _ = built();
}

fn built() -> Outcome<PathBuf> {
    static BUILT: OnceLock<Outcome<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(build).clone()
}

fn build() -> Outcome<PathBuf> {
    let lib = library::installed()?.join("lib");
    let sources = scratch::sources().join("examples/kv");
    let dir = scratch::directory("kv", None).map_err(|e| e.to_string())?;
    let mut make = Command::new("make");
    make.current_dir(&dir).arg("-f").arg(sources.join("Makefile"));
    make.arg(format!("VPATH={}", sources.display()));
    make.arg(format!("LDFLAGS=-Wl,-rpath,{}", lib.display()));
    make.env("PKG_CONFIG_PATH", lib.join("pkgconfig"));
    let done = make.output().map_err(|e| format!("make: {e}"))?;
    if !done.status.success() || !done.stderr.is_empty() {
        return Err(format!("{make:?}:\n{}", String::from_utf8_lossy(&done.stderr)));
    }
    Ok(dir.join("kv"))
}

/// The server, and the port it told last.
struct Server {
    mode: Mode,
    dir: PathBuf,
    process: Process,
    port: u16,
}

impl Server {
    fn start(mode: Mode) -> Outcome<Server> {
        let program = built()?;
        let dir = scratch::directory("kv", mode.uid()).map_err(|e| e.to_string())?;
        let mut command = Command::new(program);
        command::as_user(&mut command, mode.uid());
        command.current_dir(&dir).args(["0", "journal"]);
        let process = process::start(command, Kind::Pipes, &dir)?;
        let mut server = Server { mode, dir, process, port: 0 };
        server.listens()?;
        Ok(server)
    }

    /// Waits until it says where it listens.
    fn listens(&mut self) -> Outcome {
        self.process.expect("listening on ")?;
        let port = self.process.expect("\n")?;
        self.port = port.trim().parse().map_err(|e| format!("port {port:?}: {e}"))?;
        Ok(())
    }

    fn client(&self) -> Outcome<Client> {
        let stream =
            TcpStream::connect(("127.0.0.1", self.port)).map_err(|e| format!("connect: {e}"))?;
        stream.set_read_timeout(Some(process::LIMIT)).map_err(|e| e.to_string())?;
        Ok(Client(BufReader::new(stream)))
    }

    fn image(&self) -> PathBuf {
        self.dir.join("resume.elf")
    }

    fn dump(&self, options: &[&str]) -> Outcome<command::Finished> {
        let mut dumper = command::dumper(self.mode.uid());
        dumper.arg(self.process.pid.to_string()).arg("-o").arg(self.image());
        command::run(dumper.arg("--no-sync").args(options), &self.dir)
    }

    fn resume(&self) -> Outcome<Server> {
        let options: &[&str] = if self.mode == Mode::NewPid { &["--new-pid"] } else { &[] };
        let process = resume_with(self.mode, &self.image(), &self.dir, Kind::Pipes, options)?;
        let mut server = Server { mode: self.mode, dir: self.dir.clone(), process, port: 0 };
        server.listens()?;
        Ok(server)
    }

    fn journal(&self, wanted: &str) -> Outcome {
        same(&fs::read_to_string(self.dir.join("journal")).map_err(|e| e.to_string())?, wanted)
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn asks(&mut self, line: &str) -> Outcome<String> {
        let sent = self.0.get_mut().write_all(format!("{line}\n").as_bytes());
        sent.map_err(|e| format!("{line}: {e}"))?;
        self.hears()
    }

    /// The next line; empty at the end.
    fn hears(&mut self) -> Outcome<String> {
        let mut line = String::new();
        self.0.read_line(&mut line).map_err(|e| format!("a client: {e}"))?;
        Ok(line.trim_end().to_owned())
    }

    fn gets(&mut self, line: &str, wanted: &str) -> Outcome {
        same(&self.asks(line)?, wanted).map_err(|e| format!("{line}: {e}"))
    }

    /// It is told goodbye, and then the connection is at its end.
    fn is_seen_off(&mut self) -> Outcome {
        same(&self.hears()?, "BYE")?;
        same(&self.hears()?, "")
    }
}

fn same(found: &str, wanted: &str) -> Outcome {
    if found == wanted {
        return Ok(());
    }
    Err(format!("{found:?}, not {wanted:?}"))
}

/// Refuses in a transaction, runs on beside its image, is dumped and resumed twice.
fn travels(mode: Mode) -> Outcome {
    let mut server = Server::start(mode)?;
    let mut client = server.client()?;
    client.gets("SET colour blue", "OK")?;
    client.gets("BEGIN", "OK")?;
    client.gets("SET colour red", "OK")?;
    server.dump(&[])?.expect(VETO, "dump")?.says("transactions are open: 1")?;
    client.gets("GET colour", "blue")?;
    client.gets("COMMIT", "OK")?;

    server.dump(&["--leave-running"])?.expect(0, "dump")?;
    client.is_seen_off()?;
    server.listens()?;
    server.journal("colour blue\ncolour red\n")?;
    fs::remove_file(server.image()).map_err(|e| e.to_string())?;

    let mut written = String::from("colour blue\ncolour red\n");
    let mut seen = Vec::new();
    for round in ["one", "two"] {
        let mut client = server.client()?;
        client.gets("GET colour", "red")?;
        client.gets(&format!("SET round {round}"), "OK")?;
        seen.push(client.asks("ID")?);
        let port = server.port;
        server.dump(&[])?.expect(0, "dump")?;
        command::gone(&mut server.process)?;
        client.is_seen_off()?;
        // Flushed, and closed: it may go elsewhere meanwhile.
        server.journal(&format!("{written}round {round}\n"))?;
        written.clear();
        let away = server.dir.join(format!("journal.{round}"));
        fs::rename(server.dir.join("journal"), away).map_err(|e| e.to_string())?;
        server = server.resume()?;
        if server.port != port {
            return Err(format!("listens on {}, not on {port}", server.port));
        }
        remove(&server.image())?;
        let mut client = server.client()?;
        client.gets("GET round", round)?;
        seen.push(client.asks("ID")?);
    }
    seen.dedup();
    if seen.len() != 3 {
        return Err(format!("it was not another instance each time: {seen:?}"));
    }
    server.process.end()
}

fn remove(image: &Path) -> Outcome {
    fs::remove_file(image).map_err(|e| e.to_string())
}

/// Two of one image live side by side, and know that they are two.
fn clones() -> Outcome {
    let mut server = Server::start(Mode::NewPid)?;
    server.client()?.gets("SET colour blue", "OK")?;
    server.dump(&[])?.expect(0, "dump")?;
    command::gone(&mut server.process)?;
    let (mut one, mut two) = (server.resume()?, server.resume()?);
    if one.port == two.port {
        return Err(format!("both say that they listen on {}", one.port));
    }
    let (mut a, mut b) = (one.client()?, two.client()?);
    a.gets("SET colour red", "OK")?;
    b.gets("GET colour", "blue")?;
    if a.asks("ID")? == b.asks("ID")? {
        return Err("both have the same id".into());
    }
    one.process.end()?;
    two.process.end()
}
