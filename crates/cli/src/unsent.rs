//! Why a direct message did not arrive, with what this node knows of its receiver.

use peerchannel::{DirectError, DirectFailure, MemberStatus, Mesh, NodeId};

use crate::json::direct_reason_word;

/// The word and the sentence for a direct message that failed.
pub(crate) async fn unsent(mesh: &Mesh, to: NodeId, error: &DirectError) -> (&'static str, String) {
    if to == mesh.node_id() {
        return ("oneself", "that is this node itself: direct messages are for other members".to_owned());
    }
    let members = mesh.members().await.unwrap_or_default();
    let known = members.iter().find(|member| member.node == to);
    explain(error, known.map(|member| (member.status, member.suspended)))
}

/// What became of the receiver explains why it was not reached, and nothing else.
fn explain(error: &DirectError, receiver: Option<(MemberStatus, bool)>) -> (&'static str, String) {
    let missed =
        matches!(error, DirectError::Failed(DirectFailure::Unreachable | DirectFailure::UnknownMember));
    let (word, text) = match receiver.filter(|_| missed) {
        Some((MemberStatus::Left, _)) => ("left_mesh", "the member has left the mesh"),
        Some((MemberStatus::Failed, _)) => {
            ("failed", "the member has failed and nobody reaches it: try again when it is back")
        }
        Some((MemberStatus::Alive, true)) => {
            ("suspended", "the member takes a break and has no links: try again when it is back")
        }
        _ => return (direct_reason_word(error), error.to_string()),
    };
    (word, text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_the_receiver_explains_why_it_was_not_reached() {
        let unreachable = DirectError::Failed(DirectFailure::Unreachable);
        let word = |status, suspended| explain(&unreachable, Some((status, suspended))).0;
        assert_eq!(word(MemberStatus::Alive, true), "suspended");
        assert_eq!(word(MemberStatus::Alive, false), "unreachable");
        assert_eq!(word(MemberStatus::Failed, true), "failed");
        assert_eq!(word(MemberStatus::Left, false), "left_mesh");
        assert_eq!(explain(&unreachable, None).0, "unreachable");
        // It may have arrived: what came after does not matter.
        let lost = DirectError::Failed(DirectFailure::Lost);
        assert_eq!(explain(&lost, Some((MemberStatus::Failed, false))).0, "lost");
    }
}
