use crate::kernels::Target;

/// Whose kernels run on a platform of this name.
pub(super) fn target_of(platform: &str) -> Target {
    if platform.eq_ignore_ascii_case("tpu") { Target::Tpu } else { Target::Portable }
}
