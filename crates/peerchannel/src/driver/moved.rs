//! What a driver does when the machine slept or its network changed: it gathers the facts.
//!
//! Connections that this node dialed follow by themselves: the next packet leaves from the new
//! address, and QUIC moves the connection there (RFC 9000 section 9). Those that others dialed
//! cannot follow, since only a client may migrate; they are closed as soon as their address is
//! gone instead of being waited for.

use std::time::Duration;

use peerchannel_mesh::Input;

use super::Driver;
use crate::addresses;
use crate::events::MeshEvent;

impl Driver {
    /// The driver did not run for a while.
    pub(super) fn resumed(&mut self, paused: Duration) {
        if self.leaving.is_some() {
            return;
        }
        tracing::info!(?paused, mesh = %self.facts.mesh_name, "resumed after a pause");
        self.registry.event(MeshEvent::Paused { lasted: paused });
        self.look_around();
        self.feed(Input::Resumed { paused });
    }

    /// An address of the machine came or went.
    pub(super) fn network_changed(&mut self) {
        if self.leaving.is_some() {
            return;
        }
        tracing::info!(mesh = %self.facts.mesh_name, "the network changed");
        self.look_around();
        self.registry.event(MeshEvent::NetworkChanged { addresses: self.addresses.clone() });
        self.feed(Input::NetworkChanged);
    }

    /// Finds out where this node is now, and tells everybody who should know.
    fn look_around(&mut self) {
        let state = self.node.state().clone();
        let addresses = addresses::advertised(&state.advertise, state.local_address);
        if let Some(announced) = &self.announced {
            announced.send_modify(|announcement| {
                announcement.addresses.clone_from(&addresses);
                announcement.wakes += 1;
            });
        }
        if state.owns_port && state.local_address.ip().is_unspecified() {
            self.links.close_stranded(&addresses::of_machine());
        }
        if addresses != self.addresses {
            tracing::info!(?addresses, "the addresses of this node changed");
            self.addresses.clone_from(&addresses);
            self.feed(Input::AddressesChanged(addresses));
        }
    }
}
