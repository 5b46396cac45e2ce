package cluster

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"
)

// patience bounds the start of a cluster.
const patience = 2 * time.Minute

// Main builds the programs for the tests of a package and runs them, up to four
// at once: they wait far more than they compute. Call it from TestMain, exit with
// what it returns.
func Main(m *testing.M, b *Binaries) int {
	flag.Parse()
	if err := flag.Set("test.parallel", "4"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "longhaul-cluster-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if *b, err = Build(ctx, dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// Test starts a cluster for a test, in a directory of its own. If the test
// fails, the logs of the processes are among its output.
func Test(t testing.TB, o Options) *Cluster {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := Start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		if !t.Failed() {
			return
		}
		for _, p := range c.Processes() {
			log, err := os.ReadFile(p.Log)
			t.Logf("log of %s (error %v):\n%s", p.Name, err, log)
		}
	})
	return c
}
