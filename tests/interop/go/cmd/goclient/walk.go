package main

import (
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/lisafs"
	"lisafs.test/interop/internal/release"
)

func mountChecks() []entry {
	return []entry{
		{"mount/root", func(c *check) {
			root := c.mount.Root
			c.that(root.ControlFD.Ok(), "root handle is 0")
			c.that(linux.FileMode(root.Stat.Mode).IsDir(), "root has mode %#o", root.Stat.Mode)
			c.that(root.Stat.Mask&unix.STATX_TYPE != 0, "mask %#x lacks the type", root.Stat.Mask)
			c.sameFile(c.stat(&c.root), root.Stat, "stat of the root")
		}},
		{"mount/again", func(c *check) {
			second := c.control(c.remount())
			c.that(second.ID() != c.root.ID(), "second Mount answers the first root's handle")
			c.sameFile(c.stat(&second), c.mount.Root.Stat, "stat of the second root")
		}},
		{"mount/messages", func(c *check) {
			for mid := lisafs.Mount; mid <= lisafs.Accept; mid++ {
				want := mid != lisafs.Flush
				c.that(c.client.IsSupported(mid) == want, "message %d: supported %t, want %t", mid, !want, want)
			}
			c.that(c.client.IsSupported(renameAt2), "RenameAt2 is not supported")
			c.that(!c.client.IsSupported(lisafs.Error), "Error is advertised as a request")
		}},
		{"mount/channels", func(c *check) {
			c.that(c.channels() >= 1 && c.channels() <= 4, "%d channels", c.channels())
		}},
	}
}

// sameFile fails unless both stats describe the same file.
func (c *check) sameFile(got, want release.Statx, what string) {
	same := got.Ino == want.Ino && got.DevMajor == want.DevMajor && got.DevMinor == want.DevMinor && got.Mode == want.Mode
	c.that(same, "%s: got %s, want %s", what, &got, &want)
}

func walkChecks() []entry {
	return []entry{
		{"walk/one", func(c *check) {
			d := c.scratch()
			made := c.file(d, "f", "x")
			inode, err := d.Walk(c.ctx, "f")
			c.ok(err, "walk")
			found := c.control(inode)
			c.that(found.ID() != made.ID(), "walk answers the handle of the create")
			c.sameFile(inode.Stat, c.stat(&made), "walked inode")
			c.that(inode.Stat.Size == 1, "size %d", inode.Stat.Size)
		}},
		{"walk/missing", func(c *check) {
			d := c.scratch()
			_, err := d.Walk(c.ctx, "nope")
			c.errno(err, unix.ENOENT, "walk")
		}},
		{"walk/empty-path", func(c *check) {
			d := c.scratch()
			c.walked(&d.ClientFD, nil, lisafs.WalkSuccess, 0)
		}},
		{"walk/multiple", func(c *check) {
			d := c.scratch()
			a := c.mkdir(d, "a")
			b := c.mkdir(a, "b")
			f := c.file(b, "f", "")
			inodes := c.walked(&d.ClientFD, []string{"a", "b", "f"}, lisafs.WalkSuccess, 3)
			for i, want := range []*lisafs.ClientFD{&a.ClientFD, &b.ClientFD, &f} {
				c.sameFile(inodes[i].Stat, c.stat(want), "component")
				handle := c.client.NewFD(inodes[i].ControlFD)
				c.sameFile(c.stat(&handle), c.stat(want), "handle of the component")
			}
		}},
		{"walk/partial", func(c *check) {
			d := c.scratch()
			c.mkdir(d, "a")
			c.walked(&d.ClientFD, []string{"nope", "x"}, lisafs.WalkComponentDoesNotExist, 0)
			inodes := c.walked(&d.ClientFD, []string{"a", "nope", "x"}, lisafs.WalkComponentDoesNotExist, 1)
			handle := c.client.NewFD(inodes[0].ControlFD)
			c.that(linux.FileMode(c.stat(&handle).Mode).IsDir(), "the partial walk's handle is no directory")
		}},
		{"walk/through-file", func(c *check) {
			d := c.scratch()
			c.file(d, "f", "")
			_, _, err := d.WalkMultiple(c.ctx, []string{"f", "x"})
			c.errno(err, unix.ENOTDIR, "walk")
		}},
		{"walk/symlink", func(c *check) {
			d := c.scratch()
			c.mkdir(d, "a")
			c.symlink(d, "l", "a")
			last := c.walked(&d.ClientFD, []string{"l"}, lisafs.WalkSuccess, 1)
			c.that(linux.FileMode(last[0].Stat.Mode).FileType() == linux.S_IFLNK, "mode %#o", last[0].Stat.Mode)
			c.walked(&d.ClientFD, []string{"l", "x"}, lisafs.WalkComponentSymlink, 1)
			c.walked(&d.ClientFD, []string{"l", "x", "y"}, lisafs.WalkComponentSymlink, 1)
		}},
		{"walk/names", func(c *check) {
			d := c.scratch()
			for _, name := range badNames {
				_, _, err := d.WalkMultiple(c.ctx, []string{name})
				c.errno(err, unix.EINVAL, "walk to "+quoted(name))
			}
			_, _, err := d.WalkMultiple(c.ctx, []string{strings.Repeat("n", 256)})
			c.errno(err, unix.ENAMETOOLONG, "walk to 256 bytes")
			c.file(d, strings.Repeat("n", 255), "")
			c.walked(&d.ClientFD, []string{strings.Repeat("n", 255)}, lisafs.WalkSuccess, 1)
		}},
		{"walk/names-behind-the-stop", func(c *check) {
			d := c.scratch()
			c.walked(&d.ClientFD, []string{"nope", ".."}, lisafs.WalkComponentDoesNotExist, 0)
		}},
		{"walk/bad-start", func(c *check) {
			d := c.scratch()
			f, open := c.create(d, "f")
			l := c.symlink(d, "l", "f")
			unknown := c.client.NewFD(1 << 40)
			zero := c.client.NewFD(0)
			for _, start := range []struct {
				what string
				fd   *lisafs.ClientFD
				want unix.Errno
			}{
				{"file", &f, unix.ENOTDIR},
				{"symlink", &l, unix.ENOTDIR},
				{"open file", &open, unix.EINVAL},
				{"unknown id", &unknown, unix.EBADF},
				{"id 0", &zero, unix.EBADF},
			} {
				for _, path := range [][]string{nil, {"x"}} {
					_, _, err := start.fd.WalkMultiple(c.ctx, path)
					c.errno(err, start.want, "walk from "+start.what)
				}
			}
		}},
		{"walk/deep", func(c *check) {
			d := c.scratch()
			path := make([]string, 100)
			for at, i := d, 0; i < len(path); i++ {
				path[i] = "d"
				at = c.mkdir(at, "d")
			}
			c.walked(&d.ClientFD, path, lisafs.WalkSuccess, len(path))
		}},
		{"walk/reply-limit", func(c *check) {
			d := c.scratch()
			// The reply takes 3 bytes and 152 for each name.
			most := int(c.maxMessage()-3) / 152
			path := strings.Split(strings.Repeat("n", most+1), "")
			c.walked(&d.ClientFD, path[:most], lisafs.WalkComponentDoesNotExist, 0)
			_, _, err := d.WalkMultiple(c.ctx, path)
			c.errno(err, unix.EIO, "walk whose reply might not fit")
			c.stat(&d.ClientFD)
		}},
		{"walk/removed-directory", func(c *check) {
			d := c.scratch()
			gone := c.mkdir(d, "gone")
			c.rmdir(d, "gone")
			c.walked(&gone.ClientFD, []string{"x"}, lisafs.WalkComponentDoesNotExist, 0)
		}},
	}
}

// badNames are refused as the name of anything, for a reason of their own each.
var badNames = []string{"", ".", "..", "a/b", "/", "a\x00b"}

func walkStatChecks() []entry {
	return []entry{
		{"walkstat/self", func(c *check) {
			d := c.scratch()
			f := c.file(d, "f", "abc")
			l := c.symlink(d, "l", "f")
			for _, fd := range []*lisafs.ClientFD{&d.ClientFD, &f, &l} {
				stats := c.walkStat(fd, []string{""}, 1)
				c.sameFile(stats[0], c.stat(fd), "own stat")
				c.walkStat(fd, nil, 0)
			}
		}},
		{"walkstat/path", func(c *check) {
			d := c.scratch()
			a := c.mkdir(d, "a")
			f := c.file(a, "f", "abc")
			stats := c.walkStat(&d.ClientFD, []string{"", "a", "f"}, 3)
			for i, want := range []*lisafs.ClientFD{&d.ClientFD, &a.ClientFD, &f} {
				c.sameFile(stats[i], c.stat(want), "component")
			}
			c.walkStat(&d.ClientFD, []string{"a", "f"}, 2)
		}},
		{"walkstat/stops", func(c *check) {
			d := c.scratch()
			c.mkdir(d, "a")
			c.symlink(d, "l", "a")
			c.walkStat(&d.ClientFD, []string{"nope", "x"}, 0)
			c.walkStat(&d.ClientFD, []string{"a", "nope", "x"}, 1)
			c.walkStat(&d.ClientFD, []string{"l", "x"}, 1)
		}},
		{"walkstat/errors", func(c *check) {
			d := c.scratch()
			c.mkdir(d, "a")
			f := c.file(d, "f", "")
			for _, name := range append([]string{"nope/x"}, badNames[1:]...) {
				_, err := d.WalkStat(c.ctx, []string{name})
				c.errno(err, unix.EINVAL, "stat "+quoted(name))
			}
			_, err := d.WalkStat(c.ctx, []string{"nope", ".."})
			c.errno(err, unix.EINVAL, "bad name behind the stop")
			_, err = d.WalkStat(c.ctx, []string{"a", ""})
			c.errno(err, unix.EINVAL, "empty name behind the first")
			_, err = d.WalkStat(c.ctx, []string{"f", "x"})
			c.errno(err, unix.ENOTDIR, "through a file")
			_, err = f.WalkStat(c.ctx, []string{"x"})
			c.errno(err, unix.ENOTDIR, "from a file")
			unknown := c.client.NewFD(1 << 40)
			_, err = unknown.WalkStat(c.ctx, []string{""})
			c.errno(err, unix.EBADF, "from an unknown id")
		}},
	}
}

// walked walks and fails unless the walk stops like this after n inodes.
func (c *check) walked(from *lisafs.ClientFD, path []string, status lisafs.WalkStatus, n int) []lisafs.Inode {
	got, inodes, err := from.WalkMultiple(c.ctx, path)
	c.ok(err, "walk")
	for _, inode := range inodes {
		c.control(inode)
	}
	c.that(got == status && len(inodes) == n, "walk: status %d after %d inodes, want %d after %d", got, len(inodes), status, n)
	return inodes
}

func (c *check) walkStat(from *lisafs.ClientFD, path []string, n int) []release.Statx {
	stats, err := from.WalkStat(c.ctx, path)
	c.ok(err, "walkstat")
	c.that(len(stats) == n, "walkstat %q: %d stats, want %d", path, len(stats), n)
	return stats
}
