package api

import (
	"encoding/json"

	"github.com/longhaul-mcp/longhaul/task"
)

// The requests of tools, and the answers to them, go to each wire and come from
// it as they are, but for what only some revisions of elicitation have: its
// modes, which came with 2025-11-25, and elicitationId, which went with
// 2026-07-28 (client/elicitation of each).

// elicitedURL is the URL that an elicitation in url mode leads to. Without a
// mode it is a form.
func elicitedURL(in task.InputRequest) (url string, ok bool) {
	if in.Method != task.MethodElicit {
		return "", false
	}
	params, err := readObject(in.Params, false)
	if err != nil {
		return "", false
	}
	if mode, err := jsonString(params.get("mode")); err != nil || mode != "url" {
		return "", false
	}
	url, _ = jsonString(params.get("url"))
	return url, true
}

// isAskedAgain reports whether the request was made before, and its answer was
// not acceptable.
func isAskedAgain(in task.InputRequest) bool {
	params, _ := readObject(in.Params, false)
	meta, _ := readObject(params.get("_meta"), false)
	return meta.get(task.MetaRefused) != nil
}

// isAccept reports whether an answer to an elicitation is yes ("Response
// Actions").
func isAccept(answer json.RawMessage) bool {
	o, _ := readObject(answer, false)
	action, err := jsonString(o.get("action"))
	return err == nil && action == "accept"
}

// inputParams2025 words the params of a request for a client of version.
func inputParams2025(in task.InputRequest, version string) json.RawMessage {
	if len(in.Params) == 0 || in.Params[0] != '{' {
		return json.RawMessage("{}")
	}
	if in.Method == task.MethodElicit && version != version20251125 {
		return withoutMember(in.Params, "mode")
	}
	return in.Params
}

// withElicitationID sees to it that the params of a visit to a URL have an
// elicitationId: the tool's own, or what mint makes.
func withElicitationID(params json.RawMessage, mint func() string) (with json.RawMessage, id string) {
	o, _ := readObject(params, false)
	if id, err := jsonString(o.get("elicitationId")); err == nil && id != "" {
		return params, id
	}
	id = mint()
	return edit(params, func(m map[string]json.RawMessage) { m["elicitationId"] = json.RawMessage(`"` + id + `"`) }), id
}

// inputParams2026 words the params of a request.
func inputParams2026(in task.InputRequest) json.RawMessage {
	if _, ok := elicitedURL(in); ok {
		return withoutMember(in.Params, "elicitationId")
	}
	return in.Params
}

func withoutMember(params json.RawMessage, name string) json.RawMessage {
	return edit(params, func(m map[string]json.RawMessage) { delete(m, name) })
}
