package main

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// round asks for a number of operations by clients that are busy all the time.
type round struct {
	Clients, Operations int
}

// sample is what a round has shown.
type sample struct {
	Elapsed   time.Duration
	Latencies []time.Duration
	// LastID is that of some workflow of the round.
	LastID string
}

// measure makes a round of operations.
func measure(r round, operation func() (id string, err error)) (sample, error) {
	return measureLatency(r, func() (id string, latency time.Duration, err error) {
		from := time.Now()
		id, err = operation()
		return id, time.Since(from), err
	})
}

// measureLatency makes a round of operations that say themselves how long what
// matters of them took.
func measureLatency(r round, operation func() (id string, latency time.Duration, err error)) (sample, error) {
	var (
		left   atomic.Int64
		failed atomic.Pointer[error]
		lastID atomic.Pointer[string]
		wg     sync.WaitGroup
	)
	left.Store(int64(r.Operations))
	latencies := make([][]time.Duration, r.Clients)
	begun := time.Now()
	for i := range latencies {
		wg.Go(func() {
			for left.Add(-1) >= 0 && failed.Load() == nil {
				id, latency, err := operation()
				if err != nil {
					failed.Store(&err)
					return
				}
				latencies[i] = append(latencies[i], latency)
				lastID.Store(&id)
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return sample{}, *err
	}
	return sample{time.Since(begun), slices.Concat(latencies...), *lastID.Load()}, nil
}

// samples are the rounds of one side.
type samples struct {
	rounds []sample
	spent  []time.Duration // CPU of the process measured, for each round
	server []time.Duration // CPU of Temporal, likewise
}

func (s samples) operations() (n int) {
	for _, r := range s.rounds {
		n += len(r.Latencies)
	}
	return n
}

// throughput is the median of the rounds, in operations per second: a
// disturbance of one of them does not count.
func (s samples) throughput() float64 {
	var rates []float64
	for _, r := range s.rounds {
		rates = append(rates, float64(len(r.Latencies))/r.Elapsed.Seconds())
	}
	return median(rates)
}

// quantile is that of the latencies of all rounds.
func (s samples) quantile(q float64) time.Duration {
	var all []time.Duration
	for _, r := range s.rounds {
		all = append(all, r.Latencies...)
	}
	slices.Sort(all)
	return all[min(int(q*float64(len(all))), len(all)-1)]
}

// tail is the median of the rounds' quantiles: unlike [samples.quantile] it does
// not tell of the one round in which the machine was busy with something else.
func (s samples) tail(q float64) time.Duration {
	var tails []float64
	for _, r := range s.rounds {
		tails = append(tails, float64(samples{rounds: []sample{r}}.quantile(q)))
	}
	return time.Duration(median(tails))
}

// each is a total for each operation.
func (s samples) each(total []time.Duration) time.Duration {
	var sum time.Duration
	for _, d := range total {
		sum += d
	}
	return sum / time.Duration(s.operations())
}

func median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }
