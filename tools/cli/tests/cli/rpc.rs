//! `rpc`.

use std::fs;
use std::os::unix::fs::MetadataExt;

use lisafs::host::{HostOptions, HostUds};
use lisafs::server::ConnectionOpts;
use lisafs::wire::schema::Kind;
use lisafs::wire::{Mid, messages};
use serde_json::json;

use crate::fixture::{Fixture, objects};

fn populated() -> Fixture {
    let at = Fixture::new();
    fs::create_dir(at.served("dir")).unwrap();
    fs::write(at.served("dir/file"), "some data").unwrap();
    at
}

#[test]
fn a_message_reaches_any_object_in_one_command() {
    let at = populated();
    let stat = at.json(&["rpc", "--walk", "dir/file", "FStat", "fd=@fd"]);
    let ino = at.served("dir/file").metadata().unwrap().ino();
    assert_eq!(stat[0]["message"], "FStat");
    assert_eq!(stat[0]["reply"]["ino"], ino);
    let read = at.json(&["rpc", "--open", "/dir/file", "PRead", "fd=@open", "count=4"]);
    assert_eq!(read[0]["reply"], json!({ "data": "some" }));
    let root = at.json(&["rpc", "FStat", "fd=@root"]);
    assert_eq!(root[0]["reply"]["nlink"], 3);
}

#[test]
fn messages_follow_each_other_and_use_what_came_before() {
    let at = populated();
    let words = "rpc OpenCreateAt dir_fd=@root name=new mode=0o600 flags=2 , \
                 PWrite fd=@open data=abc , SetStat fd=@fd mask=2 mode=0o640 , \
                 Walk dir_fd=@root path=dir path=file , OpenAt fd=@fd , PRead fd=@open count=99 , \
                 Close fds=@open fds=@fd";
    let words: Vec<_> = words.split_whitespace().collect();
    let replies = at.json(&words);
    assert_eq!(replies.len(), 7);
    assert_eq!(replies[1]["reply"]["count"], 3);
    assert_eq!(replies[3]["reply"]["inodes"].as_array().unwrap().len(), 2);
    assert_eq!(replies[5]["reply"]["data"], "some data");
    assert_eq!(fs::read(at.served("new")).unwrap(), b"abc");
    let mode = at.served("new").metadata().unwrap().mode();
    assert_eq!(mode & 0o7777, 0o640);
}

#[test]
fn donated_descriptors_are_described() {
    let at = populated();
    let open = at.json(&["rpc", "--walk", "dir/file", "OpenAt", "fd=@fd", "flags=2"]);
    let fds = open[0]["fds"].as_array().unwrap();
    assert_eq!(fds.len(), 1);
    assert_eq!(fds[0]["type"], "file");
    assert_eq!(fds[0]["access"], "read and write");
    assert_eq!(fds[0]["size"], 9);
    let text = at.text(&["rpc", "Channel"]);
    assert!(text.starts_with("Channel\n  data_offset = "), "{text}");
    assert!(text.contains("\n  descriptor 0: file, "), "{text}");
    assert!(text.contains("\n  descriptor 1: socket, "), "{text}");
}

/// Every message of the table, each answered with what it is for.
#[test]
fn any_message_can_be_sent_and_its_reply_shown() {
    let at = populated();
    let (uid, gid) = {
        let own = at.root().metadata().unwrap();
        (own.uid(), own.gid())
    };
    let script = format!(
        "Mount , Channel , FStat fd=@root , SetStat fd=@root , WalkStat dir_fd=@root path=dir , \
         OpenCreateAt dir_fd=@root name=new mode=0o644 flags=2 , PWrite fd=@open data=abc , \
         PRead fd=@open count=9 , FSync fds=@open , FAllocate fd=@open length=4096 , \
         Flush fd=@open , FSetXattr fd=@fd name=user.a value=v , FGetXattr fd=@fd name=user.a , \
         FListXattr fd=@fd , FRemoveXattr fd=@fd name=user.a , \
         LinkAt dir_fd=@root target_fd=@fd name=hard , FStatFS fd=@root , \
         MkdirAt dir_fd=@root name=sub mode=0o755 , MknodAt dir_fd=@root name=node mode=0o100644 , \
         SymlinkAt dir_fd=@root name=soft target=new , ReadLinkAt fd=@fd , \
         Walk dir_fd=@root path=dir , OpenAt fd=@fd , Getdents64 dir_fd=@open count=-4096 , \
         RenameAt old_dir=@root new_dir=@fd old_name=hard new_name=hard , \
         RenameAt2 old_dir=@fd new_dir=@root old_name=hard new_name=back flags=1 , \
         UnlinkAt dir_fd=@root name=back , \
         BindAt dir_fd=@root name=socket sock_type=1 mode=0o777 , Listen fd=@bound backlog=4 , \
         Connect fd=@fd sock_type=1 , Accept fd=@bound , Close fds=@open , \
         ConnectWithCreds fd=@fd sock_type=1 uid={uid} gid={gid}"
    );
    let host = || HostOptions {
        host_uds: HostUds::All,
        ..HostOptions::default()
    };
    let mut words = vec!["--json", "rpc"];
    words.extend(script.split_whitespace());
    let done = at.inherit(host(), ConnectionOpts::default(), &words);
    // Acting as others takes privileges, without which the message is refused.
    if nix::unistd::geteuid().is_root() {
        assert_eq!((done.code, &*done.err), (Some(0), ""));
    }
    let replies = objects(&done.out);
    for message in messages() {
        let reply = replies
            .iter()
            .find(|reply| reply["message"] == message.name);
        let reply = reply.unwrap_or_else(|| panic!("{} was not sent: {}", message.name, done.err));
        for field in message.reply {
            let shown = reply["reply"].get(field.name).is_some()
                || reply["reply"].get(format!("{}_hex", field.name)).is_some();
            let counted = field.kind == Kind::Counted || reply.get("error").is_some();
            assert!(
                shown || counted,
                "{}: {} is missing",
                message.name,
                field.name
            );
        }
    }
    for name in ["new", "node", "sub", "soft", "back", "hard", "socket"] {
        let path = at.served(name);
        if path.is_dir() {
            fs::remove_dir(path).unwrap();
        } else {
            let _ = fs::remove_file(path);
        }
    }
    let text = at.inherit(host(), ConnectionOpts::default(), &words[1..]);
    let text = String::from_utf8(text.out).unwrap();
    for message in messages() {
        let refused = message.mid == Mid::CONNECT_WITH_CREDS || message.mid == Mid::CLOSE;
        let line = format!("{}\n", message.name);
        assert!(
            refused || text.contains(&line),
            "{} was not shown",
            message.name
        );
    }
}

#[test]
fn an_error_is_the_answer_no_and_the_end() {
    let at = populated();
    let mut words = vec!["--json", "rpc", "UnlinkAt", "dir_fd=@root", "name=x"];
    words.extend([",", "FStat", "fd=@root"]);
    let done = at.run(&words);
    done.says_no("lisafs: UnlinkAt: No such file or directory\n");
    assert_eq!(
        objects(&done.out),
        [json!({ "message": "UnlinkAt", "error": { "errno": 2, "name": "ENOENT" } })]
    );
    let nowhere = ["rpc", "--walk", "dir/nowhere", "FStat", "fd=@fd"];
    at.run(&nowhere)
        .says_no("lisafs: dir/nowhere: No such file or directory\n");
}

#[test]
fn bytes_that_are_no_text_go_both_ways() {
    let at = populated();
    let words = "rpc MkdirAt dir_fd=@root name_hex=ff mode=0o755 , \
                 SymlinkAt dir_fd=@root name=link target_hex=ff0a , ReadLinkAt fd=@fd , \
                 OpenAt fd=@root , Getdents64 dir_fd=@open count=-4096";
    let words: Vec<_> = words.split_whitespace().collect();
    let replies = at.json(&words);
    assert_eq!(replies[2]["reply"], json!({ "target_hex": "ff0a" }));
    let entries = replies[4]["reply"]["dirents"].as_array().unwrap();
    let odd = entries.iter().find(|entry| entry["name_hex"] == "ff");
    assert_eq!(odd.unwrap()["d_type"], 4);
    let text = at.text(&["rpc", "--walk", "link", "ReadLinkAt", "fd=@fd"]);
    assert_eq!(text, "ReadLinkAt\n  target = \"\\xff\\x0a\"\n");
}

#[test]
fn what_is_no_message_is_refused_before_anything_is_sent() {
    let at = populated();
    for (words, reason) in [
        (&["Stat"][..], "there is no such message"),
        (
            &["MkdirAt", "name=new", ",", "Stat"],
            "there is no such message",
        ),
        (
            &["FStat", "fd=1", ","],
            "there is no message before or behind",
        ),
        (&["FStat", "id=1"], "no such field (the fields are fd)"),
        (&["FStat", "fd=@open"], "there is no @open yet"),
        (&["FStat", "fd=@opened"], "use @root, @fd, @open or @bound"),
        (
            &["FStat", "fd=1,", "FStat"],
            "FStat: fields are FIELD=VALUE",
        ),
    ] {
        let done = at.run(&[&["rpc"], words].concat());
        assert_eq!(done.code, Some(2), "{words:?}");
        assert!(done.err.contains(reason), "{words:?}: {}", done.err);
    }
    assert!(!at.served("new").exists());
}
