package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/longhaul-mcp/longhaul/api"
)

// benchServer is set in the environment of a process that serves a benchmark.
const benchServer = "LONGHAUL_BENCH_SERVER"

// serveBench serves the front over tasks in memory, until its input ends. It
// prints its address, and for every line it reads the CPU time it has used.
func serveBench() int {
	tasks := &memory{}
	tasks.reset()
	// As in production, what is at debug level is not logged.
	logger := slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelInfo}))
	front, err := api.New(api.Options{Tasks: tasks, Catalogue: memoryTools{}, Key: key, Logger: logger})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	server := &http.Server{Handler: front.Handler(), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	fmt.Println(l.Addr())
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var used syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
			return 1
		}
		fmt.Println(used.Utime.Nano() + used.Stime.Nano())
	}
	return 0
}

// BenchmarkTasksGet is what tasks/get costs the front alone: over loopback
// HTTP, of a server with one core, in a process of its own.
func BenchmarkTasksGet(b *testing.B) {
	cmd := exec.CommandContext(context.WithoutCancel(b.Context()), os.Args[0])
	cmd.Env = append(os.Environ(), benchServer+"=1", "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		stdin.Close()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(stdout)
	ask := func() string {
		if !lines.Scan() {
			b.Fatal("the server is gone")
		}
		return lines.Text()
	}
	addr := ask()
	cpu := func() time.Duration {
		fmt.Fprintln(stdin)
		ns, err := strconv.ParseInt(ask(), 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		return time.Duration(ns)
	}
	url := "http://" + addr + "/mcp"
	const get = `{"jsonrpc":"2.0","id":7,"method":"tasks/get","params":{"taskId":"works"%s}}`
	const modernMeta = `,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",` +
		`"io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"},` +
		`"io.modelcontextprotocol/clientCapabilities":{"elicitation":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}}`
	requests := map[string][]byte{
		"2025": rawRequest(b, url, headers("Mcp-Session-Id", openSession(b, url), "Mcp-Protocol-Version", "2025-11-25"), fmt.Sprintf(get, "")),
		"2026": rawRequest(b, url, headers("Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "tasks/get", "Mcp-Name", "works"), fmt.Sprintf(get, modernMeta)),
	}
	for _, wire := range []string{"2025", "2026"} {
		for _, clients := range []int{8, 64} {
			b.Run(fmt.Sprintf("%s/clients=%d", wire, clients), func(b *testing.B) {
				before := cpu()
				hammer(b, addr, clients, requests[wire])
				b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "server-µs/op")
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
			})
		}
	}
}

func openSession(b *testing.B, url string) string {
	b.Helper()
	body := `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"elicitation":{}},"clientInfo":{"name":"bench","version":"1"}}}`
	r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	r.Header = headers()
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		b.Fatal(err)
	}
	res.Body.Close()
	return res.Header.Get("Mcp-Session-Id")
}

// rawRequest is a request as it goes over the wire.
func rawRequest(b *testing.B, url string, header http.Header, body string) []byte {
	b.Helper()
	r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	r.Header = header
	var raw bytes.Buffer
	if err := r.Write(&raw); err != nil {
		b.Fatal(err)
	}
	return raw.Bytes()
}

// hammer sends the request b.N times from a number of clients, which cost as
// little as they can.
func hammer(b *testing.B, addr string, clients int, request []byte) {
	var conns []net.Conn
	for range clients {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	var running sync.WaitGroup
	b.ResetTimer()
	for _, c := range conns {
		running.Go(func() {
			in := bufio.NewReader(c)
			for left.Add(-1) >= 0 {
				if _, err := c.Write(request); err != nil {
					b.Error(err)
					return
				}
				if err := readReply(in); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	running.Wait()
}

// readReply reads a response with the status of a running task.
func readReply(in *bufio.Reader) error {
	length := 0
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
		if len(line) == len("\r\n") {
			break
		}
	}
	body, err := in.Peek(length)
	if err != nil {
		return err
	}
	if !bytes.Contains(body, []byte(`"status":"working"`)) || !json.Valid(body) {
		return fmt.Errorf("got %q", body)
	}
	_, err = in.Discard(length)
	return err
}
