package api

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/longhaul-mcp/longhaul/task"
)

// Everything that is not about tasks is answered by the MCP Go SDK: two
// stateless servers, one for each generation. Where the SDK's types have no
// room for what must be said (capabilities.tasks, execution, definitions as
// upstreams wrote them) middleware replaces the result by a free one.

// listTTL is how long clients may cache lists and discovery; changes of the
// list are announced besides.
const listTTL = time.Minute

// freeResult is a result of any shape.
type freeResult struct {
	mcp.ResultBase
	members map[string]json.RawMessage
}

func (r *freeResult) MarshalJSON() ([]byte, error) {
	members := maps.Clone(r.members)
	if len(r.Meta) > 0 {
		meta, err := encode(r.Meta)
		if err != nil {
			return nil, err
		}
		members["_meta"] = meta
	}
	return encode(members)
}

func (a *API) newSDKHandlers() (legacy, modern http.Handler) {
	impl := &mcp.Implementation{Name: a.opts.ServerName, Version: a.opts.ServerVersion}
	capabilities := func() *mcp.ServerCapabilities {
		return &mcp.ServerCapabilities{Tools: &mcp.ToolCapabilities{ListChanged: true}}
	}
	handler := func(s *mcp.Server) http.Handler {
		return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{
			Stateless:    true,
			JSONResponse: true,
			// The front has checked both, with names of its own.
			DisableLocalhostProtection:   true,
			MaxRequestBodyBytes:          -1,
			PropagateRequestCancellation: true,
		})
	}

	s2025 := mcp.NewServer(impl, &mcp.ServerOptions{
		Capabilities:              capabilities(),
		SupportedProtocolVersions: legacyVersions,
	})
	s2025.AddReceivingMiddleware(a.legacyResults)

	withTasks := capabilities()
	withTasks.AddExtension(tasksExtension, nil)
	s2026 := mcp.NewServer(impl, &mcp.ServerOptions{
		Capabilities:              withTasks,
		SupportedProtocolVersions: []string{version20260728},
		SetCacheable: func(_ context.Context, _ mcp.Request, c *mcp.Cacheable) {
			c.TTLMs, c.CacheScope = int(listTTL.Milliseconds()), "private"
		},
	})
	s2026.AddReceivingMiddleware(a.modernResults)
	return handler(s2025), handler(s2026)
}

// legacyResults words initialize and tools/list for 2025.
func (a *API) legacyResults(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
		if method == "tools/list" {
			version := req.GetExtra().Header.Get(headerVersion)
			return a.listTools(req, func(t task.Tool) json.RawMessage { return definition2025(t, version) }, nil)
		}
		result, err := next(ctx, method, req)
		init, ok := result.(*mcp.InitializeResult)
		if err != nil || !ok || init.ProtocolVersion != version20251125 {
			return result, err
		}
		raw, err := encode(init)
		if err != nil {
			return nil, err
		}
		o, err := readObject(raw, false)
		if err != nil {
			return nil, err
		}
		members := o.byKey()
		// "Server Capabilities". Without authentication there is one user, so
		// list is offered then too.
		members["capabilities"] = edit(members["capabilities"], func(m map[string]json.RawMessage) {
			m["tasks"] = json.RawMessage(`{"list":{},"cancel":{},"requests":{"tools":{"call":{}}}}`)
		})
		return &freeResult{members: members}, nil
	}
}

// modernResults words server/discover and tools/list for 2026.
func (a *API) modernResults(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
		if method == "tools/list" {
			return a.listTools(req, func(t task.Tool) json.RawMessage { return t.Definition }, map[string]json.RawMessage{
				"resultType": json.RawMessage(`"complete"`),
				"ttlMs":      json.RawMessage(strconv.FormatInt(listTTL.Milliseconds(), 10)),
				"cacheScope": json.RawMessage(`"private"`),
			})
		}
		result, err := next(ctx, method, req)
		if discovered, ok := result.(*mcp.DiscoverResult); ok && err == nil {
			discovered.SupportedVersions = supportedVersions
		}
		return result, err
	}
}

// listTools lists every tool on one page, so any cursor is a wrong one.
func (a *API) listTools(req mcp.Request, word func(task.Tool) json.RawMessage, also map[string]json.RawMessage) (mcp.Result, error) {
	if p, ok := req.GetParams().(*mcp.ListToolsParams); ok && p != nil && p.Cursor != "" {
		return nil, &jsonrpc.Error{Code: codeInvalidParams, Message: "Invalid cursor"}
	}
	tools := []json.RawMessage{} // never null
	for _, t := range a.catalogue.Tools() {
		tools = append(tools, word(t))
	}
	list, err := encode(tools)
	if err != nil {
		return nil, err
	}
	result := &freeResult{members: map[string]json.RawMessage{"tools": list}}
	maps.Copy(result.members, also)
	return result, nil
}

// definition2025 is a tool's definition for a 2025 client: execution for those
// that know tasks, and no output schema that is no object's.
func definition2025(t task.Tool, version string) json.RawMessage {
	return edit(t.Definition, func(m map[string]json.RawMessage) {
		if version == version20251125 {
			m["execution"] = json.RawMessage(`{"taskSupport":"` + string(t.Support) + `"}`)
		}
		output, err := readObject(m["outputSchema"], false)
		if err != nil || string(output.get("type")) != `"object"` {
			delete(m, "outputSchema")
		}
	})
}

// initialize opens a 2025 session (2025-11-25, basic/lifecycle).
func (a *API) initialize(ctx context.Context, x *exchange) (any, error) {
	requested, err := x.msg.str("protocolVersion")
	if err != nil {
		return nil, err
	}
	capabilities := x.msg.params.get("capabilities")
	if capabilities == nil || capabilities[0] != '{' {
		return nil, invalidParams("Invalid params: capabilities must be an object")
	}
	if info := x.msg.params.get("clientInfo"); info == nil || info[0] != '{' {
		return nil, invalidParams("Invalid params: clientInfo must be an object")
	}
	result, err := a.viaSDK(ctx, x)
	if err != nil {
		return nil, err
	}
	id, err := a.sessions.open(negotiate(requested), capabilities, x.owner)
	if err != nil {
		return nil, err
	}
	x.w.Header().Set(headerSession, id)
	return result, nil
}

// negotiate is the version a session gets, which the SDK settles likewise
// ("Version Negotiation"): the requested one if it is served, else the newest.
func negotiate(requested string) string {
	for _, v := range legacyVersions {
		if v == requested {
			return v
		}
	}
	return legacyVersions[0]
}

// viaSDK hands the request to the SDK's server of its generation. Nothing of
// the caller goes along but the message and its version.
func (a *API) viaSDK(ctx context.Context, x *exchange) (any, error) {
	handler := a.sdk2025
	header := http.Header{
		"Content-Type": {"application/json"},
		"Accept":       {"application/json, text/event-stream"},
	}
	if x.version != "" {
		header.Set(headerVersion, x.version)
	}
	if x.session == nil && x.version == version20260728 {
		handler = a.sdk2026
		header.Set(headerMethod, x.msg.method)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "/mcp", bytes.NewReader(x.msg.raw))
	if err != nil {
		return nil, err
	}
	r.Header = header
	var rec recorder
	handler.ServeHTTP(&rec, r)

	var reply struct {
		Result json.RawMessage `json:"result"`
		Error  *task.RPCError  `json:"error"`
	}
	if err := json.Unmarshal(rec.body.Bytes(), &reply); err != nil {
		// The SDK refuses some requests in plain text.
		return nil, rpcErrorf(codeInvalidRequest, "Invalid request: %s", strings.TrimSpace(rec.body.String()))
	}
	if reply.Error != nil {
		return nil, reply.Error
	}
	return reply.Result, nil
}

// recorder keeps a response in memory.
type recorder struct {
	header http.Header
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header {
	if r.header == nil {
		r.header = make(http.Header)
	}
	return r.header
}
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }
func (r *recorder) WriteHeader(int)             {}
func (r *recorder) Flush()                      {}
