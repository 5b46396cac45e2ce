package workflowtool_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/longhaul-mcp/longhaul"
	"github.com/longhaul-mcp/longhaul/internal/programtest"
	"github.com/longhaul-mcp/longhaul/internal/taskclient"
	"github.com/longhaul-mcp/longhaul/internal/temporaltest"
	"github.com/longhaul-mcp/longhaul/workflows"
	"github.com/longhaul-mcp/longhaul/workflowtool"
)

// releaseEnv says which release of the program a process is.
const releaseEnv = "WORKFLOWTOOL_TEST_RELEASE"

// The releases of a tool that got a step.
const (
	releaseOld = "old"
	releaseNew = "new"
)

func TestMain(m *testing.M) { os.Exit(programtest.Main(m, program)) }

func program() {
	os.Exit(longhaul.Run(longhaul.Options{
		Name:          "rollout",
		WorkflowTools: []workflowtool.Tool{releases[cmp.Or(os.Getenv(releaseEnv), releaseOld)].tool()},
		RegisterSteps: func(r worker.Registry) {
			r.RegisterActivityWithOptions(func(context.Context) error { return nil }, activity.RegisterOptions{Name: "audit"})
			r.RegisterActivityWithOptions(func(context.Context) error { return nil }, activity.RegisterOptions{Name: "send"})
		},
	}))
}

type mailed struct {
	Steps []string `json:"steps"`
}

// mail is the code of the tool: it asks, audits, asks again, and sends.
type mail struct {
	audits  func(workflow.Context) bool // default: it does not
	sure    string                      // the second question; default "Sure?"
	send    string                      // the step that sends; default "send"
	timeout time.Duration               // of the steps; default a minute
	asks    int                         // how often it asks; default 2
}

// auditFrom is a change by the book, for tasks that have a version of at least
// oldest.
func auditFrom(oldest workflow.Version) func(workflow.Context) bool {
	return func(ctx workflow.Context) bool { return workflow.GetVersion(ctx, "audit", oldest, 1) >= 1 }
}

var releases = map[string]mail{
	releaseOld: {},
	releaseNew: {audits: auditFrom(workflow.DefaultVersion)},
}

func (m mail) tool() workflowtool.Tool {
	return workflowtool.New(&mcp.Tool{Name: "mail"}, func(ctx workflow.Context, _ struct{}) (mailed, error) {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: cmp.Or(m.timeout, time.Minute)})
		var out mailed
		step := func(name string) error {
			out.Steps = append(out.Steps, name)
			return workflow.ExecuteActivity(ctx, name).Get(ctx, nil)
		}
		if _, err := workflowtool.Elicit[struct{}](ctx, "Send it?"); err != nil {
			return out, err
		}
		if m.audits != nil && m.audits(ctx) {
			if err := step("audit"); err != nil {
				return out, err
			}
		}
		if cmp.Or(m.asks, 2) == 2 {
			if _, err := workflowtool.Elicit[struct{}](ctx, cmp.Or(m.sure, "Sure?")); err != nil {
				return out, err
			}
		}
		return out, step(cmp.Or(m.send, "send"))
	})
}

// rollout is an api and the workers of a deploy.
type rollout struct {
	t        *testing.T
	temporal client.Client
	client   *taskclient.Client
	answers  []string // the questions that are answered
}

// errUnanswered leaves a question open.
var errUnanswered = errors.New("nobody answers this now")

func startRollout(t *testing.T) *rollout {
	t.Helper()
	server, err := temporaltest.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	t.Setenv("TEMPORAL_ADDRESS", server.Addr)
	r := &rollout{t: t, temporal: temporaltest.Dial(t, server.Addr)}
	api := programtest.Start(t, "api", "--listen", "127.0.0.1:0", "--data-dir", t.TempDir())
	r.client, err = taskclient.ConnectAnswering(t.Context(), api.URL(t, "MCP endpoint"), map[string]taskclient.Answer{
		"elicitation/create": func(_ context.Context, params json.RawMessage) (any, error) {
			var asked struct{ Message string }
			if err := json.Unmarshal(params, &asked); err != nil {
				return nil, err
			}
			if !slices.Contains(r.answers, asked.Message) {
				return nil, errUnanswered
			}
			return map[string]any{"action": "accept", "content": map[string]any{}}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// worker starts a worker of a release. The func stops it, as a deploy does.
func (r *rollout) worker(release string) (stop func()) {
	r.t.Helper()
	r.t.Setenv(releaseEnv, release)
	p := programtest.Start(r.t, "worker")
	return func() {
		r.t.Helper()
		if err := errors.Join(p.Process.Signal(syscall.SIGTERM), p.Wait()); err != nil {
			r.t.Errorf("the %s worker: %v", release, err)
		}
	}
}

// begin begins a task, which asks when begin returns.
func (r *rollout) begin() (id string) {
	r.t.Helper()
	id, err := r.client.Create(r.t.Context(), "mail", map[string]any{})
	if err != nil {
		r.t.Fatal(err)
	}
	r.until(func() bool {
		s, err := r.client.Get(r.t.Context(), id)
		if err != nil {
			r.t.Fatal(err)
		}
		return s.Status == "input_required"
	})
	return id
}

// answer answers one question of a task, which then asks the next.
func (r *rollout) answer(id, question string) {
	r.t.Helper()
	r.answers = []string{question}
	if err := r.client.Result(r.t.Context(), id, nil); !errors.Is(err, errUnanswered) {
		r.t.Fatalf("task %s, asked %q: %v", id, question, err)
	}
}

// finish answers all that a task asks, and returns the steps it took.
func (r *rollout) finish(id string) string {
	r.t.Helper()
	r.answers = []string{"Send it?", "Sure?"}
	var got struct{ StructuredContent mailed }
	if err := r.client.Result(r.t.Context(), id, &got); err != nil {
		r.t.Fatal(err)
	}
	return strings.Join(got.StructuredContent.Steps, ", ")
}

func (r *rollout) want(id, steps string) {
	r.t.Helper()
	if got := r.finish(id); got != steps {
		r.t.Errorf("task %s took the steps %s, want %s", id, got, steps)
	}
	if failures := r.failures(id); len(failures) > 0 {
		r.t.Errorf("task %s has failed workflow tasks: %v", id, failures)
	}
}

func (r *rollout) history(id string) *historypb.History {
	r.t.Helper()
	h := &historypb.History{}
	for events := r.temporal.GetWorkflowHistory(r.t.Context(), id, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); events.HasNext(); {
		e, err := events.Next()
		if err != nil {
			r.t.Fatal(err)
		}
		h.Events = append(h.Events, e)
	}
	return h
}

// failures are those of the workflow tasks of a task: what code has met that
// does not fit its history.
func (r *rollout) failures(id string) (all []string) {
	r.t.Helper()
	for _, e := range r.history(id).GetEvents() {
		if f := e.GetWorkflowTaskFailedEventAttributes(); f != nil {
			all = append(all, fmt.Sprintf("%s: %s", f.GetCause(), f.GetFailure().GetMessage()))
		}
	}
	return all
}

func (r *rollout) until(is func() bool) {
	r.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	tooLong := time.NewTimer(time.Minute)
	defer tooLong.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-tooLong.C:
			r.t.Fatal("waited too long")
		}
	}
}

func replay(h *historypb.History, tools ...workflowtool.Tool) error {
	functions := make(map[string]workflows.Function)
	for _, tool := range tools {
		functions[tool.Name()] = tool.Function()
	}
	r := worker.NewWorkflowReplayer()
	workflows.Register(r, functions)
	return r.ReplayWorkflowHistory(log.NewStructuredLogger(slog.New(slog.DiscardHandler)), h)
}

// TestRollout changes a workflow tool while its tasks run, with processes of
// the old and of the new release on one task queue. docs/workflow-tools.md says
// what it shows.
func TestRollout(t *testing.T) {
	t.Run("tasks pass from old workers to new ones, and back while they have not met the change", func(t *testing.T) {
		r := startRollout(t)
		stopOld := r.worker(releaseOld)
		begun := []string{r.begin(), r.begin()}
		var asked []string
		for range 3 {
			id := r.begin()
			r.answer(id, "Send it?")
			asked = append(asked, id)
		}
		stopNew := r.worker(releaseNew)
		// Both are there, and either may get it.
		r.want(asked[0], "send")
		stopOld()
		// The past of a task decides, and the new release where it has none.
		r.want(asked[1], "send")
		r.want(begun[0], "audit, send")
		stopOld = r.worker(releaseOld)
		stopNew()
		r.want(asked[2], "send")
		r.want(begun[1], "send")
		stopOld()
	})

	t.Run("a task that a new worker has changed waits for one, whatever old ones make of it", func(t *testing.T) {
		r := startRollout(t)
		stopNew := r.worker(releaseNew)
		id := r.begin()
		r.answer(id, "Send it?")
		r.until(func() bool { // It asks again.
			s, err := r.client.Get(t.Context(), id)
			return err == nil && s.Status == "input_required"
		})
		given := r.begin()
		r.answer(given, "Send it?")
		stopNew()
		stopOld := r.worker(releaseOld)
		finished := make(chan string, 1)
		go func() { finished <- r.finish(id) }()
		r.until(func() bool { return len(r.failures(id)) > 0 })
		if got := r.failures(id)[0]; !strings.Contains(got, "NonDeterministicError") || !strings.Contains(got, "TMPRL1100") {
			t.Errorf("the workflow task failed with %s", got)
		}
		if s, err := r.client.Cancel(t.Context(), given); err != nil || s.Status != "cancelled" {
			t.Errorf("another one, cancelled, is %+v, error %v", s, err)
		}
		r.worker(releaseNew)
		stopOld()
		if got := <-finished; got != "audit, send" {
			t.Errorf("the task took the steps %s", got)
		}
	})

	t.Run("a replay tells beforehand what becomes of running tasks", func(t *testing.T) {
		r := startRollout(t)
		histories := make(map[string]*historypb.History)
		for _, release := range []string{releaseOld, releaseNew} {
			stop := r.worker(release)
			id := r.begin()
			r.finish(id)
			histories[release] = r.history(id)
			stop()
		}
		always := func(workflow.Context) bool { return true }
		for _, c := range []struct {
			name    string
			history string
			code    mail
			fits    bool
		}{
			{"a step more, with GetVersion", releaseOld, releases[releaseNew], true},
			{"a step more, without", releaseOld, mail{audits: always}, false},
			{"a question less", releaseOld, mail{asks: 1}, false},
			{"another step", releaseOld, mail{send: "post"}, false},
			{"a question in other words", releaseOld, mail{sure: "Really?"}, true},
			{"another timeout", releaseOld, mail{timeout: time.Hour}, true},
			{"the change taken back", releaseNew, mail{}, false},
			{"the old way removed, for a task that went the new one", releaseNew, mail{audits: auditFrom(1)}, true},
			{"the old way removed, for a task that went it", releaseOld, mail{audits: auditFrom(1)}, false},
			{"the call removed", releaseNew, mail{audits: always}, true},
		} {
			if err := replay(histories[c.history], c.code.tool()); (err == nil) != c.fits {
				t.Errorf("%s: %v", c.name, err)
			}
		}
		if err := replay(histories[releaseOld]); err == nil || !strings.Contains(err.Error(), "no workflow function mail") {
			t.Errorf("a worker without the tool: %v", err)
		}
	})
}
