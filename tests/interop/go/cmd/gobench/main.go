// Command gobench measures the latency of three operations as gVisor's own
// client sees it, over one channel, one request at a time.
//
//	gobench (--connect SOCKET | --fd N) [--count N] [--file NAME] [--cpu LIST]
//
// For each operation it prints one line
// {"op":…,"count":N,"mean_ns":…,"min_ns":…,"p50_ns":…,"p99_ns":…}:
//
//	FStat  stat of a control handle.
//	Walk   walk to one name that exists, and close; the client sends the closes
//	       in batches of 100, so a hundredth of the samples contains a Close RPC.
//	OpenAt open for reading, the donated descriptor received and closed, and
//	       the open file closed at once: two RPCs.
//
// NAME is a regular file in the root. Without --file one is made through the
// protocol, and removed at the end.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/context"
	"gvisor.dev/gvisor/pkg/lisafs"
	"lisafs.test/interop/internal/dial"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "gobench: %v\n", err)
		os.Exit(2)
	}
}

func run() error {
	target := dial.Flags()
	count := flag.Int("count", 100_000, "samples per operation")
	name := flag.String("file", "", "a regular file in the root; made if not given")
	cpus := flag.String("cpu", "", "CPUs to run on, such as 0 or 0,2-3")
	flag.Parse()
	if flag.NArg() != 0 || *count < 1 {
		return fmt.Errorf("usage: gobench (--connect SOCKET | --fd N) [--count N] [--file NAME] [--cpu LIST]")
	}
	if err := pin(*cpus); err != nil {
		return err
	}
	mount, err := target.Mount()
	if err != nil {
		return err
	}
	defer mount.Client.Close()
	b := &bench{client: mount.Client, ctx: context.Background()}
	b.root = b.client.NewFD(mount.Root.ControlFD)
	remove, err := b.prepare(*name)
	if err != nil {
		return err
	}
	defer remove()
	for _, op := range []struct {
		name string
		run  func() error
	}{{"FStat", b.fstat}, {"Walk", b.walk}, {"OpenAt", b.open}} {
		if err := measure(op.name, *count, op.run); err != nil {
			return fmt.Errorf("%s: %w", op.name, err)
		}
	}
	return nil
}

// bench is one connection and the file that is measured.
type bench struct {
	client *lisafs.Client
	ctx    context.Context
	root   lisafs.ClientFD
	name   string
	file   lisafs.ClientFD
}

// prepare finds or makes the file. The returned function undoes it.
func (b *bench) prepare(name string) (func(), error) {
	b.name = name
	if name != "" {
		inode, err := b.root.Walk(b.ctx, name)
		if err != nil {
			return nil, fmt.Errorf("walk to %q: %w", name, err)
		}
		b.file = b.client.NewFD(inode.ControlFD)
		return func() {}, nil
	}
	b.name = fmt.Sprintf("gobench.%d", os.Getpid())
	inode, open, host, err := b.root.OpenCreateAt(b.ctx, b.name, unix.O_RDWR, 0o644, lisafs.NoUID, lisafs.NoGID)
	if err != nil {
		return nil, fmt.Errorf("create %q: %w", b.name, err)
	}
	closeHost(host)
	b.client.CloseFD(b.ctx, open, true)
	b.file = b.client.NewFD(inode.ControlFD)
	return func() {
		if err := b.root.UnlinkAt(b.ctx, b.name, 0); err != nil {
			fmt.Fprintf(os.Stderr, "gobench: remove %q: %v\n", b.name, err)
		}
	}, nil
}

func (b *bench) fstat() error {
	var stat lisafs.Statx
	return b.file.StatTo(b.ctx, &stat)
}

func (b *bench) walk() error {
	inode, err := b.root.Walk(b.ctx, b.name)
	if err == nil {
		b.client.CloseFD(b.ctx, inode.ControlFD, false)
	}
	return err
}

func (b *bench) open() error {
	id, host, err := b.file.OpenAt(b.ctx, unix.O_RDONLY)
	if err != nil {
		return err
	}
	closeHost(host)
	b.client.CloseFD(b.ctx, id, true)
	return nil
}

func closeHost(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd)
	}
}

// measure warms up with a tenth of the samples, then takes them.
func measure(op string, count int, run func() error) error {
	for range max(count/10, 100) {
		if err := run(); err != nil {
			return err
		}
	}
	samples := make([]int64, count)
	var sum int64
	for i := range samples {
		start := time.Now()
		err := run()
		samples[i] = int64(time.Since(start))
		if err != nil {
			return err
		}
		sum += samples[i]
	}
	slices.Sort(samples)
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"op":      op,
		"count":   count,
		"mean_ns": sum / int64(count),
		"min_ns":  samples[0],
		"p50_ns":  samples[count/2],
		"p99_ns":  samples[count-1-count/100],
	})
}

// pin restricts this process to the listed CPUs: the threads it has by now, and
// through them those it will have.
func pin(list string) error {
	if list == "" {
		return nil
	}
	var set unix.CPUSet
	for part := range strings.SplitSeq(list, ",") {
		first, last, found := strings.Cut(part, "-")
		if !found {
			last = first
		}
		from, err := strconv.Atoi(first)
		if err != nil {
			return fmt.Errorf("--cpu %q: %w", list, err)
		}
		to, err := strconv.Atoi(last)
		if err != nil {
			return fmt.Errorf("--cpu %q: %w", list, err)
		}
		for cpu := from; cpu <= to; cpu++ {
			set.Set(cpu)
		}
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range threads {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(tid, &set); err != nil {
			return fmt.Errorf("--cpu %q: %w", list, err)
		}
	}
	return nil
}
