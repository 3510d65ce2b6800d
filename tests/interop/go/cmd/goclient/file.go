package main

import (
	"bytes"
	"errors"
	"io"
	"math/rand"
	"os"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/lisafs"
	"lisafs.test/interop/internal/release"
)

func isEOF(err error) bool { return errors.Is(err, io.EOF) }

func openChecks() []entry {
	return []entry{
		{"open/read", func(c *check) {
			d := c.scratch()
			f := c.file(d, "f", "hello")
			id, host, err := f.OpenAt(c.ctx, unix.O_RDONLY)
			c.ok(err, "open")
			open, file := c.handle(id), c.donated(host, "open of a regular file")
			buf := make([]byte, 16)
			n, err := file.ReadAt(buf, 0)
			c.that(isEOF(err) && string(buf[:n]) == "hello", "donated descriptor reads %q: %v", buf[:n], err)
			_, err = file.WriteAt(buf, 0)
			c.errno(err, unix.EBADF, "write to the donated descriptor")
			c.sameFile(c.stat(&open), c.stat(&f), "stat of the open file")
			_, err = open.Write(c.ctx, []byte("x"), 0)
			c.errno(err, unix.EBADF, "write to a file opened for reading")
		}},
		{"open/write", func(c *check) {
			d := c.scratch()
			f := c.file(d, "f", "hello")
			id, host, err := f.OpenAt(c.ctx, unix.O_WRONLY)
			c.ok(err, "open")
			open, file := c.handle(id), c.donated(host, "open of a regular file")
			_, err = file.WriteAt([]byte("J"), 0)
			c.ok(err, "write to the donated descriptor")
			c.that(c.content(&f) == "Jello", "content %q", c.content(&f))
			_, err = open.Read(c.ctx, make([]byte, 1), 0)
			c.errno(err, unix.EBADF, "read from a file opened for writing")
		}},
		{"open/read-write", func(c *check) {
			d := c.scratch()
			f := c.file(d, "f", "hello")
			open := c.open(&f, unix.O_RDWR)
			_, err := open.Write(c.ctx, []byte("J"), 0)
			c.ok(err, "write")
			buf := make([]byte, 5)
			_, err = open.Read(c.ctx, buf, 0)
			c.ok(err, "read")
			c.that(string(buf) == "Jello", "read %q", buf)
		}},
		{"open/truncate", func(c *check) {
			d := c.scratch()
			f := c.file(d, "f", "hello")
			c.open(&f, unix.O_RDWR|unix.O_TRUNC)
			c.that(c.stat(&f).Size == 0, "size %d", c.stat(&f).Size)
		}},
		{"open/other-flags-are-dropped", func(c *check) {
			d := c.scratch()
			f := c.file(d, "f", "hello")
			id, host, err := f.OpenAt(c.ctx, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_APPEND|unix.O_DIRECTORY|unix.O_DIRECT)
			c.ok(err, "open")
			open := c.handle(id)
			file := c.donated(host, "open of a regular file")
			flags, err := unix.FcntlInt(file.Fd(), unix.F_GETFL, 0)
			c.ok(err, "F_GETFL")
			c.that(flags&(unix.O_APPEND|unix.O_DIRECT) == 0, "donated descriptor has flags %#o", flags)
			_, err = open.Write(c.ctx, []byte("J"), 0)
			c.ok(err, "write")
			c.that(c.content(&f) == "Jello", "content %q", c.content(&f))
		}},
		{"open/directory", func(c *check) {
			d := c.scratch()
			c.open(&d.ClientFD, unix.O_RDONLY)
			for _, flags := range []uint32{unix.O_WRONLY, unix.O_RDWR, unix.O_RDONLY | unix.O_TRUNC} {
				_, _, err := d.OpenAt(c.ctx, flags)
				c.errno(err, unix.EISDIR, "open")
			}
		}},
		{"open/errors", func(c *check) {
			d := c.scratch()
			_, open := c.create(d, "f")
			l := c.symlink(d, "l", "f")
			unknown := c.client.NewFD(1 << 40)
			_, _, err := l.OpenAt(c.ctx, unix.O_RDONLY)
			c.errno(err, unix.EINVAL, "open of a symlink")
			_, _, err = open.OpenAt(c.ctx, unix.O_RDONLY)
			c.errno(err, unix.EINVAL, "open of an open file")
			_, _, err = unknown.OpenAt(c.ctx, unix.O_RDONLY)
			c.errno(err, unix.EBADF, "open of an unknown id")
		}},
	}
}

func ioChecks() []entry {
	return []entry{
		{"io/5-MiB", func(c *check) {
			d := c.scratch()
			f, open := c.create(d, "f")
			want := make([]byte, 5<<20)
			_, _ = rand.New(rand.NewSource(1)).Read(want)
			n, err := open.Write(c.ctx, want, 0)
			c.ok(err, "write")
			c.that(n == uint64(len(want)), "wrote %d bytes", n)
			c.that(c.stat(&f).Size == n, "size %d", c.stat(&f).Size)
			got := make([]byte, len(want))
			n, err = open.Read(c.ctx, got, 0)
			c.ok(err, "read")
			c.that(n == uint64(len(want)) && bytes.Equal(got, want), "read %d bytes, equal %t", n, bytes.Equal(got, want))
			if d.path != "" {
				onDisk, err := os.ReadFile(d.host("f"))
				c.ok(err, "read on the host")
				c.that(bytes.Equal(onDisk, want), "the host's file differs")
			}
		}},
		{"io/end-of-file", func(c *check) {
			d := c.scratch()
			_, open := c.create(d, "f")
			_, err := open.Write(c.ctx, []byte("hello"), 0)
			c.ok(err, "write")
			buf := make([]byte, 8)
			n, err := open.Read(c.ctx, buf, 3)
			c.ok(err, "read across the end")
			c.that(string(buf[:n]) == "lo", "read %q", buf[:n])
			for _, offset := range []uint64{5, 1 << 40} {
				n, err = open.Read(c.ctx, buf, offset)
				c.that(n == 0 && isEOF(err), "read at %d: %d, %v", offset, n, err)
			}
		}},
		{"io/hole", func(c *check) {
			d := c.scratch()
			f, open := c.create(d, "f")
			_, err := open.Write(c.ctx, []byte("end"), 1<<20)
			c.ok(err, "write")
			c.that(c.stat(&f).Size == 1<<20+3, "size %d", c.stat(&f).Size)
			buf := []byte("xxxx")
			_, err = open.Read(c.ctx, buf, 1<<20-1)
			c.ok(err, "read")
			c.that(string(buf) == "\x00end", "read %q", buf)
		}},
		{"io/empty-write", func(c *check) {
			d := c.scratch()
			_, open := c.create(d, "f")
			var resp lisafs.PWriteResp
			err := c.call(lisafs.PWrite, encoded(&lisafs.PWriteReq{FD: open.ID()}), resp.CheckedUnmarshal, nil)
			c.ok(err, "write of nothing")
			c.that(resp.Count == 0, "count %d", resp.Count)
		}},
		{"io/read-limit", func(c *check) {
			d := c.scratch()
			_, open := c.create(d, "f")
			size := uint64(c.maxMessage()) + 4096
			n, err := open.Write(c.ctx, make([]byte, size), 0)
			c.ok(err, "write")
			c.that(n == size, "wrote %d bytes", n)
			most := c.maxMessage() - 8
			got, err := c.read(&open, 0, most)
			c.ok(err, "largest read")
			c.that(got == int(most), "read %d of %d bytes", got, most)
			_, err = c.read(&open, 0, most+1)
			c.errno(err, unix.ENOBUFS, "read of one byte more")
			_, err = c.read(&open, 0, 0)
			c.ok(err, "read of nothing")
		}},
		{"io/bad-offset", func(c *check) {
			d := c.scratch()
			_, open := c.create(d, "f")
			_, err := open.Read(c.ctx, make([]byte, 1), 1<<63)
			c.errno(err, unix.EINVAL, "read at 2^63")
			_, err = open.Write(c.ctx, make([]byte, 1), 1<<63)
			c.errno(err, unix.EINVAL, "write at 2^63")
		}},
		{"io/wrong-kind", func(c *check) {
			d := c.scratch()
			f := c.file(d, "f", "x")
			_, err := f.Read(c.ctx, make([]byte, 1), 0)
			c.errno(err, unix.EINVAL, "read from a control handle")
			_, err = f.Write(c.ctx, make([]byte, 1), 0)
			c.errno(err, unix.EINVAL, "write to a control handle")
			c.errno(f.Allocate(c.ctx, 0, 0, 1), unix.EINVAL, "allocate on a control handle")
			c.errno(f.Sync(c.ctx), unix.EINVAL, "sync of a control handle")
		}},
		{"io/directory", func(c *check) {
			d := c.scratch()
			open := c.open(&d.ClientFD, unix.O_RDONLY)
			_, err := open.Read(c.ctx, make([]byte, 1), 0)
			c.errno(err, unix.EISDIR, "read from a directory")
			c.ok(open.Sync(c.ctx), "sync of a directory")
		}},
		{"io/sync", func(c *check) {
			d := c.scratch()
			f, open := c.create(d, "f")
			c.ok(open.Sync(c.ctx), "sync")
			c.ok(c.client.SyncFDs(c.ctx, nil), "sync of nothing")
			c.ok(c.client.SyncFDs(c.ctx, []lisafs.FDID{open.ID(), open.ID()}), "sync of two")
			c.errno(c.client.SyncFDs(c.ctx, []lisafs.FDID{1 << 40, open.ID()}), unix.EBADF, "sync of an unknown id and a good one")
			c.errno(c.client.SyncFDs(c.ctx, []lisafs.FDID{f.ID(), 1 << 40}), unix.EINVAL, "sync of a control handle and an unknown id")
		}},
		{"io/flush", func(c *check) {
			d := c.scratch()
			_, open := c.create(d, "f")
			c.ok(open.Flush(c.ctx), "flush")
		}},
		{"io/allocate", func(c *check) {
			d := c.scratch()
			f, open := c.create(d, "f")
			c.ok(open.Allocate(c.ctx, 0, 0, 8192), "allocate")
			c.that(c.stat(&f).Size == 8192, "size %d", c.stat(&f).Size)
			c.that(c.stat(&f).Blocks >= 16, "%d blocks", c.stat(&f).Blocks)
			c.ok(open.Allocate(c.ctx, unix.FALLOC_FL_KEEP_SIZE, 8192, 8192), "allocate beyond the end")
			c.that(c.stat(&f).Size == 8192, "size %d", c.stat(&f).Size)
			c.errno(open.Allocate(c.ctx, 0, 0, 0), unix.EINVAL, "allocate nothing")
			reader := c.open(&f, unix.O_RDONLY)
			c.errno(reader.Allocate(c.ctx, 0, 0, 1), unix.EBADF, "allocate in a file opened for reading")
		}},
	}
}

func lifetimeChecks() []entry {
	return []entry{
		{"lifetime/close", func(c *check) {
			d := c.scratch()
			inode, err := d.Walk(c.ctx, c.named(d, "f"))
			c.ok(err, "walk")
			fd := c.client.NewFD(inode.ControlFD)
			open := c.open(&fd, unix.O_RDWR)
			id := fd.ID()
			fd.Close(c.ctx, true)
			c.that(!fd.Ok(), "the closed handle is still valid")
			closed := c.client.NewFD(id)
			var stat release.Statx
			c.errno(closed.StatTo(c.ctx, &stat), unix.EBADF, "stat of the closed handle")
			_, err = open.Write(c.ctx, []byte("x"), 0)
			c.ok(err, "write to a file whose control handle is closed")
			c.that(c.stat(&open).Size == 1, "size %d", c.stat(&open).Size)
		}},
		{"lifetime/close-unknown", func(c *check) {
			c.client.CloseFD(c.ctx, 0, false)
			req := lisafs.CloseReq{FDs: []lisafs.FDID{1 << 40, 1 << 40, 0}}
			c.ok(c.call(lisafs.Close, encoded(&req), ignored, nil), "close of unknown ids")
		}},
		{"lifetime/batched-close", func(c *check) {
			d := c.scratch()
			name := c.named(d, "f")
			ids := make([]lisafs.FDID, 250)
			for i := range ids {
				inode, err := d.Walk(c.ctx, name)
				c.ok(err, "walk")
				ids[i] = inode.ControlFD
			}
			for i, id := range ids {
				c.client.CloseFD(c.ctx, id, i == len(ids)-1)
			}
			for _, id := range ids {
				var stat release.Statx
				fd := c.client.NewFD(id)
				c.errno(fd.StatTo(c.ctx, &stat), unix.EBADF, "stat of a closed handle")
			}
		}},
		{"lifetime/unlinked-file", func(c *check) {
			d := c.scratch()
			f, open := c.create(d, "f")
			_, err := open.Write(c.ctx, []byte("hello"), 0)
			c.ok(err, "write")
			c.unlink(d, "f")
			_, err = d.Walk(c.ctx, "f")
			c.errno(err, unix.ENOENT, "walk")
			c.that(c.stat(&f).Nlink == 0 && c.stat(&open).Nlink == 0, "nlink %d", c.stat(&f).Nlink)
			_, err = open.Write(c.ctx, []byte("J"), 0)
			c.ok(err, "write")
			c.ok(open.Sync(c.ctx), "sync")
			c.ok(open.Allocate(c.ctx, 0, 0, 16), "allocate")
			c.setSize(&f, 4)
			c.setMode(&f, 0o600)
			var fs lisafs.StatFS
			c.ok(f.StatFSTo(c.ctx, &fs), "statfs")
			c.that(c.content(&f) == "Jell", "content %q of the file opened once more", c.content(&f))
		}},
		{"lifetime/name-reused", func(c *check) {
			d := c.scratch()
			old := c.file(d, "f", "old")
			c.unlink(d, "f")
			fresh := c.file(d, "f", "new")
			c.that(c.content(&old) == "old" && c.content(&fresh) == "new", "contents %q and %q", c.content(&old), c.content(&fresh))
			c.that(c.stat(&old).Nlink == 0 && c.stat(&fresh).Nlink == 1, "link counts %d and %d", c.stat(&old).Nlink, c.stat(&fresh).Nlink)
		}},
	}
}

// named makes an empty file and keeps no handle of it.
func (c *check) named(d *dir, name string) string {
	inode, id, host, err := d.OpenCreateAt(c.ctx, name, unix.O_RDONLY, 0o644, lisafs.NoUID, lisafs.NoGID)
	c.ok(err, "create "+name)
	discard(host)
	c.client.CloseFD(c.ctx, inode.ControlFD, false)
	c.client.CloseFD(c.ctx, id, true)
	return name
}
