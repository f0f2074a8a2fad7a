use super::*;

#[test]
fn a_subcommand_is_for_the_agent_and_flags_are_for_the_lab() {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert!(is_agent(&words("primary --guest tap0")));
    assert!(is_agent(&words("status")));
    assert!(!is_agent(&words("--replicas namespaces")));
    assert!(!is_agent(&words("")));
}
