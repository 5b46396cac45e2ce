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

// storers are the clients that fill a database.
const storers = 16

// growth measures what a task costs where many tasks are stored, and then a page
// of their list: several Temporals, each with a database of another size, take
// turns.
func growth(ctx context.Context, s *stage) error {
	sizes, n, made := []int{1_000, 10_000, 100_000}, 7, round{8, 200}
	if s.short {
		sizes, n, made = []int{110, 160, 240}, 1, round{8, 40}
	}
	var all []*stored
	var makers []side
	for _, size := range sizes {
		d, err := s.store(size)
		if err != nil {
			return err
		}
		all = append(all, d)
		makers = append(makers, d.maker)
	}
	if err := turns(makers, n, made); err != nil {
		return err
	}

	first, last := 0, len(all)-1
	cost := func(i int) time.Duration {
		return makers[i].all.each(makers[i].all.server) + makers[i].all.each(makers[i].all.spent)
	}
	compare := func(what string, value float64, t *target) {
		s.figures.add(fmt.Sprintf("growth/%s, %d tasks of %d", what, sizes[last], sizes[first]), value, "×", t)
	}
	compare("CPU of a task", ratio(cost(last), cost(first)), atMost(maxGrowth))
	compare("p50 of a task", ratio(makers[last].all.quantile(0.5), makers[first].all.quantile(0.5)), nil)
	for i, d := range all {
		add := func(what string, value float64, unit string) {
			s.figures.add(fmt.Sprintf("growth/%d/%s", d.tasks, what), value, unit, nil)
		}
		maker := makers[i].all
		add("Temporal's CPU", millis(maker.each(maker.server)), "ms/task")
		add("own CPU", millis(maker.each(maker.spent)), "ms/task")
		add("p50", millis(maker.quantile(0.5)), "ms")
		add("p99", millis(maker.quantile(0.99)), "ms")
		add("throughput", maker.throughput(), "tasks/s")
		add("stored at", float64(d.tasks)/d.took.Seconds(), "tasks/s")
		size, err := sizeOf(d.temporal.database)
		if err != nil {
			return err
		}
		add("database", float64(size)/float64(d.tasks)/1024, "KB/task")
		used, err := use(d.temporal.pid)
		if err != nil {
			return err
		}
		add("Temporal's RSS", float64(used.rss)/mega, "MB")
	}
	return s.comparePages(ctx, "growth/list", &all[first].filled, &all[last].filled)
}

// stored is a Temporal whose database is filled, and what made it so.
type stored struct {
	filled
	took  time.Duration
	maker side // of more tasks
}

// store runs tasks to their end, of the cheapest tool there is.
func (s *stage) store(tasks int) (d *stored, err error) {
	d = &stored{filled: filled{tasks: tasks}}
	if d.temporal, err = s.startTemporal(); err != nil {
		return nil, err
	}
	var at served
	longhaul, err := s.start(roleLonghaul, place{d.temporal.addr, "growth"}, &at)
	if err != nil {
		return nil, err
	}
	load, err := s.start(roleLoad, at, nil)
	if err != nil {
		return nil, err
	}
	d.maker = side{
		name: fmt.Sprintf("%d tasks", tasks), temporal: d.temporal.pid, pid: longhaul.pid,
		round: rounds(load, func(r round) loadRound { return loadRound{r, createAndResult()} }),
	}
	instant := create(toolInstant)
	instant.Then = &operation{Method: "tasks/result", Want: `"structuredContent":{}`}
	begun := time.Now()
	for done := 0; done < tasks; {
		step := min(5_000, tasks-done)
		if err := load.ask(loadRound{round{storers, step}, instant}, &sample{}); err != nil {
			return nil, err
		}
		if done += step; !s.short {
			fmt.Fprintf(os.Stderr, "growth: %d of %d tasks are stored after %.0f s\n", done, tasks, time.Since(begun).Seconds())
		}
	}
	d.took = time.Since(begun)
	return d, nil
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
