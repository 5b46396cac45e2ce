package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestImage builds what the Dockerfile builds, but for the host.
func TestImage(t *testing.T) {
	dockerfile, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	build := regexp.MustCompile(`go build -tags (\S+) -trimpath -ldflags "([^"]+)" -o \S+ (\S+)\n`).FindStringSubmatch(string(dockerfile))
	if build == nil {
		t.Fatal("the Dockerfile has no go build that this test knows")
	}
	tags, ldflags, pkg := build[1], strings.ReplaceAll(build[2], "$VERSION", "v1.2.3"), build[3]

	t.Run("is built without the embedded Temporal", func(t *testing.T) {
		for dep := range strings.Lines(run(t, "go", "list", "-deps", "-tags", tags, pkg)) {
			for _, engine := range []string{"go.temporal.io/server", "github.com/temporalio/ui-server", "modernc.org/sqlite"} {
				if strings.HasPrefix(dep, engine) {
					t.Errorf("%s is linked in", strings.TrimSpace(dep))
				}
			}
		}
	})

	longhaul := filepath.Join(t.TempDir(), "longhaul")
	run(t, "go", "build", "-tags", tags, "-ldflags", ldflags, "-o", longhaul, pkg)

	t.Run("knows its version", func(t *testing.T) {
		if out := run(t, longhaul, "version"); !strings.Contains(out, "v1.2.3") {
			t.Errorf("it says %q", out)
		}
	})

	// With --help a command checks its flags and does nothing.
	parses := func(args ...string) error {
		return exec.Command(longhaul, append(args, "--help")...).Run()
	}
	t.Run("understands the commands it is given", func(t *testing.T) {
		if parses("api", "--no-such-flag") == nil {
			t.Fatal("a flag that does not exist was accepted")
		}
		for name, s := range loadProject(t).Services {
			if s.Build == nil {
				continue
			}
			if err := parses(s.Command...); err != nil {
				t.Errorf("%s: %q: %v", name, s.Command, err)
			}
			check := s.HealthCheck.Test
			if check[0] != "CMD" || !strings.Contains(string(dockerfile), `ENTRYPOINT ["`+check[1]+`"]`) {
				t.Fatalf("%s: the health check %q does not run the image's program", name, check)
			}
			if err := parses(check[2:]...); err != nil {
				t.Errorf("%s: %q: %v", name, check, err)
			}
		}
	})
	t.Run("checks its health", func(t *testing.T) {
		if !regexp.MustCompile(`HEALTHCHECK [^\n]*\\\n\s+CMD \["/usr/local/bin/longhaul", "healthcheck"\]`).Match(dockerfile) {
			t.Error("the Dockerfile does not say so")
		}
	})
	t.Run("runs as nobody in particular", func(t *testing.T) {
		if !regexp.MustCompile(`(?m)^USER [1-9]\d*:[1-9]\d*$`).Match(dockerfile) {
			t.Error("the Dockerfile has no numeric USER")
		}
	})
}

func TestScriptsAreShell(t *testing.T) {
	scripts, err := filepath.Glob("temporal/*.sh")
	if err != nil || len(scripts) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, script := range scripts {
		// -n: read, do not run.
		if out, err := exec.Command("sh", "-n", script).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", script, err, out)
		}
	}
}

// run runs a program in the root of the repository and returns what it prints.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = ".."
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
