package main

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/lisafs"
)

const (
	noUID = lisafs.NoUID
	noGID = lisafs.NoGID
)

// maker is one of the RPCs that create a name, with everything else fixed.
type maker struct {
	what string
	make func(d *lisafs.ClientFD, name string) error
}

// makers has every creating RPC but BindAt, whose permission is a policy.
func (c *check) makers(target lisafs.FDID) []maker {
	return []maker{
		{"mkdir", func(d *lisafs.ClientFD, name string) error {
			_, err := d.MkdirAt(c.ctx, name, 0o755, noUID, noGID)
			return err
		}},
		{"mknod", func(d *lisafs.ClientFD, name string) error {
			_, err := d.MknodAt(c.ctx, name, linux.S_IFREG|0o644, noUID, noGID, 0, 0)
			return err
		}},
		{"symlink", func(d *lisafs.ClientFD, name string) error {
			_, err := d.SymlinkAt(c.ctx, name, "target", noUID, noGID)
			return err
		}},
		{"create", func(d *lisafs.ClientFD, name string) error {
			_, _, host, err := d.OpenCreateAt(c.ctx, name, unix.O_RDWR, 0o644, noUID, noGID)
			if err == nil {
				discard(host)
			}
			return err
		}},
		{"link", func(d *lisafs.ClientFD, name string) error {
			_, err := d.LinkAt(c.ctx, target, name)
			return err
		}},
	}
}

func createChecks() []entry {
	return []entry{
		{"create/names", func(c *check) {
			d := c.scratch()
			target := c.file(d, "target", "")
			for _, m := range c.makers(target.ID()) {
				for _, name := range badNames {
					c.errno(m.make(&d.ClientFD, name), unix.EINVAL, m.what+" "+quoted(name))
				}
				c.errno(m.make(&d.ClientFD, strings.Repeat("n", 256)), unix.ENAMETOOLONG, m.what+" of 256 bytes")
				c.errno(m.make(&d.ClientFD, "target"), unix.EEXIST, m.what+" over a file")
				c.ok(m.make(&d.ClientFD, m.what+" \xff\xfe\n"), m.what+" of bytes that are not UTF-8")
				c.errno(m.make(&d.ClientFD, m.what+" \xff\xfe\n"), unix.EEXIST, m.what+" twice")
			}
			open := c.open(&d.ClientFD, unix.O_RDONLY)
			c.that(len(c.entries(&open)) == 6, "%d entries", len(c.entries(&open)))
		}},
		{"create/bad-parent", func(c *check) {
			d := c.scratch()
			target, open := c.create(d, "f")
			l := c.symlink(d, "l", ".")
			gone := c.mkdir(d, "gone")
			c.rmdir(d, "gone")
			unknown := c.client.NewFD(1 << 40)
			for _, m := range c.makers(target.ID()) {
				c.errno(m.make(&target, "x"), unix.ENOTDIR, m.what+" in a file")
				c.errno(m.make(&l, "x"), unix.ENOTDIR, m.what+" in a symlink")
				c.errno(m.make(&open, "x"), unix.EINVAL, m.what+" in an open file")
				c.errno(m.make(&unknown, "x"), unix.EBADF, m.what+" in an unknown id")
				c.errno(m.make(&gone.ClientFD, "x"), unix.EINVAL, m.what+" in a removed directory")
			}
		}},
		{"create/modes", func(c *check) {
			d := c.scratch()
			for i, mode := range []linux.FileMode{0o777, 0o640, 0o400} {
				suffix := string(rune('a' + i))
				inode, err := d.MkdirAt(c.ctx, "d"+suffix, mode|0o200, noUID, noGID)
				c.ok(err, "mkdir")
				c.that(linux.FileMode(inode.Stat.Mode) == linux.S_IFDIR|mode|0o200, "mkdir %#o: %#o", mode|0o200, inode.Stat.Mode)
				inode, err = d.MknodAt(c.ctx, "n"+suffix, linux.S_IFREG|mode, noUID, noGID, 0, 0)
				c.ok(err, "mknod")
				c.that(linux.FileMode(inode.Stat.Mode) == linux.S_IFREG|mode, "mknod %#o: %#o", mode, inode.Stat.Mode)
				inode, _, host, err := d.OpenCreateAt(c.ctx, "f"+suffix, unix.O_RDONLY, mode, noUID, noGID)
				c.ok(err, "create")
				discard(host)
				c.that(linux.FileMode(inode.Stat.Mode) == linux.S_IFREG|mode, "create %#o: %#o", mode, inode.Stat.Mode)
			}
		}},
		{"create/owners", func(c *check) {
			c.needRoot()
			d := c.scratch()
			dir, err := d.MkdirAt(c.ctx, "d", 0o755, 1234, 4321)
			c.ok(err, "mkdir")
			node, err := d.MknodAt(c.ctx, "n", linux.S_IFREG|0o644, 1234, 4321, 0, 0)
			c.ok(err, "mknod")
			link, err := d.SymlinkAt(c.ctx, "l", "n", 1234, 4321)
			c.ok(err, "symlink")
			file, _, host, err := d.OpenCreateAt(c.ctx, "f", unix.O_WRONLY, 0o644, 1234, 4321)
			c.ok(err, "create")
			discard(host)
			for _, inode := range []lisafs.Inode{dir, node, link, file} {
				fd := c.control(inode)
				after := c.stat(&fd)
				c.that(inode.Stat.UID == 1234 && inode.Stat.GID == 4321, "reply: owner %d:%d", inode.Stat.UID, inode.Stat.GID)
				c.that(after.UID == 1234 && after.GID == 4321, "stat: owner %d:%d", after.UID, after.GID)
			}
			group, err := d.MkdirAt(c.ctx, "g", 0o755, noUID, 4321)
			c.ok(err, "mkdir")
			c.that(group.Stat.UID == 0 && group.Stat.GID == 4321, "group only: owner %d:%d", group.Stat.UID, group.Stat.GID)
		}},
		{"create/donated-descriptor", func(c *check) {
			d := c.scratch()
			inode, id, host, err := d.OpenCreateAt(c.ctx, "f", unix.O_RDWR|unix.O_APPEND, 0o644, noUID, noGID)
			c.ok(err, "create")
			f, open, file := c.control(inode), c.handle(id), c.donated(host, "create")
			_, err = file.WriteAt([]byte("hello"), 0)
			c.ok(err, "write to the donated descriptor")
			buf := make([]byte, 5)
			_, err = open.Read(c.ctx, buf, 0)
			c.ok(err, "read")
			c.that(string(buf) == "hello", "read %q", buf)
			c.sameFile(c.stat(&open), c.stat(&f), "open file")
			if d.path != "" {
				onDisk, err := os.ReadFile(d.host("f"))
				c.ok(err, "read on the host")
				c.that(string(onDisk) == "hello", "the host has %q", onDisk)
			}
		}},
		{"create/access-modes", func(c *check) {
			d := c.scratch()
			_, id, host, err := d.OpenCreateAt(c.ctx, "w", unix.O_WRONLY, 0o644, noUID, noGID)
			c.ok(err, "create")
			discard(host)
			open := c.handle(id)
			_, err = open.Write(c.ctx, []byte("x"), 0)
			c.ok(err, "write")
			_, err = open.Read(c.ctx, make([]byte, 1), 0)
			c.errno(err, unix.EBADF, "read")
			_, id, host, err = d.OpenCreateAt(c.ctx, "r", unix.O_RDONLY, 0o644, noUID, noGID)
			c.ok(err, "create")
			discard(host)
			open = c.handle(id)
			_, err = open.Write(c.ctx, []byte("x"), 0)
			c.errno(err, unix.EBADF, "write")
		}},
		{"mknod/types", func(c *check) {
			d := c.scratch()
			for _, mode := range []linux.FileMode{0o644, linux.S_IFIFO | 0o644, linux.S_IFSOCK | 0o644, linux.S_IFBLK | 0o644, linux.S_IFDIR | 0o755} {
				_, err := d.MknodAt(c.ctx, "n", mode, noUID, noGID, 0, 0)
				c.errno(err, unix.EPERM, "mknod")
			}
			_, err := d.MknodAt(c.ctx, "n", linux.S_IFCHR|0o644, noUID, noGID, 3, 1)
			c.errno(err, unix.EPERM, "mknod of a device")
		}},
		{"mknod/whiteout", func(c *check) {
			d := c.scratch()
			inode, err := d.MknodAt(c.ctx, "w", linux.S_IFCHR, noUID, noGID, 0, 0)
			if errors.Is(err, unix.EPERM) {
				c.needHost()
				if unix.Mknod(d.host("w"), unix.S_IFCHR, 0) == unix.EPERM {
					c.skip("the file system has no whiteouts")
				}
			}
			c.ok(err, "mknod")
			c.control(inode)
			c.that(linux.FileMode(inode.Stat.Mode).FileType() == linux.S_IFCHR, "mode %#o", inode.Stat.Mode)
			c.that(inode.Stat.RdevMajor == 0 && inode.Stat.RdevMinor == 0, "device %d:%d", inode.Stat.RdevMajor, inode.Stat.RdevMinor)
		}},
	}
}

func linkChecks() []entry {
	return []entry{
		{"symlink/targets", func(c *check) {
			d := c.scratch()
			for i, target := range []string{"f", "/", "../..", "\xff\xfe/\n", strings.Repeat("t", 128), strings.Repeat("t", 4095)} {
				l := c.symlink(d, string(rune('a'+i)), target)
				got, err := l.ReadLinkAt(c.ctx)
				c.ok(err, "readlink")
				c.that(got == target, "readlink: %s, want %s", quoted(got), quoted(target))
			}
			_, err := d.SymlinkAt(c.ctx, "x", "", noUID, noGID)
			c.errno(err, unix.ENOENT, "symlink to nothing")
			_, err = d.SymlinkAt(c.ctx, "x", strings.Repeat("t", 4096), noUID, noGID)
			c.errno(err, unix.ENAMETOOLONG, "symlink to 4096 bytes")
			_, err = d.SymlinkAt(c.ctx, "x", "a\x00b", noUID, noGID)
			c.errno(err, unix.EINVAL, "symlink to a NUL byte")
		}},
		{"readlink/errors", func(c *check) {
			d := c.scratch()
			f, open := c.create(d, "f")
			_, err := f.ReadLinkAt(c.ctx)
			c.errno(err, unix.EINVAL, "readlink of a file")
			_, err = open.ReadLinkAt(c.ctx)
			c.errno(err, unix.EINVAL, "readlink of an open file")
		}},
		{"link/file", func(c *check) {
			d := c.scratch()
			f := c.file(d, "f", "hello")
			sub := c.mkdir(d, "sub")
			inode, err := sub.LinkAt(c.ctx, f.ID(), "g")
			c.ok(err, "link")
			g := c.control(inode)
			c.sameFile(inode.Stat, c.stat(&f), "reply")
			c.that(inode.Stat.Nlink == 2 && c.stat(&f).Nlink == 2, "link counts %d and %d", inode.Stat.Nlink, c.stat(&f).Nlink)
			c.that(c.content(&g) == "hello", "content %q", c.content(&g))
			c.unlink(d, "f")
			c.that(c.stat(&g).Nlink == 1, "link count %d", c.stat(&g).Nlink)
		}},
		{"link/symlink", func(c *check) {
			d := c.scratch()
			l := c.symlink(d, "l", "nowhere")
			inode, err := d.LinkAt(c.ctx, l.ID(), "m")
			c.ok(err, "link")
			c.sameFile(inode.Stat, c.stat(&l), "link to the symlink itself")
		}},
		{"link/errors", func(c *check) {
			d := c.scratch()
			sub := c.mkdir(d, "sub")
			f, open := c.create(d, "f")
			_, err := d.LinkAt(c.ctx, sub.ID(), "x")
			c.errno(err, unix.EPERM, "link to a directory")
			_, err = d.LinkAt(c.ctx, open.ID(), "x")
			c.errno(err, unix.EINVAL, "link to an open file")
			_, err = d.LinkAt(c.ctx, 1<<40, "x")
			c.errno(err, unix.EBADF, "link to an unknown id")
			c.unlink(d, "f")
			_, err = d.LinkAt(c.ctx, f.ID(), "x")
			c.errno(err, unix.EINVAL, "link to an unlinked file")
		}},
		{"unlink/kinds", func(c *check) {
			d := c.scratch()
			c.named(d, "f")
			c.symlink(d, "l", "f")
			sub := c.mkdir(d, "sub")
			c.named(sub, "x")
			c.errno(d.UnlinkAt(c.ctx, "nope", 0), unix.ENOENT, "unlink of nothing")
			c.errno(d.UnlinkAt(c.ctx, "sub", 0), unix.EISDIR, "unlink of a directory")
			c.errno(d.UnlinkAt(c.ctx, "sub", unix.AT_REMOVEDIR), unix.ENOTEMPTY, "rmdir of a full directory")
			c.errno(d.UnlinkAt(c.ctx, "f", unix.AT_REMOVEDIR), unix.ENOTDIR, "rmdir of a file")
			c.errno(d.UnlinkAt(c.ctx, "f", 0x8000), unix.EINVAL, "unlink with unknown flags")
			c.unlink(d, "l")
			c.unlink(d, "f")
			c.unlink(sub, "x")
			c.rmdir(d, "sub")
			open := c.open(&d.ClientFD, unix.O_RDONLY)
			c.that(len(c.entries(&open)) == 0, "%d entries are left", len(c.entries(&open)))
			c.errno(sub.UnlinkAt(c.ctx, "x", 0), unix.EINVAL, "unlink in a removed directory")
		}},
		{"unlink/names", func(c *check) {
			d := c.scratch()
			f := c.file(d, "f", "")
			for _, name := range badNames {
				c.errno(d.UnlinkAt(c.ctx, name, 0), unix.EINVAL, "unlink "+quoted(name))
			}
			c.errno(f.UnlinkAt(c.ctx, "x", 0), unix.ENOTDIR, "unlink in a file")
		}},
	}
}
