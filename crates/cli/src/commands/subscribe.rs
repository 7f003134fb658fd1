//! `subscribe`: messages on stdout as they come.

use std::time::Duration;

use peerchannel::{Incoming, Subscription};

use crate::args::{Settings, SubscribeArgs};
use crate::failure::Failure;
use crate::json::Line;
use crate::output::{Closed, Lines};
use crate::printable::printable;
use crate::session;
use crate::signals::Stop;
use crate::watch::watch;

/// Prints until the count, the time or a signal ends it.
pub(super) async fn run(args: SubscribeArgs, settings: &Settings, mut stop: Stop) -> Result<(), Failure> {
    let channel = match args.channel.as_str() {
        "*" => None,
        name => Some(session::channel_name(name)?),
    };
    let Some(mesh) = session::join(&args.mesh, args.options, settings, &mut stop).await? else {
        return Ok(());
    };
    let subscription = match &channel {
        Some(channel) => mesh.channel(channel.as_str()).subscribe(),
        None => mesh.subscribe_all(),
    };
    let (lines, written) = Lines::stdout();
    let mut printer = Printer { lines: lines.clone(), json: args.json, all: channel.is_none(), printed: 0 };
    let (mut timed_out, mut refused) = (false, None);
    let read = tokio::select! {
        read = printer.print(subscription, args.count) => read,
        () = after(args.timeout) => {
            timed_out = true;
            Ok(())
        }
        () = stop.requested() => Ok(()),
        failure = watch(&mesh, mesh.events()) => {
            refused = Some(failure);
            Ok(())
        }
        () = lines.closed() => Err(Closed),
    };
    let printed = printer.printed;
    drop((lines, printer));
    session::leave(&mesh).await;
    written.wait().await;
    if let Some(failure) = refused {
        return Err(failure);
    }
    match (args.count, read) {
        // As `head` does it: the reader has enough.
        (_, Err(Closed)) => Ok(()),
        (Some(count), Ok(())) if timed_out && printed < count => Err(Failure::runtime(format!(
            "{printed} of {count} messages came within {:?}",
            args.timeout.unwrap_or_default()
        ))),
        _ => Ok(()),
    }
}

async fn after(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

struct Printer {
    lines: Lines,
    json: bool,
    all: bool,
    printed: u64,
}

impl Printer {
    async fn print(&mut self, mut subscription: Subscription, count: Option<u64>) -> Result<(), Closed> {
        while let Some(incoming) = subscription.next().await {
            let is_message = matches!(incoming, Incoming::Message(_));
            let text = self.text(incoming);
            self.lines.line(text).await?;
            self.printed += u64::from(is_message);
            if count.is_some_and(|count| self.printed >= count) {
                break;
            }
        }
        Ok(())
    }

    fn text(&self, incoming: Incoming) -> String {
        if self.json {
            return Line::from_incoming(incoming).text();
        }
        match &incoming {
            Incoming::Message(message) if self.all => {
                format!("[{}] {message}", printable(message.channel.as_str()))
            }
            _ => incoming.to_string(),
        }
    }
}
