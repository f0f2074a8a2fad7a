use super::*;
use crate::judge::Claimant;
use serde_json::json;

#[test]
fn keys_are_read_from_what_the_gateway_says() {
    let claimant = Claimant([0xab; 16]);
    let value = BASE64_STANDARD.encode(format!("{claimant} primary"));
    let pair = json!({ "key": "eA==", "value": value, "mod_revision": "12", "lease": "7587848390000000001" });
    let answer = json!({ "responses": [
        { "response_range": { "kvs": [pair], "count": "1" } },
        { "response_range": { "header": {} } },
    ] });
    let role = Kept { revision: 12, lease: 7_587_848_390_000_000_001, claimant };
    assert_eq!(seen_in(&answer), Ok(Seen { role: Some(role), epoch: None, claim: None }));
    assert_eq!(seen_in(&json!({})), Ok(Seen::default()));
    let foreign =
        json!({ "responses": [{ "response_range": { "kvs": [{ "mod_revision": "3", "value": "eA==" }] } }] });
    assert!(seen_in(&foreign).unwrap_err().contains("no key of colo's"));
}

#[test]
fn two_answers_are_of_one_leader_only_if_both_say_so() {
    let answer = |term: &str| json!({ "header": { "member_id": "7", "raft_term": term } });
    assert!(is_same_leader(&answer("5"), &answer("5")));
    assert!(!is_same_leader(&answer("5"), &answer("6")));
    assert!(!is_same_leader(&json!({}), &json!({})));
}

#[test]
fn numbers_come_as_strings_and_zero_is_left_out() {
    assert_eq!(number(&json!("-5")), Some(-5));
    assert_eq!(number(&json!(5)), Some(5));
    assert_eq!(number(&json!("x")), None);
    assert_eq!(seconds(&json!("5")), Some(Duration::from_secs(5)));
    for none in [json!("0"), json!("-1"), Value::Null] {
        assert_eq!(seconds(&none), None);
    }
}
