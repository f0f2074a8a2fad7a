//! Which programs a shell script calls: the words in command position, without builtins, keywords and its own functions.
//!
//! As much of POSIX's grammar as the scripts here use: quotes, comments, here-documents, redirections, `$(...)`, loops, `case`,
//! functions; and what runs another program, such as `exec` and `timeout`.

use std::collections::HashSet;

/// What a shell does itself, in dash and bash alike.
const BUILTINS: &[&str] = &[
    ".", ":", "[", "alias", "bg", "break", "cd", "continue", "echo", "eval", "exit", "export", "false", "fg",
    "getopts", "hash", "jobs", "kill", "local", "printf", "pwd", "read", "readonly", "return", "set",
    "shift", "test", "times", "trap", "true", "type", "ulimit", "umask", "unalias", "unset", "wait",
];

/// After these a command follows.
const KEYWORDS: &[&str] =
    &["!", "do", "done", "elif", "else", "esac", "fi", "if", "then", "until", "while", "{", "}"];

/// These run the program that follows their options; true where they are programs themselves.
const RUNNERS: &[(&str, bool)] = &[
    ("command", false),
    ("exec", false),
    ("env", true),
    ("setsid", true),
    ("sudo", true),
    ("timeout", true),
];

#[derive(Debug, PartialEq)]
enum Token {
    Word(String),
    /// What ends a command: a new line, `;`, `&`, `|`.
    End,
    /// `;;`.
    Branch,
    Open,
    Close,
}

/// The programs that a script calls, each as it stands there: a name, a path, or an expansion such as `${NAME}`.
pub fn programs(script: &str) -> Vec<String> {
    let mut found = Vec::new();
    let tokens = tokens(script, &mut found);
    let mut functions = HashSet::new();
    for three in tokens.windows(3) {
        if let [Token::Word(name), Token::Open, Token::Close] = three {
            functions.insert(name.as_str());
        }
    }
    let mut at = 0;
    while at < tokens.len() {
        at = command(&tokens, at, &mut found);
    }
    found.retain(|name| !BUILTINS.contains(&name.as_str()) && !functions.contains(name.as_str()));
    found
}

/// Reads one command from `at` on; where the next begins.
fn command(tokens: &[Token], mut at: usize, found: &mut Vec<String>) -> usize {
    let word = |at: usize| match tokens.get(at) {
        Some(Token::Word(word)) => Some(word.as_str()),
        _ => None,
    };
    let Some(first) = word(at) else {
        // After `;;`, and after `in`, stands the next pattern of a case.
        return if tokens[at] == Token::Branch { pattern(tokens, at + 1) } else { at + 1 };
    };
    if KEYWORDS.contains(&first) || is_assignment(first) {
        return at + 1;
    }
    if first == "for" || first == "case" {
        let is_case = first == "case";
        while word(at).is_some_and(|word| !is_case || word != "in") {
            at += 1;
        }
        return if is_case { pattern(tokens, at + 1) } else { at };
    }
    let mut may_run = true;
    while let Some(name) = word(at) {
        at += 1;
        if !may_run {
            continue;
        }
        let Some((_, is_program)) = RUNNERS.iter().find(|(runner, _)| *runner == last(name)) else {
            found.push(name.to_owned());
            may_run = false;
            continue;
        };
        if *is_program {
            found.push(name.to_owned());
        }
        let is_option = |word: &str| {
            word.starts_with('-') || is_assignment(word) || word.starts_with(|c: char| c.is_ascii_digit())
        };
        while word(at).is_some_and(is_option) {
            at += 1;
        }
    }
    at
}

/// Skips the pattern of a case, up to the parenthesis behind it, unless there is none any more.
fn pattern(tokens: &[Token], mut at: usize) -> usize {
    while tokens.get(at) == Some(&Token::End) {
        at += 1;
    }
    if tokens.get(at) == Some(&Token::Word("esac".to_owned())) {
        return at;
    }
    let rest = tokens.get(at..).unwrap_or_default();
    rest.iter().position(|token| *token == Token::Close).map_or(tokens.len(), |close| at + close + 1)
}

/// The name in a path.
fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

/// Splits a script; what its command substitutions call is added to `found`.
fn tokens(script: &str, found: &mut Vec<String>) -> Vec<Token> {
    let mut reader = Reader { rest: script, word: None, tokens: Vec::new(), here: None, to_drop: false };
    while !reader.rest.is_empty() {
        reader.step(found);
    }
    reader.end_word();
    reader.tokens
}

struct Reader<'a> {
    rest: &'a str,
    /// The word that is being read.
    word: Option<String>,
    tokens: Vec<Token>,
    /// The end of the here-document that begins with the next line.
    here: Option<String>,
    /// The next word is the target of a redirection.
    to_drop: bool,
}

impl Reader<'_> {
    fn step(&mut self, found: &mut Vec<String>) {
        let Some(next) = self.rest.chars().next() else { return };
        match next {
            '\\' if self.rest.starts_with("\\\n") => self.skip(2),
            '\\' => {
                let escaped = self.rest[1..].chars().next();
                self.word.get_or_insert_default().extend(escaped);
                self.skip(1 + escaped.map_or(0, char::len_utf8));
            }
            '\'' => {
                let end = self.rest[1..].find('\'').unwrap_or(self.rest.len() - 1);
                let text = self.rest[1..=end].to_owned();
                self.word.get_or_insert_default().push_str(&text);
                self.skip((end + 2).min(self.rest.len()));
            }
            '"' => self.quoted(found),
            '$' | '`' => self.expansion(found),
            '#' if self.word.is_none() => self.skip(self.rest.find('\n').unwrap_or(self.rest.len())),
            '\n' => {
                self.push(Token::End, 1);
                self.here_document();
            }
            ' ' | '\t' => {
                self.end_word();
                self.skip(1);
            }
            '>' | '<' => self.redirection(),
            ';' if self.rest.starts_with(";;") => self.push(Token::Branch, 2),
            ';' | '&' | '|' => self.push(Token::End, 1),
            '(' => self.push(Token::Open, 1),
            ')' => self.push(Token::Close, 1),
            other => {
                self.word.get_or_insert_default().push(other);
                self.skip(other.len_utf8());
            }
        }
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    fn push(&mut self, token: Token, bytes: usize) {
        self.end_word();
        self.tokens.push(token);
        self.skip(bytes);
    }

    fn end_word(&mut self) {
        if let Some(word) = self.word.take()
            && !std::mem::take(&mut self.to_drop)
        {
            self.tokens.push(Token::Word(word));
        }
    }

    fn quoted(&mut self, found: &mut Vec<String>) {
        self.word.get_or_insert_default();
        self.skip(1);
        while let Some(next) = self.rest.chars().next() {
            match next {
                '"' => return self.skip(1),
                '$' | '`' => self.expansion(found),
                '\\' => {
                    let escaped = self.rest[1..].chars().next();
                    self.word.get_or_insert_default().extend(escaped);
                    self.skip(1 + escaped.map_or(0, char::len_utf8));
                }
                other => {
                    self.word.get_or_insert_default().push(other);
                    self.skip(other.len_utf8());
                }
            }
        }
    }

    /// `$NAME`, `${...}`, `$(...)`, or the same in backticks.
    fn expansion(&mut self, found: &mut Vec<String>) {
        let length = if let Some(inner) = self.rest.strip_prefix("$((") {
            inner.find("))").map_or(self.rest.len(), |end| end + 5)
        } else if self.rest.starts_with("$(") {
            let end = closing(&self.rest[1..], '(', ')');
            found.extend(programs(&self.rest[2..end]));
            end + 1
        } else if self.rest.starts_with("${") {
            closing(&self.rest[1..], '{', '}') + 1
        } else if let Some(inner) = self.rest.strip_prefix('`') {
            let end = inner.find('`').unwrap_or(inner.len());
            found.extend(programs(&inner[..end]));
            (end + 2).min(self.rest.len())
        } else {
            1
        };
        let length = length.min(self.rest.len());
        let text = self.rest[..length].to_owned();
        self.word.get_or_insert_default().push_str(&text);
        self.skip(length);
    }

    fn redirection(&mut self) {
        // The number in front of it is no word.
        if self.word.as_ref().is_some_and(|word| word.chars().all(|c| c.is_ascii_digit())) {
            self.word = None;
        }
        self.end_word();
        let here = self.rest.starts_with("<<");
        let operator = self.rest.len() - self.rest.trim_start_matches(['<', '>', '&', '|', '-']).len();
        self.skip(operator);
        self.rest = self.rest.trim_start_matches([' ', '\t']);
        if here {
            let end = self.rest.find(char::is_whitespace).unwrap_or(self.rest.len());
            self.here = Some(self.rest[..end].trim_matches(['\'', '"']).to_owned());
            self.skip(end);
        } else {
            self.to_drop = true;
        }
    }

    fn here_document(&mut self) {
        let Some(end) = self.here.take() else { return };
        while !self.rest.is_empty() {
            let line = self.rest.split_inclusive('\n').next().unwrap_or_default();
            let last = line.trim() == end;
            self.skip(line.len());
            if last {
                return;
            }
        }
    }
}

/// Where the bracket is closed that the text begins with, counted from before it: the length up to it, plus one.
fn closing(text: &str, open: char, close: char) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        depth += i32::from(c == open) - i32::from(c == close);
        if depth == 0 {
            return at + 1;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests;
