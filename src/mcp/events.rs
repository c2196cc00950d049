//! Parses a stream of server-sent events (HTML standard, section 9.2.6) as it arrives.

use std::time::Duration;

/// The longest event ID that is sent back to the server.
const MAX_ID: usize = 1024;
/// The longest wait that a server may ask for before the stream is opened again.
const MAX_RETRY: Duration = Duration::from_secs(600);

/// An event with data.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ServerEvent {
    /// Its type; empty for a message.
    pub(super) kind: String,
    /// The lines of its data.
    pub(super) data: Vec<u8>,
}

/// Where a stream goes on after it was interrupted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// The ID of the last event, if it has one.
    pub(super) last_id: Option<String>,
    /// How long the server asks to wait before the stream is opened again.
    pub(super) retry: Option<Duration>,
}

/// A stream as far as it has arrived.
#[derive(Default)]
pub(super) struct EventParser {
    line: Vec<u8>,
    /// Whether the last byte was a carriage return, which a line feed may follow.
    after_return: bool,
    /// Whether a first line was read: a byte order mark may precede it.
    has_begun: bool,
    data: Vec<u8>,
    has_data: bool,
    kind: String,
    id: Option<String>,
    /// Where the stream goes on: after the last complete event.
    pub(super) position: Position,
}

impl EventParser {
    /// Returns how many bytes of incomplete events are held.
    pub(super) fn held(&self) -> usize {
        self.line.len() + self.data.len()
    }

    /// Takes the next part of the stream; returns the events that it completes.
    pub(super) fn push(&mut self, part: &[u8]) -> Vec<ServerEvent> {
        let mut events = Vec::new();
        let mut rest = part;
        while let Some(first) = rest.first() {
            if std::mem::take(&mut self.after_return) && *first == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                self.line.extend_from_slice(rest);
                break;
            };
            self.line.extend_from_slice(&rest[..end]);
            self.after_return = rest[end] == b'\r';
            rest = &rest[end + 1..];
            let line = std::mem::take(&mut self.line);
            events.extend(self.end_of_line(&line));
        }
        events
    }

    /// Takes a complete line; returns the event that an empty one ends.
    fn end_of_line(&mut self, line: &[u8]) -> Option<ServerEvent> {
        let line = match std::mem::replace(&mut self.has_begun, true) {
            false => line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line),
            true => line,
        };
        if line.is_empty() {
            let (kind, data) = (std::mem::take(&mut self.kind), std::mem::take(&mut self.data));
            if let Some(id) = self.id.take() {
                self.position.last_id = Some(id).filter(|id| !id.is_empty());
            }
            let has_data = std::mem::take(&mut self.has_data) && !data.is_empty();
            return has_data.then_some(ServerEvent { kind, data });
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        let text = || std::str::from_utf8(value).ok();
        match &line[..colon] {
            b"data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
            }
            b"event" => self.kind = text().filter(|kind| kind.len() <= MAX_ID).unwrap_or("?").to_owned(),
            // It becomes the value of a header.
            b"id" if value.len() <= MAX_ID && value.iter().all(|byte| (0x20..0x7f).contains(byte)) => {
                self.id = text().map(str::to_owned);
            }
            b"retry" => {
                let milliseconds = text().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
                let wait = milliseconds.and_then(|text| text.parse().ok()).map(Duration::from_millis);
                self.position.retry = wait.map(|wait| wait.min(MAX_RETRY)).or(self.position.retry);
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses a stream in parts of each size; returns the data of its events and where it goes on.
    fn parse(stream: &[u8]) -> (Vec<String>, Position) {
        let in_parts = |size: usize| {
            let mut parser = EventParser::default();
            let events: Vec<ServerEvent> = stream.chunks(size).flat_map(|part| parser.push(part)).collect();
            (events, parser.position)
        };
        let (events, position) = in_parts(stream.len().max(1));
        for size in 1..stream.len() {
            assert_eq!(in_parts(size), (in_parts(stream.len()).0, position.clone()), "in parts of {size}");
        }
        let data =
            events.into_iter().map(|event| format!("{}{}", event.kind, String::from_utf8(event.data).expect("text")));
        (data.collect(), position)
    }

    #[test]
    fn events_end_with_an_empty_line_of_any_kind() {
        for stream in ["data: a\n\ndata:b\n\n", "data: a\r\n\r\ndata:b\r\n\r\n", "\u{feff}data: a\r\rdata:b\r\r"] {
            assert_eq!(parse(stream.as_bytes()).0, ["a", "b"], "{stream:?}");
        }
        assert_eq!(parse(b"data: {\ndata:  1}\n\n").0, ["{\n 1}"]);
        assert_eq!(
            parse(b": comment\nother: x\nevent: ping\ndata: a\n\ndata: b").0,
            ["pinga"],
            "the last is incomplete"
        );
        assert!(parse(b"data\n\nevent: x\n\n\n\n").0.is_empty());
    }

    #[test]
    fn position_is_after_the_last_complete_event() {
        let at = |stream: &str| {
            let position = parse(stream.as_bytes()).1;
            (position.last_id.unwrap_or_default(), position.retry.map_or(0, |wait| wait.as_millis()))
        };
        assert_eq!(at("id: 1\ndata:\nretry: 250\n\nid: 2\ndata: x\n"), ("1".into(), 250));
        assert_eq!(at("id: 1\n\ndata: x\n\n"), ("1".into(), 0), "an event without an ID keeps the last one");
        assert_eq!(at("id: 1\n\nid:\n\n"), (String::new(), 0));
        assert_eq!(at("id: a\u{0}b\n\nretry: -1\nretry: 1s\nretry:\n\n"), (String::new(), 0));
        assert_eq!(at("retry: 99999999999\n\n"), (String::new(), 600_000));
        assert_eq!(at(&format!("id: {}\n\n", "x".repeat(2000))), (String::new(), 0));
    }
}
