//! What all connections hold together, and what each is sure of.

use lisafs::Errno;
use lisafs::server::{ConnectionOpts, Refusal, Server, Totals};

use crate::phantom::PhantomFs;
use crate::{Scene, close, one, walk};

/// What a connection is sure of.
const SURE: usize = 1024;

/// What is set aside for a connection with one channel.
const OF_CONNECTION: usize = 11 + 32;

fn scene(totals: Totals) -> Scene {
    Scene::with(Server::new(16).with_totals(totals))
}

#[test]
fn ids_that_one_client_takes_are_not_those_of_another() {
    let scene = scene(Totals {
        // Three quarters of which are 3 more than two connections are sure of.
        max_ids: 2734,
        ..Totals::default()
    });
    let (mut greedy, greedy_root) = scene.connect(ConnectionOpts::default()).unwrap();
    let (mut modest, modest_root) = scene.connect(ConnectionOpts::default()).unwrap();
    let mut held: Vec<_> = (1..SURE + 2)
        .map(|number| one(&mut greedy, greedy_root, &format!("f{number}")))
        .collect();
    held.push(one(&mut greedy, greedy_root, "f"));
    assert_eq!(walk(&mut greedy, greedy_root, &["g"]), Err(Errno::EMFILE));
    for number in 1..SURE {
        one(&mut modest, modest_root, &format!("f{number}"));
    }
    assert_eq!(walk(&mut modest, modest_root, &["g"]), Err(Errno::EMFILE));
    // What the one gives back, the other can have.
    close(&mut greedy, &held[..2]);
    one(&mut modest, modest_root, "g");
    one(&mut modest, modest_root, "h");
    assert_eq!(walk(&mut modest, modest_root, &["i"]), Err(Errno::EMFILE));
    // A third could not be sure of anything.
    let refused = scene.connect(ConnectionOpts::default()).map(drop);
    assert_eq!(refused, Err(Errno::EMFILE));
}

#[test]
fn descriptors_that_one_client_takes_are_not_those_of_another() {
    let opts = ConnectionOpts {
        max_channels: 1,
        ..ConnectionOpts::default()
    };
    for (more, expected) in [(0, Ok(())), (1, Ok(())), (2, Err(Errno::EMFILE))] {
        let scene = scene(Totals {
            // Three quarters of which are one more than two connections are sure of.
            max_fds: 116,
            ..Totals::default()
        });
        let (mut greedy, root) = scene.connect(opts.clone()).unwrap();
        let (mut modest, modest_root) = scene.connect(opts.clone()).unwrap();
        // This back end does not count, so that each object is one; the root is, too.
        for number in 1..31 + more {
            one(&mut greedy, root, &format!("f{number}"));
        }
        assert_eq!(walk(&mut greedy, root, &["last"]).map(drop), expected);
        for number in 1..32 {
            one(&mut modest, modest_root, &format!("f{number}"));
        }
        // It can have one more if the other has left it.
        let left = walk(&mut modest, modest_root, &["last"]).map(drop);
        assert_eq!(left.is_ok(), more == 0, "{left:?}");
    }
}

#[test]
fn connections_are_refused_when_nothing_can_be_set_aside() {
    let opts = ConnectionOpts {
        max_channels: 1,
        ..ConnectionOpts::default()
    };
    for (max_fds, expected) in [(-1, 1), (0, 2), (1, 2)] {
        let scene = scene(Totals {
            max_fds: (2 * OF_CONNECTION).checked_add_signed(max_fds).unwrap(),
            ..Totals::default()
        });
        let mut connected = Vec::new();
        let refused = loop {
            match scene.connect(opts.clone()) {
                Ok(client) => connected.push(client),
                Err(why) => break why,
            }
        };
        assert_eq!((connected.len(), refused), (expected, Errno::EMFILE));
        // Whoever goes makes room.
        connected.pop();
        let is_room = || scene.connect(opts.clone()).is_ok();
        assert!(lisafs_patience::within(crate::DEADLINE, is_room));
    }
}

/// One below what is set aside for two connections, as much, and one more.
#[test]
fn who_is_refused_is_told_of_what_there_is_too_little() {
    let opts = ConnectionOpts {
        max_channels: 1,
        ..ConnectionOpts::default()
    };
    assert_eq!((opts.sure_fds(), opts.sure_ids()), (OF_CONNECTION, SURE));
    for (more, second) in [(-1, false), (0, true), (1, true)] {
        let of_two = |sure: usize| (2 * sure).checked_add_signed(more).unwrap();
        let all = Totals::default();
        let few_fds = Totals {
            max_fds: of_two(OF_CONNECTION),
            ..all
        };
        let few_ids = Totals {
            max_ids: of_two(SURE),
            ..all
        };
        for (totals, max_connections, what) in [
            (few_fds, 3, Refusal::Descriptors),
            (few_ids, 3, Refusal::Ids),
            (
                all,
                2_usize.saturating_add_signed(more),
                Refusal::Connections,
            ),
        ] {
            let server = Server::new(max_connections).with_totals(totals);
            let connect = || {
                let backend = PhantomFs::on(&std::sync::Arc::default());
                server.connect_directly(backend, opts.clone())
            };
            let first = connect().unwrap();
            let next = connect();
            assert_eq!(next.is_ok(), second, "{what:?}: {next:?}");
            let third = more == 1 && what == Refusal::Connections;
            let last = connect();
            assert_eq!(last.as_ref().err(), (!third).then_some(&what), "{more}");
            assert_eq!(what.errno(), Errno::EMFILE);
            // Nothing is lost to those that were refused.
            drop((first, next, last));
            connect().unwrap();
            assert_eq!(server.census().connections, 0);
        }
    }
}
