// Package release holds what gVisor's client offers differently in the two
// releases that the programs are built against: the one that go.mod pins and,
// with the build tag gvisor2022, that of December 2022 which Debian packages.
package release

import "errors"

// ErrNoCall says that the client of this release has no such call.
var ErrNoCall = errors.New("gVisor's client of this release has no such call")
