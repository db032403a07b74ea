//! Function headers: over how many lines they go, and what they promise.

use std::collections::HashMap;

use super::syntax::{matching, split_top};

/// Parameter and result types of every function, by name.
pub(super) type Signatures<'a> = HashMap<&'a str, Signature<'a>>;
type Signature<'a> = (Vec<&'a str>, Vec<&'a str>);

/// Lines with their numbers from 1; those of a function's header are one.
pub(super) fn lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (number, line) in text.lines().map(str::trim).enumerate() {
        match lines.last_mut().filter(|_| open) {
            Some((_, header)) => {
                header.push(' ');
                header.push_str(line);
            }
            None => lines.push((number + 1, line.to_owned())),
        }
        open = lines.last().is_some_and(|(_, line)| line.starts_with("func.func") && !line.ends_with('{'));
    }
    lines
}

pub(super) fn signatures(lines: &[(usize, String)]) -> Signatures<'_> {
    let headers = lines.iter().map(|(_, line)| line.as_str()).filter(|line| line.starts_with("func.func"));
    headers.filter_map(header).collect()
}

/// Name, parameter types and result types.
pub(super) fn header(line: &str) -> Option<(&str, Signature<'_>)> {
    let (_, rest) = line.split_once('@')?;
    let (name, rest) = rest.split_once('(')?;
    let close = matching(rest, ')')?;
    let parameters = split_top(&rest[..close]).into_iter().filter_map(|p| Some(p.split_once(':')?.1.trim()));
    let results = rest[close + 1..].trim().strip_prefix("->").map_or(Vec::new(), |r| {
        let r = r.trim().trim_end_matches('{').trim();
        split_top(r.strip_prefix('(').and_then(|r| r.strip_suffix(')')).unwrap_or(r))
    });
    Some((name, (parameters.map(|p| p.split('{').next().unwrap_or(p).trim()).collect(), results)))
}
