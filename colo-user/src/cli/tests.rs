use super::*;
use anyhow::Context as _;

#[test]
fn no_cause_is_said_twice() {
    #[derive(Debug, Error)]
    #[error("cannot listen: {source}")]
    struct Inner {
        source: std::io::Error,
    }
    let source = std::io::Error::other("no such place");
    let error = Err::<(), _>(Inner { source }).context("watchdog `a`").unwrap_err();
    assert_eq!(said(&error), "watchdog `a`: cannot listen: no such place");
    assert_eq!(said(&anyhow::anyhow!("one").context("two")), "two: one");
}

#[test]
fn options_that_do_not_fit_together_are_told_from_a_failure() {
    assert!(fit(true, String::new).is_ok());
    let error = anyhow::Error::from(fit(false, || "a with b".to_owned()).unwrap_err());
    assert!(error.is::<Misuse>() && said(&error) == "a with b");
}
