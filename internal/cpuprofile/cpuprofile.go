// Package cpuprofile writes the CPU profile of a process that is measured.
package cpuprofile

import (
	"os"
	"runtime/pprof"
)

// Start begins to write a CPU profile to file, until stop is called. There is
// one at a time in a process.
func Start(file string) (stop func(), err error) {
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close()
	}, nil
}
