//! The XDP program: builds the object that is shipped beside its source, and checks that the two
//! agree.
//!
//! The object carries a stamp: a hash of its sources and of the way it is built, and the compiler.
//! Changing a source without building is found on every machine; that the bytes are those of the
//! compiler is checked where that compiler is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use super::cargo::{root, shown};

const SOURCES: &[&str] = &["kernel.h", "steer.bpf.c"];
const SOURCE: &str = "steer.bpf.c";
const OBJECT: &str = "steer.bpf.o";

/// No path of this machine, and no default of a compiler that differs between distributions.
const FLAGS: &[&str] = &[
    "-target",
    "bpfel",
    "-mcpu=v3",
    "-O2",
    "-g",
    "-ffreestanding",
    "-fdebug-compilation-dir=.",
    "-Wall",
    "-Wextra",
    "-Werror",
];

/// `cargo xtask bpf [--check]`
pub(crate) fn run(arguments: &[&str]) -> Result<ExitCode> {
    let folder = root().join("xdp/bpf");
    match arguments {
        [] => {
            let compiler =
                compiler()?.context("there is no clang: `apt-get install clang llvm`")?;
            fs::write(folder.join(OBJECT), build(&folder, &compiler)?)?;
            println!("bpf: {} is built by {compiler}", folder.join(OBJECT).display());
        }
        ["--check"] => println!("bpf: {}", check(&folder)?),
        [other, ..] => bail!("`bpf` has no option `{other}`"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Fails unless the object is what its sources make.
fn check(folder: &Path) -> Result<String> {
    let object = fs::read(folder.join(OBJECT)).with_context(|| format!("cannot read {OBJECT}"))?;
    let hash = hash(folder)?;
    let Some(built_by) = stamped(&object, &hash) else {
        bail!("{OBJECT} is not built from the sources beside it: run `cargo xtask bpf`");
    };
    match compiler()? {
        Some(compiler) if compiler == built_by => {}
        other => {
            let here = other.unwrap_or_else(|| "no clang".to_owned());
            return Ok(format!(
                "the sources are those of {OBJECT} ({here} here, {built_by} there)"
            ));
        }
    }
    if build(folder, &built_by)? != object {
        bail!("{OBJECT} is not what {built_by} makes of its sources: run `cargo xtask bpf`");
    }
    Ok(format!("{OBJECT} is what {built_by} makes of its sources, byte for byte"))
}

/// The compiler in an object's stamp, if that is of these sources.
fn stamped(object: &[u8], hash: &str) -> Option<String> {
    let start = stamp(hash, "");
    let at = object.windows(start.len()).position(|bytes| bytes == start.as_bytes())?;
    let compiler = object[at + start.len()..].split(|byte| *byte == 0).next()?;
    String::from_utf8(compiler.to_vec()).ok()
}

fn stamp(hash: &str, compiler: &str) -> String {
    format!("sources {hash} compiler {compiler}")
}

fn hash(folder: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    for source in SOURCES {
        hash.update(
            fs::read(folder.join(source)).with_context(|| format!("cannot read {source}"))?,
        );
    }
    hash.update(FLAGS.join(" "));
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The first line of `clang --version`; `None` where there is no clang.
fn compiler() -> Result<Option<String>> {
    let Ok(output) = Command::new("clang").arg("--version").output() else { return Ok(None) };
    let said = String::from_utf8(output.stdout).context("clang's version is not UTF-8")?;
    Ok(said.lines().next().map(str::to_owned))
}

fn build(folder: &Path, compiler: &str) -> Result<Vec<u8>> {
    let object = Scratch::new()?;
    let mut clang = Command::new("clang");
    clang.args(FLAGS).arg(format!("-DSTAMP=\"{}\"", stamp(&hash(folder)?, compiler)));
    clang.args(["-c", SOURCE, "-o"]).arg(&object.0).current_dir(folder);
    // The kernel reads BTF, which stays; nobody reads DWARF.
    let mut strip = Command::new("llvm-strip");
    strip.arg("--strip-debug").arg(&object.0);
    for mut command in [clang, strip] {
        let output = command.output().with_context(|| format!("cannot run {}", shown(&command)))?;
        if !output.status.success() {
            bail!("{}:\n{}", shown(&command), String::from_utf8_lossy(&output.stderr).trim());
        }
    }
    fs::read(&object.0).context("clang has left no object")
}

/// A file of its own, which goes with this value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (process, next) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(format!("bypass-{process}-{next}-{OBJECT}"));
        fs::File::create_new(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            println!("cannot remove {}: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_is_what_its_sources_make() {
        check(&root().join("xdp/bpf")).unwrap();
    }

    #[test]
    fn a_changed_source_or_object_is_found() {
        let folder = root().join("xdp/bpf");
        let copy = std::env::temp_dir().join(format!("bypass-bpf-{}", std::process::id()));
        fs::create_dir(&copy).unwrap();
        for file in SOURCES.iter().chain([&OBJECT]) {
            fs::copy(folder.join(file), copy.join(file)).unwrap();
        }
        check(&copy).unwrap();
        let object = fs::read(copy.join(OBJECT)).unwrap();
        let instructions = object.iter().position(|byte| *byte == 0xbf).unwrap();
        let mut other = object.clone();
        other[instructions] ^= 1;
        fs::write(copy.join(OBJECT), other).unwrap();
        let same_compiler = stamped(&object, &hash(&copy).unwrap()) == compiler().unwrap();
        assert_eq!(check(&copy).is_err(), same_compiler, "only the compiler can tell");
        fs::write(copy.join(OBJECT), object).unwrap();
        fs::write(copy.join("kernel.h"), "#define XDP_PASS 3\n").unwrap();
        let error = check(&copy).unwrap_err().to_string();
        fs::remove_dir_all(&copy).unwrap();
        assert!(error.contains("cargo xtask bpf"), "{error}");
    }
}
