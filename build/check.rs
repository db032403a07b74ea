//! Renders and checks what manifests declare.

use crate::emulator::{Emulator, Location};
use crate::kernels::{self, Function, Kernel, Target, TpuKind, Variant};
use crate::problem::Result;

/// What a variant's Mosaic form is on a kind of TPU.
pub(crate) struct MosaicForm {
    pub variant: &'static str,
    pub kind: TpuKind,
    pub kernel: Kernel,
    pub function: Function,
}

/// Checks a variant's texts; returns its Mosaic forms.
pub(crate) fn check(variant: &Variant) -> Result<Vec<MosaicForm>> {
    let at = variant.id;
    let kernel = |target| variant.kernel(target).map_err(|e| format!("{at}: workload: {e}"));
    let function = |kernel: &Kernel, target| {
        kernels::stablehlo_function(kernel.name(), kernel, target).map_err(|e| format!("{at}: {e}"))
    };
    function(&kernel(Target::Portable)?, Target::Portable)?;
    if !variant.mosaic {
        return Ok(Vec::new());
    }
    let default = kernel(Target::Tpu)?;
    check_mosaic(at, &default, &TpuKind::ALL)?;
    let forms = TpuKind::ALL.into_iter().map(|kind| {
        let kernel = variant.tpu_kernel(kind).map_err(|e| format!("{at}: workload on {kind}: {e}"))?;
        if kernel != default {
            check_mosaic(at, &kernel, &[kind])?;
        }
        let function = function(&kernel, Target::Tpu)?;
        Ok(MosaicForm { variant: at, kind, kernel, function })
    });
    forms.collect()
}

/// Parses and verifies the Mosaic text, and holds what it declares against the memories of device kinds.
fn check_mosaic(at: &str, kernel: &Kernel, kinds: &[TpuKind]) -> Result<()> {
    let text = kernel.mosaic_text(kernel.name()).map_err(|e| format!("{at}: {e}"))?;
    let line = |location: Option<Location>| {
        let line = location.and_then(|l| text.lines().nth(l.line as usize - 1));
        line.map_or(String::new(), |line| format!(": {}", line.trim().chars().take(160).collect::<String>()))
    };
    let parsed = Emulator::new(&text).map_err(|e| format!("{at}: Mosaic text: {e}{}", line(e.location())))?;
    if let Some(finding) = parsed.check_alignment().first() {
        return Err(format!("{at}: Mosaic text: {finding}{}", line(Some(finding.location))));
    }
    for kind in kinds {
        parsed
            .memory()
            .within(kind.vmem_budget(), kind.smem_budget())
            .map_err(|e| format!("{at}: on {kind} it {e}"))?;
    }
    Ok(())
}
