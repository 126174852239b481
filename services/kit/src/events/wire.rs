//! How an event looks in a stream: the fields `id`, `type`, `time`, `data` and, if it was traced, `traceparent`.
//! Written by the outbox, read by consumers. What cannot be read is named, so that the dead-letter stream can say it.

use std::{collections::HashMap, str::from_utf8};

use ::redis::{Cmd, cmd, streams::StreamMaxlen};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::Event;

/// Streams are cut at about this length: a consumer that is gone for good must not fill the memory of Redis.
pub(super) const STREAM_LENGTH: usize = 100_000;

/// Names and values in turn, as Redis keeps them. Bytes, because anybody may have written them.
pub(super) type Fields = Vec<Vec<u8>>;

/// Why an entry of a stream is no event.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed entry: {field} {problem}")]
pub(super) struct Malformed {
    field: &'static str,
    problem: &'static str,
}

/// The command that appends an event to its stream.
pub(super) fn append(event: &Event) -> Cmd {
    let mut command = cmd("XADD");
    command.arg(&event.stream).arg(StreamMaxlen::Approx(STREAM_LENGTH)).arg("*");
    command.arg("id").arg(event.id.to_string()).arg("type").arg(&event.stream);
    command.arg("time").arg(event.time.format(&Rfc3339).unwrap_or_default());
    command.arg("data").arg(event.data.to_string());
    if let Some(traceparent) = &event.traceparent {
        command.arg("traceparent").arg(traceparent);
    }
    command
}

/// Reads an entry of a stream.
pub(super) fn read(stream: &str, fields: &Fields) -> Result<Event, Malformed> {
    let pairs = fields.chunks_exact(2).map(|pair| (pair[0].as_slice(), pair[1].as_slice()));
    let fields: HashMap<&[u8], &[u8]> = pairs.collect();
    let text = |field: &'static str| {
        let bytes = fields.get(field.as_bytes()).ok_or(Malformed { field, problem: "is missing" })?;
        from_utf8(bytes).map_err(|_| Malformed { field, problem: "is not UTF-8" })
    };
    let malformed = |field, problem| Malformed { field, problem };
    Ok(Event {
        id: text("id")?.parse().map_err(|_| malformed("id", "is not a UUID"))?,
        stream: stream.to_owned(),
        data: serde_json::from_str(text("data")?).map_err(|_| malformed("data", "is not JSON"))?,
        traceparent: text("traceparent").ok().map(str::to_owned),
        time: OffsetDateTime::parse(text("time")?, &Rfc3339)
            .map_err(|_| malformed("time", "is not a time of RFC 3339"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0192f0c1-2345-7abc-8def-0123456789ab";

    fn check(fields: &[(&str, &[u8])], expect: Option<&str>) {
        let flat =
            fields.iter().flat_map(|(name, value)| [name.as_bytes().to_vec(), value.to_vec()]).collect();
        let problem = read("order.created", &flat).err().map(|error| error.to_string());
        assert_eq!(problem.as_deref(), expect, "{fields:?}");
    }

    #[test]
    fn what_is_wrong_with_an_entry_is_named() {
        let id = ("id", ID.as_bytes());
        let time = ("time", b"2026-01-01T00:00:00Z".as_slice());
        let data = ("data", br#"{"a": 1}"#.as_slice());
        check(&[id, time, data], None);
        check(&[id, time, data, ("traceparent", b"\xff"), ("more", b"")], None);
        check(&[], Some("malformed entry: id is missing"));
        check(&[("id", b"1"), time, data], Some("malformed entry: id is not a UUID"));
        check(&[id, time, ("data", b"{")], Some("malformed entry: data is not JSON"));
        check(&[id, time, ("data", b"\xff")], Some("malformed entry: data is not UTF-8"));
        check(&[id, ("time", b"now"), data], Some("malformed entry: time is not a time of RFC 3339"));
    }

    proptest::proptest! {
        #[test]
        fn no_entry_makes_the_reader_panic(fields: Vec<Vec<u8>>) {
            // Whatever comes of it, it comes back.
            assert!(read("s", &fields).is_err() || fields.len() >= 6);
        }
    }
}
