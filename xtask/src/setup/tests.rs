use super::*;

fn plan(missing: usize, toolchain: Toolchain, linker: Linker, on_debian: bool) -> Plan {
    // Any packages will do: which ones are missing is the business of `packages`.
    let missing = packages::wanted(Purpose::Test, Toolchain::Linked).into_iter().take(missing).collect();
    Plan::new(missing, toolchain, linker, true, on_debian)
}

#[test]
fn nothing_missing_is_nothing_to_do() {
    for toolchain in [Toolchain::Nightly, Toolchain::Linked, Toolchain::NoRustup] {
        assert!(plan(0, toolchain, Linker::Version(0, 13, 0), true).steps.is_empty(), "{toolchain:?}");
    }
}

#[test]
fn packages_come_before_what_is_built_with_them() {
    let plan = plan(2, Toolchain::Unlinked, Linker::Absent, true);
    assert!(matches!(plan.steps[..], [Step::Packages(_), Step::LinkToolchain, Step::Linker(Linker::Absent)]));
    assert_eq!(plan.refusal(true), None);
    let script = plan.script(true);
    let lines: Vec<&str> = script.lines().map(str::trim).collect();
    assert_eq!(lines[0], "apt-get update");
    assert_eq!(lines[2], "rustup toolchain link debian /usr");
    assert!(lines[3].contains("cargo install"), "{script}");
}

#[test]
fn without_root_packages_are_refused_and_the_rest_is_not() {
    let with_packages = plan(1, Toolchain::Linked, Linker::Absent, true);
    assert_eq!(with_packages.refusal(false), Some("installing packages needs root"));
    let script = with_packages.script(false);
    assert!(script.contains("    sudo apt-get update\n"), "{script}");
    assert!(script.contains("    sudo DEBIAN_FRONTEND=noninteractive apt-get install"), "{script}");
    assert!(!script.contains("sudo LLVM_PREFIX"), "{script}");
    assert_eq!(plan(0, Toolchain::Unlinked, Linker::Absent, true).refusal(false), None);
}

#[test]
fn another_system_is_told_and_never_touched() {
    let plan = plan(2, Toolchain::Unlinked, Linker::Version(0, 10, 1), false);
    assert!(plan.refusal(true).is_some());
    assert!(plan.steps.iter().all(|step| !matches!(step, Step::Packages(_) | Step::LinkToolchain)));
    let script = plan.script(true);
    assert!(script.contains("rustup toolchain install nightly --component rust-src"), "{script}");
    assert!(script.contains("cargo binstall bpf-linker"), "{script}");
}

#[test]
fn beside_a_nightly_bpf_linker_is_left_to_the_operator() {
    let plan = plan(0, Toolchain::Nightly, Linker::Absent, true);
    assert_eq!(plan.steps, [Step::LinkerByHand(Linker::Absent)]);
    assert!(plan.refusal(true).is_some_and(|reason| reason.contains("LLVM")));
}

#[test]
fn every_step_says_why() {
    for on_debian in [true, false] {
        for step in plan(3, Toolchain::Unlinked, Linker::Broken("no LLVM".into()), on_debian).steps {
            let explained = step.explained();
            assert!(explained.lines().all(|line| line.len() > 30), "{explained}");
        }
    }
}

#[test]
fn the_bpffs_is_mounted_at_the_end_and_by_root_alone() {
    let plan = Plan::new(Vec::new(), Toolchain::Linked, Linker::Version(0, 13, 0), false, true);
    assert_eq!(plan.steps, [Step::Bpffs]);
    assert_eq!(plan.refusal(true), None);
    assert_eq!(plan.script(true), "    mount -t bpf bpf /sys/fs/bpf\n");
    assert_eq!(plan.refusal(false), Some("mounting the bpffs needs root"));
    assert_eq!(plan.script(false), "    sudo mount -t bpf bpf /sys/fs/bpf\n");
    assert!(plan.steps[0].explained().contains("/sys/fs/bpf"));
    // Elsewhere it is part of what is printed.
    let missing = packages::wanted(Purpose::Test, Toolchain::Linked);
    let plan = Plan::new(missing, Toolchain::Nightly, Linker::Version(0, 13, 0), false, false);
    assert!(plan.refusal(true).is_some_and(|reason| reason.contains("not Debian")));
    assert!(plan.script(true).ends_with("    mount -t bpf bpf /sys/fs/bpf\n"), "{}", plan.script(true));
}
