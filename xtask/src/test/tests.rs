use super::*;

#[test]
fn a_chosen_package_replaces_the_workspace() {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    for line in
        ["-p colo-user", "-pcolo-user --lib", "--package=colo-tests", "--lib --package colo-user -- x"]
    {
        assert!(names_packages(&words(line)), "{line}");
    }
    for line in ["", "--lib", "some_test -- -p", "--test e2e"] {
        assert!(!names_packages(&words(line)), "{line}");
    }
}
