package main

import (
	"fmt"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/lisafs"
)

func listChecks() []entry {
	return []entry{
		{"getdents/empty", func(c *check) {
			d := c.scratch()
			open := c.open(&d.ClientFD, unix.O_RDONLY)
			for _, count := range []int32{-65536, 65536, 4096} {
				part, err := open.Getdents64(c.ctx, count)
				c.ok(err, "getdents")
				c.that(len(part) == 0, "%d entries", len(part))
			}
		}},
		{"getdents/kinds", func(c *check) {
			d := c.scratch()
			f := c.file(d, "f", "")
			l := c.symlink(d, "l\xff", "f")
			sub := c.mkdir(d, "sub")
			want := map[string]struct {
				fd   *lisafs.ClientFD
				kind uint8
			}{
				"f":     {&f, unix.DT_REG},
				"l\xff": {&l, unix.DT_LNK},
				"sub":   {&sub.ClientFD, unix.DT_DIR},
			}
			open := c.open(&d.ClientFD, unix.O_RDONLY)
			got := c.entries(&open)
			c.that(len(got) == len(want), "%d entries", len(got))
			for _, e := range got {
				w, ok := want[string(e.Name)]
				c.that(ok, "unexpected %s", quoted(string(e.Name)))
				stat := c.stat(w.fd)
				same := uint8(e.Type) == w.kind && uint64(e.Ino) == stat.Ino && uint32(e.DevMajor) == stat.DevMajor && uint32(e.DevMinor) == stat.DevMinor
				c.that(same, "entry %s, stat %s", &e, &stat)
			}
		}},
		{"getdents/3000-entries", func(c *check) {
			const n = 3000
			d := c.scratch()
			for i := 0; i < n; i++ {
				inode, err := d.MknodAt(c.ctx, fmt.Sprintf("entry-%04d-%0*d", i, i%200+1, 0), linux.S_IFREG|0o644, noUID, noGID, 0, 0)
				c.ok(err, "mknod")
				c.control(inode)
			}
			open := c.open(&d.ClientFD, unix.O_RDONLY)
			c.distinct(c.entries(&open), n, "first pass")
			c.distinct(c.entries(&open), n, "pass after a rewind")
			var small []lisafs.Dirent64
			for count := int32(-1000); ; count = 1000 {
				part, err := open.Getdents64(c.ctx, count)
				c.ok(err, "getdents")
				if len(part) == 0 {
					break
				}
				c.that(len(part) <= 1000/24, "%d entries in 1000 bytes", len(part))
				small = append(small, part...)
			}
			c.distinct(small, n, "pass in small steps")
			end, err := open.Getdents64(c.ctx, 65536)
			c.ok(err, "getdents")
			c.that(len(end) == 0, "%d entries behind the end", len(end))
		}},
		{"getdents/two-positions", func(c *check) {
			d := c.scratch()
			for i := 0; i < 100; i++ {
				c.symlink(d, fmt.Sprintf("l%d", i), "x")
			}
			first, second := c.open(&d.ClientFD, unix.O_RDONLY), c.open(&d.ClientFD, unix.O_RDONLY)
			_, err := first.Getdents64(c.ctx, 1024)
			c.ok(err, "getdents")
			c.distinct(c.entries(&second), 100, "second open")
		}},
		{"getdents/errors", func(c *check) {
			d := c.scratch()
			_, open := c.create(d, "f")
			_, err := open.Getdents64(c.ctx, 4096)
			c.errno(err, unix.ENOTDIR, "getdents of a file")
			_, err = d.Getdents64(c.ctx, 4096)
			c.errno(err, unix.EINVAL, "getdents of a control handle")
			gone := c.mkdir(d, "gone")
			dir := c.open(&gone.ClientFD, unix.O_RDONLY)
			c.rmdir(d, "gone")
			_, err = dir.Getdents64(c.ctx, 4096)
			c.errno(err, unix.EINVAL, "getdents of a removed directory")
		}},
	}
}

// distinct fails unless there are n entries, all different, without . and .. .
func (c *check) distinct(entries []lisafs.Dirent64, n int, what string) {
	names := make(map[string]bool)
	for _, e := range entries {
		name := string(e.Name)
		c.that(name != "." && name != ".." && !names[name], "%s: unexpected %s", what, quoted(name))
		names[name] = true
	}
	c.that(len(names) == n, "%s: %d entries, want %d", what, len(names), n)
}
