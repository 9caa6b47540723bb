//! What the tests and the demonstration need from the system, and its installation.

use crate::Failure;
use std::path::Path;
use std::process::{Command, Stdio};

/// Something the system must have: how its presence shows, and the Debian package that brings it.
pub struct Need {
    present: Sign,
    package: &'static str,
}

enum Sign {
    /// A program in `PATH`.
    Program(&'static str),
    /// One of these files.
    File(&'static [&'static str]),
}

/// A compiler for C++ programs that are dumped.
pub const COMPILERS: &[Need] = &[
    Need { present: Sign::Program("cc"), package: "gcc" },
    Need { present: Sign::File(&["/usr/include/stdio.h"]), package: "libc6-dev" },
    Need { present: Sign::Program("g++"), package: "g++" },
];

/// The real programs that the end-to-end tests dump.
pub const VICTIMS: &[Need] = &[
    Need { present: Sign::Program("bash"), package: "bash" },
    Need { present: Sign::Program("bc"), package: "bc" },
    Need { present: Sign::Program("xz"), package: "xz-utils" },
    Need { present: Sign::Program("make"), package: "make" },
    Need { present: Sign::Program("pkg-config"), package: "pkg-config" },
    Need { present: Sign::Program("groff"), package: "groff-base" },
    Need { present: Sign::Program("sqlite3"), package: "sqlite3" },
    Need { present: Sign::Program("tmux"), package: "tmux" },
    Need { present: Sign::Program("ip"), package: "iproute2" },
    Need { present: Sign::Program("script"), package: "bsdutils" },
    Need { present: Sign::File(&["/usr/bin/python3"]), package: "python3" },
    Need { present: Sign::File(&["/usr/bin/redis-server"]), package: "redis-server" },
    Need { present: Sign::File(&["/usr/sbin/nginx"]), package: "nginx-light" },
    Need {
        present: Sign::File(&[
            "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2",
            "/usr/lib/aarch64-linux-gnu/libjemalloc.so.2",
            "/usr/lib64/libjemalloc.so.2",
        ]),
        package: "libjemalloc2",
    },
];

/// The language runtimes that only the long tests dump.
pub const RUNTIMES: &[Need] = &[
    Need { present: Sign::Program("node"), package: "nodejs" },
    // With the compiler: a source can be run as it is.
    Need { present: Sign::Program("javac"), package: "default-jdk-headless" },
    Need { present: Sign::Program("go"), package: "golang-go" },
    Need { present: Sign::Program("ruby"), package: "ruby" },
    Need { present: Sign::File(&["/usr/bin/pod2usage"]), package: "perl" },
    Need { present: Sign::Program("php"), package: "php-cli" },
    Need { present: Sign::Program("guile"), package: "guile-3.0" },
    Need { present: Sign::Program("escript"), package: "erlang-base" },
    Need { present: Sign::Program("sbcl"), package: "sbcl" },
];

/// What the virtual machines are made with.
pub const MACHINES: &[Need] = &[
    Need { present: Sign::Program("qemu-system-x86_64"), package: "qemu-system-x86" },
    Need { present: Sign::Program("busybox"), package: "busybox-static" },
    Need { present: Sign::Program("make"), package: "make" },
    Need { present: Sign::Program("strip"), package: "binutils" },
    Need { present: Sign::Program("xz"), package: "xz-utils" },
    // The kernel's scripts/kernel-doc, which builds with all warnings run, uses Perl's library.
    Need { present: Sign::File(&["/usr/bin/pod2usage"]), package: "perl" },
    Need { present: Sign::Program("zstd"), package: "zstd" },
];

impl Sign {
    fn shows(&self) -> bool {
        match self {
            Sign::Program(name) => std::env::var_os("PATH").is_some_and(|path| {
                std::env::split_paths(&path).any(|dir| dir.join(name).is_file())
            }),
            Sign::File(paths) => paths.iter().any(|path| Path::new(path).exists()),
        }
    }
}

fn missing<'a>(needs: &[&'a [Need]]) -> Vec<&'a str> {
    needs
        .iter()
        .flat_map(|group| group.iter())
        .filter(|need| !need.present.shows())
        .map(|need| need.package)
        .collect()
}

/// Installs what is missing, and says so; silent when all is there.
pub fn install(needs: &[&[Need]]) -> Result<(), Failure> {
    let wanted = missing(needs);
    if wanted.is_empty() {
        return Ok(());
    }
    let list = wanted.join(" ");
    if !Sign::Program("apt-get").shows() {
        return Err(format!(
            "this system lacks what these Debian packages bring: {list}; \
             there is no apt-get here, so install them yourself and try again"
        )
        .into());
    }
    println!("xtask: missing packages: {list}; installing them with apt-get");
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(&wanted);
    // The lists of a fresh or an old system lead nowhere; asking for new ones first costs seconds.
    apt(&["update"]).and_then(|()| apt(&install))?;
    let still = missing(needs);
    if still.is_empty() {
        Ok(())
    } else {
        Err(format!("still missing after apt-get: {}", still.join(" ")).into())
    }
}

fn apt(words: &[&str]) -> Result<(), Failure> {
    // SAFETY: geteuid reads a number and cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    let mut command = if root {
        Command::new("apt-get")
    } else if Sign::Program("sudo").shows() {
        let mut command = Command::new("sudo");
        command.arg("apt-get");
        command
    } else {
        return Err(format!(
            "not root, and no sudo here: run \"apt-get {}\" as root",
            words.join(" ")
        )
        .into());
    };
    command.arg("--quiet").args(words);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    if root {
        command.stdin(Stdio::null());
    }
    let status = command.status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("apt-get {} failed ({status})", words.join(" ")).into())
    }
}
