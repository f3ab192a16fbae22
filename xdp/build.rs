//! Says in one line which system package is missing, before libbpf's build says it in many.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for (library, package) in [("libelf", "libelf-dev"), ("zlib", "zlib1g-dev")] {
        if let Err(missing) = bypass_build_support::require(library, "0", package, "xdp") {
            println!("cargo::error={missing}");
        }
    }
}
