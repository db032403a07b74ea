use std::fmt;

use smallvec::SmallVec;

use super::buffer::Buffer;
use super::error::RuntimeError;
use super::execution::Execution;
use super::ffi::buffer::RawBuffer;
use super::ffi::event::RawEvent;
use super::ffi::executable::{Launched, MemoryStats, RawExecutable};
use super::ffi::types::Few;
use super::signature::Signature;

/// An argument of a launch.
#[derive(Clone, Debug)]
pub enum Arg<'a> {
    /// The buffer stays as it is.
    Keep(&'a Buffer),
    /// The program may reuse the buffer's memory for an output that aliases it (`tf.aliasing_output`). Where it does,
    /// all clones of the buffer are deleted. The buffer is dropped whether or not the launch succeeds.
    Donate(Buffer),
}

impl<'a> From<&'a Buffer> for Arg<'a> {
    fn from(buffer: &'a Buffer) -> Self {
        Self::Keep(buffer)
    }
}

impl Arg<'_> {
    fn buffer(&self) -> &Buffer {
        match self {
            Self::Keep(buffer) => buffer,
            Self::Donate(buffer) => buffer,
        }
    }
}

/// Outputs a device, and completions.
type Started = (SmallVec<[Vec<Buffer>; 1]>, SmallVec<[RawEvent; 1]>);

/// A compiled program. Any number of threads may launch it at once.
pub struct Executable {
    raw: RawExecutable,
    signature: Option<Signature>,
    devices: usize,
    /// Each device may hold a share of what the text declares.
    partitioned: bool,
}

impl Executable {
    pub(crate) fn new(raw: RawExecutable, mlir: &str) -> Result<Self, RuntimeError> {
        // A plugin that cannot tell here is asked again for each output.
        for (index, dtype) in raw.output_dtypes().unwrap_or_default().into_iter().enumerate() {
            dtype.map_err(|code| RuntimeError::OutputElementType { index, code })?;
        }
        let (replicas, partitions) = raw.grid()?;
        let signature = Signature::parse(mlir);
        if signature.is_none() {
            tracing::debug!("no readable @main in the program text: only the plugin checks its arguments");
        }
        Ok(Self { raw, signature, devices: replicas.saturating_mul(partitions), partitioned: partitions > 1 })
    }

    /// Parameter types, where the program text has a readable `@main`.
    pub fn signature(&self) -> Option<&Signature> {
        self.signature.as_ref()
    }

    /// Number of outputs on each device.
    pub fn num_outputs(&self) -> usize {
        self.raw.num_outputs()
    }

    /// Devices that it runs on: replicas times partitions.
    pub fn num_devices(&self) -> usize {
        self.devices
    }

    /// Memory that it needs, in bytes for each device. `None` where the plugin cannot tell.
    pub fn memory_stats(&self) -> Option<MemoryStats> {
        self.raw.memory_stats().inspect_err(|error| tracing::debug!(%error, "no memory statistics")).ok()
    }

    /// The executable as bytes for [`Client::load`](super::Client::load) of the same plugin version.
    ///
    /// # Errors
    /// The plugin cannot serialize it.
    pub fn serialize(&self) -> Result<Vec<u8>, RuntimeError> {
        self.raw.serialize()
    }

    /// Runs it on its one device and waits for it. No argument is donated.
    ///
    /// # Errors
    /// Number, element type or shape of the arguments do not fit, one was donated before or is of another client, the
    /// program runs on more than one device, or the plugin fails.
    pub fn run(&self, arguments: &[&Buffer]) -> Result<Vec<Buffer>, RuntimeError> {
        self.launch(arguments.iter().map(|&buffer| Arg::Keep(buffer)))?.wait()
    }

    /// Starts it on its one device. The outputs may be arguments of further launches at once.
    ///
    /// # Errors
    /// As for [`Executable::run`]; errors of a running program come from [`Execution::wait`].
    pub fn launch<'a>(
        &self,
        arguments: impl IntoIterator<Item = Arg<'a>>,
    ) -> Result<Execution, RuntimeError> {
        let arguments: Few<Arg<'_>> = arguments.into_iter().collect();
        let (mut outputs, events) = self.start(&[&arguments])?;
        Ok(Execution::new(outputs.pop().unwrap_or_default(), events, self.raw.client().clone()))
    }

    /// Runs it on all its devices and waits for all of them. `arguments[d]` are those of device `d`, which lie there;
    /// the result has the same order. No argument is donated.
    ///
    /// # Errors
    /// As for [`Executable::run`], and if the number of argument lists is not the number of devices.
    pub fn run_sharded(&self, arguments: &[Vec<&Buffer>]) -> Result<Vec<Vec<Buffer>>, RuntimeError> {
        let keep = arguments.iter().map(|row| row.iter().map(|&buffer| Arg::Keep(buffer)).collect());
        self.launch_sharded(keep.collect())?.wait()
    }

    /// Starts it on all its devices: [`Executable::run_sharded`] with donation and without waiting.
    ///
    /// # Errors
    /// As for [`Executable::run_sharded`], and if an argument is donated on one device and kept on another.
    pub fn launch_sharded(
        &self,
        arguments: Vec<Vec<Arg<'_>>>,
    ) -> Result<Execution<Vec<Vec<Buffer>>>, RuntimeError> {
        let rows: SmallVec<[&[Arg<'_>]; 1]> = arguments.iter().map(Vec::as_slice).collect();
        let (outputs, events) = self.start(&rows)?;
        Ok(Execution::new(outputs.into_vec(), events, self.raw.client().clone()))
    }

    /// A list of arguments a device; outputs a device and completions.
    fn start(&self, arguments: &[&[Arg<'_>]]) -> Result<Started, RuntimeError> {
        if arguments.len() != self.devices {
            return Err(RuntimeError::DeviceCount { expected: self.devices, found: arguments.len() });
        }
        let first = arguments.first().copied().unwrap_or_default();
        let mut flat: Few<&RawBuffer> = SmallVec::new();
        for (device, row) in arguments.iter().enumerate() {
            self.check(device, row)?;
            if row.len() != first.len() {
                let (expected, found) = (first.len(), row.len());
                return Err(RuntimeError::ArgumentCount { expected, found, device });
            }
            flat.extend(row.iter().map(|argument| argument.buffer().raw()));
        }
        // The plugin takes one list for all devices.
        let kept = |argument: &Arg<'_>| matches!(argument, Arg::Keep(_));
        for (device, row) in arguments.iter().enumerate() {
            if let Some(index) = row.iter().zip(first).position(|(a, b)| kept(a) != kept(b)) {
                return Err(RuntimeError::DonationPattern { index, device });
            }
        }
        let keep: Few<i64> =
            (0i64..).zip(first).filter_map(|(index, argument)| kept(argument).then_some(index)).collect();
        tracing::trace!(
            devices = arguments.len(),
            arguments = first.len(),
            donated = first.len() - keep.len(),
            "launch"
        );
        let Launched { outputs, events } = self.raw.execute(self.devices, first.len(), &flat, &keep)?;
        let mut outputs = outputs.into_iter();
        let rows: Result<SmallVec<[Vec<Buffer>; 1]>, RuntimeError> = (0..self.devices)
            .map(|_| {
                let row = outputs.by_ref().take(self.num_outputs()).enumerate();
                row.map(|(index, raw)| Buffer::output(raw, index)).collect()
            })
            .collect();
        match rows {
            Ok(rows) => Ok((rows, events)),
            Err(error) => {
                self.raw.client().detach(events);
                Err(error)
            }
        }
    }

    /// Compares a device's arguments with the parameters.
    fn check(&self, device: usize, arguments: &[Arg<'_>]) -> Result<(), RuntimeError> {
        for (index, argument) in arguments.iter().enumerate() {
            if argument.buffer().is_deleted() {
                return Err(RuntimeError::ArgumentDeleted { index });
            }
        }
        let Some(signature) = &self.signature else { return Ok(()) };
        let parameters = signature.parameters();
        if parameters.len() != arguments.len() {
            return Err(RuntimeError::ArgumentCount {
                expected: parameters.len(),
                found: arguments.len(),
                device,
            });
        }
        for (index, (parameter, argument)) in parameters.iter().zip(arguments).enumerate() {
            let argument = argument.buffer();
            if !parameter.takes_dtype(argument.dtype()) {
                let expected = parameter.element().to_owned();
                return Err(RuntimeError::ArgumentDType { index, expected, found: argument.dtype() });
            }
            if !parameter.takes_dims(argument.dims(), self.partitioned) {
                let expected = parameter.spelled().to_owned();
                return Err(RuntimeError::ArgumentShape { index, expected, found: argument.dims().to_vec() });
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Executable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executable")
            .field("signature", &self.signature)
            .field("devices", &self.devices)
            .field("outputs", &self.num_outputs())
            .finish()
    }
}
