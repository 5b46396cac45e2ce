package engine_test

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/grpc"

	"github.com/longhaul-mcp/longhaul/engine"
	"github.com/longhaul-mcp/longhaul/task"
)

// What Temporal notes of a task's worker is there from the start, so that it has
// nothing to write into its visibility when the worker comes.
func TestBuildID(t *testing.T) {
	f := setup(t, func(o *engine.Options) { o.BuildID = workerBuildID })
	ref := f.create()
	started := buildIDs(t, f.client, ref)

	f.work(func(context.Context, task.RoundInput) (task.RoundResult, error) { return done("ok"), nil })
	f.await(ref, terminal)
	if ended := buildIDs(t, f.client, ref); !slices.Equal(started, ended) || len(ended) != 2 {
		t.Errorf("%q at first, %q in the end", started, ended)
	}
}

func TestBuildIDIsRefused(t *testing.T) {
	for name, refusal := range map[string]string{
		"because no user may set it":     "BuildIds attribute can't be set in SearchAttributes",
		"by a Temporal that has it not":  "search attribute BuildIds is not defined",
		"with others in the same breath": "Namespace tests has no mapping defined for search attribute BuildIds",
	} {
		t.Run(name, func(t *testing.T) {
			var starts, refused atomic.Int64
			f := setup(t)
			c := dial(t, temporalAddr, func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
				if r, ok := req.(*workflowservice.StartWorkflowExecutionRequest); ok {
					starts.Add(1)
					if _, ok := r.GetSearchAttributes().GetIndexedFields()["BuildIds"]; ok {
						refused.Add(1)
						return serviceerror.ToStatus(serviceerror.NewInvalidArgument(refusal)).Err()
					}
				}
				return invoke(ctx, method, req, reply, cc, o...)
			})
			e, err := engine.New(engine.Options{Client: c, TaskQueue: f.queue, Key: key, BuildID: workerBuildID})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(e.Close)
			for range 2 {
				created, err := e.Create(t.Context(), request())
				if err != nil {
					t.Fatal(err)
				}
				f.get(task.Ref{ID: created.ID, Owner: owner})
			}
			if starts.Load() != 3 || refused.Load() != 1 {
				t.Errorf("%d of %d starts had a build ID; want the first of 3", refused.Load(), starts.Load())
			}
		})
	}

	t.Run("other refusals are told", func(t *testing.T) {
		f := setup(t, func(o *engine.Options) { o.BuildID, o.TaskQueue = workerBuildID, strings.Repeat("q", 2000) })
		if _, err := f.Create(t.Context(), request()); err == nil {
			t.Error("created on a task queue Temporal does not permit")
		}
	})
}

func buildIDs(t *testing.T, c client.Client, ref task.Ref) []string {
	t.Helper()
	w, err := c.DescribeWorkflow(t.Context(), ref.ID, "")
	if err != nil {
		t.Fatal(err)
	}
	ids, _ := w.TypedSearchAttributes.GetKeywordList(temporal.NewSearchAttributeKeyKeywordList("BuildIds"))
	return ids
}
