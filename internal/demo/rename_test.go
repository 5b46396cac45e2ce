package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// photos are files to rename; IMG_1.jpg and IMG_2.jpg match photoCall.
var photos = map[string]string{
	"p/IMG_2.jpg":     "two",
	"p/IMG_1.jpg":     "one",
	"p/notes.txt":     "notes",
	"p/sub/IMG_3.jpg": "below",
}

func photoCall() *mcp.CallToolParams {
	return renameCall("p", `^IMG_(\d+)\.jpg$`, "photo-$1.jpg")
}

func renameCall(path, pattern, replacement string) *mcp.CallToolParams {
	return &mcp.CallToolParams{
		Meta: mcp.Meta{"progressToken": "p"},
		Name: "rename_files",
		Arguments: map[string]any{
			"path": path, "pattern": pattern, "replacement": replacement,
		},
	}
}

// ask makes the first call and returns the request it ends with.
func (h *harness) ask(t *testing.T, params *mcp.CallToolParams) (*mcp.ElicitParams, *mcp.CallToolResult) {
	t.Helper()
	res := h.call(t, params)
	if !res.NeedsInput() || len(res.InputRequests) != 1 {
		t.Fatalf("got %s, want one input request", text(res))
	}
	elicit, ok := res.InputRequests[confirmKey].(*mcp.ElicitParams)
	if !ok {
		t.Fatalf("input request is %#v", res.InputRequests)
	}
	return elicit, res
}

// answer is params with an answer to what asked wanted to know.
func answer(params *mcp.CallToolParams, asked *mcp.CallToolResult, action string, content map[string]any) *mcp.CallToolParams {
	params.InputResponses = mcp.InputResponseMap{confirmKey: &mcp.ElicitResult{Action: action, Content: content}}
	params.RequestState = asked.RequestState
	return params
}

func accept(params *mcp.CallToolParams, asked *mcp.CallToolResult) *mcp.CallToolParams {
	return answer(params, asked, "accept", map[string]any{confirmKey: true})
}

// contents reads all regular files below dir.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		files[filepath.ToSlash(rel)] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func wantFiles(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	if got := contents(t, dir); !maps.Equal(got, want) {
		t.Errorf("files are\n%v\nwant\n%v", got, want)
	}
}

var photosRenamed = map[string]string{
	"p/photo-2.jpg":   "two",
	"p/photo-1.jpg":   "one",
	"p/notes.txt":     "notes",
	"p/sub/IMG_3.jpg": "below",
}

func TestRenameFilesAsksFirst(t *testing.T) {
	h := setup(t)
	write(t, h.dir, photos)
	elicit, _ := h.ask(t, photoCall())
	want := "Rename these files in \"p\"?\n\n" +
		`"IMG_1.jpg" → "photo-1.jpg"` + "\n" +
		`"IMG_2.jpg" → "photo-2.jpg"`
	if elicit.Message != want {
		t.Errorf("message is %q, want %q", elicit.Message, want)
	}
	schema, err := json.Marshal(elicit.RequestedSchema)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(schema), `"required":["confirm"]`) || !strings.Contains(string(schema), `"boolean"`) {
		t.Errorf("schema is %s", schema)
	}
	wantFiles(t, h.dir, photos)
}

func TestRenameFilesDoesWhatWasConfirmed(t *testing.T) {
	h := setup(t)
	write(t, h.dir, photos)
	_, asked := h.ask(t, photoCall())
	got := structured[renameOutput](t, h.call(t, accept(photoCall(), asked)))
	want := renameOutput{Renamed: []rename{{"IMG_1.jpg", "photo-1.jpg"}, {"IMG_2.jpg", "photo-2.jpg"}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	wantFiles(t, h.dir, photosRenamed)
	progress := h.reported(t)
	growing(t, progress)
	if len(progress) != 2 || progress[1].Progress != 2 || progress[1].Total != 2 {
		t.Errorf("progress: %v", progress)
	}
}

func TestRenameFilesThroughClientsThatAnswerThemselves(t *testing.T) {
	for _, version := range []string{"2025-06-18", wire2025, wire2026} {
		t.Run(version, func(t *testing.T) {
			var asked []string
			h := setupClient(t, t.TempDir(), version, &mcp.ClientOptions{
				ElicitationHandler: func(_ context.Context, req *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
					asked = append(asked, req.Params.Message)
					return &mcp.ElicitResult{Action: "accept", Content: map[string]any{confirmKey: true}}, nil
				},
			})
			write(t, h.dir, photos)
			got := structured[renameOutput](t, h.call(t, photoCall()))
			if len(got.Renamed) != 2 || len(asked) != 1 {
				t.Errorf("got %+v after %d questions", got, len(asked))
			}
			wantFiles(t, h.dir, photosRenamed)
		})
	}
}

func TestRenameFilesChangesNothingUnlessConfirmed(t *testing.T) {
	for name, tt := range map[string]struct {
		action  string
		content map[string]any
	}{
		"declined":               {"decline", nil},
		"cancelled":              {"cancel", nil},
		"declined, but ticked":   {"decline", map[string]any{confirmKey: true}},
		"accepted, not ticked":   {"accept", map[string]any{confirmKey: false}},
		"accepted without value": {"accept", nil},
		"accepted as text":       {"accept", map[string]any{confirmKey: "true"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := setup(t)
			write(t, h.dir, photos)
			_, asked := h.ask(t, photoCall())
			got := structured[renameOutput](t, h.call(t, answer(photoCall(), asked, tt.action, tt.content)))
			if !got.Declined || len(got.Renamed) != 0 {
				t.Errorf("got %+v, want declined", got)
			}
			wantFiles(t, h.dir, photos)
		})
	}
}

// A missing answer is asked for again (MCP 2026-07-28, basic/patterns/mrtr,
// error handling).
func TestRenameFilesAsksAgainWithoutTheAnswer(t *testing.T) {
	h := setup(t)
	write(t, h.dir, photos)
	_, asked := h.ask(t, photoCall())
	params := accept(photoCall(), asked)
	params.InputResponses = mcp.InputResponseMap{"other": params.InputResponses[confirmKey]}
	h.ask(t, params)
	wantFiles(t, h.dir, photos)
}

// Nothing may be asked of a client that does not declare elicitation (MCP
// 2026-07-28, basic/patterns/mrtr).
func TestRenameFilesNeedsElicitation(t *testing.T) {
	for name, caps := range map[string]*mcp.ClientCapabilities{
		"none":     {},
		"url only": {Elicitation: &mcp.ElicitationCapabilities{URL: &mcp.URLElicitationCapabilities{}}},
	} {
		t.Run(name, func(t *testing.T) {
			h := setupClient(t, t.TempDir(), wire2026, &mcp.ClientOptions{Capabilities: caps})
			write(t, h.dir, photos)
			_, err := h.session.CallTool(t.Context(), photoCall())
			var rpcErr *jsonrpc.Error
			if !errors.As(err, &rpcErr) || rpcErr.Code != mcp.CodeMissingRequiredClientCapabilities {
				t.Fatalf("error = %v", err)
			}
			if string(rpcErr.Data) != `{"requiredCapabilities":{"elicitation":{}}}` {
				t.Errorf("data = %s", rpcErr.Data)
			}
		})
	}
}

func TestRenameFilesRefusesPlans(t *testing.T) {
	many := make(map[string]string)
	for i := range 1000 {
		many[fmt.Sprintf("a-file-with-a-longer-name-%04d.txt", i)] = ""
	}
	for name, tt := range map[string]struct {
		files                map[string]string
		pattern, replacement string
		want                 string
	}{
		"onto a file that exists":         {map[string]string{"a.txt": "a", "b.txt": "b"}, `^a`, "b", `"b.txt", which already exists`},
		"onto a file that moves away":     {map[string]string{"a": "a", "aa": "aa"}, `^`, "a", `"a" would become "aa", which already exists`},
		"onto a directory":                {map[string]string{"a": "a", "b/c": ""}, `^a$`, "b", "already exists"},
		"of two files to one name":        {map[string]string{"a1": "1", "a2": "2"}, `\d`, "", `"a1" and "a2" would both become "a"`},
		"into a directory below":          {map[string]string{"a.txt": "a", "sub/x": ""}, `^`, "sub/", "not a file name"},
		"into the directory above":        {map[string]string{"a.txt": "a"}, `^`, "../", "not a file name"},
		"to an absolute path":             {map[string]string{"a.txt": "a"}, `^`, "/etc/", "not a file name"},
		"to no name":                      {map[string]string{"a.txt": "a"}, `.*`, "", "not a file name"},
		"to the directory":                {map[string]string{"a.txt": "a"}, `.+`, ".", "not a file name"},
		"to the directory above":          {map[string]string{"a.txt": "a"}, `.+`, "..", "not a file name"},
		"to a name with a zero byte":      {map[string]string{"a.txt": "a"}, `^`, "\x00", "not a file name"},
		"to a name that is too long":      {map[string]string{"a.txt": "a"}, `^`, strings.Repeat("x", 251), "not a file name"},
		"that match nothing":              {map[string]string{"a.txt": "a"}, `b`, "c", "nothing to rename"},
		"that change nothing":             {map[string]string{"a.txt": "a"}, `a`, "a", "nothing to rename"},
		"with a pattern that is none":     {map[string]string{"a.txt": "a"}, `(`, "a", "pattern: error parsing regexp"},
		"that are too long to be checked": {many, `^`, "b", "too many to confirm"},
	} {
		t.Run(name, func(t *testing.T) {
			h := setup(t)
			write(t, h.dir, tt.files)
			wantError(t, h.call(t, renameCall(".", tt.pattern, tt.replacement)), tt.want)
			wantFiles(t, h.dir, tt.files)
		})
	}
}

func TestRenameFilesLeavesOtherThingsAlone(t *testing.T) {
	h := setup(t)
	write(t, h.dir, map[string]string{"x-file": "f", "x-dir/x-below": "b"})
	symlink(t, "x-file", filepath.Join(h.dir, "x-link"))
	_, asked := h.ask(t, renameCall(".", "^x", "y"))
	got := structured[renameOutput](t, h.call(t, accept(renameCall(".", "^x", "y"), asked)))
	if want := []rename{{"x-file", "y-file"}}; !reflect.DeepEqual(got.Renamed, want) {
		t.Errorf("renamed %v, want %v", got.Renamed, want)
	}
	if _, err := os.Readlink(filepath.Join(h.dir, "x-link")); err != nil {
		t.Error(err)
	}
	wantFiles(t, h.dir, map[string]string{"y-file": "f", "x-dir/x-below": "b"})
}

func TestRenameFilesShowsOneFilePerLine(t *testing.T) {
	h := setup(t)
	if err := os.WriteFile(filepath.Join(h.dir, "a\n\"b\" → \"c\""), nil, 0o644); err != nil {
		t.Skipf("no such file names here: %v", err)
	}
	elicit, _ := h.ask(t, renameCall(".", "^a", "x"))
	if n := strings.Count(elicit.Message, "\n"); n != 2 {
		t.Errorf("the plan of one file has %d line breaks: %q", n, elicit.Message)
	}
}

func TestRenameFilesHoldsToThePlan(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(dir string) error
		want   string
	}{
		"when a file has come": {
			func(dir string) error { return os.WriteFile(filepath.Join(dir, "IMG_9.jpg"), nil, 0o644) },
			`"IMG_9.jpg" → "photo-9.jpg" was not in it`,
		},
		"when a file has gone": {
			func(dir string) error { return os.Remove(filepath.Join(dir, "IMG_1.jpg")) },
			`"IMG_1.jpg" → "photo-1.jpg" is no longer possible`,
		},
		"when a name has been taken": {
			func(dir string) error { return os.WriteFile(filepath.Join(dir, "photo-2.jpg"), []byte("mine"), 0o644) },
			`"photo-2.jpg", which already exists`,
		},
		"when a file has gone and another has its new name": {
			func(dir string) error {
				return errors.Join(os.Remove(filepath.Join(dir, "IMG_1.jpg")),
					os.WriteFile(filepath.Join(dir, "photo-1.jpg"), []byte("another"), 0o644))
			},
			"is no longer possible",
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := setup(t)
			write(t, h.dir, photos)
			_, asked := h.ask(t, photoCall())
			if err := tt.change(filepath.Join(h.dir, "p")); err != nil {
				t.Fatal(err)
			}
			before := contents(t, h.dir)
			wantError(t, h.call(t, accept(photoCall(), asked)), tt.want)
			wantFiles(t, h.dir, before)
		})
	}

	t.Run("when the arguments are others", func(t *testing.T) {
		h := setup(t)
		write(t, h.dir, photos)
		_, asked := h.ask(t, photoCall())
		wantError(t, h.call(t, accept(renameCall("p", `^IMG_(\d+)\.jpg$`, "pic-$1.jpg"), asked)), "was not in it")
		wantError(t, h.call(t, accept(renameCall("p/sub", `^IMG_(\d+)\.jpg$`, "photo-$1.jpg"), asked)), "does not come with the plan")
		wantFiles(t, h.dir, photos)
	})

	t.Run("when the state is not one it made", func(t *testing.T) {
		h := setup(t)
		write(t, h.dir, photos)
		for state, want := range map[string]string{
			"":            "does not come with the plan",
			"rubbish":     "does not come with the plan",
			`{"dir":"p"}`: "was not in it",
			`{"dir":"p","steps":[{"from":"../x","to":"notes.txt"}]}`: "was not in it",
		} {
			wantError(t, h.call(t, accept(photoCall(), &mcp.CallToolResult{RequestState: state})), want)
		}
		wantFiles(t, h.dir, photos)
	})
}

func TestRenameFilesFinishesWhatWasInterrupted(t *testing.T) {
	for name, interrupted := range map[string]func(p string) error{
		"before the first file": func(string) error { return nil },
		"between two files": func(p string) error {
			return os.Rename(filepath.Join(p, "IMG_1.jpg"), filepath.Join(p, "photo-1.jpg"))
		},
		"in the middle of a file": func(p string) error {
			return os.Link(filepath.Join(p, "IMG_1.jpg"), filepath.Join(p, "photo-1.jpg"))
		},
		"after the last file": func(p string) error {
			return errors.Join(os.Rename(filepath.Join(p, "IMG_1.jpg"), filepath.Join(p, "photo-1.jpg")),
				os.Rename(filepath.Join(p, "IMG_2.jpg"), filepath.Join(p, "photo-2.jpg")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := setup(t)
			write(t, h.dir, photos)
			_, asked := h.ask(t, photoCall())
			if err := interrupted(filepath.Join(h.dir, "p")); err != nil {
				t.Fatal(err)
			}
			got := structured[renameOutput](t, h.call(t, accept(photoCall(), asked)))
			want := renameOutput{Renamed: []rename{{"IMG_1.jpg", "photo-1.jpg"}, {"IMG_2.jpg", "photo-2.jpg"}}}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
			wantFiles(t, h.dir, photosRenamed)
		})
	}

	t.Run("where the new names match the pattern, too", func(t *testing.T) {
		h := setup(t)
		write(t, h.dir, map[string]string{"a1": "1", "a2": "2"})
		_, asked := h.ask(t, renameCall(".", "^", "x"))
		if err := os.Rename(filepath.Join(h.dir, "a1"), filepath.Join(h.dir, "xa1")); err != nil {
			t.Fatal(err)
		}
		structured[renameOutput](t, h.call(t, accept(renameCall(".", "^", "x"), asked)))
		wantFiles(t, h.dir, map[string]string{"xa1": "1", "xa2": "2"})
	})
}

func TestRenameFilesStopsWhenCancelled(t *testing.T) {
	h := setup(t)
	write(t, h.dir, photos)
	_, asked := h.ask(t, photoCall())
	// Hold the tool after its first file until it is cancelled.
	reached := make(chan struct{})
	h.server.AddSendingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			if _, ok := req.GetParams().(*mcp.ProgressNotificationParams); ok {
				close(reached)
				<-ctx.Done()
				return nil, nil
			}
			return next(ctx, method, req)
		}
	})
	ended := h.results()
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := h.session.CallTool(ctx, accept(photoCall(), asked))
		failed <- err
	}()
	<-reached
	cancel()
	if err := <-failed; err == nil {
		t.Error("the cancelled call succeeded")
	}
	wantError(t, <-ended, context.Canceled.Error())
	want := maps.Clone(photosRenamed)
	delete(want, "p/photo-2.jpg")
	want["p/IMG_2.jpg"] = "two"
	wantFiles(t, h.dir, want)
}

func TestRenameExclusiveNeverOverwrites(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{"from": "new", "to": "old", "sub/x": ""}
	write(t, dir, files)
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, to := range []string{"to", "sub"} {
		if err := renameExclusive(root, rename{"from", to}); !errors.Is(err, fs.ErrExist) {
			t.Errorf("onto %s: error = %v", to, err)
		}
	}
	wantFiles(t, dir, files)
}
