use super::*;

const README: &str = "\
# colo

Run `cargo xtask nonsense` in prose.

```sh
cargo xtask run            # the lab
$ cargo xtask test
sudo colo primary --guest tap0 \\
    --uplink eth0
ls -l
```

```rust
cargo xtask not-a-shell-block
```

```
target/release/colo status --json
```
";

fn say(line: &str) -> Option<String> {
    let mut help = |subcommand: &str| {
        Ok(matches!(subcommand, "" | "primary" | "status")
            .then(|| "Usage:\n  --guest <IF>\n  --guest-mac <MAC>\n  --json\n".to_owned()))
    };
    problem(line, &mut help).unwrap()
}

#[test]
fn our_commands_are_found_in_shell_blocks_only() {
    assert_eq!(
        commands(README),
        [
            "cargo xtask run",
            "cargo xtask test",
            "colo primary --guest tap0 --uplink eth0",
            "target/release/colo status --json"
        ]
    );
}

#[test]
fn what_exists_is_no_problem() {
    for line in [
        "cargo xtask build --release",
        "cargo xtask run -- --replicas namespaces",
        "cargo xtask run -- primary --guest=tap0",
        "colo primary --guest tap0 --guest-mac 02:00:00:00:00:01",
        "colo --json",
        "target/release/colo status [--json]",
    ] {
        assert_eq!(say(line), None, "{line}");
    }
}

#[test]
fn what_does_not_exist_is_named() {
    for (line, named) in [
        ("cargo xtask deploy", "task deploy"),
        ("colo tertiary", "subcommand tertiary"),
        ("colo primary --guests tap0", "--guests"),
        ("colo primary --gue tap0", "--gue"),
        ("cargo xtask run -- primary --no-such=1", "--no-such"),
    ] {
        let said = say(line).unwrap_or_default();
        assert!(said.contains(named), "{line}: {said}");
    }
}
