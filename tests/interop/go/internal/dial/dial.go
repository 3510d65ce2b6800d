// Package dial gives the client programs of this module their one shared
// concern: how to reach a server and mount it with gVisor's own client.
package dial

import (
	"errors"
	"flag"
	"time"

	"gvisor.dev/gvisor/pkg/lisafs"
	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/pkg/unet"
	"lisafs.test/interop/internal/release"
)

// Target says where the server is: exactly one of the two flags must be given.
type Target struct {
	socket string
	fd     int
}

// Flags registers --connect and --fd on the command line.
func Flags() *Target {
	t := &Target{}
	flag.StringVar(&t.socket, "connect", "", "path of the server's listening Unix `socket`")
	flag.IntVar(&t.fd, "fd", -1, "inherited `descriptor` of a connected stream socket")
	return t
}

// Mount is the outcome of a successful connect: the client, with its channels
// started, and what the server's MountResp said.
type Mount struct {
	Client *lisafs.Client
	Root   lisafs.Inode
	// HostFD is the descriptor donated with the mount point, or -1.
	HostFD int
}

// deadline bounds the connect; gVisor's client has no limit of its own.
const deadline = 30 * time.Second

// Mount connects, mounts and starts the channels. gVisor's client logs to
// stderr from here on, warnings only.
func (t *Target) Mount() (*Mount, error) {
	log.SetLevel(log.Warning)
	sock, err := t.open()
	if err != nil {
		return nil, err
	}
	type result struct {
		mount *Mount
		err   error
	}
	done := make(chan result, 1)
	go func() {
		m, err := mount(sock)
		done <- result{m, err}
	}()
	select {
	case r := <-done:
		return r.mount, r.err
	case <-time.After(deadline):
		return nil, errors.New("the server does not answer")
	}
}

func mount(sock *unet.Socket) (*Mount, error) {
	client, root, hostFD, err := release.Mount(sock)
	if err != nil {
		return nil, err
	}
	return &Mount{Client: client, Root: root, HostFD: hostFD}, nil
}

func (t *Target) open() (*unet.Socket, error) {
	switch {
	case (t.socket == "") == (t.fd < 0):
		return nil, errors.New("give exactly one of --connect and --fd")
	case t.socket != "":
		return unet.Connect(t.socket, false)
	default:
		return unet.NewSocket(t.fd)
	}
}
