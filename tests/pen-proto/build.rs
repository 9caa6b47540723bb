//! Compiles the driver's kernel-free file for the host.

fn main() {
    let folder = std::path::Path::new("../../kmod");
    for name in ["pen_proto.c", "pen_proto.h"] {
        println!("cargo:rerun-if-changed={}", folder.join(name).display());
    }
    cc::Build::new()
        .file(folder.join("pen_proto.c"))
        .include(folder)
        .std("gnu11")
        .warnings(true)
        .extra_warnings(true)
        .flag("-Werror")
        // Traps instead of a runtime library: nothing to link.
        .flag("-fsanitize=undefined")
        .flag("-fsanitize-undefined-trap-on-error")
        .opt_level(1)
        .compile("pen_proto");
}
