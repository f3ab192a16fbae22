//! The tests that found that they cannot run here.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// The file to which tests write `name<TAB>reason`; in a folder of its own that every user can reach.
pub(crate) struct SkipLog {
    folder: PathBuf,
    pub(crate) file: PathBuf,
}

impl SkipLog {
    pub(crate) fn create(pass: &str) -> Result<Self> {
        let folder =
            std::env::temp_dir().join(format!("bypass-skips-{}-{pass}", std::process::id()));
        let file = folder.join("skips");
        let make = || {
            fs::create_dir(&folder)?;
            fs::set_permissions(&folder, Permissions::from_mode(0o755))?;
            File::create_new(&file)?.set_permissions(Permissions::from_mode(0o666))
        };
        make().with_context(|| format!("cannot create {}", file.display()))?;
        Ok(Self { folder, file })
    }

    /// Takes out what was written since the last time: reasons by test. One that gives several
    /// counts once.
    pub(crate) fn take(&self) -> Result<BTreeMap<String, String>> {
        let text = fs::read_to_string(&self.file)?;
        File::options().write(true).truncate(true).open(&self.file)?;
        let entry = |line: &str| {
            let (name, reason) = line.split_once('\t').unwrap_or((line, "no reason given"));
            (name.to_owned(), reason.to_owned())
        };
        Ok(text.lines().map(entry).collect())
    }
}

impl Drop for SkipLog {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            println!("cannot remove {}: {error}", self.folder.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_log_is_writable_by_others_and_removed() {
        let log = SkipLog::create("unit").unwrap();
        assert_eq!(fs::metadata(&log.file).unwrap().permissions().mode() & 0o777, 0o666);
        fs::write(&log.file, "a::b\tno ping\na::b\tno ping\n").unwrap();
        let entry = ("a::b".to_owned(), "no ping".to_owned());
        assert_eq!(log.take().unwrap(), BTreeMap::from([entry]));
        assert_eq!(log.take().unwrap(), BTreeMap::new());
        let folder = log.folder.clone();
        drop(log);
        assert!(!folder.exists());
    }
}
