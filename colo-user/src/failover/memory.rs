//! What an agent must know when it is started again on the same VM: one line of text, kept in a small file that does not
//! outlive the host.

use super::Standing;
use crate::judge::Claimant;
use std::fmt;
use std::str::FromStr;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The last term that this side took part in.
    pub term: u64,
    /// Primary: the next one, of which the secondary may own a state already.
    pub next: Option<u64>,
    /// Who it is to the judge.
    pub claimant: Claimant,
    /// Where it stood.
    pub standing: Standing,
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let next = self.next.map_or_else(|| "-".to_owned(), |next| format!("{next:016x}"));
        writeln!(f, "colo 1 {:016x} {next} {} {}", self.term, self.claimant, self.standing)
    }
}

impl FromStr for Memory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not what colo keeps here: `colo 1 TERM NEXT CLAIMANT STANDING`");
        let words: Vec<&str> = text.split_whitespace().collect();
        let ["colo", "1", term, next, claimant, standing] = words[..] else { return Err(wrong()) };
        let number = |word: &str| u64::from_str_radix(word, 16).map_err(|_| wrong());
        Ok(Self {
            term: number(term)?,
            next: if next == "-" { None } else { Some(number(next)?) },
            claimant: claimant.parse().map_err(|()| wrong())?,
            standing: Standing::ALL.into_iter().find(|s| s.word() == standing).ok_or_else(wrong)?,
        })
    }
}

#[cfg(test)]
mod tests;
