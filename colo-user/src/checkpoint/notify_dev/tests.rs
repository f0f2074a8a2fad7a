use super::*;

const PLAIN: Framing = Framing { vnet_header: false };
const VNET: Framing = Framing { vnet_header: true };
const CYCLE: Duration = Duration::from_millis(100);

fn framed(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    chardev::put(&mut out, text);
    out
}

fn with_vnet(text: &[u8]) -> Vec<u8> {
    let mut out = framed(text);
    out.splice(4..4, [0; 4]);
    out
}

/// Feeds byte by byte and returns what was understood.
fn hear(notify: &mut Notify, bytes: &[u8]) -> Vec<Said> {
    let mut heard = Vec::new();
    for byte in bytes {
        notify.received(&[*byte], |said, _| heard.push(said)).expect("legal");
    }
    heard
}

fn at(millis: u64) -> Mono {
    Mono::from_millis(millis)
}

/// Takes what is to be written.
fn spoken(notify: &mut Notify) -> Vec<u8> {
    let out = notify.output().to_vec();
    notify.written(out.len());
    out
}

#[test]
fn an_introduction_is_answered() {
    let mut notify = Notify::new(PLAIN, CYCLE);
    notify.connected(at(0));
    assert_eq!(hear(&mut notify, &framed(b"COLO_USERSPACE_PROXY_INIT")), [Said::Init]);
    assert_eq!(spoken(&mut notify), framed(b"COLO_COMPARE_GET_XEN_INIT"));
}

#[test]
fn asks_each_cycle_until_the_checkpoint_comes() {
    let mut notify = Notify::new(PLAIN, CYCLE);
    notify.connected(at(0));
    assert_eq!(notify.next_deadline(), None);
    notify.want(at(10));
    assert_eq!(spoken(&mut notify), framed(b"DO_CHECKPOINT"));
    notify.want(at(20));
    assert!(spoken(&mut notify).is_empty(), "one request at a time");
    assert_eq!(notify.next_deadline(), Some(at(110)));
    notify.tick(at(109));
    assert!(spoken(&mut notify).is_empty());
    notify.tick(at(110));
    assert_eq!(spoken(&mut notify), framed(b"DO_CHECKPOINT"));
    assert_eq!(hear(&mut notify, &framed(b"COLO_CHECKPOINT")), [Said::Checkpoint]);
    notify.tick(at(1000));
    assert!(spoken(&mut notify).is_empty() && notify.next_deadline().is_none());
    notify.want(at(1001));
    assert_eq!(spoken(&mut notify), framed(b"DO_CHECKPOINT"));
    assert_eq!(notify.asked(), 3);
}

#[test]
fn a_late_peer_and_the_next_one_are_asked_too() {
    let mut notify = Notify::new(PLAIN, CYCLE);
    notify.want(at(0));
    assert_eq!((notify.next_deadline(), spoken(&mut notify)), (None, vec![]));
    notify.connected(at(5000));
    assert_eq!(spoken(&mut notify), framed(b"DO_CHECKPOINT"));
    notify.gone();
    assert_eq!(notify.next_deadline(), None);
    notify.connected(at(5001));
    assert_eq!(spoken(&mut notify), framed(b"DO_CHECKPOINT"));
}

#[test]
fn a_peer_that_does_not_read_costs_bounded_memory() {
    let mut notify = Notify::new(PLAIN, CYCLE);
    notify.connected(at(0));
    notify.want(at(0));
    for n in 0..10_000 {
        notify.tick(at(n * 1000));
        notify.received(&framed(INIT), |_, _| {}).expect("legal");
    }
    assert!(notify.output().len() < OUTPUT_LIMIT + 100);
}

#[test]
fn both_forms_are_understood_when_packets_have_a_virtio_header() {
    let mut notify = Notify::new(VNET, CYCLE);
    notify.connected(at(0));
    let stream = [with_vnet(INIT), framed(CHECKPOINT), with_vnet(CHECKPOINT), framed(INIT)].concat();
    assert_eq!(hear(&mut notify, &stream), [Said::Init, Said::Checkpoint, Said::Checkpoint, Said::Init]);
    let answers = spoken(&mut notify);
    assert_eq!(answers, framed(INIT_ANSWER).repeat(2), "answers never carry the length");
}

#[test]
fn other_texts_and_half_ones_harm_nothing() {
    let mut notify = Notify::new(PLAIN, CYCLE);
    notify.connected(at(0));
    let stream =
        [framed(b""), framed(&[0xff; 300]), framed(b"COLO_CHECKPOINT2"), framed(CHECKPOINT)].concat();
    let unknown = Said::Unknown;
    assert_eq!(hear(&mut notify, &stream), [unknown, unknown, unknown, Said::Checkpoint]);
    hear(&mut notify, &framed(CHECKPOINT)[..9]);
    assert!(notify.gone());
    notify.connected(at(1));
    assert_eq!(hear(&mut notify, &framed(CHECKPOINT)), [Said::Checkpoint]);
    assert!(notify.received(&[0xff; 4], |_, _| {}).is_err());
}
