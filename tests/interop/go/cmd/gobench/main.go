// Command gobench measures the latency of operations as gVisor's own client sees
// it, over one channel, one request at a time.
//
//	gobench (--connect SOCKET | --fd N) [--count N] [--ops LIST] [--cpu LIST]
//
// For each operation it prints one line of JSON: op, count, runs (with those that
// were not measured), and in nanoseconds min_ns, mean_ns, p50_ns, p90_ns, p99_ns,
// p999_ns, p9999_ns, max_ns, and cpu_ns, the CPU time of this process for each; and
// histogram, pairs of a latency, to three digits, and how many samples had it, so
// that what several runs measured can be put together.
//
//	FStat       stat of a control handle.
//	Walk        walk to one name that exists, and close; the client sends the closes
//	            in batches of 100, so a hundredth of the samples contains a Close.
//	WalkAbsent  walk to one name that does not exist.
//	WalkStat    stat of three names, each in the one before.
//	OpenAt      open for reading, the donated descriptor received and closed, and
//	            the open file closed at once: two requests.
//	Create      create and open, all closed, and unlink: three requests.
//	Mkdir       make a directory and remove it: two requests.
//
// All of it happens in a directory in the root that is made through the protocol
// and removed at the end. `lisafs-bench --go-client` runs this program.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/bits"
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

const usage = "usage: gobench (--connect SOCKET | --fd N) [--count N] [--ops LIST] [--cpu LIST]"

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "gobench: %v\n", err)
		os.Exit(2)
	}
}

func run() (err error) {
	target := dial.Flags()
	count := flag.Int("count", 100_000, "samples per operation")
	wanted := flag.String("ops", "", "operations to measure, such as FStat,Walk; all if not given")
	cpus := flag.String("cpu", "", "CPUs to run on, such as 0 or 0,2-3")
	flag.Parse()
	if flag.NArg() != 0 || *count < 1 {
		return errors.New(usage)
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
	defer func() { err = errors.Join(err, b.remove()) }()
	if err := b.prepare(); err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	ops, err := b.ops(*wanted)
	if err != nil {
		return err
	}
	for _, op := range ops {
		if err := measure(op.name, *count, op.run); err != nil {
			return fmt.Errorf("%s: %w", op.name, err)
		}
	}
	return nil
}

// bench is one connection and the directory that is measured: a file in it, and
// three directories, each in the one before.
type bench struct {
	client *lisafs.Client
	ctx    context.Context
	root   lisafs.ClientFD
	name   string
	dir    lisafs.ClientFD
	file   lisafs.ClientFD
	// undo removes what was made, the last first.
	undo []func() error
}

type op struct {
	name string
	run  func() error
}

// chain is a path in the directory.
var chain = []string{"d", "d", "d"}

const fileName = "file"

// ops returns the operations in list, or all.
func (b *bench) ops(list string) ([]op, error) {
	all := []op{
		{"FStat", b.fstat},
		{"Walk", b.walk},
		{"WalkAbsent", b.walkAbsent},
		{"WalkStat", b.walkStat},
		{"OpenAt", b.open},
		{"Create", b.create},
		{"Mkdir", b.mkdir},
	}
	if list == "" {
		return all, nil
	}
	var ops []op
	for name := range strings.SplitSeq(list, ",") {
		at := slices.IndexFunc(all, func(op op) bool { return op.name == name })
		if at < 0 {
			return nil, fmt.Errorf("there is no operation %q", name)
		}
		ops = append(ops, all[at])
	}
	return ops, nil
}

func (b *bench) prepare() error {
	var err error
	if b.dir, err = b.makeDir(b.root, fmt.Sprintf("gobench.%d", os.Getpid())); err != nil {
		return err
	}
	below := b.dir
	for _, name := range chain {
		if below, err = b.makeDir(below, name); err != nil {
			return err
		}
	}
	inode, open, host, err := b.openCreate(fileName)
	if err != nil {
		return err
	}
	closeHost(host)
	b.client.CloseFD(b.ctx, open, true)
	b.file = b.client.NewFD(inode.ControlFD)
	b.undo = append(b.undo, func() error { return b.dir.UnlinkAt(b.ctx, fileName, 0) })
	return nil
}

func (b *bench) makeDir(parent lisafs.ClientFD, name string) (lisafs.ClientFD, error) {
	inode, err := parent.MkdirAt(b.ctx, name, 0o755, lisafs.NoUID, lisafs.NoGID)
	if err != nil {
		return lisafs.ClientFD{}, fmt.Errorf("make %q: %w", name, err)
	}
	b.undo = append(b.undo, func() error { return parent.UnlinkAt(b.ctx, name, unix.AT_REMOVEDIR) })
	return b.client.NewFD(inode.ControlFD), nil
}

func (b *bench) remove() error {
	for _, undo := range slices.Backward(b.undo) {
		if err := undo(); err != nil {
			return fmt.Errorf("remove what was made: %w", err)
		}
	}
	return nil
}

func (b *bench) fstat() error {
	var stat lisafs.Statx
	return b.file.StatTo(b.ctx, &stat)
}

func (b *bench) walk() error {
	inode, err := b.dir.Walk(b.ctx, fileName)
	if err == nil {
		b.client.CloseFD(b.ctx, inode.ControlFD, false)
	}
	return err
}

func (b *bench) walkAbsent() error {
	if _, err := b.dir.Walk(b.ctx, "absent"); !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("a name that does not exist: %v", err)
	}
	return nil
}

func (b *bench) walkStat() error {
	stats, err := b.dir.WalkStat(b.ctx, chain)
	if err == nil && len(stats) != len(chain) {
		return fmt.Errorf("%d of %d names", len(stats), len(chain))
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

func (b *bench) create() error {
	const name = "created"
	inode, open, host, err := b.openCreate(name)
	if err != nil {
		return err
	}
	closeHost(host)
	// Of the two ids, which then go in one Close.
	b.client.CloseFD(b.ctx, inode.ControlFD, false)
	b.client.CloseFD(b.ctx, open, true)
	return b.dir.UnlinkAt(b.ctx, name, 0)
}

func (b *bench) mkdir() error {
	const name = "made"
	inode, err := b.dir.MkdirAt(b.ctx, name, 0o755, lisafs.NoUID, lisafs.NoGID)
	if err != nil {
		return err
	}
	b.client.CloseFD(b.ctx, inode.ControlFD, false)
	return b.dir.UnlinkAt(b.ctx, name, unix.AT_REMOVEDIR)
}

func (b *bench) openCreate(name string) (lisafs.Inode, lisafs.FDID, int, error) {
	return b.dir.OpenCreateAt(b.ctx, name, unix.O_RDWR, 0o644, lisafs.NoUID, lisafs.NoGID)
}

func closeHost(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd)
	}
}

// measure warms up with a tenth of the samples, then takes them.
func measure(op string, count int, run func() error) error {
	warmUp := max(count/10, 100)
	for range warmUp {
		if err := run(); err != nil {
			return err
		}
	}
	samples := make([]int64, count)
	var sum int64
	before, err := cpuTime()
	if err != nil {
		return err
	}
	for i := range samples {
		start := time.Now()
		err := run()
		samples[i] = int64(time.Since(start))
		if err != nil {
			return err
		}
		sum += samples[i]
	}
	after, err := cpuTime()
	if err != nil {
		return err
	}
	slices.Sort(samples)
	// at returns the smallest sample that all but one in n do not exceed.
	at := func(n int) int64 { return samples[count-1-(count-1)/n] }
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"op":        op,
		"count":     count,
		"runs":      warmUp + count,
		"mean_ns":   sum / int64(count),
		"min_ns":    samples[0],
		"p50_ns":    at(2),
		"p90_ns":    at(10),
		"p99_ns":    at(100),
		"p999_ns":   at(1000),
		"p9999_ns":  at(10000),
		"max_ns":    samples[count-1],
		"cpu_ns":    (after - before) / int64(count),
		"histogram": histogram(samples),
	})
}

// histogram returns pairs of a latency and how many of the sorted samples had it.
// Of a latency the first 11 bits count.
func histogram(sorted []int64) [][2]int64 {
	var pairs [][2]int64
	for _, sample := range sorted {
		shift := max(bits.Len64(uint64(sample))-11, 0)
		took := sample >> shift << shift
		if last := len(pairs) - 1; last >= 0 && pairs[last][0] == took {
			pairs[last][1]++
		} else {
			pairs = append(pairs, [2]int64{took, 1})
		}
	}
	return pairs
}

// cpuTime returns the CPU time of this process so far, in nanoseconds.
func cpuTime() (int64, error) {
	var now unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &now)
	return now.Nano(), err
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
