package main

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/lisafs"
	"gvisor.dev/gvisor/pkg/marshal/primitive"
	"lisafs.test/interop/internal/release"
)

// The messages that have come since December 2022.
const (
	connectWithCreds lisafs.MID = 32
	renameAt2        lisafs.MID = 33
)

// call makes one RPC from a payload that is already encoded, for requests that
// the client's own methods would never send.
func (c *check) call(mid lisafs.MID, payload []byte, decode func([]byte) ([]byte, bool), fds []int) error {
	encode := func(dst []byte) []byte { return dst[copy(dst, payload):] }
	nothing := func() string { return "" }
	return c.client.SndRcvMessage(mid, uint32(len(payload)), encode, decode, fds, nothing, nothing)
}

// ignored decodes any reply.
func ignored(src []byte) ([]byte, bool) { return src, true }

// request is what all of gVisor's requests can do.
type request interface {
	SizeBytes() int
	MarshalBytes(dst []byte) []byte
}

func encoded(r request) []byte {
	payload := make([]byte, r.SizeBytes())
	r.MarshalBytes(payload)
	return payload
}

// remount sends another Mount.
func (c *check) remount() lisafs.Inode {
	var resp lisafs.MountResp
	host := []int{-1}
	c.ok(c.call(lisafs.Mount, nil, resp.CheckedUnmarshal, host), "mount")
	discard(host[0])
	return resp.Root
}

// read asks for count bytes in one request and returns how many came.
func (c *check) read(fd *lisafs.ClientFD, offset uint64, count uint32) (int, error) {
	req := lisafs.PReadReq{Offset: offset, FD: fd.ID(), Count: count}
	var n primitive.Uint64
	err := c.call(lisafs.PRead, encoded(&req), n.CheckedUnmarshal, nil)
	return int(n), err
}

func quoted(name string) string {
	if len(name) > 40 {
		name = name[:40] + "..."
	}
	return strconv.Quote(name)
}

// message is a well-formed request that no server grants: its ids are unknown.
type message struct {
	mid     lisafs.MID
	payload []byte
	// mutates says that a read-only server answers EROFS instead.
	mutates bool
}

// messages has one request of every kind that has a body.
func messages() []message {
	const unknown = lisafs.FDID(1 << 40)
	create := lisafs.OpenCreateAtReq{Name: "name"}
	create.DirFD = unknown
	mkdir := lisafs.MkdirAtReq{Name: "name"}
	mkdir.DirFD = unknown
	mknod := lisafs.MknodAtReq{Name: "name"}
	mknod.DirFD, mknod.Mode = unknown, linux.S_IFREG
	bind := lisafs.BindAtReq{SockType: unix.SOCK_STREAM, Name: "name"}
	bind.DirFD = unknown
	rename := lisafs.RenameAtReq{OldDir: unknown, OldName: "old", NewDir: unknown, NewName: "new"}
	connect := lisafs.ConnectReq{FD: unknown, SockType: unix.SOCK_STREAM}
	walk := lisafs.WalkReq{DirFD: unknown, Path: []string{"a", "b"}}
	return []message{
		{lisafs.FStat, encoded(&lisafs.StatReq{FD: unknown}), false},
		{lisafs.SetStat, encoded(&lisafs.SetStatReq{FD: unknown}), true},
		{lisafs.Walk, encoded(&walk), false},
		{lisafs.WalkStat, encoded(&walk), false},
		{lisafs.OpenAt, encoded(&lisafs.OpenAtReq{FD: unknown}), false},
		{lisafs.OpenCreateAt, encoded(&create), true},
		{lisafs.FSync, encoded(&lisafs.FsyncReq{FDs: []lisafs.FDID{unknown, unknown}}), false},
		{lisafs.PWrite, encoded(&lisafs.PWriteReq{FD: unknown, NumBytes: 3, Buf: []byte("abc")}), true},
		{lisafs.PRead, encoded(&lisafs.PReadReq{FD: unknown, Count: 1}), false},
		{lisafs.MkdirAt, encoded(&mkdir), true},
		{lisafs.MknodAt, encoded(&mknod), true},
		{lisafs.SymlinkAt, encoded(&lisafs.SymlinkAtReq{DirFD: unknown, Name: "name", Target: "target"}), true},
		{lisafs.LinkAt, encoded(&lisafs.LinkAtReq{DirFD: unknown, Target: unknown, Name: "name"}), true},
		{lisafs.FStatFS, encoded(&lisafs.FStatFSReq{FD: unknown}), false},
		{lisafs.FAllocate, encoded(&lisafs.FAllocateReq{FD: unknown, Length: 1}), true},
		{lisafs.ReadLinkAt, encoded(&lisafs.ReadLinkAtReq{FD: unknown}), false},
		{lisafs.Connect, encoded(&connect), false},
		{lisafs.UnlinkAt, encoded(&lisafs.UnlinkAtReq{DirFD: unknown, Name: "name"}), true},
		{lisafs.RenameAt, encoded(&rename), true},
		{lisafs.Getdents64, encoded(&lisafs.Getdents64Req{DirFD: unknown, Count: 4096}), false},
		{lisafs.FGetXattr, encoded(&lisafs.FGetXattrReq{FD: unknown, Name: "user.x"}), false},
		{lisafs.FSetXattr, encoded(&lisafs.FSetXattrReq{FD: unknown, Name: "user.x", Value: "value"}), true},
		{lisafs.FListXattr, encoded(&lisafs.FListXattrReq{FD: unknown}), false},
		{lisafs.FRemoveXattr, encoded(&lisafs.FRemoveXattrReq{FD: unknown, Name: "user.x"}), true},
		{lisafs.BindAt, encoded(&bind), true},
		{lisafs.Listen, encoded(&lisafs.ListenReq{FD: unknown}), false},
		{lisafs.Accept, encoded(&lisafs.AcceptReq{FD: unknown}), false},
		{connectWithCreds, append(encoded(&connect), make([]byte, 8)...), false},
		{renameAt2, append(encoded(&rename), 1, 0, 0, 0), true},
	}
}

// send makes the RPC and expects it to fail like this, unless the connection
// is read-only and the message would change something.
func (c *check) send(m message, payload []byte, want unix.Errno, what string) {
	if c.readonly && m.mutates {
		want = unix.EROFS
	}
	if !c.client.IsSupported(m.mid) {
		want = unix.EOPNOTSUPP
	}
	fds := []int{-1}
	err := c.call(m.mid, payload, ignored, fds)
	c.errno(err, want, "message "+strconv.Itoa(int(m.mid))+" "+what)
}

func malformedChecks() []entry {
	return []entry{
		{"malformed/unknown-ids", func(c *check) {
			for _, m := range messages() {
				c.send(m, m.payload, unix.EBADF, "with unknown ids")
			}
		}},
		{"malformed/truncated", func(c *check) {
			for _, m := range messages() {
				for n := range m.payload {
					c.send(m, m.payload[:n], unix.EIO, "cut to "+strconv.Itoa(n)+" bytes")
				}
			}
			for n := 0; n < 10; n++ {
				err := c.call(lisafs.Close, encoded(&lisafs.CloseReq{FDs: []lisafs.FDID{1 << 40}})[:n], ignored, nil)
				c.errno(err, unix.EIO, "Close cut short")
			}
		}},
		{"malformed/trailing-bytes", func(c *check) {
			for _, m := range messages() {
				c.send(m, append(m.payload, strings.Repeat("\xff", 13)...), unix.EBADF, "with bytes behind it")
			}
			var resp release.Statx
			req := append(encoded(&lisafs.StatReq{FD: c.root.ID()}), 1, 2, 3)
			c.ok(c.call(lisafs.FStat, req, resp.CheckedUnmarshal, nil), "FStat with bytes behind it")
			c.sameFile(resp, c.stat(&c.root), "its reply")
		}},
		{"malformed/counts", func(c *check) {
			huge := []byte{1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}
			for _, mid := range []lisafs.MID{lisafs.Walk, lisafs.WalkStat} {
				c.errno(c.call(mid, huge, ignored, nil), unix.EIO, "65535 names that are not there")
			}
			for _, mid := range []lisafs.MID{lisafs.Close, lisafs.FSync} {
				c.errno(c.call(mid, huge[8:], ignored, nil), unix.EIO, "65535 ids that are not there")
			}
		}},
	}
}
