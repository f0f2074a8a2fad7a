use super::*;

#[test]
fn an_answer_says_what_it_rests_on_and_what_else_to_do() {
    let answer = json!({
        "verb": "test-failover", "outcome": "failed", "text": "the service stands still", "standing": "protected",
        "reason": "in sync", "checks": [{"name": "judge", "ok": false, "text": "/nowhere: gone"},
        {"name": "disk", "ok": null, "text": "nobody knows"}],
    });
    assert_eq!(
        lines(&answer),
        "test-failover failed: the service stands still\n  judge    not ok     /nowhere: gone\n  \
         disk     not known  nobody knows\n  this side: protected (in sync)\n"
    );
    let refused =
        json!({ "verb": "pause", "outcome": "refused", "text": "why", "way_out": "wait", "refusal": "busy" });
    assert_eq!(lines(&refused), "pause refused: why\n  instead: wait\n");
}
