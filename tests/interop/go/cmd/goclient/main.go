// Command goclient drives a lisafs server with gVisor's own client, unmodified,
// and says what the server did.
//
//	goclient (--connect SOCKET | --fd N) [--host-dir DIR] [--readonly]
//	         [--host-uds MODE] [--host-fifo MODE] [--only PREFIX] [--observe]
//
// The default mode runs checks: things every lisafs server must do. Each prints
// {"name":…,"ok":…,"detail":…}, or {"name":…,"skip":reason} if it cannot run
// here; the last line is {"checks":N,"failed":M,"skipped":K,"channels":C}, and
// the exit status is 1 if one failed.
//
// With --observe it runs probes instead: questions to which two correct servers
// may answer differently. Each prints {"name":…,"observed":…}, with no ids,
// inode numbers or times in it, so that the lines of two servers can be compared.
//
// Everything is made through the protocol in one fresh directory below the
// root, and removed at the end. --readonly, --host-uds and --host-fifo repeat
// what the server was started with; they choose the answers to expect.
// --host-dir names the exported directory as this process sees it, and enables
// the checks that compare with, or need, the host.
package main

import (
	"flag"
	"fmt"
	"os"

	"gvisor.dev/gvisor/runsc/config"
	"lisafs.test/interop/internal/dial"
)

func main() {
	ok, err := run()
	switch {
	case err != nil:
		fmt.Fprintf(os.Stderr, "goclient: %v\n", err)
		os.Exit(2)
	case !ok:
		os.Exit(1)
	}
}

func run() (bool, error) {
	var opts options
	target := dial.Flags()
	flag.StringVar(&opts.hostDir, "host-dir", "", "the exported `directory` on this host")
	flag.BoolVar(&opts.readonly, "readonly", false, "the server is read-only")
	flag.Var(&opts.uds, "host-uds", "the server's Unix socket policy: none, open, create or all")
	flag.Var(&opts.fifo, "host-fifo", "the server's FIFO policy: none or open")
	flag.StringVar(&opts.only, "only", "", "run only what has a name with this `prefix`")
	observe := flag.Bool("observe", false, "run the probes instead of the checks")
	flag.Parse()
	if flag.NArg() != 0 {
		return false, fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}

	mount, err := target.Mount()
	if err != nil {
		return false, err
	}
	s := newSession(mount, opts)
	if *observe {
		s.runProbes(probes())
		s.finish()
		return true, nil
	}
	s.runChecks(checks(opts))
	s.finish()
	return s.summary(), nil
}

// options is what the command line says about the server and the host.
type options struct {
	hostDir  string
	only     string
	readonly bool
	uds      config.HostUDS
	fifo     config.HostFifo
}

// checks lists the checks that apply to a server started like this.
func checks(opts options) []entry {
	if opts.readonly {
		return readonlyChecks()
	}
	var all []entry
	for _, group := range [][]entry{
		mountChecks(), walkChecks(), walkStatChecks(), openChecks(), ioChecks(), lifetimeChecks(),
		attrChecks(), createChecks(), linkChecks(), renameChecks(), listChecks(), xattrChecks(),
		socketChecks(), fifoChecks(), parallelChecks(), malformedChecks(),
	} {
		all = append(all, group...)
	}
	return all
}

// probes lists the probes; those that write report EROFS on a read-only server.
func probes() []probe {
	var all []probe
	for _, group := range [][]probe{setupProbes(), fileProbes(), treeProbes(), deletedProbes(), socketProbes()} {
		all = append(all, group...)
	}
	return all
}
