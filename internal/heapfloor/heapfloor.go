// Package heapfloor keeps a small heap from being collected all the time.
//
// Go collects garbage when the heap has doubled, however small it is. A process
// that holds 20 MB and allocates half a megabyte for each call so collects every
// fortieth call, and a fifth of its CPU goes into that. GOGC is no remedy: what
// is right for 20 MB is far too much for 500.
package heapfloor

import (
	"os"
	"runtime"
)

// Size is by how much the heap seems to be larger than it is, in bytes: so much
// more garbage is let lie, at most, before it is collected.
const Size = 64 << 20

// Raise makes the heap seem larger by [Size], until release is called. It does
// nothing if the environment says how garbage is to be collected (GOGC,
// GOMEMLIMIT).
func Raise() (release func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	// It is never touched, so that it has addresses but no memory.
	ballast := make([]byte, Size)
	return func() { runtime.KeepAlive(ballast) }
}
