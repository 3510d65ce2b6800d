//go:build gvisor2022

package main

import (
	"gvisor.dev/gvisor/pkg/lisafs"
	"gvisor.dev/gvisor/pkg/unet"
	"gvisor.dev/gvisor/runsc/fsgofer"
)

// export is one served directory. In this release the server knows the policy,
// and the gofer's server is a type of its own around the general one.
type export struct {
	server   *lisafs.Server
	dir      string
	readonly bool
}

// newExport prepares this process, too: the gofer upgrades handles by reopening
// them through procfs.
func newExport(dir string, policy policy) (*export, error) {
	if err := fsgofer.OpenProcSelfFD(); err != nil {
		return nil, err
	}
	server := fsgofer.NewLisafsServer(fsgofer.Config{
		ROMount:  policy.readonly,
		HostUDS:  policy.uds,
		HostFifo: policy.fifo,
	})
	return &export{server: &server.Server, dir: dir, readonly: policy.readonly}, nil
}

func (e *export) start(sock *unet.Socket) error {
	conn, err := e.server.CreateConnection(sock, e.dir, e.readonly)
	if err != nil {
		return err
	}
	e.server.StartConnection(conn)
	return nil
}
