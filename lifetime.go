package longhaul

import (
	"fmt"
	"time"
)

const (
	day = 24 * time.Hour

	defaultTTL    = day
	defaultMinTTL = time.Second
	defaultMaxTTL = 30 * day
	defaultGrace  = 5 * time.Minute
	defaultSweep  = 5 * time.Minute
)

// withLifetimes fills in the lifetimes that were not chosen and checks those
// that were.
func (o Options) withLifetimes() (Options, error) {
	if o.MaxTTL == 0 {
		o.MaxTTL = defaultMaxTTL
	}
	if o.TTL == 0 {
		o.TTL = min(defaultTTL, o.MaxTTL)
	}
	if o.MinTTL == 0 {
		o.MinTTL = min(defaultMinTTL, o.TTL)
	}
	if o.Grace == 0 {
		o.Grace = defaultGrace
	}
	if o.SweepInterval == 0 {
		o.SweepInterval = defaultSweep
	}
	switch {
	case o.SweepInterval < time.Second:
		return o, fmt.Errorf("--sweep-interval is %s, and is at least a second", o.SweepInterval)
	case o.MinTTL < time.Millisecond || o.Grace < time.Millisecond:
		return o, fmt.Errorf("a time to live and the grace are at least a millisecond; --ttl-min is %s and --grace %s", o.MinTTL, o.Grace)
	case o.TTL > o.MaxTTL:
		return o, fmt.Errorf("tasks that do not ask for a time to live would get %s, and at most %s is allowed: lower --ttl or raise --ttl-max", o.TTL, o.MaxTTL)
	case o.TTL < o.MinTTL:
		return o, fmt.Errorf("tasks that do not ask for a time to live would get %s, and at least %s is wanted: raise --ttl or lower --ttl-min", o.TTL, o.MinTTL)
	}
	return o, nil
}

// retention is how long Temporal has to keep an ended workflow for a task to
// be readable all its life, in whole days. Retention counts from the end,
// which may come right after the creation, and a task's life from that.
func (o Options) retention() time.Duration {
	return (o.MaxTTL + o.Grace + day - 1).Truncate(day)
}

// withinRetention is withLifetimes in a namespace that keeps ended workflows
// for so long. A longest time to live that nobody chose becomes what fits, with
// a warning that says so; one that was chosen and does not fit is an error.
func (o Options) withinRetention(namespace string, kept time.Duration) (_ Options, warning string, _ error) {
	wanted, err := o.withLifetimes()
	if err != nil || wanted.MaxTTL+wanted.Grace <= kept {
		return wanted, "", err
	}
	raise := fmt.Sprintf("`temporal operator namespace update --namespace %s --retention %dd`", namespace, wanted.retention()/day)
	short := fmt.Errorf("Temporal deletes ended tasks of namespace %q after %s, and the longest time to live is %s and its grace %s: lower --ttl-max, or run %s",
		namespace, kept, wanted.MaxTTL, wanted.Grace, raise)
	if o.MaxTTL != 0 {
		return o, "", short
	}
	o.MaxTTL = kept - wanted.Grace
	if o.MaxTTL < max(o.TTL, o.MinTTL, time.Millisecond) {
		return o, "", short
	}
	warning = fmt.Sprintf("tasks live for %s at most, because Temporal deletes ended ones of namespace %q after %s; to allow %s run %s, or choose --ttl-max",
		o.MaxTTL, namespace, kept, wanted.MaxTTL, raise)
	o, err = o.withLifetimes()
	return o, warning, err
}

// fitRetention is withinRetention in the process's own namespace.
func (p *Process) fitRetention(o Options) (Options, error) {
	o, warning, err := o.withinRetention(p.namespace.name, p.namespace.retention)
	if warning != "" {
		p.logger.Warn(warning)
	}
	return o, err
}
