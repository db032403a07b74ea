//! A structural check of StableHLO text. Shared by the library and by build.rs.

mod header;
mod syntax;
mod walk;

use walk::Verifier;

/// What is wrong, and on which line of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}: {text}")]
pub struct VerifyError {
    /// Line, counted from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
    /// The line itself, its first 160 characters.
    pub text: String,
}

/// Checks StableHLO text without a compiler: a whole module, such as an engine's with functions of this library in it, or
/// functions alone.
///
/// It proves that regions balance; that every value is defined once, before its use, in a region that encloses the use; that
/// the types an operation states are those its operands were defined with; that `return` gives the function's results; and
/// that a called function is there, once, with that signature. What single operations mean is the compiler's business.
///
/// It knows one way of writing: an operation a line, in pretty form or generic with regions; regions opened at the end of a
/// line; function headers over as many lines as they like. What is written otherwise is an error, not passed over.
///
/// # Errors
/// The first line that is wrong, with what is wrong about it.
pub fn verify(text: &str) -> Result<(), VerifyError> {
    let lines = header::lines(text);
    let signatures = header::signatures(&lines);
    let mut verifier = Verifier::default();
    // Where what is open was opened.
    let mut open: Vec<usize> = Vec::new();
    let error = |at: usize, problem: String| {
        let (line, text) = &lines[at];
        VerifyError { line: *line, problem, text: text.chars().take(160).collect() }
    };
    for (at, (_, line)) in lines.iter().enumerate() {
        verifier.line(line, &signatures).map_err(|problem| error(at, problem))?;
        open.truncate(verifier.depth());
        open.resize(verifier.depth(), at);
    }
    match open.last() {
        Some(&at) => Err(error(at, "its region is not closed".to_owned())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
func.func private @f(%a: tensor<4xf32>, %n: tensor<i32>) -> tensor<4xf32> {
  %c0 = stablehlo.constant dense<0> : tensor<i32>
  %w:2 = stablehlo.while(%i = %c0, %x = %a) : tensor<i32>, tensor<4xf32>
  cond {
    %c = stablehlo.compare LT, %i, %n : (tensor<i32>, tensor<i32>) -> tensor<i1>
    stablehlo.return %c : tensor<i1>
  } do {
    %y = stablehlo.add %x, %a : tensor<4xf32>
    %z = \"stablehlo.if\"(%first) ({
      stablehlo.return %y : tensor<4xf32>
    }, {
      stablehlo.return %x : tensor<4xf32>
    }) : (tensor<i1>) -> tensor<4xf32>
    stablehlo.return %i, %z : tensor<i32>, tensor<4xf32>
  }
  return %w#1 : tensor<4xf32>
}";

    fn good() -> String {
        GOOD.replace(
            "    %y =",
            "    %first = stablehlo.compare EQ, %i, %c0 : (tensor<i32>, tensor<i32>) -> tensor<i1>\n    \
             %b:2 = stablehlo.optimization_barrier %x, %n : tensor<4xf32>, tensor<i32>\n    %y =",
        )
    }

    #[test]
    fn accepts_a_good_function() {
        verify(&good()).unwrap();
    }

    #[test]
    fn names_what_is_wrong() {
        let faults = [
            ("%y = stablehlo.add %x", "%y = stablehlo.add %q", "%q is not defined"),
            ("%y = stablehlo.add %x, %a", "%x = stablehlo.add %x, %a", "%x is defined twice"),
            (
                "add %x, %a : tensor<4xf32>",
                "add %x, %a : tensor<5xf32>",
                "%x is tensor<4xf32>, the operation says tensor<5xf32>",
            ),
            ("return %w#1 : tensor<4xf32>", "return %w#0 : tensor<i32>", "the function says"),
            ("return %w#1 :", "return %w#2 :", "%w has 2 results"),
            ("return %w#1 :", "return %y :", "%y is not defined"),
            ("%w:2", "%w:3", "names 3 results"),
            ("return %w#1 : tensor<4xf32>\n}", "return %w#1 : tensor<4xf32>", "its region is not closed"),
            ("compare LT, %i, %n", "compare LT, %i", "1 operands, 2 types"),
            ("stablehlo.add %x", "stablehlo.add {{ x }}", "template syntax"),
            ("barrier %x, %n", "barrier %n, %x", "%n is tensor<i32>, the operation says tensor<4xf32>"),
            ("%b:2 = ", "%b:3 = ", "names 3 results, the operation has 2"),
        ];
        for (from, to, expected) in faults {
            let text = good().replacen(from, to, 1);
            assert_ne!(text, good(), "{from} not found");
            let problem = verify(&text).unwrap_err().to_string();
            assert!(problem.contains(expected), "{problem} lacks {expected}");
        }
    }

    #[test]
    fn says_which_line_is_wrong() {
        let module = format!("module @m {{\n{}\n}}", good());
        verify(&module).unwrap();
        let error = |text: &str| verify(text).unwrap_err();
        let fault = error(&module.replace("compare LT, %i, %n", "compare LT, %i, %m"));
        assert_eq!((fault.line, fault.problem.as_str()), (6, "%m is not defined"));
        assert!(fault.text.starts_with("%c = stablehlo.compare LT, %i, %m"), "{fault}");
        // What was opened last and is still open; a brace that closes nothing.
        let fault = error(module.trim_end_matches('}'));
        assert_eq!((fault.line, fault.text.as_str()), (1, "module @m {"));
        let fault = error(&format!("{module}\n}}"));
        assert!(fault.problem.contains("closes nothing") && fault.text == "}", "{fault}");
        // Other ways of writing are not passed over.
        for line in ["stablehlo.custom_call @x(%a) : (tensor<4xf32>) -> ()", "%q = stablehlo.tuple %a"] {
            let text = module.replace("  return %w#1", &format!("  {line}\n  return %w#1"));
            assert_eq!(error(&text).text, line);
        }
    }

    #[test]
    fn headers_go_over_lines() {
        let text = "module @m {\nfunc.func public @main(\n    %a: tensor<f32> {tf.aliasing_output = 0 : i32},\n    %b: tensor<i32>\n) -> (tensor<f32>, tensor<i32>) {\n  return %a, %b : tensor<f32>, tensor<i32>\n}\n}";
        verify(text).unwrap();
        let fault = verify(&text.replace("return %a, %b :", "return %a, %c :")).unwrap_err();
        assert_eq!((fault.line, fault.text.as_str()), (6, "return %a, %c : tensor<f32>, tensor<i32>"));
    }

    #[test]
    fn checks_calls() {
        let call = |callee: &str, ty: &str| {
            format!(
                "{}\nfunc.func public @main(%a: tensor<4xf32>, %n: tensor<i32>) -> tensor<4xf32> {{\n  %r = func.call @{callee}(%a, %n) : (tensor<4xf32>, tensor<i32>) -> {ty}\n  return %r : {ty}\n}}",
                good()
            )
        };
        verify(&call("f", "tensor<4xf32>")).unwrap();
        assert!(verify(&call("g", "tensor<4xf32>")).unwrap_err().to_string().contains("@g is not defined"));
        let twice = format!("{}\n{}", good(), good());
        assert!(verify(&twice).unwrap_err().to_string().contains("@f is defined twice"));
        assert!(verify(&call("f", "tensor<3xf32>")).unwrap_err().to_string().contains("has signature"));
    }
}
