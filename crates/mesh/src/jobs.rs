//! Signature work that was ordered and has not been answered yet.

use std::collections::BTreeMap;

use peerchannel_wire::{ChannelName, Flood, Local, Member, UnsignedAside, UnsignedMember, Volatile};

use crate::input::{JobId, LinkId};

/// Most verifications in flight. What arrives beyond is dropped and repaired: a neighbor
/// cannot make this node queue more work than it does in about 0.2 s.
pub(crate) const VERIFY_JOBS_MAX: usize = 4096;

/// Most bytes of frames waiting for their verification. Default 32 MiB: half of retention.
pub(crate) const VERIFY_BYTES_MAX: usize = 32 << 20;

/// What to do with the answer.
#[derive(Debug)]
pub(crate) enum Job {
    SignBatch(ChannelName),
    SignLocal { message: UnsignedAside, hops: u32 },
    SignVolatile { message: UnsignedAside, remaining_ms: u32 },
    SignMember(UnsignedMember),
    VerifyBatch(Flood),
    VerifyLocal { from: LinkId, local: Local },
    VerifyVolatile { from: LinkId, volatile: Volatile },
    VerifyMember { from: LinkId, member: Member },
}

impl Job {
    const fn verifies(&self) -> bool {
        matches!(
            self,
            Self::VerifyBatch(_)
                | Self::VerifyLocal { .. }
                | Self::VerifyVolatile { .. }
                | Self::VerifyMember { .. }
        )
    }

    fn bytes(&self) -> usize {
        match self {
            Self::VerifyBatch(flood) => flood.batch.encoded().len(),
            Self::VerifyLocal { local, .. } => local.message.content().payload.len(),
            Self::VerifyVolatile { volatile, .. } => volatile.message.content().payload.len(),
            Self::VerifyMember { member, .. } => member.record.encoded_len(),
            Self::SignBatch(_) | Self::SignLocal { .. } | Self::SignVolatile { .. } | Self::SignMember(_) => {
                0
            }
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Jobs {
    next: u64,
    pending: BTreeMap<JobId, Box<Job>>,
    bytes: usize,
}

impl Jobs {
    /// Whether a verification of this many bytes fits.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.pending.len() < VERIFY_JOBS_MAX && self.bytes + bytes <= VERIFY_BYTES_MAX
    }

    pub(crate) fn add(&mut self, job: Job) -> JobId {
        let id = JobId(self.next);
        self.next += 1;
        self.bytes += job.bytes();
        self.pending.insert(id, Box::new(job));
        id
    }

    /// Whether an own message outside the reliable sequence waits for its signature.
    pub(crate) fn sign_asides(&self) -> bool {
        self.pending.values().any(|job| matches!(**job, Job::SignLocal { .. } | Job::SignVolatile { .. }))
    }

    /// Stops a debug build if more verifications wait than may.
    pub(crate) fn check(&self) {
        debug_assert!(self.bytes <= VERIFY_BYTES_MAX, "{} bytes to be verified", self.bytes);
        // Own signatures wait too: bounded by the channels and by what the application publishes.
        debug_assert!(
            self.pending.len() <= VERIFY_JOBS_MAX
                || self.pending.values().filter(|job| job.verifies()).count() <= VERIFY_JOBS_MAX,
            "{} jobs",
            self.pending.len()
        );
    }

    pub(crate) fn take(&mut self, id: JobId) -> Option<Job> {
        let job = self.pending.remove(&id)?;
        if self.pending.is_empty() {
            // An emptied map keeps a leaf: a quiet node has none.
            self.pending = BTreeMap::new();
        }
        self.bytes -= job.bytes();
        Some(*job)
    }
}
