//! Custom calls of a program's text.

use base64::Engine as _;

/// What the compiler of a TPU reads of a custom call.
pub(super) struct TpuCall {
    /// The kernel's Mosaic text.
    pub text: String,
    /// Operand and result that share memory.
    pub aliases: Vec<(usize, usize)>,
}

/// Name under which kernels are called in interpreted programs.
pub(super) const TARGET: &str = "tpu_rpa_interpreted";

const TPU_CALL: &str = "tpu_custom_call";

/// The text with every TPU custom call replaced by one of [`TARGET`] that has a text attribute `kernel`: what `add` gives for it.
pub(super) fn interpreted(
    mlir: &str,
    mut add: impl FnMut(TpuCall) -> Result<String, String>,
) -> Result<String, String> {
    const OP: &str = "stablehlo.custom_call @tpu_custom_call(";
    let mut out = String::with_capacity(mlir.len());
    let mut rest = mlir;
    while let Some(at) = rest.find(OP) {
        let (before, call) = rest.split_at(at);
        out.push_str(before);
        let line = mlir[..mlir.len() - call.len()].lines().count();
        let (operands, behind) = call[OP.len()..]
            .split_once(')')
            .ok_or_else(|| format!("the custom call in line {line} has no end of operands"))?;
        let attributes =
            attributes(behind).ok_or_else(|| format!("the custom call in line {line} has no attributes"))?;
        let config = attributes
            .iter()
            .find(|attribute| attribute.name == "backend_config")
            .ok_or_else(|| format!("the custom call in line {line} has no backend_config"))?;
        let aliases = attributes.iter().find(|attribute| attribute.name == "output_operand_aliases");
        let call = TpuCall {
            text: body(config.value).map_err(|reason| format!("the custom call in line {line}: {reason}"))?,
            aliases: aliases.map_or(Ok(Vec::new()), |aliases| pairs(aliases.value)).map_err(|reason| {
                format!("output_operand_aliases of the custom call in line {line}: {reason}")
            })?,
        };
        for attribute in attributes.iter().filter(|attribute| attribute.name.ends_with("_layouts")) {
            if !row_major(attribute.value) {
                let Attribute { name, value, .. } = attribute;
                return Err(format!(
                    "{name} of the custom call in line {line} are {value}; only row-major ones are read"
                ));
            }
        }
        let kernel = add(call).map_err(|reason| format!("the custom call in line {line}: {reason}"))?;
        out.push_str(&format!("stablehlo.custom_call @{TARGET}({operands}) {{"));
        let kept = ["operand_layouts", "result_layouts", "output_operand_aliases"];
        for attribute in attributes.iter().filter(|attribute| kept.contains(&attribute.name)) {
            out.push_str(&format!("{} = {}, ", attribute.name, attribute.value));
        }
        out.push_str(&format!("api_version = 4 : i32, backend_config = {{kernel = \"{kernel}\"}}}}"));
        let end = attributes.last().map_or(0, |last| last.end);
        // The closing brace.
        rest = behind[end..].split_once('}').map_or("", |(_, rest)| rest);
    }
    if rest.contains(TPU_CALL) || out.contains(TPU_CALL) {
        return Err(format!("a {TPU_CALL} is written in a form that is not read: {OP}…) {{…}}"));
    }
    out.push_str(rest);
    Ok(out)
}

/// Whether every list of dimensions, fastest first, counts down: `[dense<[1, 0]> : tensor<2xindex>, …]`.
fn row_major(layouts: &str) -> bool {
    layouts.split("dense<").skip(1).all(|layout| {
        let list = layout.split_once('>').map_or("", |(list, _)| list).trim_matches(['[', ']']);
        let dims: Vec<&str> = list.split(',').map(str::trim).filter(|dim| !dim.is_empty()).collect();
        dims.iter().rev().enumerate().all(|(at, dim)| *dim == at.to_string())
    })
}

struct Attribute<'a> {
    name: &'a str,
    value: &'a str,
    /// Where the value ends.
    end: usize,
}

/// Attributes of ` {name = value, …}`; values may be texts, lists and dictionaries.
fn attributes(text: &str) -> Option<Vec<Attribute<'_>>> {
    let open = text.find('{')?;
    if !text[..open].trim().is_empty() {
        return None;
    }
    let mut found = Vec::new();
    let mut at = open + 1;
    loop {
        let name_end = at + text[at..].find(['=', '}'])?;
        if text.as_bytes()[name_end] == b'}' {
            return None;
        }
        let name = text[at..name_end].trim();
        let end = value_end(text, name_end + 1)?;
        found.push(Attribute { name, value: text[name_end + 1..end].trim(), end });
        match text.as_bytes().get(end)? {
            b',' => at = end + 1,
            _ => return Some(found),
        }
    }
}

/// Where a value ends: at a comma or brace that is in no bracket and in no text.
fn value_end(text: &str, start: usize) -> Option<usize> {
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    for (at, byte) in text.bytes().enumerate().skip(start) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'[' | b'{' | b'<' | b'(' => depth += 1,
            b'}' | b',' if depth == 0 => return Some(at),
            b']' | b'}' | b'>' | b')' => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

/// The kernel text of a quoted `backend_config`.
fn body(config: &str) -> Result<String, String> {
    let quoted = config.strip_prefix('"').and_then(|c| c.strip_suffix('"'));
    let config = quoted.ok_or("backend_config is no text")?.replace("\\22", "\"").replace("\\\"", "\"");
    const BODY: &str = "\"body\":";
    let value = config.split_once(BODY).ok_or("backend_config has no body")?.1.trim_start();
    let encoded = value.strip_prefix('"').and_then(|v| v.split_once('"')).ok_or("body is no text")?.0;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(encoded)
        .map_err(|error| format!("body is no base64: {error}"))?;
    String::from_utf8(bytes).map_err(|_| "body is no MLIR text; bytecode is not read".to_owned())
}

/// Operand and result of every `#stablehlo.output_operand_alias`.
fn pairs(aliases: &str) -> Result<Vec<(usize, usize)>, String> {
    aliases
        .split("#stablehlo.output_operand_alias<")
        .skip(1)
        .map(|alias| {
            let number = |name: &str| {
                let value = alias.split_once(name)?.1.trim_start().strip_prefix('=')?.trim_start();
                let digits = value.trim_start_matches('[');
                let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
                // An empty list is the only result.
                Some(if end == 0 { 0 } else { digits[..end].parse().ok()? })
            };
            let pair = Option::zip(number("operand_index"), number("output_tuple_indices"));
            pair.ok_or_else(|| "it names no operand and result".to_owned())
        })
        .collect()
}
