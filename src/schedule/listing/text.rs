/// The text with comments replaced: an argument's label `/*name=*/` becomes `name=`, all others vanish. Comments may
/// span lines, and then so does what would be one line without them.
pub(super) fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("/*") {
        out.push_str(&rest[..at]);
        let Some(end) = rest[at..].find("*/") else { return out };
        let comment = &rest[at + 2..at + end];
        if comment.ends_with('=') && comment.len() > 1 && comment[..comment.len() - 1].chars().all(is_name) {
            out.push_str(comment);
        }
        rest = &rest[at + end + 2..];
    }
    out.push_str(rest);
    out
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Address and instructions of a line `  0x1f LB: >> { ... }`; `None` for headings.
pub(super) fn slot(line: &str) -> Option<(usize, &str)> {
    let (head, body) = line.split_once('{')?;
    let word = head.split_whitespace().next()?;
    let digits = word.trim_end_matches(':');
    let address = match digits.strip_prefix("0x") {
        Some(hex) => usize::from_str_radix(hex, 16).ok()?,
        None => digits.parse().ok()?,
    };
    if !head.contains(':') {
        return None;
    }
    Some((address, &body[..body.rfind('}')?]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_may_hold_labels_and_lines() {
        let text = "  0x2f LB: > { %1 = dma.x /*hbm=*/%s1, /*size=*/4 /* \nstrides: (8, {})\n */ } /* Start region 3 */";
        let plain = without_comments(text);
        assert_eq!(slot(&plain), Some((0x2f, " %1 = dma.x hbm=%s1, size=4  ")));
        assert_eq!(slot("   0   :  {}"), Some((0, "")));
        assert_eq!(slot("LH: loop header"), None);
    }
}
