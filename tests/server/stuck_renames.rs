//! Renames that hang in the host: they hold up what they concern, and nothing else.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;

use super::*;

/// A rename to this name hangs.
const HANGS: &str = "f-hangs-on-its-way";

fn stat(on: &mut impl Communicator, fd: FdId) -> Result<(), Errno> {
    let stat = on.call(&StatReq { fd }, &mut Reply::new());
    stat.map(drop).map_err(|error| error.errno())
}

fn open(on: &mut impl Communicator, fd: FdId) -> Result<(), Errno> {
    let open = on.call(&OpenAtReq { fd, flags: 0 }, &mut Reply::new());
    let open = open.map_err(|error| error.errno())?.open_fd;
    close(on, &[open]);
    Ok(())
}

fn link(on: &mut impl Communicator, dir_fd: FdId, target_fd: FdId) -> Result<(), Errno> {
    let name = b"f-link";
    let request = LinkAtReq {
        dir_fd,
        target_fd,
        name,
    };
    let link = on.call(&request, &mut Reply::new());
    link.map(drop).map_err(|error| error.errno())
}

/// Two directories, something in one of them, which is on its way to the other, and what it replaces.
struct Motion {
    scene: Scene,
    root: FdId,
    from: FdId,
    to: FdId,
    moved: FdId,
    below: FdId,
    replaced: FdId,
    socket: Socket,
    rename: Option<JoinHandle<Result<(), Error>>>,
}

impl Motion {
    /// `above` stands above the directory that it comes from.
    fn begin(above: &[&str]) -> Motion {
        let scene = Scene::new();
        let (mut socket, root) = scene.client();
        let path: Vec<&str> = above.iter().chain(&["home"]).copied().collect();
        let walked = walk(&mut socket, root, &path).unwrap();
        let (from, above) = walked.split_last().unwrap();
        close(&mut socket, above);
        let from = *from;
        let to = one(&mut socket, root, "to");
        let [moved, below] = walk(&mut socket, from, &["d", "below"])
            .unwrap()
            .try_into()
            .unwrap();
        let replaced = one(&mut socket, to, HANGS);
        let mut hanging = channel(&mut socket);
        let rename = thread::spawn(move || rename(&mut hanging, (from, "d"), (to, HANGS)));
        scene.stage.wait_until_stuck(1);
        Motion {
            scene,
            root,
            from,
            to,
            moved,
            below,
            replaced,
            socket,
            rename: Some(rename),
        }
    }

    /// Runs `ask` on a channel of its own.
    fn spawn<R: Send + 'static>(
        &mut self,
        ask: impl FnOnce(&mut Channel) -> R + Send + 'static,
    ) -> JoinHandle<R> {
        let mut channel = channel(&mut self.socket);
        thread::spawn(move || ask(&mut channel))
    }

    fn is_over(&self) -> bool {
        self.rename.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until the rename is done.
    fn join(&mut self) {
        self.rename.take().unwrap().join().unwrap().unwrap();
    }

    fn end(self) -> Scene {
        drop(self.socket);
        self.scene.server.wait();
        assert_eq!(self.scene.server.count_nodes(), 1);
        self.scene
    }
}

#[test]
fn who_asks_for_something_else_goes_on() {
    let mut motion = Motion::begin(&[]);
    let started = Instant::now();
    let (mut other, root) = motion.scene.client();
    let elsewhere = one(&mut other, root, "elsewhere");
    stat(&mut other, root).unwrap();
    let made = mkdir(&mut other, elsewhere, "made").unwrap();
    unlink(&mut other, elsewhere, "made").unwrap();
    close(&mut other, &[made]);
    // What is concerned can still be walked to.
    one(&mut other, root, "home");
    // So can what is below it be used, where it was.
    open(&mut motion.socket, motion.below).unwrap();
    walk(&mut motion.socket, motion.below, &["further", "down"]).unwrap();

    let ids = motion.scene.server.census().ids;
    let (root, from, to) = (motion.root, motion.from, motion.to);
    let (moved, replaced) = (motion.moved, motion.replaced);
    let asking = [
        motion.spawn(move |on| {
            let made = mkdir(on, to, "made").map(drop);
            [stat(on, from), made, open(on, replaced)]
        }),
        motion.spawn(move |on| {
            let unlinked = unlink(on, root, "home").map_err(|error| error.errno());
            [stat(on, moved), unlinked, link(on, root, replaced)]
        }),
        motion.spawn(move |on| {
            let walked = walk(on, root, &["home", "x"]).map(drop);
            [walked, walk(on, moved, &["x"]).map(drop), stat(on, to)]
        }),
    ];
    let renamed = rename(&mut other, (elsewhere, "a"), (elsewhere, "b"));
    assert_eq!(errno(renamed), Errno::EBUSY);
    for asking in asking {
        assert_eq!(asking.join().unwrap(), [Err(Errno::EBUSY); 3]);
    }
    // A walk that is refused leaves nothing behind.
    assert_eq!(motion.scene.server.census().ids, ids);
    assert!(started.elapsed() < DEADLINE);
    assert!(!motion.is_over());

    motion.scene.stage.release();
    motion.join();
    for fd in [motion.from, motion.to, motion.moved] {
        stat(&mut motion.socket, fd).unwrap();
    }
    open(&mut motion.socket, motion.below).unwrap();
    let refused = open(&mut motion.socket, motion.replaced);
    assert_eq!(refused, Err(Errno::EINVAL));
    rename(&mut other, (elsewhere, "a"), (elsewhere, "b")).unwrap();
    drop(other);
    let events = motion.end().events();
    let has = |event: &str| events.iter().any(|known| known == event);
    assert!(has("open /home/d/below"), "{events:?}");
    assert!(
        has(&format!("control renamed /to/{HANGS}/below")),
        "{events:?}"
    );
    assert!(has(&format!("open /to/{HANGS}/below")), "{events:?}");
}

/// What waits for it is served in the end, too, where that comes in time.
#[test]
fn who_asks_for_it_is_answered_when_the_host_answers() {
    // A machine that holds this thread up has the host answer too late, once and again.
    assert!((0..5).any(|_| are_answered()), "they are refused each time");
}

/// Whether all who wait for a rename are answered as soon as the host lets it go on, not refused before.
fn are_answered() -> bool {
    let mut motion = Motion::begin(&[]);
    let (mut other, root) = motion.scene.client();
    // It is overtaken.
    stat(&mut other, root).unwrap();
    let (from, to, below) = (motion.from, motion.to, motion.moved);
    let asking = [
        motion.spawn(move |on| stat(on, from)),
        motion.spawn(move |on| mkdir(on, to, "made").map(drop)),
        motion.spawn(move |on| walk(on, below, &["below"]).map(drop)),
    ];
    thread::sleep(Duration::from_millis(50));
    let is_early = asking.iter().any(JoinHandle::is_finished);
    motion.scene.stage.release();
    let answers = asking.map(|asking| asking.join().unwrap());
    drop(other);
    if answers.contains(&Err(Errno::EBUSY)) {
        return false;
    }
    assert_eq!((answers, is_early), ([Ok(()); 3], false));
    true
}

/// Whoever waits for what it concerns, one behind the other, is always there; it is done all the same.
#[test]
fn who_asks_for_it_again_and_again_does_not_keep_it_from_its_end() {
    let mut motion = Motion::begin(&[]);
    let done = Arc::new(AtomicBool::new(false));
    let mut asking = Vec::new();
    let (root, from, to) = (motion.root, motion.from, motion.to);
    for asker in 0..3_u64 {
        let done = Arc::clone(&done);
        asking.push(motion.spawn(move |on| {
            thread::sleep(Duration::from_millis(700 * asker));
            while !done.load(SeqCst) {
                let _ = match asker {
                    0 => stat(on, from),
                    1 => mkdir(on, to, "made").map(|made| close(on, &[made])),
                    _ => walk(on, root, &["home", "x"]).map(|walked| close(on, &walked)),
                };
            }
        }));
    }
    thread::sleep(Duration::from_secs(3));
    motion.scene.stage.release();
    let is_over = within(DEADLINE, || motion.is_over());
    done.store(true, SeqCst);
    for asking in asking {
        asking.join().unwrap();
    }
    assert!(is_over);
}

/// A link waits for its target, and its directory is for others meanwhile.
#[test]
fn links_to_it_leave_their_directory_to_others() {
    const HELD_UP: Duration = Duration::from_millis(60);
    let mut motion = Motion::begin(&[]);
    let (mut other, theirs) = motion.scene.client();
    let done = Arc::new(AtomicBool::new(false));
    let (root, replaced) = (motion.root, motion.replaced);
    let mut linking = Vec::new();
    for linker in 0..3_u64 {
        let done = Arc::clone(&done);
        linking.push(motion.spawn(move |on| {
            thread::sleep(Duration::from_millis(500 * linker));
            while !done.load(SeqCst) {
                assert_eq!(link(on, root, replaced), Err(Errno::EBUSY));
            }
        }));
    }
    let started = Instant::now();
    let mut held_up = Duration::ZERO;
    while started.elapsed() < Duration::from_secs(4) {
        let since = Instant::now();
        let found = one(&mut other, theirs, "elsewhere");
        close(&mut other, &[found]);
        let took = since.elapsed();
        if took > HELD_UP {
            held_up += took;
        }
    }
    let all = started.elapsed();
    done.store(true, SeqCst);
    for linking in linking {
        linking.join().unwrap();
    }
    // A quarter, for who measures well.
    assert!(held_up < all / 2, "{held_up:?} of {all:?}");
    motion.scene.stage.release();
}

/// Somebody has moved away what the server believes to be in a directory, and that is removed.
#[test]
fn what_is_above_it_may_be_unlinked_meanwhile() {
    let mut motion = Motion::begin(&["top"]);
    unlink(&mut motion.socket, motion.root, "top").unwrap();
    motion.scene.stage.release();
    motion.join();
    // All that was below has lost its name, and what has it now is another node.
    for fd in [motion.moved, motion.below, motion.replaced] {
        assert_eq!(open(&mut motion.socket, fd), Err(Errno::EINVAL));
    }
    let new = one(&mut motion.socket, motion.to, HANGS);
    open(&mut motion.socket, new).unwrap();
    motion.end();
}

/// A rename that would close a ring looks for its names, to say why it is refused.
#[test]
fn a_lookup_of_a_rename_holds_up_other_renames_alone() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let a = one(&mut socket, root, "a");
    let mut hanging = channel(&mut socket);
    let ring = thread::spawn(move || rename(&mut hanging, (root, "a"), (a, "hangs")));
    scene.stage.wait_until_stuck(1);
    let (mut other, root) = scene.client();
    let elsewhere = one(&mut other, root, "elsewhere");
    mkdir(&mut other, elsewhere, "made").unwrap();
    let renamed = rename(&mut other, (root, "b"), (root, "c"));
    assert_eq!(errno(renamed), Errno::EBUSY);
    scene.stage.release_walks();
    assert_eq!(errno(ring.join().unwrap()), Errno::EINVAL);
    rename(&mut other, (root, "b"), (root, "c")).unwrap();
}
