//! Folders that are there whole or not at all.

use std::path::Path;

use crate::error::Failure;

/// Makes `out` of what `write` puts into a folder aside.
pub(super) fn whole(out: &Path, write: impl FnOnce(&Path) -> Result<(), Failure>) -> Result<(), Failure> {
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let io = |error| Failure::io(out, &error);
    std::fs::create_dir_all(parent).map_err(io)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".unlearn-tmp-");
    // The rights that the umask leaves, as any other folder has, and not those of a private scratch folder.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    let aside = builder.tempdir_in(parent).map_err(io)?;
    write(aside.path())?;
    std::fs::rename(aside.path(), out).map_err(io)?;
    // Nothing is left under the temporary name to be removed.
    let _ = aside.keep();
    Ok(())
}
