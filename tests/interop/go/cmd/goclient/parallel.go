package main

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
	"lisafs.test/interop/internal/release"
)

// Goroutines outnumber the channels, so that the socket is in use as well.
const goroutines = 8

func parallelChecks() []entry {
	return []entry{
		{"parallel/own-files", func(c *check) {
			d := c.scratch()
			c.together(func(g int) error {
				for i := 0; i < 100; i++ {
					if err := c.lifeOfAFile(d, fmt.Sprintf("f%d-%d", g, i)); err != nil {
						return err
					}
				}
				return nil
			})
			open := c.open(&d.ClientFD, unix.O_RDONLY)
			c.that(len(c.entries(&open)) == 0, "%d files are left", len(c.entries(&open)))
		}},
		{"parallel/one-wins", func(c *check) {
			d := c.scratch()
			for i := 0; i < 50; i++ {
				var won sync.Map
				c.together(func(g int) error {
					inode, err := d.MkdirAt(c.ctx, fmt.Sprintf("d%d", i), 0o755, noUID, noGID)
					if err == nil {
						won.Store(g, true)
						c.client.CloseFD(c.ctx, inode.ControlFD, false)
					} else if !errors.Is(err, unix.EEXIST) {
						return err
					}
					return nil
				})
				winners := 0
				won.Range(func(any, any) bool { winners++; return true })
				c.that(winners == 1, "%d of the same mkdir succeed", winners)
			}
		}},
		{"parallel/reads-of-one-file", func(c *check) {
			d := c.scratch()
			_, open := c.create(d, "f")
			size := 1 << 18
			data := make([]byte, size)
			for i := range data {
				data[i] = byte(i / 4096)
			}
			_, err := open.Write(c.ctx, data, 0)
			c.ok(err, "write")
			c.together(func(g int) error {
				buf := make([]byte, 4096)
				for i := 0; i < size/4096; i++ {
					page := (i + g*7) % (size / 4096)
					if _, err := open.Read(c.ctx, buf, uint64(page*4096)); err != nil {
						return err
					}
					if buf[0] != byte(page) || buf[4095] != byte(page) {
						return fmt.Errorf("page %d holds page %d", page, buf[0])
					}
				}
				return nil
			})
		}},
		{"parallel/rename-and-walk", func(c *check) {
			d := c.scratch()
			a, b := c.mkdir(d, "a"), c.mkdir(d, "b")
			c.named(c.mkdir(a, "sub"), "f")
			c.together(func(g int) error {
				for i := 0; i < 100; i++ {
					if err := c.renameOrWalk(d, a, b, g); err != nil {
						return err
					}
				}
				return nil
			})
			open := c.open(&d.ClientFD, unix.O_RDONLY)
			c.that(len(c.entries(&open)) == 2, "%d entries", len(c.entries(&open)))
		}},
	}
}

// together runs a function on several goroutines and fails with the first of
// their errors. The function must not call methods that end the check.
func (c *check) together(run func(g int) error) {
	errs := make([]error, goroutines)
	var wg sync.WaitGroup
	wg.Add(goroutines)
	for g := range errs {
		go func(g int) {
			defer wg.Done()
			errs[g] = run(g)
		}(g)
	}
	wg.Wait()
	for g, err := range errs {
		c.ok(err, fmt.Sprintf("goroutine %d", g))
	}
}

// lifeOfAFile creates, writes, reads, stats and unlinks a file.
func (c *check) lifeOfAFile(d *dir, name string) error {
	inode, id, host, err := d.OpenCreateAt(c.ctx, name, unix.O_RDWR, 0o644, noUID, noGID)
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	discard(host)
	control, open := c.client.NewFD(inode.ControlFD), c.client.NewFD(id)
	if _, err := open.Write(c.ctx, []byte(name), 0); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	buf := make([]byte, len(name))
	if _, err := open.Read(c.ctx, buf, 0); err != nil || string(buf) != name {
		return fmt.Errorf("read %q: %w", buf, err)
	}
	var stat release.Statx
	if err := control.StatTo(c.ctx, &stat); err != nil || stat.Size != uint64(len(name)) || stat.Ino != inode.Stat.Ino {
		return fmt.Errorf("stat %s: %w", &stat, err)
	}
	open.Close(c.ctx, true)
	control.Close(c.ctx, false)
	if err := d.UnlinkAt(c.ctx, name, 0); err != nil {
		return fmt.Errorf("unlink: %w", err)
	}
	return nil
}

// renameOrWalk moves "sub" between two directories on even goroutines and
// looks for it on odd ones: it is whole or absent, never in between.
func (c *check) renameOrWalk(d, a, b *dir, g int) error {
	if g%2 == 0 {
		from, to := a, b
		if g%4 == 0 {
			from, to = b, a
		}
		err := release.RenameAt(c.ctx, &from.ClientFD, "sub", to.ID(), "sub", 0)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("rename: %w", err)
		}
		return nil
	}
	_, inodes, err := d.WalkMultiple(c.ctx, []string{"a", "sub", "f"})
	if err != nil {
		return fmt.Errorf("walk: %w", err)
	}
	for _, inode := range inodes {
		c.client.CloseFD(c.ctx, inode.ControlFD, false)
	}
	if len(inodes) == 2 {
		return errors.New("walk finds the directory without its file")
	}
	return nil
}
