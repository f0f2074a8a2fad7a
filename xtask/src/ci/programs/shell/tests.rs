use super::*;

fn of(script: &str) -> Vec<String> {
    let mut found = programs(script);
    found.sort();
    found
}

#[test]
fn words_in_command_position_are_programs() {
    assert_eq!(
        of("mount -t tmpfs tmpfs /run; ln -s a b && cp c d | grep e || sed f & tail g\nhead\n"),
        ["cp", "grep", "head", "ln", "mount", "sed", "tail"]
    );
    assert_eq!(of("LC_ALL=C A='b c' sort x # uniq y\n# wc\n"), ["sort"]);
    assert_eq!(
        of("if ! grep x y; then rm z; elif cmp a b; then :; else ls; fi"),
        ["cmp", "grep", "ls", "rm"]
    );
    assert_eq!(
        of("for a in mount b; do stat $a; done; until look; do sleep 1; done"),
        ["look", "sleep", "stat"]
    );
    assert_eq!(of("echo mount; test -e /x; cd /; kill 1"), [""; 0]);
}

#[test]
fn quotes_redirections_and_documents_are_no_commands() {
    assert_eq!(of("awk '$1 == \"mount\" { print; rm }' <in >out 2>&1 && tac"), ["awk", "tac"]);
    assert_eq!(of("cat <<END >out\nmount\n$(rm x)\nEND\nls\n"), ["cat", "ls"]);
    assert_eq!(of("cat <<-'END'\nmount\n\tEND\nls"), ["cat", "ls"]);
    assert_eq!(of("echo \"mount; rm\" \\; ln 2>/dev/null >>x"), [""; 0]);
    assert_eq!(of("sort \\\n  -u; \"/bin/ip\" link"), ["/bin/ip", "sort"]);
}

#[test]
fn substitutions_call_too() {
    assert_eq!(of("a=$(uname -n | tr a b)"), ["tr", "uname"]);
    assert_eq!(of("echo \"$(tail -n 1 \"$log\") `head x`\" $((1 + 2))"), ["head", "tail"]);
    assert_eq!(of("if [ \"$(cat $(readlink x))\" ]; then id; fi"), ["cat", "id", "readlink"]);
}

#[test]
fn functions_and_patterns_are_no_programs() {
    let script = "look() {\n\tgrep x\n}\ncase \"$1\" in\na | \"b c\") look ;;\n*:mount)\n\trm x\n\t;;\n*) cp ;;\nesac\nls";
    assert_eq!(of(script), ["cp", "grep", "ls", "rm"]);
    assert_eq!(of("case $x in\na) case $y in b) id ;; esac ;;\nc) tr ;;\nesac; wc"), ["id", "tr", "wc"]);
}

#[test]
fn what_runs_another_program_is_followed() {
    assert_eq!(of("exec pacemakerd"), ["pacemakerd"]);
    assert_eq!(
        of("timeout -k 1 5 etcd --x; env -i A=b setsid stat"),
        ["env", "etcd", "setsid", "stat", "timeout"]
    );
    assert_eq!(of("setsid \"${BINARY}\" run"), ["${BINARY}", "setsid"]);
    assert_eq!(of("exec >log"), [""; 0]);
}

#[test]
fn what_is_cut_off_does_no_harm() {
    for script in [
        "'open",
        "\"open",
        "$(open",
        "${open",
        "`open",
        "case x in",
        "case x",
        "cat <<END",
        "a >",
        "\\",
        "f(",
    ] {
        let _ = programs(script);
    }
}
