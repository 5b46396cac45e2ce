package longhaul

import (
	"testing"
	"time"
)

func TestLifetimes(t *testing.T) {
	type lifetimes struct{ TTL, Min, Max, Grace time.Duration }
	for name, c := range map[string]struct {
		chosen Options
		kept   time.Duration // by Temporal
		want   lifetimes
		warns  []string
		fails  []string
	}{
		"nothing chosen": {Options{}, 31 * day, lifetimes{day, time.Second, 30 * day, 5 * time.Minute}, nil, nil},
		"all chosen": {
			Options{TTL: time.Hour, MinTTL: time.Minute, MaxTTL: 2 * time.Hour, Grace: time.Hour}, day,
			lifetimes{time.Hour, time.Minute, 2 * time.Hour, time.Hour}, nil, nil,
		},
		"the longest is chosen, and shorter than the default one": {
			Options{MaxTTL: time.Hour}, day, lifetimes{time.Hour, time.Second, time.Hour, 5 * time.Minute}, nil, nil,
		},
		"tiny ones": {
			Options{MaxTTL: 10 * time.Millisecond, Grace: time.Millisecond}, day,
			lifetimes{10 * time.Millisecond, 10 * time.Millisecond, 10 * time.Millisecond, time.Millisecond}, nil, nil,
		},
		"the default above the longest": {Options{TTL: 48 * time.Hour, MaxTTL: day}, 31 * day, lifetimes{}, nil, []string{"--ttl ", "--ttl-max"}},
		"the default below the shortest": {
			Options{TTL: time.Second, MinTTL: time.Minute}, 31 * day, lifetimes{}, nil, []string{"--ttl ", "--ttl-min"},
		},
		"negative": {Options{MinTTL: -1}, 31 * day, lifetimes{}, nil, []string{"--ttl-min"}},

		"a namespace that keeps less lowers the longest": {
			Options{Grace: time.Hour}, 3 * day, lifetimes{day, time.Second, 3*day - time.Hour, time.Hour},
			[]string{"71h", "temporal operator namespace update --namespace tests --retention 31d", "--ttl-max"}, nil,
		},
		"and the default with it": {
			Options{}, day, lifetimes{day - 5*time.Minute, time.Second, day - 5*time.Minute, 5 * time.Minute},
			[]string{"--retention 31d"}, nil,
		},
		"but none that was chosen": {
			Options{MaxTTL: 40 * day}, 31 * day, lifetimes{}, nil,
			[]string{"--ttl-max", "temporal operator namespace update --namespace tests --retention 41d"},
		},
		"nor below one that was chosen": {Options{TTL: 2 * day}, day, lifetimes{}, nil, []string{"--retention 31d"}},
		"nor to nothing":                {Options{Grace: 2 * day}, day, lifetimes{}, nil, []string{"--retention 32d"}},
	} {
		t.Run(name, func(t *testing.T) {
			o, warning, err := c.chosen.withinRetention("tests", c.kept)
			if c.fails != nil {
				if err == nil {
					t.Fatalf("accepted as %s, %s, %s", o.TTL, o.MinTTL, o.MaxTTL)
				}
				contains(t, err.Error(), c.fails...)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := (lifetimes{o.TTL, o.MinTTL, o.MaxTTL, o.Grace}); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if (warning == "") != (c.warns == nil) {
				t.Errorf("warns %q", warning)
			}
			contains(t, warning, c.warns...)
		})
	}
}
