use super::*;

#[test]
fn the_table_shows_time_and_fate_of_each_step() {
    let outcome = |name, millis, passed| Outcome { name, took: Duration::from_millis(millis), passed };
    let table = table(&[outcome("set-up", 140, true), outcome("tests", 61_260, false)]);
    let lines: Vec<&str> = table.trim().lines().collect();
    assert_eq!(
        lines,
        ["step           seconds  result", "set-up             0.1  ok", "tests             61.3  FAILED"]
    );
}

#[test]
fn the_set_up_is_no_step_and_steps_have_names_of_their_own() {
    let mut names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), STEPS.len());
    assert!(!names.contains(&"set-up"));
}

#[test]
fn steps_are_chosen_by_name_and_run_in_their_own_order() {
    let names = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(chosen(&[]).unwrap().len(), STEPS.len());
    let two: Vec<&str> = chosen(&names(&["btf", "format"])).unwrap().iter().map(|step| step.name).collect();
    assert_eq!(two, ["format", "btf"]);
    let error = chosen(&names(&["format", "deploy"])).err().unwrap().to_string();
    assert!(error.contains("deploy") && error.contains("clippy"), "{error}");
}
