package main

// side is one of those that are compared.
type side struct {
	name  string
	pid   int // of the process whose CPU is measured beside Temporal's
	round func(round) (sample, error)
	all   samples
}

// turns has the sides make rounds in turn, each after one to warm up, and leaves
// what they show in their samples. server is the process of Temporal.
func turns(server int, sides []side, rounds int, r round) error {
	for i := range sides {
		sides[i].all = samples{}
		if _, err := sides[i].round(round{r.Clients, max(r.Clients, r.Operations/4)}); err != nil {
			return err
		}
	}
	for range rounds {
		for i := range sides {
			one, err := measureUse(server, sides[i].pid, func() (sample, error) { return sides[i].round(r) })
			if err != nil {
				return err
			}
			sides[i].all.add(one)
		}
	}
	return nil
}
