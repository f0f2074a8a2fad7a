use super::*;

#[test]
fn backends_are_read_from_their_option() {
    assert_eq!("log".parse(), Ok(BackendSpec::Log));
    assert_eq!("exec:virsh x 'a:b'".parse(), Ok(BackendSpec::Exec("virsh x 'a:b'".into())));
    let Ok(BackendSpec::Notify(endpoint)) = "notify:unix:/run/n,server=on".parse() else {
        panic!("must parse")
    };
    assert!(endpoint.server);
    let moved = "qmp:unix:/run/q".parse::<BackendSpec>().unwrap_err();
    assert!(moved.contains("--qmp"), "{moved}");
    for wrong in ["", "logs", "exec:", "exec: ", "notify:", "notify:/run/n", "qmp:"] {
        assert!(wrong.parse::<BackendSpec>().is_err(), "{wrong:?}");
    }
}

#[tokio::test]
async fn what_each_backend_did_is_counted_under_its_name() {
    let signals = Signals::start(vec![BackendSpec::Log], &(Arc::new(|| {}) as OnCheckpoint)).unwrap();
    let request =
        Request { kind: "pressure", text: "few frames left".into(), epoch: Epoch(2), divergence: None };
    signals.ask(&request);
    for _ in 0..1000 {
        if signals.counters().get("checkpoint_log_logged") == Some(&1) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(signals.counters()["checkpoint_log_logged"], 1);
    // The backend pauses now: these two wait as one, and are settled before it looks again.
    signals.ask(&request);
    signals.ask(&request);
    signals.settle(Epoch(3));
    let counters = signals.counters();
    assert_eq!((counters["checkpoint_log_coalesced"], counters["checkpoint_log_settled"]), (1, 1));
}
