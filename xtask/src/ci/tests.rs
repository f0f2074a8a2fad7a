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
