//! The TPU runbooks without a TPU: what the script would do, what it does when a step fails, what the manifests say.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const ARGUMENTS: [&str; 10] =
    ["--project", "p", "--zone", "z", "--type", "v6e-1", "--image", "i", "--libtpu", "1.2"];

/// Runs the script with a `gcloud` that writes down how it was called and fails at the verb `failing`.
fn run(arguments: &[&str], failing: &str) -> (Output, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (calls, gcloud) = (folder.path().join("calls"), folder.path().join("gcloud"));
    let script = format!(
        "#!/bin/sh\necho \"$*\" >> {}\ncase \" $* \" in *' {failing} '*) exit 3 ;; esac\n",
        calls.display()
    );
    fs::write(&gcloud, script).expect("a script");
    fs::set_permissions(&gcloud, fs::Permissions::from_mode(0o755)).expect("a mode");
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").expect("a path"));
    let output = Command::new("sh")
        .arg(format!("{ROOT}/examples/tpu/run.sh"))
        .args(arguments)
        .env("PATH", path)
        .env("TPU_RESULTS", folder.path().join("results"))
        .output()
        .expect("sh starts");
    (output, fs::read_to_string(calls).unwrap_or_default())
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_dry_run_prints_every_step_and_does_nothing() {
    let mut arguments = ARGUMENTS.to_vec();
    arguments.extend(["--dry-run", "--spot"]);
    let (output, calls) = run(&arguments, "none");
    let text = stdout(&output);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(calls, "", "nothing was called");
    let mut rest = text.as_str();
    for step in [
        "git archive",
        "tpu-vm create tpu-rpa-",
        "--accelerator-type=v6e-1 --version=i --spot --project=p --zone=z",
        "tpu-vm scp",
        "PROFILE=standard DTYPE=bf16 LIBTPU=1.2 sh examples/tpu/on_device.sh",
        "results.tar.gz",
        "tpu-vm delete tpu-rpa-",
    ] {
        rest =
            rest.split_once(step).unwrap_or_else(|| panic!("{step:?} is missing or too early in {text}")).1;
    }
    assert!(text.lines().all(|line| line.starts_with("+ ")), "{text}");
}

#[test]
fn the_vm_is_deleted_whatever_fails() {
    for failing in ["create", "scp", "ssh"] {
        let (output, calls) = run(&ARGUMENTS, failing);
        assert!(!output.status.success(), "{failing}");
        let last = calls.lines().last().expect("a call");
        assert!(last.contains("tpu-vm delete tpu-rpa-"), "after {failing}: {calls}");
        assert_eq!(calls.matches(" delete ").count(), 1, "{calls}");
    }
    let (output, _) = run(&ARGUMENTS, "delete");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("DELETE THE VM YOURSELF: tpu-rpa-"), "{errors}");

    let mut keep = ARGUMENTS.to_vec();
    keep.push("--keep");
    let (_, calls) = run(&keep, "ssh");
    assert!(!calls.contains(" delete "), "{calls}");
}

#[test]
fn nothing_is_assumed() {
    for (at, option) in ["--project", "--zone", "--type", "--image", "--libtpu"].into_iter().enumerate() {
        let mut arguments = ARGUMENTS.to_vec();
        arguments.drain(2 * at..2 * at + 2);
        let (output, calls) = run(&arguments, "none");
        assert_eq!((output.status.code(), calls.as_str()), (Some(2), ""));
        assert!(String::from_utf8_lossy(&output.stderr).contains(&format!("{option} is missing")));
    }
    let mut hostile = ARGUMENTS.to_vec();
    hostile.extend(["--profile", "smoke; reboot"]);
    assert_eq!(run(&hostile, "none").0.status.code(), Some(2));
}

/// Runs a Python tool of `.ci/tools.sh runbooks`; none where it is not there.
fn tool(arguments: &[&str]) -> Option<Output> {
    let tools = format!("{ROOT}/.tools/py-runbooks");
    if !Path::new(&tools).is_dir() {
        eprintln!("SKIPPED: sh .ci/tools.sh runbooks fetches what this test needs");
        return None;
    }
    let path = format!("{tools}/bin:{}", std::env::var("PATH").expect("a path"));
    let mut command = Command::new(arguments[0]);
    command
        .args(&arguments[1..])
        .env("PATH", path)
        .env("PYTHONPATH", tools)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    Some(command.current_dir(ROOT).output().expect("it starts"))
}

#[test]
fn shellcheck_finds_nothing() {
    let scripts =
        ["shellcheck", "examples/tpu/run.sh", "examples/tpu/on_device.sh", "examples/tpu/k8s/base/upload.sh"];
    if let Some(output) = tool(&scripts) {
        assert!(output.status.success(), "{}", stdout(&output));
    }
}

#[test]
fn rendered_manifests_are_valid() {
    if let Err(error) = Command::new("kubectl").arg("kustomize").arg("--help").output() {
        eprintln!("SKIPPED: kubectl: {error}");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (overlay, chips) in [("cpu", None), ("tpu-v6e-1", Some("1")), ("tpu-v6e-4", Some("4"))] {
        let rendered = Command::new("kubectl")
            .args(["kustomize", &format!("{ROOT}/examples/tpu/k8s/overlays/{overlay}")])
            .output()
            .expect("kubectl starts");
        let text = stdout(&rendered);
        assert!(rendered.status.success(), "{}", String::from_utf8_lossy(&rendered.stderr));
        let limit = chips.map(|chips| format!("google.com/tpu: \"{chips}\""));
        assert_eq!(text.matches("google.com/tpu: ").count(), chips.map_or(0, |_| 2), "{text}");
        assert!(limit.is_none_or(|limit| text.contains(&limit)), "{text}");
        let at = |name: &str| text.find(&format!("        name: {name}\n")).expect("a container");
        assert!(
            at("upload") < at("check") && at("check") < at("bench"),
            "the check runs before the bench: {text}"
        );
        let file = folder.path().join(format!("{overlay}.yaml"));
        fs::write(&file, &text).expect("a file");
        let file = file.to_str().expect("a path in UTF-8");
        if let Some(output) = tool(&["kubernetes-validate", "--strict", file]) {
            assert!(output.status.success(), "{}", stdout(&output));
        }
        // The check itself: a field that Kubernetes does not know.
        fs::write(file, text.replace("restartPolicy: Never", "restartPolice: Never")).expect("a file");
        if let Some(output) = tool(&["kubernetes-validate", "--strict", file]) {
            assert!(!output.status.success(), "{}", stdout(&output));
        }
    }
}

/// The overlay that the runbook tells to write.
#[test]
fn the_documented_overlay_renders() {
    let readme = fs::read_to_string(format!("{ROOT}/examples/tpu/README.md")).expect("the runbook");
    let (_, rest) = readme.split_once("kustomization.yaml <<'YAML'\n").expect("an overlay");
    let (overlay, _) = rest.split_once("YAML\n").expect("its end");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copied =
        Command::new("cp").arg("-r").arg(format!("{ROOT}/examples/tpu/k8s")).arg(folder.path()).status();
    assert!(copied.expect("cp starts").success());
    let mine = folder.path().join("k8s/overlays/mine");
    fs::create_dir(&mine).expect("a folder");
    fs::write(mine.join("kustomization.yaml"), overlay).expect("a file");
    match Command::new("kubectl").arg("kustomize").arg(&mine).output() {
        Ok(rendered) => {
            let text = stdout(&rendered);
            assert!(rendered.status.success(), "{}", String::from_utf8_lossy(&rendered.stderr));
            assert_eq!(text.matches("image: REGISTRY/IMAGE:TAG").count(), 3, "{text}");
            assert!(text.contains("LIBTPU: VERSION") && text.contains("DTYPE: bf16"), "{text}");
        }
        Err(error) => eprintln!("SKIPPED: kubectl: {error}"),
    }
}

/// Runs `upload.sh` on a folder of results whose run ended with status 3.
fn upload(variables: &[(&str, &str)], arguments: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("status"), "3\n").expect("a file");
    fs::write(folder.path().join("bench_score.json"), "{}").expect("a file");
    let output = Command::new("sh")
        .arg(format!("{ROOT}/examples/tpu/k8s/base/upload.sh"))
        .args(arguments)
        .env_remove("UPLOAD_URL")
        .env_remove("UPLOAD_COMMAND")
        .env("NO_PROXY", "*")
        .env("RESULTS", folder.path())
        .envs(variables.iter().copied())
        .output()
        .expect("sh starts");
    (output.status.code(), stdout(&output) + &String::from_utf8_lossy(&output.stderr))
}

#[test]
fn results_are_uploaded_by_url_or_command() {
    // A server that takes one PUT and hands its body on.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/results?signature=s", listener.local_addr().expect("an address"));
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        let mut reader = BufReader::new(stream);
        let (mut line, mut length) = (String::new(), 0);
        reader.read_line(&mut line).expect("a request line");
        let request = line.clone();
        while line.trim() != "" {
            line.clear();
            reader.read_line(&mut line).expect("a header");
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("the body");
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        reader.into_inner().write_all(answer).expect("an answer");
        (request, body)
    });
    let (status, text) = upload(&[("UPLOAD_URL", &url)], &[]);
    assert_eq!(status, Some(3), "the run's status, after the upload: {text}");
    let (request, body) = server.join().expect("no panic");
    assert!(request.starts_with("PUT /results?signature=s HTTP/1.1"), "{request}");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let archive = folder.path().join("results.tar.gz");
    fs::write(&archive, body).expect("a file");
    let listed = Command::new("tar").arg("-tzf").arg(&archive).output().expect("tar starts");
    assert!(stdout(&listed).contains("./bench_score.json"), "{listed:?}");

    let copy = folder.path().join("copy");
    let command = format!("cp -r \"$RESULTS\" {}", copy.display());
    assert_eq!(upload(&[("UPLOAD_COMMAND", &command)], &[]).0, Some(3));
    assert!(copy.join("bench_score.json").is_file());

    // A failed upload is not hidden by the status of the run.
    assert_eq!(upload(&[("UPLOAD_COMMAND", "exit 9")], &[]).0, Some(9));
    assert_eq!(upload(&[("UPLOAD_COMMAND", "exit 9")], &["--check"]).0, Some(0), "the check uploads nothing");
    let both = [("UPLOAD_COMMAND", "true"), ("UPLOAD_URL", "http://127.0.0.1:9")];
    for variables in [&[][..], &both] {
        assert_eq!(upload(variables, &["--check"]).0, Some(2));
    }
}

/// No daemon builds the image here: what can be read off the file.
#[test]
fn the_image_is_pinned_complete_and_not_roots() {
    let file = fs::read_to_string(format!("{ROOT}/examples/tpu/Dockerfile")).expect("the file");
    let file = file.replace("\\\n", " ");
    let instructions: Vec<(&str, &str)> = file
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_once(' ').expect("an instruction and its words"))
        .collect();
    let known = ["ARG", "FROM", "RUN", "ENV", "USER", "WORKDIR", "COPY", "CMD"];
    for (instruction, words) in &instructions {
        assert!(known.contains(instruction), "{instruction} {words}");
    }
    let all = |name: &str| -> Vec<&str> {
        instructions.iter().filter(|(instruction, _)| *instruction == name).map(|(_, words)| *words).collect()
    };
    let base = all("ARG")[0].strip_prefix("BASE=").expect("the base image");
    let (_, tag) = base.split_once(':').expect("a tag");
    assert!(tag.starts_with(|digit: char| digit.is_ascii_digit()), "{tag}");
    assert_eq!(all("FROM"), ["${BASE}"]);
    // The user and the folders that the Job counts on.
    let job = fs::read_to_string(format!("{ROOT}/examples/tpu/k8s/base/job.yaml")).expect("the Job");
    assert_eq!(all("USER"), ["1000:1000"]);
    assert!(job.contains("runAsUser: 1000") && job.contains("workingDir: /src"));
    assert_eq!(all("WORKDIR"), ["/src"]);
    // What on_device.sh and upload.sh call.
    for package in ["curl", "gcc", "make", "python3", "python3-pip"] {
        assert!(all("RUN")[0].split_whitespace().any(|word| word == package), "{package}");
    }
    let manifest = fs::read_to_string(format!("{ROOT}/Cargo.toml")).expect("the manifest");
    let wanted = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).expect("a version");
    let number = |text: &str| -> u32 {
        text.trim_matches('"').split('.').nth(1).and_then(|n| n.split('-').next()?.parse().ok()).expect("1.N")
    };
    assert!(number(tag) >= number(wanted), "{tag} is older than {wanted}");
}
