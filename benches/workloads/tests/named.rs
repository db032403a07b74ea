//! What the names stand for does not change unseen.

use tpu_rpa::batch::{BatchError, Plan, Tiling};
use workloads::{Attention, Batch, NAMES, Source, Workload};

fn plan(workload: &Attention) -> Result<Plan, BatchError> {
    let mut planner = workload.planner(Tiling::tpu(256, 512, 256, workload.page_size)?)?.with_gaps();
    let batch = Batch::new(workload, &planner);
    planner.plan(batch.tokens(), &batch.groups())
}

#[test]
fn plans_of_named_workloads_stay_as_they_are() {
    let mut found = String::new();
    for name in NAMES {
        let Workload::Attention(workload) = Source::open(name).unwrap().workload else { continue };
        let plan = plan(&workload).unwrap();
        let groups: usize = workload.groups.iter().map(|group| group.repeat).sum();
        let (stats, tokens, pool) = (plan.stats(), workload.tokens(), workload.pool_pages());
        found += &format!(
            "{name}: {tokens} tokens, {groups} groups, {pool} pages; {} query, {} full, {} edge tiles\n",
            stats.q_tiles, stats.full_tiles, stats.edge_tiles
        );
    }
    assert_eq!(found, PINNED);
}

const PINNED: &str = "\
W1: 12000 tokens, 1 groups, 1 pages; 47 query, 168 full, 110 edge tiles
W1c: 10000 tokens, 1 groups, 16 pages; 40 query, 160 full, 95 edge tiles
W2: 10000 tokens, 1 groups, 16 pages; 40 query, 160 full, 95 edge tiles
W2g: 10000 tokens, 500 groups, 16 pages; 40 query, 0 full, 2175 edge tiles
W3: 2048 tokens, 1 groups, 1 pages; 8 query, 12 full, 8 edge tiles
W4: 128 tokens, 128 groups, 1024 pages; 1 query, 0 full, 257 edge tiles
W5: 1359 tokens, 16 groups, 107 pages; 6 query, 2 full, 46 edge tiles
cached-100: 2000 tokens, 1 groups, 160 pages; 8 query, 32 full, 19 edge tiles
cached-100-9x64: 2000 tokens, 1 groups, 160 pages; 8 query, 32 full, 19 edge tiles
";

#[test]
fn names_are_read_in_any_case_and_before_files() {
    for name in NAMES {
        let source = Source::open(&name.to_lowercase()).unwrap();
        assert_eq!(source.name, *name);
        let path = format!("{}/files/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let file = Source::open(&path).unwrap();
        assert_eq!((file.name, file.workload), (source.name, source.workload));
    }
}

/// The example of the README.
#[test]
fn the_documented_example_is_a_workload() {
    let text = include_str!("../README.md");
    let example = text.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let Workload::Attention(workload) = Workload::parse(example).unwrap() else { panic!("attention") };
    assert_eq!(workload.tokens(), 500 * 20 + 7 + 8 * (90 + 24));
    assert_eq!(workload.pool_pages(), 64);
    plan(&workload).unwrap();
    for field in example.split("\":").filter_map(|before| before.rsplit('"').next()) {
        let documented = ["", "groups[]."].iter().any(|at| text.contains(&format!("`{at}{field}`")));
        assert!(documented || field.contains(char::is_whitespace), "{field}");
    }
}
