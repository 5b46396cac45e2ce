// Package api is Longhaul's HTTP front: one MCP endpoint that speaks both
// generations of MCP tasks.
//
// A request takes this way through the package:
//
//	api.go       Echo, the routes, shutdown
//	front.go     Host, Origin, bearer token; which wire; session or headers
//	body.go      the wait for the body
//	session.go   sessions of 2025; capabilities.go what their clients declare
//	message.go   the JSON-RPC envelope, read strictly
//	headers.go   the request metadata 2026 mirrors into HTTP headers
//	schema.go    arguments against the tool's schema; applies.go bounds that work
//	tasks.go     tasks/get, result, list, update, cancel
//	calls.go     tools/call: which kind of reply each kind of client gets
//	held.go      calls whose caller waits; held2026.go holds them by rounds
//	attend.go    a 2025 stream that waits for a task and asks what it asks
//	input.go     what tools ask, in the words of each revision
//	listen.go    streams of change notifications; push.go the tasks' statuses on them
//	sdk.go       everything else, answered by the MCP Go SDK
//
// What differs between the generations is worded in wire2025.go and
// wire2026.go; errors.go is the one table from errors to JSON-RPC codes and
// HTTP statuses. The spec pages meant throughout are those of 2025-11-25 and
// 2026-07-28, and "ext-tasks" is the extension io.modelcontextprotocol/tasks.
package api
