package upstream

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestPoolExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var discarded []*session
		p := newPool(3, 3)
		p.expire(10*time.Second, func(s *session) bool {
			discarded = append(discarded, s)
			return true
		})
		put := func() *session {
			s := &session{}
			p.slots <- struct{}{}
			p.busy++
			if !p.put(s) {
				t.Fatal("it was not kept")
			}
			return s
		}
		want := func(sessions ...*session) {
			t.Helper()
			synctest.Wait()
			p.mu.Lock() // under which they are discarded
			defer p.mu.Unlock()
			if len(discarded) != len(sessions) {
				t.Fatalf("%d sessions are discarded, not %d", len(discarded), len(sessions))
			}
			for i, s := range sessions {
				if discarded[i] != s {
					t.Errorf("the %d. that was discarded is another one", i+1)
				}
			}
		}
		first := put()
		time.Sleep(6 * time.Second)
		second, third := put(), put()
		time.Sleep(3 * time.Second)
		want()
		time.Sleep(2 * time.Second)
		want(first)
		time.Sleep(6 * time.Second)
		want(first, second, third)
		if p.expiry != nil {
			t.Error("it goes on looking although nothing is idle")
		}
		put()
		if left := p.drain(); len(left) != 1 {
			t.Errorf("%d sessions are left", len(left))
		}
		time.Sleep(time.Minute)
		want(first, second, third)
	})
}
