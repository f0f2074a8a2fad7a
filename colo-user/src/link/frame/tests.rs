use super::*;
use crate::translate::initial_of;
use crate::wire::TcpFlags;
use crate::wire::build::Tcp;
use proptest::prelude::*;

fn hello(role: Role) -> Hello {
    Hello { blob: vec![7; 33], features: 5, ..Hello::plain(role, *b"0123456789abcdef") }
}

#[test]
fn a_hello_comes_back_whole_and_only_when_complete() {
    let said = hello(Role::Primary);
    let mut bytes = said.encode();
    let length = bytes.len();
    bytes.extend_from_slice(b"what follows");
    assert_eq!(Hello::decode(&bytes, Role::Primary), Ok(Some((said, length))));
    for cut in 0..length {
        assert_eq!(Hello::decode(&bytes[..cut], Role::Primary), Ok(None), "cut at {cut}");
        let missing = Hello::missing(&bytes[..cut]);
        assert!(missing > 0 && cut + missing <= length, "cut at {cut}: {missing} missing");
    }
    assert_eq!(Hello::missing(&bytes[..length]), 0);
}

#[test]
fn a_bad_hello_is_refused_by_name() {
    let good = hello(Role::Secondary).encode();
    let refused = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        Hello::decode(&bytes, Role::Secondary).expect_err("must be refused").to_string()
    };
    assert!(refused(9, 9).contains("version 9"), "{}", refused(9, 9));
    assert!(refused(10, 1).contains("its role is primary, expected secondary"), "{}", refused(10, 1));
    assert!(refused(10, 9).contains("unknown (9)"), "{}", refused(10, 9));
    assert!(refused(11, 1).contains("security type 1"), "{}", refused(11, 1));
    assert!(refused(36, 0xff).contains("limit is 4096"), "{}", refused(36, 0xff));
    let http = Hello::decode(b"GET / HTTP/1.1\r\n", Role::Primary).expect_err("not a hello").to_string();
    assert!(http.contains("got \"GET / HT\"") && http.contains("COLOLINK"), "{http}");
    assert!(Hello::decode(b"X", Role::Primary).is_err(), "the first wrong byte says so");
}

/// The version is what a later release is told apart by: whatever else it changes, these bytes stay.
#[test]
fn the_first_bytes_of_a_hello_are_fixed() {
    assert_eq!(&hello(Role::Primary).encode()[..12], b"COLOLINK\x00\x03\x01\x00");
}

fn base(guest_isn: Option<u32>) -> Base {
    let ends = ["192.0.2.1:80", "198.51.100.2:40000"].map(|end| end.parse().expect("an address"));
    let syn = Tcp::new(ends[0], ends[1]).seq(77).flag(TcpFlags::SYN).frame();
    let flow = initial_of(&syn).expect("a SYN begins a connection").flow;
    Base { flow, delta: crate::translate::Delta { seq: 5, ts: 9 }, guest_isn }
}

#[test]
fn one_that_follows_its_qemu_refuses_one_that_does_not_and_names_the_option() {
    let (deaf, hears) = (Hello::plain(Role::Secondary, [0; 16]), hello(Role::Primary));
    assert_eq!((deaf.agrees(&deaf), hears.agrees(&hears)), (Ok(()), Ok(())));
    for refusal in [deaf.agrees(&hears), hears.agrees(&deaf)] {
        let text = refusal.expect_err("only one hears").to_string();
        assert!(text.starts_with("the secondary does not") && text.contains("--qmp"), "{text}");
    }
}

fn messages() -> Vec<Message<'static>> {
    let epoch = Epoch(0x0102_0304_0506_0708);
    let ends = ["192.0.2.1:80", "198.51.100.2:40000"].map(|end| end.parse().expect("an address"));
    let syn = Tcp::new(ends[0], ends[1]).seq(77).flag(TcpFlags::SYN).frame();
    let initial = initial_of(&syn).expect("a SYN begins a connection");
    vec![
        Message::Input { epoch, index: 9, frame: &[1; 60] },
        Message::Input { epoch, index: u64::MAX, frame: &[] },
        Message::Output { epoch, frame: &[2; 1514] },
        Message::Output { epoch, frame: &[3; MAX_FRAME] },
        Message::Learned { epoch, initial },
        Message::Path(Carrying { guest: false, uplink: false }),
        Message::Path(Carrying { guest: true, uplink: false }),
        Message::Path(Carrying { guest: true, uplink: true }),
        Message::Cut(epoch),
        Message::End(epoch),
        Message::Begin(epoch),
        Message::InputCut { epoch, first: 77 },
        Message::Heartbeat(Heartbeat { sent: 1, echo: 2, frames: 3, lost: 4 }),
        Message::Bye { reason: ByeReason::Exit, text: "told to stop" },
        Message::Ask(AskReason::TranslationFull),
        Message::Ask(AskReason::CaptureLost),
        Message::Ask(AskReason::EpochsInDoubt),
        Message::Session { epoch, term: 99, lease: Duration::from_millis(1500) },
        Message::Bases { epoch, bases: vec![] },
        Message::Bases { epoch, bases: vec![base(Some(7)), base(None)] },
        Message::Bye { reason: ByeReason::TookOver, text: "" },
    ]
}

#[test]
fn every_message_comes_back_and_waits_for_its_last_byte() {
    for message in messages() {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        assert_eq!(Message::decode(&bytes), Ok(Some((message.clone(), bytes.len()))));
        assert_eq!(Message::decode(&bytes[..bytes.len() - 1]), Ok(None), "{message:?} cut by a byte");
    }
}

#[test]
fn lengths_kinds_and_bodies_out_of_range_are_refused() {
    let decode = |length: u32, rest: &[u8]| {
        Message::decode(&[&length.to_be_bytes(), rest].concat()).expect_err("must be refused")
    };
    assert_eq!(decode(0, &[]), MessageError::Length { got: 0 });
    let long = u32::try_from(MAX_MESSAGE + 1).unwrap();
    assert_eq!(
        decode(long, &[]),
        MessageError::Length { got: MAX_MESSAGE + 1 },
        "before its bytes are there"
    );
    assert_eq!(decode(1, &[200]), MessageError::Kind { got: 200 });
    assert_eq!(decode(4, &[4, 0, 0, 0]), MessageError::Body { kind: "cut", got: 3 });
    assert_eq!(decode(10, &[4, 0, 0, 0, 0, 0, 0, 0, 0, 0]), MessageError::Body { kind: "cut", got: 9 });
    assert_eq!(decode(2, &[9, 99]), MessageError::Body { kind: "bye", got: 1 });
    assert_eq!(decode(2, &[10, 99]), MessageError::Body { kind: "ask", got: 1 });
    assert_eq!(
        decode(10, &[3, 0, 0, 0, 0, 0, 0, 0, 0, 0xff]),
        MessageError::Body { kind: "learned", got: 9 }
    );
    assert_eq!(decode(3, &[9, 1, 0xff]), MessageError::Body { kind: "bye", got: 2 }, "not UTF-8");
}

#[test]
fn a_long_bye_is_cut_at_a_character() {
    let text = "é".repeat(MAX_BYE);
    let mut bytes = Vec::new();
    Message::Bye { reason: ByeReason::Refused, text: &text }.encode(&mut bytes);
    let Ok(Some((Message::Bye { text, .. }, _))) = Message::decode(&bytes) else { panic!("must decode") };
    assert_eq!(text.len(), MAX_BYE);
}

proptest! {
    #[test]
    fn garbage_is_an_answer_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut rest = bytes.as_slice();
        while let Ok(Some((_, taken))) = Message::decode(rest) {
            prop_assert!(taken >= 5 && taken <= rest.len());
            rest = &rest[taken..];
        }
        let _ = Hello::decode(&bytes, Role::Primary);
        let _ = Hello::missing(&bytes);
    }

    /// One changed byte of a valid stream: still never a panic, and nothing beyond the bytes given is taken.
    #[test]
    fn a_changed_byte_is_an_answer_too(which in 0..10_usize, at in any::<prop::sample::Index>(), value in any::<u8>()) {
        let mut bytes = Vec::new();
        messages()[which].encode(&mut bytes);
        let at = at.index(bytes.len().min(64));
        bytes[at] = value;
        if let Ok(Some((_, taken))) = Message::decode(&bytes) {
            prop_assert!(taken <= bytes.len());
        }
        let mut bytes = hello(Role::Primary).encode();
        let at = at % bytes.len();
        bytes[at] = value;
        let _ = Hello::decode(&bytes, Role::Primary);
    }
}
