//! Builds the restorer, the freestanding program inside every `resume.elf`, with a cargo of
//! its own, and leaves it as `restorer.elf` in `OUT_DIR`.
//!
//! A nested cargo, because the blob needs another profile (abort on panic, size) than the
//! program around it and stable cargo cannot build one package for two purposes. The
//! `restorer` library is a build dependency of this package, so that cargo itself knows what
//! the blob is made of.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let out = PathBuf::from(var("OUT_DIR"));
    let here = PathBuf::from(var("CARGO_MANIFEST_DIR"));
    let root = here.parent().expect("the package lies in a workspace");
    let script = here.join("scripts/restorer.ld");
    let target = var("TARGET");

    for path in ["restorer/src", "restorer/Cargo.toml", "image-format/src", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={}", root.join(path).display());
    }
    println!("cargo:rerun-if-changed={}", script.display());
    println!("cargo:rerun-if-changed=build.rs");

    // A target directory of its own: the outer cargo holds the lock of the other one.
    let target_dir = out.join("restorer-target");
    let mut cargo = Command::new(var("CARGO"));
    clean_environment(&mut cargo);
    cargo
        .args(["build", "--locked", "--bin", "restorer", "--features", "freestanding"])
        .args(["--profile", "restorer", "--target", &target])
        .arg("--manifest-path")
        .arg(root.join("restorer/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target_dir)
        .env("CARGO_BUILD_BUILD_DIR", &target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(root, &script).join("\x1f"))
        .current_dir(root);
    let output = cargo.output().expect("cargo can be started");
    if !output.status.success() {
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        eprintln!("the restorer could not be built (see above)");
        std::process::exit(1);
    }
    let built = target_dir.join(&target).join("restorer/restorer");
    std::fs::copy(&built, out.join("restorer.elf")).expect("the restorer was built");
}

fn var(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

/// Takes away what the outer cargo says to build scripts: it would steer the inner one.
fn clean_environment(command: &mut Command) {
    const KEPT: [&str; 4] =
        ["CARGO_HOME", "CARGO_MAKEFLAGS", "CARGO_NET_OFFLINE", "CARGO_TERM_COLOR"];
    const DROPPED: [&str; 10] = [
        "RUSTFLAGS",
        "CLIPPY_ARGS",
        "TARGET",
        "HOST",
        "PROFILE",
        "OPT_LEVEL",
        "DEBUG",
        "OUT_DIR",
        "NUM_JOBS",
        "RUST_LOG",
    ];
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        let kept = KEPT.contains(&&*name)
            || name.starts_with("CARGO_HTTP")
            || name.starts_with("CARGO_REGISTRIES");
        let dropped = name.starts_with("CARGO")
            || name.starts_with("RUSTC")
            || name.starts_with("RUSTDOC")
            || DROPPED.contains(&&*name);
        if dropped && !kept {
            command.env_remove(&*name);
        }
    }
}

fn flags(root: &Path, script: &Path) -> Vec<String> {
    let mut flags = vec![
        "-Crelocation-model=pie".to_owned(),
        // The CPU is only known where the image is resumed.
        "-Ctarget-cpu=x86-64".to_owned(),
        format!("--remap-path-prefix={}=.", root.display()),
    ];
    if let Some(home) = env::var_os("CARGO_HOME") {
        flags.push(format!("--remap-path-prefix={}=cargo", home.to_string_lossy()));
    }
    let script = format!("-Wl,-T,{}", script.display());
    for arg in [
        "-nostartfiles",
        "-nostdlib",
        "-static-pie",
        "-Wl,--build-id=none",
        "-Wl,--no-eh-frame-hdr",
        "-Wl,-z,norelro",
        "-Wl,-z,noexecstack",
        "-Wl,-z,max-page-size=4096",
        "-Wl,--no-dynamic-linker",
        "-Wl,--orphan-handling=error",
        &script,
    ] {
        flags.push(format!("-Clink-arg={arg}"));
    }
    flags
}
