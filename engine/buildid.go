package engine

import (
	"context"
	"errors"
	"strings"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/longhaul-mcp/longhaul/task"
)

// searchBuildIDs is where Temporal keeps the build IDs of the workers that had a
// workflow in hand.
var searchBuildIDs = temporal.NewSearchAttributeKeyKeywordList("BuildIds")

// start starts a workflow, with the build ID of the worker that will take it
// for as long as Temporal permits that. Its server does today, and means not to
// one day; then the first start is made twice, and the others as if there were
// no build ID.
func (e *Engine) start(ctx context.Context, o client.StartWorkflowOptions, workflowType string, in task.StartInput) error {
	if e.o.BuildID != "" && !e.buildIDsRefused.Load() {
		foretold := o
		foretold.TypedSearchAttributes = temporal.NewSearchAttributes(
			o.TypedSearchAttributes.Copy(),
			// What Temporal makes of a worker without versioning.
			searchBuildIDs.ValueSet([]string{"unversioned", "unversioned:" + e.o.BuildID}),
		)
		_, err := e.client.ExecuteWorkflow(ctx, foretold, workflowType, in)
		var invalid *serviceerror.InvalidArgument
		if !errors.As(err, &invalid) || !strings.Contains(invalid.Message, searchBuildIDs.GetName()) {
			return err
		}
		e.buildIDsRefused.Store(true)
		e.o.Logger.Info("Temporal does not let workflows start with a build ID; tasks cost it one more row of visibility each", "error", err)
	}
	_, err := e.client.ExecuteWorkflow(ctx, o, workflowType, in)
	return err
}
