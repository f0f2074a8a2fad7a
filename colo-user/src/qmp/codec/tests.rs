use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::qmp::{
    event::EventKind,
    state::{ColoMode, MigrationStatus},
};

fn decode(pieces: &[&[u8]]) -> Result<Vec<Message>, CodecError> {
    let mut decoder = Decoder::default();
    let mut messages = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        while let Some(message) = decoder.message()? {
            messages.push(message);
        }
    }
    Ok(messages)
}

fn one(line: &str) -> Message {
    let messages = decode(&[line.as_bytes(), b"\r\n"]).unwrap();
    assert_eq!(messages.len(), 1, "{messages:?}");
    messages[0].clone()
}

fn event(line: &str) -> EventKind {
    match one(line) {
        Message::Event(event) => event.kind,
        other => panic!("{other:?}"),
    }
}

/// As QEMU 7.2 writes them.
#[test]
fn the_messages_of_a_stock_qemu() {
    let greeting = r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian 1:7.2"}, "capabilities": ["oob"]}}"#;
    assert_eq!(one(greeting), Message::Greeting { version: "7.2.22".to_owned(), oob: true });
    let id = json!("colo-1");
    assert_eq!(
        one(r#"{"return": {}, "id": "colo-1"}"#),
        Message::Return { id: id.clone(), value: json!({}) }
    );
    let error = ErrorReply { class: "CommandNotFound".to_owned(), desc: "no such".to_owned() };
    assert_eq!(
        one(r#"{"id": "colo-1", "error": {"class": "CommandNotFound", "desc": "no such", "more": 1}}"#),
        Message::Error { id, error }
    );
    assert_eq!(
        one(r#"{"timestamp": {"seconds": 1700000000, "microseconds": 250000}, "event": "STOP"}"#),
        Message::Event(Event {
            kind: EventKind::Stop,
            at: Some(Duration::from_micros(1_700_000_000_250_000))
        })
    );
}

#[test]
fn the_events_of_colo() {
    let at = r#""timestamp": {"seconds": 1, "microseconds": 2}"#;
    assert_eq!(event(&format!(r#"{{{at}, "event": "RESUME"}}"#)), EventKind::Resume);
    assert_eq!(
        event(&format!(r#"{{{at}, "event": "MIGRATION", "data": {{"status": "colo"}}}}"#)),
        EventKind::Migration(MigrationStatus::Colo)
    );
    assert_eq!(
        event(&format!(r#"{{{at}, "event": "MIGRATION_PASS", "data": {{"pass": 7}}}}"#)),
        EventKind::MigrationPass(7)
    );
    assert_eq!(
        event(&format!(
            r#"{{{at}, "event": "COLO_EXIT", "data": {{"mode": "secondary", "reason": "error"}}}}"#
        )),
        EventKind::ColoExit { mode: ColoMode::Secondary, reason: "error".to_owned() }
    );
    assert_eq!(
        event(&format!(
            r#"{{{at}, "event": "SHUTDOWN", "data": {{"guest": true, "reason": "guest-reset"}}}}"#
        )),
        EventKind::Shutdown { guest: true, reason: "guest-reset".to_owned() }
    );
    assert_eq!(
        event(&format!(r#"{{{at}, "event": "NIC_RX_FILTER_CHANGED", "data": {{"name": "e0"}}}}"#)),
        EventKind::Other("NIC_RX_FILTER_CHANGED".to_owned())
    );
}

/// What a later QEMU may say.
#[test]
fn what_is_not_known_is_passed_over() {
    assert_eq!(
        event(r#"{"event": "MIGRATION", "data": {"status": "sideways", "x": []}, "cookie": {}}"#),
        EventKind::Migration(MigrationStatus::Other)
    );
    assert_eq!(event(r#"{"event": "MIGRATION"}"#), EventKind::Migration(MigrationStatus::Other));
    assert_eq!(one(r#"{"news": 1}"#), Message::Unknown);
    assert_eq!(one(r#"{"event": 5}"#), Message::Unknown);
    let unclocked = r#"{"event": "STOP", "timestamp": {"seconds": -1, "microseconds": -1}}"#;
    assert_eq!(one(unclocked), Message::Event(Event { kind: EventKind::Stop, at: None }));
}

#[test]
fn what_is_no_json_object_ends_the_stream() {
    for line in ["hello", "[1]", "{\"event\": \"ST", "\u{0}", "QEMU 7.2 monitor - type 'help'"] {
        let error = decode(&[line.as_bytes(), b"\n"]).unwrap_err();
        assert!(matches!(error, CodecError::NotJson { .. }), "{line}: {error}");
    }
    assert_eq!(decode(&[b"\n \r\n\t\n"]), Ok(vec![]));
}

#[test]
fn a_line_has_a_longest_length() {
    let longest = format!("{{\"return\": \"{}\"}}", "x".repeat(MAX_LINE - 14));
    assert_eq!(longest.len(), MAX_LINE);
    assert_eq!(decode(&[longest.as_bytes(), b"\n"]).unwrap().len(), 1);
    let chunk = vec![b'x'; 64 << 10];
    let chunks = vec![chunk.as_slice(); MAX_LINE / chunk.len() + 1];
    assert_eq!(decode(&chunks), Err(CodecError::TooLong));
}

/// A message of the kinds above, as a line.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(r#"{"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}"#.to_owned()),
        Just(r#"{"event": "RESUME"}"#.to_owned()),
        (any::<u32>(), ".{0,40}")
            .prop_map(|(id, text)| json!({"return": text, "id": format!("colo-{id}")}).to_string()),
        ".{0,40}".prop_map(|text| json!({"error": {"class": text}, "id": null}).to_string()),
        "[a-z]{1,8}".prop_map(|name| json!({ name: 1 }).to_string()),
    ]
}

proptest! {
    #[test]
    fn cuts_change_nothing(lines in prop::collection::vec(line(), 0..12), cuts in prop::collection::vec(1..64_usize, 1..200)) {
        let whole: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let expected = decode(&[whole.as_bytes()]).unwrap();
        prop_assert_eq!(expected.len(), lines.len());
        let mut pieces = Vec::new();
        let mut rest = whole.as_bytes();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        prop_assert_eq!(decode(&pieces).unwrap(), expected);
    }

    #[test]
    fn garbage_is_an_error_or_nothing(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)) {
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        if let Ok(messages) = decode(&pieces) {
            prop_assert!(messages.len() <= pieces.len() * 200);
        }
    }
}
