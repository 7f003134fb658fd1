//! The short words of the JSON lines, for scripts. docs/json.md says what each means.

use peerchannel::{
    DirectError, DirectFailure, DisconnectReason, GapReason, LinkLoss, MemberLoss, MemberStatus,
    NeighborLoss, PublishError, PublishRejection, Refusal,
};

/// A member's status in one word.
pub(crate) const fn status_word(status: MemberStatus) -> &'static str {
    match status {
        MemberStatus::Alive => "alive",
        MemberStatus::Left => "left",
        MemberStatus::Failed => "failed",
    }
}

/// Why a node was refused.
pub(super) fn refusal_word(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::BadCredential => "bad_credential",
        Refusal::UnknownMesh => "unknown_mesh",
        Refusal::Busy => "busy",
        Refusal::Version => "version",
        Refusal::Malformed => "malformed",
        Refusal::TimedOut => "timed_out",
        Refusal::WrongNode(_) => "wrong_node",
        Refusal::Oneself => "oneself",
        Refusal::NodeBusy => "node_busy",
        Refusal::DuplicateNeighbor => "duplicate_neighbor",
        Refusal::StaleEpoch => "stale_epoch",
        Refusal::LeavingMesh => "leaving_mesh",
        _ => "other",
    }
}

/// Why a neighbor is one no longer.
pub(super) fn neighbor_loss_word(loss: &NeighborLoss) -> &'static str {
    match loss {
        NeighborLoss::Disconnected(_) => "disconnected",
        NeighborLoss::Dropped(_) => "dropped",
        NeighborLoss::Lost(LinkLoss::TimedOut) => "timed_out",
        NeighborLoss::Lost(LinkLoss::Reset) => "reset",
        NeighborLoss::Lost(LinkLoss::BadFrame(_)) => "bad_frame",
        NeighborLoss::Lost(_) => "closed",
        #[allow(unreachable_patterns)] // For the day the library adds one.
        _ => "other",
    }
}

/// Why one of the two ended a link; `None` for one that was lost.
pub(super) const fn neighbor_loss_cause(loss: &NeighborLoss) -> Option<&'static str> {
    let (NeighborLoss::Disconnected(why) | NeighborLoss::Dropped(why)) = loss else { return None };
    Some(match why {
        DisconnectReason::LeavingMesh => "leaving",
        DisconnectReason::NotUsefulNeighbor => "not_needed",
        DisconnectReason::DuplicateNeighbor => "duplicate",
        DisconnectReason::NodeTooSlow => "too_slow",
        DisconnectReason::ProtocolViolation => "violation",
        DisconnectReason::Idle => "idle",
        DisconnectReason::Suspended => "suspended",
        #[allow(unreachable_patterns)] // For the day the library adds one.
        _ => "other",
    })
}

/// Why a member is gone.
pub(super) const fn member_loss_word(loss: MemberLoss) -> &'static str {
    match loss {
        MemberLoss::Left => "left",
        MemberLoss::Failed => "failed",
    }
}

/// Why messages will never come.
pub(super) const fn gap_word(reason: GapReason) -> &'static str {
    match reason {
        GapReason::Gone => "gone",
        GapReason::Filtered => "filtered",
        GapReason::TimedOut => "timed_out",
    }
}

/// The `error` of a publish that failed.
pub(crate) const fn publish_error_word(error: &PublishError) -> &'static str {
    match error {
        PublishError::Name(_) => "name",
        PublishError::Rejected(PublishRejection::TooLarge { .. }) | PublishError::DatagramTooLarge { .. } => {
            "too_large"
        }
        PublishError::Rejected(PublishRejection::HeldFull { .. }) => "held_full",
        PublishError::Left(_) => "left",
        _ => "publish",
    }
}

/// Why a publish failed.
pub(crate) const fn publish_reason_word(error: &PublishError) -> &'static str {
    match error {
        PublishError::Rejected(PublishRejection::Busy) => "busy",
        PublishError::Rejected(PublishRejection::KeyTooLong { .. }) => "key_too_long",
        PublishError::Rejected(PublishRejection::TooManyHops { .. }) => "too_many_hops",
        PublishError::Rejected(PublishRejection::TooManyChannels(_)) => "too_many_channels",
        PublishError::Rejected(PublishRejection::Leaving) => "leaving",
        error => publish_error_word(error),
    }
}

/// The `error` of a direct message that failed.
pub(crate) const fn direct_error_word(error: &DirectError) -> &'static str {
    match error {
        DirectError::Left(_) => "left",
        _ => "direct",
    }
}

/// Why a direct message failed.
pub(crate) const fn direct_reason_word(error: &DirectError) -> &'static str {
    match error {
        DirectError::Failed(DirectFailure::UnknownMember) => "unknown_member",
        DirectError::Failed(DirectFailure::Suspended) => "oneself_suspended",
        DirectError::Failed(DirectFailure::MemberSuspended) => "suspended",
        DirectError::Failed(DirectFailure::Unreachable) => "unreachable",
        DirectError::Failed(DirectFailure::Lost) => "lost",
        DirectError::Failed(DirectFailure::TooLarge { .. }) => "too_large",
        DirectError::Failed(DirectFailure::TooMany(_)) => "too_many",
        DirectError::Failed(DirectFailure::Leaving) => "leaving",
        error => direct_error_word(error),
    }
}
