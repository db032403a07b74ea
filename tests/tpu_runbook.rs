//! The TPU runbooks without a TPU: what the script would do, what it does when a step fails, what the manifests say.

use std::fs;
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
    let scripts = ["shellcheck", "examples/tpu/run.sh", "examples/tpu/on_device.sh"];
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
