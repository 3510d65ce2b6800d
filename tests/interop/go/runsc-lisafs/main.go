// Command runsc-lisafs is runsc, except that it starts its gofers through lisafs-gofer.
//
//	go build -ldflags "-X main.multiplexer=PREFIX/libexec/lisafs/multiplexer" ./runsc-lisafs
//
// Give the result to `lisafs-gofer install --prefix PREFIX --rebuilt`. CGO_ENABLED has to be 0.
package main

import (
	"gvisor.dev/gvisor/runsc/cli/maincli"
	"gvisor.dev/gvisor/runsc/specutils"
)

// multiplexer is what runsc executes where it would execute itself.
var multiplexer = "/usr/local/libexec/lisafs/multiplexer"

func main() {
	specutils.ExePath = multiplexer
	maincli.Main()
}
