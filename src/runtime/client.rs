use std::borrow::Cow;
use std::fmt;
use std::fs;
use std::marker::PhantomData;
use std::sync::Arc;

use super::buffer::Buffer;
use super::cache::{Ahead, Cache, CacheStats};
use super::compile_options::CompileOptions;
use super::element::Element;
use super::error::RuntimeError;
use super::executable::Executable;
use super::ffi::buffer::RawBuffer;
use super::ffi::client::RawClient;
use super::ffi::executable::RawExecutable;
use super::host::Lent;
#[cfg(feature = "emulator")]
use super::interpreted::{self, InterpretedTpu};
use super::options::ClientOptions;
use super::plugin::Plugin;
use super::precompiled::Precompiled;
use crate::batch::{BatchError, Tiling};
use crate::kernels::{Kernel, Target, TpuKind, WorkloadClass, stablehlo_function, tuned_tiling};
use crate::spec::AttentionSpec;

/// A plugin's devices, and the programs compiled for them. Clones are the same client.
///
/// Buffers and executables keep alive what they need of it: the handle may be dropped before them.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    raw: Arc<RawClient>,
    plugin: Plugin,
    platform_name: String,
    platform_version: String,
    devices: Vec<Device>,
    cache: Cache,
    precompiled: Vec<Precompiled>,
    #[cfg(feature = "emulator")]
    interpreted: Option<InterpretedTpu>,
}

/// A device that this process can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    index: usize,
    id: i32,
    kind: String,
}

impl Device {
    /// Its place in [`Client::devices`], by which this module names it.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Its id among the devices of all processes.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// What it is, such as `TPU v6 lite` or `cpu`.
    pub fn kind(&self) -> &str {
        &self.kind
    }
}

impl Client {
    /// Opens the plugin's devices.
    ///
    /// # Errors
    /// The plugin finds no devices or refuses an option, or it is to make no devices or too many.
    pub fn new(plugin: &Plugin, options: ClientOptions) -> Result<Self, RuntimeError> {
        let _span = tracing::debug_span!("new_client", plugin = %plugin.path().display()).entered();
        #[cfg(feature = "emulator")]
        if options.interpreted.is_some() {
            interpreted::install(plugin)?;
        }
        let raw = RawClient::create(plugin.table(), &options.checked(plugin.is_cpu())?)?;
        let platform_name = raw.platform_name()?;
        let platform_version = raw.platform_version()?;
        #[cfg(feature = "emulator")]
        let stands_for = options.interpreted.as_ref().map(|tpu| tpu.kind().device_kind());
        #[cfg(not(feature = "emulator"))]
        let stands_for: Option<&str> = None;
        let devices: Vec<Device> = raw
            .devices()
            .iter()
            .enumerate()
            .map(|(index, device)| Device {
                index,
                id: device.id,
                kind: stands_for.unwrap_or(&device.kind).to_owned(),
            })
            .collect();
        if devices.is_empty() {
            return Err(RuntimeError::NoDevices { platform: platform_name });
        }
        tracing::info!(
            platform = platform_name,
            devices = devices.len(),
            kind = devices[0].kind,
            "client ready"
        );
        let context = cache_context(plugin, &platform_name, &platform_version, &devices);
        let context: Vec<&[u8]> = context.iter().map(String::as_bytes).collect();
        let cache = Cache::new(&context, options.memory_cache, options.disk_cache);
        let inner = Inner {
            raw: Arc::new(raw),
            plugin: *plugin,
            platform_name,
            platform_version,
            devices,
            cache,
            precompiled: options.precompiled,
            #[cfg(feature = "emulator")]
            interpreted: options.interpreted,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The plugin that it was made with.
    pub fn plugin(&self) -> Plugin {
        self.inner.plugin
    }

    /// Name of the platform, such as `cpu`, `cuda` or `tpu`.
    pub fn platform_name(&self) -> &str {
        &self.inner.platform_name
    }

    /// Version of the platform, in the plugin's own form.
    pub fn platform_version(&self) -> &str {
        &self.inner.platform_version
    }

    /// Whether its devices are TPUs, for which Mosaic kernels compile.
    pub fn is_tpu(&self) -> bool {
        self.target() == Target::Tpu
    }

    /// Whose kernels it runs: on TPUs the Mosaic ones.
    pub fn target(&self) -> Target {
        if self.is_interpreted() { Target::Tpu } else { super::platform::target_of(self.platform_name()) }
    }

    /// Whether its TPUs are a CPU plugin's devices and the emulator: right, and slow.
    pub fn is_interpreted(&self) -> bool {
        #[cfg(feature = "emulator")]
        return self.inner.interpreted.is_some();
        #[cfg(not(feature = "emulator"))]
        false
    }

    /// The text that the plugin compiles for a program.
    fn text<'a>(&self, mlir: &'a str) -> Result<Cow<'a, str>, RuntimeError> {
        #[cfg(feature = "emulator")]
        if let Some(tpu) = &self.inner.interpreted {
            return interpreted::program(tpu, mlir).map(Cow::Owned);
        }
        Ok(Cow::Borrowed(mlir))
    }

    /// The devices that this process can use; at least one.
    pub fn devices(&self) -> &[Device] {
        &self.inner.devices
    }

    /// Copies host memory to the first device. `values` are in row-major order of `dims`, slowest dimension first.
    ///
    /// # Errors
    /// The number of values is not that of the shape, or the plugin fails.
    pub fn upload<T: Element>(&self, values: &[T], dims: &[usize]) -> Result<Buffer, RuntimeError> {
        self.upload_to(0, values, dims)
    }

    /// [`Client::upload`] to the device with this index.
    ///
    /// # Errors
    /// As for [`Client::upload`], and if there is no such device.
    pub fn upload_to<T: Element>(
        &self,
        device: usize,
        values: &[T],
        dims: &[usize],
    ) -> Result<Buffer, RuntimeError> {
        let bytes = bytemuck::cast_slice(values);
        let raw = RawBuffer::upload(&self.inner.raw, device, T::DTYPE, dims, bytes)?;
        Buffer::new(raw, T::DTYPE, dims)
    }

    /// Hands host memory to the first device without changing or copying it where the plugin can: a CPU plugin uses it
    /// in place if it is aligned to 64 bytes, as a [`HostBuffer`](super::HostBuffer) is. `host` is dropped when the
    /// plugin no longer needs it, at the latest soon after the buffer is freed, maybe on another thread.
    ///
    /// # Errors
    /// As for [`Client::upload`].
    pub fn upload_owned<T: Element>(
        &self,
        host: impl AsRef<[T]> + Send + Sync + 'static,
        dims: &[usize],
    ) -> Result<Buffer, RuntimeError> {
        let host = Box::new(Lent { host, element: PhantomData });
        let raw = RawBuffer::upload_shared(&self.inner.raw, 0, T::DTYPE, dims, host)?;
        Buffer::new(raw, T::DTYPE, dims)
    }

    /// Compiles a program in MLIR text (StableHLO), or returns the executable of an equal earlier request. Threads that
    /// ask for the same program at once share one compilation.
    ///
    /// # Errors
    /// The compiler's words, an output type that has no [`DType`](crate::spec::DType), or options that ask for devices that
    /// the client has not.
    pub fn compile(&self, mlir: &str, options: &CompileOptions) -> Result<Arc<Executable>, RuntimeError> {
        self.get(mlir, options, &Ahead::default())
    }

    /// The executable of one kernel alone, of [`stablehlo_function`] for [`Client::target`]: on a TPU the Mosaic kernel,
    /// elsewhere the portable one.
    ///
    /// It comes from memory, from an executable that was compiled ahead of time for this very kernel, device kind and
    /// compiler, from the disk cache, or is compiled; [`Client::cache_stats`] counts each, and `tracing` tells it.
    ///
    /// # Errors
    /// The shape is one that the target's kernel does not take, or as for [`Client::compile`].
    pub fn kernel(&self, kernel: &Kernel) -> Result<Arc<Executable>, crate::Error> {
        let function = stablehlo_function(kernel.name(), kernel, self.target())?;
        let line = kernel.to_string();
        let kind = self.devices()[0].kind();
        let executables =
            self.inner.precompiled.iter().filter(|p| p.kernel == line && p.device_kind == kind).collect();
        let ahead = Ahead { executables, compiler: self.platform_version() };
        let _span = tracing::debug_span!("kernel", kernel = line).entered();
        Ok(self.get(&function.module(), &CompileOptions::new(), &ahead)?)
    }

    /// Block sizes of attention for a shape and a class of batches: on a TPU whose kind has a table those of
    /// [`tuned_tiling`], else [`Target::tiling`]. `tracing` tells where they come from.
    ///
    /// # Errors
    /// The page size is none that tiles can be cut at.
    pub fn tiling(&self, spec: &AttentionSpec, class: WorkloadClass) -> Result<Tiling, BatchError> {
        let device = self.devices()[0].kind();
        match TpuKind::of_device(device).filter(|_| self.is_tpu()) {
            Some(kind) => {
                let tuned = tuned_tiling(kind, spec, class)?;
                tracing::info!(device, %class, "block sizes of attention: {tuned}");
                Ok(tuned.tiling())
            }
            None => {
                let tiling = self.target().tiling(spec.page_size())?;
                tracing::debug!(
                    device,
                    "block sizes of attention: the manifest's, for no table is of this device"
                );
                Ok(tiling)
            }
        }
    }

    fn get(
        &self,
        mlir: &str,
        options: &CompileOptions,
        ahead: &Ahead<'_>,
    ) -> Result<Arc<Executable>, RuntimeError> {
        let _span =
            tracing::debug_span!("compile", platform = self.platform_name(), bytes = mlir.len()).entered();
        let text = self.text(mlir)?;
        let mlir = &*text;
        let encoded = options.to_pjrt(self.devices().len())?.encode();
        let raw = &self.inner.raw;
        self.inner.cache.get(
            mlir,
            options,
            ahead,
            |bytes| Executable::new(RawExecutable::deserialize(raw, bytes)?, mlir),
            || Executable::new(RawExecutable::compile(raw, mlir, &encoded).map_err(|e| e.about(mlir))?, mlir),
        )
    }

    /// Loads the bytes that [`Executable::serialize`] or [`Topology::compile_aot`](super::Topology::compile_aot) returned. `mlir`
    /// is the program's text, against which arguments are checked.
    ///
    /// The bytes are machine code that this process will run: they must come from a trusted place and from the same
    /// plugin version.
    ///
    /// # Errors
    /// The plugin's words.
    pub fn load(&self, serialized: &[u8], mlir: &str) -> Result<Executable, RuntimeError> {
        let text = self.text(mlir)?;
        Executable::new(RawExecutable::deserialize(&self.inner.raw, serialized)?, &text)
    }

    /// What became of the compile requests so far.
    pub fn cache_stats(&self) -> CacheStats {
        self.inner.cache.stats()
    }

    /// Forgets the executables in memory, which are otherwise kept as long as the client. Those in use stay usable.
    pub fn clear_memory_cache(&self) {
        self.inner.cache.clear();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("platform", &self.inner.platform_name)
            .field("devices", &self.inner.devices)
            .finish_non_exhaustive()
    }
}

/// All that decides, besides text and options, what the compiler makes and whether it runs here.
fn cache_context(plugin: &Plugin, name: &str, version: &str, devices: &[Device]) -> Vec<String> {
    let (major, minor) = plugin.api_version();
    // Two builds of a plugin may share all version numbers.
    let file = fs::metadata(plugin.path()).ok().map(|file| (file.len(), file.modified().ok()));
    // A CPU executable has machine code for this processor.
    let features = fs::read_to_string("/proc/cpuinfo").ok().and_then(|info| {
        info.lines().find(|line| line.starts_with("flags") || line.starts_with("Features")).map(str::to_owned)
    });
    vec![
        format!("PJRT {major}.{minor} {name} {version}"),
        format!("{:?} {file:?}", plugin.path().file_name()),
        format!("{devices:?}"),
        format!("{} {features:?}", std::env::consts::ARCH),
        format!("{:?} {:?}", std::env::var_os("XLA_FLAGS"), std::env::var_os("LIBTPU_INIT_ARGS")),
    ]
}
