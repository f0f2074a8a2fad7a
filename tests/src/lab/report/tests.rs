use super::*;

#[test]
fn a_verdict_is_good_only_if_all_of_it_is() {
    let mut verdict = Verdict::default();
    assert!(verdict.expect(true, "one"));
    assert!(verdict.is_good());
    assert!(!verdict.expect(false, "two"));
    assert!(!verdict.is_good());
    assert_eq!(verdict.text(), "  ok     one\n  FAILED two\n");
}

#[test]
fn the_table_says_each_failure() {
    let outcome =
        Outcome { name: "upload", failed: 1, failures: vec!["upload: why".into()], ..Outcome::default() };
    let text = table(&[outcome], Duration::from_secs(1));
    assert_eq!(text.lines().count(), 3);
    assert!(text.ends_with("  ! upload: why\n"), "{text}");
}
