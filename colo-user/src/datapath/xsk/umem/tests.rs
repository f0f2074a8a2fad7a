use super::*;

fn stamped(bytes: &mut [u8], at: usize, index: u32) {
    bytes[at..at + 8].copy_from_slice(&77_u64.to_ne_bytes());
    bytes[at + 8..at + 12].copy_from_slice(&index.to_ne_bytes());
    bytes[at + 12..at + 16].copy_from_slice(&CAPTURE_MAGIC.to_ne_bytes());
}

#[test]
fn every_buffer_is_in_one_state() {
    let mut umem = Umem::new(4, 2048).unwrap();
    assert!(umem.transfer(1, State::Free, State::Filling));
    assert!(umem.transfer(1, State::Filling, State::Held));
    assert!(umem.transfer(1, State::Held, State::Sending));
    assert!(umem.transfer(2, State::Free, State::Filling));
    assert_eq!(umem.occupancy(), Occupancy { free: 2, filling: 1, held: 0, sending: 1 });
}

#[test]
fn a_transfer_from_another_state_is_refused() {
    let mut umem = Umem::new(4, 2048).unwrap();
    assert!(!umem.transfer(0, State::Held, State::Sending));
    assert!(!umem.transfer(4, State::Free, State::Held));
    assert_eq!(umem.occupancy(), Occupancy { free: 4, ..Occupancy::default() });
}

#[test]
fn only_a_held_frame_has_bytes() {
    let mut umem = Umem::new(2, 2048).unwrap();
    assert!(umem.write(0, b"frame"));
    assert_eq!(umem.frame(0), b"");
    umem.transfer(0, State::Free, State::Held);
    assert_eq!(umem.frame(0), b"frame");
    assert_eq!(umem.frame_mut(0), b"frame");
    umem.transfer(0, State::Held, State::Sending);
    assert_eq!(umem.frame_mut(0), b"");
    assert_eq!((umem.frame(0), umem.outgoing(0)), (&b""[..], &b"frame"[..]));
    assert_eq!((umem.frame(1), umem.frame(99)), (&b""[..], &b""[..]));
}

#[test]
fn a_stamp_is_read_from_below_the_frame() {
    let mut umem = Umem::new(1, 2048).unwrap();
    umem.transfer(0, State::Free, State::Held);
    stamped(umem.chunk_mut(0), 240, 5);
    let meta = umem.receive(0, 256, 60).unwrap();
    assert_eq!((meta.stamp_ns, meta.index, umem.frame(0).len()), (77, 5, 60));
}

#[test]
fn a_stamp_in_the_head_is_taken_off() {
    let mut umem = Umem::new(1, 2048).unwrap();
    umem.transfer(0, State::Free, State::Held);
    stamped(umem.chunk_mut(0), 256, 6);
    umem.chunk_mut(0)[272] = 0xab;
    let meta = umem.receive(0, 256, 76).unwrap();
    assert_eq!((meta.index, umem.frame(0).len(), umem.frame(0)[0]), (6, 60, 0xab));
}

#[test]
fn a_guest_cannot_forge_a_stamp() {
    let mut umem = Umem::new(1, 2048).unwrap();
    // The last frame in this buffer was stamped; the next is not, and bears the magic in a place of its choice.
    stamped(umem.chunk_mut(0), 240, 1);
    umem.clear(0);
    umem.transfer(0, State::Free, State::Held);
    stamped(umem.chunk_mut(0), 257, 2);
    assert_eq!(umem.receive(0, 256, 60), None);
    assert_eq!(umem.frame(0).len(), 60);
}

#[test]
fn a_frame_never_reaches_beyond_its_buffer() {
    let mut umem = Umem::new(2, 2048).unwrap();
    umem.transfer(0, State::Free, State::Held);
    umem.receive(0, 2000, 4096);
    assert_eq!(umem.frame(0).len(), 48);
    assert!(!umem.write(1, &[0; 1793]));
    assert!(umem.write(1, &[0; 1792]));
}
