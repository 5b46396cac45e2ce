package workflows

import (
	"fmt"
	"strings"
	"time"

	"github.com/longhaul-mcp/longhaul/task"
)

// details is the state in markdown, for Temporal's Web UI.
func details(c task.Card, s task.State) string {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s** is %s", c.Tool, strings.ReplaceAll(string(s.Status), "_", " "))
	if len(s.Inputs) > 0 {
		fmt.Fprintf(&b, ", since %s:", s.UpdatedAt.Format(time.RFC3339))
		for _, in := range s.Inputs {
			fmt.Fprintf(&b, "\n\n- %s (`%s`, under the key `%s`)", inlineText(in.Text()), in.Method, in.Key)
		}
		return b.String()
	}
	if p := s.Progress; p != nil {
		fmt.Fprintf(&b, ": %v", p.Progress)
		if p.Total > 0 {
			fmt.Fprintf(&b, " of %v", p.Total)
		}
		if p.Message != "" {
			fmt.Fprintf(&b, ", %s", inlineText(p.Message))
		}
	}
	if s.Message != "" {
		fmt.Fprintf(&b, "\n\n%s", s.Message)
	}
	return b.String()
}

// inlineText keeps a text that others wrote from becoming markup of its own.
func inlineText(s string) string {
	return strings.NewReplacer("\n", " ", "*", "\\*", "_", "\\_", "`", "'", "[", "\\[", "<", "&lt;").Replace(s)
}
