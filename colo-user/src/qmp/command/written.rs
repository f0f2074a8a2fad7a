//! Commands that somebody else wrote: a file with an object a line, as QMP has them.

use super::{Call, Command, LIMIT};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::marker::PhantomData;

/// Most commands of a file.
pub const MAX_COMMANDS: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    execute: String,
    #[serde(default)]
    arguments: Map<String, Value>,
}

/// Reads commands, each an object with `execute` and, as needed, `arguments` on a line of its own; empty lines are passed over.
///
/// # Errors
/// The line that is none, and why; or there are none, or more than [`MAX_COMMANDS`].
pub fn written(text: &str) -> Result<Vec<Call>, String> {
    let mut calls = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let Written { execute, arguments } = serde_json::from_str(line).map_err(|error| {
            format!(
                "line {}: {error}; a command is {{\"execute\": NAME, \"arguments\": {{..}}}} on one line",
                number + 1
            )
        })?;
        if execute == "qmp_capabilities" {
            return Err(format!("line {}: qmp_capabilities is said without being asked for", number + 1));
        }
        let arguments = if arguments.is_empty() { Value::Null } else { Value::Object(arguments) };
        calls.push(Call { name: execute.into(), arguments, oob: false, limit: LIMIT });
    }
    match calls.len() {
        0 => Err("there is no command in it".to_owned()),
        1..=MAX_COMMANDS => Ok(calls),
        more => Err(format!("{more} commands are more than {MAX_COMMANDS}")),
    }
}

impl Call {
    /// The same as a command whose answer is anything.
    #[must_use]
    pub const fn whatever(self) -> Command<Value> {
        Command { call: self, reply: PhantomData }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_is_a_command_and_what_is_none_is_named() {
        let text = "{\"execute\": \"stop\"}\n\n {\"execute\":\"yank\",\"arguments\":{\"instances\":[]}}\n";
        let calls = written(text).unwrap();
        let seen: Vec<_> = calls.iter().map(|call| (&*call.name, &call.arguments)).collect();
        assert_eq!(seen, [("stop", &Value::Null), ("yank", &json!({ "instances": [] }))]);
        assert_eq!(calls[0].line("7"), b"{\"execute\":\"stop\",\"id\":\"7\"}\n");
        for (text, said) in [
            ("", "no command"),
            ("{\"execute\":\"stop\"}\nstop", "line 2"),
            ("{\"execute\":\"stop\",\"id\":1}", "unknown field `id`"),
            ("{\"arguments\":{}}", "missing field `execute`"),
            ("{\"execute\":\"qmp_capabilities\"}", "without being asked"),
            (&"{\"execute\":\"stop\"}\n".repeat(MAX_COMMANDS + 1), "65 commands"),
        ] {
            let error = written(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
