//! Many who want the same from a host that is slow: they take their turns, however long that takes.

use super::*;

/// All of them together take longer than any of them would wait for one that hangs.
const CLIENTS: usize = 8;

/// Has each of the clients ask once, all at the same time.
fn all_succeed(ask: impl Fn(&mut Socket, FdId, usize) -> Result<(), Errno> + Sync) {
    let scene = Scene::new();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| scene.client()).collect();
    let since = Instant::now();
    let ask = &ask;
    let answers: Vec<_> = thread::scope(|scope| {
        let clients = clients.iter_mut().enumerate();
        let asking = clients.map(|(number, (socket, root))| {
            let root = *root;
            scope.spawn(move || ask(socket, root, number))
        });
        let asking: Vec<_> = asking.collect();
        asking.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(answers, [Ok(()); CLIENTS]);
    assert!(since.elapsed() > Duration::from_secs(3), "none has waited");
}

#[test]
fn renames() {
    all_succeed(|socket, root, number| {
        let (old, new) = (format!("d-{number}"), format!("d-slow-{number}"));
        rename(socket, (root, &old), (root, &new)).map_err(|error| error.errno())
    });
}

#[test]
fn what_is_made_in_one_directory() {
    all_succeed(|socket, root, number| mkdir(socket, root, &format!("d-slow-{number}")).map(drop));
}
