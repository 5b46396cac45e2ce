package main

import (
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
)

// figure is one result of a measurement.
type figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	// Target is what Value should be, as in "≥ 0.9", and Met whether it is.
	// Both are null for what is only good to know.
	Target *string `json:"target"`
	Met    *bool   `json:"met"`
}

// target is a bound on a figure.
type target struct {
	least bool
	bound float64
}

func atLeast(bound float64) *target { return &target{true, bound} }

func atMost(bound float64) *target { return &target{false, bound} }

func (t target) String() string {
	sign := "≤ "
	if t.least {
		sign = "≥ "
	}
	return sign + strconv.FormatFloat(t.bound, 'g', -1, 64)
}

func (t target) met(value float64) bool {
	if t.least {
		return value >= t.bound
	}
	return value <= t.bound
}

type figures []figure

// add adds a figure; t is nil if there is no target.
func (f *figures) add(name string, value float64, unit string, t *target) {
	added := figure{Name: name, Value: value, Unit: unit}
	if t != nil {
		said, met := t.String(), t.met(value)
		added.Target, added.Met = &said, &met
	}
	*f = append(*f, added)
}

func (f figures) print(w io.Writer) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, g := range f {
		target, met := "", ""
		if g.Target != nil {
			target, met = *g.Target, "met"
			if !*g.Met {
				met = "NOT MET"
			}
		}
		fmt.Fprintf(table, "%s\t %s\t %s\t %s\t %s\t\n", g.Name, digits(g.Value), g.Unit, target, met)
	}
	_ = table.Flush()
}

// digits is a value with as many digits as say something.
func digits(v float64) string {
	switch {
	case v >= 1000:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
}

// summarize says how many targets are met.
func (f figures) summarize(w io.Writer) {
	targets, met := 0, 0
	for _, g := range f {
		if g.Target == nil {
			continue
		}
		targets++
		if *g.Met {
			met++
		}
	}
	fmt.Fprintf(w, "\n%d of %d targets met\n", met, targets)
}
