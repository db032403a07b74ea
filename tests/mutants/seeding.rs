use tpu_rpa::emulator::{DmaPolicy, Emulator, EmulatorError, ReductionOrder, RunOptions};

/// A seeded fault and what became of it.
pub struct Mutant {
    pub kernel: &'static str,
    /// `text`, `planner` or `wrapper`.
    pub part: &'static str,
    pub fault: &'static str,
    /// The edit, as the table shows it.
    pub edit: String,
    /// The first check that failed.
    pub killed_by: Option<String>,
}

/// Name of the check that failed.
pub type Killed = Result<(), String>;

/// An edit of a text, in a place that must be there exactly once.
pub enum Edit {
    Replace(String, String),
    /// The line that holds this.
    Drop(String),
    /// The line that holds this, and what takes its place.
    Line(String, String),
}

pub fn replace(from: impl Into<String>, to: impl Into<String>) -> Edit {
    Edit::Replace(from.into(), to.into())
}

pub fn drop_line(with: impl Into<String>) -> Edit {
    Edit::Drop(with.into())
}

impl Edit {
    fn place(&self) -> &str {
        match self {
            Edit::Replace(place, _) | Edit::Drop(place) | Edit::Line(place, _) => place,
        }
    }

    /// The edited text; panics if the place is not there, or there twice.
    pub fn apply(&self, text: &str) -> String {
        let places = text.matches(self.place()).count();
        assert_eq!(places, 1, "`{}` is there {places} times: the mutant cannot be seeded", self.place());
        let line = |new: Option<&str>| {
            let lines = text.lines().filter_map(|l| if l.contains(self.place()) { new } else { Some(l) });
            lines.collect::<Vec<_>>().join("\n")
        };
        match self {
            Edit::Replace(from, to) => text.replace(from.as_str(), to),
            Edit::Drop(_) => line(None),
            Edit::Line(_, new) => line(Some(new)),
        }
    }

    fn shown(&self) -> String {
        match self {
            Edit::Replace(from, to) if to.is_empty() => format!("`{from}` dropped"),
            Edit::Replace(from, to) => format!("`{from}` → `{}`", to.replace('\n', " ")),
            Edit::Drop(with) => format!("line with `{with}` dropped"),
            Edit::Line(with, new) => format!("line with `{with}` → `{}`", new.trim()),
        }
    }
}

/// Seeds edits of `text` one at a time. `check` must pass on the text itself.
pub fn seed(
    kernel: &'static str,
    part: &'static str,
    text: &str,
    edits: Vec<(&'static str, Edit)>,
    check: impl Fn(&str) -> Killed,
) -> Vec<Mutant> {
    check(text).unwrap_or_else(|by| panic!("{kernel}: the {part} without a fault fails: {by}"));
    let mutants = edits.into_iter().map(|(fault, edit)| {
        let killed_by = check(&edit.apply(text)).err();
        Mutant { kernel, part, fault, edit: edit.shown(), killed_by }
    });
    mutants.collect()
}

/// An edit of words, with how the table shows it.
pub type WordEdit<'a> = (&'static str, &'static str, Box<dyn Fn(&mut Vec<i32>) + 'a>);

/// Seeds edits of the planner's words one at a time; an edit must change some.
pub fn seed_words(
    kernel: &'static str,
    words: &[i32],
    edits: Vec<WordEdit<'_>>,
    check: impl Fn(&[i32]) -> Killed,
) -> Vec<Mutant> {
    check(words).unwrap_or_else(|by| panic!("{kernel}: the words without a fault fail: {by}"));
    let mutants = edits.into_iter().map(|(fault, shown, edit)| {
        let mut changed = words.to_vec();
        edit(&mut changed);
        assert_ne!(changed, words, "{kernel}: {fault}: the mutant cannot be seeded");
        Mutant { kernel, part: "planner", fault, edit: shown.to_owned(), killed_by: check(&changed).err() }
    });
    mutants.collect()
}

/// Parses a text.
pub fn emulator(text: &str) -> Result<Emulator, String> {
    Emulator::new(text).map_err(|e| diagnosis(&e))
}

/// The name under which a diagnosis stands in the table.
pub fn diagnosis(error: &EmulatorError) -> String {
    match error {
        EmulatorError::Fault(fault) => format!("emulator: {}", fault.kind),
        EmulatorError::StepLimit { .. } => "emulator: step limit".to_owned(),
        EmulatorError::Operands { .. } => "emulator: operands".to_owned(),
        _ => "emulator: verifier".to_owned(),
    }
}

/// Orders under which a mutant is run, until one kills it.
pub fn orders() -> [RunOptions; 3] {
    let options = || RunOptions::default().max_steps(3_000_000);
    [
        options(),
        options().dma(DmaPolicy::OnWait).sums(ReductionOrder::BalancedTree),
        options().dma(DmaPolicy::Random).seed(1),
    ]
}
