//! The tree of nodes beside a naive one: random walks, creations, opens, unlinks, renames, exchanges
//! and late closes, by two connections. Whatever the server shows of its nodes must be what the
//! naive tree says: paths, deleted marks, who is told of a rename, and how many nodes there are.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use super::*;

const NOREPLACE: u32 = 1;
const EXCHANGE: u32 = 2;

/// Chooses among the ids that a connection holds, by the remainder.
type Choice = usize;

#[derive(Clone, Debug)]
enum Step {
    Walk(Choice, Vec<&'static str>),
    Mkdir(Choice, &'static str),
    Open(Choice),
    Unlink(Choice, &'static str),
    Rename(Choice, &'static str, Choice, &'static str, u32),
    Close(Choice),
    CloseOpen(Choice),
}

/// Who asks, and what.
fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    // Phantom directories, and for renames a name that is another link of whatever is renamed there
    // by a plain rename.
    let name = || select(vec!["a", "b", "c"]);
    let new_name = || prop_oneof![12 => name(), 1 => Just("f-other-link")];
    let id = || 0..64usize;
    let rename = (id(), name(), id(), new_name(), 0u32..3);
    let step = prop_oneof![
        4 => (id(), vec(name(), 1..4)).prop_map(|(dir, path)| Step::Walk(dir, path)),
        1 => (id(), name()).prop_map(|(dir, name)| Step::Mkdir(dir, name)),
        2 => id().prop_map(Step::Open),
        2 => (id(), name()).prop_map(|(dir, name)| Step::Unlink(dir, name)),
        4 => rename.prop_map(|(dir, name, to, new, flags)| Step::Rename(dir, name, to, new, flags)),
        3 => id().prop_map(Step::Close),
        1 => id().prop_map(Step::CloseOpen),
    ];
    vec((0..2usize, step), 1..60)
}

/// A node, as somebody would write it who need not be quick: dead ones stay in the list.
#[derive(Debug)]
struct Node {
    /// None of the root, and of what is deleted: it keeps nothing alive.
    parent: Option<usize>,
    name: String,
    /// The parent knows it by its name.
    entered: bool,
    deleted: bool,
}

/// What an id stands for, or an open file holds on to.
#[derive(Debug)]
struct Position {
    node: usize,
    has_id: bool,
    opens: usize,
}

/// The naive tree. Node 0 is the root.
#[derive(Debug)]
struct Model {
    nodes: Vec<Node>,
    positions: Vec<Position>,
}

impl Model {
    fn new() -> Model {
        let root = Node {
            parent: None,
            name: String::new(),
            entered: false,
            deleted: false,
        };
        Model {
            nodes: vec![root],
            positions: Vec::new(),
        }
    }

    fn hold(&mut self, node: usize) -> usize {
        self.positions.push(Position {
            node,
            has_id: true,
            opens: 0,
        });
        self.positions.len() - 1
    }

    fn held(&self) -> impl Iterator<Item = &Position> {
        let held = |position: &&Position| position.has_id || position.opens > 0;
        self.positions.iter().filter(held)
    }

    /// From a node to the root.
    fn upwards(&self, node: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(node), |node| self.nodes[*node].parent)
    }

    /// The root, and what is held with all that is above it.
    fn alive(&self) -> BTreeSet<usize> {
        let held = self.held().flat_map(|position| self.upwards(position.node));
        held.chain([0]).collect()
    }

    fn existing_child(&self, dir: usize, name: &str) -> Option<usize> {
        self.alive().into_iter().find(|child| {
            let child = &self.nodes[*child];
            child.entered && child.parent == Some(dir) && child.name == name
        })
    }

    fn child(&mut self, dir: usize, name: &str) -> usize {
        self.existing_child(dir, name).unwrap_or_else(|| {
            self.nodes.push(Node {
                parent: Some(dir),
                name: name.to_owned(),
                entered: true,
                deleted: false,
            });
            self.nodes.len() - 1
        })
    }

    /// A node and all that can be reached from it by names.
    fn below(&self, top: usize) -> Vec<usize> {
        let is_below = |node: &usize| {
            let mut way = self.upwards(*node).take_while(|node| *node != top);
            self.upwards(*node).any(|node| node == top) && way.all(|node| self.nodes[node].entered)
        };
        self.alive().into_iter().filter(is_below).collect()
    }

    fn delete(&mut self, node: usize) {
        for node in self.below(node) {
            let node = &mut self.nodes[node];
            (node.deleted, node.entered, node.parent) = (true, false, None);
        }
    }

    fn unlink(&mut self, dir: usize, name: &str) {
        if let Some(child) = self.existing_child(dir, name) {
            self.nodes[child].entered = false;
            self.delete(child);
        }
    }

    /// Renames, and returns what those are told who hold something that has moved.
    fn rename(
        &mut self,
        (dir, name): (usize, &str),
        (to, new): (usize, &str),
        flags: u32,
    ) -> Result<Vec<String>, Errno> {
        let exchange = flags == EXCHANGE;
        if self.nodes[dir].deleted || self.nodes[to].deleted {
            return Err(Errno::EINVAL);
        }
        if (dir, name) == (to, new) {
            return Ok(Vec::new());
        }
        let moved = self.existing_child(dir, name);
        let replaced = self.existing_child(to, new);
        let closes_a_ring = |moved: Option<usize>, to: usize| {
            moved.is_some_and(|moved| self.upwards(to).any(|above| above == moved))
        };
        let ring = closes_a_ring(moved, to) || (exchange && closes_a_ring(replaced, dir));
        if ring && dir != to {
            // Phantoms are there by any name.
            return Err(match flags {
                NOREPLACE => Errno::EEXIST,
                _ => Errno::EINVAL,
            });
        }
        if new == "f-other-link" && flags == 0 {
            return Ok(Vec::new());
        }
        for gone in [moved, replaced].into_iter().flatten() {
            self.nodes[gone].entered = false;
        }
        let mut told = Vec::new();
        match replaced {
            Some(replaced) if exchange => told.extend(self.enter(replaced, dir, name)),
            Some(replaced) => self.delete(replaced),
            None => {}
        }
        if let Some(moved) = moved {
            told.extend(self.enter(moved, to, new));
        }
        told.sort_unstable();
        Ok(told)
    }

    fn enter(&mut self, node: usize, dir: usize, name: &str) -> Vec<String> {
        self.nodes[node] = Node {
            parent: Some(dir),
            name: name.to_owned(),
            entered: true,
            deleted: self.nodes[node].deleted,
        };
        let below = self.below(node);
        let concerned = self
            .held()
            .filter(|position| below.contains(&position.node));
        let told = concerned.flat_map(|position| {
            let path = self.path(position.node);
            let opens = vec![format!("open renamed {path}"); position.opens];
            opens.into_iter().chain([format!("control renamed {path}")])
        });
        told.collect()
    }

    fn path(&self, node: usize) -> String {
        let mut names: Vec<_> = self.upwards(node).collect();
        names.pop();
        match names.as_slice() {
            [] => "/".to_owned(),
            names => {
                let names = names.iter().rev();
                names
                    .map(|node| format!("/{}", self.nodes[*node].name))
                    .collect()
            }
        }
    }
}

/// A connection, and the ids that it holds: each with its place in the model.
struct Caller {
    socket: Socket,
    controls: Vec<(FdId, usize)>,
    opens: Vec<(FdId, usize)>,
}

struct Play {
    scene: Scene,
    model: Model,
    callers: [Caller; 2],
}

impl Play {
    fn new() -> Play {
        let scene = Scene::new();
        let mut model = Model::new();
        let callers = [(); 2].map(|()| {
            let (socket, root) = scene.client();
            Caller {
                socket,
                controls: vec![(root, model.hold(0))],
                opens: Vec::new(),
            }
        });
        scene.stage.events.lock().unwrap().clear();
        Play {
            scene,
            model,
            callers,
        }
    }

    fn take_events(&self) -> Vec<String> {
        let mut events = std::mem::take(&mut *self.scene.stage.events.lock().unwrap());
        events.retain(|event| !event.starts_with("unlink"));
        events.sort_unstable();
        events
    }

    fn play(&mut self, who: usize, step: &Step) {
        let (caller, model) = (&mut self.callers[who], &mut self.model);
        let control = |choice: &Choice| caller.controls[choice % caller.controls.len()];
        let mut expected = Vec::new();
        match step {
            Step::Walk(dir, path) => {
                let (id, position) = control(dir);
                let ids = walk(&mut caller.socket, id, path).unwrap();
                let mut node = model.positions[position].node;
                let mut ids = ids.into_iter();
                for name in path {
                    if model.nodes[node].deleted {
                        break;
                    }
                    node = model.child(node, name);
                    let id = ids.next().expect("the file is there");
                    caller.controls.push((id, model.hold(node)));
                }
                assert_eq!(ids.next(), None, "a deleted directory was walked in");
            }
            Step::Mkdir(dir, name) => {
                let (dir_fd, position) = control(dir);
                let made = mkdir(&mut caller.socket, dir_fd, name);
                let dir = model.positions[position].node;
                if model.nodes[dir].deleted {
                    assert_eq!(made, Err(Errno::EINVAL));
                } else {
                    let node = model.child(dir, name);
                    caller.controls.push((made.unwrap(), model.hold(node)));
                }
            }
            Step::Open(choice) => {
                let (fd, position) = control(choice);
                let opened = caller
                    .socket
                    .call(&OpenAtReq { fd, flags: 0 }, &mut Reply::new());
                let opened = opened.map(|opened| opened.open_fd);
                let node = model.positions[position].node;
                if model.nodes[node].deleted {
                    assert_eq!(errno(opened), Errno::EINVAL);
                } else {
                    caller.opens.push((opened.unwrap(), position));
                    model.positions[position].opens += 1;
                    expected.push(format!("open {}", model.path(node)));
                }
            }
            Step::Unlink(dir, name) => {
                let (id, position) = control(dir);
                let unlinked = unlink(&mut caller.socket, id, name);
                let dir = model.positions[position].node;
                if model.nodes[dir].deleted {
                    assert_eq!(errno(unlinked), Errno::EINVAL);
                } else {
                    unlinked.unwrap();
                    model.unlink(dir, name);
                }
            }
            Step::Rename(dir, name, to, new, flags) => {
                let ((old_dir, from), (new_dir, to)) = (control(dir), control(to));
                let request = RenameAt2Req {
                    old_dir,
                    new_dir,
                    old_name: name.as_bytes(),
                    new_name: new.as_bytes(),
                    flags: *flags,
                };
                let renamed = match flags {
                    0 => rename(&mut caller.socket, (old_dir, name), (new_dir, new)),
                    _ => caller.socket.call(&request, &mut Reply::new()),
                };
                let (from, to) = (model.positions[from].node, model.positions[to].node);
                match model.rename((from, name), (to, new), *flags) {
                    Ok(told) => {
                        renamed.unwrap();
                        expected = told;
                    }
                    Err(why) => assert_eq!(errno(renamed), why),
                }
            }
            Step::Close(choice) => {
                // The root stays.
                let count = caller.controls.len();
                if let Some(index @ 1..) = choice.checked_rem(count) {
                    let (id, position) = caller.controls.swap_remove(index);
                    close(&mut caller.socket, &[id]);
                    model.positions[position].has_id = false;
                }
            }
            Step::CloseOpen(choice) => {
                if let Some(index) = choice.checked_rem(caller.opens.len()) {
                    let (id, position) = caller.opens.swap_remove(index);
                    close(&mut caller.socket, &[id]);
                    model.positions[position].opens -= 1;
                }
            }
        }
        assert_eq!(self.take_events(), expected, "{step:?}");
        // Those that have no name any more are not counted.
        assert_eq!(self.scene.server.count_nodes(), self.model.below(0).len());
    }

    /// Looks at each id that is left, then gives all of them up, the oldest first.
    fn end(mut self) {
        for who in 0..self.callers.len() {
            for choice in 0..self.callers[who].controls.len() {
                self.play(who, &Step::Open(choice));
                self.play(who, &Step::Walk(choice, vec!["a"]));
            }
        }
        for who in 0..self.callers.len() {
            while self.callers[who].controls.len() > 1 {
                self.play(who, &Step::Close(1));
            }
            while !self.callers[who].opens.is_empty() {
                self.play(who, &Step::CloseOpen(0));
            }
        }
        assert_eq!(self.scene.server.count_nodes(), 1);
    }
}

#[test]
fn nodes_are_what_a_naive_tree_says() {
    let config = Config {
        cases: 128,
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&steps(), |steps| {
        let mut play = Play::new();
        for (who, step) in &steps {
            play.play(*who, step);
        }
        play.end();
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
