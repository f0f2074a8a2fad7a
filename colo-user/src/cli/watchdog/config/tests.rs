use super::*;

const WHOLE: &str = r#"
    [[watchdog]]
    name = "vm1"
    server = true
    awd_node = "tcp:0.0.0.0:9009,server=on"
    notification_node = "unix:/run/vm1.monitor"
    opt_script = "/etc/lost"
    pulse_interval = 200
    timeout = 700
    debounce = 1
    on_timeout = "exec:logger lost"

    [[watchdog]]
    name = "vm2"
    awd_node = "unix:/run/vm2.awd"
    on_timeout = "exec:true"
"#;

#[test]
fn a_file_has_the_originals_names() {
    let specs = parse(WHOLE).unwrap();
    assert_eq!(specs.len(), 2);
    assert_eq!(
        specs[0],
        Spec {
            name: "vm1".into(),
            server: true,
            awd_node: "tcp:0.0.0.0:9009,server=on".parse().unwrap(),
            notification_node: Some("unix:/run/vm1.monitor".parse().unwrap()),
            opt_script: Some("/etc/lost".into()),
            pulse_interval: NonZeroU32::new(200).unwrap(),
            timeout: NonZeroU32::new(700).unwrap(),
            debounce: 1,
            on_timeout: Some(OnTimeout::Exec(Exec("logger lost".into()))),
            qmp_script: None,
        }
    );
    assert_eq!((specs[1].pulse_interval, specs[1].timeout), (PULSE_INTERVAL, TIMEOUT));
    assert!(!specs[1].server && specs[1].debounce == 0);
}

#[test]
fn what_cannot_be_meant_is_refused_by_name() {
    for (from, to, said) in [
        ("timeout = 700", "timeout = 0", "`0` is no whole number of milliseconds from 1 to 4294967295"),
        ("timeout = 700", "timeout = -700", "`-700` is no whole number"),
        ("timeout = 700", "timeout = \"700\"", "`string` is no whole number"),
        ("pulse_interval = 200", "pulse_interval = 4294967296", "`4294967296` is no whole number"),
        (
            "unix:/run/vm1.monitor",
            "tcp:0.0.0.0:9009,server=on",
            "watchdog `vm1`: tcp:0.0.0.0:9009,server=on is listened on twice",
        ),
        (
            "unix:/run/vm2.awd",
            "tcp:0.0.0.0:9009,server=on",
            "watchdog `vm2`: tcp:0.0.0.0:9009,server=on is listened on twice",
        ),
        ("\"vm2\"", "\" \"", "name is empty"),
        ("timeout = 700", "time_out = 7", "time_out"),
        ("\"vm2\"", "\"vm1\"", "two watchdogs are named `vm1`"),
        ("opt_script = \"/etc/lost\"", "", "go together"),
        ("on_timeout = \"exec:true\"", "", "watchdog `vm2`: nothing is done"),
        ("exec:true", "exec: ", "not exec:COMMAND"),
        (
            "exec:true\"",
            "qmp:unix:/run/vm2.qmp\"",
            "watchdog `vm2`: on_timeout = qmp:ENDPOINT and qmp_script",
        ),
        ("exec:true\"", "exec:true\"\nqmp_script = \"/etc/commands\"", "go together"),
        ("exec:true", "qmp:unix:/run/vm2.qmp,server=on", "QEMU is the one that listens"),
        ("unix:/run/vm2.awd", "pipe:/run/vm2", "pipe:/run/vm2"),
    ] {
        let text = WHOLE.replacen(from, to, 1);
        assert_ne!(text, WHOLE);
        let error = format!("{:#}", parse(&text).unwrap_err());
        assert!(error.contains(said), "{to}: {error}");
    }
    assert!(parse("").is_err());
}

#[test]
fn a_script_says_something_of_bounded_length() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(script(file.path()).unwrap_err().to_string().contains("is empty"));
    std::fs::write(file.path(), "x_colo_lost_heartbeat\n").unwrap();
    assert_eq!(script(file.path()).unwrap(), "x_colo_lost_heartbeat\n");
    assert!(script(Path::new("/dev/zero")).unwrap_err().to_string().contains("longer"));
}
