//! Publishing for `node --json`: in the order of the commands, waiting where the mesh waits.

use peerchannel::{Channel, Mesh, PublishError};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::command::{Publish, PublishLane};
use crate::json::{Line, publish_error_word, publish_reason_word};
use crate::output::Lines;

/// Messages that may wait to be published: few, since each may be as large as a message.
const ORDERS_MAX: usize = 16;

/// A message to publish, and how to call it in the answer.
#[derive(Debug)]
pub(super) struct PublishOrder {
    pub(super) message: Publish,
    pub(super) reference: Option<Value>,
}

/// Starts the publishing task. It ends with the sender.
pub(super) fn start(mesh: Mesh, lines: Lines) -> (mpsc::Sender<PublishOrder>, JoinHandle<()>) {
    let (sender, mut orders) = mpsc::channel::<PublishOrder>(ORDERS_MAX);
    let task = tokio::spawn(async move {
        while let Some(PublishOrder { message, reference }) = orders.recv().await {
            let channel = mesh.channel(&message.channel);
            let reliable = message.lane == PublishLane::Reliable;
            let lane = lane_word(&message.lane);
            let line = match publish(&channel, message).await {
                Ok((channel, epoch, seq)) => {
                    // The library numbers from 1; a reliable message that its filter kept has no number.
                    let filtered = seq == 0;
                    let held = reliable && !filtered && !mesh.is_online();
                    Line::Published { reference, channel, epoch, seq, lane, held, filtered }
                }
                Err(error) => {
                    let (word, reason) = (publish_error_word(&error), publish_reason_word(&error));
                    Line::error_because(reference, word, reason, &error)
                }
            };
            if lines.line(line.text()).await.is_err() {
                return;
            }
        }
    });
    (sender, task)
}

async fn publish(channel: &Channel, message: Publish) -> Result<(String, u64, u64), PublishError> {
    let Publish { channel: name, payload, lane } = message;
    let (epoch, sequence) = match lane {
        PublishLane::Reliable => {
            let published = channel.publish(payload).await?;
            (published.epoch, published.sequence)
        }
        PublishLane::Local { hops } => {
            let sent = channel.publish_within(hops, payload).await?;
            (sent.epoch, sent.sequence)
        }
        PublishLane::Volatile { key } => {
            let sent = channel.publish_volatile(key, payload).await?;
            (sent.epoch, sent.sequence)
        }
    };
    Ok((name, epoch.get(), sequence.get()))
}

/// The lane as `message` names it.
fn lane_word(lane: &PublishLane) -> &'static str {
    match lane {
        PublishLane::Reliable => "reliable",
        PublishLane::Local { .. } => "local",
        PublishLane::Volatile { .. } => "volatile",
    }
}
