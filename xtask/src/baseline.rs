//! The compatibility baseline: a protocol that is out there may grow, not change.
//!
//! `proto/baseline.binpb` is the descriptor set of the protocol nodes already speak. What it
//! holds must stay: a field keeps its number, name, type and oneof, an enum value its number.
//! Additions pass. `cargo xtask codegen --accept-breaking` makes the present protocol the
//! baseline: at a release (to take the additions in), or when a break is meant.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use protox::prost_reflect::{Cardinality, DescriptorPool, FieldDescriptor, Kind};

/// What must not change, by what identifies it on the wire:
/// (message or enum, number) -> how the bytes there are read.
type Shape = BTreeMap<(String, i64), String>;

/// Fails if `proto/` no longer reads what the baseline's nodes write.
pub(crate) fn check(proto: &Path, sources: &[PathBuf]) -> Result<(), String> {
    let path = path(proto);
    let bytes = fs::read(&path).map_err(|e| {
        format!("{}: {e}: write it with `cargo xtask codegen --accept-breaking`", path.display())
    })?;
    let old = DescriptorPool::decode(bytes.as_slice()).map_err(|e| format!("{}: {e}", path.display()))?;
    let broken = breaks(&shape(&old), &shape(&compile(proto, sources)?));
    if broken.is_empty() {
        return Ok(());
    }
    Err(format!(
        "proto/ breaks the protocol of proto/baseline.binpb:\n  {}\nGive new fields new numbers and leave the old \
         ones, or, if the break is meant, run `cargo xtask codegen --accept-breaking` and say so in CHANGELOG.md.",
        broken.join("\n  ")
    ))
}

/// Makes `proto/` the baseline.
pub(crate) fn write(proto: &Path, sources: &[PathBuf]) -> Result<(), String> {
    let path = path(proto);
    let new = compile(proto, sources)?;
    if let Some(old) = fs::read(&path).ok().and_then(|bytes| DescriptorPool::decode(bytes.as_slice()).ok()) {
        for line in breaks(&shape(&old), &shape(&new)) {
            println!("accepted: {line}");
        }
    }
    fs::write(&path, new.encode_to_vec()).map_err(|e| format!("{}: {e}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}

fn path(proto: &Path) -> PathBuf {
    proto.join("baseline.binpb")
}

fn compile(proto: &Path, sources: &[PathBuf]) -> Result<DescriptorPool, String> {
    let mut compiler = protox::Compiler::new([proto]).map_err(|e| format!("proto: {e}"))?;
    compiler.open_files(sources).map_err(|e| format!("proto: {e}"))?;
    Ok(compiler.descriptor_pool())
}

/// Everything of the protocol that another node relies on.
fn shape(pool: &DescriptorPool) -> Shape {
    let mut shape = Shape::new();
    for message in pool.all_messages() {
        for field in message.fields() {
            let key = (format!("message {}", message.full_name()), i64::from(field.number()));
            shape.insert(key, field_shape(&field));
        }
    }
    for enumeration in pool.all_enums() {
        for value in enumeration.values() {
            let key = (format!("enum {}", enumeration.full_name()), i64::from(value.number()));
            shape.insert(key, value.name().to_owned());
        }
    }
    shape
}

fn field_shape(field: &FieldDescriptor) -> String {
    let list = if field.cardinality() == Cardinality::Repeated { "repeated " } else { "" };
    let kind = match field.kind() {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(enumeration) => enumeration.full_name().to_owned(),
        scalar => format!("{scalar:?}"),
    };
    let oneof = field.containing_oneof().map(|o| format!(" in oneof {}", o.name())).unwrap_or_default();
    format!("{list}{kind} {}{oneof}", field.name())
}

/// What the old protocol has and the new one has not, one sentence each.
fn breaks(old: &Shape, new: &Shape) -> Vec<String> {
    let mut broken = Vec::new();
    for (key, was) in old {
        let (owner, number) = key;
        match new.get(key) {
            Some(is) if is == was => {}
            Some(is) => broken.push(format!("{owner}: number {number} was `{was}` and is now `{is}`")),
            None => broken.push(format!("{owner}: number {number}, `{was}`, is gone")),
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn shape_of(body: &str) -> Shape {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder =
            std::env::temp_dir().join(format!("peerchannel-baseline-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("t.proto");
        fs::write(&file, format!("syntax = \"proto3\";\npackage t;\n{body}")).unwrap();
        let shape = shape(&compile(&folder, &[file]).unwrap());
        fs::remove_dir_all(&folder).unwrap();
        shape
    }

    const OLD: &str = "message M { uint32 a = 1; repeated bytes b = 2; oneof k { string c = 3; } }
                       enum E { E_ZERO = 0; E_ONE = 1; }";

    #[test]
    fn an_addition_breaks_nothing() {
        let new = OLD
            .replace("uint32 a = 1;", "uint32 a = 1; uint64 d = 4;")
            .replace("E_ONE = 1;", "E_ONE = 1; E_TWO = 2;");
        assert_eq!(breaks(&shape_of(OLD), &shape_of(&new)), Vec::<String>::new());
    }

    #[test]
    fn every_kind_of_break_is_seen() {
        let cases = [
            ("uint32 a = 1;", "", "number 1, `uint32 a`, is gone"),
            ("uint32 a = 1;", "uint32 a = 5;", "number 1, `uint32 a`, is gone"),
            ("uint32 a = 1;", "uint64 a = 1;", "number 1 was `uint32 a` and is now `uint64 a`"),
            ("uint32 a = 1;", "uint32 z = 1;", "is now `uint32 z`"),
            ("repeated bytes b", "bytes b", "was `repeated bytes b`"),
            ("oneof k { string c = 3; }", "string c = 3;", "was `string c in oneof k`"),
            ("E_ONE = 1;", "E_ONE = 2;", "enum t.E: number 1, `E_ONE`, is gone"),
            ("message M", "message N", "message t.M: number 1"),
        ];
        for (from, to, says) in cases {
            let broken = breaks(&shape_of(OLD), &shape_of(&OLD.replace(from, to))).join("\n");
            assert!(broken.contains(says), "{from} -> {to}: {broken}");
        }
    }
}
