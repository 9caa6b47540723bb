//! Whole images: `cargo +nightly fuzz run inspect -- -max_len=400000`. Give it a real image as
//! seed; checksums make it hard to come far, so that `model` looks at what lies behind them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(image) = host_dumper::inspect::read(bytes, false) {
        host_dumper::inspect::text("x", &image);
        let _ = linker::plan_text(&image.plan);
    }
});
