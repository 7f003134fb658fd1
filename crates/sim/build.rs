//! Names the code that decides what happens in a run, so that what an earlier build found is
//! neither repeated nor taken for what this one would find.
//!
//! The name is a hash of the sources of the simulator, of the core and of the wire format, of the
//! locked dependencies, and of the build profile. What only reads, judges and shows runs has no part
//! in it.

use std::fs;
use std::path::{Path, PathBuf};

/// Parts of this crate that have no influence on a run.
const NO_PART: [&str; 6] = ["bin", "plot", "report", "scenario", "suite", "lib.rs"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let own = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let mut files = Vec::new();
    // In a packed crate the others are not there: their versions are in the lock file then.
    for folder in [own.join("src"), own.join("../mesh/src"), own.join("../wire/src")] {
        println!("cargo::rerun-if-changed={}", folder.display());
        list(&folder, &mut files)?;
    }
    let lock = own.join("../../Cargo.lock");
    println!("cargo::rerun-if-changed={}", lock.display());
    files.push(lock);
    files.retain(|file| !NO_PART.iter().any(|part| file.starts_with(own.join("src").join(part))));
    files.sort();
    let mut hash = Fnv::default();
    for file in files {
        hash.add(file.strip_prefix(&own)?.to_string_lossy().as_bytes());
        hash.add(&fs::read(&file).unwrap_or_default());
    }
    println!("cargo::rustc-env=PEERCHANNEL_SIM_CODE={:016x}-{}", hash.0, std::env::var("PROFILE")?);
    Ok(())
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { list(&path, files)? } else { files.push(path) }
    }
    Ok(())
}

/// FNV-1a: enough to notice an edit, and no dependency of every build.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
