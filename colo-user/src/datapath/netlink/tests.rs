use super::*;

#[test]
fn the_loopback_interface_is_found_by_name_and_index() {
    let mut netlink = Netlink::open().unwrap();
    let link = netlink.link("lo").unwrap();
    assert_eq!((link.mtu, link.program), (65_536, None));
    assert_eq!(netlink.link_by_index(link.index).unwrap().mtu, 65_536);
}

#[test]
fn a_missing_interface_is_named_by_the_kernel() {
    let mut netlink = Netlink::open().unwrap();
    let error = netlink.link("no-such-link").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    assert!(netlink.link("").is_err());
    assert!(netlink.link("sixteen-bytes-xx").is_err());
}

#[test]
fn attributes_are_found_by_kind() {
    let mut message = Vec::new();
    attribute(&mut message, 1, |value| value.push(7));
    attribute(&mut message, 2 | NESTED, |value| attribute(value, 3, |value| value.extend_from_slice(b"abc")));
    assert_eq!(message.len() % 4, 0);
    assert_eq!(find(&message, 1), Some(&[7][..]));
    assert_eq!(find(find(&message, 2).unwrap(), 3), Some(&b"abc"[..]));
    assert_eq!(find(&message, 4), None);
}

#[test]
fn malformed_attributes_end_the_search() {
    for bytes in [&[][..], &[0; 3], &[0; 8], &[3, 0, 1, 0], &[200, 0, 1, 0, 1, 2, 3, 4], &[5, 0, 9, 0, 1]] {
        assert_eq!(find(bytes, 1), None, "{bytes:?}");
    }
}

#[test]
fn an_error_carries_the_kernels_words() {
    // A capped acknowledgement: error code, header of the request, then the text.
    let mut answer = vec![0; HEADER];
    answer.extend_from_slice(&(-libc::ERANGE).to_ne_bytes());
    answer.extend_from_slice(&[0; HEADER]);
    attribute(&mut answer, NLMSGERR_ATTR_MSG, |value| value.extend_from_slice(b"too large\0"));
    let flags = NLM_F_ACK_TLVS | NLM_F_CAPPED;
    assert_eq!(error_text(&answer, flags).as_deref(), Some("too large"));
    assert_eq!(error_text(&answer, NLM_F_CAPPED), None);
    for length in 0..answer.len() - 12 {
        assert_eq!(error_text(&answer[..length], flags), None);
    }
}
