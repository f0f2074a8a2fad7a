use super::*;

#[test]
fn a_disk_is_a_quorum_and_an_export() {
    let disk: Disk = "colo-disk0=parent0".parse().unwrap();
    assert_eq!((disk.quorum.as_str(), disk.export.as_str()), ("colo-disk0", "parent0"));
    assert_eq!(disk.to_string(), "colo-disk0=parent0");
    for wrong in ["", "colo-disk0", "=parent0", "colo-disk0="] {
        let text = wrong.parse::<Disk>().unwrap_err();
        assert!(text.contains("QUORUM=EXPORT") && text.contains(&format!("`{wrong}`")), "{text}");
    }
}
