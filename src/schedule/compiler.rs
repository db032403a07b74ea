use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::file_error;
use sha2::{Digest as _, Sha256};

use super::memory::is_allocation;
use super::{DeviceKind, Kernel, Schedule, ScheduleError};
use crate::runtime::{CompileOptions, Plugin};

const MODULE: &str = "TPU_RPA_SCHEDULE_MODULE";
const TOPOLOGY: &str = "TPU_RPA_SCHEDULE_TOPOLOGY";
const PLUGIN: &str = "TPU_RPA_SCHEDULE_PLUGIN";

/// Compiles kernels with libtpu in child processes, for the compiler reads its dump flags once a process and may abort.
#[derive(Clone, Debug)]
pub struct Compiler {
    program: PathBuf,
    arguments: Vec<String>,
    plugin: PathBuf,
}

impl Compiler {
    /// `program`, run with `arguments`, must do nothing but call [`compile_child`] and exit with its outcome;
    /// `plugin` is libtpu's shared object.
    pub fn new(program: impl Into<PathBuf>, arguments: &[&str], plugin: impl Into<PathBuf>) -> Self {
        let arguments = arguments.iter().map(|&a| a.to_owned()).collect();
        Compiler { program: program.into(), arguments, plugin: plugin.into() }
    }

    /// The kernel's schedule, from `cache` if the same module was compiled for the same device by the same compiler
    /// before, else compiled. `cache` is created, and holds the listings, up to a megabyte for 3000 slots.
    ///
    /// # Errors
    /// The compiler's last words; a listing that is missing or not understood.
    pub fn schedule(
        &self,
        kernel: &Kernel,
        device: DeviceKind,
        cache: &Path,
    ) -> Result<Schedule, ScheduleError> {
        let cache = std::path::absolute(cache).map_err(file_error(cache))?;
        let compiler = std::fs::metadata(&self.plugin).map_err(file_error(&self.plugin))?.len();
        let mut hash = Sha256::new();
        hash.update(format!("{compiler} {device}\n{}", kernel.module()));
        let key: String = hash.finalize()[..8].iter().map(|b| format!("{b:02x}")).collect();
        let entry = cache.join(format!("{}-{device}-{key}", kernel.name()));
        let [bundles, allocations, utilization] =
            ["bundles.txt", "allocations.txt", "utilization.txt"].map(|name| entry.join(name));
        if !utilization.exists() || !allocations.exists() {
            let scratch = cache.join(format!("dump-{}-{key}", std::process::id()));
            let made = self.dump(kernel, device, &scratch).and_then(|()| {
                std::fs::create_dir_all(&entry).map_err(file_error(&entry))?;
                let dump = Dump::of_kernel(kernel.name(), &scratch)?;
                let take = |ending, to: &Path| {
                    let from = dump.listing(ending)?;
                    std::fs::rename(from, to).map_err(file_error(from))
                };
                take("-packed-bundles-post-ra.txt", &bundles)?;
                let text = dump.listing("-post-ra.txt")?;
                let text = std::fs::read_to_string(text).map_err(file_error(text))?;
                let lines: Vec<&str> = text.lines().filter(|line| is_allocation(line)).collect();
                std::fs::write(&allocations, lines.join("\n")).map_err(file_error(&allocations))?;
                take("-pre-delay_hlo-static-per-bundle-utilization.txt", &utilization)
            });
            // Dumps are tens of megabytes.
            let _ = std::fs::remove_dir_all(&scratch);
            made?;
        }
        Schedule::read(device, &bundles, &utilization, &allocations)
    }

    /// The compiler's own name of its version and build.
    ///
    /// # Errors
    /// The compiler's last words.
    pub fn version(&self, device: DeviceKind) -> Result<String, ScheduleError> {
        self.child(device, |child| child).map(|said| said.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// Compiles, and leaves all of the compiler's listings in `directory`, which is created.
    fn dump(&self, kernel: &Kernel, device: DeviceKind, directory: &Path) -> Result<(), ScheduleError> {
        std::fs::create_dir_all(directory).map_err(file_error(directory))?;
        let module = directory.join("module.mlir");
        std::fs::write(&module, kernel.module()).map_err(file_error(&module))?;
        // All passes would take several times as long as compiling.
        let flags = format!(
            "--xla_jf_dump_to={} --xla_jf_dump_llo_text=true --xla_jf_emit_annotations=true \
             --xla_jf_dump_llo_pass_label_regex=post-ra|pre-delay",
            directory.display()
        );
        self.child(device, |child| child.env(MODULE, &module).env("LIBTPU_INIT_ARGS", flags)).map(|_| ())
    }

    /// Runs [`compile_child`] in a process; returns what it printed.
    fn child(
        &self,
        device: DeviceKind,
        job: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Result<String, ScheduleError> {
        let mut child = Command::new(&self.program);
        child
            .args(&self.arguments)
            .env_remove(MODULE)
            .env(TOPOLOGY, device.topology())
            .env(PLUGIN, &self.plugin)
            .env("TPU_SKIP_MDS_QUERY", "1")
            .env("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
            .stdin(Stdio::null());
        let output = job(&mut child).output().map_err(file_error(&self.program))?;
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(said);
        }
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        let start = said.len().saturating_sub(4000);
        let start = (start..said.len()).find(|&i| said.is_char_boundary(i)).unwrap_or(0);
        Err(ScheduleError::Compile {
            device: device.name(),
            status: output.status.to_string(),
            output: said[start..].trim().to_owned(),
        })
    }
}

/// Listings of one part of a program, by what their names `TIME-PART-NUMBER-PASS.txt` begin with. The compiler adds
/// parts of its own, and XLA may add copies that bring operands into the kernel's layout.
struct Dump {
    files: Vec<PathBuf>,
    kernel: String,
}

impl Dump {
    /// Finds the part that is the kernel: the analysis of its schedule quotes the call.
    fn of_kernel(kernel: &str, directory: &Path) -> Result<Self, ScheduleError> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(file_error(directory))? {
            files.push(entry.map_err(file_error(directory))?.path());
        }
        let pattern = "-schedule-analysis_packed-bundles-post-ra.txt";
        for file in &files {
            let Some(part) = name_of(file).and_then(|name| part_of(name, pattern)) else { continue };
            let text = std::fs::read_to_string(file).map_err(file_error(file))?;
            // The program as a whole quotes it too.
            let whole = part.split_once('-').is_some_and(|(_, p)| p == "TLP" || p.starts_with('<'));
            if !whole && text.contains("custom_call_target=\"tpu_custom_call\"") {
                return Ok(Dump { kernel: part.to_owned(), files });
            }
        }
        let (kernel, directory) = (kernel.to_owned(), directory.to_owned());
        Err(ScheduleError::NoDump { kernel, pattern, directory })
    }

    fn listing(&self, ending: &'static str) -> Result<&Path, ScheduleError> {
        let found =
            self.files.iter().find(|f| name_of(f).and_then(|n| part_of(n, ending)) == Some(&self.kernel));
        found.map(PathBuf::as_path).ok_or_else(|| ScheduleError::NoDump {
            kernel: self.kernel.clone(),
            pattern: ending,
            directory: self.files.first().and_then(|f| f.parent()).unwrap_or(Path::new("")).to_owned(),
        })
    }
}

fn name_of(file: &Path) -> Option<&str> {
    file.file_name()?.to_str()
}

/// `TIME-PART` of a name with this ending.
fn part_of<'a>(name: &'a str, ending: &str) -> Option<&'a str> {
    let (part, number) = name.strip_suffix(ending)?.rsplit_once('-')?;
    (!number.is_empty() && number.chars().all(|c| c.is_ascii_digit())).then_some(part)
}

/// What a [`Compiler`]'s child process does: compiles the module that its environment names, or prints the compiler's
/// version where that names a topology alone. `None` where it names neither: the process is no such child.
///
/// # Errors
/// The compiler's words.
pub fn compile_child() -> Option<Result<(), ScheduleError>> {
    let (topology, plugin) = (std::env::var(TOPOLOGY).ok()?, std::env::var_os(PLUGIN)?);
    let compile = || {
        let topology = Plugin::load(&plugin)?.topology(&topology)?;
        match std::env::var_os(MODULE).map(PathBuf::from) {
            Some(module) => {
                let text = std::fs::read_to_string(&module).map_err(file_error(&module))?;
                topology.compile_aot(&text, &CompileOptions::new())?;
            }
            None => println!("{}", topology.platform_version()?),
        }
        Ok(())
    };
    Some(compile())
}

#[cfg(test)]
mod tests {
    use super::part_of;

    #[test]
    fn parts_are_told_from_passes() {
        assert_eq!(
            part_of("17-name.1-64-packed-bundles-post-ra.txt", "-packed-bundles-post-ra.txt"),
            Some("17-name.1")
        );
        assert_eq!(
            part_of(
                "17-name.1-63-schedule-analysis_packed-bundles-post-ra.txt",
                "-packed-bundles-post-ra.txt"
            ),
            None
        );
        assert_eq!(part_of("17-name.1-64-packed-bundles-post-ra.txt", "-post-ra.txt"), None);
        assert_eq!(part_of("17-name.1-53-post-ra.txt", "-post-ra.txt"), Some("17-name.1"));
    }
}
