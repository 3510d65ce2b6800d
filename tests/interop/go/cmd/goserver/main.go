// Command goserver serves a host directory with gVisor's own gofer, unmodified.
//
//	goserver (--listen SOCKET | --fd N) [--readonly] [--host-uds MODE] [--host-fifo MODE] DIR
//
// It prints "ready" once requests will be answered. With --fd it ends with its
// one connection; with --listen it serves any number of them until SIGTERM,
// SIGINT, or, if stdin is a pipe or a socket, until the other end of that is
// closed, so that a killed test run leaves no server behind.
//
// There is no chroot: a connection is mounted at DIR's own path, and gVisor's
// host paths (bind, connect, link, the path-based xattr calls) are then simply
// the real ones. Those paths are limited to 107 bytes for sockets.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/pkg/unet"
	"gvisor.dev/gvisor/runsc/config"
)

// policy is what the command line allows.
type policy struct {
	readonly bool
	uds      config.HostUDS
	fifo     config.HostFifo
}

func main() {
	log.SetLevel(log.Warning)
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "goserver: %v\n", err)
		os.Exit(2)
	}
}

func run() error {
	var policy policy
	listen := flag.String("listen", "", "path of the Unix `socket` to listen on")
	fd := flag.Int("fd", -1, "inherited `descriptor` of one connected stream socket")
	flag.BoolVar(&policy.readonly, "readonly", false, "refuse everything that changes the tree")
	flag.Var(&policy.uds, "host-uds", "Unix sockets: none, open, create or all")
	flag.Var(&policy.fifo, "host-fifo", "FIFOs: none or open")
	flag.Parse()
	if flag.NArg() != 1 || (*listen == "") == (*fd < 0) {
		return errors.New("usage: goserver (--listen SOCKET | --fd N) [options] DIR")
	}

	// gVisor opens the mount path without following its last component.
	dir, err := filepath.Abs(flag.Arg(0))
	if err != nil {
		return err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return err
	}

	// The gofer expects it of its process: modes are used as the client sent them.
	unix.Umask(0)
	export, err := newExport(dir, policy)
	if err != nil {
		return err
	}
	if *listen != "" {
		return export.listen(*listen)
	}
	return export.single(*fd)
}

func (e *export) single(fd int) error {
	sock, err := unet.NewSocket(fd)
	if err != nil {
		return err
	}
	if err := e.start(sock); err != nil {
		return err
	}
	fmt.Println("ready")
	e.server.Wait()
	e.server.Destroy()
	return nil
}

// listen accepts until told to stop. Open connections then end with the
// process: gVisor has no drain.
func (e *export) listen(path string) error {
	socket, err := unet.BindAndListen(path, false)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", path, err)
	}
	defer os.Remove(path)
	failed := make(chan error, 1)
	go func() {
		for {
			sock, err := socket.Accept()
			if err == nil {
				err = e.start(sock)
			}
			if err != nil {
				failed <- err
				return
			}
		}
	}()
	stop := stopRequests()
	fmt.Println("ready")
	select {
	case err := <-failed:
		return err
	case <-stop:
		return nil
	}
}

// stopRequests returns a channel that yields when the server should end.
func stopRequests() <-chan struct{} {
	stop := make(chan struct{}, 2)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
	go func() {
		<-signals
		stop <- struct{}{}
	}()
	// A terminal or /dev/null on stdin says nothing about the parent's life.
	if info, err := os.Stdin.Stat(); err == nil && info.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0 {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			stop <- struct{}{}
		}()
	}
	return stop
}
