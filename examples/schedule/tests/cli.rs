//! The `schedule` program as a developer runs it. What compiles needs libtpu, no TPU.

use std::path::PathBuf;
use std::process::{Command, Output};

use ndarray::Array1;
use ndarray_npy::NpzReader;

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_schedule"));
    command.args(arguments).current_dir(common::root()).env("RUST_BACKTRACE", "0");
    command.output().expect("the program starts")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Within 2 % of the committed figures; `make ratchet` recomputes all.
#[test]
fn the_committed_figures_hold() {
    if common::libtpu::path().is_none() {
        return;
    }
    let output = run(&["ratchet", "--fast"]);
    println!("{}", text(&output));
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn a_figure_that_became_worse_fails_and_is_named() {
    if common::libtpu::path().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let table = std::fs::read_to_string(common::root().join("kernels/replayed.toml")).unwrap();
    let mut table: toml::Table = table.parse().unwrap();
    let cases = table["case"].as_array_mut().unwrap();
    cases.retain(|c| c["workload"].as_str() == Some("W3"));
    let named = format!("W3 v6e 16/8x128 {}: cycles", cases[0]["tiles"].as_str().unwrap());
    let cycles = &mut cases[0]["figures"]["cycles"];
    *cycles = toml::Value::Integer(cycles.as_integer().unwrap() * 95 / 100);
    let path = folder.path().join("table.toml");
    std::fs::write(&path, table.to_string()).unwrap();
    let output = run(&["ratchet", "--fast", "--table", path.to_str().unwrap()]);
    assert!(!output.status.success() && text(&output).contains(&named), "{}", text(&output));
}

/// The text of an element and of all below it.
fn words(node: roxmltree::Node<'_, '_>) -> String {
    node.descendants().filter(|n| n.is_text()).filter_map(|n| n.text()).collect()
}

/// The cells of a table below its head.
fn cells(page: &roxmltree::Document<'_>, id: &str) -> Vec<Vec<String>> {
    let table = page.descendants().find(|n| n.attribute("id") == Some(id)).expect(id);
    let rows = table.descendants().filter(|n| n.has_tag_name("tr")).skip(1);
    rows.map(|row| row.children().filter(|n| n.has_tag_name("td")).map(words).collect()).collect()
}

/// The drawing in an element: points of full and empty circles, and rectangles by colour.
fn drawing<'a>(page: &'a roxmltree::Document<'a>, id: &str) -> roxmltree::Node<'a, 'a> {
    let element = page.descendants().find(|n| n.attribute("id") == Some(id)).expect(id);
    let svg = element.children().find(|n| n.tag_name().name() == "svg").expect("a drawing");
    let size = |name| svg.attribute(name).and_then(|v| v.parse::<f64>().ok()).expect("a size");
    let (width, height) = (size("width"), size("height"));
    for node in svg.descendants() {
        for (names, most) in [(["x", "cx", "x1", "x2"], width), (["y", "cy", "y1", "y2"], height)] {
            for value in names.iter().filter_map(|name| node.attribute(*name)) {
                let at: f64 = value.parse().expect("a coordinate");
                assert!((0.0..=most).contains(&at), "{id}: {at} is not within {most}");
            }
        }
    }
    svg
}

#[test]
fn a_report_says_what_replay_says() {
    if common::libtpu::path().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.html");
    let output = run(&["report", "--workload", "W3,L1", "--out", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output));
    let html = std::fs::read_to_string(&file).unwrap();
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let page = roxmltree::Document::parse_with_options(&html, options).expect("well-formed");
    for node in page.descendants() {
        assert!(!["script", "link", "img"].contains(&node.tag_name().name()), "refers to another file");
        assert!(node.attributes().all(|a| !["src", "href"].contains(&a.name())), "refers to another file");
    }
    let environment =
        page.descendants().find(|n| n.attribute("id") == Some("environment")).map(words).unwrap();
    for word in [
        "Device kind v6e",
        "Compiler: libtpu",
        "16/8x128",
        "tiles tuned for each workload",
        "replayed schedule, not hardware",
    ] {
        assert!(environment.contains(word), "{word}: {environment}");
    }

    let replayed = text(&run(&["replay", "--workload", "W3,L1"]));
    let workloads = cells(&page, "workloads");
    assert_eq!(workloads.len(), 2);
    let number = |cell: &str| cell.split(' ').next().and_then(|n| n.parse::<f64>().ok()).expect("a number");
    for row in &workloads {
        let line = format!("{} on v6e: {} us a layer", row[0], row[1]);
        assert!(replayed.contains(&line), "{line}\n{replayed}");
        for roof in &row[4..8] {
            let percent = number(roof.split_once(' ').expect("a share").1);
            assert!((percent - 100.0 * number(roof) / number(&row[1])).abs() < 1.0, "{roof} of {}", row[1]);
            assert!(percent <= 100.0, "{roof}: no kernel is below a roof");
        }
        assert!(number(&row[10]) >= 0.999 * number(&row[9]), "copied no less than must be: {row:?}");

        // All time is in the regions.
        let regions = cells(&page, &format!("regions-{}", row[0]));
        let time: f64 = regions.iter().map(|r| number(&r[4]) + number(&r[5])).sum();
        assert!((time - number(&row[1])).abs() < 0.1 * regions.len() as f64, "{time} of {}", row[1]);
        let svg = drawing(&page, &format!("strip-{}", row[0]));
        let bars = svg.descendants().filter(|n| n.attribute("fill") == Some("#EBEBEB")).count();
        assert_eq!(bars, 6 * (regions.len() - 1), "a bar a unit and region");
        for region in &regions[..regions.len() - 1] {
            let busy: Vec<f64> = region[10..].iter().map(|cell| number(cell)).collect();
            assert!(busy.len() == 6 && busy.iter().all(|b| (0.0..=100.0).contains(b)), "{region:?}");
            let units = ["MATMUL", "VALU", "EUP", "XLU", "VLOAD", "VSTORE"];
            if let Some(bound) = units.iter().position(|unit| *unit == region[6]) {
                assert!(busy.iter().all(|&b| b <= busy[bound]), "{region:?}");
            }
        }
        assert!(regions.iter().any(|r| r[7].parse::<f64>().is_ok_and(|slots| slots > 20.0)), "slots a tile");
    }

    // The ceiling, and two circles a workload: at the same height, the full one at no more FLOP a byte.
    let svg = drawing(&page, "roofline");
    assert!(words(svg).contains("HBM 1640 GB/s, MXU 918 TFLOP/s"));
    let circles: Vec<_> = svg.descendants().filter(|n| n.tag_name().name() == "circle").collect();
    let at =
        |n: &roxmltree::Node<'_, '_>, name| n.attribute(name).and_then(|v| v.parse::<f64>().ok()).unwrap();
    for pair in circles[..4].chunks(2) {
        assert_eq!((pair[0].attribute("fill"), at(&pair[0], "cy")), (Some("none"), at(&pair[1], "cy")));
        assert!(at(&pair[1], "cx") <= at(&pair[0], "cx"));
    }
    // Of the two, the one with more FLOP a second is higher.
    let rate = |row: &[String]| number(&row[8]) / number(&row[1]);
    assert_eq!(rate(&workloads[0]) > rate(&workloads[1]), at(&circles[0], "cy") < at(&circles[2], "cy"));
}

#[test]
fn an_exported_kernel_has_its_operands_by_index() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("w3");
    let output = run(&["export", "--workload", "W3", "--device", "v6e", "--out", out.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output));
    let module = std::fs::read_to_string(out.join("module.mlir")).unwrap();
    assert!(module.contains("stablehlo.custom_call @tpu_custom_call(%arg0, %arg1,"));
    let file = std::fs::File::open(PathBuf::from(&out).join("operands.npz")).unwrap();
    let mut npz = NpzReader::new(file).unwrap();
    let header: Array1<i32> = npz.by_name("arg0").unwrap();
    assert_eq!(header[0], 2048, "new tokens of the batch");
    let tables: Array1<i32> = npz.by_name("arg1").unwrap();
    assert!(module.contains(&format!("%arg1: tensor<{}xi32>", tables.len())));
}

/// A small batch of a user's own.
const OWN: &str = r#"{
  "q_heads": 8, "kv_heads": 4, "head_dim": 128, "dtype": "f32", "page_size": 64, "soft_cap": 30,
  "groups": [
    { "prefix": 300, "segments": [{ "count": 9, "tokens": 20 }, 7] },
    { "repeat": 2, "prefix": 100, "pages": "system", "lead": 40, "segments": [5, 5] }
  ]
}"#;

#[test]
fn a_workload_of_ones_own_is_exported_and_flags_override_it() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("own.json"), folder.path().join("out"));
    std::fs::write(&file, OWN).unwrap();
    let (file, out) = (file.to_str().unwrap(), out.to_str().unwrap());
    let exported = |more: &[&str]| {
        let output = run(&[&["export", "--workload", file, "--out", out][..], more].concat());
        assert!(output.status.success(), "{}", text(&output));
        std::fs::read_to_string(folder.path().join("out/module.mlir")).unwrap()
    };
    // The pool: five pages for 300 tokens, two for the 100 that both other groups name.
    let module = exported(&[]);
    assert!(module.contains("7x2x4x64x128xf32") && !module.contains("bf16"), "{module}");
    let module = exported(&["--dtype", "bf16", "--page-size", "128", "--heads", "16/2x256"]);
    assert!(module.contains("4x2x2x128x256xbf16"), "{module}");
    let both = run(&["export", "--workload", &format!("w3,{file}"), "--out", out]);
    assert!(both.status.success(), "{}", text(&both));
    for name in ["W3", "own"] {
        assert!(folder.path().join("out").join(name).join("operands.npz").is_file());
    }
}

#[test]
fn a_workload_of_ones_own_is_replayed() {
    if common::libtpu::path().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("own.json");
    std::fs::write(&file, OWN).unwrap();
    let file = file.to_str().unwrap();
    for more in [&[][..], &["--dtype", "bf16"]] {
        let output = run(&[&["replay", "--workload", file][..], more].concat());
        assert!(output.status.success(), "{}", text(&output));
        assert!(text(&output).contains("own on v6e: ") && !text(&output).contains("NOT TRUSTED"));
    }
    let report = folder.path().join("report.html");
    let output = run(&["report", "--workload", file, "--out", report.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output));
    let page = std::fs::read_to_string(report).unwrap();
    assert!(page.contains("4x128 in f32, pages of 64 tokens"));
}

#[test]
fn bad_files_are_refused_in_one_line_that_names_the_field() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.json");
    let path = file.to_str().unwrap();
    let export: &[&str] = &["export", "--workload", path, "--out", "x"];
    for (from, to, more, named) in [
        (
            "\"tokens\": 20",
            "\"tokens\": 0",
            &[][..],
            "groups[0].segments[0].tokens is 0; it must be at least 1",
        ),
        ("\"count\": 9", "\"count\": 99999999", &[], "groups[0].segments is 1999999987 new tokens"),
        ("\"soft_cap\"", "\"softcap\"", &[], "softcap: unknown field `softcap`"),
        ("\"f32\"", "\"f16\"", &[], "dtype: unknown variant `f16`"),
        ("\"repeat\": 2,", "\"repeat\": 2 ", &[], "at line 5 column"),
        ("", "", &["--heads", "9/4x128"], "q_heads is 9; it must be a multiple of kv_heads (4)"),
        ("", "", &["--page-size", "60"], "page_size is 60; it must be"),
    ] {
        std::fs::write(&file, OWN.replace(from, to)).unwrap();
        let output = run(&[export, more].concat());
        let (said, start) = (text(&output), format!("Error: {path}: "));
        assert!(!output.status.success() && said.starts_with(&start) && said.contains(named), "{said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    }
}

#[test]
fn a_table_of_figures_takes_no_file_of_ones_own() {
    let folder = tempfile::tempdir().unwrap();
    let (own, table) = (folder.path().join("own.json"), folder.path().join("table.toml"));
    std::fs::write(&own, OWN).unwrap();
    let row = format!(
        "[[case]]\nworkload = {own:?}\ndevice = \"v6e\"\nheads = \"16/8x128\"\ntiles = \"256/512/256\"\n"
    );
    std::fs::write(&table, row).unwrap();
    let output = run(&["ratchet", "--table", table.to_str().unwrap()]);
    assert!(
        !output.status.success() && text(&output).contains("must be one of W1, W1c"),
        "{}",
        text(&output)
    );
}

#[test]
fn mistakes_are_named() {
    for (arguments, named) in [
        (&["replay", "--workload", "W9"][..], "W1, W1c, W2"),
        (&["report", "--workload", "W3"], "--out <FILE>"),
        (&["export", "--workload", "W1", "--device", "v9", "--out", "x"], "v5e, v6e or v7x"),
        (&["export", "--workload", "W1,w1", "--out", "x"], "two workloads are called W1"),
        (&["export", "--workload", "W1", "--dtype", "i32", "--out", "x"], "f32 or bf16"),
        (&["export", "--workload", "W1", "--tiles", "256/512", "--out", "x"], "whole numbers"),
        (&["export", "--workload", "W1", "--tiles", "250/512/128", "--out", "x"], "q_tile"),
    ] {
        let output = run(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(text(&output).contains(named) && !text(&output).contains("panicked"), "{}", text(&output));
    }
}

/// Candidates, choices and tables agree; one that the rules do not choose is named. Compiles nothing.
#[test]
fn the_tables_of_block_sizes_are_what_the_rules_choose() {
    let output = run(&["tune", "--check"]);
    assert!(output.status.success(), "{}", text(&output));
    let folder = tempfile::tempdir().unwrap();
    let table = std::fs::read_to_string(common::root().join("kernels/tables/v6e.toml"));
    let mut table: toml::Table = table.unwrap().parse().unwrap();
    let candidates = table["entry"][0]["candidate"].as_array_mut().unwrap();
    let slowest = candidates.iter_mut().max_by_key(|c| c.get("cycles").map(|c| c.as_integer())).unwrap();
    slowest["cycles"] = toml::Value::Integer(1);
    std::fs::write(folder.path().join("v6e.toml"), table.to_string()).unwrap();
    let output = run(&["tune", "--check", "--device", "v6e", "--tables", folder.path().to_str().unwrap()]);
    assert!(!output.status.success() && text(&output).contains("packed 16/8x128"), "{}", text(&output));
}
