/// Most characters of a name or a text that an error repeats.
const LONGEST: usize = 80;

/// A text from a file as an error may repeat it: on one line, without control characters, not without end.
pub fn shown(text: &str) -> String {
    let mut characters = text.chars();
    let mut shown: String = characters.by_ref().take(LONGEST).flat_map(char::escape_debug).collect();
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}
