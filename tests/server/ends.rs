//! The ends of connections and of the server, with requests that hang and without.

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::thread::JoinHandle;

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
    let deadline = Instant::now() + DEADLINE;
    while scene.server.count_nodes() > 1 {
        assert!(Instant::now() < deadline, "{:?}", scene.server.census());
        thread::yield_now();
    }
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
    let deadline = Instant::now() + DEADLINE;
    while scene.server.count_nodes() > 2 {
        assert!(Instant::now() < deadline, "{:?}", scene.server.census());
        thread::yield_now();
    }
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
