//! The parameter types of a program, from its text: the C API does not tell them.

use crate::spec::DType;

/// Parameters of a program's `@main`, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    parameters: Vec<Parameter>,
}

/// One parameter of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    spelled: String,
    element: String,
    dims: Option<Vec<Option<usize>>>,
}

impl Signature {
    /// Reads `func.func @main(...)` out of MLIR text in its pretty form. `None` if there is none, or it cannot be read:
    /// then the plugin alone checks the arguments.
    pub fn parse(mlir: &str) -> Option<Self> {
        let text = without_comments_and_strings(mlir);
        let list = text.match_indices("func.func").find_map(|(at, keyword)| {
            let rest = text[at + keyword.len()..].trim_start();
            let rest = ["public", "private", "nested"]
                .iter()
                .find_map(|word| rest.strip_prefix(word))
                .unwrap_or(rest)
                .trim_start();
            rest.strip_prefix("@main")?.trim_start().strip_prefix('(')
        })?;
        let parameters =
            top_level(list, ')')?.into_iter().map(Parameter::parse).collect::<Option<Vec<_>>>()?;
        Some(Self { parameters })
    }

    /// The parameters, in order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }
}

impl Parameter {
    /// Reads `%name: type {attributes} loc(...)`.
    fn parse(text: &str) -> Option<Self> {
        let (_, ty) = text.split_once(':')?;
        let ty = ty.trim_start();
        let Some(inner) = ty.strip_prefix("tensor<") else {
            let spelled = ty.split([' ', '{', '\n', '\t']).next()?.to_owned();
            return Some(Self { element: spelled.clone(), spelled, dims: None });
        };
        // What follows the first comma is an encoding, which does not change the type of the data.
        let mut element = top_level(inner, '>')?.into_iter().next()?.trim();
        let spelled = format!("tensor<{element}>");
        let mut dims = Vec::new();
        while let Some((dim, rest)) = element.split_once('x') {
            match dim {
                "?" => dims.push(None),
                _ if !dim.is_empty() && dim.bytes().all(|byte| byte.is_ascii_digit()) => {
                    dims.push(Some(dim.parse().ok()?));
                }
                _ => break,
            }
            element = rest;
        }
        Some(Self { spelled, element: element.to_owned(), dims: Some(dims) })
    }

    /// The type as the program spells it, such as `tensor<4x8xf32>`.
    pub fn spelled(&self) -> &str {
        &self.spelled
    }

    /// The element type as the program spells it.
    pub fn element(&self) -> &str {
        &self.element
    }

    /// Shape; `None` for a parameter that is no array, and for a dimension that is not static.
    pub fn dims(&self) -> Option<&[Option<usize>]> {
        self.dims.as_deref()
    }

    pub(crate) fn takes_dtype(&self, dtype: DType) -> bool {
        self.element == dtype.mlir() || (dtype == DType::I32 && self.element == "si32")
    }

    /// Whether a buffer of this shape fits; with `sharded`, whether it can be one device's share.
    pub(crate) fn takes_dims(&self, found: &[usize], sharded: bool) -> bool {
        let Some(dims) = &self.dims else { return true };
        let fits = |(&dim, &found): (&Option<usize>, &usize)| match dim {
            None => true,
            Some(whole) if sharded => found <= whole && (found > 0 || whole == 0),
            Some(whole) => found == whole,
        };
        dims.len() == found.len() && dims.iter().zip(found).all(fits)
    }
}

/// The text up to the unnested `close`, cut at unnested commas. An empty list has no pieces.
fn top_level(text: &str, close: char) -> Option<Vec<&str>> {
    let (mut pieces, mut depth, mut start, mut last) = (Vec::new(), 0usize, 0, ' ');
    for (at, c) in text.char_indices() {
        match c {
            _ if depth == 0 && c == close => {
                if !text[start..at].trim().is_empty() {
                    pieces.push(&text[start..at]);
                }
                return Some(pieces);
            }
            ',' if depth == 0 => {
                pieces.push(&text[start..at]);
                start = at + 1;
            }
            '(' | '[' | '{' | '<' => depth += 1,
            '>' if last == '-' => {}
            ')' | ']' | '}' | '>' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        last = c;
    }
    None
}

/// Drops what could hold unbalanced brackets: comments, and the inside of string literals.
fn without_comments_and_strings(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['"', '/']) {
        kept.push_str(&rest[..at]);
        let tail = &rest[at..];
        if let Some(literal) = tail.strip_prefix('"') {
            let mut escaped = false;
            let end = literal.find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            kept.push_str("\"\"");
            rest = end.map_or("", |end| &literal[end + 1..]);
        } else if tail.starts_with("//") {
            rest = tail.find('\n').map_or("", |end| &tail[end..]);
        } else {
            kept.push('/');
            rest = &tail[1..];
        }
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(text: &str) -> Option<Vec<String>> {
        Some(Signature::parse(text)?.parameters.into_iter().map(|p| p.spelled).collect())
    }

    #[test]
    fn reads_main_among_noise() {
        let text = r#"
        // func.func @main(%a: tensor<9xf32>)
        module @m attributes {note = "func.func @main(%a: tensor<8xf32>) \" {"} {
          func.func private @main_helper(%x: tensor<7xf32>) -> tensor<7xf32> { return %x : tensor<7xf32> }
          func.func public @main(%a: tensor<2x?xbf16> {mhlo.sharding = "{devices=[4,1]<=[4]}", k = [1, 2]}, // first )
              %b: tensor<si32>, %c: tensor<0x3xi32, #enc<[0], "x">> loc("f":1:2), %t: !stablehlo.token {a = 1},
              %d: tensor<4xcomplex<f32>>) -> (tensor<2xf32>) {
        "#;
        let signature = Signature::parse(text).unwrap();
        let types: Vec<&str> = signature.parameters().iter().map(Parameter::spelled).collect();
        assert_eq!(
            types,
            [
                "tensor<2x?xbf16>",
                "tensor<si32>",
                "tensor<0x3xi32>",
                "!stablehlo.token",
                "tensor<4xcomplex<f32>>"
            ]
        );
        let [a, b, c, t, d] = signature.parameters() else { panic!() };
        assert_eq!(a.dims(), Some(&[Some(2), None][..]));
        assert!(a.takes_dtype(DType::Bf16) && !a.takes_dtype(DType::F32));
        assert!(
            a.takes_dims(&[2, 77], false) && !a.takes_dims(&[2], false) && !a.takes_dims(&[1, 77], false)
        );
        assert!(
            a.takes_dims(&[1, 77], true) && !a.takes_dims(&[3, 77], true) && !a.takes_dims(&[0, 7], true)
        );
        assert!(b.takes_dtype(DType::I32) && b.takes_dims(&[], false));
        assert!(c.takes_dims(&[0, 3], false) && c.takes_dims(&[0, 3], true));
        assert_eq!(t.dims(), None);
        assert_eq!((d.element(), d.dims()), ("complex<f32>", Some(&[Some(4)][..])));
    }

    #[test]
    fn empty_and_unreadable() {
        assert_eq!(spelled("func.func @main() -> tensor<f32> {").unwrap(), [""; 0]);
        for text in [
            "",
            "func.func @other()",
            "func.func @main(%a: tensor<2xf32>",
            "func.func @main(%a)",
            "\"",
            "func.func @main(}",
            "/",
            "func.func @main(%a: tensor<2x",
            "func.func @main(%é: tensor<99999999999999999999xf32>)",
        ] {
            assert_eq!(spelled(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(tail in "[@:,x%?0-9a-z<>(){}\\[\\]\"/\\\\ \né-]{0,80}") {
            let _ = Signature::parse(&tail);
            let _ = Signature::parse(&format!("func.func @main({tail}"));
            let _ = Signature::parse(&format!("func.func @main(%a: tensor<{tail}"));
        }
    }
}
