//! JSON Lines: one request a line, one response a line, in order.

use std::io::{self, BufRead, Read, Write};

use serde::Serialize;

use super::wire::Failure;

/// Bytes of the longest line that is read into memory.
pub const MAX_LINE: usize = 16 << 20;

/// What [`serve`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    pub requests: usize,
    pub failures: usize,
}

/// Answers every line until the input ends, and flushes after each. A bad line gets an error response, as an empty
/// line does, so that line `n` of the output always belongs to line `n` of the input.
pub fn serve<A: Serialize>(
    mut input: impl BufRead,
    mut output: impl Write,
    max_line: usize,
    mut answer: impl FnMut(&[u8]) -> Result<A, Failure>,
) -> io::Result<Served> {
    let mut served = Served::default();
    while let Some(line) = next_line(&mut input, max_line)? {
        let answer = match line {
            Line::TooLong => Err(Failure::invalid(
                "line_too_long",
                None,
                format!("the line is longer than {max_line} bytes"),
            )),
            Line::Whole(line) if line.trim_ascii().is_empty() => {
                Err(Failure::invalid("empty_line", None, "the line is empty"))
            }
            Line::Whole(line) => answer(&line),
        };
        served.requests += 1;
        served.failures += usize::from(answer.is_err());
        match answer {
            Ok(answer) => serde_json::to_writer(&mut output, &answer)?,
            Err(failure) => serde_json::to_writer(&mut output, &failure.in_full().to_json())?,
        }
        output.write_all(b"\n")?;
        output.flush()?;
    }
    Ok(served)
}

enum Line {
    Whole(Vec<u8>),
    TooLong,
}

/// The next line without its end; of a line that is too long only the bound is kept, the rest is passed over.
fn next_line(input: &mut impl BufRead, max_line: usize) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    // The line, its end, and one byte that tells a long line from one that just fits.
    let read = input.by_ref().take(max_line as u64 + 1).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() > max_line {
        input.skip_until(b'\n')?;
        return Ok(Some(Line::TooLong));
    }
    Ok(Some(Line::Whole(line)))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn lengths(input: &[u8]) -> Vec<String> {
        let mut output = Vec::new();
        serve(input, &mut output, 4, |line| Ok(line.len())).expect("memory does not fail");
        let lines = String::from_utf8(output).expect("JSON is UTF-8");
        let code = |v: Value| v["error"]["code"].as_str().map(str::to_owned).unwrap_or(v.to_string());
        lines.lines().map(|line| code(serde_json::from_str(line).expect("JSON"))).collect()
    }

    #[test]
    fn every_line_has_its_answer() {
        assert_eq!(lengths(b"ab\n\n1234\n12345\nx"), ["2", "empty_line", "4", "line_too_long", "1"]);
        assert_eq!(lengths(b"12345678901\n12\n"), ["line_too_long", "2"]);
        assert_eq!(lengths(b""), [""; 0]);
        assert_eq!(lengths(b"12345"), ["line_too_long"]);
    }
}
