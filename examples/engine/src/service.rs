use std::path::PathBuf;

use tpu_rpa::kernels::TpuKind;
#[cfg(feature = "emulator")]
use tpu_rpa::runtime::InterpretedTpu;
use tpu_rpa::runtime::{Client, ClientOptions, DiscoveryOptions, Plugin};
use tpu_rpa::score::Scorer;
use tpu_rpa::spec::DType;

use super::wire::{Failure, Reader, Scoring};
use super::{Checkpoint, EngineError, Llama, Tokenizer};

/// What a [`Service`] is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// GGUF file.
    pub model: PathBuf,
    /// PJRT plugin; found as the runtime finds it where none is named.
    pub plugin: Option<PathBuf>,
    /// Storage type.
    pub dtype: DType,
    /// Where compiled programs are kept between runs.
    pub cache: Option<PathBuf>,
    /// A kind of TPU to interpret on a CPU; none, and none in the environment: the plugin's own devices.
    pub interpreted: Option<TpuKind>,
}

impl Setup {
    /// A client of one device.
    pub fn client(&self) -> Result<Client, EngineError> {
        let mut places = DiscoveryOptions::from_env();
        if let Some(path) = &self.plugin {
            places = places.explicit(path);
        }
        let plugin = Plugin::discover(&places)?;
        let mut options = ClientOptions::new().device_count(1);
        if let Some(folder) = &self.cache {
            options = options.disk_cache(folder);
        }
        Ok(Client::new(&plugin, self.interpreting(options)?)?)
    }

    #[cfg(feature = "emulator")]
    fn interpreting(&self, options: ClientOptions) -> Result<ClientOptions, EngineError> {
        let tpu = match self.interpreted {
            Some(kind) => Some(InterpretedTpu::new(kind)),
            None => InterpretedTpu::from_env()?,
        };
        Ok(match tpu {
            Some(tpu) => options.interpreted_tpu(tpu),
            None => options,
        })
    }

    #[cfg(not(feature = "emulator"))]
    fn interpreting(&self, options: ClientOptions) -> Result<ClientOptions, EngineError> {
        match self.interpreted {
            Some(kind) => Err(EngineError::NoEmulator(kind)),
            None => Ok(options),
        }
    }

    /// The model file's name without extension.
    pub fn model_name(&self) -> String {
        self.model.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// A loaded model that answers scoring requests.
pub struct Service {
    pub scorer: Scorer<Llama>,
    pub tokenizer: Tokenizer,
}

impl Service {
    /// Loads everything. `on_tensor` is told how many of how many tensors are done.
    pub fn open(setup: &Setup, on_tensor: &mut dyn FnMut(usize, usize)) -> Result<Self, EngineError> {
        let checkpoint = Checkpoint::open(&setup.model)?;
        Service::load(setup.client()?, checkpoint, setup.dtype, on_tensor)
    }

    /// Brings a model onto a device.
    pub fn load(
        client: Client,
        checkpoint: Checkpoint,
        dtype: DType,
        on_tensor: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, EngineError> {
        let Checkpoint { file, config, tokenizer } = checkpoint;
        let llama = Llama::load(client, &file, config, dtype, on_tensor)?;
        Ok(Service { scorer: Scorer::new(llama).map_err(|e| EngineError::Limits(Box::new(e)))?, tokenizer })
    }

    /// Answers one JSON request.
    pub fn answer(&mut self, json: &[u8]) -> Result<Scoring, Failure> {
        let vocabulary = self.scorer.limits().vocabulary;
        let request = Reader { tokenizer: &self.tokenizer, vocabulary, model: None }.parse(json)?;
        Ok(Scoring::with_logprobs(self.scorer.score(&request)?))
    }
}
