use super::*;

#[test]
fn versions_are_read_and_old_ones_refused() {
    assert_eq!(parse("bpf-linker 0.13.0\n"), Linker::Version(0, 13, 0));
    assert_eq!(parse("bpf-linker 1.2.3-dev\n"), Linker::Version(1, 2, 3));
    assert!(parse("bpf-linker 0.13.0").usable() && parse("bpf-linker 1.0.0").usable());
    assert!(!parse("bpf-linker 0.10.1").usable());
}

#[test]
fn garbage_is_broken_and_not_usable() {
    for said in ["", "bpf-linker", "bpf-linker x.y.z", "another 0.13.0"] {
        assert!(matches!(parse(said), Linker::Broken(_)), "{said:?}");
    }
    assert!(!Linker::Absent.usable() && !Linker::Broken(String::new()).usable());
}

#[test]
fn debian_builds_against_its_own_llvm() {
    let line = command::shown(&install());
    assert_eq!(
        line,
        "LLVM_PREFIX=/usr/lib/llvm-22 cargo install --locked --force bpf-linker@0.13.0 --no-default-features --features llvm-22"
    );
}
