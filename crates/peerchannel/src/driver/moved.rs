//! What a driver does when the machine slept or its network changed: it gathers the facts.
//!
//! Connections that this node dialed follow by themselves: the next packet leaves from the new
//! address, and QUIC moves the connection there (RFC 9000 section 9). Those that others dialed
//! cannot follow, since only a client may migrate; they are closed as soon as there is another
//! address instead of being waited for. As long as there is none, nothing is: the old one may
//! come back, and nobody is told that this node is at an address where nobody finds it.

use std::net::SocketAddr;
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
        let found = self.look_around();
        self.announce(found.as_deref());
        self.feed(Input::Resumed { paused });
    }

    /// The machine has other addresses, or has had none for a while.
    pub(super) fn network_changed(&mut self) {
        if self.leaving.is_some() {
            return;
        }
        tracing::info!(mesh = %self.facts.mesh_name, "the network changed");
        let addresses = self.look_around().unwrap_or_default();
        self.announce(Some(&addresses));
        self.registry.event(MeshEvent::NetworkChanged { addresses });
        let (address, owns_port) = {
            let state = self.node.state();
            (state.local_address, state.owns_port)
        };
        if owns_port && addresses::is_lost(address, &addresses::of_machine()) {
            tracing::warn!(%address, mesh = %self.facts.mesh_name, "the address this node listens at is gone");
            self.registry.event(MeshEvent::ListenAddressLost { address });
        }
        self.feed(Input::NetworkChanged);
    }

    /// Finds out where this node is now, and tells the mesh. `None`: nowhere that others could
    /// dial, so everything stays as it was.
    fn look_around(&mut self) -> Option<Vec<SocketAddr>> {
        let state = self.node.state().clone();
        let found = addresses::advertised(&state.advertise, state.local_address);
        let addresses = addresses::moved(&self.addresses, found)?;
        if state.owns_port && state.local_address.ip().is_unspecified() {
            self.links.close_stranded(&addresses::of_machine());
        }
        if addresses != self.addresses {
            tracing::info!(?addresses, "the addresses of this node changed");
            self.addresses.clone_from(&addresses);
            self.feed(Input::AddressesChanged(addresses.clone()));
        }
        Some(addresses)
    }

    /// Tells the resolvers to look after their registrations, of other addresses if there are.
    fn announce(&self, addresses: Option<&[SocketAddr]>) {
        let Some(announced) = &self.announced else { return };
        announced.send_modify(|announcement| {
            if let Some(addresses) = addresses {
                announcement.addresses = addresses.to_vec();
            }
            announcement.wakes += 1;
        });
    }
}
