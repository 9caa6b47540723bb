//! Machines that have nothing but busybox.

use crate::bench::Bench;
use crate::failure::{Doing, Failure, Outcome};
use crate::initramfs::Archive;
use crate::journey::{bag, guest::Guest};
use crate::kernel::Kernel;
use crate::lab::{self, USB};
use crate::machine::{tail_of_log, Machine, Setup};
use crate::tools;
use std::path::{Path, PathBuf};

/// What a guest needs for the bag, and what other machines load by themselves when a dumper asks about
/// sockets; a kernel that has one built in has no file.
const MODULES: [&str; 12] = [
    "virtio_pci",
    "9pnet_virtio",
    "9p",
    "unix_diag",
    "tcp_diag",
    "udp_diag",
    "raw_diag",
    "netlink_diag",
    "af_packet_diag",
    "xfrm_user",
    // nf_tables wants a checksum that nobody else has loaded.
    "crc32c_generic",
    "nf_tables",
];

/// What those need besides who carry their images on a stick; the driver comes last.
const STICK_MODULES: [&str; 1] = ["xhci_pci"];

/// Everything the journeys share.
pub struct World {
    kernels: Vec<Home>,
    folder: PathBuf,
    source: PathBuf,
}

/// A kernel, and first roots for it.
struct Home {
    kernel: Kernel,
    /// Without drivers for sticks.
    plain: PathBuf,
    with_driver: PathBuf,
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
    /// Has a port for sticks, and the driver loaded.
    pub sticks: bool,
    /// What its firmware says who it is; empty for nothing.
    pub uuid: &'static str,
}

impl Hardware {
    /// An ordinary machine with this kernel.
    pub fn with(series: &'static str) -> Self {
        Self { series, cpu: "max", memory: 512, sticks: false, uuid: "" }
    }

    /// One that sticks can be plugged into.
    pub fn with_sticks(series: &'static str) -> Self {
        Self { sticks: true, ..Self::with(series) }
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
        bag::pack(&bag.join("tools"), source, target)?;
        bag::pack_python(&bag.join("python"), source)?;
        let mut kernels = Vec::new();
        for series in ["6.12", "6.1"] {
            let kernel = Kernel::prepare(series, work)?;
            let plain = folder.join(format!("initramfs-{series}"));
            tools::write(&plain, bare_root(&kernel, agent, None)?)?;
            let driver = tools::read(&kernel.build_driver(&source.join("kmod"))?)?;
            let with_driver = folder.join(format!("initramfs-stick-{series}"));
            tools::write(&with_driver, bare_root(&kernel, agent, Some(&driver))?)?;
            kernels.push(Home { kernel, plain, with_driver });
        }
        Ok(Self { kernels, folder, source: source.to_owned() })
    }

    /// The folder that guests see as the bag.
    pub fn bag(&self) -> PathBuf {
        self.folder.join("bag")
    }

    /// The project's folder.
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// Boots a machine.
    pub fn boot(&self, hardware: Hardware) -> Outcome<Guest> {
        let home = self
            .kernels
            .iter()
            .find(|home| home.kernel.series == hardware.series)
            .ok_or_else(|| Failure(format!("no kernel {}", hardware.series)))?;
        let share = "local,path=bag,mount_tag=bag,security_model=none,multidevs=remap";
        let mut arguments = vec!["-virtfs".to_owned(), share.to_owned()];
        if hardware.sticks {
            arguments.extend(USB.map(str::to_owned));
        }
        if !hardware.uuid.is_empty() {
            arguments.extend(["-uuid", hardware.uuid].map(str::to_owned));
        }
        let machine = Machine::boot(&Setup {
            vmlinux: &home.kernel.vmlinux(),
            initramfs: if hardware.sticks { &home.with_driver } else { &home.plain },
            folder: &self.folder,
            cpu: hardware.cpu,
            memory: hardware.memory,
            arguments: &arguments,
            append: if hardware.sticks { lab::WATCHFUL } else { "" },
        })?;
        Ok(Guest::new(Bench::new(machine, &self.folder)))
    }

    /// The last that the guest's kernel said.
    pub fn tail(&self) -> String {
        tail_of_log(&self.folder)
    }
}

/// Busybox and the agent; nothing else stays there once the modules are loaded.
fn bare_root(kernel: &Kernel, agent: &Path, driver: Option<&[u8]>) -> Outcome<Vec<u8>> {
    let mut archive = Archive::default();
    for name in ["bin", "modules", "dev", "proc", "sys", "tmp"] {
        archive.folder(name);
    }
    archive.file("init", &tools::read(agent)?);
    archive.file("bin/busybox", &tools::read(&tools::find("busybox")?)?);
    let mut modules = MODULES.to_vec();
    if let Some(driver) = driver {
        modules.extend(STICK_MODULES);
        archive.file("modules/99-pen_driver.ko", driver);
    }
    for (at, module) in kernel.modules(&modules)?.into_iter().enumerate() {
        archive.file(&format!("modules/{at:02}-{}.ko", module.name), &module.bytes);
    }
    Ok(archive.finish())
}
