//! What a node counts.

/// Counters since the node was made, and a few present sizes. All of one mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Neighbors now.
    pub neighbors: u64,
    /// Members known to take part now, this node included.
    pub members: u64,
    /// Messages of others delivered to the application.
    pub delivered: u64,
    /// Messages received again.
    pub duplicates: u64,
    /// Messages passed on, once per link.
    pub forwarded: u64,
    /// Own messages accepted.
    pub published: u64,
    /// Payload bytes of messages received for the first time.
    pub payload_bytes_in: u64,
    /// Messages that arrived by pull.
    pub repairs: u64,
    /// Messages served by pull.
    pub served: u64,
    /// Messages reported as gaps.
    pub gaps: u64,
    /// Bytes in retention now.
    pub retained_bytes: u64,
    /// Bytes of messages waiting for an earlier one now.
    pub held_back_bytes: u64,
    /// Streams known now.
    pub streams: u64,
    /// Batches or messages with a bad signature.
    pub bad_signatures: u64,
    /// Frames that broke the protocol; each closed its link.
    pub violations: u64,
    /// Things not kept because a limit was reached.
    pub overloads: u64,
    /// Frames refused by a full queue.
    pub queue_full: u64,
    /// Links to neighbors that this node dialed and that came up.
    pub links_made: u64,
    /// Dials of a node that had no neighbor for a while.
    pub isolated_retries: u64,
    /// Neighbors refused because there was no room.
    pub refused_full: u64,
    /// Neighbors refused so that far links of this node's own choice have room.
    pub refused_by_quota: u64,
    /// Neighbors refused that only looked for a nearer one.
    pub refused_trials: u64,
    /// Neighbors dropped for a node that had none at all.
    pub evicted_for_urgent: u64,
    /// Neighbors dropped because there were more than wanted and both ends could do without.
    pub pruned: u64,
    /// Near neighbors replaced by nearer ones.
    pub swaps: u64,
    /// Attempts to find a nearer neighbor that found none.
    pub swaps_failed: u64,
    /// Far neighbors taken in place of others.
    pub rotations: u64,
    /// Shuffles this node began.
    pub shuffles_sent: u64,
    /// Shuffles that came by.
    pub shuffles_received: u64,
    /// Members this node reported as failed.
    pub members_failed: u64,
    /// Suspects that another member had a link to.
    pub suspects_vouched: u64,
    /// Suspects that spoke for themselves.
    pub suspects_refuted: u64,
    /// Reports of its own failure that this node refuted.
    pub refutations: u64,
    /// Comparisons of member tables that found a difference.
    pub members_merged: u64,
    /// Members called failed by a neighbor that were asked whether they are.
    pub members_doubted: u64,
    /// Frames of neighbors that came over links for direct messages, and were ignored.
    pub direct_ignored: u64,
    /// Times this node found itself late or unanswered, and became more patient.
    pub health_raised: u64,
    /// Pauses of this node that it noticed, and breaks that it ended.
    pub resumes: u64,
    /// Links given up because the neighbor did not answer after a pause.
    pub links_unconfirmed: u64,
    /// Times a split was suspected.
    pub splits_suspected: u64,
    /// Members of the past that were dialed.
    pub reservoir_probes: u64,
    /// Those of them that became neighbors.
    pub reservoir_merges: u64,
    /// Members checked to which there was no link.
    pub audits: u64,
    /// Those of them that did not answer.
    pub audits_failed: u64,
}
