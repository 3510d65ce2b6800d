//! Files with more than one name.

use std::fs;

use super::named::{grounds, node};
use super::{Served, name};
use crate::Errno;
use crate::host::handle::Handle;
use crate::host::names::{Known, unlink};
use crate::server::RenameFlags;

#[test]
fn links_of_one_file_do_not_depend_on_each_other() {
    for served in grounds() {
        let first = served.file("a");
        let root = served.root();
        let (second, _) = served.host.link(root, name("b"), &first).unwrap();
        drop(first);
        let (first, second_again) = (served.named("a"), served.named("b"));
        assert!(first.is_named() && second.is_named() && second_again.is_named());
        unlink(root, name("a"), false, Some(&node(&[&first]))).unwrap();
        for handle in [&first, &second, &second_again] {
            assert_eq!(handle.stat().unwrap().nlink, 1);
            assert_eq!(served.content(handle).unwrap(), "a");
        }
        // Of two names of one file, neither goes in a rename from one to the other.
        let (first, second) = (served.file("c"), served.named("c"));
        let link = served.host.link(root, name("d"), &first).unwrap().0;
        let (moved, replaced) = (node(&[&second]), node(&[&link]));
        let known = Known {
            moved: Some(&moved),
            replaced: Some(&replaced),
        };
        served.rename("c", "d", RenameFlags::empty(), known);
        assert!(second.is_named());
        assert_eq!(second.stat().unwrap().nlink, 2);
        assert_eq!(link.stat().unwrap().nlink, 2);
    }
}

impl Served {
    /// Whatever wants the file finds that it is gone.
    fn refuses(&self, handle: &Handle) {
        assert_eq!(handle.stat().err(), Some(Errno::ESTALE));
        assert_eq!(self.content(handle).err(), Some(Errno::ESTALE));
        assert_eq!(self.host.chmod(handle, 0o600).err(), Some(Errno::ESTALE));
        let linked = self.host.link(self.root(), name("link"), handle);
        assert_eq!(linked.err(), Some(Errno::ESTALE));
    }
}

/// The inode lives on under another name, but what is looked for is the name that is known.
#[test]
fn a_name_that_an_outsider_takes_is_stale_until_another_link_of_the_file_has_it() {
    for served in grounds() {
        let handle = served.file("known");
        let inode = handle.stat().unwrap().ino;
        let [known, other] = ["known", "other"].map(|name| served.path(name));
        fs::hard_link(&known, &other).unwrap();
        fs::remove_file(&known).unwrap();
        served.refuses(&handle);
        fs::write(&known, "another").unwrap();
        served.refuses(&handle);
        assert_eq!(fs::read_to_string(&known).unwrap(), "another");
        fs::remove_file(&known).unwrap();
        fs::hard_link(&other, &known).unwrap();
        let stat = handle.stat().unwrap();
        assert_eq!((stat.ino, stat.nlink), (inode, 2));
        assert_eq!(served.content(&handle), Ok("known".to_owned()));
        // As long as it is open it needs no name.
        fs::remove_file(&known).unwrap();
        assert_eq!(handle.stat().unwrap().nlink, 1);
        assert!(handle.give_up());
        served.refuses(&handle);
        fs::rename(&other, &known).unwrap();
        assert_eq!(handle.stat().unwrap().nlink, 1);
        assert_eq!(served.content(&handle), Ok("known".to_owned()));
    }
}

#[test]
fn a_link_that_an_outsider_made_is_not_needed_by_a_name_that_is_removed_here() {
    for served in grounds() {
        let (root, handle) = (served.root(), served.file("known"));
        let known = node(&[&handle]);
        fs::hard_link(served.path("known"), served.path("other")).unwrap();
        let other = served.named("other");
        unlink(root, name("known"), false, Some(&known)).unwrap();
        // It is open for good.
        assert!(!handle.give_up() && other.is_named());
        for handle in [&handle, &other] {
            assert_eq!(handle.stat().unwrap().nlink, 1);
            assert_eq!(served.content(handle), Ok("known".to_owned()));
        }
        fs::remove_file(served.path("other")).unwrap();
        assert_eq!(handle.stat().unwrap().nlink, 0);
        assert_eq!(served.content(&handle), Ok("known".to_owned()));
    }
}
