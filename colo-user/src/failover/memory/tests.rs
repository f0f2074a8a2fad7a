use super::*;

#[test]
fn what_is_remembered_is_read_back() {
    for standing in Standing::ALL {
        for next in [None, Some(7)] {
            let memory = Memory { term: 0xfeed_beef_0000_0001, next, claimant: Claimant([7; 16]), standing };
            assert_eq!(memory.to_string().parse(), Ok(memory));
        }
    }
    for wrong in ["", "colo 2 1 - 07070707070707070707070707070707 alone", "colo 1 x - y alone", "colo 1 1"] {
        assert!(wrong.parse::<Memory>().unwrap_err().contains("TERM"), "{wrong}");
    }
    let gone = "colo 1 1 - 07070707070707070707070707070707 gone";
    assert!(gone.parse::<Memory>().is_err(), "no such standing");
}
