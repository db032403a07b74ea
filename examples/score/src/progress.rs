use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Progress of loading. Like every bar here it is drawn on standard error, and only if that is a terminal.
pub(crate) fn tensors() -> ProgressBar {
    bar("loading the model {wide_bar} {pos}/{len} tensors")
}

/// Progress of scoring; its message says what is being waited for.
pub(crate) fn items(count: usize) -> ProgressBar {
    let bar = bar("{spinner} {msg} {wide_bar} {pos}/{len} items");
    bar.set_length(count as u64);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Progress over requests of unknown number.
pub(crate) fn requests() -> ProgressBar {
    bar("{spinner} {pos} requests, {elapsed}")
}

fn bar(template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style)
}
