//! What a Debian machine has besides its kernel: modprobe, and udev with its rules. Unpacked below
//! target/ like the kernels, nothing is installed.

use crate::failure::{Doing, Failure, Outcome};
use crate::initramfs::Archive;
use crate::kernel::{self, Kernel, Module};
use crate::tools;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The programs; systemd brings the rules about seats, base-passwd the names of groups.
const PACKAGES: [&str; 4] = ["kmod", "udev", "systemd", "base-passwd"];

/// What the programs are linked with, and the packages that have it.
const LIBRARIES: [(&str, &str); 10] = [
    ("libc6", "libc.so.6"),
    ("libacl1", "libacl.so.1"),
    ("libblkid1", "libblkid.so.1"),
    ("libcap2", "libcap.so.2"),
    ("libkmod2", "libkmod.so.2"),
    ("liblzma5", "liblzma.so.5"),
    ("libpcre2-8-0", "libpcre2-8.so.0"),
    ("libselinux1", "libselinux.so.1"),
    ("libssl3", "libcrypto.so.3"),
    ("libzstd1", "libzstd.so.1"),
];

/// Where Debian has libraries.
const LIBRARY_FOLDERS: [&str; 2] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];

/// The names of kmod's one program that are used here.
const KMOD: [&str; 2] = ["depmod", "modprobe"];

/// The packages' files.
pub struct Debian {
    root: PathBuf,
}

impl Debian {
    /// Downloads and unpacks what is not there yet.
    pub fn prepare(work: &Path) -> Outcome<Self> {
        let root = work.join("root-debian");
        if !root.exists() {
            let half = work.join("root-debian.half");
            let libraries = LIBRARIES.iter().map(|(package, _)| *package);
            for package in PACKAGES.into_iter().chain(libraries) {
                let deb = kernel::download(&work.join("deb"), package)?;
                tools::run(Command::new("dpkg").arg("-x").arg(&deb).arg(&half))?;
            }
            std::fs::rename(&half, &root).doing(|| format!("naming {}", root.display()))?;
        }
        Ok(Self { root })
    }

    /// Puts the programs, their libraries and their rules into a guest's root.
    pub fn pack(&self, archive: &mut Archive) -> Outcome<()> {
        for program in ["bin/kmod", "bin/udevadm"] {
            archive.copy(program, &self.root.join(program))?;
        }
        for name in KMOD {
            archive.link(&format!("sbin/{name}"), "/bin/kmod");
        }
        archive.link("lib/systemd/systemd-udevd", "/bin/udevadm");
        let loader = "ld-linux-x86-64.so.2";
        archive.copy(&format!("lib64/{loader}"), &self.library(loader)?)?;
        for (_, name) in LIBRARIES {
            archive.copy(&format!("{}/{name}", LIBRARY_FOLDERS[0]), &self.library(name)?)?;
        }
        for folder in ["lib/udev/rules.d", "lib/modprobe.d"] {
            archive.tree(folder, &self.root.join(folder))?;
        }
        // What the package's own script makes of them.
        for (file, master) in [("group", "group.master"), ("passwd", "passwd.master")] {
            let master = self.root.join("usr/share/base-passwd").join(master);
            archive.copy(&format!("etc/{file}"), &master)?;
        }
        Ok(())
    }

    fn library(&self, name: &str) -> Outcome<PathBuf> {
        LIBRARY_FOLDERS
            .iter()
            .map(|folder| self.root.join(folder).join(name))
            .find(|path| path.exists())
            .ok_or_else(|| Failure(format!("no package brought {name}")))
    }
}

/// Puts modules where modprobe looks for them, with what the kernel's package says about them.
pub fn pack_modules(kernel: &Kernel, modules: &[Module], archive: &mut Archive) -> Outcome<()> {
    let place = format!("lib/modules/{}", kernel.release());
    for module in modules {
        archive.data(&format!("{place}/{}", module.path), &module.bytes);
    }
    for name in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        archive.copy(&format!("{place}/{name}"), &kernel.module_folder().join(name))?;
    }
    Ok(())
}
