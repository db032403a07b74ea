use std::fmt;

use super::error::RuntimeError;
use super::ffi::profiler::RawProfiler;
use super::plugin::Plugin;

/// A `tensorflow.ProfileOptions`, serialized: host_tracer_level (2) = 2, device_tracer_level (3) = 1, version (5) = 1,
/// enable_hlo_proto (7) = true; all of XLA's defaults, which proto3 cannot express by leaving them out.
const OPTIONS: [u8; 8] = [2 << 3, 2, 3 << 3, 1, 5 << 3, 1, 7 << 3, 1];

/// Records what a plugin's devices do, from [`Profiler::start`] to [`Profiler::stop`].
///
/// Only plugins with the profiler extension of the C API can: libtpu has it (seen in C API 0.117), the CPU plugins have
/// not (0.81, 0.106, 0.115). A plugin has one profiler, whatever number of clients there are.
pub struct Profiler {
    raw: RawProfiler,
}

impl Profiler {
    /// Starts recording.
    ///
    /// # Errors
    /// [`RuntimeError::MissingExtension`] where the plugin has no profiler; or the plugin's words, for example where it
    /// has no device to record.
    pub fn start(plugin: &Plugin) -> Result<Self, RuntimeError> {
        match RawProfiler::start(plugin.table(), &OPTIONS)? {
            Some(raw) => Ok(Profiler { raw }),
            None => Err(RuntimeError::MissingExtension { extension: "Profiler", found: plugin.extensions() }),
        }
    }

    /// Stops recording, and returns a serialized `tensorflow.profiler.XSpace`: the content of the `.xplane.pb` files
    /// that XProf and TensorBoard open.
    ///
    /// # Errors
    /// The plugin's words.
    pub fn stop(self) -> Result<Vec<u8>, RuntimeError> {
        let mut space = self.raw.stop()?;
        space.truncate(message_len(&space));
        Ok(space)
    }
}

/// Bytes of the message at the start of `bytes`: XLA's plugins append a zero (`plugin_tracer_impl.cc` allocates one byte
/// more than the message has and returns that size), which no reader takes for a field. All of them where the fields,
/// which are texts and messages in an XSpace, are not readable.
fn message_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&tag) = bytes.get(at) {
        if tag == 0 {
            return at;
        }
        let (mut len, mut shift) = (0usize, 0);
        loop {
            at += 1;
            let Some(&byte) = bytes.get(at) else { return bytes.len() };
            len |= usize::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
        if tag & 7 != 2 || tag >= 0x80 {
            return bytes.len();
        }
        at = (at + 1).saturating_add(len);
    }
    bytes.len()
}

impl fmt::Debug for Profiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profiler").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::message_len;

    #[test]
    fn a_zero_behind_the_message_is_no_part_of_it() {
        // A field 1 of three bytes that ends in a zero, and a field 2 of 130.
        let mut message = vec![0x0a, 3, 1, 2, 0, 0x12, 0x82, 1];
        message.extend([7; 129]);
        message.push(0);
        let len = message.len();
        assert_eq!(message_len(&message), len);
        message.push(0);
        assert_eq!(message_len(&message), len);
        assert_eq!((message_len(&[]), message_len(&[0])), (0, 0));
        // What is no such message is left as it is.
        for bytes in [&[0x0a, 9, 1][..], &[0x08, 5, 0], &[0x0a], &[0xff; 30]] {
            assert_eq!(message_len(bytes), bytes.len(), "{bytes:?}");
        }
    }
}
