use std::time::{Duration, Instant};

use super::{
    super::Better,
    case::{Case, Value},
    checkpoints::{Count, count},
    side::Side,
    stock,
    table::Table,
};
use crate::pair::journal::Pause;

fn measured() -> Table {
    let sides = vec![Side::Ceiling, Side::Stock, Side::Colo];
    let mut table = Table::new(vec![("kernel", "a kernel".to_owned())], sides);
    let rounds = [
        (Side::Ceiling, [400.0, 100.0, 0.0]),
        (Side::Stock, [100.0, 400.0, 0.0]),
        (Side::Colo, [200.0, 250.0, 0.0]),
        (Side::Colo, [300.0, 200.0, 0.0]),
        (Side::Colo, [1000.0, 1.0, 1.0]),
        (Side::Plain, [9.0, 9.0, 9.0]),
    ];
    for (side, [rate, latency, failed]) in rounds {
        let value = |quantity, better, value| Value { quantity, better, value };
        let values = [
            value("transactions/s", Better::Higher, rate),
            value("p50 us", Better::Lower, latency),
            value("failed", Better::Lower, failed),
        ];
        table.add(side, Case::Byte, &values);
    }
    table
}

#[test]
fn ratios_are_of_medians_and_more_is_better() {
    let json = measured().json();
    let rate = &json["rows"][0];
    assert_eq!(rate["median"]["colo"], 300.0);
    assert_eq!(rate["rounds"]["colo"], serde_json::json!([200.0, 300.0, 1000.0]));
    assert_eq!(rate["ratios"]["stock/ceiling"], 0.25);
    assert_eq!(rate["ratios"]["colo/ceiling"], 0.75);
    assert_eq!(rate["ratios"]["colo/stock"], 3.0);
    let latency = &json["rows"][1];
    assert_eq!((latency["quantity"].as_str(), latency["better"].as_str()), (Some("p50 us"), Some("lower")));
    assert_eq!(latency["ratios"]["stock/ceiling"], 0.25);
    assert_eq!(latency["ratios"]["colo/stock"], 2.0);
    let failed = &json["rows"][2];
    assert!(failed["ratios"]["colo/stock"].is_null(), "none of nothing");
    assert_eq!(json["rows"].as_array().unwrap().len(), 3);
}

#[test]
fn the_text_shows_a_side_for_each_column_and_failures_where_there_are_any() {
    let mut table = measured();
    let text = table.to_string();
    for shown in ["kernel: a kernel", "request/response, 1 B", "colo/stock", "3.00", "failed", "267 %"] {
        assert!(text.contains(shown), "no {shown:?} in\n{text}");
    }
    for row in &mut table.rows {
        row.rounds[2].truncate(2);
    }
    assert!(!table.to_string().contains("failed"));
}

#[test]
fn rows_of_a_case_stay_together() {
    let mut table = measured();
    let value = |quantity| Value { quantity, better: Better::Lower, value: 1.0 };
    table.add(Side::Colo, Case::Http, &[value("p50 us")]);
    table.add(Side::Colo, Case::Byte, &[value("checkpoints")]);
    let order: Vec<_> = table.rows.iter().map(|row| (row.case, row.quantity)).collect();
    assert_eq!(order[3..], [(Case::Byte, "checkpoints"), (Case::Http, "p50 us")]);
}

#[test]
fn a_checkpoint_that_comes_before_its_time_was_asked_for() {
    let entered = Instant::now();
    let at = |seconds: f64| entered + Duration::from_secs_f64(seconds);
    let pauses = [19.9, 23.0, 43.1, 44.0].map(|s| Pause { heard: at(s), length: Duration::from_millis(5) });
    let count = |from, to| count(entered, Duration::from_secs(20), &pauses, (at(from), at(to)));
    assert_eq!(count(0.0, 60.0), Count { asked: 2, periodic: 2 });
    assert_eq!(count(20.0, 30.0), Count { asked: 1, periodic: 0 });
    assert_eq!(count(40.0, 43.5), Count { asked: 0, periodic: 1 });
    assert_eq!(count(45.0, 60.0), Count::default());
}

#[test]
fn the_header_between_the_parts_of_the_proxy_goes_with_the_offloads() {
    for offloads in [false, true] {
        let setup = stock::setup(offloads);
        for extras in [&setup.primary, &setup.secondary] {
            let objects = extras
                .arguments
                .iter()
                .filter(|word| word.starts_with("filter-") || word.starts_with("colo-compare"));
            let with: Vec<bool> = objects.map(|object| object.ends_with(",vnet_hdr_support=on")).collect();
            assert!(with.len() >= 3 && with.iter().all(|&with| with == offloads), "{extras:?}");
            assert_eq!(extras.offloads, offloads);
        }
    }
}
