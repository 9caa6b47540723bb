//! From machine to machine on a stick: written and read through the driver, with nothing on the
//! machines of the way but busybox, the driver, and the image that comes off the stick.
//!
//! Three programs travel, each on a stick of its own: one that stands between two questions on a
//! terminal, and one with files, timers and threads, both of an ordinary user; and a Python
//! program with threads, of root.

use super::bag::PYTHON;
use super::guest::{Guest, Mode, Traveller, NOBODY};
use super::world::{Hardware, World};
use super::Journey;
use crate::bench::Stick;
use crate::failure::{ensure, Failure, Outcome};
use crate::scenarios::MIB;
use crate::tools;
use serde_json::{json, Value};
use std::process::{Command, Stdio};

/// Enough that it is still at it when it is dumped.
const STEPS: &str = "3000";

pub fn journeys() -> Vec<Journey> {
    vec![
        Journey {
            name: "journey-stick-6.12-to-6.1-and-back",
            short: true,
            run: |world, _| travel(world, &["6.12", "6.1", "6.12"]),
        },
        Journey {
            name: "journey-stick-6.1-to-6.12-and-back",
            short: false,
            run: |world, _| travel(world, &["6.1", "6.12", "6.1"]),
        },
        Journey {
            name: "journey-stick-same-kernel",
            short: false,
            run: |world, _| travel(world, &["6.1", "6.1"]),
        },
    ]
}

fn travel(world: &World, kernels: &[&'static str]) -> Outcome<String> {
    let wanted = digest()?;
    let mut party = Party::new();
    let mut written = 0;
    for (at, series) in kernels.iter().enumerate() {
        let place = |failure: Failure| Failure(format!("machine {} ({series}): {failure}", at + 1));
        let mut guest = world.boot(Hardware::with_sticks(series)).map_err(place)?;
        if at > 0 {
            guest.is_bare().map_err(place)?;
        }
        plug(&mut guest, at > 0).map_err(place)?;
        let last = at + 1 == kernels.len();
        let done = if at == 0 {
            party.set_out(&mut guest)
        } else if last {
            party.arrive(&mut guest, &wanted)
        } else {
            party.change(&mut guest)
        };
        done.map_err(place)?;
        if !last {
            written += party.board(&mut guest, at > 0).map_err(place)?;
        }
        for (stick, _) in STICKS {
            guest.bench.unplug(stick).map_err(place)?;
        }
        guest.shut_down().map_err(place)?;
    }
    Ok(format!(
        "{} machines, {} programs on {} sticks, {} MiB of images written through /dev/penN",
        kernels.len(),
        3,
        STICKS.len(),
        written / MIB
    ))
}

/// In the order of their numbers.
const STICKS: [(&str, u64); 3] = [("term", 16 * MIB), ("snake", 48 * MIB), ("walker", 16 * MIB)];

fn plug(guest: &mut Guest, keep: bool) -> Outcome<()> {
    for (at, (name, bytes)) in STICKS.into_iter().enumerate() {
        let mut stick = Stick::new(name, bytes);
        stick.keep = keep;
        guest.bench.plug_and_wait(&stick, &format!("pen{at}"))?;
    }
    // What the udev example does for the user at the machine.
    guest.sh(&format!("chown {NOBODY} /dev/pen0 /dev/pen2")).map(|_| ())
}

/// What the Python program must say in the end.
fn digest() -> Outcome<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../victims/digest.py");
    let text = tools::run(
        Command::new("/bin/sh")
            .args(["-c", "echo enough | \"$@\"", "sh", PYTHON, "-I", "-S", script, STEPS])
            .stdin(Stdio::null()),
    )?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().find(|line| line.starts_with("digest "));
    line.map(str::to_owned).ok_or_else(|| Failure(format!("no digest in {text}")))
}

struct Party {
    walker: Traveller,
    snake: Traveller,
    /// Of the shell on the terminal.
    shell: u64,
}

impl Party {
    fn new() -> Self {
        Self {
            walker: Traveller::new("journey", Mode::User),
            snake: Traveller::new("snake", Mode::InPlace),
            shell: 0,
        }
    }

    /// Starts all three.
    fn set_out(&mut self, guest: &mut Guest) -> Outcome<()> {
        install(guest)?;
        guest.start(&mut self.walker, 3000)?;
        guest.sh("echo 3100 > /proc/sys/kernel/ns_last_pid")?;
        guest.begin(&mut self.snake, &[PYTHON, "-I", "-S", "/bin/digest.py", STEPS])?;
        hear(guest, &self.snake, "step 50")?;
        guest.sh("echo 3200 > /proc/sys/kernel/ns_last_pid")?;
        self.open_terminal(guest)?;
        enter(guest, "two_inputs\n", "First number: ")?;
        enter(guest, "1200\n", "Second number: ")
    }

    /// Everybody onto his stick; the bytes of all images.
    fn board(&mut self, guest: &mut Guest, again: bool) -> Outcome<u64> {
        let force = if again { " --force" } else { "" };
        if again {
            // The sticks hold the images that were resumed here, and nobody writes over those
            // unasked.
            let (rc, _, err) =
                guest.run(&format!("dumper {} -o /dev/pen2", self.walker.pid), Some(NOBODY))?;
            ensure(rc == 5 && err.contains("holds an image made on"), || {
                format!("an image was not protected: {rc} {err}")
            })?;
            guest.ping(&self.walker)?;
        }
        succeed(guest, &format!("dumper {} -o /dev/pen2{force}", self.walker.pid), Some(NOBODY))?;
        guest.end(&self.walker)?;
        succeed(
            guest,
            &format!(
                "dumper {} -o /tmp/s && dumper send{force} /tmp/s /dev/pen1 && rm /tmp/s",
                self.snake.pid
            ),
            None,
        )?;
        guest.end(&self.snake)?;
        let pid = match self.job(guest)?.as_str() {
            "" => return Err(Failure("the shell has no job".to_owned())),
            pid => pid.to_owned(),
        };
        succeed(guest, &format!("dumper {pid} -o /dev/pen0{force}"), Some(NOBODY))?;
        see(guest, "prompt: ")?;
        Self::leave_terminal(guest)?;
        let mut bytes = 0;
        for node in ["pen0", "pen1", "pen2"] {
            bytes += guest.bench.attribute(node, "stats/bytes_out")?.parse().unwrap_or(0);
        }
        Ok(bytes)
    }

    /// Everybody comes back from his stick with the plainest of tools, and sets out again.
    fn change(&mut self, guest: &mut Guest) -> Outcome<()> {
        self.walk(guest)?;
        succeed(guest, "cat /dev/pen1 > /tmp/snake.elf; chmod +x /tmp/snake.elf", None)?;
        guest.begin(&mut self.snake, &["/tmp/snake.elf"])?;
        guest.tell(&self.snake, "are you there?")?;
        hear(guest, &self.snake, "PONG")?;
        self.open_terminal(guest)?;
        enter(
            guest,
            "cat /dev/pen0 > term.elf; chmod +x term.elf; ./term.elf -v\n",
            "mode: original pid in ",
        )?;
        install(guest)
    }

    /// Everybody comes home, one with each tool, and tells what became of him.
    fn arrive(&mut self, guest: &mut Guest, wanted: &str) -> Outcome<()> {
        self.walk(guest)?;
        guest.verify(&self.walker)?;
        install(guest)?;
        guest.begin(&mut self.snake, &["/bin/dumper", "run", "/dev/pen1"])?;
        guest.tell(&self.snake, "enough")?;
        hear(guest, &self.snake, wanted)?;
        let end = guest.end(&self.snake)?;
        ensure(end["rc"] == 0, || format!("after its digest: {end}"))?;
        self.open_terminal(guest)?;
        enter(guest, "dumper recv /dev/pen0 -o term.elf\n", "prompt: ")?;
        enter(guest, "./term.elf\n", "")?;
        enter(guest, "34\n", "1200 + 34 = 1234")?;
        see(guest, "prompt: ")?;
        enter(guest, "echo status=$?\n", "status=0")?;
        Self::leave_terminal(guest)
    }

    fn walk(&mut self, guest: &mut Guest) -> Outcome<()> {
        let image = self.walker.image();
        succeed(
            guest,
            &format!("cat /dev/pen2 > {image}; chmod +x {image}"),
            self.walker.mode.uid(),
        )?;
        guest.resume(&mut self.walker)
    }

    fn open_terminal(&mut self, guest: &mut Guest) -> Outcome<()> {
        guest.sh(&format!("mkdir -p /tmp/term; chown {NOBODY} /tmp/term"))?;
        let answer = guest
            .ask(&json!({"op": "terminal", "name": "term", "uid": NOBODY, "dir": "/tmp/term"}))?;
        self.shell = answer["pid"].as_u64().unwrap_or(0);
        see(guest, "prompt: ")
    }

    fn leave_terminal(guest: &mut Guest) -> Outcome<()> {
        guest.ask(&json!({"op": "leave", "name": "term"})).map(|_| ())
    }

    /// The process that the shell waits for.
    fn job(&self, guest: &mut Guest) -> Outcome<String> {
        let shell = self.shell;
        guest.sh(&format!("cat /proc/{shell}/task/{shell}/children")).map(|s| s.trim().to_owned())
    }
}

fn install(guest: &mut Guest) -> Outcome<()> {
    guest.open_bag()?;
    guest.install_tools()?;
    guest.install_python()?;
    guest.close_bag()
}

fn succeed(guest: &mut Guest, command: &str, uid: Option<u32>) -> Outcome<()> {
    let (rc, out, err) = guest.run(command, uid)?;
    ensure(rc == 0, || format!("`{command}`: {rc}\n{out}{err}"))
}

/// Types on the terminal, and looks until something is shown.
fn enter(guest: &mut Guest, text: &str, wanted: &str) -> Outcome<()> {
    guest.ask(&json!({"op": "type", "name": "term", "text": text}))?;
    see(guest, wanted)
}

fn see(guest: &mut Guest, wanted: &str) -> Outcome<()> {
    let answer = guest.ask(&json!({"op": "await", "name": "term", "text": wanted}))?;
    ensure(answer["missing"].is_null(), || format!("on the terminal: {answer}"))
}

/// Listens until a line is `wanted`.
fn hear(guest: &mut Guest, traveller: &Traveller, wanted: &str) -> Outcome<()> {
    loop {
        let answer =
            guest.ask(&json!({"op": "hear", "name": traveller.name(), "patience": 240}))?;
        let line = answer["line"].as_str().unwrap_or_default();
        if line == wanted {
            return Ok(());
        }
        ensure(line.starts_with("step "), || {
            format!(
                "{}: {wanted:?} expected, heard {}",
                traveller.name(),
                Value::to_string(&answer)
            )
        })?;
    }
}
