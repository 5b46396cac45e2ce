package upstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/longhaul-mcp/longhaul/task"
)

// ToolOptions say how one tool is run.
type ToolOptions struct {
	// Support defaults to [task.SupportOptional]. What the server itself says of
	// task support only matters for how Longhaul calls it.
	Support task.Support
	// Input defaults to [task.InputInTask].
	Input task.InputMode
	// Timeout bounds one round; 0 means the task's TTL alone does.
	Timeout time.Duration
	// Retry defaults to [RetryAuto].
	Retry Retry
}

// Retry says when a round that was lost may be run again.
type Retry string

const (
	// RetryAuto: if the tool declares readOnlyHint or idempotentHint.
	RetryAuto Retry = "auto"
	// RetryAlways: whatever the tool declares.
	RetryAlways Retry = "always"
	// RetryNever: whatever the tool declares.
	RetryNever Retry = "never"
)

// listedTool is a tool as its server lists it.
type listedTool struct {
	name        string
	definition  json.RawMessage
	inputSchema json.RawMessage
	// repeatable is set by readOnlyHint or idempotentHint.
	repeatable bool
	// mirrored is set if arguments are repeated in HTTP headers.
	mirrored bool
	// taskOnly is set if it can only be called as a task (2025).
	taskOnly bool
}

// exposedTool is a tool under the name by which it is called here.
type exposedTool struct {
	task.Tool
	server *server
	// upstream is the server's name for it.
	upstream string
	mirrored bool
	taskOnly bool
}

type catalogue struct {
	tools  []task.Tool
	byName map[string]exposedTool
}

var exposedName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,128}$`)

// parseTool reads one element of a tool list. With an error only the name is
// set.
func parseTool(raw json.RawMessage) (listedTool, error) {
	var t struct {
		Name        string          `json:"name"`
		InputSchema json.RawMessage `json:"inputSchema"`
		Annotations struct {
			ReadOnly   bool `json:"readOnlyHint"`
			Idempotent bool `json:"idempotentHint"`
		} `json:"annotations"`
		Execution struct {
			TaskSupport task.Support `json:"taskSupport"`
		} `json:"execution"`
	}
	err := json.Unmarshal(raw, &t)
	named := listedTool{name: t.Name}
	switch {
	case err != nil:
		return named, fmt.Errorf("its definition is invalid: %w", err)
	case t.Name == "":
		return named, errors.New("it has no name")
	case !bytes.HasPrefix(t.InputSchema, []byte("{")):
		return named, errors.New("its inputSchema is not an object")
	}
	mirrored, err := checkHeaders(t.InputSchema)
	if err != nil {
		return named, err
	}
	return listedTool{
		name: t.Name, definition: raw, inputSchema: t.InputSchema,
		repeatable: t.Annotations.ReadOnly || t.Annotations.Idempotent,
		mirrored:   mirrored,
		taskOnly:   t.Execution.TaskSupport == task.SupportRequired,
	}, nil
}

// Tools are the tools of all servers, in the order of the servers.
func (s *Set) Tools() []task.Tool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.catalogue.tools)
}

// Lookup returns the tool exposed under a name.
func (s *Set) Lookup(name string) (task.Tool, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.catalogue.byName[name]
	return t.Tool, ok
}

// Subscribe has changed called after each change of the catalogue, one call at
// a time, until cancel.
func (s *Set) Subscribe(changed func()) (cancel func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.nextSub
	s.nextSub++
	s.subs[id] = changed
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.subs, id)
	}
}

// setTools takes in a server's tool list.
func (s *server) setTools(tools []listedTool) {
	s.mu.Lock()
	s.tools, s.known = tools, true
	s.mu.Unlock()
	s.set.rebuild()
}

// rebuild makes the catalogue anew and tells subscribers if it changed.
func (s *Set) rebuild() {
	s.telling.Lock()
	defer s.telling.Unlock()
	next := s.build()
	s.mu.Lock()
	changed := !slices.EqualFunc(next.tools, s.catalogue.tools, sameTool)
	s.catalogue = next
	subs := slices.Collect(maps.Values(s.subs))
	s.mu.Unlock()
	if changed {
		for _, tell := range subs {
			tell()
		}
	}
}

func sameTool(a, b task.Tool) bool {
	return a.Name == b.Name && a.Policy == b.Policy && a.Workflow == b.Workflow && bytes.Equal(a.Definition, b.Definition)
}

// build exposes the tools of all servers under one name each. A name two tools
// would share is given to neither, so that no call ever reaches another tool
// than the one it was meant for.
func (s *Set) build() catalogue {
	var all []exposedTool
	count := map[string]int{}
	for _, server := range s.servers {
		server.mu.Lock()
		tools := server.tools
		server.mu.Unlock()
		for _, t := range tools {
			name := s.prefix(server) + t.name
			if !exposedName.MatchString(name) {
				s.warn("a tool is left out", server.Name, t.name, fmt.Sprintf(
					"its exposed name %q is not 1 to 128 characters of A-Z a-z 0-9 _ . -", name))
				continue
			}
			count[name]++
			all = append(all, s.expose(server, t, name))
		}
	}
	c := catalogue{byName: map[string]exposedTool{}}
	for _, t := range all {
		if count[t.Name] > 1 {
			s.warn("a tool is left out", t.server.Name, t.upstream, fmt.Sprintf("%d tools would be exposed as %q", count[t.Name], t.Name))
			continue
		}
		c.byName[t.Name] = t
		c.tools = append(c.tools, t.Tool)
	}
	for name := range s.options.Tools {
		if _, ok := c.byName[name]; !ok && s.allListed(s.owners(name)) {
			s.warn("the configuration names a tool that does not exist", "", name, "")
		}
	}
	return c
}

// prefix begins the exposed names of a server's tools.
func (s *Set) prefix(server *server) string {
	if len(s.servers) == 1 {
		return ""
	}
	return server.Name + "__"
}

// owners are the servers that may have a tool exposed under a name.
func (s *Set) owners(name string) []*server {
	var owners []*server
	for _, server := range s.servers {
		if strings.HasPrefix(name, s.prefix(server)) {
			owners = append(owners, server)
		}
	}
	return owners
}

func (s *Set) allListed(servers []*server) bool {
	return !slices.ContainsFunc(servers, func(srv *server) bool { return !srv.listed() })
}

func (s *Set) expose(server *server, t listedTool, name string) exposedTool {
	o := s.options.Tools[name]
	tool := task.Tool{
		Name:        name,
		Definition:  exposedDefinition(t.definition, name),
		InputSchema: t.inputSchema,
		Support:     o.Support,
		Input:       o.Input,
		Policy: task.Policy{
			Retry:         o.Retry == RetryAlways || (o.Retry != RetryNever && t.repeatable),
			TimeoutMillis: o.Timeout.Milliseconds(),
		},
	}
	if cleanup, ok := server.Workflows[t.name]; ok {
		tool.Workflow = t.name
		tool.Policy.CleanupMillis = cleanup.Milliseconds()
	}
	if tool.Support == "" {
		tool.Support = task.SupportOptional
	}
	if tool.Input == "" {
		tool.Input = task.InputInTask
	}
	_, remote := server.dialer.(*remote)
	return exposedTool{
		Tool: tool, server: server, upstream: t.name, mirrored: t.mirrored && remote, taskOnly: t.taskOnly,
	}
}

// exposedDefinition is a tool's definition under its exposed name and without
// execution, whose taskSupport is the server's own. All else is as it was.
func exposedDefinition(definition json.RawMessage, name string) json.RawMessage {
	return editObject(definition, func(m *member) (keep bool) {
		if m.name == "name" {
			m.value = jsonString(name)
		}
		return m.name != "execution"
	})
}

func jsonString(s string) []byte {
	b, _ := json.Marshal(s) // a string always can be
	return b
}

// member is one member of a JSON object.
type member struct {
	name  string
	value json.RawMessage
}

// objectMembers splits a JSON object, keeping the order of its members.
func objectMembers(object []byte) ([]member, error) {
	dec := json.NewDecoder(bytes.NewReader(object))
	if token, err := dec.Token(); err != nil {
		return nil, err
	} else if token != json.Delim('{') {
		return nil, errors.New("must be an object")
	}
	var members []member
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, err
		}
		m := member{name: token.(string)}
		if err := dec.Decode(&m.value); err != nil {
			return nil, err
		}
		members = append(members, m)
	}
	_, err := dec.Token()
	return members, err
}

// warn logs a defect of a server's tools, once.
func (s *Set) warn(message, server, tool, reason string) {
	key := message + "\x00" + server + "\x00" + tool + "\x00" + reason
	s.mu.Lock()
	again := s.warned[key]
	s.warned[key] = true
	s.mu.Unlock()
	if again {
		return
	}
	log := s.logger
	if server != "" {
		log = log.With("server", server)
	}
	if reason != "" {
		log = log.With("reason", reason)
	}
	log.Warn(message, "tool", tool)
}
