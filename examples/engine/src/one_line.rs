use std::error::Error;

/// An error and its causes on one line.
pub fn one_line(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let cause = error.to_string();
        // Many errors spell out their cause themselves.
        if !text.contains(&cause) {
            text += if text.is_empty() { "" } else { ": " };
            text += &cause;
        }
        next = error.source();
    }
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}
