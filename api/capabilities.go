package api

import (
	"encoding/json"
	"slices"
	"strings"
)

// What a 2025 client declares is brought to what the version of its session
// has before anybody acts on it. So whether a tool may ask for something
// depends on the version as well: where it lacks the feature, the tool gets the
// protocol's error as if the client had not declared it.

// capabilityMembers are the client capabilities by which tools are told what
// they may ask for, and what these are made up of.
var capabilityMembers = map[string][]string{
	"elicitation": {"form", "url"},
	"sampling":    {"context", "tools"},
	"roots":       nil,
}

// laterCapabilities are those of capabilityMembers that a version does not have
// yet (ClientCapabilities of each version's schema).
var laterCapabilities = map[string][]string{
	version20250326: {"elicitation", "sampling.context", "sampling.tools"},
	version20250618: {"elicitation.url", "sampling.context", "sampling.tools"},
}

// capabilitiesIn are the declared capabilities that a 2025 version has. Those
// nobody knows, such as experimental ones, stay. Those about tasks do not: this
// server makes no request that could be a task of the client's.
func capabilitiesIn(version string, declared json.RawMessage) json.RawMessage {
	later := laterCapabilities[version]
	return edit(declared, func(capabilities map[string]json.RawMessage) {
		restrict(capabilities, "tasks", false)
		for name, members := range capabilityMembers {
			restrict(capabilities, name, !slices.Contains(later, name))
			raw, ok := capabilities[name]
			if !ok {
				continue
			}
			capabilities[name] = edit(raw, func(m map[string]json.RawMessage) {
				for _, member := range members {
					restrict(m, member, !slices.Contains(later, name+"."+member))
				}
			})
		}
	})
}

// restrict deletes the capability from members, unless the version has it and
// it is the object it has to be. What differs from it in case only goes in any
// case: somebody might read it without telling the two apart.
func restrict(members map[string]json.RawMessage, capability string, has bool) {
	for name, value := range members {
		if strings.EqualFold(name, capability) && (!has || name != capability || value[0] != '{') {
			delete(members, name)
		}
	}
}
