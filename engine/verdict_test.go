package engine

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/longhaul-mcp/longhaul/task"
)

// form is a form-mode elicitation of the fields.
func form(fields string, more ...string) task.InputRequest {
	return elicitation(`{"type":"object","properties":{` + fields + `}` + strings.Join(more, "") + `}`)
}

func elicitation(schema string) task.InputRequest {
	return task.InputRequest{Method: task.MethodElicit, Params: json.RawMessage(`{"message":"?","requestedSchema":` + schema + `}`)}
}

func accept(content string) string { return `{"action":"accept","content":` + content + `}` }

type verdictTest struct {
	in       task.InputRequest
	response string
	want     string
}

func checkVerdicts(t *testing.T, tests map[string]verdictTest) {
	t.Helper()
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := verdict(tt.in, json.RawMessage(tt.response))
			if got != tt.want {
				t.Errorf("%s\ngot  %s\nwant %s", tt.response, got, tt.want)
			}
			if strings.Contains(got, "s3cret") {
				t.Errorf("repeats a value: %s", got)
			}
		})
	}
}

// 2025-11-25 and 2026-07-28, elicitation, "Response Actions".
func TestVerdictOnActions(t *testing.T) {
	name := form(`"name":{"type":"string"}`, `,"required":["name"]`)
	withMode := func(mode string) task.InputRequest {
		return task.InputRequest{Method: task.MethodElicit, Params: json.RawMessage(
			`{"mode":"` + mode + `","url":"https://example.com/","requestedSchema":{"required":["name"]}}`)}
	}
	const actions = `"action" must be "accept", "decline" or "cancel"`
	checkVerdicts(t, map[string]verdictTest{
		"accept":                              {name, accept(`{"name":"octocat"}`), ``},
		"accept with metadata":                {name, `{"action":"accept","content":{"name":"o"},"_meta":{"a":1}}`, ``},
		"accept without a required field":     {name, accept(`{}`), `"name" is required`},
		"accept without content":              {name, `{"action":"accept"}`, `"name" is required`},
		"accept with null for content":        {name, `{"action":"accept","content":null}`, `"name" is required`},
		"accept of a form without fields":     {form(``), `{"action":"accept"}`, ``},
		"content is no object":                {name, accept(`["s3cret"]`), `"content" must be an object`},
		"content is a string":                 {name, accept(`"s3cret"`), `"content" must be an object`},
		"decline":                             {name, `{"action":"decline"}`, ``},
		"cancel":                              {name, `{"action":"cancel"}`, ``},
		"decline with content that is no use": {name, `{"action":"decline","content":7}`, ``},
		"no action":                           {name, `{"content":{"name":"o"}}`, actions},
		"unknown action":                      {name, `{"action":"s3cret"}`, actions},
		"action in another case":              {name, `{"action":"Accept"}`, actions},
		"keys are case-sensitive":             {name, `{"Action":"accept","content":{"name":"o"}}`, actions},
		"fields are case-sensitive":           {name, accept(`{"Name":"o"}`), `"name" is required`},
		"action is no string":                 {name, `{"action":{"a":"s3cret"}}`, actions},
		"answer is a list":                    {name, `["s3cret"]`, `the answer must be a JSON object`},
		"answer is null":                      {name, `null`, `the answer must be a JSON object`},
		"answer is nothing":                   {name, ``, `the answer must be a JSON object`},

		"form mode by name":               {withMode("form"), `{"action":"accept"}`, `"name" is required`},
		"url mode: consent":               {withMode("url"), `{"action":"accept"}`, ``},
		"url mode: content is ignored":    {withMode("url"), accept(`"x"`), ``},
		"url mode: decline":               {withMode("url"), `{"action":"decline"}`, ``},
		"url mode: no action":             {withMode("url"), `{}`, actions},
		"a request without a schema":      {task.InputRequest{Method: task.MethodElicit}, accept(`{"a":1}`), ``},
		"error in the place of a result":  {name, `{"error":{"code":-1,"message":"no"}}`, ``},
		"error with cancel":               {name, `{"action":"cancel","error":{"code":-1,"message":"no"}}`, ``},
		"error is none of a result's own": {name, `{"action":"accept","error":{}}`, `"name" is required`},
		"error must be an object":         {name, `{"error":"s3cret"}`, actions},
	})
}

// 2025-11-25 and 2026-07-28, elicitation, "Requested Schema".
func TestVerdictOnFields(t *testing.T) {
	field := func(schema string) func(value, want string) verdictTest {
		return func(value, want string) verdictTest {
			if want != "" {
				want = `"f" ` + want
			}
			return verdictTest{form(`"f":` + schema), accept(`{"f":` + value + `}`), want}
		}
	}
	text := field(`{"type":"string","minLength":2,"maxLength":3,"default":"far too long"}`)
	pattern := field(`{"type":"string","pattern":"^[A-Z]+$"}`)
	email := field(`{"type":"string","format":"email"}`)
	uri := field(`{"type":"string","format":"uri"}`)
	date := field(`{"type":"string","format":"date"}`)
	dateTime := field(`{"type":"string","format":"date-time"}`)
	number := field(`{"type":"number","minimum":0.1,"maximum":100}`)
	integer := field(`{"type":"integer","minimum":-9007199254740993,"maximum":9007199254740993}`)
	whole := field(`{"type":"integer"}`)
	boolean := field(`{"type":"boolean","default":"no"}`)
	enum := field(`{"type":"string","enum":["Red","Green"],"enumNames":["Rot","Grün"]}`)
	titled := field(`{"type":"string","oneOf":[{"const":"#F00","title":"Red"},{"const":"#0F0","title":"Green"}]}`)
	multi := field(`{"type":"array","minItems":1,"maxItems":2,"items":{"type":"string","enum":["Red","Green"]}}`)
	titledMulti := field(`{"type":"array","items":{"anyOf":[{"const":"#F00","title":"Red"}]}}`)

	const (
		notEmail    = `must be an email address`
		notURI      = `must be a URI, such as https://example.com/`
		notDate     = `must be a date, such as 2026-07-28`
		notDateTime = `must be a date and time with its offset, such as 2026-07-28T09:30:00Z`
		colours     = `must be one of "Red", "Green"`
	)
	checkVerdicts(t, map[string]verdictTest{
		"text":                            text(`"ab"`, ``),
		"text counts characters":          text(`"äöü"`, ``),
		"text counts escapes as one":      text(`"\u00e4\ud83d\ude00\n"`, ``),
		"text too short":                  text(`"s"`, `must have at least 2 characters`),
		"text too long":                   text(`"s3cret"`, `must have at most 3 characters`),
		"text is a number":                text(`12`, `must be text`),
		"text is null":                    text(`null`, `must be text`),
		"text is an object":               text(`{"a":"s3cret"}`, `must be text`),
		"pattern":                         pattern(`"ABC"`, ``),
		"pattern not matched":             pattern(`"s3cret"`, `must match the pattern ^[A-Z]+$`),
		"pattern is not anchored":         field(`{"pattern":"b"}`)(`"abc"`, ``),
		"pattern that Go does not know":   field(`{"pattern":"^(?=a)"}`)(`"b"`, ``),
		"email":                           email(`"octocat@github.com"`, ``),
		"email with a quoted part":        email(`"\"a b\"@example.com"`, ``),
		"email without a host":            email(`"s3cret@"`, notEmail),
		"email with a name":               email(`"S <s3cret@example.com>"`, notEmail),
		"email with a comment":            email(`"s3cret@example.com (S)"`, notEmail),
		"email with a space before":       email(`" s3cret@example.com"`, notEmail),
		"email too long":                  email(`"`+strings.Repeat("a", 400)+`@example.com"`, notEmail),
		"uri":                             uri(`"https://example.com/a?b=%20#c"`, ``),
		"uri of another scheme":           uri(`"urn:isbn:0451450523"`, ``),
		"uri with an IPv6 address":        uri(`"http://[::1]:8080/"`, ``),
		"uri without a scheme":            uri(`"//s3cret"`, notURI),
		"uri with a space":                uri(`"http://s3cret/a b"`, notURI),
		"uri with a bad escape":           uri(`"http://s3cret/?%zz"`, notURI),
		"uri with two fragments":          uri(`"http://s3cret/#a#b"`, notURI),
		"date":                            date(`"2024-02-29"`, ``),
		"date that does not exist":        date(`"2023-02-29"`, notDate),
		"date with a time":                date(`"2023-02-28T00:00:00Z"`, notDate),
		"date-time":                       dateTime(`"2026-07-28T09:30:00.123+02:00"`, ``),
		"date-time in lower case":         dateTime(`"2026-07-28t09:30:00z"`, ``),
		"date-time in a leap second":      dateTime(`"1998-12-31T15:59:60.5-08:00"`, ``),
		"date-time in no leap second":     dateTime(`"1998-12-31T15:58:60Z"`, notDateTime),
		"date-time without an offset":     dateTime(`"2026-07-28T09:30:00"`, notDateTime),
		"date-time with a comma":          dateTime(`"2026-07-28T09:30:00,5Z"`, notDateTime),
		"date-time with a short hour":     dateTime(`"2026-07-28T9:30:00Z"`, notDateTime),
		"date-time with a great offset":   dateTime(`"2026-07-28T09:30:00+24:00"`, notDateTime),
		"date-time that does not exist":   dateTime(`"2026-02-30T09:30:00Z"`, notDateTime),
		"other formats are annotations":   field(`{"format":"ipv4"}`)(`"x"`, ``),
		"number":                          number(`30`, ``),
		"number at a limit":               number(`1e-1`, ``),
		"number below":                    number(`0.09999999999999999999999`, `must be at least 0.1`),
		"number above":                    number(`100.00000000000000000001`, `must be at most 100`),
		"number out of a double's range":  number(`1e400`, `must be at most 100`),
		"number with a huge exponent":     number(`-1e99999999999999999999`, `must be at least 0.1`),
		"number as text":                  number(`"30"`, `must be a number`),
		"more than":                       field(`{"exclusiveMinimum":0}`)(`0.0`, `must be more than 0`),
		"less than":                       field(`{"exclusiveMaximum":0}`)(`-0`, `must be less than 0`),
		"integer":                         integer(`9007199254740993`, ``),
		"integer above":                   integer(`9007199254740994`, `must be at most 9007199254740993`),
		"integer below":                   integer(`-9007199254740994`, `must be at least -9007199254740993`),
		"1.0 is an integer":               whole(`1.0`, ``),
		"10e-1 is an integer":             whole(`10e-1`, ``),
		"-0.0 is an integer":              whole(`-0.0`, ``),
		"1e400 is an integer":             whole(`1e400`, ``),
		"1.5 is none":                     whole(`1.5`, `must be a whole number`),
		"1e-400 is none":                  whole(`1e-400`, `must be a whole number`),
		"boolean":                         boolean(`false`, ``),
		"boolean as text":                 boolean(`"false"`, `must be true or false`),
		"choice":                          enum(`"Green"`, ``),
		"choice by its name":              enum(`"Grün"`, colours),
		"choice of none":                  enum(`"s3cret"`, colours),
		"titled choice":                   titled(`"#0F0"`, ``),
		"titled choice by its title":      titled(`"Green"`, `must be one of "#F00", "#0F0"`),
		"choices":                         multi(`["Green","Red"]`, ``),
		"too few choices":                 multi(`[]`, `must have at least 1 entry`),
		"too many choices":                multi(`["Red","Red","Red"]`, `must have at most 2 entries`),
		"a bad choice":                    multi(`["Red","s3cret"]`, `entry 2 `+colours),
		"choices as text":                 multi(`"Red"`, `must be a list`),
		"titled choices":                  titledMulti(`["#F00"]`, ``),
		"titled choices by their titles":  titledMulti(`["Red"]`, `entry 1 must be "#F00"`),
		"numbers are equal in every form": field(`{"enum":[1,2.50]}`)(`25e-1`, ``),
	})
}

// 2025-11-25 and 2026-07-28, elicitation, "Requested Schema", and ElicitResult
// in their schemas; JSON Schema 2020-12 for what goes beyond the subset.
func TestVerdictOnForms(t *testing.T) {
	pair := `"a":{"type":"string"},"b":{"type":"integer"}`
	many := make([]string, 7)
	for i := range many {
		many[i] = fmt.Sprintf(`"f%d":{"type":"string"}`, i)
	}
	checkVerdicts(t, map[string]verdictTest{
		"every field has its complaint": {form(pair, `,"required":["a"]`), accept(`{"b":"s3cret"}`), `"a" is required; "b" must be a whole number`},
		"complaints are counted":        {form(strings.Join(many, ",")), accept(`{"f0":1,"f1":1,"f2":1,"f3":1,"f4":1,"f5":1,"f6":1}`), `"f0" must be text; "f1" must be text; "f2" must be text; "f3" must be text; "f4" must be text; and 2 more`},
		"names are quoted and cut":      {form(``, `,"required":["`+strings.Repeat("x", 100)+`\n"]`), accept(`{}`), `"` + strings.Repeat("x", 64) + `…" is required`},
		"long choices are cut":          {form(`"f":{"enum":["` + strings.Repeat("é", 200) + `"]}`), accept(`{"f":"s3cret"}`), `"f" must be "` + strings.Repeat("é", 99) + `…`},

		"an unknown field":                 {form(pair), accept(`{"c":["x"]}`), ``},
		"an unknown field of a wrong kind": {form(pair), accept(`{"c":{"d":"s3cret"},"e":null,"f":[1]}`), `"c" must be text, a number, true or false, or a list of texts; "e" must be text, a number, true or false, or a list of texts; "f" must be text, a number, true or false, or a list of texts`},
		"additionalProperties false":       {form(pair, `,"additionalProperties":false`), accept(`{"a":"x","c":"s3cret"}`), `"c" is not a field of the form`},
		"additionalProperties schema":      {form(pair, `,"additionalProperties":{"type":"boolean"}`), accept(`{"c":"s3cret","d":true}`), `"c" must be true or false`},
		"patternProperties":                {form(pair, `,"patternProperties":{"^x":{"type":"string"}},"additionalProperties":false`), accept(`{"a":"x","x1":"y"}`), ``},
		"patternProperties broken":         {form(pair, `,"patternProperties":{"^x":{"type":"string"}},"additionalProperties":false`), accept(`{"a":"x","x1":7}`), `"content" must fit additionalProperties, patternProperties of the requested schema`},
		"dependentRequired":                {form(pair, `,"dependentRequired":{"a":["b"]}`), accept(`{"a":"s3cret"}`), `"content" must fit dependentRequired of the requested schema`},

		"nullable":        {form(`"f":{"type":["string","null"]}`), accept(`{"f":null}`), ``},
		"not nullable":    {form(`"f":{"type":["string","null"]}`), accept(`{"f":7}`), `"f" must be text or null`},
		"const":           {form(`"f":{"const":true}`), accept(`{"f":false}`), `"f" must be true`},
		"alternatives":    {form(`"f":{"anyOf":[{"type":"string"},{"type":"null"}]}`), accept(`{"f":null}`), ``},
		"no alternative":  {form(`"f":{"anyOf":[{"type":"string"},{"type":"null"}]}`), accept(`{"f":7}`), `"f" must fit anyOf of the requested schema`},
		"numbers in them": {form(`"f":{"anyOf":[{"type":"integer","minimum":1}]}`), accept(`{"f":1.0}`), ``},
		"unique entries":  {form(`"f":{"uniqueItems":true}`), accept(`{"f":["x","x"]}`), `"f" must fit uniqueItems of the requested schema`},
		"multipleOf":      {form(`"f":{"multipleOf":0.01}`), accept(`{"f":19.99}`), ``},

		"references are not followed":       {form(`"f":{"$ref":"#/$defs/d"}`, `,"$defs":{"d":{"type":"string"}}`), accept(`{"f":7}`), ``},
		"remote references are not fetched": {form(`"f":{"allOf":[{"$ref":"http://127.0.0.1:1/s.json"}]}`), accept(`{"f":7}`), ``},
		"a reference to itself":             {elicitation(`{"allOf":[{"$ref":"#"}]}`), accept(`{"f":7}`), ``},
		"a reference in another case":       {elicitation(`{"allOf":[{"$REF":"#"}]}`), accept(`{"f":7}`), ``},
		"a dynamic reference":               {elicitation(`{"$dynamicAnchor":"a","allOf":[{"$dynamicRef":"#a"}]}`), accept(`{"f":7}`), ``},
		"a very deep schema":                {elicitation(strings.Repeat(`{"not":`, 5000) + `true` + strings.Repeat(`}`, 5000)), accept(`{"f":7}`), ``},
		"deep lists":                        {form(`"f":` + strings.Repeat(`{"items":`, 5000) + `true` + strings.Repeat(`}`, 5000)), accept(`{"f":[[[7]]]}`), ``},

		"no schema at all":                  {elicitation(`7`), accept(`{"f":7}`), ``},
		"null for a schema":                 {elicitation(`null`), accept(`{"f":7}`), ``},
		"invalid properties":                {elicitation(`{"properties":["f"],"required":"f"}`), accept(`{"f":7}`), ``},
		"invalid required":                  {elicitation(`{"required":["f",null]}`), accept(`{}`), ``},
		"invalid keywords":                  {form(`"f":{"type":"strin","minLength":"3","maxLength":-1,"pattern":"(","format":7,"enum":"x","minimum":"9","oneOf":[],"anyOf":7,"items":7}`), accept(`{"f":"x"}`), ``},
		"invalid keywords of lists":         {form(`"f":{"type":"array","minItems":1.5,"maxItems":null,"items":{"type":7}}`), accept(`{"f":["x"]}`), ``},
		"invalid keywords beyond":           {form(`"f":{"allOf":[null]},"g":{"not":7},"h":{"anyOf":[{"type":"string","minLength":"3"}]}`), accept(`{"f":"x","g":"x","h":7}`), ``},
		"the rest of an invalid schema":     {form(`"f":{"minLength":"3","maxLength":3}`), accept(`{"f":"s3cret"}`), `"f" must have at most 3 characters`},
		"keywords of the schema are exact":  {form(`"f":{"Type":"string","MINLENGTH":3}`), accept(`{"f":7}`), ``},
		"annotations and unknown keywords":  {form(`"f":{"title":"F","description":"d","examples":[1],"x-order":1,"default":1,"type":"string"}`), accept(`{"f":"x"}`), ``},
		"a field that the form rules out":   {form(`"f":false`), accept(`{"f":"x"}`), `"f" is not a field of the form`},
		"a field of which nothing is asked": {form(`"f":true`), accept(`{"f":{"x":null}}`), ``},
	})
}

// 2025-11-25 and 2026-07-28, sampling, "Result Fields"; CreateMessageResult and
// the content blocks in their schemas.
func TestVerdictOnSampling(t *testing.T) {
	in := task.InputRequest{Method: task.MethodSample, Params: json.RawMessage(`{"messages":[],"maxTokens":10}`)}
	test := func(response, want string) verdictTest { return verdictTest{in, response, want} }
	content := func(content, want string) verdictTest {
		return test(`{"role":"assistant","model":"m","stopReason":"x","content":`+content+`}`, want)
	}
	const kinds = `must have a "type" of "text", "image", "audio", "tool_use" or "tool_result"`
	checkVerdicts(t, map[string]verdictTest{
		"text":                         content(`{"type":"text","text":"Paris"}`, ``),
		"image":                        content(`{"type":"image","data":"AAAA","mimeType":"image/png"}`, ``),
		"audio":                        content(`{"type":"audio","data":"","mimeType":"audio/wav"}`, ``),
		"several blocks":               content(`[{"type":"text","text":""},{"type":"tool_use","id":"1","name":"n","input":{}}]`, ``),
		"a tool's result":              content(`{"type":"tool_result","toolUseId":"1","content":[]}`, ``),
		"no blocks":                    content(`[]`, ``),
		"content is a string":          content(`"s3cret"`, `"content" must be a content block`),
		"content is null":              content(`null`, `"content" must be a content block`),
		"no content":                   test(`{"role":"user","model":"m"}`, `"content" must be a content block`),
		"a block is a string":          content(`["s3cret"]`, `"content" entry 1 must be a content block`),
		"no type":                      content(`{"text":"s3cret"}`, `"content" `+kinds),
		"unknown type":                 content(`[{"type":"text","text":""},{"type":"s3cret"}]`, `"content" entry 2 `+kinds),
		"no text":                      content(`{"type":"text"}`, `"content" must have a string as "text"`),
		"text in another case":         content(`{"type":"text","Text":"s3cret"}`, `"content" must have a string as "text"`),
		"text is null":                 content(`{"type":"text","text":null}`, `"content" must have a string as "text"`),
		"no data":                      content(`{"type":"image","mimeType":"s3cret"}`, `"content" must have a string as "data"`),
		"data is not base64":           content(`{"type":"audio","data":"s3cret!","mimeType":"m"}`, `"content" must have base64 as "data"`),
		"no mimeType":                  content(`{"type":"image","data":"AAAA"}`, `"content" must have a string as "mimeType"`),
		"no id":                        content(`{"type":"tool_use","name":"n","input":{}}`, `"content" must have a string as "id"`),
		"no name":                      content(`{"type":"tool_use","id":"1","input":{}}`, `"content" must have a string as "name"`),
		"input is a string":            content(`{"type":"tool_use","id":"1","name":"n","input":"s3cret"}`, `"content" must have an object as "input"`),
		"no toolUseId":                 content(`{"type":"tool_result","content":[]}`, `"content" must have a string as "toolUseId"`),
		"no result":                    content(`{"type":"tool_result","toolUseId":"1"}`, `"content" must have a list as "content"`),
		"no role":                      test(`{"model":"m","content":{"type":"text","text":""}}`, `"role" must be "user" or "assistant"`),
		"unknown role":                 test(`{"role":"s3cret"}`, `"role" must be "user" or "assistant"`),
		"no model":                     test(`{"role":"user","content":{"type":"text","text":""}}`, `"model" must be a string`),
		"an elicitation's answer":      test(`{"action":"accept"}`, `"role" must be "user" or "assistant"`),
		"an error":                     test(`{"action":"cancel","error":{"code":-1,"message":"User rejected sampling request"}}`, ``),
		"a result with an error in it": test(`{"error":{},"content":{}}`, `"role" must be "user" or "assistant"`),
	})
}

// 2025-11-25 and 2026-07-28, roots, "Root": a uri MUST be a file:// URI.
func TestVerdictOnRoots(t *testing.T) {
	in := task.InputRequest{Method: task.MethodRoots}
	test := func(response, want string) verdictTest { return verdictTest{in, response, want} }
	const uri = `must have a "uri" that begins with file://`
	checkVerdicts(t, map[string]verdictTest{
		"roots":             test(`{"roots":[{"uri":"file:///home/ann","name":"Home"},{"uri":"file:///tmp"}]}`, ``),
		"none":              test(`{"roots":[]}`, ``),
		"missing":           test(`{}`, `"roots" must be a list`),
		"in another case":   test(`{"Roots":[]}`, `"roots" must be a list`),
		"null":              test(`{"roots":null}`, `"roots" must be a list`),
		"an object":         test(`{"roots":{"uri":"file:///s3cret"}}`, `"roots" must be a list`),
		"of strings":        test(`{"roots":["file:///s3cret"]}`, `"roots" entry 1 must be an object`),
		"without uri":       test(`{"roots":[{"name":"s3cret"}]}`, `"roots" entry 1 `+uri),
		"of another scheme": test(`{"roots":[{"uri":"file:///a"},{"uri":"https://s3cret"}]}`, `"roots" entry 2 `+uri),
		"name is a number":  test(`{"roots":[{"uri":"file:///a","name":7}]}`, `"roots" entry 1 must have a string as "name"`),
		"an error":          test(`{"action":"cancel","error":{"code":-32601,"message":"Roots not supported"}}`, ``),
	})
}

// An answer of the greatest size is judged in one pass over it, whatever it is.
func TestVerdictOnHugeAnswers(t *testing.T) {
	choices := make([]string, 20_000)
	for i := range choices {
		choices[i] = fmt.Sprintf(`"c%d"`, i)
	}
	last := choices[len(choices)-1]
	picked := "[" + strings.Repeat(last+",", 100_000) + last + "]"
	text := `"` + strings.Repeat("a", 1<<20) + `"`
	nested := strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	checkVerdicts(t, map[string]verdictTest{
		"many choices":      {form(`"f":{"type":"array","items":{"enum":[` + strings.Join(choices, ",") + `]}}`), accept(`{"f":` + picked + `}`), ``},
		"hostile pattern":   {form(`"f":{"pattern":"(a?){1000}b"}`), accept(`{"f":` + text + `}`), ``},
		"many alternatives": {form(`"f":{"anyOf":[` + strings.Repeat(`{"type":"integer"},`, 10_000) + `false]}`), accept(`{"f":` + text + `}`), ``},
		"long email":        {form(`"f":{"format":"email"}`), accept(`{"f":` + text + `}`), `"f" must be an email address`},
		"nested lists":      {form(`"f":{"type":"string"}`), accept(`{"f":` + nested + `}`), `"f" must be text`},
	})
}

// A drawnField is one field of a form: its schema, a value that fits, and for
// each of its rules a value that does not, under what the verdict says of it.
type drawnField struct {
	schema map[string]any
	fits   any
	broken map[string]any
}

func drawField(t *rapid.T) drawnField {
	lower := rapid.StringMatching(`[a-zé]{1,8}`)
	switch kind := rapid.SampledFrom([]string{
		"text", "pattern", "format", "number", "integer", "boolean",
		"enum", "titled", "multi", "titled multi",
	}).Draw(t, "kind"); kind {
	case "text":
		shortest := rapid.IntRange(1, 5).Draw(t, "minLength")
		longest := shortest + rapid.IntRange(0, 5).Draw(t, "more")
		n := rapid.IntRange(shortest, longest).Draw(t, "length")
		return drawnField{
			schema: map[string]any{"type": "string", "minLength": shortest, "maxLength": longest, "default": 7},
			fits:   rapid.StringN(n, n, -1).Draw(t, "text"),
			broken: map[string]any{
				"must have at least": rapid.StringN(shortest-1, shortest-1, -1).Draw(t, "short"),
				"must have at most":  rapid.StringN(longest+1, longest+1, -1).Draw(t, "long"),
				"must be text":       7,
			},
		}
	case "pattern":
		const pattern = `^[a-z]{2,5}-[0-9]+$`
		return drawnField{
			schema: map[string]any{"type": "string", "pattern": pattern},
			fits:   rapid.StringMatching(pattern).Draw(t, "text"),
			broken: map[string]any{"must match the pattern " + pattern: lower.Draw(t, "other")},
		}
	case "format":
		f := rapid.SampledFrom([]struct{ format, fits, complaint string }{
			{"email", "ann@example.com", "must be an email address"},
			{"uri", "https://example.com/a", "must be a URI"},
			{"date", "2026-07-28", "must be a date, such as"},
			{"date-time", "2026-07-28T09:30:00Z", "must be a date and time"},
		}).Draw(t, "format")
		return drawnField{
			schema: map[string]any{"type": "string", "format": f.format},
			fits:   f.fits,
			broken: map[string]any{f.complaint: lower.Draw(t, "other")},
		}
	case "number", "integer":
		least := rapid.Int64Range(-1<<60, 1<<60).Draw(t, "minimum")
		most := least + rapid.Int64Range(0, 1<<60).Draw(t, "more")
		value := rapid.Int64Range(least, most).Draw(t, "value")
		written := rapid.SampledFrom([]string{"%d", "%d.0", "%d.000e+0"}).Draw(t, "written")
		f := drawnField{
			schema: map[string]any{"type": kind, "minimum": least, "maximum": most},
			fits:   json.Number(fmt.Sprintf(written, value)),
			broken: map[string]any{
				fmt.Sprintf("must be at least %d", least): least - 1,
				fmt.Sprintf("must be at most %d", most):   most + 1,
			},
		}
		if kind == "integer" {
			f.broken["must be a whole number"] = json.Number(fmt.Sprintf("%d.5", value))
		} else {
			f.broken["must be a number"] = strconv.FormatInt(value, 10)
		}
		return f
	case "boolean":
		return drawnField{
			schema: map[string]any{"type": "boolean"},
			fits:   rapid.Bool().Draw(t, "value"),
			broken: map[string]any{"must be true or false": "true"},
		}
	default: // the choices
		choices := rapid.SliceOfNDistinct(lower, 2, 6, rapid.ID).Draw(t, "choices")
		titled := make([]any, len(choices))
		for i, choice := range choices {
			titled[i] = map[string]any{"const": choice, "title": "The " + choice}
		}
		const unlisted = "The one"
		switch kind {
		case "enum":
			return drawnField{
				schema: map[string]any{"type": "string", "enum": choices, "enumNames": choices},
				fits:   rapid.SampledFrom(choices).Draw(t, "choice"),
				broken: map[string]any{"must be one of": unlisted, "must be text": true},
			}
		case "titled":
			return drawnField{
				schema: map[string]any{"type": "string", "oneOf": titled},
				fits:   rapid.SampledFrom(choices).Draw(t, "choice"),
				broken: map[string]any{"must be one of": unlisted, "must be text": true},
			}
		}
		items := map[string]any{"type": "string", "enum": choices}
		if kind == "titled multi" {
			items = map[string]any{"anyOf": titled}
		}
		least := rapid.IntRange(1, 3).Draw(t, "minItems")
		most := least + rapid.IntRange(0, 3).Draw(t, "more")
		pick := func(least, most int) []string {
			return rapid.SliceOfN(rapid.SampledFrom(choices), least, most).Draw(t, "picked")
		}
		return drawnField{
			schema: map[string]any{"type": "array", "minItems": least, "maxItems": most, "items": items},
			fits:   pick(least, most),
			broken: map[string]any{
				"must have at least": pick(least-1, least-1),
				"must have at most":  pick(most+1, most+1),
				"must be one of":     append(pick(least-1, least-1), unlisted),
				"must be a list":     choices[0],
			},
		}
	}
}

func TestVerdictOnDrawnForms(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-zé _.]{1,8}`), 1, 5, rapid.ID).Draw(t, "names")
		fields := make(map[string]drawnField, len(names))
		properties := map[string]any{}
		content := map[string]any{}
		for _, name := range names {
			fields[name] = drawField(t)
			properties[name] = fields[name].schema
			content[name] = fields[name].fits
		}
		schema := map[string]any{"type": "object", "properties": properties, "required": names}
		in := task.InputRequest{Method: task.MethodElicit, Params: encodeJSON(t, map[string]any{"requestedSchema": schema})}
		judge := func() string {
			return verdict(in, encodeJSON(t, map[string]any{"action": "accept", "content": content}))
		}
		if got := judge(); got != "" {
			t.Fatalf("an answer that fits is refused: %s", got)
		}

		name := rapid.SampledFrom(names).Draw(t, "broken field")
		broken := fields[name].broken
		complaints := []string{"is required"}
		for complaint := range broken {
			complaints = append(complaints, complaint)
		}
		slices.Sort(complaints)
		complaint := rapid.SampledFrom(complaints).Draw(t, "broken rule")
		if value, ok := broken[complaint]; ok {
			content[name] = value
		} else {
			delete(content, name)
		}
		got := judge()
		if !strings.HasPrefix(got, strconv.Quote(name)+" ") || !strings.Contains(got, complaint) || strings.Contains(got, "; ") {
			t.Fatalf("%q breaks %q, but the verdict is: %s", name, complaint, got)
		}
	})
}

// Whatever a schema and a response are, there is a verdict.
func TestVerdictOnAnything(t *testing.T) {
	keys := []string{
		"type", "properties", "required", "additionalProperties", "patternProperties",
		"const", "enum", "enumNames", "oneOf", "anyOf", "allOf", "not", "if", "then",
		"minLength", "maxLength", "pattern", "format", "minimum", "exclusiveMaximum", "multipleOf",
		"items", "prefixItems", "contains", "minItems", "maxItems", "uniqueItems",
		"$ref", "$defs", "$id", "$schema", "$anchor", "default", "f", "g",
	}
	scalars := rapid.SampledFrom([]any{
		nil, true, false, 0, -1, 2, json.Number("1e400"), json.Number("1e-400"), json.Number("-0.50"),
		"", "f", "string", "integer", "array", "object", "#", "#/$defs/f", "(", "a+", "email", "date-time",
		"http://json-schema.org/draft-07/schema#", "2026-07-28T09:30:00Z",
	})
	var value func(depth int) *rapid.Generator[any]
	value = func(depth int) *rapid.Generator[any] {
		if depth == 0 {
			return scalars
		}
		return rapid.OneOf(
			scalars,
			rapid.Map(rapid.SliceOfN(value(depth-1), 0, 3), func(l []any) any { return l }),
			rapid.Map(rapid.MapOfN(rapid.SampledFrom(keys), value(depth-1), 0, 5), func(m map[string]any) any { return m }),
		)
	}
	object := rapid.MapOfN(rapid.SampledFrom(keys), value(3), 0, 8)
	rapid.Check(t, func(t *rapid.T) {
		schema := map[string]any{
			"properties":           map[string]any{"f": object.Draw(t, "field"), "g": value(3).Draw(t, "other field")},
			"additionalProperties": value(2).Draw(t, "additionalProperties"),
		}
		for keyword, v := range object.Draw(t, "form") {
			if _, ok := schema[keyword]; !ok {
				schema[keyword] = v
			}
		}
		content := map[string]any{"f": value(2).Draw(t, "f"), "g": value(2).Draw(t, "g"), "h": value(2).Draw(t, "h")}
		in := task.InputRequest{Method: task.MethodElicit, Params: encodeJSON(t, map[string]any{"requestedSchema": schema})}
		got := verdict(in, encodeJSON(t, map[string]any{"action": "accept", "content": content}))
		if len(got) > 5<<10 {
			t.Fatalf("a verdict of %d bytes", len(got))
		}
	})
}

func encodeJSON(t *rapid.T, v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
