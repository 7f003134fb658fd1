//! Lines of stdin, from a thread of their own: bounded in number and length.
//!
//! A thread, because reading stdin cannot be interrupted: the process ends without it.

use std::io::{self, BufRead};

use tokio::sync::mpsc;

/// Lines that may wait to be taken: few, since a line may be long.
const LINES_MAX: usize = 8;

/// A line of stdin without its line end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum InputLine {
    /// The line.
    Bytes(Vec<u8>),
    /// It was longer than the limit and left out.
    TooLong,
    /// Stdin cannot be read.
    Failed(String),
}

/// Starts to read lines of stdin of at most `max` bytes. The receiver ends with stdin.
pub(crate) fn lines(max: usize) -> mpsc::Receiver<InputLine> {
    let (sender, receiver) = mpsc::channel(LINES_MAX);
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        loop {
            let line = match read_line(&mut stdin, max) {
                Ok(Some(line)) => line,
                Ok(None) => return,
                Err(error) => {
                    let _ = sender.blocking_send(InputLine::Failed(error.to_string()));
                    return;
                }
            };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The next line; `None` at the end. Never holds more than `max` bytes.
fn read_line(source: &mut impl BufRead, max: usize) -> io::Result<Option<InputLine>> {
    let (mut line, mut too_long, mut any) = (Vec::new(), false, false);
    loop {
        let chunk = match source.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            chunk => chunk?,
        };
        if chunk.is_empty() {
            break;
        }
        any = true;
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        too_long |= line.len() + part.len() > max;
        if !too_long {
            line.extend_from_slice(part);
        }
        let used = end.map_or(chunk.len(), |end| end + 1);
        source.consume(used);
        if end.is_some() {
            break;
        }
    }
    if !any {
        return Ok(None);
    }
    if too_long {
        return Ok(Some(InputLine::TooLong));
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(InputLine::Bytes(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_and_bounded() {
        let text = b"one\r\n\ntoolong\nlast";
        let mut source = io::BufReader::with_capacity(2, &text[..]);
        let mut next = || read_line(&mut source, 4).unwrap();
        assert_eq!(next(), Some(InputLine::Bytes(b"one".to_vec())));
        assert_eq!(next(), Some(InputLine::Bytes(Vec::new())));
        assert_eq!(next(), Some(InputLine::TooLong));
        assert_eq!(next(), Some(InputLine::Bytes(b"last".to_vec())));
        assert_eq!(next(), None);
    }
}
