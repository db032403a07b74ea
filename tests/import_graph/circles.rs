//! What an import graph must not have: circles of files, and arrows between layers that are not allowed.

use std::collections::{BTreeMap, BTreeSet};

use super::source::Arrows;

/// For each knot of files that reach each other a shortest circle, as in `a.rs -> b.rs -> a.rs`.
pub fn circles(arrows: &Arrows) -> Vec<String> {
    let reach: BTreeMap<&str, BTreeMap<&str, &str>> =
        arrows.keys().map(|file| (file.as_str(), reached(arrows, file))).collect();
    let mut known = BTreeSet::new();
    let mut circles = Vec::new();
    for (&file, from_file) in &reach {
        if !from_file.contains_key(file) || known.contains(file) {
            continue;
        }
        known.extend(from_file.keys().copied().filter(|other| reach[other].contains_key(file)));
        let (mut at, mut circle) = (from_file[file], file.to_owned());
        while at != file {
            circle = format!("{at} -> {circle}");
            at = from_file[at];
        }
        circles.push(format!("{file} -> {circle}"));
    }
    circles
}

/// Files that `from` leads to, each with the one before it on a shortest way.
fn reached<'a>(arrows: &'a Arrows, from: &'a str) -> BTreeMap<&'a str, &'a str> {
    let mut before = BTreeMap::new();
    let mut ends = vec![from];
    while !ends.is_empty() {
        let mut next = Vec::new();
        for end in ends {
            for to in &arrows[end] {
                if !before.contains_key(to.as_str()) {
                    before.insert(to.as_str(), end);
                    next.push(to.as_str());
                }
            }
        }
        ends = next;
    }
    before
}

/// Arrows from a layer to another one than those that it may name. A layer is a folder of the root, or a file there.
pub fn forbidden(arrows: &Arrows, allowed: &[(&str, &[&str])]) -> Vec<String> {
    let mut found = Vec::new();
    for (file, others) in arrows {
        let from = layer(file);
        let may = allowed.iter().find(|(name, _)| *name == from).map_or(&[][..], |(_, may)| may);
        let outside = others.iter().filter(|other| layer(other) != from && !may.contains(&layer(other)));
        found.extend(outside.map(|other| format!("{file} -> {other}")));
    }
    found
}

fn layer(file: &str) -> &str {
    file.split_once('/').map_or_else(|| file.trim_end_matches(".rs"), |(folder, _)| folder)
}
