package longhaul

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/longhaul-mcp/longhaul/claims"
	"github.com/longhaul-mcp/longhaul/claims/s3claims"
)

// openClaims opens where arguments and results are kept that are too large for
// Temporal. It is nil if there is no place for them.
//
// What is kept belongs to tasks of one Temporal namespace, and is under its ID:
// deployments that share a bucket do not take each other's for orphans.
func openClaims(ctx context.Context, o Options, n namespace) (claims.Store, error) {
	dir := o.ClaimsDir
	switch {
	case o.ClaimsS3 != "" && dir != "":
		return nil, errors.New("large arguments and results are kept in a directory or in a bucket, not in both")
	case o.ClaimsS3 == "" && dir == "" && o.DataDir == "":
		return nil, nil
	case dir == "":
		dir = filepath.Join(o.DataDir, "claims")
	}
	if o.ClaimsS3 != "" {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		return s3claims.Open(ctx, o.ClaimsS3, n.id)
	}
	return claims.OpenDir(filepath.Join(dir, n.id))
}
