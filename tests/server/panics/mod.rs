//! Panics in every function of a back end, in every message: what the client is told, and that
//! nothing is left locked or counted.

mod places;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;

use lisafs::server::Census;

use self::places::{
    ANSWERED, CLOSES, Ids, Message, Place, STARTS, THREAD, UNANSWERED, walk_stat_of,
};
use super::brittle::{BrittleFs, Trap};
use super::*;

/// What a server holds, and how many nodes there are.
type Held = (Census, usize);

struct Site {
    server: Server<BrittleFs>,
    trap: Arc<Trap>,
    walk_stat: bool,
}

impl Site {
    fn new(walk_stat: bool) -> Site {
        Site {
            server: Server::new(2),
            trap: Arc::default(),
            walk_stat,
        }
    }

    fn start(&self) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let backend = BrittleFs {
            trap: Arc::clone(&self.trap),
            walk_stat: self.walk_stat,
        };
        let opts = ConnectionOpts::default();
        self.server.start_connection(theirs, backend, opts).unwrap();
        ours
    }

    fn client(&self) -> Client {
        let mut socket = Socket::from(self.start());
        let root = socket.mount().unwrap().root.control_fd;
        let channel = channel(&mut socket);
        Client {
            socket,
            channel,
            root,
        }
    }

    fn held(&self) -> Held {
        (self.server.census(), self.server.count_nodes())
    }

    /// Waits for what is being released by a thread that is ending.
    fn until_held(&self, wanted: Held, place: &str) {
        let is_held = || self.held() == wanted;
        assert!(within(DEADLINE, is_held), "{place}: {:?}", self.held());
    }
}

struct Client {
    socket: Socket,
    channel: Channel,
    root: FdId,
}

/// Runs what must not hang. A lock that is left is never given back, so how long does not matter.
fn bounded(what: &'static str, run: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let thread = thread::spawn(move || {
        run();
        done.send(()).unwrap();
    });
    if ended.recv_timeout(DEADLINE) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("{what}: something hangs");
    }
    if thread.join().is_err() {
        panic!("{what}");
    }
}

/// Asks for everything that a lock could be left on: the file, its directory, and the tree.
fn use_all(on: &mut impl Communicator, root: FdId) {
    let ids = walk(on, root, &["d", "f"]).unwrap();
    let directory = ids[0];
    rename(on, (directory, "f"), (directory, "f-moved")).unwrap();
    unlink(on, directory, "f-moved").unwrap();
    rename(on, (root, "d"), (root, "e")).unwrap();
    unlink(on, root, "e").unwrap();
    close(on, &ids);
}

/// The reply, if there is one.
type Answered = Option<Result<(), Errno>>;

fn ask(on: &mut impl Communicator, (mid, body): &Message) -> Answered {
    let mut reply = Reply::new();
    match on.call_raw(*mid, body, &mut reply).ok()? {
        Mid::ERROR => {
            let raw = ErrorResp::from_bytes(reply.body()).unwrap().errno;
            Some(Err(Errno::new(raw).unwrap()))
        }
        _ => Some(Ok(())),
    }
}

/// Has `place` panic in a request, once over either communicator, and then uses the other one, and
/// another connection, after `check` has seen the reply.
fn panic_at(
    (place, request): Place,
    walk_stat: bool,
    check: fn(&Site, place: &str, reply: Answered, before: Held),
) {
    for over_channel in [false, true] {
        bounded(place, move || {
            let site = Site::new(walk_stat);
            let mut client = site.client();
            let mut neighbour = site.client();
            // A channel lets go of what it gives away before it answers, and the socket only then.
            let ids = Ids::new(&mut client.channel, client.root);
            let before = site.held();
            let request = request(&ids);
            site.trap.arm(place);
            let reply = match over_channel {
                true => ask(&mut client.channel, &request),
                false => ask(&mut client.socket, &request),
            };
            assert!(site.trap.is_sprung(), "{place} is not reached");
            let ended = reply.is_none();
            check(&site, place, reply, before);
            use_all(&mut neighbour.channel, neighbour.root);
            use_all(&mut neighbour.socket, neighbour.root);
            match (ended, over_channel) {
                (_, true) => use_all(&mut client.socket, client.root),
                (false, false) => use_all(&mut client.channel, client.root),
                (true, false) => {}
            }
            drop((client, neighbour));
            site.server.wait();
            assert_eq!(site.server.count_nodes(), 1, "{place}");
            // All places are free again.
            drop([site.client(), site.client()]);
        });
    }
}

#[test]
fn every_panic_in_a_request_is_answered_and_leaves_nothing_behind() {
    let answered = |site: &Site, place: &str, reply, before| {
        assert_eq!(reply, Some(Err(Errno::EREMOTEIO)), "{place}");
        assert_eq!(site.held(), before, "{place}");
    };
    for place in ANSWERED {
        panic_at(*place, false, answered);
    }
    let walk_stat: Place = ("ControlFdImpl::walk_stat", |ids| {
        walk_stat_of(ids.root, &["d"])
    });
    panic_at(walk_stat, true, answered);
}

#[test]
fn a_panic_behind_the_handlers_ends_what_the_request_came_over_and_nothing_else() {
    for place in UNANSWERED {
        panic_at(*place, false, |site, place, reply, before| {
            assert_eq!(reply, None, "{place}");
            // A channel alone, or the whole connection, which leaves those of the neighbour.
            let deadline = Instant::now() + DEADLINE;
            loop {
                let held = site.server.census();
                let channel = Census {
                    channels: 1,
                    ..before.0
                };
                let connection = (held.connections, held.channels, held.ids) == (1, 1, 1);
                if held == channel || connection {
                    break;
                }
                assert!(Instant::now() < deadline, "{place}: {held:?}");
                thread::sleep(Duration::from_millis(1));
            }
        });
    }
}

#[test]
fn a_panic_while_closing_keeps_nothing_open() {
    for place in CLOSES {
        panic_at(*place, false, |site, place, reply, (before, _)| {
            assert_eq!(reply, Some(Err(Errno::EREMOTEIO)), "{place}");
            assert_eq!(site.server.census().ids, before.ids - 2, "{place}");
            assert_eq!(site.server.census().objects, before.objects - 2, "{place}");
        });
    }
}

#[test]
fn a_panic_at_the_end_of_a_connection_keeps_no_place_and_no_node() {
    for (place, _) in CLOSES {
        bounded(place, move || {
            let site = Site::new(false);
            let mut neighbour = site.client();
            let before = site.held();
            let mut client = site.client();
            Ids::new(&mut client.channel, client.root);
            site.trap.arm(place);
            drop(client);
            site.until_held(before, place);
            assert!(site.trap.is_sprung(), "{place} is not reached");
            use_all(&mut neighbour.channel, neighbour.root);
            drop(site.client());
        });
    }
}

#[test]
fn a_connection_whose_back_end_panics_at_its_start_takes_no_place() {
    for place in STARTS {
        bounded(place, move || {
            let site = Site::new(false);
            let mut neighbour = site.client();
            let before = site.held();
            site.trap.arm(place);
            catch_unwind(AssertUnwindSafe(|| site.start())).unwrap_err();
            assert!(site.trap.is_sprung(), "{place} is not reached");
            assert_eq!(site.held(), before, "{place}");
            use_all(&mut neighbour.channel, neighbour.root);
            site.client();
        });
    }
}

#[test]
fn a_thread_whose_set_up_panics_is_gone() {
    bounded(THREAD, || {
        let site = Site::new(false);
        let mut neighbour = site.client();
        let before = site.held();
        site.trap.arm(THREAD);
        let opened = neighbour
            .socket
            .open_channel(WaitPolicy::Park, &Spinners::new());
        opened.unwrap_err();
        assert!(site.trap.is_sprung());
        site.until_held(before, THREAD);
        site.trap.arm(THREAD);
        Socket::from(site.start()).mount().unwrap_err();
        site.until_held(before, THREAD);
        use_all(&mut neighbour.channel, neighbour.root);
        site.client();
    });
}

#[test]
fn every_function_of_a_back_end_and_every_message_is_among_them() {
    let sources = [
        include_str!("../../../src/server/backend/mod.rs"),
        include_str!("../../../src/server/backend/control_fd.rs"),
        include_str!("../../../src/server/backend/open_fd.rs"),
    ];
    let places: Vec<&str> = [ANSWERED, UNANSWERED]
        .concat()
        .iter()
        .map(|(place, _)| *place)
        .chain(STARTS)
        .chain([THREAD, "ControlFdImpl::walk_stat"])
        .collect();
    let mut declared = 0;
    for line in sources
        .iter()
        .flat_map(|source| source.lines())
        .scan("", |within, line| {
            if let Some(name) = line.strip_prefix("pub trait ") {
                *within = name.split(':').next().unwrap();
            }
            Some((*within, line))
        })
    {
        let (within, line) = line;
        if let Some(function) = line.strip_prefix("    fn ") {
            let name = function.split(['(', '<']).next().unwrap();
            let place = format!("{within}::{name}");
            assert!(
                places.contains(&place.as_str()),
                "nothing panics in {place}"
            );
            declared += 1;
        }
    }
    assert!(declared > 40, "{declared} functions");

    let site = Site::new(false);
    let mut client = site.client();
    let ids = Ids::new(&mut client.socket, client.root);
    let requests = [ANSWERED, UNANSWERED, CLOSES].concat();
    let mids: Vec<Mid> = requests
        .iter()
        .map(|(_, request)| request(&ids).0)
        .collect();
    for message in messages() {
        // Of a Channel, it is the thread that has a place.
        let asked = mids.contains(&message.mid) || message.mid == Mid::CHANNEL;
        assert!(asked, "{} never panics", message.name);
    }
}

#[test]
fn a_panic_of_one_that_is_told_of_a_rename_keeps_it_from_nobody() {
    let place = "ControlFdImpl::renamed";
    bounded(place, move || {
        let site = Site::new(false);
        let Client {
            mut socket, root, ..
        } = site.client();
        let (a, b) = (one(&mut socket, root, "a"), one(&mut socket, root, "b"));
        for directory in [a, b] {
            one(&mut socket, directory, "f");
        }
        let exchange = RenameAt2Req {
            old_dir: root,
            new_dir: root,
            old_name: b"a",
            new_name: b"b",
            flags: 2,
        };
        site.trap.arm(place);
        let answer = socket.call(&exchange, &mut Reply::new());
        assert_eq!(errno(answer), Errno::EREMOTEIO);
        assert_eq!(site.trap.calls(), 4, "two directories and a file in each");
        // The host has exchanged them, and so has the tree.
        unlink(&mut socket, root, "a").unwrap();
        assert_eq!(walk(&mut socket, b, &["f"]).unwrap(), []);
        assert_eq!(walk(&mut socket, a, &["f"]).unwrap().len(), 1);
        unlink(&mut socket, root, "b").unwrap();
        assert_eq!(walk(&mut socket, a, &["f"]).unwrap(), []);
    });
}
