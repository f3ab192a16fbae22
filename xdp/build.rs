//! Says in one line which system package is missing, before libbpf's build says it in many.

use bypass_build_support::{Library, Packages};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let elf = Packages { debian: "libelf-dev", fedora: "elfutils-libelf-devel", arch: "libelf" };
    let zlib = Packages { debian: "zlib1g-dev", fedora: "zlib-devel", arch: "zlib" };
    for (name, packages) in [("libelf", elf), ("zlib", zlib)] {
        let library = Library { name, at_least: "0", feature: "xdp", packages };
        if let Err(missing) = library.find() {
            println!("cargo::error={missing}");
        }
    }
    if std::env::var_os("CARGO_FEATURE_LIBXDP").is_some() {
        for program in ["clang", "m4"] {
            if std::process::Command::new(program).arg("--version").output().is_err() {
                println!(
                    "cargo::error=feature `libxdp` needs {program}: run `apt-get install {program}` or \
                     build without `libxdp`"
                );
            }
        }
    }
}
