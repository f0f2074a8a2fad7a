use super::*;

fn row(better: Better, ours: &[f64], peer: &[f64]) -> Row {
    let case = "case".to_owned();
    Row { group: "group", case, quantity: "unit", better, ours: ours.to_vec(), peer: peer.to_vec() }
}

#[test]
fn medians_and_ratios_are_of_the_middle_round() {
    assert_eq!(median(&[3.0, 100.0, 1.0]), Some(3.0));
    assert_eq!(median(&[]), None);
    assert_eq!(row(Better::Higher, &[8.0, 1.0, 9.0], &[4.0]).ratio(), Some(2.0));
    assert_eq!(row(Better::Lower, &[2.0], &[4.0]).ratio(), Some(2.0));
    assert_eq!(row(Better::Lower, &[2.0], &[]).ratio(), None);
}

#[test]
fn both_forms_show_every_row() {
    let report =
        Report { about: vec![("peer", "it".to_owned())], rows: vec![row(Better::Lower, &[2.0], &[5.0])] };
    let text = report.to_string();
    assert!(text.contains("peer: it") && text.contains("case") && text.contains("2.50x"), "{text}");
    assert_eq!(report.json()["rows"][0]["ratio"], 2.5);
    assert_eq!(report.json()["about"]["peer"], "it");
}
