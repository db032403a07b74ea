//! What stops a build.

pub(crate) type Result<T> = std::result::Result<T, String>;

/// Ends the build with a message.
pub(crate) fn fail<T>(problem: String) -> T {
    eprintln!("kernels: {problem}");
    std::process::exit(1)
}
