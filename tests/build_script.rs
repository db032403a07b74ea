//! build.rs refuses manifests whose kernels would not run: an error names kernel, variant, device kind, bytes and bound.
//! The program itself is run on changed manifests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The build script that cargo compiled for this build, or a later one.
fn build_script() -> PathBuf {
    // OUT_DIR is <target>/<profile>/build/<package>-<hash>/out.
    let builds = Path::new(env!("OUT_DIR")).ancestors().nth(2).unwrap();
    let scripts = fs::read_dir(builds).unwrap().filter_map(|entry| {
        let folder = entry.unwrap().path();
        let script = folder.join("build-script-build");
        let ours = folder.file_name()?.to_str()?.starts_with("tpu-rpa-");
        Some((fs::metadata(&script).ok().filter(|_| ours)?.modified().unwrap(), script))
    });
    scripts.max().expect("cargo keeps the build script").1
}

/// Runs it on our manifests and tables with one text replaced in the file that `manifest` names; returns its success and its words.
fn build(manifest: &str, from: &str, to: &str) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let kernels = ["attention", "kv_write", "label_logprobs", "label_softmax"];
    let manifests = kernels.map(|kernel| (kernel, format!("kernels/{kernel}/manifest.toml")));
    let tables = ["v5e", "v6e", "v7x"].map(|device| (device, format!("kernels/tables/{device}.toml")));
    for (name, path) in manifests.into_iter().chain(tables) {
        let mut text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&path)).unwrap();
        if name == manifest {
            assert!(text.contains(from), "{from:?} is not in {path}");
            text = text.replacen(from, to, 1);
        }
        fs::create_dir_all(folder.path().join(&path).parent().unwrap()).unwrap();
        fs::write(folder.path().join(&path), text).unwrap();
    }
    let output = Command::new(build_script())
        .current_dir(folder.path())
        .env("OUT_DIR", folder.path())
        .env_remove("TPU_RPA_AOT")
        .output()
        .unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn our_manifests_build() {
    assert_eq!(build("attention", "", ""), (true, String::new()));
}

#[test]
fn errors_name_kernel_variant_and_what_is_wrong() {
    let tpu_tiles = "[tpu]\nq_tile = 128\nkv_tile = 512";
    let workload = "id = \"qwen3-0.6b-bf16\"\nmosaic = true\nworkload = { query = 2000, items = 500";
    let faults: [(&str, &str, String, &[&str]); 10] = [
        (
            "attention",
            tpu_tiles,
            tpu_tiles.replace("512", "8192"),
            &["attention/smollm2: on v5e it declares", "bytes of VMEM; at most 62914560 are there"],
        ),
        (
            "attention",
            tpu_tiles,
            tpu_tiles.replace("128", "64"),
            &["attention/smollm2: q_tile x group is 192; it must be a multiple of 128"],
        ),
        (
            "attention",
            workload,
            workload.replace("500", "20000"),
            &["attention/qwen3-0.6b-bf16: bucket.meta_words is", "scalar memory"],
        ),
        (
            "label_logprobs",
            "labels = 2",
            "labels = 33".to_owned(),
            &["label_logprobs/smollm2: labels is 33; it must be at most 32"],
        ),
        (
            "attention",
            "page_size = 16",
            "page_size = 4".to_owned(),
            &["attention/smollm2: page_size is 4; it must be a positive multiple of 8: DMA offsets"],
        ),
        (
            "attention",
            "dtype = \"bf16\"",
            "dtype = \"f16\"".to_owned(),
            &["attention/qwen3-0.6b-bf16: dtype is \"f16\"; it must be \"f32\" or \"bf16\""],
        ),
        (
            "kv_write",
            "items = 500",
            "items = -5".to_owned(),
            &["kernels/kv_write/manifest.toml: ", "items = -5"],
        ),
        (
            "v6e",
            "device = \"v6e\"",
            "device = \"v5e\"".to_owned(),
            &["kernels/tables/v6e.toml: device is \"v5e\"; it must be v6e"],
        ),
        (
            "v5e",
            "kv_heads = 8",
            "kv_heads = 7".to_owned(),
            &["kernels/tables/v5e.toml: q_heads is 16; it must be a multiple of kv_heads, 7"],
        ),
        ("attention", "[tpu]", "[gpu]".to_owned(), &["kernels/attention/manifest.toml: ", "gpu"]),
    ];
    for (manifest, from, to, expected) in faults {
        let (built, words) = build(manifest, from, &to);
        assert!(!built, "{from:?} -> {to:?} was built");
        for part in expected {
            assert!(words.contains(part), "{from:?} -> {to:?}: {words:?} lacks {part:?}");
        }
        assert!(!words.contains("panicked"), "{words}");
    }
}
