use super::*;

#[test]
fn addresses_are_read_in_both_spellings() {
    let mac = Mac([0x52, 0x54, 0, 0x12, 0xab, 6]);
    assert_eq!("52:54:00:12:ab:06".parse(), Ok(mac));
    assert_eq!("52-54-0-12-AB-6".parse(), Ok(mac));
    for wrong in ["", "52:54:00:12:ab", "52:54:00:12:ab:06:07", "52:54:00:12:ab:0x6", "52:54:00:12:ab:+6"] {
        assert!(wrong.parse::<Mac>().is_err(), "{wrong}");
    }
}
