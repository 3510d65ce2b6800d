package main

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/lisafs"
)

func xattrChecks() []entry {
	return []entry{
		{"xattr/round-trip", func(c *check) {
			d := c.scratch()
			c.needXattr(d)
			f := c.file(d, "f", "")
			for _, fd := range []*lisafs.ClientFD{&f, &d.ClientFD} {
				for _, value := range []string{"", "\x00\xff", strings.Repeat("v", 1000)} {
					c.ok(fd.SetXattr(c.ctx, "user.a", value, 0), "set")
					got, err := fd.GetXattr(c.ctx, "user.a", uint64(len(value)))
					c.ok(err, "get")
					c.that(got == value, "got %s", quoted(got))
				}
				// Another value in between, so that what is left in the window
				// cannot pass for the answer.
				other := strings.Repeat("w", 1000)
				c.ok(fd.SetXattr(c.ctx, "user.b", other, 0), "set")
				got, err := fd.GetXattr(c.ctx, "user.b", 1000)
				c.ok(err, "get")
				c.that(got == other, "got %s", quoted(got))
				got, err = fd.GetXattr(c.ctx, "user.a", 0)
				c.ok(err, "get with size 0")
				c.that(got == strings.Repeat("v", 1000), "got %s", quoted(got))
				_, err = fd.GetXattr(c.ctx, "user.a", 999)
				c.errno(err, unix.ERANGE, "get with too small a size")
			}
		}},
		{"xattr/list-and-remove", func(c *check) {
			d := c.scratch()
			c.needXattr(d)
			f := c.file(d, "f", "")
			for _, name := range []string{"user.a", "user.\xff"} {
				c.ok(f.SetXattr(c.ctx, name, "x", unix.XATTR_CREATE), "set "+quoted(name))
			}
			for _, size := range []uint64{0, 1 << 12, 1 << 40} {
				names, err := f.ListXattr(c.ctx, size)
				c.ok(err, "list")
				c.that(userNames(names) == 2, "names %q", names)
			}
			_, err := f.ListXattr(c.ctx, 1)
			c.errno(err, unix.ERANGE, "list with too small a size")
			c.ok(f.RemoveXattr(c.ctx, "user.a"), "remove")
			_, err = f.GetXattr(c.ctx, "user.a", 0)
			c.errno(err, unix.ENODATA, "get of a removed name")
			c.errno(f.RemoveXattr(c.ctx, "user.a"), unix.ENODATA, "remove twice")
			names, err := f.ListXattr(c.ctx, 0)
			c.ok(err, "list")
			c.that(userNames(names) == 1, "names %q", names)
		}},
		{"xattr/flags", func(c *check) {
			d := c.scratch()
			c.needXattr(d)
			f := c.file(d, "f", "")
			c.errno(f.SetXattr(c.ctx, "user.a", "x", unix.XATTR_REPLACE), unix.ENODATA, "replace of nothing")
			c.ok(f.SetXattr(c.ctx, "user.a", "x", unix.XATTR_CREATE), "create")
			c.errno(f.SetXattr(c.ctx, "user.a", "y", unix.XATTR_CREATE), unix.EEXIST, "create twice")
			c.ok(f.SetXattr(c.ctx, "user.a", "y", unix.XATTR_REPLACE), "replace")
		}},
		{"xattr/open-file", func(c *check) {
			d := c.scratch()
			_, open := c.create(d, "f")
			_, err := open.GetXattr(c.ctx, "user.a", 0)
			c.errno(err, unix.EINVAL, "get on an open file")
			_, err = open.ListXattr(c.ctx, 0)
			c.errno(err, unix.EINVAL, "list on an open file")
		}},
	}
}

// needXattr skips the check where the file system has no user attributes.
func (c *check) needXattr(d *dir) {
	err := d.SetXattr(c.ctx, "user.probe", "", 0)
	if errors.Is(err, unix.EOPNOTSUPP) {
		c.skip("the file system has no user xattrs")
	}
	c.ok(err, "set")
	c.ok(d.RemoveXattr(c.ctx, "user.probe"), "remove")
}

// userNames counts the names in the user namespace; the host may add others.
func userNames(names []string) int {
	n := 0
	for _, name := range names {
		if strings.HasPrefix(name, "user.") {
			n++
		}
	}
	return n
}
