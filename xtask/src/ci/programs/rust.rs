//! Which programs Rust code calls: the arguments, in calls of known shape, that name one.
//!
//! Whatever starts a process does so by `Command::new`, most of it through a few functions that take a program's name or a
//! command line. Where the name is no literal there, nor a constant of the same file, nor a program of the workspace, the call
//! is reported as it stands.

use super::super::source::{self, Source};
use super::shell;

/// What a call names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// A program, by the last part of its path.
    Program(String),
    /// An expression that does not tell.
    Unknown(String),
}

/// A call that names a program.
#[derive(Debug, PartialEq, Eq)]
pub struct Call {
    /// Its line.
    pub line: usize,
    /// What it calls.
    pub named: Named,
    /// A shell does, which also tells what a program runs that runs another.
    pub in_script: bool,
}

/// How an argument names a program.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    /// By its name or path.
    Name,
    /// By the first word.
    Line,
    /// By the first of a list.
    List,
    /// It is a script for a shell, where it is a literal.
    Script,
}

/// A function that is told which program to start.
struct Form {
    /// Its name as in a call.
    callee: &'static str,
    /// In which places it is this function.
    below: &'static [&'static str],
    /// Which of how many arguments names the program.
    argument: (usize, usize),
    shape: Shape,
}

const fn form(
    callee: &'static str,
    below: &'static [&'static str],
    argument: (usize, usize),
    shape: Shape,
) -> Form {
    Form { callee, below, argument, shape }
}

/// Those functions. Another `Command`, QEMU's, takes two arguments.
const FORMS: &[Form] = &[
    form("Command::new", &[""], (0, 1), Shape::Name),
    // The first of what the set-up has installed, the second of what the workspace builds.
    form("program", &["xtask"], (0, 1), Shape::Name),
    form("program", &["xtask"], (0, 2), Shape::Name),
    form("find_program", &["xtask", "tests"], (0, 1), Shape::Name),
    form("run_in", &["tests"], (1, 3), Shape::Name),
    form("Tethered::start", &["tests"], (2, 6), Shape::Name),
    // Of a network namespace, and of a node of a cluster.
    form(".command", &["tests"], (0, 1), Shape::Name),
    form(".run", &["tests"], (0, 1), Shape::Line),
    form(".run", &["tests"], (1, 2), Shape::List),
    // Helpers of the tests of hooks.
    form("ask", &["colo-user/src/judge/exec"], (0, 1), Shape::Script),
    form("fence", &["colo-user/src/judge/fence"], (0, 1), Shape::Script),
    form("limited", &["colo-user/src/judge/fence"], (0, 2), Shape::Script),
    form("counting", &["colo-user/src/judge/fence"], (1, 2), Shape::Script),
    form("serve", &["colo-user/src/checkpoint/exec"], (0, 2), Shape::Script),
];

/// Before a shell's script, as an argument or in a list of them.
const SCRIPT_OPTIONS: &[&str] = &["-c", "--fence"];
/// What an option's value begins with that is a shell's script.
const SCRIPT_PREFIX: &str = "exec:";
/// How variables with such scripts are called.
const SCRIPT_VARIABLES: &[&str] = &["let command = ", "let fence = "];

/// The calls of a file.
pub fn calls(source: &Source) -> Vec<Call> {
    let text = source::without_comments(&source.text);
    let file = File { code: &source.code, text: &text };
    let mut calls = Vec::new();
    for form in FORMS.iter().filter(|form| form.below.iter().any(|place| source.path.starts_with(place))) {
        for at in file.calls_of(form.callee) {
            let arguments = file.arguments(at + form.callee.len());
            let (which, of) = form.argument;
            if arguments.len() == of {
                let named = file.named(arguments[which], form.shape);
                let (line, in_script) = (file.line(at), form.shape == Shape::Script);
                calls.extend(named.into_iter().map(|named| Call { line, named, in_script }));
            }
        }
    }
    for (at, script) in file.scripts(source) {
        let named = script.map_or_else(|unknown| vec![Named::Unknown(unknown)], |script| in_script(&script));
        let line = file.line(at);
        calls.extend(named.into_iter().map(|named| Call { line, named, in_script: true }));
    }
    calls
}

/// What a shell's script calls.
pub fn in_script(script: &str) -> Vec<Named> {
    shell::programs(script).iter().map(|path| called(path)).collect()
}

/// A program by its path in a script or a literal.
fn called(path: &str) -> Named {
    let unknown = path.is_empty() || path.contains(['$', '{', '`']);
    let name = path.rsplit('/').next().unwrap_or(path).to_owned();
    if unknown { Named::Unknown(path.to_owned()) } else { Named::Program(name) }
}

/// Code and text of a file, of the same length: in both comments are blank, in the code literals too.
struct File<'a> {
    code: &'a str,
    text: &'a str,
}

impl<'a> File<'a> {
    fn line(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }

    /// Where a function is called.
    fn calls_of(&self, callee: &'a str) -> impl Iterator<Item = usize> {
        self.code.match_indices(callee).map(|(at, _)| at).filter(move |&at| {
            let before = &self.code[..at];
            let whole = callee.starts_with('.') || !before.ends_with(is_part_of_name);
            let defined = before.trim_end().ends_with("fn");
            whole && !defined && self.code[at + callee.len()..].starts_with('(')
        })
    }

    /// What stands between the bracket at `open` and the one that closes it, split at commas, as it is in the text.
    fn arguments(&self, open: usize) -> Vec<&'a str> {
        let mut found = Vec::new();
        let (mut depth, mut begin) = (0, open + 1);
        for (at, c) in self.code[open..].char_indices() {
            match c {
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth -= 1,
                _ => {}
            }
            let end = open + at;
            if depth == 0 || (depth == 1 && c == ',') {
                found.push(self.text[begin..end].trim());
                begin = end + 1;
            }
            if depth == 0 {
                break;
            }
        }
        found.retain(|argument| !argument.is_empty());
        found
    }

    /// What an argument names; nothing if it is a program of the workspace, or a call that is looked at by itself.
    fn named(&self, argument: &str, shape: Shape) -> Vec<Named> {
        let mut expression = bare(argument);
        if shape == Shape::List {
            let Some(list) = expression.strip_prefix('[') else {
                return vec![Named::Unknown(argument.to_owned())];
            };
            expression = bare(list.trim_start());
        }
        let is_call = FORMS
            .iter()
            .any(|form| expression.strip_prefix(form.callee).is_some_and(|rest| rest.starts_with('(')));
        if is_own(expression.split(',').next().unwrap_or_default()) || is_call {
            return Vec::new();
        }
        let values = self.values(expression);
        match shape {
            Shape::Script => values.iter().flat_map(|script| in_script(script)).collect(),
            _ if values.is_empty() => vec![Named::Unknown(argument.to_owned())],
            Shape::Line => values.iter().map(|line| called(line.split(' ').next().unwrap_or(line))).collect(),
            Shape::Name | Shape::List => values.iter().map(|name| called(name)).collect(),
        }
    }

    /// The literal that an expression begins with, or those that the constant or variable stands for which it is.
    fn values(&self, expression: &str) -> Vec<String> {
        if let Some((value, _)) = source::literal(expression) {
            return vec![value];
        }
        let Some(name) = expression.split(|c| !is_part_of_name(c)).next().filter(|name| !name.is_empty())
        else {
            return Vec::new();
        };
        let behind = |words: &str| self.code.find(words).map(|at| at + words.len());
        let declared = [format!("const {name}: &str = "), format!("let {name} = ")];
        if let Some(at) = declared.iter().find_map(|words| behind(words)) {
            return source::literal(bare(&self.text[at..])).map(|(value, _)| value).into_iter().collect();
        }
        // A loop over a list.
        let Some(at) = behind(&format!("for {name} in")) else { return Vec::new() };
        let open = at + self.code[at..].len() - self.code[at..].trim_start().len();
        let elements = if self.code[open..].starts_with('[') { self.arguments(open) } else { Vec::new() };
        elements.into_iter().filter_map(|element| Some(source::literal(bare(element))?.0)).collect()
    }

    /// The shell's scripts in it, or the expressions that stand for such, and where they are.
    fn scripts(&self, source: &Source) -> Vec<(usize, Result<String, String>)> {
        let mut found = Vec::new();
        for words in SCRIPT_VARIABLES {
            for (at, _) in self.code.match_indices(words) {
                let script = source::literal(bare(&self.text[at + words.len()..]));
                found.extend(script.filter(|_| source.is_test()).map(|(script, _)| (at, Ok(script))));
            }
        }
        let mut at = 0;
        while at < self.text.len() {
            let literal = source::literal(&self.text[at..]).filter(|_| self.code[at..].starts_with(' '));
            let Some((value, length)) = literal else {
                at += self.text[at..].chars().next().map_or(1, char::len_utf8);
                continue;
            };
            if SCRIPT_OPTIONS.contains(&value.as_str())
                && let Some(next) = self.text[at + length..].trim_start().strip_prefix(',')
            {
                let script = self.values(bare(next.trim_start())).pop();
                let end = next.find([',', ']', ')']).unwrap_or(next.len());
                found.push((at, script.ok_or_else(|| next[..end].trim().to_owned())));
            }
            // In unit tests options are read and not carried out; upper case stands for what an operator gives.
            if let Some(script) = value.strip_prefix(SCRIPT_PREFIX)
                && source.path.starts_with("tests")
                && script.chars().any(|c| c.is_ascii_lowercase())
            {
                found.push((at, Ok(script.to_owned())));
            }
            at += length;
        }
        found
    }
}

fn is_part_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Without what does not change which program is named.
fn bare(mut expression: &str) -> &str {
    while let Some(inner) =
        ["&", "format!(", "Path::new(", "vec!"].iter().find_map(|outer| expression.strip_prefix(outer))
    {
        expression = inner.trim_start();
    }
    expression
}

/// Whether it is the path of a program of the workspace: a field or variable of that name, what cargo tells, or the one that runs.
fn is_own(expression: &str) -> bool {
    let mut parts = expression.split('.');
    parts.any(|part| ["colo", "lab"].contains(&part))
        || expression.contains("env!(\"CARGO_BIN_EXE_")
        || expression.contains("current_exe()")
}

#[cfg(test)]
mod tests;
