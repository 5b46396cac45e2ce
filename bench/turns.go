package main

import "fmt"

// side is one of those that are compared.
type side struct {
	name     string
	temporal int // process
	pid      int // of the process whose CPU is measured beside Temporal's
	round    func(round) (sample, error)
	all      samples
}

// turns has the sides make rounds in turn, each after one to warm up, and leaves
// what they show in their samples.
func turns(sides []side, rounds int, r round) error {
	for i := range sides {
		sides[i].all = samples{}
		if _, err := sides[i].round(round{r.Clients, max(r.Clients, r.Operations/4)}); err != nil {
			return fmt.Errorf("%s: %w", sides[i].name, err)
		}
	}
	for turn := range rounds {
		for i := range sides {
			// The first is another one each time: what a round leaves behind, such as
			// garbage, is cleaned up in the next.
			side := &sides[(i+turn)%len(sides)]
			one, err := measureUse(side.temporal, side.pid, func() (sample, error) { return side.round(r) })
			if err != nil {
				return fmt.Errorf("%s: %w", side.name, err)
			}
			side.all.add(one)
		}
	}
	return nil
}

// rounds are the rounds of a process that answers each kind of request with a
// sample.
func rounds[Request any](p *process, request func(round) Request) func(round) (sample, error) {
	return func(r round) (out sample, err error) {
		return out, p.ask(request(r), &out)
	}
}
