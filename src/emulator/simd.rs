//! Code compiled for the widest vector unit that the machine has. build.rs executes nothing and does without.

/// Runs `f` with the machine's vector instructions enabled. Without fused multiply-add unless written as such, so
/// results do not depend on the machine.
#[inline(always)]
pub(crate) fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(in_library)]
    return pulp::Arch::new().dispatch(f);
    #[cfg(not(in_library))]
    f()
}

/// Runs `f` where the machine has fused multiply-add, with that enabled.
#[inline(always)]
pub(crate) fn fused<R>(f: impl FnOnce() -> R) -> Option<R> {
    #[cfg(all(in_library, target_arch = "x86_64"))]
    if let pulp::Arch::V3(simd) = pulp::Arch::new() {
        return Some(simd.vectorize(f));
    }
    let _ = f;
    None
}
