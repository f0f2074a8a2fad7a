use super::super::super::Policy;
use super::super::super::rig::{CLIENT, GUEST, Rig, addr, tcp};
use crate::wire::build::Tcp;
use crate::wire::tcp::set_window;
use crate::wire::{Ether, Ip, TcpFlags, TcpSegment};

const MSS_AND_SHIFT_10: [u8; 8] = [2, 4, 5, 180, 1, 3, 3, 10];

/// The guest's acknowledgement of all before `ack`, with a window of so many KiB.
fn ack(ack: u32, window: u16) -> Vec<u8> {
    let mut segment = tcp().seq(1).ack(ack);
    segment.window = window;
    segment.frame()
}

/// A connection that the client has opened: both guests shift their windows by ten.
fn opened() -> Rig {
    let mut rig = Rig::with(
        Policy { narrow_windows: true, emit_acknowledgements: true, ..Policy::default() },
        Default::default(),
    );
    rig.both(&tcp().seq(0).ack(500).flag(TcpFlags::SYN).options(&MSS_AND_SHIFT_10).frame());
    assert_eq!((rig.left.len(), rig.windows.len()), (1, 0));
    rig
}

fn window_of(frame: &[u8]) -> u16 {
    let ether = Ether::parse(frame).unwrap();
    let ip = Ip::parse(frame, ether.payload, ether.ethertype).unwrap();
    TcpSegment::parse(&frame[ip.payload..ip.end]).unwrap().window
}

#[test]
fn the_narrower_window_is_told() {
    let mut rig = opened();
    rig.s(&ack(500, 64));
    rig.p(&ack(500, 200));
    assert_eq!((rig.windows.as_slice(), rig.left.len()), ([(1, 64)].as_slice(), 2));
    // A primary that takes less than the secondary speaks for itself.
    rig.s(&ack(500, 300));
    rig.p(&ack(500, 250));
    assert_eq!((rig.windows.len(), rig.left.len()), (1, 3));
}

#[test]
fn the_end_counts_and_not_the_width() {
    let mut rig = opened();
    // The secondary is ahead by 100 KiB and takes 64 more.
    rig.s(&ack(500 + 100 * 1024, 64));
    rig.p(&ack(500, 200));
    assert_eq!(rig.windows, [(1, 164)]);
}

#[test]
fn what_was_told_is_not_taken_back() {
    let mut rig = opened();
    rig.s(&ack(500, 64));
    rig.p(&ack(500, 64));
    assert_eq!(rig.windows, []);
    // A secondary never narrows its window; one that did would not be followed.
    rig.p(&ack(500, 100));
    assert_eq!(rig.windows, [(2, 64)]);
    rig.s(&ack(500 + 10 * 1024, 60));
    rig.p(&ack(500 + 10 * 1024, 200));
    assert_eq!(rig.windows, [(2, 64), (3, 60)]);
}

#[test]
fn a_secondary_that_takes_more_again_says_so_itself() {
    let mut rig = opened();
    rig.s(&ack(500, 0));
    rig.p(&ack(500, 200));
    assert_eq!(rig.windows, [(1, 0)]);
    assert_eq!(rig.emitted.len(), 0);
    rig.s(&ack(500, 50));
    assert_eq!(rig.emitted.iter().map(|f| window_of(f)).collect::<Vec<_>>(), [50]);
    // Beyond the primary's end only that is told, and then nothing more.
    rig.s(&ack(500, 400));
    rig.s(&ack(500, 500));
    assert_eq!(rig.emitted.iter().map(|f| window_of(f)).collect::<Vec<_>>(), [50, 200]);
}

#[test]
fn a_checkpoint_makes_the_windows_one() {
    let mut rig = opened();
    rig.s(&ack(500, 10));
    rig.p(&ack(500, 200));
    assert_eq!(rig.windows, [(1, 10)]);
    rig.checkpoint();
    rig.s(&ack(500, 200));
    assert_eq!(rig.emitted.iter().map(|f| window_of(f)).collect::<Vec<_>>(), [200]);
    rig.p(&ack(500, 200));
    assert_eq!((rig.windows.len(), rig.left.len()), (1, 3));
}

#[test]
fn an_unknown_scale_leaves_windows_alone() {
    let mut rig = Rig::with(Policy { narrow_windows: true, ..Policy::default() }, Default::default());
    rig.s(&ack(500, 10));
    rig.p(&ack(500, 200));
    assert_eq!((rig.windows.len(), rig.left.len()), (0, 1));
}

#[test]
fn a_scale_counts_only_if_both_offer_one() {
    for (client, expected) in [(&MSS_AND_SHIFT_10[..], 164), (&MSS_AND_SHIFT_10[..4], 200)] {
        let mut rig = Rig::with(Policy { narrow_windows: true, ..Policy::default() }, Default::default());
        rig.both(&tcp().seq(0).flag(TcpFlags::SYN).options(&MSS_AND_SHIFT_10).frame());
        let answer = Tcp::new(addr(CLIENT), addr(GUEST)).seq(499).ack(1).flag(TcpFlags::SYN);
        rig.client(&answer.options(client).frame());
        rig.s(&ack(500 + 100 * 1024, 64));
        rig.p(&ack(500, 200));
        assert_eq!(rig.windows.first().map_or(200, |w| w.1), expected);
    }
}

#[test]
fn a_window_is_set_with_its_checksum() {
    for data in [&b"data"[..], b"odd"] {
        let mut frame = tcp().seq(9).ack(7).data(data).frame();
        let mut expected = tcp().seq(9).ack(7).data(data);
        expected.window = 1234;
        set_window(&mut frame, 1234);
        assert_eq!(frame, expected.frame());
    }
    let mut arp = vec![0; 60];
    set_window(&mut arp, 1);
    assert_eq!(arp, vec![0; 60]);
}
