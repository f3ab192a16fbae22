//! Says in one line which system package is missing, before libbpf's build says it in many.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for (library, package) in [("libelf", "libelf-dev"), ("zlib", "zlib1g-dev")] {
        if let Err(missing) = bypass_build_support::require(library, "0", package, "xdp") {
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
