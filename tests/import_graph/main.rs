//! Imports between the library's files flow one way.

mod circles;
mod source;

use std::path::Path;

use circles::{circles, forbidden};
use source::{Arrows, Files, arrows};

/// What each layer may name, besides itself.
const LAYERS: [(&str, &[&str]); 11] = [
    ("spec", &[]),
    ("mask", &[]),
    ("prefix_cache", &[]),
    ("batch", &["spec"]),
    ("kernels", &["batch", "spec"]),
    ("emulator", &["spec"]),
    ("reference", &["batch", "mask", "spec"]),
    ("score", &["batch", "prefix_cache"]),
    // `error` is the sum of all: a client that makes a kernel and compiles it can fail in either.
    ("runtime", &["batch", "emulator", "error", "kernels", "spec"]),
    ("schedule", &["kernels", "runtime"]),
    ("error", &["batch", "kernels", "runtime", "schedule", "score", "spec"]),
];

fn library() -> Arrows {
    fn read(root: &Path, folder: &Path, files: &mut Files) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(root, &path, files);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                files.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Files::new();
    read(&root, &root, &mut files);
    arrows(&files)
}

#[test]
fn the_library_has_no_circle_of_files() {
    let arrows = library();
    let found = circles(&arrows);
    assert!(found.is_empty(), "files that import each other:\n{}", found.join("\n"));
    // Such arrows would have been seen.
    for (from, to) in [
        ("batch/planner.rs", "batch/draft/mod.rs"),
        ("kernels/blocks.rs", "kernels/tables.rs"),
        ("emulator/ops/mod.rs", "emulator/ops/matmul.rs"),
        ("runtime/client.rs", "kernels/tuned.rs"),
    ] {
        assert!(arrows[from].contains(to), "{from} -> {to} is not seen");
    }
}

#[test]
fn the_librarys_layers_name_only_what_lies_below() {
    let found = forbidden(&library(), &LAYERS);
    assert!(found.is_empty(), "imports against the layers:\n{}", found.join("\n"));
}

fn made_up(files: &[(&str, &str)]) -> Arrows {
    arrows(&files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
}

#[test]
fn a_circle_is_found_whatever_way_a_name_takes() {
    let root = ("lib.rs", "pub mod a; mod b;");
    let parent = ("a/mod.rs", "mod x; mod y; pub use x::X; pub use y::Y;");
    let x = "pub struct X; ";
    for back in [
        // From the parent that re-exports it, from its file, from outside; all of a file; as a path; in a macro.
        "use super::Y;",
        "use super::y::Y as Other;",
        "use crate::a::{self, Y};",
        "use super::y::*;",
        "use super::*;",
        "fn f(_: crate::a::Y) {}",
        "fn f() { assert!(super::y::Y.is()) }",
        "use super::y; fn f() { y::Y; }",
        "mod inner { use super::super::Y; }",
    ] {
        let x = format!("{x}{back}");
        let files = [root, parent, ("a/x.rs", &x), ("a/y.rs", "use super::X; pub struct Y;"), ("b.rs", "")];
        assert_eq!(circles(&made_up(&files)), ["a/x.rs -> a/y.rs -> a/x.rs"], "{back}");
    }
    // What generated text defines is its file's.
    let x = "include!(\"x.rs\"); use super::Y;";
    let files = [root, parent, ("a/x.rs", x), ("a/y.rs", "use super::x::Z; pub struct Y;"), ("b.rs", "")];
    assert_eq!(circles(&made_up(&files)), ["a/x.rs -> a/y.rs -> a/x.rs"]);
}

#[test]
fn no_circle_is_made_of_declarations_tests_and_other_crates() {
    let files = [
        ("lib.rs", "mod a; pub use a::A;"),
        ("a/mod.rs", "mod b; mod c; pub(crate) use b::B; pub struct A; pub use c::*;"),
        ("a/b.rs", "use super::A; use serde::serde; pub struct B(A);"),
        ("a/c.rs", "use super::B; #[cfg(test)] mod tests { use super::super::c::*; use crate::A; }"),
    ];
    let arrows = made_up(&files);
    assert_eq!(circles(&arrows), [""; 0]);
    assert_eq!(arrows["a/c.rs"].iter().collect::<Vec<_>>(), ["a/b.rs"]);
    assert!(arrows["lib.rs"].is_empty() && arrows["a/mod.rs"].is_empty());
    // A parent that uses what its child uses of it is one.
    let files = [("lib.rs", "mod b; use b::B; pub struct A(B);"), ("b.rs", "pub struct B(*const super::A);")];
    assert_eq!(circles(&made_up(&files)), ["b.rs -> lib.rs -> b.rs"]);
}

#[test]
fn an_arrow_against_the_layers_is_found() {
    let files = [
        ("lib.rs", "mod low; mod high;"),
        ("low/mod.rs", "mod a; pub use a::A;"),
        ("low/a.rs", "use crate::high::H; pub struct A;"),
        ("high.rs", "use crate::low::A; pub struct H;"),
    ];
    let found = forbidden(&made_up(&files), &[("low", &[]), ("high", &["low"])]);
    assert_eq!(found, ["low/a.rs -> high.rs"]);
    // A layer that nobody has placed may name nothing.
    assert_eq!(forbidden(&made_up(&files), &[("low", &["high"])]), ["high.rs -> low/a.rs"]);
}
