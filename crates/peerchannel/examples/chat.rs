//! A serverless chat: run it in two terminals, or on two machines of one network.

use peerchannel::{Mesh, Result};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

#[tokio::main]
async fn main() -> Result<()> {
    let mesh = Mesh::join("kitchen").password("violet anchor tundra pickle orbit lamp").name("ann").await?;
    let chat = mesh.channel("chat");
    let mut inbox = chat.subscribe();
    let mut lines = BufReader::new(stdin()).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => match line {
                Ok(Some(line)) => drop(chat.publish(line).await?),
                _ => break, // the end of the input
            },
            Some(event) = inbox.next() => println!("{event}"),
        }
    }
    mesh.leave().await; // says goodbye
    Ok(())
}
