package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/lisafs"
	"lisafs.test/interop/internal/release"
)

// socketProbes asks about Unix sockets. A connect to a full backlog is not
// among them: gVisor's server blocks in it, and then never ends.
func socketProbes() []probe {
	return []probe{
		{"socket/bind-denied-or-not", func(c *check) string {
			d := c.scratch()
			inode, bound, err := d.BindAt(c.ctx, unix.SOCK_STREAM, "s", 0o755, noUID, noGID)
			if err == nil {
				c.closeBound(inode, bound)
			}
			return outcome(err)
		}},
		{"socket/stat-of-bound-id", func(c *check) string {
			c.needSockets()
			d := c.scratch()
			resp := c.rawBind(d, "s")
			bound := c.client.NewFD(resp.BoundSocketFD)
			var stat release.Statx
			return outcome(bound.StatTo(c.ctx, &stat))
		}},
		{"socket/stat-of-control-id", func(c *check) string {
			c.needSockets()
			d := c.scratch()
			resp := c.rawBind(d, "s")
			s := c.client.NewFD(resp.Child.ControlFD)
			return fmt.Sprintf("the inode of the reply %t", c.stat(&s).Ino == resp.Child.Stat.Ino)
		}},
		{"socket/ids-close-apart", func(c *check) string {
			c.needSockets()
			d := c.scratch()
			resp := c.rawBind(d, "s")
			c.client.CloseFD(c.ctx, resp.Child.ControlFD, true)
			err := c.call(lisafs.Listen, encoded(&lisafs.ListenReq{FD: resp.BoundSocketFD, Backlog: 1}), ignored, nil)
			return "listen " + outcome(err)
		}},
		{"socket/mode-by-walked-handle", func(c *check) string {
			c.needSockets()
			d := c.scratch()
			s, _ := c.bind(d, "s", unix.SOCK_STREAM)
			got := c.setting(&s, &linux.Statx{Mask: unix.STATX_MODE, Mode: 0o600})
			return fmt.Sprintf("%s, mode %#o", got, c.stat(&s).Mode&0o7777)
		}},
		{"socket/mode-by-deleted-handle", func(c *check) string {
			c.needSockets()
			d := c.scratch()
			f := c.file(d, "f", "")
			c.setMode(&f, 0o644)
			s, _ := c.bind(d, "s", unix.SOCK_STREAM)
			c.unlink(d, "s")
			c.symlink(d, "s", "f")
			got := c.setting(&s, &linux.Statx{Mask: unix.STATX_MODE, Mode: 0o777})
			return fmt.Sprintf("%s, the symlink's target changes %t", got, c.stat(&f).Mode&0o7777 == 0o777)
		}},
		{"socket/after-unlink", func(c *check) string {
			c.needSockets()
			d := c.scratch()
			_, bound := c.bind(d, "s", unix.SOCK_STREAM)
			c.unlink(d, "s")
			listen := bound.Listen(c.ctx, 1)
			_, accept := bound.Accept(c.ctx)
			return fmt.Sprintf("listen %s, accept %s", outcome(listen), outcome(accept))
		}},
		{"socket/connect-any-type", func(c *check) string {
			c.needSockets()
			d := c.scratch()
			s, bound := c.bind(d, "s", unix.SOCK_STREAM)
			c.ok(bound.Listen(c.ctx, 1), "listen")
			fd, err := c.connect(&s, 0, noUID, noGID)
			return donation(fd, err)
		}},
		{"socket/connect-donation", func(c *check) string {
			c.needSockets()
			d := c.scratch()
			s, bound := c.bind(d, "s", unix.SOCK_STREAM)
			c.ok(bound.Listen(c.ctx, 1), "listen")
			fd, err := c.connect(&s, unix.SOCK_STREAM, noUID, noGID)
			connected := donation(fd, err)
			fd, err = bound.Accept(c.ctx)
			return fmt.Sprintf("connect %s, accept %s", connected, donation(fd, err))
		}},
		{"socket/bind-donation", func(c *check) string {
			c.needSockets()
			d := c.scratch()
			_, bound := c.bind(d, "s", unix.SOCK_STREAM)
			fd, err := unix.Dup(int(bound.NotificationFD()))
			return donation(fd, err)
		}},
		{"socket/foreign-credentials", func(c *check) string {
			c.needSockets()
			if os.Geteuid() == 0 {
				c.skip("root may take any identity")
			}
			d := c.scratch()
			s, bound := c.bind(d, "s", unix.SOCK_STREAM)
			c.setMode(&s, 0o777)
			c.ok(bound.Listen(c.ctx, 1), "listen")
			fd, err := c.connect(&s, unix.SOCK_STREAM, 1234, 1234)
			return donation(fd, err)
		}},
		{"socket/long-path", func(c *check) string {
			c.needSockets()
			d := c.scratch()
			sub := c.mkdir(d, strings.Repeat("d", 200))
			inode, bound, err := sub.BindAt(c.ctx, unix.SOCK_STREAM, "s", 0o755, noUID, noGID)
			if err == nil {
				c.closeBound(inode, bound)
			}
			return fmt.Sprintf("bind %s, leaving %q", outcome(err), c.names(sub))
		}},
		{"socket/long-name", func(c *check) string {
			c.needSockets()
			d := c.scratch()
			inode, bound, err := d.BindAt(c.ctx, unix.SOCK_STREAM, strings.Repeat("s", 200), 0o755, noUID, noGID)
			if err == nil {
				c.closeBound(inode, bound)
			}
			return outcome(err)
		}},
		{"socket/name-with-nul", func(c *check) string {
			c.needSockets()
			d := c.scratch()
			_, _, err := d.BindAt(c.ctx, unix.SOCK_STREAM, "a\x00b", 0o755, noUID, noGID)
			return fmt.Sprintf("bind %s, leaving %q", outcome(err), c.names(d))
		}},
		{"socket/xattr", func(c *check) string {
			c.needSockets()
			d := c.scratch()
			s, _ := c.bind(d, "s", unix.SOCK_STREAM)
			return c.xattrs(&s)
		}},
		{"socket/open", func(c *check) string {
			c.needSockets()
			d := c.scratch()
			s, _ := c.bind(d, "s", unix.SOCK_STREAM)
			_, host, err := s.OpenAt(c.ctx, unix.O_RDONLY)
			return donation(host, err)
		}},
	}
}

// rawBind binds a stream socket without gVisor's wrapper, which hides the
// bound socket's id. The donated descriptor is dropped, and both handles are
// closed with the check, in the order closeBound is about.
func (c *check) rawBind(d *dir, name string) lisafs.BindAtResp {
	req := lisafs.BindAtReq{SockType: unix.SOCK_STREAM, Name: lisafs.SizedString(name)}
	req.DirFD, req.Mode, req.UID, req.GID = d.ID(), 0o755, noUID, noGID
	var resp lisafs.BindAtResp
	fds := []int{-1}
	c.ok(c.call(lisafs.BindAt, encoded(&req), resp.CheckedUnmarshal, fds), "bind")
	discard(fds[0])
	c.undo = append(c.undo, func() {
		c.client.CloseFD(c.ctx, resp.Child.ControlFD, false)
		c.client.CloseFD(c.ctx, resp.BoundSocketFD, true)
	})
	return resp
}
