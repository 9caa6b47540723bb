//! `cargo xtask vm` where nothing can be had.

use std::process::{Command, Stdio};

/// Neither failed nor passed.
const NO_MACHINES: i32 = 77;

#[test]
fn what_cannot_be_had_is_named_and_is_no_failure() -> Result<(), Box<dyn std::error::Error>> {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["vm", "--list"])
        // No QEMU, and no apt-get that could bring it.
        .env("PATH", "/nonexistent")
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(NO_MACHINES), "{said}");
    assert!(said.contains("qemu-system-x86"), "{said}");
    Ok(())
}
