package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/longhaul-mcp/longhaul/task"
)

// Bounds on what is shown of a call in Temporal's Web UI, in bytes as encoded.
// Temporal refuses a start whose summary is above 400 or whose details are
// above 20,000.
const (
	maxSummary = 256
	maxDetails = 8 << 10
	// maxMarkdown bounds a summary with all escaped that is markdown.
	maxMarkdown = 390
	// maxKeyword is what a search attribute may take: SQL databases hold 255
	// characters.
	maxKeyword = 240
	// maxDescribed is how much of the arguments is looked at.
	maxDescribed = 256 << 10
	// maxShownValue is how many characters of one argument go into a summary.
	maxShownValue = 40
)

// secretKey matches the names of arguments whose values are not shown.
var secretKey = regexp.MustCompile(`(?i)token|passw|passphrase|secret|key|authorization|credential`)

const masked = `"***"`

// describeCall words a call for Temporal's Web UI: one line such as
// deploy(env=prod), and a text in markdown with all arguments.
func describeCall(c task.Card, args json.RawMessage) (summary, details string) {
	shown, whole := maskArguments(args)
	return summarize(c.Tool, shown, whole), detail(c, shown, whole)
}

// markdownLine is a line for where Temporal reads markdown: file_a, file_b
// would be in italics there.
func markdownLine(line string) string {
	escaped := markdownEscapes.Replace(line)
	if cut := clipEncoded(escaped, maxMarkdown); cut != escaped {
		return strings.TrimRight(cut, `\`) + "…"
	}
	return escaped
}

var markdownEscapes = strings.NewReplacer(`\`, `\\`, "`", "\\`", `*`, `\*`, `_`, `\_`, `[`, `\[`, `<`, `\<`, `~`, `\~`)

func summarize(tool string, args []byte, whole bool) string {
	var parts []string
	dec := json.NewDecoder(bytes.NewReader(args))
	if open, err := dec.Token(); err == nil && open == json.Delim('{') {
		for dec.More() {
			key, err := dec.Token()
			if err != nil {
				break
			}
			var value json.RawMessage
			if err := dec.Decode(&value); err != nil {
				break
			}
			parts = append(parts, fmt.Sprintf("%s=%s", key, shownValue(value)))
		}
	}
	if !whole {
		parts = append(parts, "…")
	}
	line := oneLine(fmt.Sprintf("%s(%s)", tool, strings.Join(parts, ", ")))
	if cut := clipEncoded(line, maxSummary); cut != line {
		return cut + "…)"
	}
	return line
}

// shownValue is a string as it is and any other value as JSON, shortened.
func shownValue(value json.RawMessage) string {
	text := string(value)
	var s string
	if json.Unmarshal(value, &s) == nil {
		text = s
	}
	n := 0
	for i := range text {
		if n++; n > maxShownValue {
			return text[:i] + "…"
		}
	}
	return text
}

func detail(c task.Card, args []byte, whole bool) string {
	var body bytes.Buffer
	if !whole || json.Indent(&body, args, "", "  ") != nil {
		body.Reset()
		body.Write(args)
	}
	text := clipEncoded(body.String(), maxDetails)
	if !whole || len(text) < body.Len() {
		text += "…"
	}
	// No line of JSON begins with a backtick, so the fence holds.
	return fmt.Sprintf("**%s**, for the owner `%s`, until %s\n\n```json\n%s\n```",
		oneLine(c.Tool), c.OwnerHash, c.CreatedAt.Add(c.TTL()).Format(time.RFC3339), text)
}

// maskArguments is the arguments in compact JSON, in their own order, without
// the values of secret keys, and whether that is all of them: it stops when it
// has more than can be shown.
func maskArguments(args json.RawMessage) (shown []byte, whole bool) {
	if len(args) == 0 {
		return []byte("{}"), true
	}
	// The decoder takes a value into memory before it can be left out.
	dec := json.NewDecoder(bytes.NewReader(args[:min(len(args), maxDescribed)]))
	dec.UseNumber()
	var b bytes.Buffer
	err := writeMasked(&b, dec)
	return b.Bytes(), err == nil
}

var errEnough = errors.New("more than can be shown")

func writeMasked(b *bytes.Buffer, dec *json.Decoder) error {
	if b.Len() > maxDetails {
		return errEnough
	}
	token, err := dec.Token()
	if err != nil {
		return err
	}
	open, ok := token.(json.Delim)
	if !ok {
		return writeJSON(b, token)
	}
	b.WriteRune(rune(open))
	for n := 0; dec.More(); n++ {
		if n > 0 {
			b.WriteByte(',')
		}
		if open == '{' {
			key, err := dec.Token()
			if err != nil {
				return err
			}
			if err := writeJSON(b, key); err != nil {
				return err
			}
			b.WriteByte(':')
			if name, _ := key.(string); secretKey.MatchString(name) {
				var skipped json.RawMessage
				if err := dec.Decode(&skipped); err != nil {
					return err
				}
				b.WriteString(masked)
				continue
			}
		}
		if err := writeMasked(b, dec); err != nil {
			return err
		}
	}
	end, err := dec.Token()
	if err != nil {
		return err
	}
	fmt.Fprint(b, end)
	return nil
}

// writeJSON writes one scalar without escaping what only HTML needs escaped.
func writeJSON(w io.Writer, v any) error {
	var one bytes.Buffer
	enc := json.NewEncoder(&one)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(bytes.TrimRight(one.Bytes(), "\n"))
	return err
}

// oneLine replaces whatever would break a line or move the cursor.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, s)
}

// clipEncoded is the longest beginning of s that takes at most max bytes as a
// JSON string.
func clipEncoded(s string, max int) string {
	size := 2 // the quotes
	for i, r := range s {
		encoded, err := json.Marshal(string(r))
		if err != nil {
			return s[:i]
		}
		if size += len(encoded) - 2; size > max {
			return s[:i]
		}
	}
	return s
}
