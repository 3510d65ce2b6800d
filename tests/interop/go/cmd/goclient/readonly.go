package main

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/lisafs"
)

// readonlyChecks is the suite for a read-only server: nothing can be made
// through the protocol, so what it looks at is made on the host.
func readonlyChecks() []entry {
	all := []entry{
		{"readonly/refused", func(c *check) {
			root := &c.root
			for _, m := range c.makers(root.ID()) {
				c.errno(m.make(root, "x"), unix.EROFS, m.what)
			}
			_, _, err := root.BindAt(c.ctx, unix.SOCK_STREAM, "x", 0o755, noUID, noGID)
			c.errno(err, unix.EROFS, "bind")
			c.errno(root.UnlinkAt(c.ctx, "x", 0), unix.EROFS, "unlink")
			c.errno(c.renameAt(root, "x", root.ID(), "y", 0), unix.EROFS, "rename")
			_, _, err = root.SetStat(c.ctx, &linux.Statx{})
			c.errno(err, unix.EROFS, "setstat")
			c.errno(root.SetXattr(c.ctx, "user.x", "x", 0), unix.EROFS, "setxattr")
			c.errno(root.RemoveXattr(c.ctx, "user.x"), unix.EROFS, "removexattr")
			for _, flags := range []uint32{unix.O_WRONLY, unix.O_RDWR, unix.O_RDONLY | unix.O_TRUNC} {
				_, _, err = root.OpenAt(c.ctx, flags)
				c.errno(err, unix.EROFS, "open")
			}
		}},
		{"readonly/renameat2-refused", func(c *check) {
			root := &c.root
			c.errno(c.renameAt(root, "x", root.ID(), "y", unix.RENAME_NOREPLACE), unix.EROFS, "renameat2")
		}},
		{"readonly/wins-over-everything", func(c *check) {
			// The refusal comes before the body is looked at.
			for _, m := range messages() {
				if m.mutates {
					c.send(m, nil, unix.EROFS, "without a body")
				}
			}
		}},
		{"readonly/directory", func(c *check) {
			open := c.open(&c.root, unix.O_RDONLY)
			c.entries(&open)
			c.ok(open.Sync(c.ctx), "sync")
			c.walkStat(&c.root, []string{""}, 1)
			var fs lisafs.StatFS
			c.ok(c.root.StatFSTo(c.ctx, &fs), "statfs")
		}},
		{"readonly/file", func(c *check) {
			c.needHost()
			path := filepath.Join(c.hostDir, c.workName)
			c.ok(os.WriteFile(path, []byte("hello"), 0o644), "write on the host")
			defer os.Remove(path)
			inode, err := c.root.Walk(c.ctx, c.workName)
			c.ok(err, "walk")
			f := c.control(inode)
			c.that(c.content(&f) == "hello", "content %q", c.content(&f))
			id, host, err := f.OpenAt(c.ctx, unix.O_RDONLY)
			c.ok(err, "open")
			open := c.handle(id)
			if host >= 0 {
				_, err = c.donated(host, "open").WriteAt([]byte("x"), 0)
				c.errno(err, unix.EBADF, "write to the donated descriptor")
			}
			_, err = open.Write(c.ctx, []byte("x"), 0)
			c.errno(err, unix.EROFS, "write")
			c.errno(open.Allocate(c.ctx, 0, 0, 1), unix.EROFS, "allocate")
		}},
	}
	all = append(all, mountChecks()...)
	return append(all, malformedChecks()...)
}
