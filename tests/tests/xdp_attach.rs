//! What is refused at the start, by name and with a way out, and what is fallen back from.

use anyhow::{Result, ensure};
use colo_tests::ends::{End, Ends, GUEST, Joint, UPLINK, capture, numbered};
use colo_tests::stranger;
use colo_user::datapath::{AttachMode, Config, Datapath, HoldBackend, Role};

fn primary(ends: &Ends) -> Config {
    ends.config(Role::Primary, AttachMode::Auto, HoldBackend::Auto)
}

/// The error that attaching ends in.
fn refusal(ends: &Ends, config: &Config) -> String {
    match ends.host.enter(|| Datapath::attach(config)) {
        Ok(_) => panic!("{config:?} was attached"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_second_agent_is_refused_by_name_and_the_first_goes_on() -> Result<()> {
    let ends = Ends::new(Joint::Tap, Joint::Veth)?;
    let mut first = ends.attach(&primary(&ends))?;
    let error = refusal(&ends, &primary(&ends));
    ensure!(
        error.contains(GUEST) && error.contains("another colo") && error.contains("colo_guest"),
        "{error}"
    );
    ends.guest.say(&numbered(1, 100))?;
    capture(&mut first, 1)?;
    drop(first);
    ends.attach(&primary(&ends))?;
    Ok(())
}

#[test]
fn a_foreign_program_is_refused_by_name_and_left_alone() -> Result<()> {
    for (interface, flags, mode, word) in
        [(GUEST, stranger::GENERIC, "xdpgeneric", "skb"), (UPLINK, stranger::NATIVE, "xdpdrv", "native")]
    {
        let ends = Ends::new(Joint::Tap, Joint::Veth)?;
        let _link = stranger::attach(&ends.host, interface, flags)?;
        let before = ends.host.run(&format!("ip -o link show {interface}"))?;
        let error = refusal(&ends, &primary(&ends));
        let named = ["already runs XDP program", "stranger", interface, word, &format!("{mode} off")];
        ensure!(named.iter().all(|part| error.contains(part)), "{error}");
        ensure!(ends.host.run(&format!("ip -o link show {interface}"))? == before, "it was touched");
    }
    Ok(())
}

#[test]
fn impossible_interfaces_are_refused_with_a_way_out() -> Result<()> {
    let ends = Ends::new(Joint::Tap, Joint::Veth)?;
    let config = primary(&ends);
    let error = refusal(&ends, &Config { guest: "nowhere".to_owned(), ..config.clone() });
    ensure!(error.contains("nowhere") && error.contains("ip link show"), "{error}");
    let error = refusal(&ends, &Config { uplink: "a-name-that-is-too-long".to_owned(), ..config.clone() });
    ensure!(error.contains("1 to 15 bytes"), "{error}");
    let error = refusal(&ends, &Config { uplink: GUEST.to_owned(), ..config.clone() });
    ensure!(error.contains("two interfaces"), "{error}");
    for frames in [0, 255, (1 << 20) + 1] {
        let error = refusal(&ends, &Config { frames, ..config.clone() });
        ensure!(error.contains(&frames.to_string()) && error.contains("256 to 1048576"), "{error}");
    }
    ends.host.run(&format!("ip link set {UPLINK} down"))?;
    let error = refusal(&ends, &config);
    ensure!(error.contains(&format!("ip link set {UPLINK} up")), "{error}");
    Ok(())
}

#[test]
fn several_queues_are_refused_with_the_option_to_set() -> Result<()> {
    let ends = Ends::new(Joint::Tap, Joint::Veth)?;
    ends.host.run(
        "ip link add many0 numrxqueues 2 numtxqueues 2 type veth peer name many1 numrxqueues 2 numtxqueues 2",
    )?;
    ends.host.run("ip link set many0 up")?;
    ends.host.run("ip link set many1 up")?;
    ends.host.run("ethtool -L many0 rx 2 tx 2")?;
    let config = Config { uplink: "many0".to_owned(), ..primary(&ends) };
    let error = refusal(&ends, &config);
    ensure!(error.contains("2 receive queues") && error.contains("`ethtool -L many0 rx 1`"), "{error}");
    ends.host.run("ethtool -L many0 rx 1")?;
    ends.attach(&config)?;
    Ok(())
}

#[test]
fn auto_falls_back_where_the_driver_refuses_and_native_says_why() -> Result<()> {
    let ends = Ends::new(Joint::Tap, Joint::Veth)?;
    // A veth takes no native program without fragments when its peer sends frames of more than a page.
    let End::Veth(_, far) = &ends.client else { anyhow::bail!("the client is on a veth") };
    far.run("ip link set far0 mtu 9000")?;
    let native = Config { attach: AttachMode::Native, ..primary(&ends) };
    let error = refusal(&ends, &native);
    ensure!(error.contains(UPLINK) && error.contains("native") && error.contains("MTU"), "{error}");
    let mut datapath = ends.attach(&primary(&ends))?;
    ensure!((datapath.attached().guest, datapath.attached().uplink) == ("native", "skb"));
    ends.guest.say(&numbered(1, 100))?;
    let held = capture(&mut datapath, 1)?.remove(0);
    datapath.release(held.id);
    datapath.flush()?;
    ensure!(ends.client.hear_exactly(1)? == [numbered(1, 100)]);
    Ok(())
}

#[test]
fn a_target_that_native_frames_cannot_reach_is_gone_around() -> Result<()> {
    let ends = Ends::new(Joint::Veth, Joint::Veth)?;
    let End::Veth(_, far) = &ends.guest else { anyhow::bail!("the guest is on a veth") };
    far.run("ethtool -K far0 gro off")?;
    let error = refusal(&ends, &Config { attach: AttachMode::Native, ..primary(&ends) });
    ensure!(error.contains(GUEST) && error.contains("gro on"), "{error}");
    let datapath = ends.attach(&primary(&ends))?;
    ensure!((datapath.attached().guest, datapath.attached().uplink) == ("native", "skb"));
    ends.client.say(&numbered(1, 100))?;
    ensure!(ends.guest.hear_exactly(1)? == [numbered(1, 100)]);
    Ok(())
}

#[test]
fn offloads_that_spoil_frames_are_warned_about() -> Result<()> {
    let ends = Ends::new(Joint::Tap, Joint::Veth)?;
    let datapath = ends.attach(&primary(&ends))?;
    ensure!(datapath.warnings().is_empty(), "{:?}", datapath.warnings());
    drop(datapath);
    ends.host.run(&format!("ethtool -K {UPLINK} tx on"))?;
    let datapath = ends.attach(&primary(&ends))?;
    let warnings = datapath.warnings().join("\n");
    ensure!(warnings.contains(&format!("ethtool -K {UPLINK} tx off")), "{warnings}");
    Ok(())
}

#[test]
fn a_host_that_speaks_to_the_guest_is_warned_about() -> Result<()> {
    let ends = Ends::new(Joint::Tap, Joint::Veth)?;
    ends.host.run(&format!("sysctl -qw net.ipv6.conf.{GUEST}.disable_ipv6=0"))?;
    let datapath = ends.attach(&primary(&ends))?;
    let warnings = datapath.warnings().join("\n");
    ensure!(warnings.contains(&format!("net.ipv6.conf.{GUEST}.disable_ipv6=1")), "{warnings}");
    Ok(())
}
