use super::*;
use crate::setup::programs::Origin;

fn names(packages: &[&Package]) -> Vec<&'static str> {
    packages.iter().map(|package| package.name).collect()
}

#[test]
fn a_purpose_asks_only_for_what_it_needs() {
    let build = names(&wanted(Purpose::Build, Toolchain::Linked));
    assert!(build.contains(&"rustc-web") && build.contains(&"llvm-22-dev") && !build.contains(&"iproute2"));
    let lab = names(&wanted(Purpose::Lab, Toolchain::Linked));
    assert!(lab.contains(&"iproute2") && !lab.contains(&"qemu-system-x86"));
    let pair = names(&wanted(Purpose::Compare, Toolchain::Linked));
    assert!(pair.contains(&"qemu-system-x86") && !pair.contains(&"etcd-server"));
    let judge = names(&wanted(Purpose::Judge, Toolchain::Linked));
    assert!(
        judge.contains(&"qemu-system-x86") && judge.contains(&"etcd-server") && !judge.contains(&"pacemaker")
    );
    assert_eq!(wanted(Purpose::Test, Toolchain::Linked).len(), PACKAGES.len());
}

#[test]
fn a_nightly_needs_no_compiler_from_debian() {
    let build = names(&wanted(Purpose::Build, Toolchain::Nightly));
    assert!(build.is_empty(), "{build:?}");
}

#[test]
fn unknown_removed_and_half_installed_packages_are_missing() {
    let listing = "installed rustc-web\nconfig-files cargo-web\nhalf-installed rust-web-src\n";
    let missing = names(&not_installed(wanted(Purpose::Build, Toolchain::Linked), listing));
    assert_eq!(missing, ["cargo-web", "rust-web-src", "llvm-22-dev"]);
}

#[test]
fn every_package_is_installed_in_one_command() {
    let packages: Vec<&Package> = PACKAGES.iter().collect();
    let lines: Vec<String> = commands(&packages).iter().map(command::shown).collect();
    assert_eq!(lines[0], "apt-get update");
    assert!(lines[1].starts_with("DEBIAN_FRONTEND=noninteractive apt-get install --yes"), "{}", lines[1]);
    assert!(PACKAGES.iter().all(|package| lines[1].contains(package.name)));
}

#[test]
fn each_program_is_listed_once_and_only_what_a_purpose_calls_is_asked_for_elsewhere() {
    let mut names: Vec<&str> = PROGRAMS.iter().map(|program| program.name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    let absent = |purpose, there: &[&str]| -> Vec<&str> {
        let missing = |package: &&Package| is_absent(package, purpose, |name| there.contains(&name));
        PACKAGES.iter().filter(missing).map(|package| package.name).collect()
    };
    assert_eq!(absent(Purpose::Build, &[]), [""; 0]);
    assert_eq!(absent(Purpose::Lab, &["mount", "tcpdump"]), ["iproute2", "ethtool"]);
    // One of two programs of a package is not enough.
    assert!(absent(Purpose::Test, &["crm_mon"]).contains(&"pacemaker-cli-utils"));
    assert!(absent(Purpose::Test, &["crm_mon", "crm_resource"]).iter().all(|name| !name.contains("cli")));
}

#[test]
fn what_is_installed_is_there_as_soon_as_its_programs_are_called() {
    for program in PROGRAMS {
        let Origin::Package(owner) = program.origin else { continue };
        // Those without a line are on every Debian system, which CI holds against an empty one.
        if let Some(package) = PACKAGES.iter().find(|package| package.name == owner) {
            assert!(package.from <= program.from, "{} is called before {owner} is there", program.name);
        }
    }
}
