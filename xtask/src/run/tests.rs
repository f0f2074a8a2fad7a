use super::*;

#[test]
fn a_subcommand_is_for_the_agent_and_flags_are_for_the_lab() {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert!(is_agent(&words("primary --guest tap0")));
    assert!(is_agent(&words("status")));
    assert!(!is_agent(&words("--replicas namespaces")));
    assert!(!is_agent(&words("")));
}

#[test]
fn only_the_lab_of_vms_needs_qemu() {
    let purpose = |line: &str| purpose(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(purpose(""), Purpose::Compare);
    assert_eq!(purpose("--seconds 3"), Purpose::Compare);
    assert_eq!(purpose("--replicas namespaces"), Purpose::Lab);
    assert_eq!(purpose("--replicas=namespaces"), Purpose::Lab);
    assert_eq!(purpose("primary --guest tap0"), Purpose::Lab);
}
