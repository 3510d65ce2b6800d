package main

import (
	"fmt"
	"os"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/lisafs"
)

// setupProbes asks what the server is willing to do at all.
func setupProbes() []probe {
	return []probe{
		{"setup/messages", func(c *check) string {
			var mids []string
			for mid := lisafs.Error; mid < 256; mid++ {
				if c.client.IsSupported(mid) {
					mids = append(mids, fmt.Sprint(mid))
				}
			}
			return strings.Join(mids, " ")
		}},
		{"setup/max-message", func(c *check) string { return fmt.Sprint(c.maxMessage()) }},
		{"setup/channels", func(c *check) string { return fmt.Sprint(c.channels()) }},
		{"setup/one-channel-more", func(c *check) string {
			fds := []int{-1, -1}
			err := c.call(lisafs.Channel, nil, ignored, fds)
			if err == nil {
				discard(fds[0])
				discard(fds[1])
			}
			return outcome(err)
		}},
		{"setup/mount-descriptor", func(c *check) string { return donation(c.mount.HostFD, nil) }},
		{"stat/attributes", func(c *check) string {
			d := c.scratch()
			f := c.file(d, "f", "")
			stat := c.stat(&f)
			return fmt.Sprintf("mask %#x attributes %#x of %#x", stat.Mask, stat.Attributes, stat.AttributesMask)
		}},
	}
}

// donation describes a descriptor the server sent: its access mode and the
// flags a client can feel. It closes the descriptor.
func donation(fd int, err error) string {
	if err != nil {
		return outcome(err)
	}
	if fd < 0 {
		return "no descriptor"
	}
	defer unix.Close(fd)
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return outcome(err)
	}
	words := []string{[]string{"O_RDONLY", "O_WRONLY", "O_RDWR", "3"}[flags&unix.O_ACCMODE]}
	for _, f := range []struct {
		bit  int
		name string
	}{{unix.O_NONBLOCK, "O_NONBLOCK"}, {unix.O_APPEND, "O_APPEND"}, {unix.O_DIRECT, "O_DIRECT"}, {unix.O_PATH, "O_PATH"}} {
		if flags&f.bit != 0 {
			words = append(words, f.name)
		}
	}
	return strings.Join(words, "|")
}

// fileProbes asks about open files.
func fileProbes() []probe {
	return []probe{
		{"open/donation-read", func(c *check) string { return c.openDonation(unix.O_RDONLY) }},
		{"open/donation-write", func(c *check) string { return c.openDonation(unix.O_WRONLY) }},
		{"open/donation-read-write", func(c *check) string { return c.openDonation(unix.O_RDWR) }},
		{"open/access-mode-3", func(c *check) string { return c.openDonation(3) }},
		{"open/donation-directory", func(c *check) string {
			d := c.scratch()
			id, host, err := d.OpenAt(c.ctx, unix.O_RDONLY)
			c.handle(id)
			return donation(host, err)
		}},
		{"create/donation", func(c *check) string {
			d := c.scratch()
			_, _, host, err := d.OpenCreateAt(c.ctx, "f", unix.O_RDWR, 0o644, noUID, noGID)
			return donation(host, err)
		}},
		{"create/mode-0200-for-writing", func(c *check) string {
			d := c.scratch()
			_, _, host, err := d.OpenCreateAt(c.ctx, "f", unix.O_WRONLY, 0o200, noUID, noGID)
			return donation(host, err)
		}},
		{"read/count-wraps", func(c *check) string {
			d := c.scratch()
			_, open := c.create(d, "f")
			_, err := c.read(&open, 0, 0xffffffff)
			return outcome(err)
		}},
		{"write/at-the-largest-offset", func(c *check) string {
			d := c.scratch()
			_, open := c.create(d, "f")
			_, err := open.Write(c.ctx, []byte("xx"), 1<<63-1)
			return outcome(err)
		}},
		{"setstat/size-2^63", func(c *check) string {
			d := c.scratch()
			f := c.file(d, "f", "")
			return c.setting(&f, &linux.Statx{Mask: unix.STATX_SIZE, Size: 1 << 63})
		}},
		{"setstat/size-of-symlink", func(c *check) string {
			d := c.scratch()
			f := c.file(d, "f", "abc")
			l := c.symlink(d, "l", "f")
			got := c.setting(&l, &linux.Statx{Mask: unix.STATX_SIZE})
			return fmt.Sprintf("%s, target has size %d", got, c.stat(&f).Size)
		}},
		{"setstat/bad-nanoseconds", func(c *check) string {
			d := c.scratch()
			return c.setting(&d.ClientFD, &linux.Statx{Mask: unix.STATX_MTIME, Mtime: linux.StatxTimestamp{Nsec: 1e9}})
		}},
		{"setstat/set-id-mode-with-owner", func(c *check) string {
			d := c.scratch()
			f := c.file(d, "f", "")
			own := c.stat(&f)
			mask := uint32(unix.STATX_MODE | unix.STATX_UID | unix.STATX_GID)
			got := c.setting(&f, &linux.Statx{Mask: mask, Mode: 0o6755, UID: own.UID, GID: own.GID})
			return fmt.Sprintf("%s, mode %#o", got, c.stat(&f).Mode&0o7777)
		}},
		{"create/set-id-mode-with-owner", func(c *check) string {
			d := c.scratch()
			own := c.stat(&d.ClientFD)
			inode, _, host, err := d.OpenCreateAt(c.ctx, "f", unix.O_RDWR, 0o6755, lisafs.UID(own.UID), lisafs.GID(own.GID))
			c.ok(err, "create")
			discard(host)
			f := c.control(inode)
			return fmt.Sprintf("mode %#o, reply %#o", c.stat(&f).Mode&0o7777, inode.Stat.Mode&0o7777)
		}},
		{"setstat/mode-of-unreadable-file", func(c *check) string {
			d := c.scratch()
			f := c.file(d, "f", "")
			c.setMode(&f, 0)
			again := c.control(c.walked(&d.ClientFD, []string{"f"}, 0, 1)[0])
			return c.setting(&again, &linux.Statx{Mask: unix.STATX_MODE, Mode: 0o600})
		}},
		{"allocate/unknown-mode", func(c *check) string { return c.allocation(1<<20, 0, 1) }},
		{"allocate/mode-beyond-32-bits", func(c *check) string { return c.allocation(1<<32, 0, 1) }},
		{"allocate/punch-hole", func(c *check) string {
			return c.allocation(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096)
		}},
		{"allocate/length-2^63", func(c *check) string { return c.allocation(0, 0, 1<<63) }},
		{"xattr/value-of-65536-bytes", func(c *check) string {
			d := c.scratch()
			f := c.file(d, "f", "")
			err := f.SetXattr(c.ctx, "user.a", strings.Repeat("v", 1<<16), 0)
			got, after := f.GetXattr(c.ctx, "user.a", 0)
			return fmt.Sprintf("set %s, get %s with %d bytes", outcome(err), outcome(after), len(got))
		}},
		{"xattr/on-symlink", func(c *check) string {
			d := c.scratch()
			l := c.symlink(d, "l", "nowhere")
			_, err := l.ListXattr(c.ctx, 0)
			return fmt.Sprintf("set %s, list %s", outcome(l.SetXattr(c.ctx, "user.a", "x", 0)), outcome(err))
		}},
		{"xattr/trusted-namespace", func(c *check) string {
			d := c.scratch()
			return outcome(d.SetXattr(c.ctx, "trusted.lisafs", "x", 0))
		}},
		{"xattr/security-capability", func(c *check) string {
			d := c.scratch()
			f := c.file(d, "f", "")
			// A version 2 capability set with nothing in it.
			value := "\x00\x00\x00\x02" + strings.Repeat("\x00", 16)
			return outcome(f.SetXattr(c.ctx, "security.capability", value, 0))
		}},
		{"xattr/names", func(c *check) string {
			d := c.scratch()
			var got []string
			for _, name := range []string{"", "nodot", "user.", "user.a\x00b", "user." + strings.Repeat("n", 251)} {
				got = append(got, outcome(d.SetXattr(c.ctx, name, "x", 0)))
			}
			return strings.Join(got, " ")
		}},
		{"fifo/writer-without-reader", func(c *check) string {
			if !c.fifo.AllowOpen() {
				c.skip("needs --host-fifo open")
			}
			// The other way round gVisor's server blocks for good, and with it
			// the end of the connection, so that is not asked.
			_, f := c.hostFIFO()
			_, host, err := f.OpenAt(c.ctx, unix.O_WRONLY)
			return donation(host, err)
		}},
		{"device/open-null", func(c *check) string {
			c.needHost()
			c.needRoot()
			d := c.scratch()
			c.ok(unix.Mknod(d.host("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))), "mknod on the host")
			inode, err := d.Walk(c.ctx, "null")
			c.ok(err, "walk to a device")
			null := c.control(inode)
			_, host, err := null.OpenAt(c.ctx, unix.O_RDONLY)
			return donation(host, err)
		}},
		{"device/walk-to-block-device", func(c *check) string {
			c.needHost()
			c.needRoot()
			d := c.scratch()
			c.ok(unix.Mknod(d.host("loop"), unix.S_IFBLK|0o600, int(unix.Mkdev(7, 255))), "mknod on the host")
			defer os.Remove(d.host("loop"))
			_, err := d.Walk(c.ctx, "loop")
			_, statErr := d.WalkStat(c.ctx, []string{"loop"})
			return fmt.Sprintf("walk %s, walkstat %s", outcome(err), outcome(statErr))
		}},
	}
}

func (c *check) openDonation(flags uint32) string {
	d := c.scratch()
	f := c.file(d, "f", "")
	id, host, err := f.OpenAt(c.ctx, flags)
	c.handle(id)
	return donation(host, err)
}

// setting sets attributes and says which failed, and how.
func (c *check) setting(fd *lisafs.ClientFD, stat *linux.Statx) string {
	mask, failure, err := fd.SetStat(c.ctx, stat)
	if err != nil || mask == 0 {
		return outcome(err)
	}
	return fmt.Sprintf("failed %#x with %s", mask, outcome(failure))
}

func (c *check) allocation(mode, offset, length uint64) string {
	d := c.scratch()
	_, open := c.create(d, "f")
	return outcome(open.Allocate(c.ctx, mode, offset, length))
}

// names lists what a directory holds, sorted.
func (c *check) names(d *dir) string {
	open := c.open(&d.ClientFD, unix.O_RDONLY)
	var all []string
	for _, e := range c.entries(&open) {
		all = append(all, string(e.Name))
	}
	sort.Strings(all)
	return strings.Join(all, " ")
}
