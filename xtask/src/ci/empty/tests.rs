use super::*;

fn set(names: &[&str]) -> HashSet<String> {
    names.iter().map(ToString::to_string).collect()
}

fn program(name: &'static str, origin: Origin, from: Purpose) -> Program {
    Program { name, origin, from }
}

fn machine(purpose: Purpose, listed: &[&str], resolved: &[&str]) -> Machine {
    Machine { purpose, listed: set(listed), resolved: set(resolved) }
}

/// Files of these packages, a path each.
fn files(of: &[(&str, &str)]) -> Files {
    let mut files = Files::new();
    for (package, path) in of {
        files.entry((*package).to_owned()).or_default().push((*path).to_owned());
    }
    files
}

#[test]
fn apt_tells_what_it_would_install() {
    let said = "Reading package lists...\nInst gcc-12-base (12.2.0-14 Debian:12.15/oldstable [amd64])\n\
                Inst libc6:amd64 [2.35] (2.36-9 Debian:12.15/oldstable [amd64]) []\nConf libc6 (2.36-9)\n\
                Remv qemu-utils [7.2]\n";
    assert_eq!(installed(said), set(&["gcc-12-base", "libc6"]));
    assert!(installed("E: Unable to locate package nowhere\n").is_empty());
}

#[test]
fn dpkg_tells_what_packages_own() {
    let found = listed("mount\n /.\n /bin/mount\nabsent\niproute2\n /bin/ip\n");
    assert_eq!(found["mount"], ["/.", "/bin/mount"]);
    assert_eq!(found["iproute2"], ["/bin/ip"]);
    assert_eq!(found.len(), 2);
}

#[test]
fn readme_tells_what_is_there_before_the_set_up() {
    let readme = "On Debian with rustup (`apt-get install gcc libc6-dev`), as root\n";
    assert_eq!(asked_for(readme).unwrap(), ["gcc", "libc6-dev"]);
    assert!(asked_for("On Debian").is_err());
}

#[test]
fn a_program_of_no_package_or_of_a_recommended_one_is_missing() {
    let crm_mon = [program("crm_mon", Origin::Package("cli-utils"), Purpose::Test)];
    let owned = files(&[("cli-utils", "/usr/sbin/crm_mon")]);
    let of = |listed: &[&str], resolved: &[&str]| {
        problems(&crm_mon, &set(&["libc6"]), &[machine(Purpose::Test, listed, resolved)], &owned)
    };
    // Recommended by what is on the list, and not installed.
    let found = of(&["pacemaker"], &["pacemaker", "libc6"]);
    assert!(matches!(&found[..], [one] if one.starts_with("crm_mon: cli-utils is neither")), "{found:?}");
    // Something on the list depends on it, today.
    let found = of(&["pacemaker"], &["pacemaker", "cli-utils"]);
    assert!(matches!(&found[..], [one] if one.contains("only by the dependency")), "{found:?}");
    assert!(of(&["pacemaker", "cli-utils"], &["pacemaker", "cli-utils"]).is_empty());
    // apt does not install what is on the list: it resolves to something else.
    assert_eq!(of(&["cli-utils"], &["libc6"]).len(), 1);
}

#[test]
fn each_purpose_has_what_is_called_for_it() {
    let ip = [program("ip", Origin::Package("iproute2"), Purpose::Lab)];
    let owned = files(&[("iproute2", "/bin/ip")]);
    let machines = [
        machine(Purpose::Build, &[], &[]),
        machine(Purpose::Lab, &[], &[]),
        machine(Purpose::Test, &["iproute2"], &["iproute2"]),
    ];
    let found = problems(&ip, &set(&[]), &machines, &owned);
    assert!(matches!(&found[..], [one] if one.ends_with("for Lab")), "{found:?}");
    // What every system has needs no line.
    assert!(problems(&ip, &set(&["iproute2"]), &machines, &owned).is_empty());
}

#[test]
fn the_owner_has_the_program_where_programs_are() {
    let of = |origin: Origin, path: &str| {
        let programs = [program("awk", origin, Purpose::Build)];
        problems(&programs, &set(&["mawk"]), &[], &files(&[("mawk", path)]))
    };
    assert!(of(Origin::Alternative("mawk", "mawk"), "/usr/bin/mawk").is_empty());
    assert_eq!(of(Origin::Package("mawk"), "/usr/bin/mawk"), ["awk: mawk has no program awk"]);
    assert_eq!(of(Origin::Package("mawk"), "/usr/share/doc/awk"), ["awk: mawk has no program awk"]);
    assert_eq!(of(Origin::Package("gawk"), "/usr/bin/awk").len(), 1, "not installed");
    assert!(of(Origin::Operator, "/").is_empty());
}

#[test]
fn the_table_agrees_with_a_list_that_lacks_nothing_and_with_no_shorter_one() {
    let mut owned = Files::new();
    for (package, file) in PROGRAMS.iter().filter_map(Program::file) {
        owned.entry(package.to_owned()).or_default().push(format!("/usr/bin/{file}"));
    }
    let names = |purpose| -> Vec<&str> {
        wanted(purpose, Toolchain::Unlinked).iter().map(|package| package.name).collect()
    };
    let owners: HashSet<&str> = PROGRAMS.iter().filter_map(|program| Some(program.file()?.0)).collect();
    let listed = names(Purpose::Test);
    let system: Vec<&str> = owners.iter().copied().filter(|owner| !listed.contains(owner)).collect();
    for left_out in [None, Some("pacemaker-cli-utils"), Some("tcpdump"), Some("mount"), Some("procps")] {
        let machines: Vec<Machine> = Purpose::ALL
            .into_iter()
            .map(|purpose| {
                let list: Vec<&str> =
                    names(purpose).into_iter().filter(|name| Some(*name) != left_out).collect();
                machine(purpose, &list, &list)
            })
            .collect();
        let found = problems(PROGRAMS, &set(&system), &machines, &owned);
        assert_eq!(found.is_empty(), left_out.is_none(), "{left_out:?}: {found:?}");
        assert!(found.iter().all(|line| line.contains(left_out.unwrap_or_default())), "{found:?}");
    }
}
