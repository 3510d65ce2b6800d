package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/lisafs"
	"lisafs.test/interop/internal/release"
)

// check is a check or probe while it runs: the session, a way to give up, and
// the things to undo afterwards. Its methods end the check if they fail; they
// must be called on the check's own goroutine.
type check struct {
	*session
	undo []func()
}

// failure and skipped are what a check panics with to end early.
type (
	failure string
	skipped string
)

func (f failure) Error() string { return string(f) }
func (s skipped) Error() string { return "skipped: " + string(s) }

func (c *check) fail(format string, args ...any) {
	panic(failure(fmt.Sprintf(format, args...)))
}

func (c *check) skip(reason string) {
	panic(skipped(reason))
}

// that fails unless the condition holds.
func (c *check) that(condition bool, format string, args ...any) {
	if !condition {
		c.fail(format, args...)
	}
}

// ok fails if there is an error.
func (c *check) ok(err error, what string) {
	if err != nil {
		c.fail("%s: %s", what, outcome(err))
	}
}

// errno fails unless the error is the wanted one.
func (c *check) errno(err error, want unix.Errno, what string) {
	if !errors.Is(err, want) {
		c.fail("%s: got %s, want %s", what, outcome(err), outcome(want))
	}
}

// outcome names a result: "ok", an errno by its symbol, or any other error.
func outcome(err error) string {
	var errno unix.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &errno) && errno == unix.EOPNOTSUPP:
		return "EOPNOTSUPP" // x/sys prefers the alias.
	case errors.As(err, &errno) && unix.ErrnoName(errno) != "":
		return unix.ErrnoName(errno)
	default:
		return err.Error()
	}
}

func (c *check) cleanup() {
	for i := len(c.undo) - 1; i >= 0; i-- {
		c.undo[i]()
	}
}

// needHost skips the check unless the export is visible on this host.
func (c *check) needHost() {
	if c.hostDir == "" {
		c.skip("needs --host-dir")
	}
}

// hasCall skips the check if the client could not ask at all.
func (c *check) hasCall(err error) {
	if errors.Is(err, release.ErrNoCall) {
		c.skip(err.Error())
	}
}

// dir is a directory of the export, by handle and by host path.
type dir struct {
	lisafs.ClientFD
	// path is empty without --host-dir.
	path string
}

// host is the host path of an entry of the directory.
func (d *dir) host(name string) string {
	return filepath.Join(d.path, name)
}

// scratch makes a fresh, empty directory. Names stay short, because gVisor's
// server binds sockets by their full host path.
func (c *check) scratch() *dir {
	c.dirs++
	name := fmt.Sprintf("c%d", c.dirs)
	inode, err := c.work.MkdirAt(c.ctx, name, 0o755, lisafs.NoUID, lisafs.NoGID)
	c.ok(err, "make scratch directory")
	d := &dir{ClientFD: c.control(inode)}
	if c.hostDir != "" {
		d.path = filepath.Join(c.hostDir, c.workName, name)
	}
	return d
}

// control wraps an inode's handle; it is closed with the check.
func (c *check) control(inode lisafs.Inode) lisafs.ClientFD {
	return c.handle(inode.ControlFD)
}

func (c *check) handle(id lisafs.FDID) lisafs.ClientFD {
	fd := c.client.NewFD(id)
	c.undo = append(c.undo, func() { c.client.CloseFD(c.ctx, id, false) })
	return fd
}

// donated takes over a descriptor the server sent, which it must have.
func (c *check) donated(fd int, what string) *os.File {
	c.that(fd >= 0, "%s: no descriptor was donated", what)
	file := os.NewFile(uintptr(fd), what)
	c.undo = append(c.undo, func() { _ = file.Close() })
	return file
}

// discard closes a descriptor the server may have sent.
func discard(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd)
	}
}

func (c *check) mkdir(d *dir, name string) *dir {
	inode, err := d.MkdirAt(c.ctx, name, 0o755, lisafs.NoUID, lisafs.NoGID)
	c.ok(err, "mkdir "+name)
	made := &dir{ClientFD: c.control(inode)}
	if d.path != "" {
		made.path = d.host(name)
	}
	return made
}

// file makes a regular file with this content and returns its control handle.
func (c *check) file(d *dir, name, content string) lisafs.ClientFD {
	control, open := c.create(d, name)
	if content != "" {
		n, err := open.Write(c.ctx, []byte(content), 0)
		c.ok(err, "write "+name)
		c.that(n == uint64(len(content)), "write %s: %d of %d bytes", name, n, len(content))
	}
	return control
}

// create makes a regular file, mode 0644, open for reading and writing.
func (c *check) create(d *dir, name string) (control, open lisafs.ClientFD) {
	inode, id, host, err := d.OpenCreateAt(c.ctx, name, unix.O_RDWR, 0o644, lisafs.NoUID, lisafs.NoGID)
	c.ok(err, "create "+name)
	discard(host)
	return c.control(inode), c.handle(id)
}

func (c *check) symlink(d *dir, name, target string) lisafs.ClientFD {
	inode, err := d.SymlinkAt(c.ctx, name, target, lisafs.NoUID, lisafs.NoGID)
	c.ok(err, "symlink "+name)
	return c.control(inode)
}

// open opens a control handle and drops the donated descriptor, if any.
func (c *check) open(fd *lisafs.ClientFD, flags uint32) lisafs.ClientFD {
	id, host, err := fd.OpenAt(c.ctx, flags)
	c.ok(err, "open")
	discard(host)
	return c.handle(id)
}

func (c *check) unlink(d *dir, name string) {
	c.ok(d.UnlinkAt(c.ctx, name, 0), "unlink "+name)
}

func (c *check) rmdir(d *dir, name string) {
	c.ok(d.UnlinkAt(c.ctx, name, unix.AT_REMOVEDIR), "rmdir "+name)
}

func (c *check) stat(fd *lisafs.ClientFD) release.Statx {
	var stat release.Statx
	c.ok(fd.StatTo(c.ctx, &stat), "stat")
	return stat
}

// content reads a file from its start, through a handle opened for reading.
func (c *check) content(fd *lisafs.ClientFD) string {
	open := c.open(fd, unix.O_RDONLY)
	buf := make([]byte, 1<<16)
	n, err := open.Read(c.ctx, buf, 0)
	if n == 0 && isEOF(err) {
		return ""
	}
	c.ok(err, "read")
	return string(buf[:n])
}

// entries lists an open directory from its start, the way the sentry does: a
// negative count rewinds, an empty reply is the end.
func (c *check) entries(open *lisafs.ClientFD) []lisafs.Dirent64 {
	const page = 1 << 16
	var all []lisafs.Dirent64
	for count := int32(-page); ; count = page {
		part, err := open.Getdents64(c.ctx, count)
		c.ok(err, "getdents")
		if len(part) == 0 {
			return all
		}
		all = append(all, part...)
	}
}

// removeTree removes an entry of a directory and all below it.
func (c *check) removeTree(parent *lisafs.ClientFD, name string) {
	inode, err := parent.Walk(c.ctx, name)
	c.ok(err, "walk to "+name)
	fd := c.control(inode)
	if linux.FileMode(inode.Stat.Mode).FileType() != linux.S_IFDIR {
		c.ok(parent.UnlinkAt(c.ctx, name, 0), "unlink "+name)
		return
	}
	open := c.open(&fd, unix.O_RDONLY)
	for _, e := range c.entries(&open) {
		if e.Type == unix.DT_DIR {
			c.removeTree(&fd, string(e.Name))
		} else {
			c.ok(fd.UnlinkAt(c.ctx, string(e.Name), 0), "unlink "+string(e.Name))
		}
	}
	c.ok(parent.UnlinkAt(c.ctx, name, unix.AT_REMOVEDIR), "rmdir "+name)
}
