//go:build !gvisor2022

package release

import (
	"fmt"

	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/context"
	"gvisor.dev/gvisor/pkg/lisafs"
	"gvisor.dev/gvisor/pkg/unet"
)

// Statx is what the client reports of a file.
type Statx = lisafs.Statx

// Mount mounts and starts the channels. The descriptor is the one donated with
// the mount point, or -1.
func Mount(sock *unet.Socket) (*lisafs.Client, lisafs.Inode, int, error) {
	client, root, hostFD, err := lisafs.NewClient(sock)
	if err != nil {
		return nil, lisafs.Inode{}, -1, fmt.Errorf("mount: %w", err)
	}
	if err := client.StartChannels(); err != nil {
		client.Close()
		return nil, lisafs.Inode{}, -1, fmt.Errorf("start channels: %w", err)
	}
	return client, root, hostFD, nil
}

// RenameAt renames with the flags of renameat2(2).
func RenameAt(ctx context.Context, from *lisafs.ClientFD, old string, to lisafs.FDID, name string, flags uint32) error {
	return from.RenameAt(ctx, old, to, name, flags)
}

// Connect connects as a user and group; with both unset, as the server's own.
func Connect(ctx context.Context, fd *lisafs.ClientFD, kind linux.SockType, uid lisafs.UID, gid lisafs.GID) (int, error) {
	return fd.Connect(ctx, kind, uid, gid)
}
