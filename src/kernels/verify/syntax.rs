//! Brackets, lists and names of MLIR text.

/// Index of the bracket that closes one already open.
pub(super) fn matching(text: &str, close: char) -> Option<usize> {
    let mut depth = 0;
    for (i, c) in text.char_indices() {
        match c {
            '(' | '<' | '[' | '{' => depth += 1,
            // `->` is an arrow, not a bracket.
            '>' if text[..i].ends_with('-') => {}
            ')' | '>' | ']' | '}' if depth > 0 => depth -= 1,
            c if c == close => return Some(i),
            _ => {}
        }
    }
    None
}

/// Splits at commas outside brackets.
pub(super) fn split_top(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut from) = (0, 0);
    for (i, c) in text.char_indices() {
        match c {
            '(' | '<' | '[' | '{' => depth += 1,
            ')' | '>' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[from..i].trim());
                from = i + 1;
            }
            _ => {}
        }
    }
    parts.push(text[from..].trim());
    parts.retain(|p| !p.is_empty());
    parts
}

/// The colon before an operation's type: the last one outside brackets.
pub(super) fn top_level_colon(op: &str) -> Option<usize> {
    let mut depth = 0;
    let mut at = None;
    for (i, c) in op.char_indices() {
        match c {
            '(' | '<' | '[' | '{' => depth += 1,
            '>' if op[..i].ends_with('-') => {}
            ')' | '>' | ']' | '}' => depth -= 1,
            ':' if depth == 0 => at = Some(i),
            _ => {}
        }
    }
    at
}

/// Values that a text refers to, in order, with their `#n`.
pub(super) fn uses(text: &str) -> Vec<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '#';
    text.match_indices('%')
        .map(|(i, _)| {
            let end = text[i + 1..].find(|c| !is_name(c)).map_or(text.len(), |e| i + 1 + e);
            &text[i..end]
        })
        .collect()
}
