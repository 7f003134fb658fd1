//! Writing a small file so that a crash leaves the old one or the new one, never a part.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// Room beyond the length of a file: below it the standard library would take a look at the
/// rest through a buffer of its own.
const READ_ROOM: usize = 64;

/// Replaces `path` with `content`, which is on the disk when this returns: write beside it,
/// fsync, rename, fsync the directory. One writer at a time (the caller holds the lock).
/// Readable by its owner only.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = beside(path, "tmp");
    // What a crash left there is of no use to anybody.
    remove_if_there(&temporary)?;
    write_new(&temporary, content)?;
    fs::rename(&temporary, path)?;
    sync_parent(path)
}

/// Creates `path` with `content`, which is on the disk when this returns. Never replaces a
/// file, and nobody ever sees a part of it. Readable by its owner only.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if there is one already, and it is untouched.
pub(crate) fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    // A random name: two processes may try at once, and neither may spoil the other's.
    let temporary = beside(path, &format!("tmp-{:016x}", rand::random::<u64>()));
    write_new(&temporary, content)?;
    // A hard link, unlike a rename, fails where there is a file already.
    let linked = match fs::hard_link(&temporary, path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // A file system without hard links: create the file itself. A crash in between
        // leaves an incomplete one, which the reader reports as such.
        Err(_) => write_new(path, content),
    };
    remove_if_there(&temporary)?;
    linked?;
    sync_parent(path)
}

/// The text of a file of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: usize) -> io::Result<String> {
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    let file = File::open(path)?;
    // Its whole length at once: growing would leave copies of a secret behind. The rest of the
    // room is for the read that finds the end.
    let length = file.metadata()?.len().min(limit);
    let mut text = String::with_capacity(usize::try_from(length).unwrap_or(0) + READ_ROOM);
    file.take(limit.saturating_add(1)).read_to_string(&mut text)?;
    if u64::try_from(text.len()).is_ok_and(|length| length > limit) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is far too long"));
    }
    Ok(text)
}

/// `path` with `.suffix` appended to its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if written.is_err() {
        drop(file);
        let _ = fs::remove_file(path);
    }
    written
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes a rename or a new name last. Windows has no such call: there, the metadata journal
/// of NTFS does it.
fn sync_parent(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn create_never_overwrites_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        create(&path, b"one").unwrap();
        assert_eq!(create(&path, b"two").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn replace_survives_what_a_crash_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(beside(&path, "tmp"), "half").unwrap();
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(read(&path, 100).unwrap(), "two");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_long_file_is_not_read_to_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), "12345");
        assert!(read(&path, 4).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_what_is_written() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        create(&path, b"x").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        replace(&path, b"y").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
