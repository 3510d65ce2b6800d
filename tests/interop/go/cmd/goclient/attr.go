package main

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/lisafs"
)

func attrChecks() []entry {
	return []entry{
		{"stat/fields", func(c *check) {
			c.needHost()
			d := c.scratch()
			f := c.file(d, "f", "hello")
			l := c.symlink(d, "l", "f")
			for name, fd := range map[string]*lisafs.ClientFD{"f": &f, "l": &l, ".": &d.ClientFD} {
				got := c.stat(fd)
				info, err := os.Lstat(d.host(name))
				c.ok(err, "stat on the host")
				want := info.Sys().(*syscall.Stat_t)
				same := got.Ino == want.Ino && got.Size == uint64(want.Size) && uint64(got.Nlink) == want.Nlink &&
					uint32(got.Mode) == want.Mode && got.UID == want.Uid && got.GID == want.Gid &&
					got.Blocks == uint64(want.Blocks) && int64(got.Blksize) == want.Blksize &&
					got.DevMajor == unix.Major(want.Dev) && got.DevMinor == unix.Minor(want.Dev) &&
					got.Mtime.ToNsec() == want.Mtim.Nano() && got.Ctime.ToNsec() == want.Ctim.Nano()
				c.that(same, "%s: got %s, the host has %+v", name, &got, want)
				c.that(got.Mask&unix.STATX_BASIC_STATS == unix.STATX_BASIC_STATS, "mask %#x", got.Mask)
			}
		}},
		{"statfs/fields", func(c *check) {
			d := c.scratch()
			_, open := c.create(d, "f")
			var got lisafs.StatFS
			c.ok(d.StatFSTo(c.ctx, &got), "statfs")
			c.that(got.BlockSize > 0 && got.NameLength == 255, "block size %d, name length %d", got.BlockSize, got.NameLength)
			c.errno(open.StatFSTo(c.ctx, &got), unix.EINVAL, "statfs of an open file")
		}},
		{"statfs/host", func(c *check) {
			c.needHost()
			d := c.scratch()
			var got lisafs.StatFS
			c.ok(d.StatFSTo(c.ctx, &got), "statfs")
			var want unix.Statfs_t
			c.ok(unix.Statfs(d.path, &want), "statfs on the host")
			same := got.Type == uint64(want.Type) && got.BlockSize == want.Bsize && got.Blocks == want.Blocks && got.Files == want.Files
			c.that(same, "got %s, the host has %+v", &got, want)
		}},
		{"setstat/mode", func(c *check) {
			d := c.scratch()
			f := c.file(d, "f", "")
			for _, mode := range []uint16{0, 0o777, 0o7711, 0o644} {
				c.setMode(&f, mode)
				c.that(c.stat(&f).Mode == linux.S_IFREG|mode, "mode %#o, want %#o", c.stat(&f).Mode, mode)
			}
			c.setMode(&d.ClientFD, 0o1777)
			c.that(c.stat(&d.ClientFD).Mode == linux.S_IFDIR|0o1777, "directory mode %#o", c.stat(&d.ClientFD).Mode)
		}},
		{"setstat/size", func(c *check) {
			d := c.scratch()
			f := c.file(d, "f", "hello")
			c.setSize(&f, 2)
			c.that(c.content(&f) == "he", "content %q", c.content(&f))
			c.setSize(&f, 4)
			c.that(c.content(&f) == "he\x00\x00", "content %q", c.content(&f))
		}},
		{"setstat/times", func(c *check) {
			d := c.scratch()
			f := c.file(d, "f", "")
			l := c.symlink(d, "l", "f")
			for _, fd := range []*lisafs.ClientFD{&f, &l, &d.ClientFD} {
				both := linux.Statx{
					Mask:  unix.STATX_ATIME | unix.STATX_MTIME,
					Atime: linux.StatxTimestamp{Sec: 1000, Nsec: 1},
					Mtime: linux.StatxTimestamp{Sec: 2000, Nsec: 999999999},
				}
				c.setStat(fd, &both)
				got := c.stat(fd)
				c.that(got.Atime.ToNsec() == 1000_000000001 && got.Mtime.ToNsec() == 2000_999999999, "times %s", &got)
				one := linux.Statx{Mask: unix.STATX_MTIME, Mtime: linux.StatxTimestamp{Sec: 3000}}
				c.setStat(fd, &one)
				got = c.stat(fd)
				c.that(got.Atime.ToNsec() == 1000_000000001 && got.Mtime.ToNsec() == 3000_000000000, "times %s", &got)
				now := linux.Statx{Mask: unix.STATX_MTIME, Mtime: linux.StatxTimestamp{Nsec: unix.UTIME_NOW}}
				c.setStat(fd, &now)
				got = c.stat(fd)
				c.that(got.Mtime.Sec > 1<<30, "UTIME_NOW: times %s", &got)
				one = linux.Statx{Mask: unix.STATX_ATIME, Atime: linux.StatxTimestamp{Sec: 4000}}
				c.setStat(fd, &one)
				after := c.stat(fd)
				c.that(after.Atime.ToNsec() == 4000_000000000 && after.Mtime == got.Mtime, "times %s", &after)
				omit := linux.Statx{Mask: unix.STATX_ATIME, Atime: linux.StatxTimestamp{Nsec: unix.UTIME_OMIT}}
				c.setStat(fd, &omit)
				c.that(c.stat(fd).Atime == after.Atime, "UTIME_OMIT changes the time")
			}
		}},
		{"setstat/owner-unchanged", func(c *check) {
			d := c.scratch()
			f := c.file(d, "f", "")
			before := c.stat(&f)
			c.setStat(&f, &linux.Statx{Mask: unix.STATX_UID | unix.STATX_GID, UID: ^uint32(0), GID: ^uint32(0)})
			c.setStat(&f, &linux.Statx{Mask: unix.STATX_UID, UID: before.UID})
			c.setStat(&f, &linux.Statx{Mask: unix.STATX_GID, GID: before.GID})
			after := c.stat(&f)
			c.that(after.UID == before.UID && after.GID == before.GID, "owner %d:%d", after.UID, after.GID)
		}},
		{"setstat/owner", func(c *check) {
			c.needRoot()
			d := c.scratch()
			f := c.file(d, "f", "")
			l := c.symlink(d, "l", "f")
			for _, fd := range []*lisafs.ClientFD{&f, &l, &d.ClientFD} {
				c.setStat(fd, &linux.Statx{Mask: unix.STATX_UID, UID: 1234})
				c.setStat(fd, &linux.Statx{Mask: unix.STATX_GID, GID: 4321})
				got := c.stat(fd)
				c.that(got.UID == 1234 && got.GID == 4321, "owner %d:%d", got.UID, got.GID)
			}
		}},
		{"setstat/nothing", func(c *check) {
			d := c.scratch()
			c.setStat(&d.ClientFD, &linux.Statx{})
		}},
		{"setstat/several", func(c *check) {
			d := c.scratch()
			f := c.file(d, "f", "hello")
			c.setStat(&f, &linux.Statx{
				Mask:  unix.STATX_MODE | unix.STATX_SIZE | unix.STATX_MTIME,
				Mode:  0o600,
				Size:  1,
				Mtime: linux.StatxTimestamp{Sec: 7},
			})
			got := c.stat(&f)
			c.that(got.Mode == linux.S_IFREG|0o600 && got.Size == 1 && got.Mtime.ToNsec() == 7e9, "stat %s", &got)
		}},
		{"setstat/partial-failure", func(c *check) {
			d := c.scratch()
			l := c.symlink(d, "l", "f")
			mask, failure, err := l.SetStat(c.ctx, &linux.Statx{Mask: unix.STATX_MODE | unix.STATX_MTIME, Mode: 0o600})
			c.ok(err, "setstat")
			c.that(mask == unix.STATX_MODE, "failure mask %#x", mask)
			c.errno(failure, unix.EOPNOTSUPP, "mode of a symlink")
			c.that(c.stat(&l).Mtime.ToNsec() == 0, "the time was not set")
			mask, failure, err = d.SetStat(c.ctx, &linux.Statx{Mask: unix.STATX_SIZE | unix.STATX_MODE, Mode: 0o711})
			c.ok(err, "setstat")
			c.that(mask == unix.STATX_SIZE, "failure mask %#x", mask)
			c.errno(failure, unix.EISDIR, "size of a directory")
			c.that(c.stat(&d.ClientFD).Mode == linux.S_IFDIR|0o711, "the mode was not set")
		}},
		{"setstat/errors", func(c *check) {
			d := c.scratch()
			_, open := c.create(d, "f")
			for _, mask := range []uint32{unix.STATX_BTIME, unix.STATX_INO | unix.STATX_MODE, 1 << 31} {
				_, _, err := d.SetStat(c.ctx, &linux.Statx{Mask: mask})
				c.errno(err, unix.EPERM, "setstat of something else")
			}
			_, _, err := open.SetStat(c.ctx, &linux.Statx{})
			c.errno(err, unix.EINVAL, "setstat of an open file")
		}},
	}
}

// needRoot skips the check unless owners can be chosen freely. The server is
// taken to run as the same user.
func (c *check) needRoot() {
	if os.Geteuid() != 0 {
		c.skip("needs root")
	}
}

// setStat sets attributes and fails unless all were set.
func (c *check) setStat(fd *lisafs.ClientFD, stat *linux.Statx) {
	mask, failure, err := fd.SetStat(c.ctx, stat)
	c.ok(err, "setstat")
	// The client of 2022 hands out an error number of 0 where nothing failed.
	nothing := failure == nil || failure == unix.Errno(0)
	c.that(mask == 0 && nothing, "setstat %#x: failure mask %#x, %s", stat.Mask, mask, outcome(failure))
}

func (c *check) setMode(fd *lisafs.ClientFD, mode uint16) {
	c.setStat(fd, &linux.Statx{Mask: unix.STATX_MODE, Mode: mode})
}

func (c *check) setSize(fd *lisafs.ClientFD, size uint64) {
	c.setStat(fd, &linux.Statx{Mask: unix.STATX_SIZE, Size: size})
}
