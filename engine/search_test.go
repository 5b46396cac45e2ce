package engine_test

import (
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/longhaul-mcp/longhaul/engine"
	"github.com/longhaul-mcp/longhaul/task"
)

// newNamespace registers a namespace that has no search attributes of ours.
func newNamespace(t *testing.T, name string) client.Client {
	t.Helper()
	admin := setup(t)
	_, err := admin.client.WorkflowService().RegisterNamespace(t.Context(), &workflowservice.RegisterNamespaceRequest{
		Namespace:                        name,
		WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.NewLazyClient(client.Options{HostPort: temporalAddr, Namespace: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	eventually(t, "the namespace is known", func() bool {
		_, err := c.OperatorService().ListSearchAttributes(t.Context(), &operatorservice.ListSearchAttributesRequest{Namespace: name})
		return err == nil
	})
	return c
}

func TestEnsureSearchAttributes(t *testing.T) {
	t.Run("registers what is missing, and tasks can be created at once", func(t *testing.T) {
		const namespace = "search-missing"
		c := newNamespace(t, namespace)
		for range 2 { // the second time there is nothing to do
			if err := engine.EnsureSearchAttributes(t.Context(), c, namespace); err != nil {
				t.Fatal(err)
			}
		}
		f := setup(t, func(o *engine.Options) { o.Client, o.Namespace = c, namespace })
		ref := f.create()
		page, err := f.List(t.Context(), task.ListRequest{Owner: owner})
		if err != nil {
			t.Fatal(err)
		}
		if find(page.Tasks, ref.ID) == nil {
			t.Error("the task is not listed")
		}
	})

	t.Run("refuses one of another type", func(t *testing.T) {
		const namespace = "search-mistyped"
		c := newNamespace(t, namespace)
		_, err := c.OperatorService().AddSearchAttributes(t.Context(), &operatorservice.AddSearchAttributesRequest{
			Namespace:        namespace,
			SearchAttributes: map[string]enumspb.IndexedValueType{task.SearchOwner: enumspb.INDEXED_VALUE_TYPE_INT},
		})
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the type is refused", func() bool {
			return engine.EnsureSearchAttributes(t.Context(), c, namespace) != nil
		})
	})
}
