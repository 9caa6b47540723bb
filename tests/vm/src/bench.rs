//! A booted guest with the driver in it, and sticks to plug into it.

use crate::failure::{ensure, Doing, Failure, Outcome};
use crate::lab::Origin;
use crate::machine::Machine;
use crate::remains;
use crate::tools;
use crate::wire;
use serde_json::{json, Value};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What kind of stick to plug in.
#[derive(Debug, Clone)]
pub struct Stick {
    /// Names the QEMU device, its node and its file.
    pub id: &'static str,
    /// Its serial number, the same as `id` for most.
    pub serial: &'static str,
    /// Of the controller; none means the next free one.
    pub port: Option<&'static str>,
    /// Size of the backing file, which is sparse.
    pub bytes: u64,
    /// Write-protected.
    pub read_only: bool,
    /// Says that its medium can be taken out.
    pub removable: bool,
    /// Keep what the file held before.
    pub keep: bool,
    /// Errors to inject, as blkdebug takes them.
    pub inject: Vec<Value>,
    /// Bytes per second, 0 for as fast as it goes.
    pub throttle: u64,
    /// Have QEMU write down what goes over the wire.
    pub recorded: bool,
    /// What was not flushed is lost when QEMU is killed.
    pub forgetful: bool,
}

impl Stick {
    /// An ordinary empty stick.
    pub fn new(id: &'static str, bytes: u64) -> Self {
        Self {
            id,
            serial: id,
            port: None,
            bytes,
            read_only: false,
            removable: false,
            keep: false,
            inject: Vec::new(),
            throttle: 0,
            recorded: true,
            forgetful: false,
        }
    }
}

/// A guest at work.
pub struct Bench {
    /// The guest.
    pub machine: Machine,
    /// Long counts are wanted.
    pub soak: bool,
    folder: PathBuf,
    sticks: Vec<(String, Vec<String>)>,
    /// What it was booted from, where it can be booted again.
    pub origin: Option<Origin>,
}

impl Bench {
    /// Takes over a machine that has just booted; sticks and captures lie in `folder`.
    pub fn new(machine: Machine, folder: &Path) -> Self {
        Self { machine, soak: false, folder: folder.to_owned(), sticks: Vec::new(), origin: None }
    }

    /// Cuts the guest's power off and boots it anew, without sticks. What QEMU had not handed to
    /// the host is gone.
    pub fn cut_off(&mut self) -> Outcome<()> {
        self.healthy()?;
        self.machine.kill()?;
        self.sticks.clear();
        self.machine = self.origin()?.boot()?;
        Ok(())
    }

    /// What the guest was booted from.
    pub fn origin(&mut self) -> Outcome<&mut Origin> {
        self.origin.as_mut().ok_or_else(|| Failure("this guest cannot be booted again".to_owned()))
    }

    /// A file of this run.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Loads the driver.
    pub fn insmod(&mut self, parameters: &str) -> Outcome<()> {
        self.machine.sh(&format!("insmod /pen_driver.ko {parameters}")).map(|_| ())
    }

    /// Adds the block nodes of a stick; returns the node to attach.
    pub fn backing(&mut self, stick: &Stick) -> Outcome<String> {
        let file = format!("{}.img", stick.id);
        let path = self.path(&file);
        if !stick.keep {
            let _ = std::fs::remove_file(&path);
        }
        let image = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .doing(|| format!("creating {}", path.display()))?;
        if !stick.forgetful {
            image.set_len(stick.bytes).doing(|| format!("sizing {}", path.display()))?;
        }
        let mut nodes = Vec::new();
        let mut add = |machine: &mut Machine, mut options: Value, kind: &str| {
            let name = format!("{}-{kind}", stick.id);
            options["node-name"] = json!(name);
            machine.qmp("blockdev-add", &options)?;
            nodes.insert(0, name.clone());
            Ok(name)
        };
        let mut top = add(
            &mut self.machine,
            json!({"driver": "file", "filename": file, "read-only": stick.read_only}),
            "file",
        )?;
        if !stick.inject.is_empty() {
            let options = json!({"driver": "blkdebug", "image": top, "inject-error": stick.inject});
            top = add(&mut self.machine, options, "debug")?;
        }
        if stick.throttle > 0 {
            let group = format!("{}-group", stick.id);
            self.machine.qmp(
                "object-add",
                &json!({"qom-type": "throttle-group", "id": group,
                    "limits": {"bps-total": stick.throttle}}),
            )?;
            let options = json!({"driver": "throttle", "throttle-group": group, "file": top});
            top = add(&mut self.machine, options, "slow")?;
        }
        let mut format = "raw";
        if stick.forgetful {
            // Where the blocks lie is kept in QEMU's memory until a flush, so that a killed QEMU
            // forgets them: the nearest to a stick with a cache of its own.
            format = "qcow2";
            if !stick.keep {
                let options = json!({"driver": format, "file": top, "size": stick.bytes});
                self.machine.job("blockdev-create", &json!({"options": options}))?;
            }
        }
        let options = json!({"driver": format, "file": top, "read-only": stick.read_only});
        top = add(&mut self.machine, options, format)?;
        if stick.throttle > 0 {
            nodes.push(format!("{}-group", stick.id));
        }
        self.sticks.push((stick.id.to_owned(), nodes));
        Ok(top)
    }

    /// Plugs a stick in.
    pub fn plug(&mut self, stick: &Stick) -> Outcome<()> {
        let node = self.backing(stick)?;
        let mut device = json!({"driver": "usb-storage", "id": stick.id, "drive": node,
            "bus": "xhci.0", "serial": stick.serial, "removable": stick.removable,
            "rerror": "report", "werror": "report"});
        if let Some(port) = stick.port {
            device["port"] = json!(port);
        }
        if stick.recorded {
            device["pcap"] = json!(format!("{}.pcap", stick.id));
        }
        self.machine.qmp("device_add", &device).map(|_| ())
    }

    /// Plugs in and waits for the node.
    pub fn plug_and_wait(&mut self, stick: &Stick, node: &str) -> Outcome<()> {
        self.plug(stick)?;
        self.wait_node(node)
    }

    /// Waits until a node is there.
    pub fn wait_node(&mut self, node: &str) -> Outcome<()> {
        self.machine.wait_for(&format!("test -c /dev/{node}"), Duration::from_secs(30))
    }

    /// Starts pulling a stick without waiting.
    pub fn pull(&mut self, id: &str) -> Outcome<()> {
        self.machine.qmp("device_del", &json!({"id": id})).map(|_| ())
    }

    /// Waits until a pulled stick is out and frees what was behind it.
    pub fn pulled(&mut self, id: &str) -> Outcome<()> {
        self.machine.event("DEVICE_DELETED", id)?;
        self.drop_backing(id)
    }

    /// Removes the block nodes of a stick that is out.
    pub fn drop_backing(&mut self, id: &str) -> Outcome<()> {
        let Some(at) = self.sticks.iter().position(|(name, _)| name == id) else {
            return Ok(());
        };
        let (_, nodes) = self.sticks.remove(at);
        for node in nodes {
            if node.ends_with("-group") {
                self.machine.qmp("object-del", &json!({"id": node}))?;
            } else {
                self.machine.qmp("blockdev-del", &json!({"node-name": node}))?;
            }
        }
        Ok(())
    }

    /// Pulls a stick and waits.
    pub fn unplug(&mut self, id: &str) -> Outcome<()> {
        self.pull(id)?;
        self.pulled(id)
    }

    /// Pulls a stick of which QEMU (7.2) will not let go: it forgets a command that a class reset
    /// cut short, but not what that command holds on to.
    pub fn discard(&mut self, id: &str) -> Outcome<()> {
        self.pull(id)?;
        self.sticks.retain(|(name, _)| name != id);
        Ok(())
    }

    /// Waits until so many bytes went to or came from a stick: the copy is in its middle.
    pub fn under_way(&mut self, node: &str, counter: &str, bytes: u64) -> Outcome<()> {
        self.machine.wait_for(
            &format!("test $(cat /sys/class/pen/{node}/stats/{counter}) -gt {bytes}"),
            Duration::from_secs(120),
        )
    }

    /// Unplugs all that is left, unloads the driver, checks that nothing of it remains and that
    /// the kernel's log is quiet.
    pub fn clean_up(&mut self) -> Outcome<()> {
        let left: Vec<_> = self.sticks.iter().map(|(id, _)| id.clone()).collect();
        for id in left {
            self.unplug(&id)?;
        }
        self.machine.wait_for("! ls /dev/pen* 2>/dev/null", Duration::from_secs(20))?;
        remains::nothing(&mut self.machine)?;
        self.machine.wait_for(
            "! grep -q pen_driver /proc/modules || rmmod pen_driver",
            Duration::from_secs(20),
        )?;
        self.healthy()
    }

    /// Fails when the guest's kernel complained.
    pub fn healthy(&mut self) -> Outcome<()> {
        match self.machine.alarm() {
            Some(alarm) => ensure(false, || format!("the guest's kernel complained:\n{alarm}")),
            None => Ok(()),
        }
    }

    /// One system call on a file the agent holds.
    pub fn call(&mut self, request: &Value) -> Outcome<Value> {
        self.machine.ask(request)
    }

    /// Opens a file in the agent; fails unless it opens.
    pub fn open(&mut self, name: &str, path: &str, flags: i32) -> Outcome<()> {
        self.succeeds(&json!({"op": "open", "name": name, "path": path, "flags": flags}))
    }

    /// Writes the pattern; fails unless all of it was taken.
    pub fn write(&mut self, name: &str, pos: u64, len: u64, seed: u64) -> Outcome<()> {
        let answer = self
            .call(&json!({"op": "pwrite", "name": name, "pos": pos, "len": len, "seed": seed}))?;
        ensure(answer["n"] == json!(len), || format!("writing {len} bytes at {pos}: {answer}"))
    }

    /// Reads the pattern back; fails unless all of it is right.
    pub fn read(&mut self, name: &str, pos: u64, len: u64, seed: u64) -> Outcome<()> {
        let answer =
            self.call(&json!({"op": "pread", "name": name, "pos": pos, "len": len, "seed": seed}))?;
        ensure(answer["n"] == json!(len) && answer["wrong"].is_null(), || {
            format!("reading {len} bytes at {pos}: {answer}")
        })
    }

    /// A call that must fail in one certain way.
    pub fn fails(&mut self, request: &Value, errno: &str) -> Outcome<()> {
        let answer = self.call(request)?;
        ensure(answer["errno"] == errno, || format!("{request}: {answer}, {errno} expected"))
    }

    /// A call that must succeed.
    pub fn succeeds(&mut self, request: &Value) -> Outcome<()> {
        let answer = self.call(request)?;
        ensure(answer["errno"].is_null(), || format!("{request}: {answer}"))
    }

    /// An attribute in sysfs.
    pub fn attribute(&mut self, node: &str, name: &str) -> Outcome<String> {
        let text = self.machine.sh(&format!("cat /sys/class/pen/{node}/{name}"))?;
        Ok(text.trim().to_owned())
    }

    /// The commands a stick has seen.
    pub fn wire(&self, id: &str) -> Outcome<Vec<wire::Command>> {
        wire::commands(&tools::read(&self.path(&format!("{id}.pcap")))?)
    }

    /// What is on a stick now.
    pub fn contents(&self, id: &str) -> Outcome<Vec<u8>> {
        tools::read(&self.path(&format!("{id}.img")))
    }
}
