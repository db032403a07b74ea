//! Documents of any kind: good ones come back as they were, bad ones are refused in one line.

use common::{cases, property};
use proptest::prelude::*;
use tpu_rpa::batch::Tiling;
use tpu_rpa::kernels::WorkloadClass;
use workloads::{Attention, Batch, DType, GroupShape, Labels, Problem, Segments, Source, Workload};

fn group() -> impl Strategy<Value = GroupShape> {
    let segments = prop::collection::vec((1..4usize, 1..40usize), 1..4);
    let pages = prop::option::of(prop::sample::select(vec!["a", "b", "\"\n"]));
    (1..4usize, 0..100usize, prop_oneof![Just(0), 1..50usize], pages, segments).prop_map(
        |(repeat, prefix, lead, pages, segments)| GroupShape {
            repeat,
            prefix,
            lead,
            pages: pages.map(str::to_owned),
            segments: segments.into_iter().map(|(count, tokens)| Segments { count, tokens }).collect(),
        },
    )
}

fn attention() -> impl Strategy<Value = Attention> {
    let shape = (1..4usize, 1..3usize, prop::sample::select(vec![64, 128, 256]), any::<bool>());
    let options = (
        prop::option::of(0.01f32..4.0),
        prop::option::of(1.0f32..90.0),
        prop::option::of(1..300u32),
        prop::option::of(500..600usize),
        prop::option::of(prop::sample::select(WorkloadClass::ALL.to_vec())),
    );
    (shape, options, prop::collection::vec(group(), 1..6)).prop_map(
        |(
            (ratio, kv_heads, head_dim, wide),
            (scale, soft_cap, sliding_window, pool_pages, class),
            groups,
        )| {
            Attention {
                description: None,
                q_heads: ratio * kv_heads,
                kv_heads,
                head_dim,
                dtype: if wide { DType::F32 } else { DType::Bf16 },
                page_size: 16,
                scale,
                soft_cap,
                sliding_window,
                pool_pages,
                class,
                groups,
            }
        },
    )
}

fn labels() -> impl Strategy<Value = Labels> {
    (1..100usize, 1..1000usize, 1..100usize).prop_map(|(hidden, vocab, tokens)| Labels {
        description: Some("labels".to_owned()),
        hidden,
        vocab,
        labels: vocab.min(3),
        rows: tokens,
        tokens,
        dtype: DType::F32,
    })
}

fn workload() -> impl Strategy<Value = Workload> {
    prop_oneof![4 => attention().prop_map(Workload::Attention), 1 => labels().prop_map(Workload::Labels)]
}

/// Plans what is small enough for a test, as the batch describes it.
fn plan(workload: &Attention) -> Result<(), TestCaseError> {
    const SMALL: usize = 100_000;
    let pages: usize = workload.groups.iter().map(|g| g.repeat * g.prefix.div_ceil(workload.page_size)).sum();
    if workload.tokens() > SMALL || pages > SMALL || workload.pool_pages() > SMALL {
        return Ok(());
    }
    let tiling = Tiling::portable(64, 1024, 64, workload.page_size).expect("for every page size");
    let mut planner = workload.planner(tiling).expect("a pool that was checked");
    let batch = Batch::new(workload, &planner);
    let groups = batch.groups();
    prop_assert_eq!(batch.tokens(), workload.tokens());
    for (shape, group) in workload.groups.iter().flat_map(|g| std::iter::repeat_n(g, g.repeat)).zip(&groups) {
        let lens = group.cu_seg_lens.windows(2).map(|w| (w[1] - w[0]) as usize);
        prop_assert!(lens.eq(shape.lengths()));
        prop_assert_eq!((group.prefix_len as usize, group.lead), (shape.prefix, shape.lead > 0));
    }
    // Pages are shared where groups say so, and only there.
    let shapes: Vec<_> = workload.groups.iter().flat_map(|g| std::iter::repeat_n(g, g.repeat)).collect();
    for (i, (a, b)) in groups.iter().zip(groups.iter().skip(1)).enumerate() {
        let same = shapes[i].pages.is_some() && shapes[i].pages == shapes[i + 1].pages;
        let both = a.pages.len().min(b.pages.len());
        if same {
            prop_assert_eq!(&a.pages[..both], &b.pages[..both]);
        } else {
            prop_assert!(a.pages.iter().all(|page| !b.pages.contains(page)));
        }
    }
    planner.plan(batch.tokens(), &groups).map_err(|e| TestCaseError::fail(e.to_string()))?;
    Ok(())
}

#[test]
fn documents_come_back_as_they_were_and_can_be_planned() {
    property(cases(1000), 200, workload, |workload| {
        let text = serde_json::to_string(&workload).expect("JSON");
        let read = Workload::parse(&text).map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
        prop_assert_eq!(&read, &workload);
        match &read {
            Workload::Attention(attention) => plan(attention),
            Workload::Labels(labels) => {
                let ids = labels.ids();
                prop_assert!(ids.iter().all(|id| (*id as usize) < labels.vocab));
                Ok(())
            }
        }
    });
}

const HOSTILE: [&str; 22] = [
    "0",
    "-1",
    "1",
    "7",
    "1000",
    "1e3",
    "1e400",
    "16777216",
    "16777217",
    "2147483647",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "99999999999999999999",
    "0.5",
    "null",
    "true",
    "\"\"",
    "\"a\\nb\\u2028\"",
    "[]",
    "{}",
    "[[[[{\"a\":[]}]]]]",
];

/// Replaces the value, the name or the whole of the member or element that `at` counts to.
fn spoil(text: &str, at: usize, how: usize, with: &str) -> String {
    let mut value: serde_json::Value = serde_json::from_str(text).expect("a document");
    let with = serde_json::from_str(with).unwrap_or(serde_json::Value::Null);
    let mut left = at % 64;
    while !visit(&mut value, &mut left, how, &with) {}
    value.to_string()
}

fn visit(value: &mut serde_json::Value, left: &mut usize, how: usize, with: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Object(members) => {
            let names: Vec<String> = members.keys().cloned().collect();
            for name in names {
                if *left == 0 {
                    match how % 3 {
                        0 => members.insert(name, with.clone()),
                        1 => members.remove(&name),
                        _ => members.insert(format!("{name}\n"), with.clone()),
                    };
                    return true;
                }
                *left -= 1;
                if members.get_mut(&name).is_some_and(|value| visit(value, left, how, with)) {
                    return true;
                }
            }
        }
        serde_json::Value::Array(elements) => {
            for element in elements {
                if *left == 0 {
                    *element = with.clone();
                    return true;
                }
                *left -= 1;
                if visit(element, left, how, with) {
                    return true;
                }
            }
        }
        _ => {}
    }
    false
}

/// Refused in one line, or good enough to be planned.
fn stands(text: &str) -> Result<(), TestCaseError> {
    match Workload::parse(text) {
        Ok(Workload::Attention(attention)) => plan(&attention),
        Ok(Workload::Labels(labels)) => {
            prop_assert_eq!(labels.ids().len(), labels.labels);
            Ok(())
        }
        Err(problem) => {
            let line = problem.to_string();
            prop_assert!(!line.chars().any(char::is_control) && line.len() < 1000, "{line:?}");
            Ok(())
        }
    }
}

#[test]
fn hostile_documents_are_refused_in_one_line() {
    let spoilt =
        || (workload(), prop::collection::vec((any::<usize>(), any::<usize>(), 0..HOSTILE.len()), 1..4));
    property(cases(4000), 200, spoilt, |(workload, changes)| {
        let text = serde_json::to_string(&workload).expect("JSON");
        let change = |text: String, (at, how, with): (usize, usize, usize)| {
            let document = text.starts_with('{') && text.len() > 2;
            if document { spoil(&text, at, how, HOSTILE[with]) } else { text }
        };
        stands(&changes.into_iter().fold(text, change))
    });
}

#[test]
fn bytes_that_are_no_document_are_refused_in_one_line() {
    let cut = || (workload(), any::<prop::sample::Index>(), any::<char>(), any::<bool>());
    property(cases(4000), 200, cut, |(workload, at, with, keep)| {
        let text = serde_json::to_string(&workload).expect("JSON");
        let at = at.index(text.len());
        let at = (0..=at).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        stands(&format!("{}{with}{}", &text[..at], if keep { &text[at..] } else { "" }))
    });
    stands(&"[".repeat(1 << 20)).unwrap();
    stands(&format!("{{\"groups\":{}", "[{\"segments\":".repeat(1 << 16))).unwrap();
}

fn refused(groups: &str, more: &str) -> String {
    let shape =
        "\"q_heads\": 16, \"kv_heads\": 8, \"head_dim\": 128, \"dtype\": \"bf16\", \"page_size\": 128";
    Workload::parse(&format!("{{{shape}{more}, \"groups\": {groups}}}")).expect_err(groups).to_string()
}

#[test]
fn mistakes_name_field_value_and_bound() {
    for (groups, more, line) in [
        ("[]", "", "groups is empty; it must be at least one group"),
        (
            "[{\"segments\": []}]",
            "",
            "groups[0].segments is empty; it must be at least one segment where there is no lead",
        ),
        ("[{\"segments\": [1, 0]}]", "", "groups[0].segments[1].tokens is 0; it must be at least 1"),
        (
            "[{\"segments\": [{\"count\": 0, \"tokens\": 3}]}]",
            "",
            "groups[0].segments[0].count is 0; it must be at least 1",
        ),
        ("[{\"repeat\": 0, \"segments\": [1]}]", "", "groups[0].repeat is 0; it must be at least 1"),
        (
            "[{\"segments\": [1]}, {\"segments\": [16777216]}]",
            "",
            "groups[1].segments is 16777217 new tokens with all before; it must be at most 16777216",
        ),
        (
            "[{\"repeat\": 4294967296, \"segments\": [{\"count\": 4294967296, \"tokens\": 9}]}]",
            "",
            "groups[0].segments is too many to count new tokens with all before; it must be at most 16777216",
        ),
        (
            "[{\"prefix\": 2147483647, \"segments\": [1]}]",
            "",
            "groups[0].prefix is 2147483647; it must be at most 2147483646 with 1 new tokens",
        ),
        (
            "[{\"prefix\": 2147483646, \"repeat\": 5, \"pages\": \"a\", \"segments\": [1]}]",
            "",
            "groups[0].prefix is 2147483646, 83886080 pages with all before; it must be such that all groups name at most \
             67108864 pages",
        ),
        (
            "[{\"prefix\": 2000, \"segments\": [1]}]",
            ", \"pool_pages\": 15",
            "pool_pages is 15; it must be from 16 that prefixes take to 16777215",
        ),
        ("[{\"segments\": [1], \"lenght\": 3}]", "", "groups[0].lenght: unknown field `lenght`"),
        (
            "[{\"segments\": [{\"count\": 1, \"token\": 3}]}]",
            "",
            "groups[0].segments[0].token: unknown field `token`",
        ),
        (
            "[{\"segments\": [-1]}]",
            "",
            "groups[0].segments[0]: invalid type: integer `-1`, expected tokens of a segment",
        ),
        (
            "[{\"segments\": [1]}]",
            ", \"class\": \"pack\"",
            "class is \"pack\"; it must be one of packed, prefill",
        ),
        ("[{\"segments\": [1]}]", ", \"soft_cap\": 0", "soft_cap is 0; it must be finite and above 0"),
        ("[{\"segments\": [1]}]", ", \"scale\": 1e39", "scale is inf; it must be finite and above 0"),
    ] {
        let found = refused(groups, more);
        assert!(found.contains(line), "{found}\n{line}");
    }
    let text = |dtype: &str| {
        format!(
            "{{\"hidden\": 8, \"vocab\": 9, \"labels\": 2, \"rows\": 3, \"tokens\": 3, \"dtype\": \"{dtype}\"}}"
        )
    };
    let labels = |text: String| Workload::parse(&text).expect_err(&text).to_string();
    assert!(labels(text("f64")).starts_with("dtype: unknown variant `f64`"), "{}", labels(text("f64")));
    assert!(labels(text("i32")).starts_with("dtype is i32; "), "{}", labels(text("i32")));
    let rows = labels(text("f32").replace("\"rows\": 3", "\"rows\": 4"));
    assert_eq!(rows, "rows is 4; it must be from 1 to tokens");
    let missing = labels("{}".to_owned());
    assert!(missing.starts_with("document: missing field `q_heads`"), "{missing}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = env!("CARGO_MANIFEST_DIR");
    for what in ["no\nsuch.json", folder] {
        let error = Source::open(what).unwrap_err();
        assert!(matches!(error.problem, Problem::Unreadable { .. }));
        let line = error.to_string();
        assert!(line.contains("W1, W1c, W2") && !line.contains('\n'), "{line}");
    }
}
