use std::os::unix::ffi::OsStringExt;

use proptest::prelude::*;

use super::*;

fn words(text: &str) -> Vec<OsString> {
    text.split_whitespace().map(OsString::from).collect()
}

fn parsed(text: &str) -> Invocation {
    parse(words(text)).unwrap()
}

fn refused(text: &str) -> String {
    parse(words(text)).unwrap_err().to_string()
}

/// As captured from Debian's runsc: `do` with some flags.
const OF_2022: &str = "runsc-gofer --root=/tmp/runsc-do3805449155 --debug=true --debug-log=/d/ \
    --overlay2=root:memory --host-uds=all --network=none --ignore-cgroups=true --debug-log-fd=3 \
    gofer --bundle /tmp/runsc-do3805449155 --spec-fd=4 --mounts-fd=5 --io-fds=6";

/// As captured from today's.
const TODAY: &str = "runsc-gofer --debug-log=/d/ --network=none --ignore-cgroups=true \
    --root=/tmp/runsc-do3605127834 --overlay2=all:memory --host-uds=all --platform=systrap \
    --directfs=false --debug=true --debug-log-fd=3 gofer --bundle /tmp/runsc-do3605127834 \
    --gofer-mount-confs=lisafs:memory --spec-fd=4 --mounts-fd=5 --rpc-fd=6 --pin-ring-fd=7 \
    --sync-sentry-exit-fd=8 --io-fds=9 --sync-chroot-fd=10 runsc-289970";

/// As short as it gets.
const SHORT: &str = "--bundle /b --spec-fd=4 --mounts-fd=5";

fn then(gofer_flags: &str) -> String {
    format!("runsc-gofer gofer {SHORT} {gofer_flags}")
}

fn with(global_flags: &str) -> String {
    format!("runsc-gofer {global_flags} gofer {SHORT} --io-fds=6")
}

#[test]
fn the_dialect_of_2022_is_understood() {
    let expected = Invocation {
        dialect: Dialect::Of2022,
        bundle: PathBuf::from("/tmp/runsc-do3805449155"),
        container: None,
        fds: Fds {
            debug_log: Some(3),
            spec: 4,
            mounts: 5,
            io: vec![6],
            ..Fds::default()
        },
        uid: 0,
        gid: 0,
        mounts: Mounts::All(Overlay::Root),
        host_uds: HostUds::All,
        host_fifo: HostFifo::None,
        character_devices: CharacterDevices::Open,
        directfs: false,
        fd_limit: None,
        unsafe_nonroot: false,
        debug: true,
        log_format: Format::Text,
    };
    assert_eq!(parsed(OF_2022), expected);
}

#[test]
fn the_dialect_of_today_is_understood() {
    let expected = Invocation {
        dialect: Dialect::Today,
        bundle: PathBuf::from("/tmp/runsc-do3605127834"),
        container: Some("runsc-289970".to_owned()),
        fds: Fds {
            log: None,
            debug_log: Some(3),
            spec: 4,
            mounts: 5,
            io: vec![9],
            dev_io: None,
            rpc: Some(6),
            pin_ring: Some(7),
            sync_userns: None,
            sync_chroot: Some(10),
            sentry_exit: Some(8),
        },
        uid: 0,
        gid: 0,
        mounts: Mounts::Listed(mount_confs::parse("lisafs:memory").unwrap()),
        host_uds: HostUds::All,
        host_fifo: HostFifo::None,
        character_devices: CharacterDevices::None,
        directfs: false,
        fd_limit: None,
        unsafe_nonroot: false,
        debug: true,
        log_format: Format::Text,
    };
    assert_eq!(parsed(TODAY), expected);
}

#[test]
fn mounts_are_served_as_listed() {
    let confs = "lisafs:self:size=1m,none:memory,erofs:none,lisafs:none";
    let invocation = parsed(&then(&format!(
        "--gofer-mount-confs={confs} --io-fds=6 --io-fds=9"
    )));
    let expected = mount_confs::parse(confs).unwrap();
    assert_eq!(invocation.mounts, Mounts::Listed(expected));
    assert_eq!(invocation.fds.io, [6, 9]);
    assert!(invocation.directfs);
}

#[test]
fn lists_can_be_joined_or_repeated() {
    assert_eq!(parsed(&then("--io-fds=6,7 --io-fds=8")).fds.io, [6, 7, 8]);
    assert_eq!(parsed(&then("-io-fds 6,7")).fds.io, [6, 7]);
}

#[test]
fn one_dash_is_as_good_as_two_and_a_value_may_be_the_next_word() {
    let text = "x -debug -host-uds open --host-fifo=open gofer -bundle=/b -spec-fd 4 --mounts-fd 5 \
                -io-fds=6 -- id";
    let invocation = parsed(text);
    assert!(invocation.debug);
    assert_eq!(invocation.host_uds, HostUds::Open);
    assert_eq!(invocation.host_fifo, HostFifo::Open);
    assert_eq!(invocation.fds.spec, 4);
    assert_eq!(invocation.container, Some("id".to_owned()));
}

#[test]
fn policies_have_older_names_and_more_values() {
    let uds = |flags: &str| parsed(&with(flags)).host_uds;
    assert_eq!(uds("--fsgofer-host-uds=true"), HostUds::Open);
    assert_eq!(uds("--fsgofer-host-uds --host-uds=create"), HostUds::All);
    assert_eq!(uds("--host-uds=all --host-uds=none"), HostUds::None);
    let devices = |policy: &str| {
        let flag = format!("--character-device-policy={policy}");
        parsed(&with(&flag)).character_devices
    };
    assert_eq!(devices("emulated-only"), CharacterDevices::None);
    assert_eq!(devices("prefer-emulated"), CharacterDevices::Open);
    assert_eq!(devices("passthrough"), CharacterDevices::Open);
    let mounts = |flags: &str| parsed(&with(flags)).mounts;
    assert_eq!(mounts("--overlay2=none"), Mounts::All(Overlay::None));
    assert_eq!(mounts("--overlay2=all:dir=/x"), Mounts::All(Overlay::All));
    assert_eq!(mounts("--overlay"), Mounts::All(Overlay::All));
    assert_eq!(parsed(&with("--fdlimit=-1")).fd_limit, None);
    assert_eq!(parsed(&with("--fdlimit=100")).fd_limit, Some(100));
}

#[test]
fn debugging_can_be_for_some_commands() {
    let debug = |flags: &str| parsed(&with(flags)).debug;
    assert!(debug("--debug"));
    assert!(!debug("--debug=false"));
    assert!(debug("--debug --debug-command=boot,gofer"));
    assert!(!debug("--debug --debug-command=boot"));
    assert!(!debug("--debug --debug-command=!gofer"));
    assert!(debug("--debug --debug-command=!boot"));
}

#[test]
fn what_is_malformed_is_named() {
    let cases = [
        ("", "by hand"),
        ("--debug gofer", "by hand"),
        ("runsc-gofer boot --bundle /b", "`boot`"),
        ("runsc-gofer --debug", "`` and not `gofer`"),
        (&then(""), "--io-fds is missing"),
        ("x gofer --bundle /b --io-fds=6 --mounts-fd=5", "--spec-fd"),
        ("x gofer --spec-fd=4 --io-fds=6 --mounts-fd=5", "--bundle"),
        ("x gofer --bundle", "--bundle has no value"),
        (&then("--io-fds=6,x"), "--io-fds=6,x: "),
        (&then("--io-fds=6,2"), "--io-fds=6,2: "),
        (&then("--io-fds=6,-1"), "--io-fds=6,-1: "),
        (&then("--io-fds=6 --rpc-fd=1"), "--rpc-fd=1: "),
        (&then("--io-fds=5"), "descriptor 5 is named twice"),
        (
            &then("--io-fds=6 --gofer-mount-confs=gcfs:none"),
            "gcfs:none",
        ),
        (&with("--debug=maybe"), "--debug=maybe: "),
        (&with("--host-uds=some"), "--host-uds=some: `some`"),
        (&with("--fdlimit=many"), "--fdlimit=many: "),
        (&with("--character-device-policy=x"), "emulated-only"),
        (&with("--debug-log-format=xml"), "json-k8s"),
    ];
    for (text, part) in cases {
        let why = refused(text);
        assert!(why.contains(part), "{text}: {why}");
    }
}

#[test]
fn a_descriptor_that_is_not_donated_may_be_negative() {
    assert_eq!(parsed(&then("--io-fds=6 --dev-io-fd=-1")).fds.dev_io, None);
}

#[test]
fn bytes_that_are_no_text_may_be_in_paths_only() {
    let mut argv = words(OF_2022);
    let odd = OsString::from_vec(b"/b\xff".to_vec());
    let bundle = argv.iter().position(|word| word == "--bundle").unwrap() + 1;
    argv[bundle].clone_from(&odd);
    assert_eq!(parse(argv.clone()).unwrap().bundle, PathBuf::from(odd));
    argv.push(OsString::from_vec(b"\xff".to_vec()));
    parse(argv.clone()).unwrap();
    argv.insert(bundle + 1, OsString::from_vec(b"--uid=\xff".to_vec()));
    assert!(parse(argv).unwrap_err().to_string().contains("UTF-8"));
}

#[test]
fn the_log_is_found_whatever_else_is_wrong() {
    assert_eq!(log_fd(&words("x --root=/r --log-fd=3 boot")), Some(3));
    assert_eq!(log_fd(&words("x -log-fd=3")), Some(3));
    assert_eq!(log_fd(&words("x --log-fd=x")), None);
    assert_eq!(log_fd(&words(OF_2022)), None);
}

#[test]
fn the_log_is_not_somebody_elses_descriptor() {
    // The last one holds, here as there.
    let twice = with("--log-fd=3 --log-fd=7");
    assert_eq!(log_fd(&words(&twice)), Some(7));
    assert_eq!(parsed(&twice).fds.log, Some(7));
    let value = with("--overlay2 --log-fd=7");
    assert_eq!(parsed(&value).fds.log, None);
    for line in [
        "x --log-fd=1 gofer",
        "x --log-fd=3 --log-fd=-1 gofer",
        "x gofer --log-fd=3",
        "x gofer --bundle log-fd=3",
        "x -- --log-fd=3",
        "x ---log-fd=3 gofer",
        // What a flag has in the place of its value.
        "x --overlay2 --log-fd=3 gofer",
        "x --log-fd=3 --overlay2 --log-fd=7 gofer",
    ] {
        assert_eq!(log_fd(&words(line)), None, "{line}");
    }
}

proptest! {
    #[test]
    fn global_flags_can_come_in_any_order(
        flags in Just(words(TODAY).split_off(1)).prop_map(|mut flags| {
            let command = flags.iter().position(|word| word == "gofer").unwrap();
            flags.truncate(command);
            flags
        }).prop_shuffle(),
    ) {
        let all = words(TODAY);
        let mut shuffled = vec![all[0].clone()];
        shuffled.extend(flags.iter().cloned());
        shuffled.extend(all[1 + flags.len()..].iter().cloned());
        prop_assert_eq!(parse(shuffled).unwrap(), parse(all).unwrap());
    }

    #[test]
    fn flags_that_are_not_known_change_nothing(name in "x-[a-z-]{0,9}", value in "(=.*)?") {
        let mut argv = words(TODAY);
        let flag = OsString::from(format!("--{name}{value}"));
        argv.insert(1, flag.clone());
        let gofer = argv.iter().position(|word| word == "gofer").unwrap();
        argv.insert(gofer + 1, flag);
        prop_assert_eq!(parse(argv).unwrap(), parsed(TODAY));
    }

    #[test]
    fn nothing_panics(argv in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..9)) {
        let argv: Vec<_> = argv.into_iter().map(OsString::from_vec).collect();
        log_fd(&argv);
        let _ = parse(argv);
    }
}
