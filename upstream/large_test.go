package upstream_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/upstream"
)

// TestLarge sends and takes as much as can be stored, on connections of every
// kind.
func TestLarge(t *testing.T) {
	for name, server := range map[string]upstream.Server{
		"in process": upstream.InProcess("local", newServer()),
		"command":    command(t, "stdio", "sdk", nil),
		"http":       overHTTP(t, newServer(), true, nil),
	} {
		t.Run(name, func(t *testing.T) {
			s := oneServer(t, server)
			sized := func(size, more int) task.RoundResult {
				args := fmt.Sprintf(`{"more":%d,"fill":""}`, more)
				args = fmt.Sprintf(`{"more":%d,"fill":%q}`, more, strings.Repeat("x", size-len(args)))
				return call(t, s, upstream.Call{Tool: "sized", Arguments: json.RawMessage(args)})
			}
			// What a result has besides its text.
			frame := len(sized(100, 0).Result) - 100

			r := sized(task.MaxBytes, -frame)
			if len(r.Result) != task.MaxBytes || text(t, r) != strings.Repeat("x", task.MaxBytes-frame) {
				t.Errorf("the largest result came with %d bytes, error %.300v", len(r.Result), r.Error)
			}
			r = sized(task.MaxBytes, 1-frame)
			if want := "the tool's result has 52428801 bytes; at most 52428800 can be stored"; r.Error == nil || r.Error.Message != want {
				t.Errorf("a larger result came with %d bytes, error %.300v", len(r.Result), r.Error)
			}
			r = sized(100, task.MaxBytes+2<<20)
			if r.Error == nil || !strings.Contains(r.Error.Message, "a tool's result can have 52428800") {
				t.Errorf("a huge result came with %d bytes, error %.300v", len(r.Result), r.Error)
			}
			if r = sized(100, 0); r.Error != nil {
				t.Errorf("the next call got %v", r.Error)
			}
		})
	}
}
