//! Debian's kernels: packages unpacked below target/, nothing installed; the
//! bare vmlinux, the modules in loading order, and our driver built for each.

use crate::failure::{ensure, Doing, Failure, Outcome};
use crate::tools;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One of a kernel's modules.
#[derive(Debug, Clone)]
pub struct Module {
    /// As the kernel tells it, without "-".
    pub name: String,
    /// Its file below /lib/modules/RELEASE, uncompressed.
    pub path: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// One kernel, ready to boot.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// "6.1" or "6.12".
    pub series: String,
    /// The release without "-amd64", as in the package names.
    version: String,
    root: PathBuf,
    work: PathBuf,
}

impl Kernel {
    /// Downloads and unpacks what is not there yet.
    pub fn prepare(series: &str, work: &Path) -> Outcome<Self> {
        let version = current(series)?;
        let kernel = Self {
            series: series.to_owned(),
            root: work.join(format!("root-{version}")),
            work: work.to_owned(),
            version,
        };
        let done = kernel.root.join("complete");
        if !done.exists() {
            kernel.unpack()?;
            tools::write(&done, "")?;
        }
        kernel.join_headers()?;
        if !kernel.vmlinux().exists() {
            let image = tools::read(
                &kernel.root.join("boot").join(format!("vmlinuz-{}-amd64", kernel.version)),
            )?;
            extract(&image, &kernel.vmlinux())?;
        }
        Ok(kernel)
    }

    /// The uncompressed kernel: boots seconds sooner under TCG.
    pub fn vmlinux(&self) -> PathBuf {
        self.root.join("vmlinux")
    }

    /// Its name as `uname -r` tells it.
    pub fn release(&self) -> String {
        format!("{}-amd64", self.version)
    }

    /// Where everything is unpacked and built.
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// A program that finds what the headers' own tools need, and more in `bin`.
    fn environment(&self, program: &str, bin: &Path) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var("PATH").unwrap_or_default();
        let own = self.root.join("usr/bin");
        let path = if bin.as_os_str().is_empty() {
            format!("{}:{path}", own.display())
        } else {
            format!("{}:{}:{path}", own.display(), bin.display())
        };
        command
            .env("PATH", path)
            .env("LD_LIBRARY_PATH", self.root.join("usr/lib/x86_64-linux-gnu"))
            .env_remove("MAKEFLAGS");
        command
    }

    /// The kernel's own make for a module's sources, with more tools in `bin`.
    pub fn make(&self, sources: &Path, bin: &Path) -> Command {
        let mut command = self.environment("make", bin);
        command.arg("-C").arg(self.headers()).arg(format!("M={}", sources.display()));
        command
    }

    /// The driver's makefile, as a person calls it, with more tools in `bin`.
    pub fn plain_make(&self, sources: &Path, bin: &Path) -> Command {
        let mut command = self.environment("make", bin);
        command.arg("-C").arg(sources).arg(format!("KDIR={}", self.headers().display()));
        command
    }

    /// Its headers.
    pub fn headers(&self) -> PathBuf {
        self.root.join(format!("usr/src/linux-headers-{}-amd64", self.version))
    }

    fn unpack(&self) -> Outcome<()> {
        let debs = self.work.join("deb");
        let v = &self.version;
        let kbuild = if self.series == "6.1" {
            "linux-kbuild-6.1".to_owned()
        } else {
            format!("linux-kbuild-{v}")
        };
        let packages = [
            format!("linux-image-{v}-amd64-unsigned"),
            format!("linux-headers-{v}-amd64"),
            format!("linux-headers-{v}-common"),
            kbuild,
            // kbuild of 6.12 asks for pahole where the headers carry BTF.
            "pahole".to_owned(),
            "libdw1".to_owned(),
            "libbpf1".to_owned(),
        ];
        for package in &packages {
            let deb = download(&debs, package)?;
            tools::run(Command::new("dpkg").arg("-x").arg(&deb).arg(&self.root))?;
        }
        Ok(())
    }

    /// The headers' Makefile names its other half by an absolute path, which is not ours, and
    /// changes when the folder is moved.
    fn join_headers(&self) -> Outcome<()> {
        let common = format!("usr/src/linux-headers-{}-common/Makefile", self.version);
        let wanted = format!("include {}\n", self.root.join(common).display());
        let file = self.headers().join("Makefile");
        if tools::read(&file)? == wanted.as_bytes() {
            return Ok(());
        }
        tools::write(&file, wanted)
    }

    /// Builds the driver.
    pub fn build_driver(&self, source: &Path) -> Outcome<PathBuf> {
        self.build_module("pen_driver", source)
    }

    /// Builds a module with all warnings; any of them is a failure.
    pub fn build_module(&self, name: &str, source: &Path) -> Outcome<PathBuf> {
        let build = self.work.join(format!("{name}-{}", self.version));
        tools::folder(&build)?;
        let files = std::fs::read_dir(source).doing(|| format!("listing {}", source.display()))?;
        for file in files.flatten().map(|file| file.path()) {
            let wanted = file.file_name().is_some_and(|name| name == "Kbuild")
                || file.extension().is_some_and(|e| e == "c" || e == "h");
            if let (true, Some(name)) = (wanted, file.file_name()) {
                let bytes = tools::read(&file)?;
                let target = build.join(name);
                // Unchanged files keep their time: make has less to do.
                if std::fs::read(&target).ok().as_ref() != Some(&bytes) {
                    tools::write(&target, bytes)?;
                }
            }
        }
        let output = self
            .make(&build, Path::new(""))
            .args(["W=1", "KCFLAGS=-Werror", "modules"])
            .output()
            .doing(|| "starting make".to_owned())?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure(output.status.success() && !text.contains("warning:"), || {
            format!("{name} does not build cleanly for {}:\n{text}", self.version)
        })?;
        Ok(build.join(format!("{name}.ko")))
    }

    /// The modules by name with all they depend on, in loading order.
    pub fn modules(&self, names: &[&str]) -> Outcome<Vec<Module>> {
        let folder = self.module_folder();
        let mut index = Vec::new();
        walk(&folder, &mut index)?;
        let mut loader = Loader { folder, index, seen: HashSet::new(), order: Vec::new() };
        for name in names {
            loader.add(name)?;
        }
        Ok(loader.order)
    }

    /// What the image package puts into /lib/modules/RELEASE.
    pub fn module_folder(&self) -> PathBuf {
        self.root.join("lib/modules").join(self.release())
    }

    /// The driver as `make install` leaves it in a system's root; that root.
    pub fn installed_driver(&self, source: &Path) -> Outcome<PathBuf> {
        let folder = self.work.join(format!("installed-{}", self.version));
        // Only what the driver's folder has now.
        if folder.exists() {
            std::fs::remove_dir_all(&folder).doing(|| format!("emptying {}", folder.display()))?;
        }
        let (sources, root) = (folder.join("src"), folder.join("root"));
        tools::folder(&sources)?;
        tools::run(Command::new("cp").arg("-r").arg(source.join(".")).arg(&sources))?;
        let destination = format!("DESTDIR={}", root.display());
        tools::run(self.plain_make(&sources, Path::new("")).arg(destination).arg("install"))?;
        Ok(root)
    }
}

struct Loader {
    folder: PathBuf,
    index: Vec<PathBuf>,
    seen: HashSet<String>,
    order: Vec<Module>,
}

impl Loader {
    fn add(&mut self, name: &str) -> Outcome<()> {
        let name = name.replace('-', "_");
        if !self.seen.insert(name.clone()) {
            return Ok(());
        }
        let Some(path) = self.index.iter().find(|path| module_name(path) == name) else {
            // Built into one of the kernels, a module of the other.
            return Ok(());
        };
        let place = path.strip_prefix(&self.folder).unwrap_or(path).to_string_lossy();
        let place = place.trim_end_matches(".xz").to_owned();
        let bytes = if path.extension().is_some_and(|e| e == "xz") {
            tools::run(Command::new("xz").arg("-dc").arg(path))?
        } else {
            tools::read(path)?
        };
        for needed in depends(&bytes) {
            self.add(&needed)?;
        }
        self.order.push(Module { name, path: place, bytes });
        Ok(())
    }
}

fn module_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split(".ko").next().unwrap_or_default().replace('-', "_")
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Outcome<()> {
    let entries = std::fs::read_dir(folder).doing(|| format!("listing {}", folder.display()))?;
    for entry in entries.flatten() {
        let kind = entry.file_type().doing(|| "asking a file's type".to_owned())?;
        let path = entry.path();
        if kind.is_dir() {
            walk(&path, found)?;
        } else if path.to_string_lossy().contains(".ko") {
            found.push(path);
        }
    }
    Ok(())
}

/// The image packages carry no modules.dep; each module names its needs.
fn depends(module: &[u8]) -> Vec<String> {
    let mut needed = Vec::new();
    for key in [b"softdep=pre: ".as_slice(), b"depends=".as_slice()] {
        let Some(at) =
            module.windows(key.len() + 1).position(|window| window[0] == 0 && &window[1..] == key)
        else {
            continue;
        };
        let value = module[at + 1 + key.len()..].split(|byte| *byte == 0).next();
        let value = String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
        needed.extend(value.split([',', ' ']).filter(|name| !name.is_empty()).map(str::to_owned));
    }
    needed
}

/// A package's file, fetched if it is not there.
pub fn download(folder: &Path, package: &str) -> Outcome<PathBuf> {
    tools::folder(folder)?;
    if downloaded(folder, package).is_none() {
        eprintln!("vm: downloading {package}");
        tools::run(Command::new("apt-get").arg("download").arg(package).current_dir(folder))?;
    }
    downloaded(folder, package).ok_or_else(|| Failure(format!("apt-get left no {package}*.deb")))
}

fn downloaded(folder: &Path, package: &str) -> Option<PathBuf> {
    let prefix = format!("{package}_");
    std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).find(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
    })
}

/// The newest kernel of a series, as the archive's meta package names it.
fn current(series: &str) -> Outcome<String> {
    let meta = match series {
        "6.1" => "linux-image-amd64",
        _ => "linux-image-6.12-amd64",
    };
    let text = tools::run(Command::new("apt-cache").args(["depends", meta]))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    text.split_whitespace()
        .filter_map(|word| word.strip_prefix("linux-image-")?.strip_suffix("-amd64"))
        .find(|version| version.starts_with(&format!("{series}.")))
        .map(str::to_owned)
        .ok_or_else(|| {
            Failure(format!("{meta} names no kernel; run apt-get update (Debian 12 wanted)"))
        })
}

/// Takes the compressed vmlinux out of a bzImage.
fn extract(image: &[u8], to: &Path) -> Outcome<()> {
    let formats: [(&[u8], &[&str]); 2] = [
        (&[0x28, 0xb5, 0x2f, 0xfd], &["zstd", "-dcq"]),
        (&[0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], &["xz", "-dcq", "--single-stream"]),
    ];
    for (magic, program) in formats {
        let mut from = 0;
        while let Some(at) = image[from..].windows(magic.len()).position(|window| window == magic) {
            let start = from + at;
            let packed = to.with_extension("packed");
            tools::write(&packed, &image[start..])?;
            // Both complain of what follows the stream; the output is right.
            let output = Command::new(program[0])
                .args(&program[1..])
                .stdin(std::fs::File::open(&packed).doing(|| "opening the payload".to_owned())?)
                .output()
                .doing(|| format!("starting {}", program[0]))?;
            if output.stdout.starts_with(b"\x7fELF") {
                tools::write(to, output.stdout)?;
                return std::fs::remove_file(&packed).doing(|| "removing the payload".to_owned());
            }
            from = start + 1;
        }
    }
    Err(Failure("no vmlinux found in the kernel image".to_owned()))
}
