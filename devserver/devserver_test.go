package devserver

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/longhaul-mcp/longhaul/internal/enginereg"
	"github.com/longhaul-mcp/longhaul/internal/temporalserver"
)

// childDir, set in the environment, makes the test binary a server on that directory until killed.
const childDir = "DEVSERVER_TEST_CHILD_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		s, err := Start(context.Background(), Options{DataDir: dir, TemporalAddr: "127.0.0.1:0"})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(s.TemporalAddr())
		select {}
	}
	os.Exit(m.Run())
}

// child is a server in a process of its own.
type child struct {
	*exec.Cmd
	addr string
}

func startChild(t *testing.T, dir string) *child {
	t.Helper()
	c := &child{Cmd: exec.Command(os.Args[0])}
	c.Env = append(os.Environ(), childDir+"="+dir)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	c.addr = strings.TrimSpace(line)
	if _, _, err := net.SplitHostPort(c.addr); err != nil {
		t.Fatalf("child did not start: %s", c.addr)
	}
	return c
}

// kill is kill -9.
func (c *child) kill() {
	_ = c.Process.Kill()
	_ = c.Wait()
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// setup starts a server on free ports.
func setup(t *testing.T, o Options) *Server {
	t.Helper()
	if o.DataDir == "" {
		o.DataDir = t.TempDir()
	}
	if o.TemporalAddr == "" {
		o.TemporalAddr = "127.0.0.1:0"
	}
	s, err := Start(testContext(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func dial(t *testing.T, addr string) client.Client {
	t.Helper()
	c, err := client.DialContext(testContext(t), client.Options{HostPort: addr, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func startWorkflow(t *testing.T, c client.Client, id string) {
	t.Helper()
	_, err := c.ExecuteWorkflow(testContext(t), client.StartWorkflowOptions{ID: id, TaskQueue: "nobody"}, "Anything")
	if err != nil {
		t.Fatal(err)
	}
}

func wantRunning(t *testing.T, c client.Client, id string) {
	t.Helper()
	d, err := c.DescribeWorkflowExecution(testContext(t), id, "")
	if err != nil {
		t.Fatalf("describe %s: %v", id, err)
	}
	if got := d.WorkflowExecutionInfo.Status; got != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		t.Errorf("%s is %s, want running", id, got)
	}
}

func TestRetentionIsRaised(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ asked, want time.Duration }{
		{36 * time.Hour, 36 * time.Hour}, {72 * time.Hour, 72 * time.Hour}, {36 * time.Hour, 72 * time.Hour},
	} {
		s := setup(t, Options{DataDir: dir, Retention: c.asked})
		n, err := dial(t, s.TemporalAddr()).WorkflowService().DescribeNamespace(testContext(t),
			&workflowservice.DescribeNamespaceRequest{Namespace: "default"})
		if err != nil {
			t.Fatal(err)
		}
		if got := n.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration(); got != c.want {
			t.Errorf("asked for %v: %v, want %v", c.asked, got, c.want)
		}
		s.Stop()
	}
}

func TestNewDatabase(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not yet", "50% there?")
	s := setup(t, Options{
		DataDir:   dir,
		Retention: 36 * time.Hour,
		SearchAttributes: map[string]enumspb.IndexedValueType{
			"McpTool":      enumspb.INDEXED_VALUE_TYPE_KEYWORD,
			"McpOwner":     enumspb.INDEXED_VALUE_TYPE_KEYWORD,
			"McpExpiresAt": enumspb.INDEXED_VALUE_TYPE_DATETIME,
		},
	})
	ctx, c := testContext(t), dial(t, s.TemporalAddr())

	t.Run("lies in a directory of the user's own", func(t *testing.T) {
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o700 {
			t.Errorf("mode %o, want 700", info.Mode().Perm())
		}
		if _, err := os.Stat(filepath.Join(dir, databaseName)); err != nil {
			t.Error(err)
		}
	})
	t.Run("has the namespace with its retention", func(t *testing.T) {
		n, err := c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: "default"})
		if err != nil {
			t.Fatal(err)
		}
		if got := n.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration(); got != 36*time.Hour {
			t.Errorf("retention %v", got)
		}
	})
	t.Run("has the search attributes and finds workflows by them", func(t *testing.T) {
		sa, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: "default"})
		if err != nil {
			t.Fatal(err)
		}
		if got := sa.GetCustomAttributes()["McpExpiresAt"]; got != enumspb.INDEXED_VALUE_TYPE_DATETIME {
			t.Errorf("McpExpiresAt is %s", got)
		}
		_, err = c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
			ID: "found", TaskQueue: "nobody",
			TypedSearchAttributes: temporal.NewSearchAttributes(temporal.NewSearchAttributeKeyKeyword("McpTool").ValueSet("deploy")),
		}, "Anything")
		if err != nil {
			t.Fatal(err)
		}
		for { // visibility is written a moment after the reply
			list, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: "McpTool = 'deploy'"})
			if err != nil {
				t.Fatal(err)
			}
			if len(list.GetExecutions()) == 1 {
				break
			}
		}
	})
	t.Run("is in WAL mode", func(t *testing.T) {
		if _, err := os.Stat(filepath.Join(dir, databaseName+"-wal")); err != nil {
			t.Error(err)
		}
	})
}

func TestAnotherNamespace(t *testing.T) {
	s := setup(t, Options{Namespace: "longhaul"})
	_, err := client.DialContext(testContext(t), client.Options{HostPort: s.TemporalAddr(), Namespace: "longhaul"})
	if err != nil {
		t.Error(err)
	}
}

// The first call after Start must work; there is no retry here.
func TestReadyMeansReady(t *testing.T) {
	dir := t.TempDir()
	for range 3 {
		s := setup(t, Options{DataDir: dir})
		c := dial(t, s.TemporalAddr())
		startWorkflow(t, c, s.TemporalAddr())
		c.Close()
		s.Stop()
	}
}

func TestRestartInTheSameProcess(t *testing.T) {
	dir := t.TempDir()
	s := setup(t, Options{DataDir: dir, UIAddr: "127.0.0.1:0"})
	startWorkflow(t, dial(t, s.TemporalAddr()), "before")
	s.Stop()
	s.Stop()

	t.Run("keeps the data", func(t *testing.T) {
		s := setup(t, Options{DataDir: dir, TemporalAddr: s.TemporalAddr(), UIAddr: strings.TrimPrefix(s.UIURL(), "http://")})
		defer s.Stop()
		wantRunning(t, dial(t, s.TemporalAddr()), "before")
	})
	t.Run("starts empty when the directory was removed", func(t *testing.T) {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		s := setup(t, Options{DataDir: dir})
		_, err := dial(t, s.TemporalAddr()).DescribeWorkflowExecution(testContext(t), "before", "")
		var notFound *serviceerror.NotFound
		if !errors.As(err, &notFound) {
			t.Errorf("err = %v, want not found", err)
		}
		if _, err := os.Stat(filepath.Join(dir, databaseName)); err != nil {
			t.Error(err)
		}
	})
}

func TestKill9(t *testing.T) {
	dir := t.TempDir()
	var ids []string
	for round := range 3 {
		c := startChild(t, dir)
		temporalClient := dial(t, c.addr)
		for n := range 20 {
			id := fmt.Sprintf("round-%d-%d", round, n)
			startWorkflow(t, temporalClient, id)
			ids = append(ids, id)
		}
		c.kill()
	}
	c := dial(t, setup(t, Options{DataDir: dir}).TemporalAddr())
	for _, id := range ids {
		wantRunning(t, c, id)
	}
}

func TestDataDirectoryInUse(t *testing.T) {
	dir := t.TempDir()
	c := startChild(t, dir)
	_, err := Start(testContext(t), Options{DataDir: dir, TemporalAddr: "127.0.0.1:0"})
	wantLine(t, err, dir, "in use", strconv.Itoa(c.Process.Pid))

	c.kill()
	s := setup(t, Options{DataDir: dir})
	_, err = Start(testContext(t), Options{DataDir: dir, TemporalAddr: "127.0.0.1:0"})
	wantLine(t, err, dir, "in use", strconv.Itoa(os.Getpid()))
	s.Stop()
	setup(t, Options{DataDir: dir})
}

func TestAddresses(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	taken := lis.Addr().String()

	for _, test := range []struct {
		name, temporal, ui string
		listener           enginereg.Listener
		want               []string
	}{
		{"Temporal port taken", taken, "", enginereg.ListenerTemporal, []string{"Temporal", taken, "in use"}},
		{"UI port taken", "127.0.0.1:0", taken, enginereg.ListenerUI, []string{"UI", taken, "in use"}},
		{"Temporal for all the world", "0.0.0.0:0", "", enginereg.ListenerTemporal, []string{"0.0.0.0:0", "loopback"}},
		{"Temporal on every interface", ":0", "", enginereg.ListenerTemporal, []string{"loopback"}},
		{"UI for all the world", "127.0.0.1:0", "[::]:0", enginereg.ListenerUI, []string{"[::]:0", "loopback"}},
		{"no port", "127.0.0.1", "", enginereg.ListenerTemporal, []string{"127.0.0.1", "port"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := Start(testContext(t), Options{DataDir: dir, TemporalAddr: test.temporal, UIAddr: test.ui})
			wantLine(t, err, test.want...)
			var addrErr *enginereg.AddrError
			if !errors.As(err, &addrErr) || addrErr.Listener != test.listener {
				t.Errorf("%#v is not about %s", err, test.listener)
			}
			if _, err := os.Stat(filepath.Join(dir, databaseName)); err == nil {
				t.Error("a database was created all the same")
			}
		})
	}
}

func wantLine(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if strings.ContainsRune(err.Error(), '\n') {
		t.Errorf("more than one line: %q", err)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not mention %q", err, part)
		}
	}
}

func TestDamagedDatabase(t *testing.T) {
	// A process that was killed leaves a log to recover, so a check that ignored or changed the log
	// would show.
	source := t.TempDir()
	c := startChild(t, source)
	startWorkflow(t, dial(t, c.addr), "before")
	c.kill()

	edit := func(change func([]byte) []byte) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, change(b), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	execute := func(statement string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			db, err := open(path, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if _, err := db.Exec(statement); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, path string)
	}{
		{"text", edit(func([]byte) []byte { return []byte("this is no database, whatever its name says\n") })},
		{"empty", edit(func([]byte) []byte { return nil })},
		{"half of it", edit(func(b []byte) []byte { return b[:len(b)/2] })},
		{"its last page cut", edit(func(b []byte) []byte { return b[:len(b)-100] })},
		{"overwritten in the middle", edit(func(b []byte) []byte {
			copy(b[len(b)/2:], bytes.Repeat([]byte("garbage!"), 1024))
			return b
		})},
		{"a missing table", execute("DROP TABLE timer_tasks")},
		{"a column too many", execute("ALTER TABLE executions ADD COLUMN surprise INT")},
		{"a missing index", execute("DROP INDEX by_status")},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(source)); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, databaseName)
			test.damage(t, path)
			before := contents(t, path)
			_, err := Start(testContext(t), Options{DataDir: dir, TemporalAddr: "127.0.0.1:0"})
			wantLine(t, err, path, "damaged", "left as it is")
			for name, data := range contents(t, path) {
				if !bytes.Equal(before[name], data) {
					t.Errorf("%s was changed", name)
				}
			}
		})
	}

	t.Run("whose log alone is left", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(source)); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, databaseName)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		_, err := Start(testContext(t), Options{DataDir: dir, TemporalAddr: "127.0.0.1:0"})
		wantLine(t, err, path, "missing", databaseName+"-wal")
		if _, err := os.Stat(path); err == nil {
			t.Error("a database was created all the same")
		}
	})
	t.Run("is not one that was only killed", func(t *testing.T) {
		if wal := contents(t, filepath.Join(source, databaseName))["-wal"]; len(wal) == 0 {
			t.Fatal("no log to recover, so this shows nothing")
		}
		s := setup(t, Options{DataDir: source})
		wantRunning(t, dial(t, s.TemporalAddr()), "before")
	})
}

// contents reads a database and its log, by suffix.
func contents(t *testing.T, path string) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(path + suffix)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		files[suffix] = b
	}
	return files
}

// A crash while the database is created must not stop the next start.
func TestUnfinishedDatabaseIsReplaced(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, databaseName+".new"), []byte("half a database"), 0o600); err != nil {
		t.Fatal(err)
	}
	setup(t, Options{DataDir: dir})
	if _, err := os.Stat(filepath.Join(dir, databaseName+".new")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the unfinished file is still there: %v", err)
	}
}

func TestStartGivesUpWithItsContext(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"on a new database", "on an old one"} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_, err := Start(ctx, Options{DataDir: dir, TemporalAddr: "127.0.0.1:0"})
			wantLine(t, err)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("err = %v, want canceled", err)
			}
			setup(t, Options{DataDir: dir}).Stop() // the directory is free again
		})
	}
}

// Temporal logs a fatal line, which would end the process, if it cannot open one of its ports. Where
// that may be another one, it is started with another one.
func TestPortIsTakenMeanwhile(t *testing.T) {
	free := func() string {
		ports, err := temporalserver.ReservePorts("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ports.Release()
		return ports.Frontend()
	}
	t.Run("any other will do", func(t *testing.T) {
		s, err := startTaken(t, "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Stop()
		dial(t, s.Addr())
	})
	t.Run("it has to be that one", func(t *testing.T) {
		_, err := startTaken(t, free())
		wantLine(t, err, "already in use")
	})
}

// startTaken starts Temporal when the port of its frontend has just been taken.
func startTaken(t *testing.T, frontend string) (*temporalserver.Server, error) {
	t.Helper()
	path, err := prepareDatabase(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	store, err := sqlConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	ports, err := temporalserver.ReservePorts(frontend)
	if err != nil {
		t.Fatal(err)
	}
	ports.Release()
	lis, err := net.Listen("tcp", ports.Frontend())
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	o, err := withDefaults(Options{DataDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := temporalserver.CreateNamespace(store, o); err != nil {
		t.Fatal(err)
	}
	return temporalserver.Start(t.Context(), temporalserver.Options{
		Ports: ports, Store: store, Visibility: store, Shards: 1, Namespace: o.Namespace, Logger: o.Logger,
	})
}

func TestLogIsQuiet(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo}))
	dir := t.TempDir()
	for range 2 {
		s := setup(t, Options{DataDir: dir, UIAddr: "127.0.0.1:0", Logger: log})
		runWorkflow(t, dial(t, s.TemporalAddr()))
		s.Stop()
	}
	if out.Len() > 0 {
		t.Errorf("a run without trouble logged:\n%s", &out)
	}
}

func runWorkflow(t *testing.T, c client.Client) {
	t.Helper()
	w := worker.New(c, "queue", worker.Options{})
	w.RegisterWorkflowWithOptions(func(workflow.Context) (string, error) { return "done", nil }, workflow.RegisterOptions{Name: "Quick"})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	run, err := c.ExecuteWorkflow(testContext(t), client.StartWorkflowOptions{TaskQueue: "queue"}, "Quick")
	if err != nil {
		t.Fatal(err)
	}
	var result string
	if err := run.Get(testContext(t), &result); err != nil || result != "done" {
		t.Fatalf("result %q, %v", result, err)
	}
}

// An activity that never heartbeats can only hear of its cancellation if the server pushes it.
func TestActivityCancellationIsPushed(t *testing.T) {
	c := dial(t, setup(t, Options{}).TemporalAddr())
	running := make(chan struct{})
	w := worker.New(c, "queue", worker.Options{})
	w.RegisterActivityWithOptions(func(ctx context.Context) error {
		close(running)
		<-ctx.Done()
		return ctx.Err()
	}, activity.RegisterOptions{Name: "Silent"})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
			StartToCloseTimeout: time.Hour,
			HeartbeatTimeout:    time.Hour,
			WaitForCancellation: true,
			RetryPolicy:         &temporal.RetryPolicy{MaximumAttempts: 1},
		})
		return workflow.ExecuteActivity(ctx, "Silent").Get(ctx, nil)
	}, workflow.RegisterOptions{Name: "Waits"})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	defer w.Stop()

	ctx := testContext(t)
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{TaskQueue: "queue"}, "Waits")
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-running:
	case <-ctx.Done():
		t.Fatal("the activity did not start")
	}
	if err := c.CancelWorkflow(ctx, run.GetID(), ""); err != nil {
		t.Fatal(err)
	}
	var canceled *temporal.CanceledError
	if err := run.Get(ctx, nil); !errors.As(err, &canceled) {
		t.Errorf("err = %v, want canceled", err)
	}
}

func TestUI(t *testing.T) {
	s := setup(t, Options{UIAddr: "localhost:0", Namespace: "longhaul", UIColumns: []string{"Status", "</script>"}})
	c, err := client.DialContext(testContext(t), client.Options{HostPort: s.TemporalAddr(), Namespace: "longhaul"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	startWorkflow(t, c, "shown")

	request := func(t *testing.T, method, path string, header map[string]string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(testContext(t), method, s.UIURL()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range header {
			req.Header.Set(k, v)
		}
		req.Host = header["Host"]
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(body)
	}
	want := func(t *testing.T, status int, part, method, path string, header map[string]string) {
		t.Helper()
		resp, body := request(t, method, path, header)
		if resp.StatusCode != status || !strings.Contains(body, part) {
			t.Errorf("%s %s: %s, %.200s", method, path, resp.Status, body)
		}
		if h := resp.Header.Get("Access-Control-Allow-Origin"); h != "" {
			t.Errorf("%s %s allows origin %s", method, path, h)
		}
	}

	t.Run("sets the columns of the list, before the policy that forbids scripts", func(t *testing.T) {
		_, page := request(t, "GET", "/namespaces/longhaul/workflows", nil)
		set := strings.Index(page, `localStorage["namespace-workflow-table-columns"] ??= "{\"longhaul\":[{\"label\":\"Status\"},{\"label\":\"\\u003c/script\\u003e\"}]}"`)
		policy := strings.Index(page, `http-equiv="content-security-policy"`)
		if set < 0 || policy < set {
			t.Errorf("columns are set at %d, the policy is at %d: %.900s", set, policy, page)
		}
	})
	t.Run("serves its page on every path", func(t *testing.T) {
		want(t, 200, "<html", "GET", "/", nil)
		want(t, 200, "<html", "GET", "/namespaces/longhaul/workflows", nil)
		want(t, 200, "", "GET", "/favicon.ico", nil)
	})
	t.Run("knows the namespace and asks nobody outside", func(t *testing.T) {
		_, body := request(t, "GET", "/api/v1/settings", nil)
		for _, part := range []string{`"DefaultNamespace":"longhaul"`, `"DisableNewsFetch":true`,
			`"NotifyOnNewVersion":false`, `"ShowTemporalSystemNamespace":false`} {
			if !strings.Contains(body, part) {
				t.Errorf("settings have no %s: %s", part, body)
			}
		}
		want(t, 200, `"Releases":{}`, "GET", "/api/v1/releases", nil)
	})
	t.Run("reads Temporal", func(t *testing.T) {
		want(t, 200, `"shown"`, "GET", "/api/v1/namespaces/longhaul/workflows/shown", nil)
	})
	t.Run("refuses other hosts and sites", func(t *testing.T) {
		want(t, 403, "", "GET", "/api/v1/settings", map[string]string{"Host": "rebound.example:8233"})
		want(t, 403, "", "POST", "/api/v1/namespaces/longhaul/workflows/shown/terminate", map[string]string{
			"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"})
		want(t, 200, "", "GET", "/api/v1/settings", map[string]string{"Origin": "https://evil.example"})
		wantRunning(t, c, "shown")
	})
	t.Run("ends with the server", func(t *testing.T) {
		s.Stop()
		if conn, err := net.Dial("tcp", strings.TrimPrefix(s.UIURL(), "http://")); err == nil {
			conn.Close()
			t.Error("still listening")
		}
	})
}

func TestImportingRegisters(t *testing.T) {
	e, err := enginereg.Start(testContext(t), Options{DataDir: t.TempDir(), TemporalAddr: "127.0.0.1:0", UIAddr: enginereg.UIOff})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Stop()
	if e.UIURL() != "" {
		t.Errorf("UI at %s although it is off", e.UIURL())
	}
	startWorkflow(t, dial(t, e.TemporalAddr()), "any")
}
