//! What guests with the driver in them are booted from.

use crate::bench::Bench;
use crate::failure::Outcome;
use crate::initramfs::Archive;
use crate::kernel::Kernel;
use crate::machine::{tail_of_log, Machine, Setup};
use crate::tools;
use std::path::{Path, PathBuf};

/// Modules a guest may need; a kernel that has one built in has no file.
pub const MODULES: [&str; 14] = [
    "xhci_pci",
    "ehci_pci",
    "uhci_hcd",
    "sd_mod",
    "usb_storage",
    "uas",
    "virtio_pci",
    "usbmon",
    "dummy_hcd",
    "usb_f_mass_storage",
    "usb_f_fs",
    "libcomposite",
    "crc32c_generic",
    "ext4",
];

/// Modules loaded by a scenario rather than at boot.
const LATER: [&str; 5] = ["usb_storage", "uas", "dummy_hcd", "usb_f_mass_storage", "usb_f_fs"];

/// The controller that sticks are plugged into.
pub const USB: [&str; 2] = ["-device", "qemu-xhci,id=xhci,p2=15,p3=15"];

/// Words for the kernel's command line that have it notice misuse of memory.
pub const WATCHFUL: &str = "kfence.sample_interval=10 slub_debug=FZPU page_poison=1";

/// Where everything of one kernel is.
pub struct Lab {
    /// The kernel booted.
    pub kernel: Kernel,
    source: PathBuf,
    folder: PathBuf,
    initramfs: PathBuf,
}

impl Lab {
    /// Builds the driver, `nomem`, and the guest's root.
    pub fn prepare(series: &str, work: &Path, source: &Path, agent: &Path) -> Outcome<Self> {
        let kernel = Kernel::prepare(series, work)?;
        let driver = kernel.build_driver(&source.join("kmod"))?;
        let folder = work.join(format!("run-{series}"));
        tools::folder(&folder)?;
        let mut archive = Archive::default();
        for name in ["bin", "modules", "later", "dev", "proc", "sys", "tmp"] {
            archive.folder(name);
        }
        archive.file("init", &tools::read(agent)?);
        archive.file("bin/guest", &tools::read(agent)?);
        archive.file("bin/busybox", &tools::read(&tools::find("busybox")?)?);
        archive.file("bin/pen", &tools::read(&source.join("kmod/pen"))?);
        archive.file("pen_driver.ko", &tools::read(&driver)?);
        let module = kernel.build_module("nomem", &source.join("tests/vm/nomem"))?;
        archive.file("later/nomem.ko", &tools::read(&module)?);
        for (at, module) in kernel.modules(&MODULES)?.into_iter().enumerate() {
            let name = module.name;
            let place = if LATER.contains(&name.as_str()) {
                format!("later/{name}.ko")
            } else {
                format!("modules/{at:02}-{name}.ko")
            };
            archive.file(&place, &module.bytes);
        }
        let initramfs = folder.join("initramfs");
        tools::write(&initramfs, archive.finish())?;
        Ok(Self { kernel, source: source.to_owned(), folder, initramfs })
    }

    /// Keeps the kernel's messages of a failed scenario.
    pub fn keep_log(&self, name: &str) {
        let kept = self.folder.join(format!("failed-{name}.log"));
        let _ = std::fs::copy(self.folder.join("kernel.log"), kept);
    }

    /// The last that the guest's kernel said.
    pub fn tail(&self) -> String {
        tail_of_log(&self.folder)
    }

    /// Boots a guest.
    pub fn boot(&self, soak: bool) -> Outcome<Bench> {
        let origin = Origin {
            kernel: self.kernel.clone(),
            source: self.source.clone(),
            initramfs: self.initramfs.clone(),
            folder: self.folder.clone(),
        };
        let machine = origin.boot()?;
        let mut bench = Bench::new(machine, &self.folder);
        bench.soak = soak;
        bench.origin = Some(origin);
        Ok(bench)
    }
}

/// What a scenario's guest was booted from.
pub struct Origin {
    /// Its kernel.
    pub kernel: Kernel,
    /// The project's folder.
    pub source: PathBuf,
    initramfs: PathBuf,
    folder: PathBuf,
}

impl Origin {
    /// Boots it.
    pub fn boot(&self) -> Outcome<Machine> {
        Machine::boot(&Setup {
            vmlinux: &self.kernel.vmlinux(),
            initramfs: &self.initramfs,
            folder: &self.folder,
            // Emulated, the processor's instructions for moving memory go byte by byte; without
            // them the kernel moves words, as fast as the emulator moves a stick's data.
            cpu: "max,-erms,-fsrm",
            memory: 512,
            arguments: &USB.map(str::to_owned),
            append: WATCHFUL,
        })
    }

    /// Puts more files into the root of the next guest.
    pub fn add(&mut self, more: Archive) -> Outcome<()> {
        // The kernel unpacks one archive after the other.
        let mut bytes = tools::read(&self.initramfs)?;
        bytes.extend(more.finish());
        self.initramfs = self.folder.join("initramfs-more");
        tools::write(&self.initramfs, bytes)
    }
}
