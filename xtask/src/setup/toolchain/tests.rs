use super::*;

const STABLE: &str = "stable-x86_64-unknown-linux-gnu (active, default) /home/u/.rustup/toolchains/stable\n";
const NIGHTLY: &str = "nightly-x86_64-unknown-linux-gnu /home/u/.rustup/toolchains/nightly\n";
const DATED: &str = "nightly-2026-01-01-x86_64-unknown-linux-gnu /home/u/.rustup/toolchains/dated\n";
const DEBIAN: &str = "debian /usr\n";

#[test]
fn a_nightly_counts_only_with_its_sources() {
    let listing = format!("{STABLE}{NIGHTLY}{DEBIAN}");
    let nightly = |path: &Path| path.ends_with("nightly");
    assert_eq!(choose(&listing, nightly), Toolchain::Nightly);
    assert_eq!(choose(&listing, |_| false), Toolchain::Linked);
    assert_eq!(choose(&format!("{STABLE}{NIGHTLY}"), |_| false), Toolchain::Unlinked);
}

#[test]
fn neither_a_dated_nightly_nor_stable_sources_will_do() {
    assert_eq!(choose(&format!("{STABLE}{DATED}"), |_| true), Toolchain::Unlinked);
}

#[test]
fn an_empty_list_is_no_toolchain() {
    assert_eq!(choose("no installed toolchains\n", |_| true), Toolchain::Unlinked);
}
