//! The table `[tuning]` of the configuration file: numbers that hardly anyone needs.

use peerchannel::Config;
use serde::Deserialize;

/// Numbers of a mesh's configuration; what is not set keeps its default, or as much of it as
/// the numbers that are set leave room for. They are explained at the library's `MeshConfig`
/// and `Config` and in this command's README, and checked by the library.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tuning {
    /// Largest message in bytes.
    pub(crate) max_message: Option<usize>,
    retention_bytes: Option<usize>,
    hold_back_bytes: Option<usize>,
    publish_window_bytes: Option<usize>,
    held_alone_bytes: Option<usize>,
    full_mesh_members_max: Option<usize>,
    members_max: Option<usize>,
    subscription_bytes: Option<usize>,
    subscription_items: Option<usize>,
}

impl Tuning {
    /// Sets what is set, and lowers defaults that do not fit beside it. What was set is never
    /// changed: where two such numbers quarrel, the library says which.
    pub(crate) fn apply(&self, config: &mut Config) {
        let set = |field: &mut usize, value: Option<usize>| {
            if let Some(value) = value {
                *field = value;
            }
        };
        // A bound that comes from numbers which were set, if any was.
        let fit = |field: &mut usize, value: Option<usize>, bound: Option<usize>| match (value, bound) {
            (Some(value), _) => *field = value,
            (None, Some(bound)) => *field = (*field).min(bound),
            (None, None) => {}
        };
        let mesh = &mut config.mesh;
        set(&mut mesh.retention_bytes, self.retention_bytes);
        let half = self.retention_bytes.map(|bytes| bytes / 2);
        fit(&mut mesh.publish_window_bytes, self.publish_window_bytes, half);
        fit(&mut mesh.held_alone_bytes, self.held_alone_bytes, half);
        set(&mut mesh.hold_back_bytes, self.hold_back_bytes);
        // The largest message must fit into each of them, and retention hold four.
        let largest = [
            self.retention_bytes.map(|bytes| bytes / 4),
            self.publish_window_bytes,
            self.held_alone_bytes,
            self.hold_back_bytes,
        ];
        fit(&mut mesh.max_message, self.max_message, largest.into_iter().flatten().min());
        set(&mut mesh.full_mesh_members_max, self.full_mesh_members_max);
        set(&mut mesh.members_max, self.members_max);
        set(&mut config.subscription_bytes, self.subscription_bytes);
        set(&mut config.subscription_items, self.subscription_items);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(text: &str) -> Config {
        let mut config = Config::default();
        toml::from_str::<Tuning>(text).unwrap().apply(&mut config);
        config
    }

    #[test]
    fn what_was_not_set_makes_room_for_what_was() {
        for text in ["retention_bytes = 100000", "hold_back_bytes = 1000", "held_alone_bytes = 500"] {
            assert_eq!(applied(text).validate(), Ok(()), "{text}");
        }
        let mesh = applied("retention_bytes = 100000").mesh;
        assert_eq!(
            (mesh.max_message, mesh.publish_window_bytes, mesh.held_alone_bytes),
            (25_000, 50_000, 50_000)
        );
        assert_eq!(applied(""), Config::default());
        assert_eq!(
            applied("retention_bytes = 1000000000").mesh.max_message,
            Config::default().mesh.max_message
        );
    }

    #[test]
    fn what_was_set_is_never_changed() {
        let check = |text: &str, part: &str| {
            let error = applied(text).validate().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        };
        check("retention_bytes = 100000\nmax_message = 30000", "max_message is 30000");
        check("max_message = 2000\nheld_alone_bytes = 1000", "held_alone_bytes is 1000");
        check("retention_bytes = 1000", "retention_bytes is 1000, it must be 65536 to");
    }

    /// The keys of the table, as the parser lists them.
    fn keys() -> Vec<String> {
        let error = toml::from_str::<Tuning>("no_such_key = 1").unwrap_err().message().to_owned();
        error.split('`').skip(3).step_by(2).map(ToOwned::to_owned).collect()
    }

    #[test]
    fn the_readme_explains_every_key_with_its_default() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        let readme = std::fs::read_to_string(path).unwrap();
        let rows: Vec<Vec<&str>> = readme
            .lines()
            .filter(|line| line.starts_with("| `") && line.contains("_"))
            .map(|line| line.split('|').map(str::trim).collect())
            .collect();
        assert_eq!(keys().len(), 9);
        for key in keys() {
            let row = rows.iter().find(|row| row[1] == format!("`{key}`")).unwrap_or_else(|| {
                panic!("{key} is missing in README.md");
            });
            // Setting the written default changes nothing.
            let default = row[3].split(' ').next().unwrap();
            assert_eq!(applied(&format!("{key} = {default}")), Config::default(), "{row:?}");
        }
    }
}
