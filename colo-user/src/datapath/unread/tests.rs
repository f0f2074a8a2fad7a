use super::*;

#[test]
fn the_hosts_own_frames_are_discounted_once_all_is_read() {
    let mut input = Input { next: 10, foreign: 0 };
    assert_eq!(input.first(4), 4);
    assert_eq!(input.first(12), 10, "two of the host's own");
    input.next = 15;
    assert_eq!(input.first(14), 12);
    assert_eq!(input.first(17), 15);
}
