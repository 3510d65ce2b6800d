//go:build gvisor2022

package release

import (
	"fmt"

	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/context"
	"gvisor.dev/gvisor/pkg/lisafs"
	"gvisor.dev/gvisor/pkg/unet"
)

// Statx is what the client reports of a file.
type Statx = linux.Statx

// Mount mounts, which starts the channels. This client takes no descriptor
// along with the mount point: there is always -1 in its place.
func Mount(sock *unet.Socket) (*lisafs.Client, lisafs.Inode, int, error) {
	client, root, err := lisafs.NewClient(sock)
	if err != nil {
		return nil, lisafs.Inode{}, -1, fmt.Errorf("mount and start channels: %w", err)
	}
	return client, root, -1, nil
}

// RenameAt renames; this client knows no flags.
func RenameAt(ctx context.Context, from *lisafs.ClientFD, old string, to lisafs.FDID, name string, flags uint32) error {
	if flags != 0 {
		return ErrNoCall
	}
	return from.RenameAt(ctx, old, to, name)
}

// Connect connects as the server; this client cannot ask for another identity.
func Connect(ctx context.Context, fd *lisafs.ClientFD, kind linux.SockType, uid lisafs.UID, gid lisafs.GID) (int, error) {
	if uid.Ok() || gid.Ok() {
		return -1, ErrNoCall
	}
	return fd.Connect(ctx, kind)
}
