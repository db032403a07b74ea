//! GGUF files are read as llama.cpp writes them: every quantisation, and what is none is refused by name.
//!
//! `data/gguf/blocks.json` has a random block of each type and what the public Python package `gguf` 0.19.0 makes of it:
//! the first values, and the FNV-1a hash of all, as little-endian f32.

use common::gguf::{Gguf, Tensor};
use engine::ModelFile;
use half::{bf16, f16};
use serde::Deserialize;
use tpu_rpa::spec::DType;

#[derive(Deserialize)]
struct Block {
    name: String,
    code: u32,
    values: usize,
    block: String,
    first: [f32; 4],
    fnv1a: String,
}

/// A GGUF file of one tensor.
fn file(name: &str, code: u32, dims: &[usize], data: &[u8]) -> Vec<u8> {
    let dims = dims.iter().map(|&d| d as u64).collect();
    Gguf::of(vec![Tensor { name: name.into(), dims, code, data: data.to_vec(), offset: None }]).bytes()
}

fn open(bytes: &[u8]) -> Result<ModelFile, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    ModelFile::open(&path).map_err(|e| e.to_string())
}

fn read(file: &ModelFile, name: &str, dims: &[usize]) -> Result<Vec<f32>, String> {
    let tensor = file.tensors().take(name, dims).map_err(|e| e.to_string())?;
    tensor.values(DType::F32).map_err(|e| e.to_string())
}

fn values(code: u32, dims: &[usize], data: &[u8]) -> Vec<f32> {
    read(&open(&file("t", code, dims, data)).unwrap(), "t", dims).unwrap()
}

fn fnv1a(values: &[f32]) -> String {
    let bytes = values.iter().flat_map(|v| v.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    format!("{hash:016x}")
}

#[test]
fn every_quantisation_gives_the_reference_values_to_the_bit() {
    let blocks: Vec<Block> = serde_json::from_str(include_str!("data/gguf/blocks.json")).unwrap();
    assert_eq!(blocks.len(), 23);
    for b in blocks {
        let one: Vec<u8> = (0..b.block.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&b.block[i..i + 2], 16).unwrap())
            .collect();
        // Two rows: the second is read like the first.
        let found = values(b.code, &[2, b.values], &[&one[..], &one].concat());
        assert_eq!(found.len(), 2 * b.values, "{}", b.name);
        for row in found.chunks(b.values) {
            assert_eq!(row[..4], b.first, "{}", b.name);
            assert_eq!(fnv1a(row), b.fnv1a, "{}", b.name);
        }
    }
}

#[test]
fn floats_are_read_as_they_are() {
    let x = [1.5f32, -0.25, 3e-5, 65504.0];
    let bytes = |f: fn(f32) -> Vec<u8>| x.iter().flat_map(|&v| f(v)).collect::<Vec<u8>>();
    assert_eq!(values(0, &[4], &bytes(|v| v.to_le_bytes().into())), x);
    let halves = bytes(|v| f16::from_f32(v).to_le_bytes().into());
    assert_eq!(values(1, &[2, 2], &halves), x.map(|v| f16::from_f32(v).to_f32()));
    let brain = bytes(|v| bf16::from_f32(v).to_le_bytes().into());
    assert_eq!(values(30, &[4], &brain), x.map(|v| bf16::from_f32(v).to_f32()));
}

#[test]
fn what_is_no_weight_is_refused_by_name() {
    let unknown = open(&file("blk.0.attn_q.weight", 99, &[32], &[0; 64])).err().expect("an error");
    assert!(unknown.contains("99"), "{unknown}");
    let integers = open(&file("blk.0.attn_q.weight", 26, &[8], &[0; 32])).unwrap();
    let error = read(&integers, "blk.0.attn_q.weight", &[8]).unwrap_err();
    assert!(error.contains("I32") && error.contains("blk.0.attn_q.weight"), "{error}");
    let halves = open(&file("t", 0, &[2, 4], &[0; 32])).unwrap();
    let shape = read(&halves, "t", &[4, 2]).unwrap_err();
    assert!(shape.contains("t is [2, 4]") && shape.contains("[4, 2]"), "{shape}");
    let missing = read(&halves, "u", &[4, 2]).unwrap_err();
    assert!(missing.contains("u is missing"), "{missing}");
    let cut = file("t", 0, &[2, 4], &[0; 32]);
    let cut = open(&cut[..cut.len() - 1]).err().expect("an error");
    assert!(cut.contains('t') && cut.lines().count() == 1, "{cut}");
}
