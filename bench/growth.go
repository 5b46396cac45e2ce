package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// maxGrowth is how much more a task may cost where the database has a hundred
// times as many.
const maxGrowth = 1.2

// fillers are the clients that fill a database. There is nothing cheaper to fill
// it with that would be stored as tasks are.
const fillers = 32

// growth measures what a task costs where many tasks are stored, and then a page
// of their list: as many Temporals, each with a database of another size, with
// Longhaul in one process and a generator of load. They take turns.
func growth(ctx context.Context, s *stage) error {
	sizes := []int{1_000, 10_000, 100_000}
	rounds, operations := 7, 200
	if s.short {
		sizes = []int{50, 100, 200}
		rounds, operations = 1, 50
	}
	type deployment struct {
		stored         int
		temporal       *temporal
		longhaul, load *process
		filled         time.Duration
		all            samples
	}
	var all []*deployment
	for _, size := range sizes {
		d := &deployment{stored: size}
		all = append(all, d)
		var err error
		if d.temporal, err = s.startTemporal(); err != nil {
			return err
		}
		var at served
		if d.longhaul, err = s.start(roleLonghaul, place{d.temporal.addr, "bench"}, &at); err != nil {
			return err
		}
		if d.load, err = s.start(roleLoad, at, nil); err != nil {
			return err
		}
		begun := time.Now()
		// A hundredth at a time, to say how far it is.
		for done := 0; done < size; done += size / 10 {
			if err := d.load.ask(loadRound{round: round{fillers, size / 10}, Operation: createAndResult()}, &sample{}); err != nil {
				return err
			}
			if !s.short {
				fmt.Fprintf(os.Stderr, "growth: %d of %d tasks are stored, after %.0f s\n", done+size/10, size, time.Since(begun).Seconds())
			}
		}
		d.filled = time.Since(begun)
	}

	for turn := range rounds + 1 { // the first to warm up
		for _, d := range all {
			one, err := measureUse(d.temporal.pid, d.longhaul.pid, func() (out sample, err error) {
				return out, d.load.ask(loadRound{round: round{8, operations}, Operation: createAndResult()}, &out)
			})
			if err != nil {
				return err
			}
			if turn > 0 {
				d.all.add(one)
			}
		}
	}

	cost := func(d *deployment) time.Duration { return d.all.each(d.all.server) + d.all.each(d.all.spent) }
	first, last := all[0], all[len(all)-1]
	s.figures.add(fmt.Sprintf("growth/CPU of a task at %d of %d", last.stored, first.stored), ratio(cost(last), cost(first)), "×", atMost(maxGrowth))
	s.figures.add(fmt.Sprintf("growth/p50 at %d of %d", last.stored, first.stored), ratio(last.all.quantile(0.5), first.all.quantile(0.5)), "×", nil)
	for _, d := range all {
		add := func(what string, value float64, unit string) {
			s.figures.add(fmt.Sprintf("growth/%d/%s", d.stored, what), value, unit, nil)
		}
		add("Temporal's CPU", millis(d.all.each(d.all.server)), "ms/task")
		add("own CPU", millis(d.all.each(d.all.spent)), "ms/task")
		add("p50", millis(d.all.quantile(0.5)), "ms")
		add("p99", millis(d.all.quantile(0.99)), "ms")
		add("throughput", d.all.throughput(), "tasks/s")
		add("filled at", float64(d.stored)/d.filled.Seconds(), "tasks/s")
		size, err := sizeOf(d.temporal.database)
		if err != nil {
			return err
		}
		add("database", float64(size)/float64(d.stored)/1024, "KB/task")
		used, err := use(d.temporal.pid)
		if err != nil {
			return err
		}
		add("Temporal's RSS", float64(used.rss)/mega, "MB")
	}
	return s.comparePages(ctx, "growth/list", &filled{first.temporal, first.stored}, &filled{last.temporal, last.stored})
}

// sizeOf is the size of all files in a directory, in bytes.
func sizeOf(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		n += info.Size()
		return nil
	})
	return n, err
}
