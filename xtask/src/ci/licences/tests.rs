use super::*;

#[test]
fn permissive_expressions_are_allowed() {
    for expression in [
        "MIT",
        "MIT OR Apache-2.0",
        "MIT/Apache-2.0",
        "Unlicense OR MIT",
        "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
        "MIT OR GPL-2.0-only",
        "MIT OR MPL-2.0 AND GPL-3.0-only",
    ] {
        assert!(is_allowed(expression), "{expression}");
    }
}

#[test]
fn copyleft_unknown_and_malformed_ones_are_refused() {
    for expression in [
        "MPL-2.0",
        "EUPL-1.2",
        "GPL-2.0-only WITH Linux-syscall-note",
        "MIT AND LGPL-2.1-only",
        "(MIT OR Apache-2.0) AND GPL-3.0-only",
        "Proprietary",
        "",
        "OR",
        "MIT OR",
        "MIT Apache-2.0",
        "(MIT",
        "MIT)",
        "MIT WITH",
    ] {
        assert!(!is_allowed(expression), "{expression}");
    }
}

#[test]
fn a_refusal_names_package_version_and_licence() {
    let package = |license: Option<&str>| Package {
        name: "ring-rings".into(),
        version: "0.1.2".into(),
        license: license.map(Into::into),
    };
    let said = refusal(&package(Some("EUPL-1.2"))).unwrap();
    assert!(said.contains("ring-rings 0.1.2") && said.contains("EUPL-1.2"), "{said}");
    assert!(refusal(&package(None)).unwrap().contains("no licence"));
    assert_eq!(refusal(&package(Some("MIT"))), None);
}
