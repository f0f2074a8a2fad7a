use super::*;

#[test]
fn the_hosts_own_frames_are_discounted_once_all_is_read() {
    let mut input = Input { next: 10, ..Input::default() };
    assert_eq!(input.first(4), 4);
    assert_eq!(input.first(12), 10, "two of the host's own");
    input.next = 15;
    assert_eq!(input.first(14), 12);
    assert_eq!(input.first(17), 15);
}

#[test]
fn what_went_before_the_interface_is_not_waited_for() {
    let mut input = Input { next: 10, ..Input::default() };
    assert_eq!(input.first(4), 4);
    // Six lay in an interface that is gone.
    input.begin(10);
    assert_eq!(input.first(0), 10);
    input.next = 13;
    assert_eq!(input.first(2), 12);
    // Two of those before lay in the queue still: known once all is read.
    assert_eq!(input.first(5), 13);
    input.next = 14;
    assert_eq!(input.first(5), 13);
    assert_eq!(input.first(6), 14);
}
