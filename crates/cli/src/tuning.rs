//! The table `[tuning]` of the configuration file: numbers that hardly anyone needs.

use peerchannel::Config;
use serde::Deserialize;

/// Numbers of a mesh's configuration; what is not set keeps its default. They are explained
/// at the library's `MeshConfig` and `Config`, and checked there.
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
    /// Sets what is set.
    pub(crate) fn apply(&self, config: &mut Config) {
        let set = |field: &mut usize, value: Option<usize>| {
            if let Some(value) = value {
                *field = value;
            }
        };
        let mesh = &mut config.mesh;
        set(&mut mesh.max_message, self.max_message);
        set(&mut mesh.retention_bytes, self.retention_bytes);
        set(&mut mesh.hold_back_bytes, self.hold_back_bytes);
        set(&mut mesh.publish_window_bytes, self.publish_window_bytes);
        set(&mut mesh.held_alone_bytes, self.held_alone_bytes);
        set(&mut mesh.full_mesh_members_max, self.full_mesh_members_max);
        set(&mut mesh.members_max, self.members_max);
        set(&mut config.subscription_bytes, self.subscription_bytes);
        set(&mut config.subscription_items, self.subscription_items);
    }
}
