// Package task is Longhaul's domain: what a durable MCP task is, the rules by
// which it changes, and every name under which it is persisted.
//
// It imports the standard library only. The state machine in machine.go is
// what decides a task's fate; the Temporal workflow feeds it events and
// carries out what it asks for, and the HTTP front words its states for the
// two generations of MCP tasks:
//
//   - 2025: the tasks of core MCP 2025-11-25,
//   - 2026: the extension io.modelcontextprotocol/tasks of MCP 2026-07-28.
package task
