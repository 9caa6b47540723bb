//! Machines that have nothing but busybox, and the bag that is carried between them.
//!
//! The bag is a folder of the host, seen by a guest over 9p while it is mounted there. It holds
//! the images, and below `tools` the dumper and the victims with the libraries they need, for the
//! machines that dump.

use crate::failure::{ensure, Doing, Failure, Outcome};
use crate::initramfs::Archive;
use crate::journey::guest::Guest;
use crate::kernel::Kernel;
use crate::machine::{tail_of_log, Machine, Setup};
use crate::tools;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a guest needs for the bag; a kernel that has one built in has no file.
const MODULES: [&str; 3] = ["virtio_pci", "9pnet_virtio", "9p"];

/// The victims that travel.
pub const VICTIMS: [&str; 8] =
    ["journey", "registers", "threads8", "vdso", "files", "interrupted", "plain", "big"];

/// Everything the journeys share.
pub struct World {
    kernels: Vec<(Kernel, PathBuf)>,
    folder: PathBuf,
}

/// What a machine is made of.
#[derive(Debug, Clone, Copy)]
pub struct Hardware {
    /// Kernel series.
    pub series: &'static str,
    /// Processor, as QEMU names it.
    pub cpu: &'static str,
    /// Memory in MiB.
    pub memory: u32,
}

impl Hardware {
    /// An ordinary machine with this kernel.
    pub fn with(series: &'static str) -> Self {
        Self { series, cpu: "max", memory: 512 }
    }
}

impl World {
    /// Prepares both kernels and packs the bag.
    pub fn prepare(work: &Path, source: &Path, target: &Path, agent: &Path) -> Outcome<Self> {
        let folder = work.join("journey");
        let bag = folder.join("bag");
        if bag.exists() {
            std::fs::remove_dir_all(&bag).doing(|| "emptying the bag".to_owned())?;
        }
        tools::folder(&bag)?;
        pack(&bag.join("tools"), source, target)?;
        let mut kernels = Vec::new();
        for series in ["6.12", "6.1"] {
            let kernel = Kernel::prepare(series, work)?;
            let initramfs = folder.join(format!("initramfs-{series}"));
            tools::write(&initramfs, bare_root(&kernel, agent)?)?;
            kernels.push((kernel, initramfs));
        }
        Ok(Self { kernels, folder })
    }

    /// Boots a machine.
    pub fn boot(&self, hardware: Hardware) -> Outcome<Guest> {
        let (kernel, initramfs) = self
            .kernels
            .iter()
            .find(|(kernel, _)| kernel.series == hardware.series)
            .ok_or_else(|| Failure(format!("no kernel {}", hardware.series)))?;
        let share = "local,path=bag,mount_tag=bag,security_model=none,multidevs=remap";
        let arguments = ["-virtfs".to_owned(), share.to_owned()];
        let machine = Machine::boot(&Setup {
            vmlinux: &kernel.vmlinux(),
            initramfs,
            folder: &self.folder,
            cpu: hardware.cpu,
            memory: hardware.memory,
            arguments: &arguments,
            append: "",
        })?;
        Ok(Guest::new(machine))
    }

    /// The last that the guest's kernel said.
    pub fn tail(&self) -> String {
        tail_of_log(&self.folder)
    }
}

/// Busybox and the agent; nothing else stays there once the modules are loaded.
fn bare_root(kernel: &Kernel, agent: &Path) -> Outcome<Vec<u8>> {
    let mut archive = Archive::default();
    for name in ["bin", "modules", "dev", "proc", "sys", "tmp"] {
        archive.folder(name);
    }
    archive.file("init", &tools::read(agent)?);
    archive.file("bin/busybox", &tools::read(&tools::find("busybox")?)?);
    for (at, (name, bytes)) in kernel.modules(&MODULES)?.into_iter().enumerate() {
        archive.file(&format!("modules/{at:02}-{name}.ko"), &bytes);
    }
    Ok(archive.finish())
}

/// The dumper, the victims and their libraries, at the places where a guest's root shall have them.
fn pack(to: &Path, source: &Path, target: &Path) -> Outcome<()> {
    let bin = to.join("bin");
    tools::folder(&bin)?;
    let dumper = if let Some(path) = std::env::var_os("DUMPER_BIN") {
        PathBuf::from(path)
    } else {
        tools::run(
            Command::new(tools::cargo())
                .args(["build", "-q", "--locked", "-p", "host-dumper", "--bin", "dumper"])
                .current_dir(source),
        )?;
        target.join("debug/dumper")
    };
    // Tens of MiB of line tables have no place in a guest's memory.
    tools::run(Command::new("strip").arg("-o").arg(bin.join("dumper")).arg(dumper))?;
    let mut programs = vec![bin.join("dumper")];
    for name in VICTIMS {
        programs.push(build_victim(source, name, &bin)?);
    }
    for program in programs {
        for library in libraries(&program)? {
            let relative = library.strip_prefix("/").unwrap_or(&library);
            let place = to.join(relative);
            if let (false, Some(folder)) = (place.exists(), place.parent()) {
                tools::folder(folder)?;
                std::fs::copy(&library, &place)
                    .doing(|| format!("copying {}", library.display()))?;
            }
        }
    }
    Ok(())
}

/// Builds a victim of the end-to-end tests as they do.
fn build_victim(source: &Path, name: &str, bin: &Path) -> Outcome<PathBuf> {
    let file = source.join(format!("tests/victims/{name}.c"));
    let text = String::from_utf8_lossy(&tools::read(&file)?).into_owned();
    let flags = text.lines().find_map(|line| line.strip_prefix("//#Flags:")).unwrap_or_default();
    let program = bin.join(name);
    tools::run(
        Command::new("cc")
            .args(["-O2", "-pthread", "-o"])
            .arg(&program)
            .arg(&file)
            .args(flags.split_ascii_whitespace()),
    )?;
    Ok(program)
}

/// What a program is linked with, the dynamic loader included.
fn libraries(program: &Path) -> Outcome<Vec<PathBuf>> {
    let text = tools::run(Command::new("ldd").arg(program))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    ensure(!text.contains("not found"), || format!("ldd: {text}"))?;
    let path = |line: &str| {
        line.split_ascii_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from)
    };
    Ok(text.lines().filter_map(path).collect())
}
