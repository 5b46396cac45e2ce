package api

import (
	"net/http"
	"slices"
	"time"
)

// keepAlive is how often an idle stream carries a comment, so that nothing
// between server and client takes it for dead.
const keepAlive = 15 * time.Second

// writeTimeout bounds one write to a client that does not read, of writePart bytes
// at most: who reads slowly is not cut off for what is long.
const (
	writeTimeout = 30 * time.Second
	writePart    = 64 << 10
)

// stream is a response of server-sent events, each one JSON-RPC message. It is
// used by one goroutine.
type stream struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

// newStream begins a stream of events. Its header goes out with the first message,
// or by flush.
func newStream(w http.ResponseWriter) *stream {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no") // 2026-07-28, streamable-http, "Receiving Messages"
	w.WriteHeader(http.StatusOK)
	return &stream{w: w, rc: http.NewResponseController(w)}
}

// send writes one message.
func (s *stream) send(v any) error {
	if err := s.queue(v); err != nil {
		return err
	}
	return s.flush()
}

// queue writes one message that goes out together with the next one, or by flush.
func (s *stream) queue(v any) error {
	body, err := encode(v)
	if err != nil {
		return err
	}
	event := make([]byte, 0, len(body)+32)
	event = append(event, "event: message\ndata: "...)
	event = append(event, body...)
	event = append(event, "\n\n"...)
	//failpoint:event-unsent
	return s.write(event)
}

// idle writes a comment.
func (s *stream) idle() error {
	if err := s.write([]byte(": keep-alive\n\n")); err != nil {
		return err
	}
	return s.flush()
}

func (s *stream) write(b []byte) error {
	defer s.limit()()
	return writeParts(s.w, s.rc, b)
}

// writeParts writes b to a client that goes on reading. The deadline of the last
// part stays.
func writeParts(w http.ResponseWriter, rc *http.ResponseController, b []byte) error {
	for part := range slices.Chunk(b, writePart) {
		_ = rc.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	return nil
}

func (s *stream) flush() error {
	defer s.limit()()
	return s.rc.Flush()
}

// limit bounds the time of a write, until done is called. Not every writer has
// deadlines; then a stuck client is left to the network. The deadline is the
// connection's, so it must not outlive the write.
func (s *stream) limit() (done func()) {
	_ = s.rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	return func() { _ = s.rc.SetWriteDeadline(time.Time{}) }
}
