package s3claims_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/longhaul-mcp/longhaul/claims"
	"github.com/longhaul-mcp/longhaul/claims/s3claims"
	"github.com/longhaul-mcp/longhaul/internal/storetest"
	"github.com/longhaul-mcp/longhaul/task"
)

// startS3 runs versitygw, an S3 server on a directory, with the empty bucket
// "bucket". What is in the bucket is in the returned directory.
func startS3(t *testing.T) (endpoint, bucket string) {
	t.Helper()
	program, err := exec.LookPath("versitygw")
	if err != nil {
		const how = `versitygw is not in PATH: "go install github.com/versity/versitygw/cmd/versitygw@v1.8.0"`
		if os.Getenv("LONGHAUL_REQUIRE_S3") != "" {
			t.Fatal(how)
		}
		t.Skip(how)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "longhaul")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "a-secret-of-tests")
	t.Setenv("AWS_REGION", "us-east-1")
	root := t.TempDir()
	bucket = filepath.Join(root, "bucket")
	if err := os.Mkdir(bucket, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close() // It cannot choose a port itself.

	var log bytes.Buffer
	cmd := exec.Command(program, "--access", "longhaul", "--secret", "a-secret-of-tests", "--port", addr, "--quiet", "posix", "--nometa", root)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s", &log)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if resp, err := http.Get("http://" + addr); err == nil {
			resp.Body.Close()
			return "http://" + addr, bucket
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("versitygw does not answer")
		}
	}
}

func TestStore(t *testing.T) {
	endpoint, bucket := startS3(t)
	s, err := s3claims.Open(t.Context(), "s3://bucket/some/prefix?endpoint="+endpoint, "namespace")
	if err != nil {
		t.Fatal(err)
	}
	storetest.Run(t, s, func(t *testing.T, set task.ClaimSet, c task.Claim, data []byte) {
		name, err := claims.SetName(set)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(bucket, "some", "prefix", "namespace", name, c.SHA256)
		if data == nil {
			err = os.Remove(file)
		} else {
			err = os.WriteFile(file, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	})

	t.Run("is away without its server", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		_, err = s3claims.Open(t.Context(), "s3://bucket?endpoint=http://"+l.Addr().String(), "")
		wantText(t, err, "is the endpoint right and reachable?")
	})

	t.Run("says what is wrong when it is opened", func(t *testing.T) {
		_, err := s3claims.Open(t.Context(), "s3://other-bucket?endpoint="+endpoint, "")
		wantText(t, err, "create it first")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
		_, err = s3claims.Open(t.Context(), "s3://bucket?endpoint="+endpoint, "")
		wantText(t, err, "AWS_ACCESS_KEY_ID")
	})

	t.Run("without its bucket nothing is missing", func(t *testing.T) {
		set := task.ClaimSet{TaskID: "task", CreatedAt: time.Now()}
		c, err := s.Put(t.Context(), set, []byte("data"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(bucket, bucket+"-away"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(t.Context(), set, c); err == nil || errors.Is(err, task.ErrClaimMissing) {
			t.Errorf("got %v", err)
		}
	})
}

func TestURLs(t *testing.T) {
	for rawURL, want := range map[string]string{
		"https://bucket":                         "s3://bucket/prefix",
		"s3://":                                  "s3://bucket/prefix",
		"s3://key:hunter2@bucket":                "credentials do not belong",
		"s3://bucket?secret=hunter2":             `"secret" in its URL`,
		"s3://bucket?endpoint=ftp://host":        "its endpoint must be",
		"s3://bucket?endpoint=https://host/path": "its endpoint must be",
	} {
		_, err := s3claims.Open(t.Context(), rawURL, "")
		wantText(t, err, want)
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("a secret: %v", err)
		}
	}
}

func wantText(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got error %v, want %q", err, want)
	}
}
