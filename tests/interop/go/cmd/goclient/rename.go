package main

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/lisafs"
	"lisafs.test/interop/internal/release"
)

func renameChecks() []entry {
	return []entry{
		{"rename/same-directory", func(c *check) {
			d := c.scratch()
			f := c.file(d, "f", "hello")
			c.rename(d, "f", d, "g", 0)
			_, err := d.Walk(c.ctx, "f")
			c.errno(err, unix.ENOENT, "walk to the old name")
			inode, err := d.Walk(c.ctx, "g")
			c.ok(err, "walk to the new name")
			g := c.control(inode)
			c.sameFile(c.stat(&f), c.stat(&g), "old handle")
			c.that(c.content(&f) == "hello", "content %q", c.content(&f))
		}},
		{"rename/other-directory", func(c *check) {
			d := c.scratch()
			from, to := c.mkdir(d, "from"), c.mkdir(d, "to")
			sub := c.mkdir(from, "sub")
			below := c.mkdir(sub, "below")
			f := c.file(below, "f", "hello")
			c.rename(from, "sub", to, "moved", 0)
			c.walked(&to.ClientFD, []string{"moved", "below", "f"}, 0, 3)
			// Handles below the moved directory must have moved along.
			c.named(below, "g")
			c.that(c.content(&f) == "hello", "content %q", c.content(&f))
			_, err := to.LinkAt(c.ctx, f.ID(), "link")
			c.ok(err, "link to a file that moved")
			c.setMode(&below.ClientFD, 0o700)
			c.unlink(below, "f")
			c.that(c.stat(&f).Nlink == 1, "link count %d", c.stat(&f).Nlink)
		}},
		{"rename/replaces", func(c *check) {
			d := c.scratch()
			f, old := c.file(d, "f", "new"), c.file(d, "g", "old")
			c.rename(d, "f", d, "g", 0)
			c.that(c.content(&f) == "new" && c.content(&old) == "old", "contents %q and %q", c.content(&f), c.content(&old))
			c.that(c.stat(&old).Nlink == 0, "link count %d", c.stat(&old).Nlink)
			_, err := d.LinkAt(c.ctx, old.ID(), "x")
			c.errno(err, unix.EINVAL, "link to the replaced file")
			a, b := c.mkdir(d, "a"), c.mkdir(d, "b")
			c.rename(d, "a", d, "b", 0)
			c.named(a, "x")
			_, err = b.MkdirAt(c.ctx, "x", 0o755, noUID, noGID)
			c.errno(err, unix.EINVAL, "mkdir in the replaced directory")
		}},
		{"rename/errors", func(c *check) {
			d := c.scratch()
			f := c.file(d, "f", "")
			a := c.mkdir(d, "a")
			c.named(a, "x")
			c.mkdir(d, "b")
			for _, r := range []struct {
				old  string
				to   *dir
				new  string
				want unix.Errno
			}{
				{"nope", d, "x", unix.ENOENT},
				{"f", d, "a", unix.EISDIR},
				{"a", d, "f", unix.ENOTDIR},
				{"b", d, "a", unix.ENOTEMPTY},
				{"a", a, "below", unix.EINVAL},
			} {
				c.errno(c.renameAt(&d.ClientFD, r.old, r.to.ID(), r.new, 0), r.want, r.old+" to "+r.new)
			}
			for _, name := range badNames {
				c.errno(c.renameAt(&d.ClientFD, name, d.ID(), "x", 0), unix.EINVAL, "from "+quoted(name))
				c.errno(c.renameAt(&d.ClientFD, "f", d.ID(), name, 0), unix.EINVAL, "to "+quoted(name))
			}
			c.errno(c.renameAt(&d.ClientFD, "f", f.ID(), "x", 0), unix.ENOTDIR, "into a file")
			c.errno(c.renameAt(&f, "x", d.ID(), "x", 0), unix.ENOTDIR, "out of a file")
			c.errno(c.renameAt(&d.ClientFD, "f", 1<<40, "x", 0), unix.EBADF, "into an unknown id")
			gone := c.mkdir(d, "gone")
			c.rmdir(d, "gone")
			c.errno(c.renameAt(&d.ClientFD, "f", gone.ID(), "x", 0), unix.EINVAL, "into a removed directory")
		}},
		{"rename/onto-itself", func(c *check) {
			d := c.scratch()
			f := c.file(d, "f", "x")
			c.rename(d, "f", d, "f", 0)
			c.that(c.stat(&f).Nlink == 1, "link count %d", c.stat(&f).Nlink)
		}},
		{"rename/no-replace", func(c *check) {
			d := c.scratch()
			f := c.file(d, "f", "f")
			g := c.file(d, "g", "g")
			c.errno(c.renameAt(&d.ClientFD, "f", d.ID(), "g", unix.RENAME_NOREPLACE), unix.EEXIST, "onto a file")
			c.that(c.content(&g) == "g" && c.stat(&f).Nlink == 1, "the refused rename changed something")
			c.rename(d, "f", d, "h", unix.RENAME_NOREPLACE)
			c.walked(&d.ClientFD, []string{"h"}, 0, 1)
		}},
		{"rename/exchange", func(c *check) {
			d := c.scratch()
			a, b := c.mkdir(d, "a"), c.mkdir(d, "b")
			f, g := c.file(a, "f", "f"), c.file(b, "g", "g")
			c.rename(a, "f", b, "g", unix.RENAME_EXCHANGE)
			c.that(c.content(&f) == "f" && c.content(&g) == "g", "contents %q and %q", c.content(&f), c.content(&g))
			c.sameFile(c.walked(&b.ClientFD, []string{"g"}, 0, 1)[0].Stat, c.stat(&f), "b/g")
			c.sameFile(c.walked(&a.ClientFD, []string{"f"}, 0, 1)[0].Stat, c.stat(&g), "a/f")
			c.rename(d, "a", d, "b", unix.RENAME_EXCHANGE)
			// Neither side may count as removed.
			for _, side := range []struct {
				dir  *dir
				file lisafs.FDID
			}{{a, g.ID()}, {b, f.ID()}} {
				_, err := side.dir.LinkAt(c.ctx, side.file, "link")
				c.ok(err, "link after the exchange")
				c.unlink(side.dir, "link")
			}
			c.unlink(a, "f")
			c.that(c.stat(&g).Nlink == 0 && c.stat(&f).Nlink == 1, "link counts %d and %d", c.stat(&g).Nlink, c.stat(&f).Nlink)
			_, err := d.LinkAt(c.ctx, g.ID(), "x")
			c.errno(err, unix.EINVAL, "link to the unlinked file")
			_, err = d.LinkAt(c.ctx, f.ID(), "x")
			c.ok(err, "link to the file that is left")
			c.errno(c.renameAt(&d.ClientFD, "a", d.ID(), "nope", unix.RENAME_EXCHANGE), unix.ENOENT, "exchange with nothing")
		}},
	}
}

func (c *check) rename(from *dir, old string, to *dir, name string, flags uint32) {
	c.ok(c.renameAt(&from.ClientFD, old, to.ID(), name, flags), "rename "+old+" to "+name)
}

// renameAt skips the check if it takes flags that the client does not have.
func (c *check) renameAt(from *lisafs.ClientFD, old string, to lisafs.FDID, name string, flags uint32) error {
	err := release.RenameAt(c.ctx, from, old, to, name, flags)
	c.hasCall(err)
	return err
}
