//! The ends of connections and of the server, with requests that hang and without.

use std::io::Write;
use std::net::Shutdown;
use std::sync::mpsc;
use std::thread::JoinHandle;

use lisafs::server::Totals;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;

/// Has the back end hang on a request for `f`, which is called `f-hangs`.
fn stick(
    scene: &Scene,
    mut on: impl Communicator + Send + 'static,
    f: FdId,
) -> JoinHandle<Result<(), Error>> {
    let request = StatReq { fd: f };
    let stuck = thread::spawn(move || on.call(&request, &mut Reply::new()).map(|_| ()));
    scene.stage.wait_until_stuck(1);
    stuck
}

fn until(scene: &Scene, happened: impl FnMut() -> bool) {
    assert!(within(DEADLINE, happened), "{:?}", scene.server.census());
}

/// The next client, as soon as there is a place.
fn next_client(scene: &Scene) -> (Socket, FdId) {
    let mut next = None;
    until(scene, || {
        match scene.connect(ConnectionOpts::default()) {
            Ok(client) => next = Some(client),
            Err(errno) => assert_eq!(errno, Errno::EMFILE),
        }
        next.is_some()
    });
    next.unwrap()
}

/// It can have an accept wait although nothing of the host hangs.
#[test]
fn a_client_that_hangs_up_while_it_accepts_leaves_nothing() {
    fn accept(mut on: impl Communicator + Send + 'static, fd: FdId) -> JoinHandle<()> {
        thread::spawn(move || {
            on.call(&AcceptReq { fd }, &mut Reply::new()).unwrap_err();
        })
    }
    for over_a_channel in [false, true] {
        let scene = Scene::new();
        let (mut socket, root) = scene.client();
        let create = create_in(root, 0o600);
        let (sock_type, name) = (libc::SOCK_STREAM.cast_unsigned(), b"s-waits");
        let request = BindAtReq {
            create,
            sock_type,
            name,
        };
        let bound = socket.call(&request, &mut Reply::new()).unwrap();
        let fd = bound.bound_socket_fd;
        let hang_up = stream(&socket);
        let accepting = if over_a_channel {
            accept(channel(&mut socket), fd)
        } else {
            accept(socket, fd)
        };
        until(&scene, || {
            scene.events().last().is_some_and(|last| last == "accept")
        });
        hang_up.shutdown(Shutdown::Both).unwrap();
        assert!(
            scene.server.shutdown(DEADLINE),
            "over a channel: {over_a_channel}"
        );
        accepting.join().unwrap();
    }
}

#[test]
fn a_client_that_hangs_up_while_its_socket_hangs_leaves_its_place() {
    let scene = Scene::with(Server::new(1));
    let (mut socket, root) = scene.client();
    let _channel = channel(&mut socket);
    let f = one(&mut socket, root, "f-hangs");
    walk(&mut socket, root, &["a", "b"]).unwrap();
    let hang_up = stream(&socket);
    let first = stick(&scene, socket, f);
    let full = scene.connect(ConnectionOpts::default()).err();
    assert_eq!(full, Some(Errno::EMFILE));
    hang_up.shutdown(Shutdown::Both).unwrap();
    first.join().unwrap().unwrap_err();

    let (mut socket, root) = next_client(&scene);
    // Of the first there is what the host has: the file, and the directories above.
    until(&scene, || {
        let census = scene.server.census();
        (census.channels, census.ids, census.objects) == (0, 1, 2)
    });
    assert_eq!(scene.server.census().connections, 1);
    assert_eq!(scene.server.count_nodes(), 2);

    // As many may leave something behind as there are places. One more is gone, and keeps its place.
    let f = one(&mut socket, root, "f-hangs");
    let hang_up = stream(&socket);
    let second = stick(&scene, socket, f);
    scene.stage.wait_until_stuck(2);
    hang_up.shutdown(Shutdown::Both).unwrap();
    second.join().unwrap().unwrap_err();
    until(&scene, || {
        let census = scene.server.census();
        (census.connections, census.ids) == (0, 0)
    });
    scene.server.wait();
    let full = scene.connect(ConnectionOpts::default()).err();
    assert_eq!(full, Some(Errno::EMFILE));

    scene.stage.release();
    let (mut socket, root) = next_client(&scene);
    until(&scene, || {
        let census = scene.server.census();
        (census.ids, census.objects) == (1, 1)
    });
    assert_eq!(scene.server.count_nodes(), 1);
    one(&mut socket, root, "served");
    drop(socket);
    assert!(scene.server.shutdown(DEADLINE));
}

/// A quarter of all descriptors may be what such clients have beside, so here it is one of four.
#[test]
fn what_was_set_aside_for_a_client_that_leaves_a_thread_behind_is_for_others() {
    let totals = Totals {
        max_fds: 4 * ConnectionOpts::default().sure_fds(),
        ..Totals::default()
    };
    let scene = Scene::with(Server::new(16).with_totals(totals));
    let is_full = || {
        let refused = scene.connect(ConnectionOpts::default()).err();
        refused == Some(Errno::EMFILE)
    };
    let leave_behind = |(mut socket, root): (Socket, FdId), stuck| {
        let f = one(&mut socket, root, "f-hangs");
        let hang_up = stream(&socket);
        let request = stick(&scene, socket, f);
        scene.stage.wait_until_stuck(stuck);
        hang_up.shutdown(Shutdown::Both).unwrap();
        request.join().unwrap().unwrap_err();
    };
    let mut clients: Vec<_> = (0..4).map(|_| scene.client()).collect();
    assert!(is_full());
    leave_behind(clients.remove(0), 1);
    clients.push(next_client(&scene));
    assert!(is_full());

    // For one more there is no room beside: it keeps what it has.
    leave_behind(clients.remove(0), 2);
    until(&scene, || {
        let census = scene.server.census();
        (census.connections, census.ids) == (3, 3)
    });
    assert!(is_full());

    scene.stage.release();
    clients.push(next_client(&scene));
    // It is there once, not twice.
    assert!(is_full());
    clients.pop();
    next_client(&scene);
}

#[test]
fn a_client_whose_files_hang_when_they_are_closed_leaves_its_place() {
    let scene = Scene::with(Server::new(1));
    let (mut socket, root) = scene.client();
    one(&mut socket, root, "f-hangs-at-its-end");
    drop(socket);
    scene.stage.wait_until_stuck(1);
    let (mut socket, root) = next_client(&scene);
    one(&mut socket, root, "served");
    scene.stage.release();
    drop(socket);
    assert!(scene.server.shutdown(DEADLINE));
    assert_eq!(scene.server.count_nodes(), 1);
}

#[test]
fn channels_that_hang_keep_places_from_others_when_there_are_too_many() {
    let scene = Scene::with(Server::new(1));
    let mut stuck = Vec::new();
    for count in 1..=2 {
        let (mut socket, root) = scene.client();
        let hanging = channel(&mut socket);
        let f = one(&mut socket, root, "f-hangs");
        stuck.push(stick(&scene, hanging, f));
        scene.stage.wait_until_stuck(count);
        drop(socket);
        scene.server.wait();
    }
    let full = scene.connect(ConnectionOpts::default()).err();
    assert_eq!(full, Some(Errno::EMFILE));
    scene.stage.release();
    next_client(&scene);
    for stuck in stuck {
        stuck.join().unwrap().unwrap_err();
    }
}

#[test]
fn shutdown_waits_for_what_a_client_has_left_in_the_host() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let f = one(&mut socket, root, "f-hangs");
    let hang_up = stream(&socket);
    let stuck = stick(&scene, socket, f);
    hang_up.shutdown(Shutdown::Both).unwrap();
    scene.server.wait();
    assert!(!scene.server.shutdown(Duration::from_millis(10)));
    scene.stage.release();
    assert!(scene.server.shutdown(DEADLINE));
    assert_eq!(scene.server.count_nodes(), 1);
    stuck.join().unwrap().unwrap_err();
}

#[test]
fn a_client_that_will_send_no_more_is_answered() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let f = one(&mut socket, root, "f-hangs");
    let half = stream(&socket);
    let running = stick(&scene, socket, f);
    half.shutdown(Shutdown::Write).unwrap();
    // Longer than one that has hung up is given.
    thread::sleep(Duration::from_secs(1));
    assert_eq!(scene.server.census().connections, 1);
    scene.stage.release();
    running.join().unwrap().unwrap();
    scene.server.wait();
}

#[test]
fn a_request_that_hangs_holds_up_neither_its_connection_nor_a_rename_for_ever() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let hanging = channel(&mut socket);
    let f = one(&mut socket, root, "f-hangs");
    let stuck = stick(&scene, hanging, f);

    let started = Instant::now();
    assert_eq!(
        errno(rename(&mut socket, (root, "a"), (root, "b"))),
        Errno::EBUSY
    );
    one(&mut socket, root, "still-served");
    drop(socket);
    scene.server.wait();
    assert!(started.elapsed() < DEADLINE);
    assert!(
        stuck.join().unwrap().is_err(),
        "the channel of an ended connection is shut down"
    );

    // Whoever still hangs gives everything back when the host answers at last.
    scene.stage.release();
    until(&scene, || scene.server.count_nodes() <= 1);
}

#[test]
fn a_request_that_hangs_on_a_file_does_not_hold_up_its_directory() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let (hanging, mut unlinking) = (channel(&mut socket), channel(&mut socket));
    let f = one(&mut socket, root, "f-hangs");
    let stuck = stick(&scene, hanging, f);
    let (done, finished) = mpsc::channel();
    thread::spawn(move || {
        let _ = done.send(errno(unlink(&mut unlinking, root, "f-hangs")));
    });
    assert_eq!(finished.recv_timeout(DEADLINE), Ok(Errno::EBUSY));
    one(&mut socket, root, "still-served");
    scene.stage.release();
    stuck.join().unwrap().unwrap();
    unlink(&mut socket, root, "f-hangs").unwrap();
}

#[test]
fn shutdown_answers_what_is_running_and_accepts_no_more() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let f = one(&mut socket, root, "f-hangs");
    let running = stick(&scene, socket, f);
    assert!(
        !scene.server.shutdown(Duration::from_millis(10)),
        "a request is running"
    );
    scene.stage.release();
    assert!(scene.server.shutdown(DEADLINE));
    running
        .join()
        .unwrap()
        .expect("the request that was running is answered");
    assert_eq!(
        scene.connect(ConnectionOpts::default()).err(),
        Some(Errno::ECONNRESET)
    );
}

#[test]
fn shutdown_answers_what_is_running_on_a_channel() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let channel = channel(&mut socket);
    let f = one(&mut socket, root, "f-hangs");
    let running = stick(&scene, channel, f);
    assert!(!scene.server.shutdown(Duration::from_millis(10)));
    scene.stage.release();
    running
        .join()
        .unwrap()
        .expect("the request that was running is answered");
    assert!(scene.server.shutdown(DEADLINE));
}

#[test]
fn a_socket_thread_that_panics_takes_the_connection_along() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let mut channel = channel(&mut socket);
    let f = one(&mut socket, root, "f-panics");
    socket
        .call(&OpenAtReq { fd: f, flags: 0 }, &mut Reply::new())
        .unwrap_err();
    scene.server.wait();
    walk(&mut channel, root, &["a"]).unwrap_err();
    assert_eq!(scene.server.count_nodes(), 1);
}

#[test]
fn a_server_that_shuts_down_starts_no_request() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let f = one(&mut socket, root, "f-hangs");
    let mut channel = channel(&mut socket);
    let running = stick(&scene, socket, f);
    assert!(!scene.server.shutdown(Duration::ZERO));
    let refused = walk(&mut channel, root, &["a"]);
    assert_eq!(refused, Err(Errno::ECONNRESET));
    scene.stage.release();
    assert!(scene.server.shutdown(Duration::MAX), "no deadline at all");
    running.join().unwrap().unwrap();
}

#[test]
fn what_a_stuck_request_makes_after_the_end_is_dropped_at_once() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let (mut walking, looking) = (channel(&mut socket), channel(&mut socket));
    let f = one(&mut socket, root, "f-hangs");
    // One hangs for good, so that the connection's memory stays; the other makes an id meanwhile.
    let stuck = stick(&scene, looking, f);
    let late = thread::spawn(move || walk(&mut walking, root, &["hangs", "below"]));
    scene.stage.wait_until_stuck(2);
    drop(socket);
    scene.server.wait();
    scene.stage.release_walks();
    until(&scene, || scene.server.count_nodes() <= 2);
    assert!(late.join().unwrap().is_err());
    scene.stage.release();
    stuck.join().unwrap().unwrap_err();
}

#[test]
fn a_client_that_takes_no_answers_can_be_cut_off() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let f = one(&mut socket, root, "f");
    let open = socket
        .call(&OpenAtReq { fd: f, flags: 0 }, &mut Reply::new())
        .unwrap()
        .open_fd;
    // Asks for more than a socket holds and never reads it.
    let mut request = vec![24, 0, 0, 0, 12, 0, 0, 0];
    let read = PReadReq {
        offset: 0,
        fd: open,
        count: DEFAULT_MAX_MESSAGE_SIZE - 8,
    };
    read.encode(&mut request).unwrap();
    let stream = socket.as_fd().try_clone_to_owned().unwrap();
    let mut stream = UnixStream::from(stream);
    stream.write_all(&request).unwrap();
    let mut begun = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
    poll(&mut begun, PollTimeout::NONE).unwrap();
    assert!(!scene.server.shutdown(Duration::from_millis(300)));
    scene.server.abort();
    scene.server.wait();
    drop(socket);
}
