package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.temporal.io/sdk/temporal"
)

// steps are the activities of a release. Each of them may be run again after
// it was interrupted, and then does nothing twice.
type steps struct {
	dir string // with a file for each region, which holds its version
}

// Plan looks at what the regions have now.
func (s *steps) Plan(_ context.Context, in releaseInput) (plan, error) {
	var p plan
	for _, region := range in.Regions {
		if !filepath.IsLocal(region) || strings.ContainsAny(region, `/\`) {
			return plan{}, temporal.NewNonRetryableApplicationError(fmt.Sprintf("there is no region %q", region), "region", nil)
		}
		from, err := os.ReadFile(s.file(region))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return plan{}, err
		}
		p.Changes = append(p.Changes, change{Region: region, From: string(from), To: in.Version})
	}
	return p, nil
}

// Check looks whether there is anything to release.
func (s *steps) Check(_ context.Context, p plan) error {
	for _, c := range p.Changes {
		if c.From != c.To {
			return nil
		}
	}
	return temporal.NewNonRetryableApplicationError("every region has that version already", "check", nil)
}

// Deploy brings a region to its new version.
func (s *steps) Deploy(_ context.Context, c change) error {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(s.file(c.Region), []byte(c.To), 0o644)
}

// Restore brings a region back to the version it had.
func (s *steps) Restore(_ context.Context, c change) error {
	if c.From != "" {
		return os.WriteFile(s.file(c.Region), []byte(c.From), 0o644)
	}
	if err := os.Remove(s.file(c.Region)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (s *steps) file(name string) string { return filepath.Join(s.dir, name) }
