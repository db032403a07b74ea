use std::collections::BTreeMap;

use pjrt::protos::xla::{OptionOverrideProto, option_override_proto::Value};

use super::error::RuntimeError;

/// How a program is compiled. Equal options and equal text share one executable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileOptions {
    num_replicas: u32,
    num_partitions: u32,
    use_spmd_partitioning: bool,
    use_shardy: bool,
    device_ordinal: i64,
    env_option_overrides: BTreeMap<String, String>,
}

impl Default for CompileOptions {
    fn default() -> Self {
        Self {
            num_replicas: 1,
            num_partitions: 1,
            use_spmd_partitioning: false,
            use_shardy: false,
            device_ordinal: -1,
            env_option_overrides: BTreeMap::new(),
        }
    }
}

impl CompileOptions {
    /// One device, no partitioning.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs the same program on this many devices, each with its own arguments: from 1 to as many as there are, times the
    /// partitions.
    pub fn num_replicas(mut self, replicas: u32) -> Self {
        self.num_replicas = replicas;
        self
    }

    /// Cuts the program into this many parts, one a device.
    pub fn num_partitions(mut self, partitions: u32) -> Self {
        self.num_partitions = partitions;
        self
    }

    /// Whether the parts are cut from one program with global types, by its sharding annotations.
    pub fn use_spmd_partitioning(mut self, on: bool) -> Self {
        self.use_spmd_partitioning = on;
        self
    }

    /// Whether the sharding annotations are of the `sdy` dialect.
    pub fn use_shardy(mut self, on: bool) -> Self {
        self.use_shardy = on;
        self
    }

    /// Compiles for this device, by its ordinal, below the number of devices; the plugin chooses by default.
    pub fn device_ordinal(mut self, ordinal: u32) -> Self {
        self.device_ordinal = ordinal.into();
        self
    }

    /// Sets one of the compiler's own flags, such as `xla_cpu_enable_fast_math`, for this program. Booleans are `True`
    /// and `False`.
    pub fn env_option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env_option_overrides.insert(name.into(), value.into());
        self
    }

    /// The options as `pjrt` encodes them, for a client or topology of `devices`. Plugins narrow numbers, and abort at
    /// those that are negative then.
    pub(crate) fn to_pjrt(&self, devices: usize) -> Result<pjrt::CompileOptions, RuntimeError> {
        let refuse = |field, value: i64, bound| Err(RuntimeError::CompileOption { field, value, bound });
        let most = i64::try_from(devices).unwrap_or(i64::MAX);
        let (replicas, partitions) = (i64::from(self.num_replicas), i64::from(self.num_partitions));
        for (field, value) in [("num_replicas", replicas), ("num_partitions", partitions)] {
            if !(1..=most).contains(&value) {
                return refuse(field, value, format!("from 1 to {most}, the number of devices"));
            }
        }
        if replicas > most / partitions {
            let bound = format!("at most {most}, the number of devices");
            return refuse("num_replicas x num_partitions", replicas.saturating_mul(partitions), bound);
        }
        if self.device_ordinal >= most {
            return refuse(
                "device_ordinal",
                self.device_ordinal,
                format!("below {most}, the number of devices"),
            );
        }
        let mut options = pjrt::CompileOptions::new();
        let proto = options.proto_mut();
        let build = proto.executable_build_options.get_or_insert_default();
        build.device_ordinal = self.device_ordinal;
        build.num_replicas = self.num_replicas.into();
        build.num_partitions = self.num_partitions.into();
        build.use_spmd_partitioning = self.use_spmd_partitioning;
        build.use_shardy_partitioner = self.use_shardy;
        let string = |value: &String| OptionOverrideProto { value: Some(Value::StringField(value.clone())) };
        proto.env_option_overrides =
            self.env_option_overrides.iter().map(|(name, value)| (name.clone(), string(value))).collect();
        Ok(options)
    }
}
