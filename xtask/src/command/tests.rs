use super::*;

#[test]
fn a_command_is_shown_as_typed() {
    let mut command = Command::new("/opt/toolchain/bin/cargo");
    command
        .args(["test", "it's", ""])
        .env("LLVM_PREFIX", "/usr/lib/llvm 22")
        .env("PATH", "/bin")
        .env_remove("HOME");
    assert_eq!(shown(&command), r"LLVM_PREFIX='/usr/lib/llvm 22' cargo test 'it'\''s' ''");
}

#[test]
fn a_failure_names_step_command_status_and_way_out() {
    let error =
        run("trying", Command::new("sh").args(["-c", "exit 7"]), "try harder").unwrap_err().to_string();
    for part in ["trying", "sh -c 'exit 7'", "exit status: 7", "try harder"] {
        assert!(error.contains(part), "{part:?} is missing in {error:?}");
    }
    let error = run("trying", &mut Command::new("/no/such/program"), "install it").unwrap_err();
    assert!(format!("{error:#}").contains("No such file"), "{error:#}");
    assert!(error.to_string().contains("install it"), "{error}");
}

#[test]
fn output_is_stdout_and_a_failure_tells_stderr() {
    assert_eq!(output("echo", Command::new("echo").arg("said"), "").unwrap(), "said\n");
    let mut failing = Command::new("sh");
    failing.args(["-c", "echo because >&2; exit 1"]);
    assert!(output("sh", &mut failing, "").unwrap_err().to_string().contains("because"));
}

#[test]
fn only_what_cargo_run_sets_is_removed_from_children() {
    for name in ["CARGO_PKG_NAME", "CARGO_MANIFEST_DIR"] {
        assert!(is_package_variable(OsStr::new(name)), "{name}");
    }
    for name in ["CARGO", "CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_TERM_COLOR", "RUSTUP_TOOLCHAIN"] {
        assert!(!is_package_variable(OsStr::new(name)), "{name}");
    }
}

#[test]
fn programs_are_found_in_the_path_only_if_executable() {
    assert!(find_program("sh").is_some());
    assert!(find_program("surely-no-such-program").is_none());
}
