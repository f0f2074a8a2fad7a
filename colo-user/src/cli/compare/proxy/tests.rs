use super::*;
use crate::link::chardev::put;

const SETTINGS: Settings = Settings {
    framing: Framing { vnet_header: false },
    compare_timeout: Duration::from_millis(3000),
    scan_cycle: Duration::from_millis(1000),
    max_queue_size: 1024,
    bypass: Vec::new(),
    bound: Bound { frames: 1000, bytes: 1 << 20 },
};

/// An Ethernet frame of an experimental ethertype: a class that is compared by its bytes.
fn frame(text: &str) -> Vec<u8> {
    let mut frame = [[2; 6], [4; 6]].concat();
    frame.extend([0x88, 0xb5]);
    frame.extend(text.bytes());
    frame
}

fn framed(texts: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    texts.iter().for_each(|text| put(&mut out, &frame(text)));
    out
}

fn at(millis: u64) -> Mono {
    Mono::from_millis(millis)
}

struct Rig(Proxy);

impl Rig {
    fn new(settings: &Settings) -> Self {
        Self(Proxy::new(settings, at(0)))
    }

    fn primary(&mut self, bytes: &[u8], millis: u64) -> Result<(), Oversized> {
        self.0.primary_space()[..bytes.len()].copy_from_slice(bytes);
        self.0.primary_read(bytes.len(), at(millis))
    }

    fn secondary(&mut self, bytes: &[u8], millis: u64) -> Result<(), Oversized> {
        self.0.secondary_space()[..bytes.len()].copy_from_slice(bytes);
        self.0.secondary_read(bytes.len(), at(millis))
    }

    fn out(&mut self) -> Vec<u8> {
        let bytes: Vec<u8> = self.0.output().iter().flat_map(|slice| slice.to_vec()).collect();
        self.0.output_written(bytes.len());
        bytes
    }

    fn notified(&mut self) -> Vec<u8> {
        let bytes = self.0.notify_output().to_vec();
        self.0.notify_written(bytes.len());
        bytes
    }

    fn checkpoint(&mut self, millis: u64) {
        let mut text = Vec::new();
        put(&mut text, b"COLO_CHECKPOINT");
        self.0.notify_read(&text, at(millis)).expect("legal");
    }
}

fn request() -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, b"DO_CHECKPOINT");
    out
}

#[test]
fn a_frame_leaves_when_the_secondary_has_said_it() {
    let mut rig = Rig::new(&SETTINGS);
    rig.primary(&framed(&["one", "two"]), 0).expect("legal");
    assert!(rig.out().is_empty());
    rig.secondary(&framed(&["one"]), 0).expect("legal");
    assert_eq!(rig.out(), framed(&["one"]));
    rig.secondary(&framed(&["two"]), 0).expect("legal");
    assert_eq!(rig.out(), framed(&["two"]));
}

#[test]
fn a_lone_frame_asks_after_the_timeout_and_each_cycle_until_the_checkpoint() {
    for primary in [true, false] {
        let mut rig = Rig::new(&SETTINGS);
        rig.0.notify_connected(at(0));
        let lone = framed(&["lone"]);
        if primary { rig.primary(&lone, 0) } else { rig.secondary(&lone, 0) }.expect("legal");
        rig.0.tick(at(2999));
        assert!(rig.notified().is_empty());
        assert!(rig.0.next_deadline().is_some_and(|deadline| deadline <= at(3000)));
        rig.0.tick(at(3001));
        assert_eq!(rig.notified(), request(), "primary {primary}");
        rig.0.tick(at(4001));
        assert_eq!(rig.notified(), request());
        rig.checkpoint(4002);
        assert_eq!(rig.out(), if primary { lone } else { vec![] });
        rig.0.tick(at(9000));
        assert!(rig.notified().is_empty());
    }
}

#[test]
fn frames_that_do_not_match_ask_after_half_a_second() {
    let mut rig = Rig::new(&SETTINGS);
    rig.0.notify_connected(at(0));
    rig.primary(&framed(&["this"]), 0).expect("legal");
    rig.secondary(&framed(&["that"]), 0).expect("legal");
    rig.0.tick(at(501));
    assert_eq!(rig.notified(), request());
    assert!(rig.out().is_empty());
}

#[test]
fn the_bound_pauses_the_primary_and_loses_nothing() {
    let mut settings = SETTINGS;
    settings.bound.frames = 8;
    let mut rig = Rig::new(&settings);
    let texts: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    rig.primary(&framed(&texts), 0).expect("legal");
    assert!(!rig.0.wants_primary());
    rig.secondary(&framed(&texts), 0).expect("legal");
    let mut out = rig.out();
    while rig.0.resume(at(1)).expect("legal") {
        out.extend(rig.out());
    }
    assert_eq!(out, framed(&texts));
    assert!(rig.0.wants_primary());
    let pauses = rig.0.counted().into_iter().find(|(name, _)| name == "primary_pauses");
    assert!(pauses.is_some_and(|(_, n)| n > 0));
}

#[test]
fn a_peer_that_breaks_off_costs_only_its_last_frame() {
    let mut rig = Rig::new(&SETTINGS);
    rig.primary(&framed(&["whole", "half"])[..30], 0).expect("legal");
    rig.0.primary_gone();
    rig.secondary(&framed(&["whole", "half"])[..30], 0).expect("legal");
    rig.0.secondary_gone();
    rig.primary(&framed(&["next"]), 0).expect("legal");
    rig.secondary(&framed(&["next"]), 0).expect("legal");
    assert_eq!(rig.out(), framed(&["whole", "next"]));
}

#[test]
fn an_impossible_length_is_an_error_of_its_stream_alone() {
    let mut rig = Rig::new(&SETTINGS);
    let mut bytes = framed(&["before"]);
    bytes.extend(u32::to_be_bytes(69_633));
    assert_eq!(rig.primary(&bytes, 0), Err(Oversized { length: 69_633 }));
    rig.0.primary_gone();
    rig.primary(&framed(&["after"]), 0).expect("legal");
    rig.secondary(&framed(&["before", "after"]), 0).expect("legal");
    assert_eq!(rig.out(), framed(&["before", "after"]));
}

#[test]
fn the_virtio_header_is_kept_but_not_compared() {
    let mut settings = SETTINGS;
    settings.framing.vnet_header = true;
    let mut rig = Rig::new(&settings);
    let with_header = |header: &[u8]| {
        let body = [header, &frame("same")].concat();
        let length = u32::try_from(body.len()).expect("short").to_be_bytes();
        let header_length = u32::try_from(header.len()).expect("short").to_be_bytes();
        [&length[..], &header_length, &body].concat()
    };
    let primary = with_header(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    rig.primary(&primary, 0).expect("legal");
    rig.secondary(&with_header(&[0; 12]), 0).expect("legal");
    assert_eq!(rig.out(), primary);
}
