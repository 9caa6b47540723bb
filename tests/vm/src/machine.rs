//! One running guest: QEMU, its monitor, and the agent inside.

use crate::failure::{ensure, Doing, Failure, Outcome};
use crate::tools;
use serde_json::{json, Value};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What a healthy kernel never prints.
const ALARMS: [&str; 12] = [
    "BUG:",
    "WARNING:",
    "Oops",
    "KFENCE",
    "general protection",
    "Call Trace",
    "blocked for more than",
    "Kernel panic",
    "refcount_t",
    "list_add corruption",
    "list_del corruption",
    "guest: /modules",
];

/// How to start it.
#[derive(Debug)]
pub struct Setup<'a> {
    /// Uncompressed kernel.
    pub vmlinux: &'a Path,
    /// Its first root.
    pub initramfs: &'a Path,
    /// Sockets and logs go here.
    pub folder: &'a Path,
    /// Processor, as QEMU names it.
    pub cpu: &'a str,
    /// Memory in MiB.
    pub memory: u32,
    /// Further arguments of QEMU.
    pub arguments: &'a [String],
    /// Further words of the kernel's command line.
    pub append: &'a str,
}

/// A running machine; dropping it ends it.
pub struct Machine {
    qemu: Child,
    monitor: BufReader<UnixStream>,
    agent: BufReader<UnixStream>,
    log: PathBuf,
    /// Events of the monitor not waited for yet.
    events: Vec<Value>,
}

impl Machine {
    /// Boots and waits until the agent answers.
    pub fn boot(setup: &Setup) -> Outcome<Self> {
        let path = |name: &str| setup.folder.join(name);
        for name in ["qmp.sock", "agent.sock", "kernel.log"] {
            let _ = std::fs::remove_file(path(name));
        }
        let append = format!(
            "console=ttyS0 panic=-1 oops=panic panic_on_warn=1 hung_task_panic=1 \
             no_timer_check tsc_early_khz={} {}",
            clock_khz()?,
            setup.append
        );
        let errors =
            std::fs::File::create(path("qemu.log")).doing(|| "creating qemu.log".to_owned())?;
        let mut command = Command::new("qemu-system-x86_64");
        command
            // KVM is there on some machines and unusable; TCG is the same everywhere.
            .args(["-accel", "tcg", "-smp", "1", "-cpu", setup.cpu])
            .args(["-m", &setup.memory.to_string()])
            .args(["-nodefaults", "-display", "none", "-no-reboot"])
            .arg("-kernel")
            .arg(setup.vmlinux)
            .arg("-initrd")
            .arg(setup.initramfs)
            .args(["-append", &append]);
        // Sockets by relative names: their paths are limited to 108 bytes.
        command
            .args(["-serial", "file:kernel.log"])
            .args(["-chardev", "socket,id=agent,path=agent.sock,server=on,wait=off"])
            .args(["-serial", "chardev:agent"])
            .args(["-qmp", "unix:qmp.sock,server=on,wait=off"])
            .args(setup.arguments)
            .current_dir(setup.folder)
            .stdin(Stdio::null())
            .stdout(errors.try_clone().doing(|| "sharing qemu.log".to_owned())?)
            .stderr(errors);
        let mut qemu = command.spawn().doing(|| "starting qemu-system-x86_64".to_owned())?;
        let sockets = connect(&mut qemu, &path("qmp.sock"))
            .and_then(|monitor| Ok((monitor, connect(&mut qemu, &path("agent.sock"))?)));
        let (monitor, agent) = match sockets {
            Ok(sockets) => sockets,
            Err(failure) => {
                let _ = qemu.kill();
                let _ = qemu.wait();
                let said = std::fs::read_to_string(path("qemu.log")).unwrap_or_default();
                return Err(Failure(format!("{failure}: {}", said.trim())));
            }
        };
        let mut machine = Self {
            qemu,
            monitor: BufReader::new(monitor),
            agent: BufReader::new(agent),
            log: path("kernel.log"),
            events: Vec::new(),
        };
        machine.read_monitor(Duration::from_secs(10))?;
        machine.qmp("qmp_capabilities", &json!({}))?;
        let hello = machine.read_agent(Duration::from_secs(600))?;
        ensure(hello["ready"] == json!(true), || format!("the agent said {hello}"))?;
        Ok(machine)
    }

    /// One command of QEMU's monitor.
    pub fn qmp(&mut self, command: &str, arguments: &Value) -> Outcome<Value> {
        let request = json!({"execute": command, "arguments": arguments});
        writeln!(self.monitor.get_mut(), "{request}").doing(|| format!("sending {command}"))?;
        loop {
            let answer = self.read_monitor(Duration::from_secs(30))?;
            if answer.get("event").is_some() {
                self.events.push(answer);
            } else if let Some(error) = answer.get("error") {
                return Err(Failure(format!("{command}: {error}")));
            } else {
                return Ok(answer["return"].clone());
            }
        }
    }

    /// One of the monitor's jobs, to its end.
    pub fn job(&mut self, command: &str, arguments: &Value) -> Outcome<()> {
        const ID: &str = "job";
        let mut arguments = arguments.clone();
        arguments["job-id"] = json!(ID);
        self.qmp(command, &arguments)?;
        let start = Instant::now();
        let job = loop {
            let jobs = self.qmp("query-jobs", &json!({}))?;
            if jobs[0]["status"] == "concluded" {
                break jobs[0].clone();
            }
            ensure(start.elapsed() < Duration::from_secs(60), || format!("{command}: {jobs}"))?;
            std::thread::sleep(Duration::from_millis(20));
        };
        self.qmp("job-dismiss", &json!({"id": ID}))?;
        ensure(job["error"].is_null(), || format!("{command}: {job}"))
    }

    /// SIGKILL, and nothing else.
    pub fn kill(&mut self) -> Outcome<()> {
        self.qemu.kill().doing(|| "killing QEMU".to_owned())?;
        self.qemu.wait().map(|_| ()).doing(|| "waiting for QEMU".to_owned())
    }

    /// Waits for an event whose data names a device.
    pub fn event(&mut self, name: &str, device: &str) -> Outcome<()> {
        let matches = |event: &Value| event["event"] == name && event["data"]["device"] == device;
        loop {
            if let Some(at) = self.events.iter().position(matches) {
                self.events.remove(at);
                return Ok(());
            }
            let next = self.read_monitor(Duration::from_secs(60))?;
            self.events.push(next);
        }
    }

    /// Waits until the kernel has said something again, beyond what it had said `before` times.
    pub fn says(&mut self, what: &str, before: usize) -> Outcome<()> {
        let start = Instant::now();
        while self.log().matches(what).count() <= before {
            ensure(start.elapsed() < Duration::from_secs(120), || {
                format!("the guest's kernel did not say {what:?}")
            })?;
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn read_monitor(&mut self, patience: Duration) -> Outcome<Value> {
        read_line(&mut self.monitor, patience, "QEMU's monitor")
    }

    fn read_agent(&mut self, patience: Duration) -> Outcome<Value> {
        let answer = read_line(&mut self.agent, patience, "the guest");
        answer.map_err(|failure| match self.alarm() {
            Some(alarm) => Failure(format!("{failure}; the guest's kernel says:\n{alarm}")),
            None => failure,
        })
    }

    /// One request to the agent.
    pub fn ask(&mut self, request: &Value) -> Outcome<Value> {
        self.ask_for(request, Duration::from_secs(300))
    }

    /// One request that may take long.
    pub fn ask_for(&mut self, request: &Value, patience: Duration) -> Outcome<Value> {
        self.tell(request)?;
        self.hear(request, patience)
    }

    /// The first half of a request, for what happens before it is answered.
    pub fn tell(&mut self, request: &Value) -> Outcome<()> {
        writeln!(self.agent.get_mut(), "{request}").doing(|| "talking to the guest".to_owned())
    }

    /// The other half.
    pub fn hear(&mut self, request: &Value, patience: Duration) -> Outcome<Value> {
        let answer = self.read_agent(patience)?;
        match answer.get("error") {
            Some(error) => Err(Failure(format!("{request}: {error}"))),
            None => Ok(answer),
        }
    }

    /// A line without a request, to which the agent gives no answer.
    pub fn nudge(&mut self) -> Outcome<()> {
        writeln!(self.agent.get_mut()).doing(|| "talking to the guest".to_owned())
    }

    /// Runs a command; fails unless it succeeds; its output.
    pub fn sh(&mut self, command: &str) -> Outcome<String> {
        let answer = self.ask(&json!({"op": "sh", "cmd": command}))?;
        ensure(answer["rc"] == 0, || format!("`{command}` in the guest: {answer}"))?;
        Ok(answer["out"].as_str().unwrap_or_default().to_owned())
    }

    /// Runs a command that may fail: exit code, output, error output.
    pub fn try_sh(&mut self, command: &str) -> Outcome<(i64, String)> {
        let answer = self.ask(&json!({"op": "sh", "cmd": command}))?;
        let mut text = answer["out"].as_str().unwrap_or_default().to_owned();
        text.push_str(answer["err"].as_str().unwrap_or_default());
        Ok((answer["rc"].as_i64().unwrap_or(255), text))
    }

    /// Repeats a shell condition until it holds. On a host that has little time for the guest,
    /// patience lasts up to ten times as long.
    pub fn wait_for(&mut self, condition: &str, patience: Duration) -> Outcome<()> {
        // In the guest: its clock and ours need not agree.
        let (start, began) = (Instant::now(), self.time_given());
        loop {
            if self.try_sh(condition)?.0 == 0 {
                return Ok(());
            }
            let (waited, given) = (start.elapsed(), self.time_given().saturating_sub(began));
            let starved = given < patience / 4 && waited < patience * 10;
            ensure(waited < patience || starved, || {
                format!("`{condition}` did not become true in {waited:?} ({given:?} of work)")
            })?;
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Processor time that the host has spent on the guest.
    fn time_given(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.qemu.id()));
        let stat = stat.unwrap_or_default();
        // The fields behind the name, which may hold blanks: user and system time, in hundredths.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).filter_map(|word| word.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// The kernel's messages so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The first alarm and what follows it.
    pub fn alarm(&self) -> Option<String> {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        let at = lines.iter().position(|line| ALARMS.iter().any(|alarm| line.contains(alarm)))?;
        Some(lines[at..].iter().take(60).fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{line}");
            text
        }))
    }

    /// Powers off and checks that the kernel had nothing to complain about.
    pub fn shut_down(mut self) -> Outcome<()> {
        self.ask(&json!({"op": "bye"}))?;
        let start = Instant::now();
        while self.qemu.try_wait().doing(|| "waiting for QEMU".to_owned())?.is_none() {
            ensure(start.elapsed() < Duration::from_secs(60), || {
                "the guest does not power off".to_owned()
            })?;
            std::thread::sleep(Duration::from_millis(20));
        }
        match self.alarm() {
            Some(alarm) => Err(Failure(format!("the guest's kernel complained:\n{alarm}"))),
            None => Ok(()),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

fn connect(qemu: &mut Child, path: &Path) -> Outcome<UnixStream> {
    let start = Instant::now();
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                let ended = qemu.try_wait().doing(|| "asking for QEMU".to_owned())?;
                if ended.is_some() || start.elapsed() > Duration::from_secs(20) {
                    return Err(Failure(format!("QEMU did not start ({error})")));
                }
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn read_line(from: &mut BufReader<UnixStream>, patience: Duration, whom: &str) -> Outcome<Value> {
    from.get_ref().set_read_timeout(Some(patience)).doing(|| "setting a timeout".to_owned())?;
    loop {
        let mut line = String::new();
        let got = from.read_line(&mut line).doing(|| format!("waiting for {whom}"))?;
        ensure(got > 0, || format!("{whom} is gone"))?;
        // The firmware may have left something on the port.
        if let Ok(value) = serde_json::from_str::<Value>(line.trim()) {
            return Ok(value);
        }
    }
}

/// The last that a guest's kernel said, from the folder it ran in.
pub fn tail_of_log(folder: &Path) -> String {
    let log = std::fs::read(folder.join("kernel.log")).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// The guest measures its clock wrongly on a busy host; we tell it.
fn clock_khz() -> Outcome<u64> {
    let text = tools::read(Path::new("/proc/cpuinfo"))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let bogomips = text
        .lines()
        .find_map(|line| line.strip_prefix("bogomips")?.split(':').nth(1))
        .and_then(|value| value.trim().parse::<f64>().ok());
    Ok((bogomips.unwrap_or(4000.0) * 500.0) as u64)
}
