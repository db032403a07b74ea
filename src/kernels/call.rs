//! The line that calls a function.

use super::KernelError;
use super::function::Function;

impl Function {
    /// The line that calls it, for a module that has [`text`](Self::text) in it: `{result} = func.call @name(…) : (…) -> …`.
    ///
    /// `result` is the name of the result, as in `%o`; a function of several results has them as `%o#0`, `%o#1`, …
    /// `operands` are values of the types of [`inputs`](Self::inputs), in their order, as in `%q` or `%run#1`.
    ///
    /// # Errors
    /// Another number of operands than the function has, or a name that is no MLIR value of letters, digits and underscores
    /// (a number, or not starting with a digit).
    ///
    /// ```
    /// # fn main() -> Result<(), tpu_rpa::Error> {
    /// use tpu_rpa::kernels;
    /// use tpu_rpa::spec::{DType, KvWriteSpec};
    ///
    /// let write = kernels::kv_write("kv_write", &KvWriteSpec::new(2, 64, 16, DType::F32)?, 32, 8)?;
    /// let call = write.call("%pool1", &["%k", "%v", "%pool", "%slots", "%first_page"])?;
    /// assert!(call.starts_with("%pool1 = func.call @kv_write(%k, %v, %pool, %slots, %first_page) : ("));
    /// # Ok(())
    /// # }
    /// ```
    pub fn call(&self, result: &str, operands: &[&str]) -> Result<String, KernelError> {
        if operands.len() != self.inputs().len() {
            return Err(KernelError::Operands {
                function: self.name().to_owned(),
                found: operands.len(),
                expected: self.inputs().len(),
            });
        }
        if !is_value(result) {
            return Err(KernelError::Value { name: result.to_owned() });
        }
        for operand in operands {
            let (base, index) = operand.split_once('#').unwrap_or((operand, "0"));
            if !is_value(base) || index.is_empty() || !index.bytes().all(|b| b.is_ascii_digit()) {
                return Err(KernelError::Value { name: (*operand).to_owned() });
            }
        }
        let list = |types: &[super::TensorType]| {
            types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let (inputs, outputs) = (list(self.inputs()), list(self.outputs()));
        let (results, outputs) = match self.outputs().len() {
            1 => (result.to_owned(), outputs),
            n => (format!("{result}:{n}"), format!("({outputs})")),
        };
        let (name, operands) = (self.name(), operands.join(", "));
        Ok(format!("{results} = func.call @{name}({operands}) : ({inputs}) -> {outputs}"))
    }
}

fn is_value(name: &str) -> bool {
    let name = name.strip_prefix('%').unwrap_or_default();
    let number = name.bytes().all(|b| b.is_ascii_digit());
    let word = !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    !name.is_empty() && (number || word)
}

#[cfg(test)]
mod tests {
    use super::super::{Kernel, Target, stablehlo_function, verify};
    use crate::batch::{Group, Planner};
    use crate::spec::AttentionSpec;

    fn function() -> super::Function {
        let spec = AttentionSpec::builder(2, 1, 64).page_size(16).build().unwrap();
        let mut planner = Planner::new(16, 4, Target::Portable.tiling(16).unwrap()).unwrap();
        let plan = planner.plan(9, &[Group { cu_seg_lens: &[0, 9], ..Group::default() }]).unwrap();
        let kernel = Kernel::attention_write(&spec, &plan, 12).unwrap();
        stablehlo_function("step", &kernel, Target::Portable).unwrap()
    }

    #[test]
    fn a_module_that_calls_passes_the_check() {
        let step = function();
        let parameters: Vec<_> = (0..7).map(|i| format!("%a{i}: {}", step.inputs()[i])).collect();
        let call = step.call("%o", &["%a0", "%a1", "%a2", "%a3", "%a4", "%a5", "%a6"]).unwrap();
        let again = step.call("%p", &["%o#0", "%a1", "%a2", "%o#1", "%a4", "%a5", "%a6"]).unwrap();
        let (q, pool) = (&step.outputs()[0], &step.outputs()[1]);
        let module = format!(
            "module @m {{\n{}\nfunc.func public @main({}) -> ({q}, {pool}) {{\n  {call}\n  {again}\n  return %p#0, %p#1 : {q}, {pool}\n}}\n}}\n",
            step.text(),
            parameters.join(", ")
        );
        verify(&module).unwrap();
        let error = verify(&module.replace("@step(%o#0, %a1", "@step(%o#1, %a1")).unwrap_err();
        assert!(error.problem.contains("%o#1 is") && error.text.starts_with("%p:2 = func.call"), "{error}");
    }

    #[test]
    fn what_is_no_call_is_refused() {
        let step = function();
        let error = |result: &str, operands: &[&str]| step.call(result, operands).unwrap_err().to_string();
        assert_eq!(error("%o", &["%q"; 6]), "@step takes 7 operands; 6 are given");
        let good = ["%q"; 7];
        for result in ["o", "%", "%o#0", "%o:2", "%o = x"] {
            assert!(
                error(result, &good).starts_with(&format!("value is {result:?}; it must be")),
                "{result}"
            );
        }
        for operand in ["q", "%1a", "%q#", "%q#x", "%q, %r", "% q"] {
            let operands = [operand, "%k", "%v", "%p", "%m", "%s", "%f"];
            assert!(error("%o", &operands).contains(&format!("{operand:?}")), "{operand}");
        }
    }
}
