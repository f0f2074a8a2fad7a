use super::*;

/// What a file at `path` calls.
fn at(path: &str, text: &str) -> Vec<String> {
    let calls = calls(&Source::new(path, text));
    let name = |call: Call| match call.named {
        Named::Program(name) => name,
        Named::Unknown(expression) => format!("?{expression}"),
    };
    let mut found: Vec<String> = calls.into_iter().map(name).collect();
    found.sort();
    found
}

fn of(text: &str) -> Vec<String> {
    at("tests/tests/pair_x.rs", text)
}

#[test]
fn what_starts_a_process_names_it() {
    assert_eq!(of("Command::new(\"tcpdump\").arg(\"-i\")"), ["tcpdump"]);
    assert_eq!(of("std::process::Command::new(\n    \"/bin/ip\",\n)"), ["ip"]);
    assert_eq!(of("// Command::new(\"a\")\nlet s = \"Command::new(b)\";"), [""; 0]);
    assert_eq!(of("MyCommand::new(\"a\"); Command::new(\"query-status\", Value::Null)"), [""; 0]);
    assert_eq!(of("const QEMU: &str = \"qemu\";\nCommand::new(QEMU)"), ["qemu"]);
    assert_eq!(
        at("xtask/src/x.rs", "command::program(\"rustup\"); find_program(\"dpkg\")"),
        ["dpkg", "rustup"]
    );
    assert_eq!(at("colo-user/src/x.rs", "fn program(name: &str) { program(\"x\") }"), [""; 0]);
}

#[test]
fn a_name_that_cannot_be_seen_is_reported() {
    assert_eq!(of("Command::new(name)"), ["?name"]);
    assert_eq!(of("Command::new(&line[0]).args(&line[1..])"), ["?&line[0]"]);
    assert_eq!(of("host.run(&line(1, 2))"), ["?&line(1, 2)"]);
    assert_eq!(of("host.run(&format!(\"{program} up\"))"), ["?{program}"]);
    assert_eq!(of("cluster.run(side, &words)"), ["?&words"]);
}

#[test]
fn programs_of_the_workspace_are_known_by_where_they_are_from() {
    for own in
        ["&programs.colo", "&self.lab", "colo", "colo.to_str().unwrap()", "env!(\"CARGO_BIN_EXE_colo\")"]
    {
        assert_eq!(of(&format!("Command::new({own})")), [""; 0], "{own}");
    }
    assert_eq!(of("Command::new(protocol)"), ["?protocol"]);
    assert_eq!(at("xtask/src/x.rs", "Command::new(program(\"colo\", false))"), ["colo"]);
}

#[test]
fn command_lines_of_namespaces_and_nodes_are_read() {
    assert_eq!(
        of("host.run(\"ip link set a up\"); host.run(&format!(\"ethtool -K {i} tx off\"))"),
        ["ethtool", "ip"]
    );
    assert_eq!(of("for line in [\"ip a\", \"sysctl b\"] { hub.run(line)?; }"), ["ip", "sysctl"]);
    assert_eq!(of("let route = format!(\"ip route {x}\");\nnetns.run(&route)"), ["ip"]);
    assert_eq!(
        of("node.run(side, &[\"crm_mon\", \"-1\"]); node.run(side, &[&colo, \"status\"])"),
        ["crm_mon"]
    );
    assert_eq!(of("host.command(\"timeout\").arg(\"5\"); thread.run(); case.run(a, b, c)"), ["timeout"]);
    let start = |program: &str| format!("Tethered::start(&programs, &host, {program}, &words, &log, false)");
    assert_eq!(of(&start("Path::new(\"env\")")), ["env"]);
    assert_eq!(of(&start("\"etcd\".as_ref()")), ["etcd"]);
    assert_eq!(of(&start("program")), ["?program"]);
    assert_eq!(of(&format!("let qemu = Path::new(\"qemu-x\");\n{}", start("qemu"))), ["qemu-x"]);
    // Elsewhere than in the tests these are other functions.
    assert_eq!(at("colo-user/src/x.rs", "session.run(\"ip\"); session.command(\"x\")"), [""; 0]);
}

#[test]
fn scripts_are_read_as_a_shell_does() {
    assert_eq!(of("sh.args([\"-c\", \"mount x; rm y\"])"), ["mount", "rm"]);
    assert_eq!(
        of("const NODE: &str = r#\"\nset -e\nhostname \"$1\"\n\"#;\n[\"sh\", \"-c\", NODE, name]"),
        ["hostname"]
    );
    assert_eq!(of("sh.args([\"-c\", command])"), ["?command"]);
    assert_eq!(of("format!(\"exec:echo x >> {}; touch y\", a)"), ["touch"]);
    assert_eq!(of("[\"--fence\", \"sleep 4\"]; \"exec:COMMAND\""), ["sleep"]);
    assert_eq!(at("colo-user/src/a/tests.rs", "let command = format!(\"touch {}\", x);"), ["touch"]);
    assert_eq!(at("colo-user/src/judge/exec/tests.rs", "ask(\"true && id\"); ask(all)"), ["id"]);
    // Options that are read, and not carried out.
    assert_eq!(at("colo-user/src/cli/tests.rs", "parse(\"exec:virsh x\")"), [""; 0]);
}
