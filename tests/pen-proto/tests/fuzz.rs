//! Builds the fuzz loop with the address and undefined-behaviour sanitizers
//! and runs it for a moment; `PEN_FUZZ_SECONDS` makes it longer.

use std::path::Path;
use std::process::Command;

#[test]
fn hostile_bytes_do_no_harm() -> Result<(), Box<dyn std::error::Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let kmod = here.join("../../kmod");
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("fuzz");
    let compiled = Command::new("cc")
        .args(["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover"])
        .arg("-I")
        .arg(&kmod)
        .arg(here.join("tests/fuzz.c"))
        .arg(kmod.join("pen_proto.c"))
        .arg("-o")
        .arg(&program)
        .status()?;
    assert!(compiled.success(), "the fuzz loop does not compile");
    let seconds = std::env::var("PEN_FUZZ_SECONDS").unwrap_or_else(|_| "2".to_owned());
    let output = Command::new(&program).arg(seconds).output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
