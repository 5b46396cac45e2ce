package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/longhaul-mcp/longhaul/task"
)

var (
	searchStatus    = temporal.NewSearchAttributeKeyKeyword(task.SearchStatus)
	searchTool      = temporal.NewSearchAttributeKeyKeyword(task.SearchTool)
	searchCall      = temporal.NewSearchAttributeKeyKeyword(task.SearchCall)
	searchOwner     = temporal.NewSearchAttributeKeyKeyword(task.SearchOwner)
	searchExpiresAt = temporal.NewSearchAttributeKeyTime(task.SearchExpiresAt)
)

// SearchAttributes are the search attributes a namespace needs for tasks to be
// started in it.
func SearchAttributes() map[string]enumspb.IndexedValueType {
	attributes := make(map[string]enumspb.IndexedValueType)
	for _, key := range []temporal.SearchAttributeKey{searchStatus, searchTool, searchCall, searchOwner, searchExpiresAt} {
		attributes[key.GetName()] = key.GetValueType()
	}
	return attributes
}

// EnsureSearchAttributes registers those of [SearchAttributes] that the
// namespace lacks and waits, until ctx ends, for them to be usable. If that is
// not permitted, the error says what an administrator has to run.
func EnsureSearchAttributes(ctx context.Context, c client.Client, namespace string) error {
	listCtx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	existing, err := c.OperatorService().ListSearchAttributes(listCtx, &operatorservice.ListSearchAttributesRequest{
		Namespace: namespace,
	})
	if err != nil {
		return fmt.Errorf("engine: cannot list the search attributes of namespace %q; it needs %s: %w",
			namespace, commands(namespace, SearchAttributes()), err)
	}
	missing := SearchAttributes()
	for name, want := range SearchAttributes() {
		got, ok := existing.GetCustomAttributes()[name]
		if !ok {
			continue
		}
		if got != want {
			return fmt.Errorf("engine: search attribute %s of namespace %q is a %s, and has to be a %s", name, namespace, got, want)
		}
		delete(missing, name)
	}
	if len(missing) == 0 {
		return nil
	}
	addCtx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	_, err = c.OperatorService().AddSearchAttributes(addCtx, &operatorservice.AddSearchAttributesRequest{
		Namespace:        namespace,
		SearchAttributes: missing,
	})
	var exists *serviceerror.AlreadyExists // another process was faster
	if err != nil && !errors.As(err, &exists) {
		return fmt.Errorf("engine: cannot add search attributes to namespace %q; run %s: %w",
			namespace, commands(namespace, missing), err)
	}
	return awaitSearchAttributes(ctx, c, namespace)
}

// awaitSearchAttributes waits until Temporal's frontend, which caches them,
// knows the search attributes.
func awaitSearchAttributes(ctx context.Context, c client.Client, namespace string) error {
	var conditions []string
	for name := range SearchAttributes() {
		conditions = append(conditions, name+" IS NULL")
	}
	query := strings.Join(conditions, " AND ")
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := c.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{Namespace: namespace, Query: query})
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("engine: the new search attributes of namespace %q are not usable yet: %w", namespace, err)
		case <-tick.C:
		}
	}
}

// commands is how the attributes are added with Temporal's command line.
func commands(namespace string, attributes map[string]enumspb.IndexedValueType) string {
	var b strings.Builder
	fmt.Fprintf(&b, "`temporal operator search-attribute create --namespace %s", namespace)
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		fmt.Fprintf(&b, " --name %s --type %s", name, attributes[name])
	}
	b.WriteString("`")
	return b.String()
}
