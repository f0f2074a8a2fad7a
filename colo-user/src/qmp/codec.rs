//! Lines of QMP into messages.
//!
//! What is unknown inside a message is passed over, and so is a message of an unknown kind. A line that is no JSON object, or
//! longer than [`MAX_LINE`], means that the two sides no longer agree where lines are: the connection is to be closed.

use serde::Deserialize;
use serde_json::Value;

use super::event::Event;

/// The longest line taken. QEMU's longest answer, the schema that nobody here asks for, has some 200 KiB.
pub const MAX_LINE: usize = 1 << 20;
/// How much of a bad line an error shows.
const EXCERPT: usize = 80;

/// One message of QEMU.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// The first one: what the monitor offers.
    Greeting {
        /// The version, such as `7.2.22`.
        version: String,
        /// Whether out-of-band commands can be had.
        oob: bool,
    },
    /// A command was done.
    Return {
        /// The id that the command carried.
        id: Value,
        /// What it returned.
        value: Value,
    },
    /// A command was refused.
    Error {
        /// The id that the command carried; null if QEMU could not read it.
        id: Value,
        /// Why.
        error: ErrorReply,
    },
    /// Something happened.
    Event(Event),
    /// None of these.
    Unknown,
}

/// QEMU's refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ErrorReply {
    /// `GenericError`, `CommandNotFound`, `DeviceNotFound`…
    pub class: String,
    /// In English, for people.
    pub desc: String,
}

/// The peer does not speak QMP.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// No end of line in sight.
    #[error("a line of more than {MAX_LINE} bytes: this is no QMP monitor")]
    TooLong,
    /// A line that is no JSON object.
    #[error("not a JSON object ({reason}): `{line}`: this is no QMP monitor")]
    NotJson {
        /// How the line begins.
        line: String,
        /// The parser's reason.
        reason: String,
    },
}

/// Cuts a stream into messages.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Bytes already handed out.
    done: usize,
    /// Bytes that hold no end of line.
    searched: usize,
}

impl Decoder {
    /// Takes the next bytes of the stream. Call [`Decoder::message`] until it has nothing before more are given.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.done);
        self.searched -= self.done;
        self.done = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message.
    ///
    /// # Errors
    /// The stream is not QMP; nothing more can be had from it.
    pub fn message(&mut self) -> Result<Option<Message>, CodecError> {
        loop {
            let Some(end) = self.buffer[self.searched..].iter().position(|b| *b == b'\n') else {
                self.searched = self.buffer.len();
                let open = self.buffer.len() - self.done;
                return if open > MAX_LINE { Err(CodecError::TooLong) } else { Ok(None) };
            };
            let end = self.searched + end;
            let line = self.buffer[self.done..end].trim_ascii();
            (self.done, self.searched) = (end + 1, end + 1);
            if line.len() > MAX_LINE {
                return Err(CodecError::TooLong);
            }
            if !line.is_empty() {
                return parse(line).map(Some);
            }
        }
    }
}

/// One line.
fn parse(line: &[u8]) -> Result<Message, CodecError> {
    let not_json = |reason: String| {
        let shown = String::from_utf8_lossy(&line[..line.len().min(EXCERPT)]);
        CodecError::NotJson { line: shown.escape_debug().to_string(), reason }
    };
    let value = serde_json::from_slice(line).map_err(|e| not_json(e.to_string()))?;
    let Value::Object(mut object) = value else {
        return Err(not_json("a value of another kind".to_owned()));
    };
    let id = object.remove("id").unwrap_or_default();
    if let Some(value) = object.remove("return") {
        return Ok(Message::Return { id, value });
    }
    if let Some(error) = object.remove("error") {
        return Ok(Message::Error { id, error: ErrorReply::deserialize(error).unwrap_or_default() });
    }
    if let Some(greeting) = object.get("QMP") {
        let version = &greeting["version"]["qemu"];
        let version = ["major", "minor", "micro"].map(|part| version[part].as_u64().unwrap_or(0).to_string());
        let offers = greeting["capabilities"].as_array();
        let oob = offers.is_some_and(|all| all.iter().any(|c| c == "oob"));
        return Ok(Message::Greeting { version: version.join("."), oob });
    }
    Ok(Event::from_json(&object).map_or(Message::Unknown, Message::Event))
}

#[cfg(test)]
mod tests;
