package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/context"
	"gvisor.dev/gvisor/pkg/lisafs"
	"lisafs.test/interop/internal/dial"
)

// deadline bounds one check or probe. A server that does not answer blocks the
// client for good, so passing it ends the program.
const deadline = 60 * time.Second

// entry is one check: a name of the form subject/case, and what to do.
type entry struct {
	name string
	run  func(*check)
}

// probe is one question; run returns the answer.
type probe struct {
	name string
	run  func(*check) string
}

// The lines of the output.
type (
	checkLine struct {
		Name   string `json:"name"`
		OK     bool   `json:"ok"`
		Detail string `json:"detail"`
	}
	skipLine struct {
		Name string `json:"name"`
		Skip string `json:"skip"`
	}
	probeLine struct {
		Name     string `json:"name"`
		Observed string `json:"observed"`
	}
	summaryLine struct {
		Checks   int `json:"checks"`
		Failed   int `json:"failed"`
		Skipped  int `json:"skipped"`
		Channels int `json:"channels"`
	}
)

// session is one connection and the tally of what was run over it.
type session struct {
	options
	mount  *dial.Mount
	client *lisafs.Client
	ctx    context.Context
	root   lisafs.ClientFD
	// work is this run's own directory below the root.
	work     lisafs.ClientFD
	workName string
	dirs     int
	out      *json.Encoder
	ran      int
	failed   int
	skipped  int
}

func newSession(mount *dial.Mount, opts options) *session {
	return &session{
		options:  opts,
		mount:    mount,
		client:   mount.Client,
		ctx:      context.Background(),
		root:     mount.Client.NewFD(mount.Root.ControlFD),
		workName: fmt.Sprintf("g%d", os.Getpid()),
		out:      json.NewEncoder(os.Stdout),
	}
}

// channels is the number of channels the client obtained, and maxMessage the
// payload limit it was told; the client keeps both to itself.
func (s *session) channels() int {
	return reflect.ValueOf(s.client).Elem().FieldByName("channels").Len()
}

func (s *session) maxMessage() uint32 {
	return uint32(reflect.ValueOf(s.client).Elem().FieldByName("maxMessageSize").Uint())
}

func (s *session) emit(line any) {
	if err := s.out.Encode(line); err != nil {
		fmt.Fprintf(os.Stderr, "goclient: %v\n", err)
		os.Exit(2)
	}
}

// selected says whether --only asks for this check or probe. The session's own
// directory is always made and removed.
func (s *session) selected(name string) bool {
	return strings.HasPrefix(name, s.only) || strings.HasPrefix(name, "session/")
}

func (s *session) runChecks(entries []entry) {
	if !s.readonly {
		entries = append([]entry{{"session/directory", (*check).makeWork}}, entries...)
		entries = append(entries, entry{"session/remove", (*check).removeWork})
	}
	for _, e := range entries {
		if !s.selected(e.name) {
			continue
		}
		s.ran++
		err := s.perform(e.run)
		var skip skipped
		switch {
		case errors.As(err, &skip):
			s.skipped++
			s.emit(skipLine{e.name, string(skip)})
		case err != nil:
			s.failed++
			s.emit(checkLine{e.name, false, err.Error()})
		default:
			s.emit(checkLine{e.name, true, ""})
		}
		if errors.Is(err, errStuck) {
			s.summary()
			os.Exit(1)
		}
	}
}

func (s *session) runProbes(probes []probe) {
	if err := s.perform((*check).makeWork); err != nil {
		s.emit(probeLine{"session/directory", err.Error()})
	}
	for _, p := range probes {
		if !s.selected(p.name) {
			continue
		}
		var observed string
		err := s.perform(func(c *check) { observed = p.run(c) })
		if err != nil {
			observed = err.Error()
		}
		s.emit(probeLine{p.name, observed})
		if errors.Is(err, errStuck) {
			os.Exit(1)
		}
	}
	if err := s.perform((*check).removeWork); err != nil {
		s.emit(probeLine{"session/remove", err.Error()})
	}
}

var errStuck = errors.New("no answer within the deadline")

// perform runs one check to its end, or reports that it is stuck.
func (s *session) perform(run func(*check)) error {
	done := make(chan error, 1)
	go func() {
		c := &check{session: s}
		defer func() {
			c.cleanup()
			done <- recovered(recover())
		}()
		run(c)
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(deadline):
		return errStuck
	}
}

// recovered turns what a check panicked with into its result. A panic out of
// gVisor's client is a result like any other: the server provoked it.
func recovered(value any) error {
	switch v := value.(type) {
	case nil:
		return nil
	case failure:
		return v
	case skipped:
		return v
	default:
		return fmt.Errorf("panic: %v", v)
	}
}

func (s *session) finish() {
	if s.mount.HostFD >= 0 {
		_ = unix.Close(s.mount.HostFD)
	}
	s.client.Close()
}

// summary prints the last line and reports whether all is well.
func (s *session) summary() bool {
	s.emit(summaryLine{s.ran, s.failed, s.skipped, s.channels()})
	return s.failed == 0
}

// makeWork creates the directory in which everything else happens.
func (c *check) makeWork() {
	inode, err := c.root.MkdirAt(c.ctx, c.workName, 0o755, lisafs.NoUID, lisafs.NoGID)
	c.ok(err, "mkdir")
	c.work = c.client.NewFD(inode.ControlFD)
	if c.hostDir != "" {
		_, err := os.Lstat(filepath.Join(c.hostDir, c.workName))
		c.ok(err, "--host-dir does not show the new directory")
	}
}

// removeWork removes it again, through the protocol alone.
func (c *check) removeWork() {
	c.removeTree(&c.root, c.workName)
	_, err := c.root.Walk(c.ctx, c.workName)
	c.errno(err, unix.ENOENT, "walk to the removed directory")
}
