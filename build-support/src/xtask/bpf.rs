//! The BPF programs (the one that is shipped, one of a test, the benchmarks' load generator): builds the
//! object that lies beside each source, and checks that the two agree.
//!
//! An object carries a stamp: a hash of its sources and of the way it is built, and the compiler.
//! Changing a source without building is found on every machine; that the bytes are those of the
//! compiler is checked where that compiler is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use super::cargo::{root, shown};

/// What is built, by folder and name: `NAME.bpf.c` with the header becomes `NAME.bpf.o`.
const PROGRAMS: &[(&str, &str)] =
    &[("xdp/bpf", "steer"), ("xdp/bpf", "tail"), ("benches/src/generator", "traffic")];
const HEADER: &str = "xdp/bpf/kernel.h";

/// A program, in a copy of the repository or of the parts that matter.
struct Program<'a> {
    root: &'a Path,
    folder: &'a str,
    name: &'a str,
}

fn programs(root: &Path) -> impl Iterator<Item = Program<'_>> {
    PROGRAMS.iter().map(move |&(folder, name)| Program { root, folder, name })
}

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
    match arguments {
        [] => {
            let compiler =
                compiler()?.context("there is no clang: `apt-get install clang llvm`")?;
            for program in programs(root()) {
                let object = program.object();
                fs::write(&object, program.build(&compiler)?)?;
                println!("bpf: {} is built by {compiler}", object.display());
            }
        }
        ["--check"] => {
            for program in programs(root()) {
                println!("bpf: {}", program.check()?);
            }
        }
        [other, ..] => bail!("`bpf` has no option `{other}`"),
    }
    Ok(ExitCode::SUCCESS)
}

impl Program<'_> {
    fn source(&self) -> PathBuf {
        self.root.join(self.folder).join(format!("{}.bpf.c", self.name))
    }

    fn object(&self) -> PathBuf {
        self.root.join(self.folder).join(format!("{}.bpf.o", self.name))
    }

    /// Fails unless the object is what its sources make.
    fn check(&self) -> Result<String> {
        let name = format!("{}.bpf.o", self.name);
        let object = fs::read(self.object()).with_context(|| format!("cannot read {name}"))?;
        let Some(built_by) = stamped(&object, &self.hash()?) else {
            bail!("{name} is not built from the sources beside it: run `cargo xtask bpf`");
        };
        match compiler()? {
            Some(compiler) if compiler == built_by => {}
            other => {
                let here = other.unwrap_or_else(|| "no clang".to_owned());
                return Ok(format!(
                    "the sources are those of {name} ({here} here, {built_by} there)"
                ));
            }
        }
        if self.build(&built_by)? != object {
            bail!("{name} is not what {built_by} makes of its sources: run `cargo xtask bpf`");
        }
        Ok(format!("{name} is what {built_by} makes of its sources, byte for byte"))
    }

    fn hash(&self) -> Result<String> {
        let mut hash = Sha256::new();
        for source in [self.root.join(HEADER), self.source()] {
            let read = fs::read(&source);
            hash.update(read.with_context(|| format!("cannot read {}", source.display()))?);
        }
        hash.update(FLAGS.join(" "));
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn build(&self, compiler: &str) -> Result<Vec<u8>> {
        let object = Scratch::new()?;
        let mut clang = Command::new("clang");
        clang.args(FLAGS).arg(format!("-DSTAMP=\"{}\"", stamp(&self.hash()?, compiler)));
        clang.args(["-c", &format!("{}.bpf.c", self.name), "-o"]).arg(&object.0);
        clang.current_dir(self.root.join(self.folder));
        // The kernel reads BTF, which stays; nobody reads DWARF.
        let mut strip = Command::new("llvm-strip");
        strip.arg("--strip-debug").arg(&object.0);
        for mut command in [clang, strip] {
            let output =
                command.output().with_context(|| format!("cannot run {}", shown(&command)))?;
            if !output.status.success() {
                bail!("{}:\n{}", shown(&command), String::from_utf8_lossy(&output.stderr).trim());
            }
        }
        fs::read(&object.0).context("clang has left no object")
    }
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

/// The first line of `clang --version`; `None` where there is no clang.
fn compiler() -> Result<Option<String>> {
    let Ok(output) = Command::new("clang").arg("--version").output() else { return Ok(None) };
    let said = String::from_utf8(output.stdout).context("clang's version is not UTF-8")?;
    Ok(said.lines().next().map(str::to_owned))
}

/// A file of its own, which goes with this value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (process, next) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(format!("bypass-{process}-{next}.bpf.o"));
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
    fn the_objects_are_what_their_sources_make() {
        for program in programs(root()) {
            program.check().unwrap();
        }
    }

    #[test]
    fn a_changed_source_or_object_is_found() {
        let original = programs(root()).next().unwrap();
        let copy = std::env::temp_dir().join(format!("bypass-bpf-{}", std::process::id()));
        let program = Program { root: &copy, ..original };
        fs::create_dir_all(copy.join(program.folder)).unwrap();
        fs::copy(original.root.join(HEADER), copy.join(HEADER)).unwrap();
        fs::copy(original.source(), program.source()).unwrap();
        fs::copy(original.object(), program.object()).unwrap();
        program.check().unwrap();
        let shipped = fs::read(program.object()).unwrap();
        let instructions = shipped.iter().position(|byte| *byte == 0xbf).unwrap();
        let mut other = shipped.clone();
        other[instructions] ^= 1;
        fs::write(program.object(), other).unwrap();
        let built_by = stamped(&shipped, &program.hash().unwrap());
        let same_compiler = built_by == compiler().unwrap();
        assert_eq!(program.check().is_err(), same_compiler, "only the compiler can tell");
        fs::write(program.object(), shipped).unwrap();
        fs::write(copy.join(HEADER), "#define XDP_PASS 3\n").unwrap();
        let error = program.check().unwrap_err().to_string();
        fs::remove_dir_all(&copy).unwrap();
        assert!(error.contains("cargo xtask bpf"), "{error}");
    }
}
