//! Rust sources as the rules look at them: which files there are, and their code without comments and literals.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::command;

/// A source file of the workspace.
pub struct Source {
    /// Relative to the workspace.
    pub path: PathBuf,
    /// As it stands.
    pub text: String,
    /// As [`code_only`] leaves it.
    pub code: String,
}

impl Source {
    /// A file from its text.
    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Source {
        let text = text.into();
        Source { path: path.into(), code: code_only(&text), text }
    }

    /// Whether it holds tests only: the `tests` package, or a `tests` module beside its subject.
    pub fn is_test(&self) -> bool {
        self.path.components().any(|part| part.as_os_str() == "tests")
            || self.path.file_stem().is_some_and(|stem| stem == "tests" || stem == "proptests")
    }
}

/// All Rust files of the workspace's members.
pub fn all() -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for member in ["colo-ebpf", "colo-user", "tests", "xtask"] {
        collect(&command::workspace().join(member), &mut sources)?;
    }
    Ok(sources)
}

fn collect(dir: &Path, sources: &mut Vec<Source>) -> Result<()> {
    let mut entries: Vec<PathBuf> = fs::read_dir(dir)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .with_context(|| format!("cannot list {}", dir.display()))?;
    entries.sort();
    for path in entries {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(&path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let relative = path.strip_prefix(command::workspace()).unwrap_or(&path);
            sources.push(Source::new(relative, text));
        }
    }
    Ok(())
}

/// The text with comments and the insides of literals blanked, byte for byte, so that a word found is a token.
pub fn code_only(text: &str) -> String {
    blanked(text, |_| false)
}

/// Likewise with the comments alone blanked: a literal that begins in [`code_only`] as a blank begins here.
pub fn without_comments(text: &str) -> String {
    blanked(text, |skipped| !skipped.starts_with('/'))
}

fn blanked(text: &str, stays: impl Fn(&str) -> bool) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        let length = skipped(rest, before).unwrap_or(0);
        if length == 0 {
            code.push(first);
            before = first;
            rest = &rest[first.len_utf8()..];
        } else {
            let (taken, behind) = rest.split_at(length);
            if stays(taken) {
                code.push_str(taken);
            } else {
                code.extend(taken.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
            }
            before = ' ';
            rest = behind;
        }
    }
    code
}

/// The value of the string literal that the text begins with, and its length.
pub fn literal(text: &str) -> Option<(String, usize)> {
    let length = skipped(text, ' ').filter(|_| text.starts_with(['"', 'r']))?;
    let inside = text[..length].trim_start_matches('r').trim_matches('#');
    let inside = inside.strip_prefix('"').map(|inside| inside.strip_suffix('"').unwrap_or(inside))?;
    Some((if text.starts_with('r') { inside.to_owned() } else { unescaped(inside) }, length))
}

fn unescaped(text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        value.push_str(&rest[..at]);
        let mut behind = rest[at + 1..].chars();
        match behind.next() {
            Some('n') => value.push('\n'),
            Some('t') => value.push('\t'),
            // The line goes on behind the next one's indentation.
            Some('\n') => behind = behind.as_str().trim_start().chars(),
            other => value.extend(other),
        }
        rest = behind.as_str();
    }
    value + rest
}

/// How many bytes of comment or literal the text begins with.
fn skipped(text: &str, before: char) -> Option<usize> {
    let in_word = before.is_alphanumeric() || before == '_';
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(block_comment(text));
    }
    if text.starts_with('"') {
        return Some(quoted(text, '"'));
    }
    if let Some(quote) = text.strip_prefix('\'') {
        // A lifetime has no closing quote after its first character.
        let mut chars = quote.chars();
        let first = chars.next()?;
        return (first == '\\' || chars.next() == Some('\'')).then(|| quoted(text, '\''));
    }
    if in_word {
        return None;
    }
    let prefix = ["br", "cr", "r"].into_iter().find(|prefix| text.starts_with(prefix))?;
    let hashes = text[prefix.len()..].bytes().take_while(|byte| *byte == b'#').count();
    let open = prefix.len() + hashes;
    if !text[open..].starts_with('"') {
        return None;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let body = &text[open + 1..];
    Some(body.find(&close).map_or(text.len(), |at| open + 1 + at + close.len()))
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// Whether the code has this word, with neither letter, digit nor underscore beside it; the line it is on.
pub fn line_of_word(code: &str, word: &str) -> Option<usize> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word)
        .find(|(at, _)| !code[..*at].ends_with(is_word) && !code[at + word.len()..].starts_with(is_word))
        .map(|(at, _)| code[..at].matches('\n').count() + 1)
}

/// Every path that `use` declarations bring in, written out: `std::{fs, net::IpAddr}` is two.
pub fn used_paths(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find("use ") {
        let declared = !rest[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        rest = &rest[at + 4..];
        if declared && let Some(end) = rest.find(';') {
            let tree: String = rest[..end].split_whitespace().collect::<Vec<_>>().join(" ");
            flatten("", &tree, &mut paths);
            rest = &rest[end..];
        }
    }
    paths
}

fn flatten(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim().trim_start_matches("::");
    let Some(open) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or(tree).trim();
        if !path.is_empty() {
            paths.push(format!("{prefix}{path}"));
        }
        return;
    };
    let prefix = format!("{prefix}{}", &tree[..open]);
    let inner = tree[open + 1..].trim_end();
    let inner = inner.strip_suffix('}').unwrap_or(inner);
    let mut depth = 0;
    for branch in inner.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    }) {
        flatten(&prefix, branch, paths);
    }
}

#[cfg(test)]
mod tests;
