package api

import (
	"net/http"
	"time"
)

// keepAlive is how often an idle stream carries a comment, so that nothing
// between server and client takes it for dead.
const keepAlive = 15 * time.Second

// writeTimeout bounds one write to a client that does not read.
const writeTimeout = 30 * time.Second

// stream is a response of server-sent events, each one JSON-RPC message. It is
// used by one goroutine.
type stream struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

// newStream sends the header of a stream of events.
func newStream(w http.ResponseWriter) (*stream, error) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no") // 2026-07-28, streamable-http, "Receiving Messages"
	w.WriteHeader(http.StatusOK)
	s := &stream{w: w, rc: http.NewResponseController(w)}
	return s, s.rc.Flush()
}

// send writes one message.
func (s *stream) send(v any) error {
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
func (s *stream) idle() error { return s.write([]byte(": keep-alive\n\n")) }

func (s *stream) write(b []byte) error {
	// Not every writer has deadlines; then a stuck client is left to the
	// network. The deadline is the connection's, so it must not outlive the write.
	_ = s.rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	defer func() { _ = s.rc.SetWriteDeadline(time.Time{}) }()
	if _, err := s.w.Write(b); err != nil {
		return err
	}
	return s.rc.Flush()
}
