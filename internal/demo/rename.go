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
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/longhaul-mcp/longhaul"
)

const (
	// confirmKey is the key of rename_files' input request, and of the boolean
	// it asks for.
	confirmKey = "confirm"

	// maxPlan is the longest plan in bytes of its text. Nobody confirms what
	// they cannot read, so a plan is shown whole or not at all.
	maxPlan = 32 << 10

	// maxName is the longest file name in bytes: what common file systems allow.
	maxName = 255
)

// errPlanChanged is the error of an answer to a plan that no longer holds.
var errPlanChanged = errors.New("the directory has changed since the plan was made, call again for a new one")

type renameInput struct {
	Path        string `json:"path" jsonschema:"the directory the files are in"`
	Pattern     string `json:"pattern" jsonschema:"RE2 regular expression, matched anywhere in the file name"`
	Replacement string `json:"replacement" jsonschema:"what each match becomes; $1 or ${1} is the first group"`
}

type renameOutput struct {
	Renamed  []rename `json:"renamed" jsonschema:"the files renamed, by their old names"`
	Declined bool     `json:"declined" jsonschema:"whether the user decided against it"`
}

type rename struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// renamePlan is what the user is asked to confirm. As the request state it
// comes back with the answer, perhaps in another process.
//
// The state passes through the client and is not sealed. It decides nothing:
// what is renamed follows from the arguments and the directory, and the state
// has to agree with it, so that a forged one makes the call fail, or at worst
// leave out files that the caller need not have named.
type renamePlan struct {
	Dir   string       `json:"dir"`
	Steps []renameStep `json:"steps"` // by old name
}

// renameStep is one file to be renamed. Size and time tell it from another
// file of the same name, should the step turn out to be done.
type renameStep struct {
	rename
	Size    int64 `json:"size"`
	ModTime int64 `json:"modTime"` // nanoseconds since 1970
}

func (p renamePlan) renames() []rename {
	renames := make([]rename, len(p.Steps))
	for i, step := range p.Steps {
		renames[i] = step.rename
	}
	return renames
}

func (d *demo) renameFiles(ctx context.Context, req *mcp.CallToolRequest, in renameInput) (*mcp.CallToolResult, *renameOutput, error) {
	pattern, err := regexp.Compile(in.Pattern)
	if err != nil {
		return nil, nil, fmt.Errorf("pattern: %w", err)
	}
	rewrite := func(name string) string { return pattern.ReplaceAllString(name, in.Replacement) }
	dir, err := d.openDir(in.Path)
	if err != nil {
		return nil, nil, err
	}
	defer dir.Close()

	answer, answered := req.Params.InputResponses[confirmKey].(*mcp.ElicitResult)
	if !answered {
		res, err := proposeRenames(req, dir, in.Path, rewrite)
		return res, nil, err
	}
	if confirmed, _ := answer.Content[confirmKey].(bool); answer.Action != "accept" || !confirmed {
		return nil, &renameOutput{Renamed: []rename{}, Declined: true}, nil
	}

	var plan renamePlan
	if err := json.Unmarshal([]byte(req.Params.RequestState), &plan); err != nil || plan.Dir != in.Path {
		return nil, nil, errors.New("the answer does not come with the plan it was given to; nothing was renamed, call again")
	}
	todo, err := remaining(dir, plan, rewrite)
	if err != nil {
		return nil, nil, err
	}
	pace := pacer{every: d.pace}
	total := len(plan.Steps)
	for i, r := range todo {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		done := total - len(todo) + i
		if err := renameExclusive(dir, r); err != nil {
			return nil, nil, fmt.Errorf("renaming %q to %q: %w; %d of %d files were renamed before", r.From, r.To, cause(err), done, total)
		}
		done++
		if pace.due(float64(done)) || done == total {
			message := fmt.Sprintf("%d of %d files renamed", done, total)
			if err := longhaul.Progress(ctx, req, float64(done), float64(total), message); err != nil {
				return nil, nil, err
			}
		}
	}
	return nil, &renameOutput{Renamed: plan.renames()}, nil
}

// proposeRenames plans the renames and returns the result that asks the user
// to confirm them (MCP 2026-07-28, basic/patterns/mrtr). To clients of older
// versions the SDK turns it into an elicitation.
func proposeRenames(req *mcp.CallToolRequest, dir *os.Root, path string, rewrite func(string) string) (*mcp.CallToolResult, error) {
	if caps := req.ClientCapabilities(); caps == nil || !elicitsForms(caps.Elicitation) {
		return nil, missingElicitation()
	}
	files, err := list(dir)
	if err != nil {
		return nil, err
	}
	steps, err := planRenames(files, rewrite)
	if err != nil {
		return nil, err
	}
	if len(steps) == 0 {
		return nil, fmt.Errorf("nothing to rename: no file in %q gets another name", path)
	}
	plan := renamePlan{Dir: path, Steps: steps}

	// Quoted, so that no file name can pass for another line of the plan.
	var text strings.Builder
	fmt.Fprintf(&text, "Rename these files in %q?\n", path)
	for _, r := range steps {
		fmt.Fprintf(&text, "\n%q → %q", r.From, r.To)
	}
	if text.Len() > maxPlan {
		return nil, fmt.Errorf("%d files are too many to confirm at once; use a narrower pattern", len(steps))
	}
	state, err := json.Marshal(plan)
	if err != nil {
		return nil, err
	}
	return &mcp.CallToolResult{
		InputRequests: mcp.InputRequestMap{confirmKey: &mcp.ElicitParams{
			Mode:    "form",
			Message: text.String(),
			RequestedSchema: &jsonschema.Schema{
				Type: "object",
				Properties: map[string]*jsonschema.Schema{
					confirmKey: {Type: "boolean", Title: "Rename them", Description: "Rename the files as listed"},
				},
				Required: []string{confirmKey},
			},
		}},
		RequestState: string(state),
	}, nil
}

// elicitsForms reports whether a client can show a form. One that declares
// elicitation without saying more can.
func elicitsForms(e *mcp.ElicitationCapabilities) bool {
	return e != nil && (e.Form != nil || e.URL == nil)
}

// missingElicitation is the error of a call that a client without elicitation
// cannot make: nothing may be asked of it (MCP 2026-07-28, basic/patterns/mrtr).
// Its data is spelled out, as mcp.ClientCapabilities would name roots, too.
func missingElicitation() error {
	return &jsonrpc.Error{
		Code:    mcp.CodeMissingRequiredClientCapabilities,
		Message: "rename_files asks for confirmation: the client must support elicitation",
		Data:    json.RawMessage(`{"requiredCapabilities":{"elicitation":{}}}`),
	}
}

// list returns what is in dir by name.
func list(dir *os.Root) (map[string]fs.FileInfo, error) {
	entries, err := readDir(dir, "")
	if err != nil {
		return nil, fmt.Errorf("reading the directory: %w", cause(err))
	}
	files := make(map[string]fs.FileInfo, len(entries))
	for _, entry := range entries {
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone since
		}
		if err != nil {
			return nil, fmt.Errorf("reading the directory: %w", cause(err))
		}
		files[entry.Name()] = info
	}
	return files, nil
}

// planRenames works out what rewrite makes of the regular files among files.
// Names that stay as they are make no step. It is an error if two files would
// get the same name, or one the name of anything that is there, even of a file
// to be renamed itself: so no step depends on another.
func planRenames(files map[string]fs.FileInfo, rewrite func(string) string) ([]renameStep, error) {
	var steps []renameStep
	source := make(map[string]string) // by new name
	for _, from := range slices.Sorted(maps.Keys(files)) {
		info := files[from]
		to := rewrite(from)
		if to == from || !info.Mode().IsRegular() {
			continue
		}
		if !utf8.ValidString(from) {
			return nil, fmt.Errorf("the name %q is not UTF-8 and cannot be shown", from)
		}
		if !validName(to) {
			return nil, fmt.Errorf("%q would become %q, which is not a file name", from, to)
		}
		if other, ok := source[to]; ok {
			return nil, fmt.Errorf("%q and %q would both become %q", other, from, to)
		}
		if _, ok := files[to]; ok {
			return nil, fmt.Errorf("%q would become %q, which already exists", from, to)
		}
		source[to] = from
		steps = append(steps, renameStep{rename{from, to}, info.Size(), info.ModTime().UnixNano()})
	}
	return steps, nil
}

// validName reports whether name names a file in the same directory.
func validName(name string) bool {
	return name != "." && name != ".." && filepath.Base(name) == name && filepath.IsLocal(name) &&
		len(name) <= maxName && utf8.ValidString(name) && !strings.ContainsRune(name, 0)
}

// remaining returns what is left to do of a confirmed plan: all of it, unless
// an earlier attempt was interrupted. It fails if the plan is no longer the
// one that would be made.
func remaining(dir *os.Root, plan renamePlan, rewrite func(string) string) ([]rename, error) {
	files, err := list(dir)
	if err != nil {
		return nil, err
	}
	// Undo in the listing what has been done, then plan as the first time.
	done := make(map[rename]bool)
	for _, step := range plan.Steps {
		target, ok := files[step.To]
		if !ok || rewrite(step.From) != step.To {
			continue
		}
		source, ok := files[step.From]
		switch {
		case ok && os.SameFile(source, target):
			// Half done: the new name is there, the old not yet removed.
			delete(files, step.To)
		case !ok && target.Size() == step.Size && target.ModTime().UnixNano() == step.ModTime:
			done[step.rename] = true
			files[step.From] = target
			delete(files, step.To)
		}
	}
	steps, err := planRenames(files, rewrite)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errPlanChanged, err)
	}
	now := renamePlan{Steps: steps}.renames()
	if err := compare(plan.renames(), now); err != nil {
		return nil, fmt.Errorf("%w: %w", errPlanChanged, err)
	}
	return slices.DeleteFunc(now, func(r rename) bool { return done[r] }), nil
}

// compare returns an error that names the first difference between the plan
// confirmed and the one that would be made now.
func compare(confirmed, now []rename) error {
	if i := slices.IndexFunc(now, notIn(confirmed)); i >= 0 {
		return fmt.Errorf("%q → %q was not in it", now[i].From, now[i].To)
	}
	if i := slices.IndexFunc(confirmed, notIn(now)); i >= 0 {
		return fmt.Errorf("%q → %q is no longer possible", confirmed[i].From, confirmed[i].To)
	}
	return nil
}

func notIn(renames []rename) func(rename) bool {
	set := make(map[rename]bool, len(renames))
	for _, r := range renames {
		set[r] = true
	}
	return func(r rename) bool { return !set[r] }
}

// renameExclusive renames a file and never replaces another. Root.Rename does
// replace, and to look first does not help against a file that appears in
// between. Making a hard link fails if the name is taken, atomically and on
// every system; a rename that does so (renameat2) is there on Linux only, and
// out of reach of os.Root. The file system has to know hard links. A crash
// between the two steps leaves both names, and doing them again ends the job.
func renameExclusive(dir *os.Root, r rename) error {
	err := dir.Link(r.From, r.To)
	if errors.Is(err, fs.ErrExist) && sameFile(dir, r) {
		err = nil
	}
	if err != nil {
		return err
	}
	return dir.Remove(r.From)
}

func sameFile(dir *os.Root, r rename) bool {
	from, err := dir.Lstat(r.From)
	if err != nil {
		return false
	}
	to, err := dir.Lstat(r.To)
	return err == nil && os.SameFile(from, to)
}
