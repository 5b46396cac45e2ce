package engine

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/mail"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/longhaul-mcp/longhaul/task"
)

// A form's requestedSchema is "a restricted subset of JSON Schema": a flat
// object with fields of a few kinds (elicitation, "Requested Schema"). The
// keywords of that subset are judged here, one by one: the answerer is owed
// words that name the rule, while a validator's errors repeat the value; the
// formats, which the validator does not assert, are rules too; and numbers are
// compared as they are written, not as doubles. What else JSON Schema has to
// say about a field or the form is judged by jsonschema-go, except for
//
//   - references: the subset has none, a remote one is not to be fetched, and
//     following one that leads to itself would never come to an end;
//   - nested objects, nested lists and tuples, which the subset rules out;
//   - multipleOf, for jsonschema-go divides doubles, in which 19.99 is no
//     multiple of 0.01.
//
// What cannot be judged, such as a keyword with a value it may not have, or a
// regular expression that Go does not know, is not held against the answerer.

// Bounds on what a verdict shows and on the work it takes.
const (
	maxComplaints = 5
	maxShownName  = 64  // bytes
	maxShownRule  = 200 // bytes
	// maxMatched is the longest text, in bytes, that is matched with a pattern:
	// one of a few characters can take 16 µs for each byte.
	maxMatched = 64 << 10
	// maxOther is how long, in bytes, a schema and a value may be that
	// jsonschema-go judges, and maxDepth how deep such a schema may be: its
	// errors, which nobody reads, repeat the value and the path at every level.
	maxOther = 16 << 10
	maxDepth = 16
	// maxAddress is what an email address may take (RFC 5321, 4.5.3.1).
	maxAddress = 64 + len("@") + 255
)

// verdict is why response is no acceptable answer to in, in words for the
// person or model that gave it, or "" if it is one. The words name fields and
// rules but repeat no value, and are at most a few hundred bytes for each of
// five complaints.
//
// A JSON-RPC error in the place of a result, under "error", is an answer to
// any request.
func verdict(in task.InputRequest, response json.RawMessage) string {
	answer, ok := jsonObject(response)
	if !ok {
		return "the answer must be a JSON object"
	}
	if isErrorAnswer(answer) {
		return ""
	}
	switch in.Method {
	case task.MethodElicit:
		return elicitVerdict(in.Params, answer)
	case task.MethodSample:
		return sampleVerdict(answer)
	case task.MethodRoots:
		return rootsVerdict(answer)
	default:
		return ""
	}
}

// isErrorAnswer reports whether answer says that the client failed: it has an
// error, and nothing that only a result has.
func isErrorAnswer(answer map[string]json.RawMessage) bool {
	_, failed := jsonObject(answer["error"])
	action, _ := jsonText(answer["action"])
	return failed && action != "accept" && answer["content"] == nil && answer["roots"] == nil
}

// elicitVerdict judges an ElicitResult (elicitation, "Response Actions"). Only
// an accepted form has content that matters.
func elicitVerdict(params json.RawMessage, answer map[string]json.RawMessage) string {
	switch action, _ := jsonText(answer["action"]); action {
	case "accept":
	case "decline", "cancel":
		return ""
	default:
		return `"action" must be "accept", "decline" or "cancel"`
	}
	asked, _ := jsonObject(params)
	if mode, ok := jsonText(asked["mode"]); ok && mode != "form" {
		return ""
	}
	// The schemas have content optional: without it, no field was filled in.
	content := map[string]json.RawMessage{}
	if raw := answer["content"]; raw != nil && !isNull(raw) {
		var ok bool
		if content, ok = jsonObject(raw); !ok {
			return `"content" must be an object`
		}
	}
	form, ok := jsonObject(asked["requestedSchema"])
	if !ok {
		return ""
	}
	return formVerdict(form, content)
}

// formVerdict judges the content of an accepted form. Fields that the form
// does not have are fine, unless it says additionalProperties: neither JSON
// Schema nor the specification restricts them. They must be of a kind that
// ElicitResult allows.
func formVerdict(form, content map[string]json.RawMessage) string {
	fields, _ := jsonObject(form["properties"])
	var complaints []string
	for _, name := range jsonTexts(form["required"]) {
		if _, ok := content[name]; !ok {
			complaints = append(complaints, shownName(name)+" is required")
		}
	}
	additional := func(any) string { return "" }
	switch raw, restricted := form["additionalProperties"]; {
	case form["patternProperties"] != nil: // wholeComplaint knows which are left
	case restricted:
		additional = fieldRule(raw)
	default:
		additional = contentKindRule
	}
	for _, name := range slices.Sorted(maps.Keys(content)) {
		judge := additional
		if raw, ok := fields[name]; ok {
			judge = fieldRule(raw)
		}
		if complaint := judge(decodeExact(content[name])); complaint != "" {
			complaints = append(complaints, shownName(name)+" "+complaint)
		}
	}
	if complaint := wholeComplaint(form, fields, content); complaint != "" {
		complaints = append(complaints, `"content" `+complaint)
	}
	if more := len(complaints) - maxComplaints; more > 0 {
		complaints = append(complaints[:maxComplaints], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(complaints, "; ")
}

// wholeComplaint judges what a form says about no single field.
func wholeComplaint(form, fields, content map[string]json.RawMessage) string {
	others := pick(form, "allOf", "anyOf", "oneOf", "not", "if", "then", "else",
		"patternProperties", "propertyNames", "minProperties", "maxProperties",
		"dependentRequired", "dependentSchemas", "unevaluatedProperties")
	if others["patternProperties"] != nil {
		maps.Copy(others, pick(form, "additionalProperties"))
	}
	// Each field has been judged: here it is there, and fine.
	known := make(map[string]any, len(fields))
	for name := range fields {
		known[name] = true
	}
	judge := otherRule(others, map[string]any{"properties": known})
	if judge == nil {
		return ""
	}
	whole := make(map[string]any, len(content))
	for name, raw := range content {
		whole[name] = decodeExact(raw)
	}
	return judge(whole)
}

// A rule is what a schema wants of a value, in which numbers are json.Number:
// a complaint such as "must be at least 18", or "".
type rule func(value any) string

// contentKindRule is what the schemas of both specifications say of any value
// in an ElicitResult's content.
func contentKindRule(value any) string {
	switch value := value.(type) {
	case string, json.Number, bool:
		return ""
	case []any:
		if !slices.ContainsFunc(value, func(e any) bool { return !hasType(e, "string") }) {
			return ""
		}
	}
	return "must be text, a number, true or false, or a list of texts"
}

// entryKeywords are the keywords of the subset for what is no list. The kind
// of a value is the first thing to say of it.
var entryKeywords = []string{
	"type", "const", "enum", "oneOf", "anyOf",
	"minLength", "maxLength", "pattern", "format",
	"minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum",
}

// fieldRule is the rule of one field's schema.
func fieldRule(raw json.RawMessage) rule {
	return schemaRule(raw, append(slices.Clip(entryKeywords), "minItems", "maxItems", "items"))
}

// schemaRule is what those keywords of a schema want, and those that
// jsonschema-go judges.
func schemaRule(raw json.RawMessage, keywords []string) rule {
	if string(bytes.TrimSpace(raw)) == "false" {
		return func(any) string { return "is not a field of the form" }
	}
	schema, _ := jsonObject(raw)
	var rules []rule
	for _, keyword := range keywords {
		if value, ok := schema[keyword]; ok {
			if r := keywordRule(schema, keyword, value); r != nil {
				rules = append(rules, r)
			}
		}
	}
	others := pick(schema, "allOf", "anyOf", "oneOf", "not", "if", "then", "else",
		"uniqueItems", "contains", "minContains", "maxContains")
	for _, keyword := range []string{"anyOf", "oneOf"} {
		if titledChoices(schema[keyword]) != nil {
			delete(others, keyword)
		}
	}
	if r := otherRule(others, nil); r != nil {
		rules = append(rules, r)
	}
	return func(value any) string {
		for _, r := range rules {
			if complaint := r(value); complaint != "" {
				return complaint
			}
		}
		return ""
	}
}

// keywordRule is what one keyword of schema wants, or nil if it is not judged.
// A keyword has nothing to say about values of a kind it is not for.
func keywordRule(schema map[string]json.RawMessage, keyword string, raw json.RawMessage) rule {
	switch keyword {
	case "type":
		return typeRule(raw)
	case "const":
		return choiceRule([]json.RawMessage{raw})
	case "enum":
		var choices []json.RawMessage
		if json.Unmarshal(raw, &choices) != nil {
			return nil
		}
		return choiceRule(choices)
	case "oneOf", "anyOf":
		return choiceRule(titledChoices(raw))
	case "minLength":
		return countRule(raw, atLeast, textLength, "character", "characters")
	case "maxLength":
		return countRule(raw, atMost, textLength, "character", "characters")
	case "pattern":
		return patternRule(raw)
	case "format":
		return formatRule(raw)
	case "minimum":
		return numberRule(raw, atLeast)
	case "exclusiveMinimum":
		return numberRule(raw, comparison{"more than", func(c int) bool { return c > 0 }})
	case "maximum":
		return numberRule(raw, atMost)
	case "exclusiveMaximum":
		return numberRule(raw, comparison{"less than", func(c int) bool { return c < 0 }})
	case "minItems":
		return countRule(raw, atLeast, listLength, "entry", "entries")
	case "maxItems":
		return countRule(raw, atMost, listLength, "entry", "entries")
	case "items":
		if schema["prefixItems"] != nil {
			return nil
		}
		return entriesRule(schemaRule(raw, entryKeywords))
	default:
		return nil
	}
}

// kinds are the types of JSON Schema in plain words.
var kinds = map[string]string{
	"string":  "text",
	"number":  "a number",
	"integer": "a whole number",
	"boolean": "true or false",
	"array":   "a list",
	"object":  "an object",
	"null":    "null",
}

func typeRule(raw json.RawMessage) rule {
	types := jsonTexts(raw)
	if one, ok := jsonText(raw); ok {
		types = []string{one}
	}
	if len(types) == 0 {
		return nil
	}
	var words []string
	for _, name := range types {
		if kinds[name] == "" {
			return nil
		}
		words = append(words, kinds[name])
	}
	complaint := "must be " + strings.Join(words, " or ")
	return func(value any) string {
		if slices.ContainsFunc(types, func(name string) bool { return hasType(value, name) }) {
			return ""
		}
		return complaint
	}
}

func hasType(value any, name string) bool {
	switch value := value.(type) {
	case string:
		return name == "string"
	case bool:
		return name == "boolean"
	case json.Number:
		return name == "number" || name == "integer" && parseDecimal(value).whole()
	case []any:
		return name == "array"
	case map[string]any:
		return name == "object"
	default:
		return name == "null"
	}
}

// titledChoices are the values of a oneOf or anyOf that lists choices with
// their titles and nothing else, or nil.
func titledChoices(raw json.RawMessage) []json.RawMessage {
	var options []map[string]json.RawMessage
	if json.Unmarshal(raw, &options) != nil {
		return nil
	}
	choices := make([]json.RawMessage, 0, len(options))
	for _, option := range options {
		choice, ok := option["const"]
		if !ok {
			return nil
		}
		choices = append(choices, choice)
	}
	return choices
}

func choiceRule(choices []json.RawMessage) rule {
	if len(choices) == 0 {
		return nil
	}
	allowed := make(map[any]bool, len(choices))
	var words strings.Builder
	for i, raw := range choices {
		choice, ok := scalar(decodeExact(raw))
		if !ok {
			return nil
		}
		allowed[choice] = true
		switch {
		case words.Len() > maxShownRule:
			continue
		case i > 0:
			words.WriteString(", ")
		}
		words.Write(bytes.TrimSpace(raw))
	}
	complaint := "must be " + shorten(words.String(), maxShownRule)
	if len(choices) > 1 {
		complaint = "must be one of " + shorten(words.String(), maxShownRule)
	}
	return func(value any) string {
		if v, ok := scalar(value); ok && allowed[v] {
			return ""
		}
		return complaint
	}
}

// scalar is a value that is the same for equal JSON values; lists and objects
// have none.
func scalar(value any) (any, bool) {
	switch value := value.(type) {
	case nil, string, bool:
		return value, true
	case json.Number:
		return parseDecimal(value), true
	default:
		return nil, false
	}
}

// A comparison is what a limit wants of a value, given how that compares to it.
type comparison struct {
	words string
	holds func(compared int) bool
}

var (
	atLeast = comparison{"at least", func(c int) bool { return c >= 0 }}
	atMost  = comparison{"at most", func(c int) bool { return c <= 0 }}
)

func numberRule(raw json.RawMessage, c comparison) rule {
	limit, ok := decodeExact(raw).(json.Number)
	if !ok {
		return nil
	}
	bound := parseDecimal(limit)
	complaint := fmt.Sprintf("must be %s %s", c.words, shorten(limit.String(), maxShownRule))
	return func(value any) string {
		if n, ok := value.(json.Number); ok && !c.holds(parseDecimal(n).compare(bound)) {
			return complaint
		}
		return ""
	}
}

// countRule limits what count finds in a value.
func countRule(raw json.RawMessage, c comparison, count func(any) (int, bool), one, many string) rule {
	var limit float64 // 3.0 is a count as good as 3
	if isNull(raw) || json.Unmarshal(raw, &limit) != nil || limit < 0 || limit != math.Trunc(limit) {
		return nil
	}
	unit := many
	if limit == 1 {
		unit = one
	}
	complaint := fmt.Sprintf("must have %s %.0f %s", c.words, limit, unit)
	return func(value any) string {
		if n, ok := count(value); ok && !c.holds(cmp.Compare(float64(n), limit)) {
			return complaint
		}
		return ""
	}
}

func textLength(value any) (int, bool) {
	s, ok := value.(string)
	return utf8.RuneCountInString(s), ok
}

func listLength(value any) (int, bool) {
	l, ok := value.([]any)
	return len(l), ok
}

func entriesRule(judge rule) rule {
	return func(value any) string {
		list, _ := value.([]any)
		for i, entry := range list {
			if complaint := judge(entry); complaint != "" {
				return fmt.Sprintf("entry %d %s", i+1, complaint)
			}
		}
		return ""
	}
}

func patternRule(raw json.RawMessage) rule {
	pattern, ok := jsonText(raw)
	if !ok {
		return nil
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil
	}
	complaint := "must match the pattern " + shorten(pattern, maxShownRule)
	return func(value any) string {
		if s, ok := value.(string); ok && len(s) <= maxMatched && !re.MatchString(s) {
			return complaint
		}
		return ""
	}
}

// formatRule knows the formats of the subset. Any other one is an annotation,
// as JSON Schema has it.
func formatRule(raw json.RawMessage) rule {
	name, _ := jsonText(raw)
	var matches func(string) bool
	var complaint string
	switch name {
	case "email":
		matches, complaint = isEmail, "must be an email address"
	case "uri":
		matches, complaint = isURI, "must be a URI, such as https://example.com/"
	case "date":
		matches, complaint = isDate, "must be a date, such as 2026-07-28"
	case "date-time":
		matches, complaint = isDateTime, "must be a date and time with its offset, such as 2026-07-28T09:30:00Z"
	default:
		return nil
	}
	return func(value any) string {
		if s, ok := value.(string); ok && !matches(s) {
			return complaint
		}
		return ""
	}
}

func isEmail(s string) bool {
	if len(s) > maxAddress {
		return false
	}
	address, err := mail.ParseAddress(s)
	return err == nil && address.String() == "<"+s+">" // nothing but an address
}

// uriCharacters are those of RFC 3986; url.Parse takes more.
var uriCharacters = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*:` +
	`([A-Za-z0-9._~:/?\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*` +
	`(#([A-Za-z0-9._~:/?@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)?$`)

func isURI(s string) bool {
	_, err := url.Parse(s)
	return err == nil && uriCharacters.MatchString(s)
}

func isDate(s string) bool {
	_, err := time.Parse(time.DateOnly, s)
	return err == nil
}

// dateTimeShape is RFC 3339's date-time; time.Parse takes hours of one digit,
// decimal commas and offsets of 24 hours too.
var dateTimeShape = regexp.MustCompile(`^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

func isDateTime(s string) bool {
	if !dateTimeShape.MatchString(s) {
		return false
	}
	s = strings.ToUpper(s)
	const seconds = len("2006-01-02T15:04:")
	leap := s[seconds:seconds+2] == "60"
	if leap {
		s = s[:seconds] + "59" + s[seconds+2:]
	}
	t, err := time.Parse(time.RFC3339, s)
	return err == nil && (!leap || t.UTC().Format("15:04") == "23:59")
}

// otherRule has jsonschema-go judge the keywords, together with those of
// context, which are fulfilled. It is nil if there are none or they cannot be
// judged.
func otherRule(keywords map[string]json.RawMessage, context map[string]any) rule {
	if len(keywords) == 0 {
		return nil
	}
	schema := make(map[string]any, len(keywords)+len(context))
	maps.Copy(schema, context)
	for name, raw := range keywords {
		schema[name] = decodeExact(raw)
	}
	if !judgeable(schema, maxDepth) {
		return nil
	}
	text, err := json.Marshal(schema)
	if err != nil || len(text) > maxOther {
		return nil
	}
	var parsed jsonschema.Schema
	if json.Unmarshal(text, &parsed) != nil {
		return nil
	}
	resolved, err := parsed.Resolve(nil)
	if err != nil {
		return nil
	}
	complaint := fmt.Sprintf("must fit %s of the requested schema", strings.Join(slices.Sorted(maps.Keys(keywords)), ", "))
	return func(value any) string {
		text, err := json.Marshal(value)
		if err != nil || len(text) > maxOther {
			return ""
		}
		var inexact any // jsonschema-go takes a json.Number for text
		if json.Unmarshal(text, &inexact) == nil && resolved.Validate(inexact) != nil {
			return complaint
		}
		return ""
	}
}

// judgeable reports whether a schema is at most depth levels deep and has no
// references. jsonschema-go folds the case of keywords.
func judgeable(schema any, depth int) bool {
	if depth < 0 {
		return false
	}
	switch schema := schema.(type) {
	case []any:
		for _, value := range schema {
			if !judgeable(value, depth-1) {
				return false
			}
		}
	case map[string]any:
		for keyword, value := range schema {
			if strings.EqualFold(keyword, "$ref") || strings.EqualFold(keyword, "$dynamicRef") || !judgeable(value, depth-1) {
				return false
			}
		}
	}
	return true
}

// A decimal is a JSON number, exactly and in one form: ±0.digits × 10^exponent
// with no zero at either end of the digits. Zero has no digits. Unlike a
// big.Rat it stays small whatever the exponent is.
type decimal struct {
	negative bool
	digits   string
	exponent int64
}

func parseDecimal(n json.Number) decimal {
	mantissa, power := n.String(), "0"
	if i := strings.IndexAny(mantissa, "eE"); i >= 0 {
		mantissa, power = mantissa[:i], mantissa[i+1:]
	}
	mantissa, negative := strings.CutPrefix(mantissa, "-")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	if digits == "" {
		return decimal{}
	}
	exponent, _ := strconv.ParseInt(power, 10, 32) // out of range is the end of the range
	exponent += int64(len(digits) - len(fraction))
	return decimal{negative, strings.TrimRight(digits, "0"), exponent}
}

// whole reports whether d has no fraction: 1.0 and 10e-1 are integers to JSON
// Schema.
func (d decimal) whole() bool { return int64(len(d.digits)) <= max(d.exponent, 0) }

func (d decimal) sign() int {
	switch {
	case d.digits == "":
		return 0
	case d.negative:
		return -1
	default:
		return 1
	}
}

func (d decimal) compare(e decimal) int {
	if c := cmp.Compare(d.sign(), e.sign()); c != 0 {
		return c
	}
	size := cmp.Or(cmp.Compare(d.exponent, e.exponent), strings.Compare(d.digits, e.digits))
	return size * d.sign()
}

// sampleVerdict judges a CreateMessageResult (sampling, "Result Fields"). Its
// content is one block or, from 2025-11-25, a list of them.
func sampleVerdict(answer map[string]json.RawMessage) string {
	if role, _ := jsonText(answer["role"]); role != "user" && role != "assistant" {
		return `"role" must be "user" or "assistant"`
	}
	if _, ok := jsonText(answer["model"]); !ok {
		return `"model" must be a string`
	}
	var blocks []json.RawMessage
	if json.Unmarshal(answer["content"], &blocks) != nil || blocks == nil {
		if complaint := blockComplaint(answer["content"]); complaint != "" {
			return `"content" ` + complaint
		}
	}
	for i, block := range blocks {
		if complaint := blockComplaint(block); complaint != "" {
			return fmt.Sprintf(`"content" entry %d %s`, i+1, complaint)
		}
	}
	return ""
}

// blockComplaint judges one SamplingMessageContentBlock.
func blockComplaint(raw json.RawMessage) string {
	block, ok := jsonObject(raw)
	if !ok {
		return "must be a content block"
	}
	switch kind, _ := jsonText(block["type"]); kind {
	case "text":
		return missingText(block, "text")
	case "image", "audio":
		if complaint := missingText(block, "data", "mimeType"); complaint != "" {
			return complaint
		}
		data, _ := jsonText(block["data"])
		if _, err := base64.StdEncoding.DecodeString(data); err != nil {
			return `must have base64 as "data"`
		}
	case "tool_use":
		if _, ok := jsonObject(block["input"]); !ok {
			return `must have an object as "input"`
		}
		return missingText(block, "id", "name")
	case "tool_result":
		var content []json.RawMessage
		if json.Unmarshal(block["content"], &content) != nil || content == nil {
			return `must have a list as "content"`
		}
		return missingText(block, "toolUseId")
	default:
		return `must have a "type" of "text", "image", "audio", "tool_use" or "tool_result"`
	}
	return ""
}

func missingText(object map[string]json.RawMessage, names ...string) string {
	for _, name := range names {
		if _, ok := jsonText(object[name]); !ok {
			return fmt.Sprintf("must have a string as %q", name)
		}
	}
	return ""
}

// rootsVerdict judges a ListRootsResult (roots, "Root").
func rootsVerdict(answer map[string]json.RawMessage) string {
	var roots []json.RawMessage
	if json.Unmarshal(answer["roots"], &roots) != nil || roots == nil {
		return `"roots" must be a list`
	}
	for i, raw := range roots {
		root, ok := jsonObject(raw)
		if !ok {
			return fmt.Sprintf(`"roots" entry %d must be an object`, i+1)
		}
		if uri, _ := jsonText(root["uri"]); !strings.HasPrefix(uri, "file://") {
			return fmt.Sprintf(`"roots" entry %d must have a "uri" that begins with file://`, i+1)
		}
		if name, ok := root["name"]; ok {
			if _, ok := jsonText(name); !ok {
				return fmt.Sprintf(`"roots" entry %d must have a string as "name"`, i+1)
			}
		}
	}
	return ""
}

// jsonObject is the members of a JSON object. Unlike a struct, a map tells
// keys apart that differ in case only.
func jsonObject(raw json.RawMessage) (map[string]json.RawMessage, bool) {
	var members map[string]json.RawMessage
	err := json.Unmarshal(raw, &members)
	return members, err == nil && members != nil
}

// jsonText is the text in a JSON string.
func jsonText(raw json.RawMessage) (string, bool) {
	var text *string
	if json.Unmarshal(raw, &text) != nil || text == nil {
		return "", false
	}
	return *text, true
}

// jsonTexts are the texts in a JSON list that has nothing else.
func jsonTexts(raw json.RawMessage) []string {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return nil
	}
	texts := make([]string, len(list))
	for i, entry := range list {
		var ok bool
		if texts[i], ok = jsonText(entry); !ok {
			return nil
		}
	}
	return texts
}

func isNull(raw json.RawMessage) bool { return string(bytes.TrimSpace(raw)) == "null" }

// decodeExact is a value that has been read as JSON before, with json.Number
// for numbers.
func decodeExact(raw json.RawMessage) any {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var value any
	if err := dec.Decode(&value); err != nil {
		panic(err)
	}
	return value
}

func pick(schema map[string]json.RawMessage, keywords ...string) map[string]json.RawMessage {
	picked := map[string]json.RawMessage{}
	for _, keyword := range keywords {
		if value, ok := schema[keyword]; ok {
			picked[keyword] = value
		}
	}
	return picked
}

func shownName(name string) string { return strconv.Quote(shorten(name, maxShownName)) }

// shorten cuts s to one line of at most max bytes and an ellipsis.
func shorten(s string, max int) string {
	s = oneLine(s)
	if len(s) <= max {
		return s
	}
	for max > 0 && !utf8.RuneStart(s[max]) {
		max--
	}
	return s[:max] + "…"
}
