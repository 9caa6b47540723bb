//! What is said about the driver's sources without running them: sparse, checkpatch, and that they
//! install and build as the makefile and DKMS do it.
//!
//! The tools come from Debian's packages, unpacked below target/ like the kernels.

use crate::failure::{ensure, Doing, Outcome};
use crate::kernel::{self, Kernel};
use crate::tools;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One check; it returns a line of figures.
pub struct Check {
    /// For the command line and the report.
    pub name: &'static str,
    /// Does it for one kernel.
    pub run: fn(&Workshop) -> Outcome<String>,
}

/// All of them.
pub fn all() -> [Check; 4] {
    [
        Check { name: "driver-sparse", run: sparse },
        Check { name: "driver-checkpatch", run: checkpatch },
        Check { name: "driver-install", run: install },
        Check { name: "driver-dkms", run: dkms },
    ]
}

/// Where the sources are, and where to work.
pub struct Workshop {
    /// The kernel they are checked for.
    pub kernel: Kernel,
    /// The driver's folder.
    pub driver: PathBuf,
    /// The other source for the kernel.
    pub nomem: PathBuf,
    /// For tools and results.
    pub work: PathBuf,
}

impl Workshop {
    /// A package's files, unpacked once.
    fn package(&self, name: &str) -> Outcome<PathBuf> {
        let root = self.work.join(format!("tool-{name}"));
        if !root.exists() {
            let deb = kernel::download(&self.work.join("deb"), name)?;
            let half = self.work.join(format!("tool-{name}.half"));
            tools::run(Command::new("dpkg").arg("-x").arg(&deb).arg(&half))?;
            std::fs::rename(&half, &root).doing(|| format!("naming {}", root.display()))?;
        }
        Ok(root)
    }

    /// An empty folder.
    fn fresh(&self, name: &str) -> Outcome<PathBuf> {
        let folder = self.work.join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).doing(|| format!("emptying {}", folder.display()))?;
        }
        tools::folder(&folder)?;
        Ok(folder)
    }

    /// A copy of the sources that may be built in.
    fn sources(&self, to: &Path) -> Outcome<()> {
        tools::run(Command::new("cp").arg("-r").arg(self.driver.join(".")).arg(to)).map(|_| ())
    }
}

fn sparse(shop: &Workshop) -> Outcome<String> {
    let folder = shop.fresh("sparse")?;
    shop.sources(&folder)?;
    let bin = shop.package("sparse")?.join("usr/bin");
    let mut make = shop.kernel.make(&folder, &bin);
    make.args(["C=2", "CF=-Wsparse-error", "W=1", "KCFLAGS=-Werror", "modules"]);
    let output = make.output().doing(|| "starting make".to_owned())?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure(output.status.success() && !text.contains("warning:"), || text.clone())?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let looked = said.lines().filter(|line| line.trim_start().starts_with("CHECK ")).count();
    ensure(looked >= 9, || format!("sparse looked at {looked} files only:\n{said}"))?;
    Ok(format!("{looked} files, no warning"))
}

/// Names of USB's own structures, and what a module for many kernels cannot do without.
const IGNORED: &str = "CAMELCASE,LINUX_VERSION_CODE,CONSTANT_COMPARISON";

fn checkpatch(shop: &Workshop) -> Outcome<String> {
    let root = shop.package("linux-source-6.12")?;
    let scripts = root.join("scripts");
    if !scripts.join("checkpatch.pl").exists() {
        tools::folder(&scripts)?;
        tools::run(
            Command::new("tar")
                .arg("-xJf")
                .arg(root.join("usr/src/linux-source-6.12.tar.xz"))
                .arg("-C")
                .arg(&scripts)
                .args(["--strip-components=2", "--wildcards"])
                .args(["*/scripts/spelling.txt", "*/scripts/const_structs.checkpatch"])
                .arg("*/scripts/checkpatch.pl"),
        )?;
    }
    let mut files = vec![shop.nomem.clone()];
    for entry in std::fs::read_dir(&shop.driver).doing(|| "listing the driver".to_owned())? {
        let path = entry.doing(|| "listing the driver".to_owned())?.path();
        if path.extension().is_some_and(|end| end == "c" || end == "h") {
            files.push(path);
        }
    }
    let text = tools::run(
        Command::new("perl")
            // It leaves notes where it is called.
            .current_dir(&shop.work)
            .arg(scripts.join("checkpatch.pl"))
            // Not --terse: it says nothing of a file that is clean.
            .args(["--no-tree", "--strict", "--ignore", IGNORED, "--file"])
            .args(&files),
    )?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let clean = text.matches("total: 0 errors, 0 warnings, 0 checks").count();
    ensure(clean == files.len(), || {
        format!("{clean} of {} files are clean:\n{text}", files.len())
    })?;
    Ok(format!("{clean} files, no error, warning or check"))
}

fn install(shop: &Workshop) -> Outcome<String> {
    let to = shop.kernel.installed_driver(&shop.driver)?;
    let mut missing = Vec::new();
    for file in ["usr/local/sbin/pen", "etc/modprobe.d/pen.conf", "etc/udev/rules.d/70-pen.rules"] {
        if !to.join(file).exists() {
            missing.push(file.to_owned());
        }
    }
    let found = tools::run(Command::new("find").arg(&to).args(["-name", "pen_driver.ko*"]))?;
    if found.is_empty() {
        missing.push("pen_driver.ko".to_owned());
    }
    ensure(missing.is_empty(), || format!("make install left out {}", missing.join(", ")))?;
    Ok("module, pen, modprobe and udev examples".to_owned())
}

/// `make dkms` with the package's own dkms, and folders below ours in place of the system's.
fn dkms(shop: &Workshop) -> Outcome<String> {
    let program = shop.package("dkms")?.join("usr/sbin/dkms");
    let folder = shop.fresh("dkms")?;
    let (sources, root, bin) = (folder.join("src"), folder.join("root"), folder.join("bin"));
    for name in ["src", "bin", "tree"] {
        tools::folder(&folder.join(name))?;
    }
    tools::folder(&folder.join("modules").join(shop.kernel.release()))?;
    shop.sources(&sources)?;
    let wrapper = bin.join("dkms");
    tools::write(
        &wrapper,
        format!(
            "#!/bin/sh\n\
             action=$1; shift\n\
             # Nobody else may install, wherever that would be.\n\
             [ $action != install ] || [ $(id -u) = 0 ] || action=build\n\
             exec bash {} $action \"$@\" --no-depmod --arch x86_64 -k {} --kernelsourcedir {} \
             --dkmstree {} --sourcetree {} --installtree {}\n",
            program.display(),
            shop.kernel.release(),
            shop.kernel.headers().display(),
            folder.join("tree").display(),
            root.join("usr/src").display(),
            folder.join("modules").display(),
        ),
    )?;
    tools::run(Command::new("chmod").arg("+x").arg(&wrapper))?;
    let mut make = shop.kernel.plain_make(&sources, &bin);
    tools::run(make.arg(format!("DESTDIR={}", root.display())).arg("dkms"))?;
    let (below, what) = if tools::run(Command::new("id").arg("-u"))? == b"0\n" {
        ("modules", "*/updates/dkms/pen_driver.ko*")
    } else {
        ("tree", "*/module/pen_driver.ko*")
    };
    let found = tools::run(Command::new("find").arg(folder.join(below)).args(["-path", what]))?;
    let found = String::from_utf8_lossy(&found);
    let name = found.trim().rsplit('/').next().filter(|name| !name.is_empty());
    ensure(name.is_some(), || format!("dkms left no {what}"))?;
    Ok(format!("{} built and put into {below}", name.unwrap_or_default()))
}
