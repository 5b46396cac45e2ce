package longhaul

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/longhaul-mcp/longhaul/claims"
	"github.com/longhaul-mcp/longhaul/claims/s3claims"
)

// openClaims opens where arguments and results are kept that are too large for
// Temporal. It is nil if there is no place for them.
//
// What is kept belongs to tasks of one Temporal namespace, and is under its ID:
// deployments that share a bucket do not take each other's for orphans.
func (p *Process) openClaims(ctx context.Context, o Options, c client.Client) (claims.Store, error) {
	dir := o.ClaimsDir
	switch {
	case o.ClaimsS3 != "" && dir != "":
		return nil, errors.New("large arguments and results are kept in a directory or in a bucket, not in both")
	case o.ClaimsS3 == "" && dir == "" && o.DataDir == "":
		return nil, nil
	case dir == "":
		dir = filepath.Join(o.DataDir, "claims")
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	d, err := c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: p.namespace})
	if err != nil {
		return nil, fmt.Errorf("Temporal's namespace %s: %w", p.namespace, err)
	}
	id := d.GetNamespaceInfo().GetId()
	if id == "" {
		return nil, errors.New("Temporal's namespace has no ID")
	}
	if o.ClaimsS3 != "" {
		return s3claims.Open(ctx, o.ClaimsS3, id)
	}
	return claims.OpenDir(filepath.Join(dir, id))
}
