//go:build !gvisor2022

package main

import (
	"os"

	"gvisor.dev/gvisor/pkg/lisafs"
	"gvisor.dev/gvisor/pkg/unet"
	"gvisor.dev/gvisor/runsc/fsgofer"
)

// export is one served directory: the node tree shared by all connections, and
// what each new connection is given.
type export struct {
	server *lisafs.Server
	dir    string
	opts   lisafs.ConnectionOpts
	config fsgofer.Config
}

// newExport prepares this process, too: the gofer upgrades handles by reopening
// them through procfs.
func newExport(dir string, policy policy) (*export, error) {
	if err := fsgofer.OpenProcSelfFD("/proc/self/fd"); err != nil {
		return nil, err
	}
	return &export{
		server: lisafs.NewServer(),
		dir:    dir,
		opts:   fsgofer.ConnectionOpts(policy.readonly),
		config: fsgofer.Config{
			HostUDS:  policy.uds,
			HostFifo: policy.fifo,
			RUID:     os.Getuid(),
			EUID:     os.Geteuid(),
			RGID:     os.Getgid(),
			EGID:     os.Getegid(),
		},
	}, nil
}

func (e *export) start(sock *unet.Socket) error {
	conn, err := e.server.CreateConnection(sock, e.dir, e.opts, fsgofer.NewConnectionImpl(&e.config))
	if err != nil {
		return err
	}
	e.server.StartConnection(conn)
	return nil
}
