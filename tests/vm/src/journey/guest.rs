//! A machine of a journey: programs started, dumped and brought back there.

use crate::bench::Bench;
use crate::failure::{ensure, Failure, Outcome};
use serde_json::{json, Value};
use std::fmt::Write as _;

/// The user of unprivileged travellers.
pub const NOBODY: u32 = 65534;

/// How a program is run, dumped and resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As root; its ids in place.
    InPlace,
    /// As root, with `--new-pid`.
    NewPid,
    /// As an ordinary user; its ids in a namespace.
    User,
}

impl Mode {
    /// For messages and file names.
    pub fn name(self) -> &'static str {
        match self {
            Mode::InPlace => "root",
            Mode::NewPid => "newpid",
            Mode::User => "user",
        }
    }

    /// Its user, when that is not root.
    pub fn uid(self) -> Option<u32> {
        (self == Mode::User).then_some(NOBODY)
    }

    /// What `-v` must say of it.
    fn said(self) -> &'static str {
        match self {
            Mode::InPlace => "mode: original pid, in place",
            Mode::NewPid => "mode: new pid",
            Mode::User => "mode: original pid in ",
        }
    }
}

/// A program on its journey.
#[derive(Debug, Clone)]
pub struct Traveller {
    /// The victim.
    pub victim: &'static str,
    /// How it travels.
    pub mode: Mode,
    /// Its process on this machine, or the supervisor's.
    pub pid: u64,
}

impl Traveller {
    /// One that is not yet on its way.
    pub fn new(victim: &'static str, mode: Mode) -> Self {
        Self { victim, mode, pid: 0 }
    }

    /// Names it everywhere.
    pub fn name(&self) -> String {
        format!("{}-{}", self.victim, self.mode.name())
    }

    /// Where its image lies on a machine.
    pub fn image(&self) -> String {
        format!("/tmp/{}.elf", self.name())
    }
}

/// A booted machine.
pub struct Guest {
    /// The machine and the sticks in it.
    pub bench: Bench,
}

impl Guest {
    /// Takes over a machine that has just booted.
    pub fn new(bench: Bench) -> Self {
        Self { bench }
    }

    /// Runs a command that must succeed.
    pub fn sh(&mut self, command: &str) -> Outcome<String> {
        self.bench.machine.sh(command)
    }

    /// One request to the agent.
    pub fn ask(&mut self, request: &Value) -> Outcome<Value> {
        self.bench.machine.ask(request)
    }

    /// Runs a command: its exit code, output and error output.
    pub fn run(&mut self, command: &str, uid: Option<u32>) -> Outcome<(i64, String, String)> {
        let answer = self.ask(&json!({"op": "sh", "cmd": command, "uid": uid}))?;
        let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        Ok((answer["rc"].as_i64().unwrap_or(255), text("out"), text("err")))
    }

    /// Opens the bag.
    pub fn open_bag(&mut self) -> Outcome<()> {
        self.sh("mkdir -p /bag && mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose bag /bag")
            .map(|_| ())
    }

    /// Closes the bag: nothing of it is in reach, and all of it is on the host.
    pub fn close_bag(&mut self) -> Outcome<()> {
        self.sh("umount /bag && rmdir /bag").map(|_| ())
    }

    /// Starts and dumps them, with the images in the bag.
    pub fn dump_all(&mut self, travellers: &mut [Traveller]) -> Outcome<()> {
        self.open_bag()?;
        self.install_tools()?;
        for (traveller, first_pid) in travellers.iter_mut().zip((3000..).step_by(100)) {
            self.start(traveller, first_pid)?;
            self.dump(traveller)?;
        }
        self.close_bag()
    }

    /// Puts an interpreter and its script there.
    pub fn install_python(&mut self) -> Outcome<()> {
        self.sh("cp -a /bag/python/. /").map(|_| ())
    }

    /// Makes it a machine that can dump.
    pub fn install_tools(&mut self) -> Outcome<()> {
        self.sh("cp -a /bag/tools/. /").map(|_| ())
    }

    /// Starts a victim under a pid that is free on every machine of the journey, and waits until
    /// its state is made.
    pub fn start(&mut self, traveller: &mut Traveller, first_pid: u32) -> Outcome<()> {
        let size = "200".to_owned();
        let argument = if traveller.victim == "big" { size } else { traveller.name() };
        self.start_with(traveller, first_pid, &argument)
    }

    /// The same with an argument of the caller's choice.
    pub fn start_with(
        &mut self,
        traveller: &mut Traveller,
        first_pid: u32,
        argument: &str,
    ) -> Outcome<()> {
        self.sh(&format!("echo {first_pid} > /proc/sys/kernel/ns_last_pid"))?;
        let program = format!("/bin/{}", traveller.victim);
        self.begin(traveller, &[&program, argument])?;
        self.expect(traveller, "READY")
    }

    /// Brings an image's program back; the root holds nothing else of it.
    pub fn resume(&mut self, traveller: &mut Traveller) -> Outcome<()> {
        let image = traveller.image();
        let mut words = vec![image.as_str(), "-v"];
        if traveller.mode == Mode::NewPid {
            words.push("--new-pid");
        }
        self.begin(traveller, &words)?;
        self.ping(traveller)?;
        if traveller.victim == "journey" {
            self.tell(traveller, "ids")?;
            let wanted = if traveller.mode == Mode::NewPid { "IDS other" } else { "IDS same" };
            self.expect(traveller, wanted)?;
        }
        let said = self.errors(traveller)?;
        ensure(said.contains(traveller.mode.said()), || {
            format!("{}: not {:?} but:\n{said}", traveller.name(), traveller.mode.said())
        })
    }

    /// Starts a program as a traveller.
    pub fn begin(&mut self, traveller: &mut Traveller, words: &[&str]) -> Outcome<()> {
        let (dir, uid) = (format!("/tmp/{}", traveller.name()), traveller.mode.uid());
        let owner = uid.unwrap_or(0);
        // Files travel along; a directory that is open has to be there already.
        let inner = if traveller.victim == "files" { "/d" } else { "" };
        self.sh(&format!("mkdir -p {dir}{inner} && chown -R {owner}:{owner} {dir}"))?;
        let answer = self.ask(&json!({"op": "begin", "name": traveller.name(),
            "argv": words, "dir": dir, "uid": uid}))?;
        traveller.pid = answer["pid"]
            .as_u64()
            .ok_or_else(|| Failure(format!("starting {words:?}: {answer}")))?;
        Ok(())
    }

    /// One line to it.
    pub fn tell(&mut self, traveller: &Traveller, line: &str) -> Outcome<()> {
        self.ask(&json!({"op": "tell", "name": traveller.name(), "line": line})).map(|_| ())
    }

    /// One line of it that must be this one.
    pub fn expect(&mut self, traveller: &Traveller, line: &str) -> Outcome<()> {
        let answer = self.ask(&json!({"op": "hear", "name": traveller.name(), "patience": 240}))?;
        if answer["line"] == line {
            return Ok(());
        }
        let mut told = format!("{}: {line} expected, heard {answer}", traveller.name());
        if answer["line"] == "(gone)" {
            let _ = write!(told, "; {}", self.end(traveller)?);
        }
        Err(Failure(told))
    }

    fn errors(&mut self, traveller: &Traveller) -> Outcome<String> {
        let answer = self.ask(&json!({"op": "errors", "name": traveller.name()}))?;
        Ok(answer["errors"].as_str().unwrap_or_default().to_owned())
    }

    /// Asks for a sign of life.
    pub fn ping(&mut self, traveller: &Traveller) -> Outcome<()> {
        self.tell(traveller, "ping")?;
        self.expect(traveller, "PONG")
    }

    /// Waits for its end.
    pub fn end(&mut self, traveller: &Traveller) -> Outcome<Value> {
        self.ask(&json!({"op": "end", "name": traveller.name()}))
    }

    /// Has it check all it took along; it ends by that.
    pub fn verify(&mut self, traveller: &Traveller) -> Outcome<()> {
        self.tell(traveller, "verify")?;
        self.expect(traveller, "OK")?;
        let end = self.end(traveller)?;
        ensure(end["rc"] == 0, || format!("{}: after OK: {end}", traveller.name()))
    }

    /// Dumps it as its own user and puts the image into the bag; the summary line.
    pub fn dump(&mut self, traveller: &Traveller) -> Outcome<String> {
        let image = traveller.image();
        let told = self.dump_here(traveller, "")?;
        self.sh(&format!("cp -p {image} /bag/ && rm {image}"))?;
        Ok(told)
    }

    /// Dumps it as its own user, with these options; the summary line.
    pub fn dump_here(&mut self, traveller: &Traveller, options: &str) -> Outcome<String> {
        let image = traveller.image();
        let command = format!("rm -f {image}; dumper {} -o {image} {options}", traveller.pid);
        let (rc, out, err) = self.run(&command, traveller.mode.uid())?;
        ensure(rc == 0, || format!("dumping {}: {rc}\n{out}{err}", traveller.name()))?;
        let end = self.end(traveller)?;
        ensure(end["rest"] == json!([]), || {
            format!("{} said something while it was dumped: {end}", traveller.name())
        })?;
        Ok(out.trim().to_owned())
    }

    /// Takes an image out of the bag.
    pub fn unpack(&mut self, traveller: &Traveller) -> Outcome<()> {
        self.sh(&format!("cp -p /bag/{}.elf /tmp/", traveller.name())).map(|_| ())
    }

    /// Fails unless the root holds nothing but busybox, the agent and images.
    pub fn is_bare(&mut self) -> Outcome<()> {
        self.sh("rm -rf /modules")?;
        let found = self.sh(
            "find / -xdev -type f ! -name busybox ! -path /init; find /tmp -type f ! -name '*.elf'",
        )?;
        ensure(found.trim().is_empty(), || format!("the root is not bare:\n{found}"))
    }

    /// Powers off; the kernel must have had nothing to complain about.
    pub fn shut_down(self) -> Outcome<()> {
        self.bench.machine.shut_down()
    }
}
