package upstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/longhaul-mcp/longhaul/task"
)

// Config is the file of MCP servers that hosts read, with Longhaul's own
// settings beside it:
//
//	{
//	  "mcpServers": {
//	    "files":  {"command": "npx", "args": ["-y", "some-server"], "env": {"TOKEN": "${TOKEN}"}},
//	    "remote": {"url": "https://example.com/mcp", "headers": {"Authorization": "Bearer ${KEY}"}}
//	  },
//	  "longhaul": {
//	    "servers": {"files": {"protocol": "2025-11-25"}},
//	    "tools": {"files__index": {"taskSupport": "required", "timeout": "10m", "retry": "always", "input": "in-task"}}
//	  }
//	}
//
// In command, args, env, url and headers, ${VAR}, ${env:VAR} and
// ${VAR:-default} stand for environment variables. A member nobody knows is an
// error, for it would be a setting that silently does nothing.
type Config struct {
	// Servers that are not disabled, in the order of the file.
	Servers []Server
	// Tools by exposed name.
	Tools map[string]ToolOptions
}

// LoadConfig reads a configuration file.
func LoadConfig(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c, err := ParseConfig(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// ParseConfig reads a configuration. Errors name the path of the member at
// fault, but never values, which may be credentials.
func ParseConfig(r io.Reader) (*Config, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	var syntax json.RawMessage
	if err := json.Unmarshal(data, &syntax); err != nil {
		return nil, fmt.Errorf("it is not valid JSON: %w", err)
	}
	c := &Config{Tools: map[string]ToolOptions{}}
	var servers []serverConfig
	protocols := map[string]string{}
	err = node{member: member{value: data}}.each(func(m node) error {
		switch m.name {
		case "mcpServers":
			return m.each(func(m node) error {
				s, err := parseServer(m)
				servers = append(servers, s)
				return err
			})
		case "longhaul":
			return c.parseLonghaul(m, protocols)
		case "$schema", "globalShortcut", "preferences":
			return nil // of hosts that keep other things in this file
		default:
			return m.unknown()
		}
	})
	if err != nil {
		return nil, err
	}
	for _, s := range servers {
		protocol := protocols[s.name]
		delete(protocols, s.name)
		if s.disabled {
			continue
		}
		server, err := s.server()
		if err != nil {
			return nil, err
		}
		server.Protocol = protocol
		c.Servers = append(c.Servers, server)
	}
	for name := range protocols {
		return nil, fmt.Errorf("longhaul.servers.%s: there is no such server in mcpServers", name)
	}
	return c, nil
}

// parseLonghaul reads Longhaul's own settings; protocols are by server.
func (c *Config) parseLonghaul(longhaul node, protocols map[string]string) error {
	return longhaul.each(func(m node) error {
		switch m.name {
		case "servers":
			return m.each(func(server node) error {
				protocols[server.name] = ""
				return server.each(func(m node) error {
					if m.name != "protocol" {
						return m.unknown()
					}
					var p string
					if err := m.decode(&p); err != nil {
						return err
					}
					protocols[server.name] = p
					return m.wrap(checkProtocol(p))
				})
			})
		case "tools":
			return m.each(func(tool node) error {
				o, err := parseToolOptions(tool)
				c.Tools[tool.name] = o
				return err
			})
		default:
			return m.unknown()
		}
	})
}

func parseToolOptions(tool node) (o ToolOptions, err error) {
	err = tool.each(func(m node) error {
		var v string
		if err := m.decode(&v); err != nil {
			return err
		}
		switch m.name {
		case "taskSupport":
			o.Support = task.Support(v)
			return oneOf(m, o.Support, task.SupportOptional, task.SupportRequired, task.SupportForbidden)
		case "input":
			o.Input = task.InputMode(v)
			return oneOf(m, o.Input, task.InputInTask, task.InputBeforeTask)
		case "retry":
			o.Retry = Retry(v)
			return oneOf(m, o.Retry, RetryAuto, RetryAlways, RetryNever)
		case "timeout":
			d, err := time.ParseDuration(v)
			if err != nil || d < time.Millisecond {
				return m.errorf(`must be a duration such as "90s" or "10m"`)
			}
			o.Timeout = d
			return nil
		default:
			return m.unknown()
		}
	})
	return o, err
}

func oneOf[T ~string](m node, v T, allowed ...T) error {
	if slices.Contains(allowed, v) {
		return nil
	}
	return m.errorf("must be one of %q", allowed)
}

// serverConfig is one member of mcpServers, as it stands in the file.
type serverConfig struct {
	node
	kind     string
	command  string
	args     []string
	env      map[string]string
	dir      string
	url      string
	headers  map[string]string
	disabled bool
}

func parseServer(server node) (serverConfig, error) {
	c := serverConfig{node: server}
	err := server.each(func(m node) error {
		switch m.name {
		case "type":
			return m.decode(&c.kind)
		case "command":
			return m.decode(&c.command)
		case "args":
			return m.decode(&c.args)
		case "env":
			return m.decode(&c.env)
		case "cwd":
			return m.decode(&c.dir)
		case "url":
			return m.decode(&c.url)
		case "headers":
			return m.decode(&c.headers)
		case "disabled":
			return m.decode(&c.disabled)
		case "alwaysAllow", "autoApprove", "timeout", "description", "gallery", "version":
			return nil // about the host and its user
		default:
			return m.unknown()
		}
	})
	if err != nil {
		return c, err
	}
	remote := c.url != ""
	switch {
	case c.kind == "sse":
		return c, server.errorf(`the "sse" transport is not supported: MCP replaced it with streamable HTTP in 2025-03-26; use the server's streamable HTTP URL and type "http"`)
	case !slices.Contains([]string{"", "stdio", "http", "streamable-http", "streamableHttp"}, c.kind):
		return c, server.errorf(`its type must be "stdio" or "http"`)
	case c.command != "" && remote:
		return c, server.errorf("it has both a command and a url")
	case c.command == "" && !remote:
		return c, server.errorf("it has neither a command nor a url")
	case c.kind == "stdio" && remote:
		return c, server.errorf(`it has a url, but its type is "stdio"`)
	case c.kind != "" && c.kind != "stdio" && !remote:
		return c, server.errorf("it has a command, but its type is %q", c.kind)
	case remote && (c.args != nil || c.env != nil || c.dir != ""):
		return c, server.errorf("args, env and cwd are for a command, but it has a url")
	case !remote && c.headers != nil:
		return c, server.errorf("headers are for a url, but it has a command")
	}
	return c, nil
}

// server is the server with its variables expanded.
func (c serverConfig) server() (Server, error) {
	x := expander{path: c.path}
	if c.url != "" {
		s, err := HTTP(c.name, x.expand(c.url, ".url"), x.expandMap(c.headers, ".headers"))
		s.secrets = append(s.secrets, x.values...)
		if x.err != nil {
			err = x.err
		}
		return s, err
	}
	o := CommandOptions{Command: x.expand(c.command, ".command"), Env: x.expandMap(c.env, ".env"), Dir: c.dir}
	for i, arg := range c.args {
		o.Args = append(o.Args, x.expand(arg, fmt.Sprintf(".args[%d]", i)))
	}
	s := Command(c.name, o)
	s.secrets = append(s.secrets, x.values...)
	return s, x.err
}

// expander expands environment variables.
type expander struct {
	path string
	// values are those of the variables expanded so far.
	values []string
	err    error
}

var (
	placeholder = regexp.MustCompile(`\$\{[^}]*\}`)
	variable    = regexp.MustCompile(`^\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?\}$`)
)

func (x *expander) expand(s, member string) string {
	return placeholder.ReplaceAllStringFunc(s, func(p string) string {
		m := variable.FindStringSubmatch(p)
		if m == nil {
			x.fail(member, p+" is not an environment variable, and only a host could fill it in")
			return p
		}
		if v := os.Getenv(m[1]); v != "" {
			x.values = append(x.values, v)
			return v
		}
		if _, set := os.LookupEnv(m[1]); !set && !strings.Contains(p, ":-") {
			x.fail(member, fmt.Sprintf("the environment variable %s is not set", m[1]))
		}
		return m[2]
	})
}

func (x *expander) expandMap(values map[string]string, member string) map[string]string {
	expanded := map[string]string{}
	for name, v := range values {
		expanded[name] = x.expand(v, member+"."+name)
	}
	return expanded
}

func (x *expander) fail(member, message string) {
	if x.err == nil {
		x.err = errors.New(x.path + member + ": " + message)
	}
}

// node is a member of the file, with the path that leads to it.
type node struct {
	member
	path string
}

// each calls f for every member of an object, in order. None may be repeated.
func (n node) each(f func(node) error) error {
	members, err := objectMembers(n.value)
	if err != nil {
		return n.wrap(err)
	}
	seen := map[string]bool{}
	for _, m := range members {
		child := node{member: m, path: m.name}
		if n.path != "" {
			child.path = n.path + "." + m.name
		}
		if seen[m.name] {
			return child.errorf("is there twice")
		}
		seen[m.name] = true
		if err := f(child); err != nil {
			return err
		}
	}
	return nil
}

func (n node) decode(v any) error {
	var typeErr *json.UnmarshalTypeError
	if err := json.Unmarshal(n.value, v); errors.As(err, &typeErr) {
		return n.errorf("must be %s, not %s", typeNames[fmt.Sprintf("%T", v)], typeErr.Value)
	} else if err != nil {
		return n.wrap(err)
	}
	return nil
}

var typeNames = map[string]string{
	"*string": "a string", "*bool": "true or false", "*[]string": "a list of strings", "*map[string]string": "an object of strings",
}

func (n node) unknown() error { return n.errorf("there is no such setting") }

func (n node) errorf(format string, args ...any) error {
	return n.wrap(fmt.Errorf(format, args...))
}

func (n node) wrap(err error) error {
	if err == nil || n.path == "" {
		return err
	}
	return fmt.Errorf("%s: %w", n.path, err)
}
