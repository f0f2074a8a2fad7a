use super::*;

#[test]
fn any_part_is_the_same_as_cut_from_the_whole() {
    let whole = bytes(7, 4096);
    for offset in [0_usize, 1, 7, 8, 9, 1000, 4090] {
        for length in [0_usize, 1, 3, 8, 17, 6] {
            let mut part = vec![0; length.min(4096 - offset)];
            fill(7, offset as u64, &mut part);
            assert_eq!(part, whole[offset..offset + part.len()], "offset {offset} length {length}");
        }
    }
    assert_ne!(bytes(7, 64), bytes(8, 64));
}

#[test]
fn the_hash_is_sha256() {
    let mut check = Check::new();
    check.update(b"abc"); // FIPS 180-2, appendix B.1
    assert_eq!(check.hash(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

#[test]
fn equal_content_passes_whatever_its_pieces() {
    let content = bytes(3, 100_000);
    for piece in [1, 1460, 65_536] {
        let mut check = Check::new();
        content.chunks(piece).for_each(|part| check.update(part));
        assert_eq!(check.against(3, 100_000), Ok(()));
    }
}

#[test]
fn one_corrupted_byte_is_seen() {
    let mut content = bytes(3, 100_000);
    content[99_999] ^= 1;
    let mut check = Check::new();
    check.update(&content);
    assert!(matches!(check.against(3, 100_000), Err(Mismatch::Hash { .. })));
}

#[test]
fn one_missing_byte_is_seen() {
    let mut check = Check::new();
    check.update(&bytes(3, 99_999));
    assert_eq!(check.against(3, 100_000), Err(Mismatch::Length { got: 99_999, expected: 100_000 }));
}
