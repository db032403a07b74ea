use std::fmt;

use super::compile_options::CompileOptions;
use super::error::RuntimeError;
use super::ffi::compat::RawTopology;
use super::ffi::executable::MemoryStats;
use super::platform::target_of;
use super::plugin::Plugin;
use crate::kernels::Target;

/// What [`Topology::compile_aot`] makes of a program.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AotExecutable {
    /// The serialized executable.
    pub bytes: Vec<u8>,
    /// Memory that it needs, in bytes for each device. `None` where the plugin cannot tell.
    pub memory: Option<MemoryStats>,
}

/// Devices to compile for that need not be there.
pub struct Topology {
    raw: RawTopology,
    name: String,
}

impl Topology {
    /// Most chips that a topology is made of; pods have fewer.
    pub const MAX_CHIPS: usize = 1 << 14;

    fn new(plugin: Plugin, name: &str) -> Result<Self, RuntimeError> {
        if chips(name).is_some_and(|chips| !(1..=Self::MAX_CHIPS).contains(&chips)) {
            return Err(RuntimeError::TopologyChips { name: name.to_owned(), most: Self::MAX_CHIPS });
        }
        if plugin.path().ends_with("libtpu.so") && std::env::var_os("TPU_SKIP_MDS_QUERY").is_none() {
            tracing::warn!(
                "TPU_SKIP_MDS_QUERY is not set: outside of a TPU VM libtpu will retry for minutes"
            );
        }
        Ok(Self { raw: RawTopology::create(plugin.table(), name)?, name: name.to_owned() })
    }

    /// The name that it was made from.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Version of the compiler and runtime that executables for this topology need.
    ///
    /// # Errors
    /// The plugin cannot tell.
    pub fn platform_version(&self) -> Result<String, RuntimeError> {
        self.raw.platform_version()
    }

    /// Whose kernels its devices run.
    ///
    /// # Errors
    /// The plugin cannot tell.
    pub fn target(&self) -> Result<Target, RuntimeError> {
        Ok(target_of(&self.raw.platform_name()?))
    }

    /// Kind of its devices, as [`Device::kind`](super::Device::kind) tells it of real ones.
    ///
    /// # Errors
    /// The plugin cannot tell, or they are of several kinds.
    pub fn device_kind(&self) -> Result<String, RuntimeError> {
        let mut kinds = self.raw.device_kinds()?.into_iter();
        match (kinds.next(), kinds.next()) {
            (Some(kind), None) => Ok(kind),
            _ => Err(RuntimeError::MixedTopology { name: self.name.clone() }),
        }
    }

    /// Compiles a program ahead of time, for [`Client::load`](super::Client::load) of the same plugin version on the devices
    /// themselves, and tells what memory it will need there.
    ///
    /// # Errors
    /// The compiler's words, or options that ask for devices that the topology has not.
    pub fn compile_aot(&self, mlir: &str, options: &CompileOptions) -> Result<AotExecutable, RuntimeError> {
        let _span = tracing::info_span!("compile_aot", topology = self.name, bytes = mlir.len()).entered();
        let options = options.to_pjrt(self.raw.device_count()?)?;
        let (bytes, memory) = self.raw.compile(mlir, options).map_err(|e| e.about(mlir))?;
        Ok(AotExecutable { bytes, memory })
    }
}

impl Plugin {
    /// A device topology by name, such as `v6e:2x2`, to compile for without its devices. CPU plugins have none.
    ///
    /// libtpu asks the cloud's metadata server first and retries for minutes where there is none: outside of a TPU VM
    /// set `TPU_SKIP_MDS_QUERY=1` before the process starts.
    ///
    /// # Errors
    /// The plugin does not know the name or cannot compile ahead of time, or the name is of no chips, or of more than
    /// [`Topology::MAX_CHIPS`].
    pub fn topology(&self, name: &str) -> Result<Topology, RuntimeError> {
        Topology::new(*self, name)
    }
}

/// Chips that a name ends in, as in `v6e:2x2` or `v5p:4x4x4_twisted`; `None` where it does not end so. libtpu divides by
/// them, and takes time and memory for each.
fn chips(name: &str) -> Option<usize> {
    let name = name.strip_suffix("_twisted").or(name.strip_suffix("_untwisted")).unwrap_or(name);
    let (_, grid) = name.rsplit_once(['=', '_', ':'])?;
    let digits = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
    if !grid.contains('x') || !grid.split('x').all(digits) {
        return None;
    }
    let sides = grid.split('x').map(|n| n.parse::<usize>().unwrap_or(usize::MAX));
    Some(sides.fold(1, usize::saturating_mul))
}

impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topology").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::chips;

    #[test]
    fn chips_are_counted_where_a_name_ends_in_them() {
        for (name, expected) in [
            ("v6e:2x2", Some(4)),
            ("tpu7x:2x2x1", Some(4)),
            ("v5p=4x4x8_twisted", Some(128)),
            ("TPU v5_4x4_untwisted", Some(16)),
            ("v6e:0x2", Some(0)),
            ("v6e:2x99999999999999999999", Some(usize::MAX)),
            ("v6e:4294967296x4294967296", Some(usize::MAX)),
            // The plugin's own business.
            ("", None),
            ("v6e", None),
            ("cuda:0", None),
            ("v6e:2x", None),
            ("v6e:x", None),
            ("v6e:-1x2", None),
            ("a:bxc", None),
        ] {
            assert_eq!(chips(name), expected, "{name}");
        }
    }
}
