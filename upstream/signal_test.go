package upstream_test

import (
	"os/signal"
	"syscall"
)

func ignoreTerminate() { signal.Ignore(syscall.SIGTERM) }
