use super::*;
use crate::setup::programs::Origin;

const TABLE: &[Program] = &[
    Program { name: "ip", origin: Origin::Package("iproute2"), from: Purpose::Lab },
    Program { name: "env", origin: Origin::Package("coreutils"), from: Purpose::Lab },
    Program { name: "crm_mon", origin: Origin::Package("pacemaker-cli-utils"), from: Purpose::Test },
];

fn call(path: &str, name: &str) -> (PathBuf, Call) {
    (path.into(), Call { line: 7, named: Named::Program(name.to_owned()), in_script: false })
}

/// All that the table has is called, and this besides.
fn with(path: &str, name: &str) -> Vec<String> {
    let all = [
        call("tests/src/lab/x.rs", "ip"),
        call("tests/src/pair/vm.rs", "env"),
        call("tests/tests/pair_x.rs", "crm_mon"),
        call(path, name),
    ];
    problems(&all, TABLE, &[])
}

#[test]
fn a_program_that_is_not_in_the_table_is_refused() {
    let found = with("tests/tests/pair_x.rs", "stress-ng");
    assert!(
        matches!(&found[..], [one] if one.starts_with("tests/tests/pair_x.rs: line 7: stress-ng is not in"))
    );
    assert!(with("tests/tests/pair_x.rs", "ip").is_empty());
    assert!(with("tests/tests/pair_x.rs", "colo-lab").is_empty());
}

#[test]
fn a_program_that_is_called_sooner_than_its_package_is_there_is_refused() {
    let found = with("tests/src/lab/x.rs", "crm_mon");
    assert!(matches!(&found[..], [one] if one.contains("for Lab already")), "{found:?}");
    assert!(with("tests/src/pair/cluster.rs", "crm_mon").is_empty());
    assert!(with("tests/src/lab/x/tests.rs", "crm_mon").is_empty());
    let found = with("xtask/src/setup/linker.rs", "ip");
    assert!(matches!(&found[..], [one] if one.contains("for Build already")), "{found:?}");
}

#[test]
fn what_nobody_calls_any_more_leaves_the_tables() {
    let found = problems(&[call("tests/src/lab/x.rs", "ip")], &TABLE[..2], &[("a.rs", "x")]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("nobody calls env") && found[1].starts_with("a.rs calls no `x`"), "{found:?}");
}

#[test]
fn what_cannot_be_seen_is_refused_unless_it_is_said_elsewhere() {
    let unknown = [(
        PathBuf::from("tests/src/lab/x.rs"),
        Call { line: 1, named: Named::Unknown("name".to_owned()), in_script: false },
    )];
    assert!(problems(&unknown, &[], &[])[0].contains("cannot be seen"));
    assert!(problems(&unknown, &[], &[("tests/src/lab/x.rs", "name")]).is_empty());
}

#[test]
fn what_runs_another_program_does_so_where_that_is_known() {
    let found = with("tests/tests/pair_x.rs", "env");
    assert!(matches!(&found[..], [one] if one.contains("runs another program")), "{found:?}");
    let (path, hook) = call("tests/tests/pair_x.rs", "env");
    let all = [call("tests/src/lab/x.rs", "ip"), (path, Call { in_script: true, ..hook })];
    assert!(problems(&all, &TABLE[..2], &[]).is_empty());
}

#[test]
fn scripts_are_read_by_their_first_line() {
    let names = |text: &str| -> Vec<String> {
        let name = |call: Call| match call.named {
            Named::Program(name) | Named::Unknown(name) => name,
        };
        script(text).into_iter().map(name).collect()
    };
    assert_eq!(names("#!/bin/bash\nset -e\nexec cargo xtask ci\n"), ["bash", "cargo"]);
    assert_eq!(names("#!/bin/sh\nocf_log info x\ncheck_binary y\nawk z\n"), ["sh", "awk"]);
    let text = "#!/usr/bin/env python3\ndef serve():\n  run([\"curl\", \"-s\"])\n  f([\"serve\"])\n  inside(name, \"tcpdump\", 1)\n";
    assert_eq!(names(text), ["env", "python3", "curl", "tcpdump"]);
}

#[test]
fn the_sources_are_as_the_table_says() {
    assert_eq!(check(&super::super::source::all().unwrap()).unwrap(), [""; 0]);
}
