package api

import (
	"net/http/httptest"
	"testing"
)

// What is queued goes out together with what follows it.
func TestStreamQueues(t *testing.T) {
	w := httptest.NewRecorder()
	s := newStream(w)
	if err := s.queue(1); err != nil {
		t.Fatal(err)
	}
	if w.Flushed {
		t.Error("what is queued is sent at once")
	}
	if err := s.send(2); err != nil {
		t.Fatal(err)
	}
	const want = "event: message\ndata: 1\n\nevent: message\ndata: 2\n\n"
	if got := w.Body.String(); !w.Flushed || got != want {
		t.Errorf("sent %q, flushed %t; want %q", got, w.Flushed, want)
	}
}
