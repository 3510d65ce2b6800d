// Command probe does what busybox cannot, inside of a sandbox and outside of it: extended attributes,
// memory that is mapped from a file, and unix sockets.
//
//	probe connect SOCKET    says "ping" and prints what it is answered
//	probe listen SOCKET     answers one client's "ping" with "pong"
//	probe pair SOCKET       both of it
//	probe xattr FILE        sets, reads, lists and removes an attribute, and prints what it sees
//	probe map FILE          maps the file in three ways and prints what it sees
//	probe list DIR          prints all extended attributes below a directory
package main

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: probe WHAT PATH")
		os.Exit(2)
	}
	verbs := map[string]func(string) error{
		"connect": connect,
		"listen":  listen,
		"pair":    pair,
		"xattr":   xattr,
		"map":     mapFile,
		"list":    list,
	}
	verb, known := verbs[os.Args[1]]
	if !known {
		fmt.Fprintf(os.Stderr, "probe: no such verb: %s\n", os.Args[1])
		os.Exit(2)
	}
	if err := verb(os.Args[2]); err != nil {
		fmt.Fprintf(os.Stderr, "probe: %v\n", err)
		os.Exit(1)
	}
}

func connect(path string) error {
	conn, err := net.DialTimeout("unix", path, 10*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write([]byte("ping")); err != nil {
		return err
	}
	answer := make([]byte, 16)
	n, err := conn.Read(answer)
	if err != nil {
		return err
	}
	fmt.Println(string(answer[:n]))
	return nil
}

func listen(path string) error {
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	// The file is for the one who looks at the tree afterwards.
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	defer listener.Close()
	return answer(listener)
}

func answer(listener net.Listener) error {
	listener.(*net.UnixListener).SetDeadline(time.Now().Add(20 * time.Second))
	conn, err := listener.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	question := make([]byte, 16)
	n, err := conn.Read(question)
	if err != nil {
		return err
	}
	if string(question[:n]) != "ping" {
		return fmt.Errorf("asked %q", question[:n])
	}
	_, err = conn.Write([]byte("pong"))
	return err
}

func pair(path string) error {
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	defer listener.Close()
	answered := make(chan error, 1)
	go func() { answered <- answer(listener) }()
	if err := connect(path); err != nil {
		return err
	}
	return <-answered
}

func xattr(path string) error {
	const name = "user.colour"
	buffer := make([]byte, 256)
	show := func(call string, n int, err error) {
		if err != nil {
			fmt.Printf("%s: %v\n", call, err)
		} else {
			fmt.Printf("%s: %q\n", call, buffer[:n])
		}
	}
	show("set", 0, unix.Setxattr(path, name, []byte("blue"), unix.XATTR_CREATE))
	show("set again", 0, unix.Setxattr(path, name, []byte("red"), unix.XATTR_CREATE))
	n, err := unix.Getxattr(path, name, buffer)
	show("get", n, err)
	n, err = unix.Listxattr(path, buffer)
	show("list", n, err)
	show("set other", 0, unix.Setxattr(path, "user.kept", []byte("yes"), 0))
	show("remove", 0, unix.Removexattr(path, name))
	n, err = unix.Getxattr(path, name, buffer)
	show("get", n, err)
	return nil
}

func mapFile(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	size := int(info.Size())
	private, err := unix.Mmap(int(file.Fd()), 0, size, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
	if err != nil {
		return fmt.Errorf("to execute: %w", err)
	}
	shared, err := unix.Mmap(int(file.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("to write: %w", err)
	}
	copy(shared[size-6:], "mapped")
	if err := unix.Msync(shared, unix.MS_SYNC); err != nil {
		return err
	}
	fmt.Printf("%q %q\n", private[:4], private[size-6:])
	return nil
}

func list(dir string) error {
	names, value := make([]byte, 4096), make([]byte, 4096)
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		n, err := unix.Llistxattr(path, names)
		if err != nil {
			return nil // a file system without
		}
		for name := range strings.SplitSeq(string(names[:n]), "\x00") {
			if name == "" {
				continue
			}
			n, err := unix.Lgetxattr(path, name, value)
			if err != nil {
				return err
			}
			fmt.Printf("%q %q %q\n", path, name, value[:n])
		}
		return nil
	})
}
