use super::metadata::{Metadata, Neutral::Number, Neutral::Text};
use super::{EngineError, ModelFile};

/// Keys and, with a full stop at the end, groups of keys that change no score, and why.
const HARMLESS: [(&str, &str); 3] = [
    ("general.", "names, authors, licence and origin; the four that say more are read below"),
    ("tokenizer.chat_template", "no template is applied: requests are whole prompts"),
    ("tokenizer.chat_template.", "the same, by name"),
];

/// Groups of keys that a reader of this architecture looks into. Others are notes of the tools that a file went through.
const READ: [&str; 3] = ["general", "split", "tokenizer"];

/// Reads what the keys of the container ask for, whatever the architecture. `file` is whole, or refused here.
pub fn read(file: &ModelFile, architecture: &str, metadata: &mut Metadata<'_>) -> Result<(), EngineError> {
    // An adapter or a projector has tensors of other meaning.
    metadata.neutral("general.type", &[Text("model")])?;
    // Blocks of version 1 were laid out otherwise.
    metadata.neutral("general.quantization_version", &[Number(2.0)])?;
    // The reader of the file has laid tensors out by it.
    let alignment = metadata.count_or("general.alignment", 32)?;
    if !alignment.is_power_of_two() || alignment < 8 {
        return Err(metadata.refused("general.alignment", "it must be a power of two of at least 8"));
    }
    metadata.neutral("split.no", &[Number(0.0)])?;
    metadata.neutral("split.count", &[Number(0.0), Number(1.0)])?;
    metadata.neutral("split.tensors.count", &[Number(file.tensor_count() as f64)])?;
    metadata.pass_over_all(|key| {
        let group = key.split('.').next().unwrap_or(key);
        let harmless = HARMLESS.iter().any(|(name, _)| match name.strip_suffix('.') {
            Some(_) => key.starts_with(name),
            None => key == *name,
        });
        harmless || (group != architecture && !READ.contains(&group))
    });
    Ok(())
}
