//! Keeps a panic of the application's propagation filter from ending the mesh.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use peerchannel_mesh::{Filter, FilterView, Verdict};

/// A filter whose panics are counted and mean [`Verdict::None`]: a message that could not be
/// judged goes nowhere.
pub(crate) struct Guarded {
    filter: Box<dyn Filter>,
    panics: Arc<AtomicU64>,
}

impl Guarded {
    pub(crate) fn boxed(filter: Box<dyn Filter>, panics: &Arc<AtomicU64>) -> Box<dyn Filter> {
        Box::new(Self { filter, panics: panics.clone() })
    }
}

impl Filter for Guarded {
    fn judge(&mut self, message: &FilterView<'_>) -> Verdict {
        // The filter may be left in an odd state of its own; ours is not touched by it.
        let judged = catch_unwind(AssertUnwindSafe(|| self.filter.judge(message)));
        judged.unwrap_or_else(|_panic| {
            self.panics.fetch_add(1, Ordering::Relaxed);
            Verdict::None
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use peerchannel_mesh::Origination;
    use peerchannel_wire::{ChannelName, NodeId};

    use super::*;

    #[test]
    fn a_panic_counts_and_the_filter_is_asked_again() {
        let panics = Arc::new(AtomicU64::new(0));
        let judge = |view: &FilterView<'_>| {
            assert_ne!(&view.payload[..], b"bad", "the filter's own bug");
            Verdict::Local
        };
        let mut guarded = Guarded::boxed(Box::new(judge), &panics);
        let mut verdict = |text: &'static [u8]| {
            guarded.judge(&FilterView {
                channel: &ChannelName::new("c").unwrap(),
                origin: NodeId::from_bytes([1; 32]),
                payload: &Bytes::from_static(text),
                origination: Origination::Remote,
            })
        };
        assert_eq!(verdict(b"bad"), Verdict::None);
        assert_eq!(verdict(b"good"), Verdict::Local);
        assert_eq!(panics.load(Ordering::Relaxed), 1);
    }
}
