package api

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/longhaul-mcp/longhaul/internal/taskmodel"
	"github.com/longhaul-mcp/longhaul/task"
)

// asking is a task that waits for one answer, of which nobody can tell for some time.
type asking struct {
	task.Service
	task task.Task
	away int // so many reads fail
}

func (s *asking) Watch(ctx context.Context, _ task.Ref, _ task.WatchOptions) iter.Seq2[*task.Task, error] {
	return func(yield func(*task.Task, error) bool) {
		if yield(&s.task, nil) {
			<-ctx.Done()
		}
	}
}

func (s *asking) Get(context.Context, task.Ref) (*task.Task, error) {
	if s.away > 0 {
		s.away--
		return nil, task.ErrUnavailable
	}
	return &s.task, nil
}

// flushes calls first when what was written first is sent.
type flushes struct {
	*httptest.ResponseRecorder
	first func()
}

func (f *flushes) Flush() {
	f.ResponseRecorder.Flush()
	f.first()
	f.first = func() {}
}

// A request that another stream gives up is sent on this one, be it in the moment
// in which this one has seen that it is taken, and be Temporal away just then.
func TestTakeOver(t *testing.T) {
	for name, c := range map[string]struct {
		away  int
		until time.Duration
	}{
		"at once":               {0, time.Second},
		"when Temporal is back": {2, 4 * keepAlive},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in := taskmodel.Form.Request("form")
				service := &asking{away: c.away, task: task.Task{
					ID: "asks", Rev: 2, Status: task.StatusInputRequired, Inputs: []task.InputRequest{in},
				}}
				a, err := New(Options{Tasks: service, Catalogue: noTools{}, Key: make([]byte, 32)})
				if err != nil {
					t.Fatal(err)
				}
				other := asker{api: a, ref: task.Ref{ID: service.task.ID}}
				if !other.claim(in.Key) {
					t.Fatal("the request is on a stream already")
				}
				w := &flushes{httptest.NewRecorder(), other.release}
				x := &exchange{
					msg: &message{id: json.RawMessage("1")}, w: w, r: httptest.NewRequest(http.MethodPost, "/", nil),
					version: version20251125,
					session: &session{ID: "s", Version: version20251125, Capabilities: json.RawMessage(`{"elicitation":{}}`)},
				}

				ctx, cancel := context.WithTimeout(t.Context(), c.until)
				defer cancel()
				if _, err := a.attend(ctx, x, other.ref, nil); err == nil {
					t.Error("the task has ended")
				}
				if sent := w.Body.String(); strings.Count(sent, in.Method) != 1 {
					t.Errorf("want one %s in\n%s", in.Method, sent)
				}
			})
		})
	}
}

// noTools is a catalogue in which nothing is looked up.
type noTools struct{ Catalogue }
