use super::*;

fn setting(name: &str) -> Setting {
    Setting::named(Some(name)).unwrap()[0]
}

#[test]
fn settings_are_found_by_name_and_say_what_is_set() {
    assert_eq!(Setting::named(None).unwrap().len(), SETTINGS.len());
    assert!(Setting::named(Some("nobody")).unwrap_err().to_string().contains("etcd-3-short"));
    let set = |name| setting(name).set().as_millis();
    assert_eq!((set("lock"), set("lock-short"), set("etcd-1"), set("etcd-3-short")), (2500, 350, 5000, 2000));
    assert!(setting("lock-short").words().contains("--peer-timeout 100 and 250 more"));
    assert!(setting("etcd-3").options().both.contains(&"2000".to_owned()));
}

#[test]
fn a_run_that_failed_counts_and_its_times_do_not() {
    let mut row = Row::new(setting("lock"));
    for (seed, after) in [(1, 2600), (2, 2900), (3, 2700)] {
        let time = Some(Duration::from_millis(after));
        row.add(seed, Outcome { spoke: time, answered: time, went_on: time, ..Outcome::default() });
    }
    let wrong = vec!["reset".to_owned()];
    let time = Some(Duration::from_secs(60));
    row.add(4, Outcome { wrong, answered: time, broken: 2, lost: 7, ..Outcome::default() });
    let json = row.json();
    assert_eq!((&json["answered_ms"]["median"], &json["answered_ms"]["worst"]), (&json!(2700), &json!(2900)));
    assert_eq!(
        (&json["failed"][0]["seed"], &json["bytes_lost"], &json["set_ms"]),
        (&json!(4), &json!(7), &json!(2500))
    );
    let text = row.text();
    let columns: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(columns[..8], ["lock", "2500", "4", "3", "2700", "2900", "2700", "2900"]);
    assert_eq!(head().len(), text.len());
}
