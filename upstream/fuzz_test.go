package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"

	"github.com/longhaul-mcp/longhaul/task"
)

// Servers are programs of others, and so are the files that list them. The
// corpora under testdata are checked by every go test. To search on:
//
//	go test -run '^$' -fuzz FuzzLines -fuzztime 10m ./upstream
//
// and likewise FuzzEvents and FuzzConfig.

// watched is a tap during a tools/call with the ID 1 and the progress token t.
type watched struct {
	tap      *tap
	exchange *exchange
	progress []float64
}

func newWatched(t *testing.T) *watched {
	id, err := jsonrpc.MakeID(float64(1))
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{tap: &tap{}}
	w.exchange = &exchange{
		method: methodCall, token: "t", ctx: t.Context(), completed: func(string) {},
		progress: func(p task.Progress, _ json.RawMessage) { w.progress = append(w.progress, p.Progress) },
	}
	w.tap.begin(w.exchange)
	call := &jsonrpc.Request{ID: id, Method: methodCall, Params: json.RawMessage(`{}`)}
	w.tap.sending(call)
	w.tap.sent(call)
	return w
}

// check looks at what the tap has made of messages, of which those that the SDK
// is to have are delivered.
func (w *watched) check(t *testing.T, sent, delivered []jsonrpc.Message) {
	t.Helper()
	for i := 1; i < len(w.progress); i++ {
		if w.progress[i] < w.progress[i-1] {
			t.Fatalf("the progress is %v", w.progress)
		}
	}
	if len(sent) != len(delivered) {
		t.Fatalf("%d messages became %d", len(sent), len(delivered))
	}
	var answered bool
	for i := range sent {
		if r, ok := sent[i].(*jsonrpc.Response); ok {
			answered = answered || r.ID == w.exchange.id
		}
		req, ok := sent[i].(*jsonrpc.Request)
		if !ok || !req.IsCall() || !isAsking(req.Method) {
			if !same(t, sent[i], delivered[i]) {
				t.Fatalf("%s became %s", encoded(t, sent[i]), encoded(t, delivered[i]))
			}
			continue
		}
		// Its params are with the tap.
		marked, ok := delivered[i].(*jsonrpc.Request)
		var p struct {
			Meta map[string]any `json:"_meta"`
		}
		if !ok || marked.ID != req.ID || marked.Method != req.Method || json.Unmarshal(marked.Params, &p) != nil {
			t.Fatalf("%s became %s", encoded(t, req), encoded(t, delivered[i]))
		}
		asked, done, ok := w.tap.unmark(p.Meta)
		if !ok || !bytes.Equal(asked.params, req.Params) {
			t.Fatalf("the params %q came back as %q", req.Params, asked.params)
		}
		done()
		if _, _, again := w.tap.unmark(p.Meta); again {
			t.Fatal("the params can be had twice")
		}
	}
	if w.exchange.answered != answered {
		t.Fatalf("the call was answered: %v, want %v", w.exchange.answered, answered)
	}
	w.tap.end()
}

func encoded(t *testing.T, msg jsonrpc.Message) []byte {
	t.Helper()
	data, err := jsonrpc.EncodeMessage(msg)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func same(t *testing.T, a, b jsonrpc.Message) bool {
	t.Helper()
	return bytes.Equal(encoded(t, a), encoded(t, b))
}

// pipe is the standard input and output of a server that only prints.
type pipe struct{ io.Reader }

func (pipe) Write(p []byte) (int, error) { return len(p), nil }
func (pipe) Close() error                { return nil }

// FuzzLines reads what a command prints: message by message up to the first
// line that is none, which the error shows, in bounds.
func FuzzLines(f *testing.F) {
	f.Fuzz(func(t *testing.T, output []byte) {
		var sent []jsonrpc.Message
		stray := false
		lines := bytes.SplitAfter(output, []byte("\n"))
		for i, line := range lines {
			if line = bytes.TrimSpace(line); len(line) == 0 {
				continue
			}
			msg, err := jsonrpc.DecodeMessage(line)
			if err != nil {
				stray = i < len(lines)-1 // the last may be torn
				break
			}
			sent = append(sent, msg)
		}
		for _, reader := range []io.Reader{bytes.NewReader(output), iotest.OneByteReader(bytes.NewReader(output))} {
			w := newWatched(t)
			conn := newLineConn(pipe{reader}, w.tap)
			var delivered []jsonrpc.Message
			var err error
			for {
				var msg jsonrpc.Message
				if msg, err = conn.Read(context.Background()); err != nil {
					break
				}
				delivered = append(delivered, msg)
			}
			var shown *strayError
			if errors.As(err, &shown) != stray || !stray && err != io.EOF { //nolint:errorlint // it is io.EOF itself
				t.Fatalf("reading ends with %v, stray: %v", err, stray)
			}
			if words := err.Error(); len(words) > 2<<10 || !utf8.ValidString(words) || strings.ContainsAny(words, "\n\r") {
				t.Fatalf("the error is %q", words)
			}
			w.check(t, sent, delivered)
		}
	})
}

// FuzzEvents reads a stream of events, in pieces of any size. What the tap has
// no part in is handed on as it came.
func FuzzEvents(f *testing.F) {
	f.Fuzz(func(t *testing.T, stream []byte) {
		sent := messagesIn(stream)
		asks := slices.ContainsFunc(sent, func(msg jsonrpc.Message) bool {
			req, ok := msg.(*jsonrpc.Request)
			return ok && req.IsCall() && isAsking(req.Method)
		})
		var first []byte
		for i, reader := range []io.Reader{bytes.NewReader(stream), iotest.OneByteReader(bytes.NewReader(stream)), iotest.DataErrReader(bytes.NewReader(stream))} {
			w := newWatched(t)
			b := &tappedBody{ReadCloser: io.NopCloser(reader), tap: w.tap, release: func() {}}
			b.feed, b.end = b.feedEvents, b.endEvents
			out, err := io.ReadAll(b)
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				first = out
			} else if !bytes.Equal(out, first) {
				t.Fatalf("in other pieces it is handed on as %q, not %q", out, first)
			}
			if !asks && !bytes.Equal(bytes.TrimSuffix(out, []byte("\n")), bytes.TrimSuffix(stream, []byte("\n"))) {
				t.Fatalf("it was changed to %q", out)
			}
			if want, got := otherLines(stream), otherLines(out); !slices.Equal(got, want) {
				t.Fatalf("the lines beside the data are %q, want %q", got, want)
			}
			w.check(t, sent, messagesIn(out))
		}
	})
}

// otherLines are the lines of a stream that hold no data, comments among them.
func otherLines(stream []byte) (lines []string) {
	for line := range strings.SplitSeq(string(stream), "\n") {
		line = strings.TrimRight(line, "\r")
		if name, _, _ := strings.Cut(line, ":"); line != "" && name != "data" {
			lines = append(lines, line)
		}
	}
	return lines
}

// messagesIn are the messages in a stream of events.
func messagesIn(stream []byte) (messages []jsonrpc.Message) {
	var event string
	var data []string
	dispatch := func() {
		if event == "" || event == "message" {
			if msg, err := jsonrpc.DecodeMessage([]byte(strings.Join(data, "\n"))); err == nil {
				messages = append(messages, msg)
			}
		}
		event, data = "", nil
	}
	for line := range strings.SplitSeq(string(stream), "\n") {
		line = strings.TrimRight(line, "\r")
		name, value, _ := strings.Cut(line, ":")
		switch {
		case line == "":
			dispatch()
		case name == "event":
			event = strings.TrimSpace(value)
		case name == "data" && (len(data) > 0 || strings.TrimSpace(value) != ""):
			data = append(data, strings.TrimSpace(value))
		}
	}
	dispatch()
	return messages
}

// planted is put at the end of every text in a configuration, but for its
// names: no error repeats it.
const planted = "s3cret-7f3a91"

// FuzzConfig reads any file. Errors do not repeat values, and what has a setting
// twice is refused.
func FuzzConfig(f *testing.F) {
	for name := range map[string]bool{"TOKEN": true, "KEY": true} {
		f.Setenv(name, planted)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		c, err := ParseConfig(bytes.NewReader(file))
		if err != nil && strings.Contains(err.Error(), planted) && !bytes.Contains(file, []byte(planted)) {
			t.Fatalf("the error repeats a variable: %v", err)
		}
		if err == nil {
			if !json.Valid(file) {
				t.Fatalf("%q is not JSON, but was read", file)
			}
			names := map[string]bool{}
			for _, s := range c.Servers {
				if names[s.Name] {
					t.Fatalf("two servers are called %q", s.Name)
				}
				names[s.Name] = true
				if checkProtocol(s.Protocol) != nil {
					t.Fatalf("%q has the protocol %q", s.Name, s.Protocol)
				}
			}
			for name, o := range c.Tools {
				if o.Timeout < 0 {
					t.Fatalf("%q has the timeout %s", name, o.Timeout)
				}
			}
		}
		var members any
		if json.Unmarshal(file, &members) != nil || bytes.Contains(file, []byte(planted)) {
			return
		}
		secret, marshalErr := json.Marshal(plant(members))
		if marshalErr != nil {
			t.Fatal(marshalErr)
		}
		if _, err := ParseConfig(bytes.NewReader(secret)); err != nil && strings.Contains(err.Error(), planted) {
			t.Fatalf("the error on %s repeats a value: %v", secret, err)
		}
	})
}

// plant returns the value with the planted words in every text but those that
// the settings choose among.
func plant(value any) any {
	switch value := value.(type) {
	case string:
		return value + planted
	case []any:
		for i := range value {
			value[i] = plant(value[i])
		}
	case map[string]any:
		for name, member := range value {
			if name != "type" && name != "protocol" {
				value[name] = plant(member)
			}
		}
	}
	return value
}
