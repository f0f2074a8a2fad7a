use super::*;

fn plain(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[test]
fn rfc_1071_example() {
    assert_eq!(Sum::ZERO.bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]).folded(), 0xddf2);
}

proptest::proptest! {
    #[test]
    fn agrees_with_the_plain_sum(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..2000)) {
        proptest::prop_assert_eq!(Sum::ZERO.bytes(&bytes).stored(), plain(&bytes));
    }

    #[test]
    fn incremental_update_equals_a_new_sum(
        mut bytes in proptest::collection::vec(1u8..=255, 16..200),
        at in 0usize..12,
        new in proptest::num::u32::ANY,
    ) {
        let before = Sum::ZERO.bytes(&bytes).stored();
        let old = crate::wire::be32(&bytes, at);
        bytes[at..at + 4].copy_from_slice(&new.to_be_bytes());
        let after = update32(before, old, new, at % 2 == 1);
        proptest::prop_assert_eq!(after, Sum::ZERO.bytes(&bytes).stored());
    }
}
