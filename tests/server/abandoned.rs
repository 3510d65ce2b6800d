//! What clients leave in their sockets, and hold up with it whoever closes those.

use super::lingering::{Lingering, beside};
use super::*;

/// The server's end of a socket in which `lingering` was left.
fn abandoned(lingering: &mut Lingering) -> UnixStream {
    let (client, server) = UnixStream::pair().unwrap();
    lingering.leave_in(client).unwrap();
    server
}

fn start(scene: &Scene, stream: UnixStream) -> Result<(), Errno> {
    let backend = PhantomFs::on(&scene.stage);
    let opts = ConnectionOpts::default();
    Ok(scene.server.start_connection(stream, backend, opts)?)
}

/// Waits for a place, and gives it back.
fn visit(scene: &Scene) {
    let is_served = || match scene.connect(ConnectionOpts::default()) {
        Ok(_) => true,
        Err(errno) => {
            assert_eq!(errno, Errno::EMFILE);
            false
        }
    };
    assert!(within(DEADLINE, is_served), "{:?}", scene.server.census());
    scene.server.wait();
}

#[test]
fn a_socket_that_hangs_when_it_is_closed_holds_up_nobody_else() {
    let scene = Scene::with(Server::new(1));
    let mut left = vec![Lingering::new(), Lingering::new()];
    let sockets: Vec<_> = left.iter_mut().map(abandoned).collect();
    beside(left, || {
        for (stuck, socket) in sockets.into_iter().enumerate() {
            start(&scene, socket).unwrap();
            scene.server.wait();
            assert_eq!(scene.server.census().connections, 0);
            // It leaves its place, as does who hangs in the host. One more keeps it.
            if stuck == 0 {
                visit(&scene);
            }
        }
        let full = scene.connect(ConnectionOpts::default()).err();
        assert_eq!(full, Some(Errno::EMFILE));
        assert!(!scene.server.shutdown(Duration::from_millis(10)));
    });
    assert!(scene.server.shutdown(DEADLINE), "they are closed");
}

#[test]
fn a_socket_that_hangs_when_its_client_is_refused_holds_up_nobody_else() {
    let scene = Scene::with(Server::new(1));
    let (mut client, root) = scene.client();
    let mut lingering = Lingering::new();
    let socket = abandoned(&mut lingering);
    thread::scope(|scope| {
        let refused = scope.spawn(|| start(&scene, socket));
        beside(vec![lingering], || {
            // Long enough for a refusal.
            thread::sleep(Duration::from_millis(100));
            one(&mut client, root, "served");
            assert_eq!(scene.server.census().connections, 1);
            drop(client);
            visit(&scene);
            assert!(!refused.is_finished(), "nothing hangs");
        });
        assert_eq!(refused.join().unwrap(), Err(Errno::EMFILE));
    });
}
