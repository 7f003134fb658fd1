//! Connection ids of five bytes: each packet that we are sent begins with one.
//!
//! An idle mesh sends little but the smallest packets, about four a second and node. quinn's own
//! ids of this kind have eight bytes.

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};

/// Bytes by which the connections of one endpoint differ: 16 million ids, four or five of which
/// belong to each of at most 1024 connections. A number that is in use is drawn again.
const NUMBER: usize = 3;

/// Bytes by which we know an id as ours: one foreign packet of 65,536 is taken for one of a former
/// life and answered with a stateless reset.
const CHECK: usize = 2;

/// Makes ids that the same identity recognises after a restart.
pub(crate) struct ConnectionIds {
    key: [u8; 32],
}

impl ConnectionIds {
    pub(crate) const fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    fn with_number(&self, number: [u8; NUMBER]) -> ConnectionId {
        let hash = blake3::keyed_hash(&self.key, &number);
        let mut id = [0; NUMBER + CHECK];
        for (to, from) in id.iter_mut().zip(number.iter().chain(hash.as_bytes())) {
            *to = *from;
        }
        ConnectionId::new(&id)
    }
}

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        self.with_number(rand::random())
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        let number = id.first_chunk::<NUMBER>().ok_or(InvalidCid)?;
        if self.with_number(*number) == *id { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        NUMBER + CHECK
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_recognises_its_own_ids_and_no_others() {
        let (mut ours, mut theirs) = (ConnectionIds::new([1; 32]), ConnectionIds::new([2; 32]));
        // Two of 65,536 are alike by chance: of a hundred hardly one.
        let known = (0..100).filter(|_| ours.validate(&theirs.generate_cid()).is_ok()).count();
        assert!(known <= 2, "{known} foreign ids");
        for _ in 0..100 {
            let id = ours.generate_cid();
            assert_eq!(id.len(), ours.cid_len());
            assert!(ConnectionIds::new([1; 32]).validate(&id).is_ok(), "after a restart too");
        }
    }

    #[test]
    fn an_id_of_another_length_is_not_ours() {
        let mut ours = ConnectionIds::new([1; 32]);
        let id = ours.generate_cid();
        for other in [&id[..0], &id[..2], &id[..4], &[&id[..], &[0; 3]].concat()[..]] {
            assert!(ours.validate(&ConnectionId::new(other)).is_err(), "{other:?}");
        }
    }
}
