//! Named values: what plugins say of themselves.

use pjrt_sys::*;

use super::abi::{slice, text};
use crate::runtime::options::OptionValue;

/// Copies the plugin's named values; types of later versions are left out.
#[allow(non_upper_case_globals)]
pub(super) fn named_values(values: &[PJRT_NamedValue]) -> Vec<(String, OptionValue)> {
    let value_of = |value: &PJRT_NamedValue| {
        let union = &value.__bindgen_anon_1;
        // SAFETY: `type_` says which member of the union was written; arrays have `value_size` elements.
        unsafe {
            Some(match value.type_ {
                PJRT_NamedValue_Type_PJRT_NamedValue_kString => {
                    OptionValue::String(text(union.string_value, value.value_size))
                }
                PJRT_NamedValue_Type_PJRT_NamedValue_kInt64 => OptionValue::Int64(union.int64_value),
                PJRT_NamedValue_Type_PJRT_NamedValue_kInt64List => {
                    OptionValue::Int64List(slice(union.int64_array_value, value.value_size).to_vec())
                }
                PJRT_NamedValue_Type_PJRT_NamedValue_kFloat => OptionValue::Float(union.float_value),
                PJRT_NamedValue_Type_PJRT_NamedValue_kBool => OptionValue::Bool(union.bool_value),
                _ => return None,
            })
        }
    };
    values
        .iter()
        // SAFETY: a named value's name has `name_size` bytes.
        .filter_map(|value| Some((unsafe { text(value.name, value.name_size) }, value_of(value)?)))
        .collect()
}
