package main

import (
	"fmt"
	"math"
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/lisafs"
)

// treeProbes asks about directories, names and renames.
func treeProbes() []probe {
	return []probe{
		{"getdents/small-counts", func(c *check) string {
			d := c.scratch()
			for i := 0; i < 4; i++ {
				c.named(d, fmt.Sprintf("file-%d", i))
			}
			var got []string
			for _, count := range []int32{0, 1, 10, 23, 24, 32, 279, 280} {
				// Opened anew, so that every count meets the same position.
				open := c.open(&d.ClientFD, unix.O_RDONLY)
				part, err := open.Getdents64(c.ctx, count)
				got = append(got, fmt.Sprintf("%d: %s", count, listing(part, err)))
			}
			return strings.Join(got, ", ")
		}},
		{"getdents/small-count-loses-nothing", func(c *check) string {
			d := c.scratch()
			for i := 0; i < 4; i++ {
				c.named(d, fmt.Sprintf("file-%d", i))
			}
			open := c.open(&d.ClientFD, unix.O_RDONLY)
			_, _ = open.Getdents64(c.ctx, 24)
			part, err := open.Getdents64(c.ctx, 65536)
			return listing(part, err)
		}},
		{"getdents/largest-count", func(c *check) string { return c.getdents(math.MaxInt32) }},
		{"getdents/smallest-count", func(c *check) string { return c.getdents(math.MinInt32) }},
		{"getdents/reply-limit", func(c *check) string {
			// 12,000 names of 200 bytes are more than one reply can hold.
			const n = 12_000
			d := c.scratch()
			for i := 0; i < n; i++ {
				inode, err := d.MknodAt(c.ctx, fmt.Sprintf("%0200d", i), linux.S_IFREG|0o644, noUID, noGID, 0, 0)
				c.ok(err, "mknod")
				c.client.CloseFD(c.ctx, inode.ControlFD, false)
			}
			open := c.open(&d.ClientFD, unix.O_RDONLY)
			part, err := open.Getdents64(c.ctx, math.MaxInt32)
			if err != nil {
				return outcome(err)
			}
			rest, err := open.Getdents64(c.ctx, 65536)
			return fmt.Sprintf("some %t, more follow %t, %s", len(part) > 0, len(rest) > 0, outcome(err))
		}},
		{"link/to-root", func(c *check) string {
			d := c.scratch()
			_, err := d.LinkAt(c.ctx, c.root.ID(), "x")
			return outcome(err)
		}},
		{"rename/missing-onto-itself", func(c *check) string {
			d := c.scratch()
			return outcome(c.renameAt(&d.ClientFD, "nope", d.ID(), "nope", 0))
		}},
		{"rename/onto-itself-no-replace", func(c *check) string {
			d := c.scratch()
			c.named(d, "f")
			return outcome(c.renameAt(&d.ClientFD, "f", d.ID(), "f", unix.RENAME_NOREPLACE))
		}},
		{"rename/flags", func(c *check) string {
			var got []string
			for _, flags := range []uint32{3, unix.RENAME_WHITEOUT, 5, 8, 1 << 31} {
				d := c.scratch()
				c.named(d, "f")
				err := c.renameAt(&d.ClientFD, "f", d.ID(), "g", flags)
				got = append(got, fmt.Sprintf("%#x: %s, leaving %s", flags, outcome(err), c.names(d)))
			}
			return strings.Join(got, "; ")
		}},
		{"rename/between-hard-links", func(c *check) string {
			d := c.scratch()
			f := c.file(d, "f", "x")
			inode, err := d.LinkAt(c.ctx, f.ID(), "g")
			c.ok(err, "link")
			g := c.control(inode)
			err = c.renameAt(&d.ClientFD, "f", d.ID(), "g", 0)
			_, linkErr := d.LinkAt(c.ctx, g.ID(), "h")
			return fmt.Sprintf("%s, then link from the target %s, leaving %s", outcome(err), outcome(linkErr), c.names(d))
		}},
		{"mknod/whiteout-with-mode", func(c *check) string {
			d := c.scratch()
			inode, err := d.MknodAt(c.ctx, "w", linux.S_IFCHR|0o640, noUID, noGID, 0, 0)
			return fmt.Sprintf("%s, mode %#o", outcome(err), inode.Stat.Mode&0o7777)
		}},
		{"unlink/flag-bits", func(c *check) string {
			d := c.scratch()
			c.mkdir(d, "d")
			return outcome(d.UnlinkAt(c.ctx, "d", unix.AT_REMOVEDIR|unix.AT_SYMLINK_NOFOLLOW))
		}},
		{"symlink/target-of-65535-bytes", func(c *check) string {
			d := c.scratch()
			_, err := d.SymlinkAt(c.ctx, "l", strings.Repeat("t", math.MaxUint16), noUID, noGID)
			return outcome(err)
		}},
		{"walk/65535-names", func(c *check) string {
			d := c.scratch()
			names := strings.Split(strings.Repeat("n", math.MaxUint16), "")
			_, _, err := d.WalkMultiple(c.ctx, names)
			_, statErr := d.WalkStat(c.ctx, names)
			return fmt.Sprintf("walk %s, walkstat %s", outcome(err), outcome(statErr))
		}},
		{"sync/65535-times-the-same", func(c *check) string {
			d := c.scratch()
			open := c.open(&d.ClientFD, unix.O_RDONLY)
			ids := make([]lisafs.FDID, math.MaxUint16)
			for i := range ids {
				ids[i] = open.ID()
			}
			return outcome(c.client.SyncFDs(c.ctx, ids))
		}},
	}
}

// getdents lists three files with one request of this count.
func (c *check) getdents(count int32) string {
	d := c.scratch()
	for i := 0; i < 3; i++ {
		c.named(d, fmt.Sprintf("file-%d", i))
	}
	open := c.open(&d.ClientFD, unix.O_RDONLY)
	part, err := open.Getdents64(c.ctx, count)
	return listing(part, err)
}

func listing(part []lisafs.Dirent64, err error) string {
	if err != nil {
		return outcome(err)
	}
	return fmt.Sprintf("%d entries", len(part))
}

// deletedProbes asks what still works on files and directories whose name is
// gone, and what happens to handles when the name is taken again.
func deletedProbes() []probe {
	return []probe{
		{"deleted/readlink", func(c *check) string {
			d := c.scratch()
			l := c.symlink(d, "l", "target")
			c.unlink(d, "l")
			target, err := l.ReadLinkAt(c.ctx)
			return fmt.Sprintf("%s %q", outcome(err), target)
		}},
		{"deleted/file", func(c *check) string {
			d := c.scratch()
			f := c.file(d, "f", "")
			c.unlink(d, "f")
			return c.xattrs(&f)
		}},
		{"deleted/directory", func(c *check) string {
			d := c.scratch()
			gone := c.mkdir(d, "gone")
			c.rmdir(d, "gone")
			_, _, openErr := gone.OpenAt(c.ctx, unix.O_RDONLY)
			_, statErr := gone.WalkStat(c.ctx, []string{"x"})
			mode := c.setting(&gone.ClientFD, &linux.Statx{Mask: unix.STATX_MODE, Mode: 0o700})
			return fmt.Sprintf("open %s, walkstat %s, mode %s, %s", outcome(openErr), outcome(statErr), mode, c.xattrs(&gone.ClientFD))
		}},
		{"deleted/symlink-times", func(c *check) string {
			d := c.scratch()
			l := c.symlink(d, "l", "target")
			c.unlink(d, "l")
			return c.setting(&l, &linux.Statx{Mask: unix.STATX_MTIME, Mtime: linux.StatxTimestamp{Sec: 1}})
		}},
		{"deleted/symlink-times-name-reused", func(c *check) string {
			d := c.scratch()
			old := c.symlink(d, "l", "old")
			c.unlink(d, "l")
			fresh := c.symlink(d, "l", "fresh")
			got := c.setting(&old, &linux.Statx{Mask: unix.STATX_MTIME, Mtime: linux.StatxTimestamp{Sec: 1}})
			return fmt.Sprintf("%s, the other file changes %t", got, c.stat(&fresh).Mtime.Sec == 1)
		}},
		{"deleted/late-close-of-a-replaced-name", func(c *check) string {
			d := c.scratch()
			old := c.mkdir(d, "n")
			c.rmdir(d, "n")
			fresh := c.mkdir(d, "n")
			// The old handle dies while the new node holds the name.
			old.Close(c.ctx, true)
			c.rmdir(d, "n")
			_, err := fresh.MkdirAt(c.ctx, "x", 0o755, noUID, noGID)
			return outcome(err)
		}},
		{"deleted/by-the-host", func(c *check) string {
			c.needHost()
			d := c.scratch()
			f := c.file(d, "f", "x")
			c.ok(unix.Unlink(d.host("f")), "unlink on the host")
			_, err := d.LinkAt(c.ctx, f.ID(), "g")
			_, host, openErr := f.OpenAt(c.ctx, unix.O_RDONLY)
			discard(host)
			return fmt.Sprintf("link %s, open %s, nlink %d", outcome(err), outcome(openErr), c.stat(&f).Nlink)
		}},
		{"replaced/by-the-host", func(c *check) string {
			c.needHost()
			d := c.scratch()
			f := c.file(d, "f", "old")
			c.ok(unix.Unlink(d.host("f")), "unlink on the host")
			c.ok(unix.Symlink("/etc/passwd", d.host("f")), "symlink on the host")
			inode, err := d.LinkAt(c.ctx, f.ID(), "g")
			kind := linux.FileMode(inode.Stat.Mode).FileType() == linux.S_IFLNK
			return fmt.Sprintf("link %s, to the intruder %t", outcome(err), err == nil && kind)
		}},
	}
}

// xattrs reports all four xattr calls.
func (c *check) xattrs(fd *lisafs.ClientFD) string {
	_, get := fd.GetXattr(c.ctx, "user.a", 0)
	_, list := fd.ListXattr(c.ctx, 0)
	set := fd.SetXattr(c.ctx, "user.a", "x", 0)
	remove := fd.RemoveXattr(c.ctx, "user.a")
	return fmt.Sprintf("getxattr %s, listxattr %s, setxattr %s, removexattr %s", outcome(get), outcome(list), outcome(set), outcome(remove))
}
