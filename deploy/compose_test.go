// Package deploy_test checks the files of the distributed form, as far as that
// can be done without a container engine.
package deploy_test

import (
	"maps"
	"net"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"

	"github.com/longhaul-mcp/longhaul/task"
	"github.com/longhaul-mcp/longhaul/upstream"
)

func loadProject(t *testing.T) *types.Project {
	t.Helper()
	o, err := cli.NewProjectOptions([]string{"../docker-compose.yml"}, cli.WithWorkingDirectory(".."))
	if err != nil {
		t.Fatal(err)
	}
	p, err := o.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func service(t *testing.T, p *types.Project, name string) types.ServiceConfig {
	t.Helper()
	s, err := p.GetService(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestServices(t *testing.T) {
	p := loadProject(t)
	images := map[string]string{
		"postgres":           "postgres:16",
		"temporal-schema":    "temporalio/admin-tools:",
		"temporal":           "temporalio/server:",
		"temporal-namespace": "temporalio/admin-tools:",
		"temporal-ui":        "temporalio/ui:",
		"everything":         "node:",
		"api":                "longhaul:",
		"worker":             "longhaul:",
		"proxy":              "caddy:",
	}
	if got, want := p.ServiceNames(), slices.Sorted(maps.Keys(images)); !slices.Equal(got, want) {
		t.Fatalf("services %v, want %v", got, want)
	}
	for name, image := range images {
		s := service(t, p, name)
		if !strings.HasPrefix(s.Image, image) {
			t.Errorf("%s runs %s, want %s…", name, s.Image, image)
		}
		if _, tag, _ := strings.Cut(s.Image, ":"); s.Build == nil && !regexp.MustCompile(`^\d`).MatchString(tag) {
			t.Errorf("%s: the image %s is not pinned to a version", name, s.Image)
		}
	}
	for _, name := range []string{"api", "worker"} {
		if s := service(t, p, name); s.GetScale() != 2 {
			t.Errorf("%d × %s, want 2", s.GetScale(), name)
		}
	}
	if a, b := service(t, p, "temporal").Image, service(t, p, "temporal-schema").Image; tag(a) != tag(b) {
		t.Errorf("the schema of %s is for another server than %s", b, a)
	}
}

// What is too large is refused by Longhaul, in JSON-RPC, and not by the proxy.
func TestProxyTakesWhatLonghaulTakes(t *testing.T) {
	data, err := os.ReadFile("Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	size := regexp.MustCompile(`max_size (\d+)MiB`).FindSubmatch(data)
	if size == nil {
		t.Fatal("no max_size in MiB")
	}
	const request = task.MaxBytes + 1<<20 // api.Options.MaxBody
	if n, err := strconv.Atoi(string(size[1])); err != nil || n<<20 <= request {
		t.Errorf("the proxy takes %s MiB, Longhaul %d", size[1], request>>20)
	}
}

func tag(image string) string {
	_, tag, _ := strings.Cut(image, ":")
	return tag
}

func TestStartOrder(t *testing.T) {
	p := loadProject(t)
	t.Run("everything waited for reports that it is there", func(t *testing.T) {
		for name, s := range p.Services {
			for dependency, d := range s.DependsOn {
				on := service(t, p, dependency)
				ends := strings.HasPrefix(on.Restart, "on-failure")
				switch d.Condition {
				case types.ServiceConditionHealthy:
					if on.HealthCheck == nil || len(on.HealthCheck.Test) == 0 || on.HealthCheck.Disable {
						t.Errorf("%s waits for %s to be healthy, which has no health check", name, dependency)
					}
					if ends {
						t.Errorf("%s waits for %s to be healthy, which ends", name, dependency)
					}
				case types.ServiceConditionCompletedSuccessfully:
					if !ends {
						t.Errorf("%s waits for %s to end, which is restarted with %q", name, dependency, on.Restart)
					}
				default:
					t.Errorf("%s waits for %s to be %s, which says nothing", name, dependency, d.Condition)
				}
			}
		}
	})
	t.Run("every service that goes on has a health check", func(t *testing.T) {
		for name, s := range p.Services {
			if s.Restart == types.RestartPolicyUnlessStopped && s.HealthCheck == nil {
				t.Errorf("%s has none", name)
			}
		}
	})
	t.Run("from the database to the port", func(t *testing.T) {
		order := []string{"postgres", "temporal-schema", "temporal", "temporal-namespace", "api", "proxy"}
		for i, name := range order[1:] {
			if _, ok := service(t, p, name).DependsOn[order[i]]; !ok {
				t.Errorf("%s does not wait for %s", name, order[i])
			}
		}
		for _, name := range []string{"worker", "temporal-ui"} {
			if _, ok := service(t, p, name).DependsOn["temporal-namespace"]; !ok {
				t.Errorf("%s does not wait for the namespace", name)
			}
		}
	})
}

func TestPublishedOnLoopbackOnly(t *testing.T) {
	published := map[string]string{}
	for name, s := range loadProject(t).Services {
		if s.NetworkMode != "" {
			t.Errorf("%s has network mode %s", name, s.NetworkMode)
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes %s on %q", name, port.Published, port.HostIP)
			}
			published[port.Published] = name
		}
	}
	want := map[string]string{"8080": "proxy", "8233": "temporal-ui", "7233": "temporal"}
	if !maps.Equal(published, want) {
		t.Errorf("published %v, want %v", published, want)
	}
}

func TestFilesExist(t *testing.T) {
	p := loadProject(t)
	exists := func(path string) {
		t.Helper()
		if s, err := os.Stat(path); err != nil || !s.Mode().IsRegular() {
			t.Errorf("%s is not a file here (%v)", path, err)
		}
	}
	for _, c := range p.Configs {
		exists(c.File)
	}
	// Secrets are not in the repository; examples of them are.
	for _, s := range p.Secrets {
		exists(s.File + ".example")
	}
	for name, s := range p.Services {
		if s.Build != nil {
			exists(filepath.Join(s.Build.Context, s.Build.Dockerfile))
		}
		for _, c := range s.Configs {
			if _, ok := p.Configs[c.Source]; !ok {
				t.Errorf("%s has an unknown config %s", name, c.Source)
			}
		}
		for _, v := range s.Volumes {
			if _, ok := p.Volumes[v.Source]; v.Type != types.VolumeTypeVolume || !ok {
				t.Errorf("%s mounts %s %s, want a named volume", name, v.Type, v.Source)
			}
		}
	}
}

// The server's image is configured by the environment alone, by the template
// that is read here.
func TestTemporalServer(t *testing.T) {
	p := loadProject(t)
	s := service(t, p, "temporal")
	for key, value := range s.Environment {
		t.Setenv(key, *value)
	}
	c, err := config.Load(config.WithEmbedded())
	if err != nil {
		t.Fatal(err)
	}
	if n := c.Persistence.NumHistoryShards; n != 512 {
		t.Errorf("%d history shards", n)
	}
	for _, store := range []string{c.Persistence.DefaultStore, c.Persistence.VisibilityStore} {
		sql := c.Persistence.DataStores[store].SQL
		if sql == nil || sql.PluginName != "postgres12" || sql.ConnectAddr != "postgres:5432" {
			t.Errorf("store %s: %+v", store, sql)
		}
	}
	mounted := func(m types.ServiceConfigObjConfig) bool {
		return m.Source == "dynamicconfig" && m.Target == c.DynamicConfigClient.Filepath
	}
	if !slices.ContainsFunc(s.Configs, mounted) {
		t.Errorf("the dynamic configuration is not at %s", c.DynamicConfigClient.Filepath)
	}

	contents, err := os.ReadFile(p.Configs["dynamicconfig"].File)
	if err != nil {
		t.Fatal(err)
	}
	dynamic := dynamicconfig.LoadYamlFile(contents)
	for _, err := range slices.Concat(dynamic.Errors, dynamic.Warnings) {
		t.Errorf("dynamic configuration: %v", err)
	}
}

// Retention counts from a task's end, which may come at once, and its time to
// live from the start: a shorter retention would lose results early.
func TestRetentionCoversTimeToLive(t *testing.T) {
	const (
		maxTTL = 30 * 24 * time.Hour // api.Options.MaxTTL
		grace  = 5 * time.Minute     // engine.Options.Grace
	)
	retention, err := time.ParseDuration(*service(t, loadProject(t), "temporal-namespace").Environment["RETENTION"])
	if err != nil || retention < maxTTL+grace {
		t.Errorf("retention %s (%v), want at least %s", retention, err, maxTTL+grace)
	}
}

func TestLonghaulFindsTheOthers(t *testing.T) {
	p := loadProject(t)
	hostPort := func(t *testing.T, addr string) {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		service(t, p, host)
	}
	for _, name := range []string{"api", "worker"} {
		t.Run(name+" finds Temporal", func(t *testing.T) {
			for key, value := range service(t, p, name).Environment {
				t.Setenv(key, *value)
			}
			o, err := envconfig.LoadDefaultClientOptions()
			if err != nil {
				t.Fatal(err)
			}
			hostPort(t, o.HostPort)
			if want := *service(t, p, "temporal-namespace").Environment["TEMPORAL_NAMESPACE"]; o.Namespace != want {
				t.Errorf("namespace %q, want %q", o.Namespace, want)
			}
		})
	}
	t.Run("the MCP servers are there", func(t *testing.T) {
		data, err := os.ReadFile(p.Configs["mcp"].File)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := upstream.ParseConfig(strings.NewReader(string(data))); err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`"url": "([^"]+)"`).FindAllStringSubmatch(string(data), -1) {
			u, err := url.Parse(m[1])
			if err != nil {
				t.Fatal(err)
			}
			hostPort(t, u.Host)
			if port := *service(t, p, u.Hostname()).Environment["PORT"]; port != u.Port() {
				t.Errorf("%s listens on port %s, not %s", u.Hostname(), port, u.Port())
			}
		}
	})
	t.Run("the api processes share their key", func(t *testing.T) {
		s := service(t, p, "api")
		file, ok := flagValue(s.Command, "--key-file")
		shared := func(v types.ServiceVolumeConfig) bool { return v.Target == path.Dir(file) && !v.ReadOnly }
		if !ok || !slices.ContainsFunc(s.Volumes, shared) {
			t.Errorf("the key file %q is not on a volume", file)
		}
	})
	t.Run("the api processes find their tokens", func(t *testing.T) {
		s := service(t, p, "api")
		file, _ := flagValue(s.Command, "--tokens-file")
		if !slices.ContainsFunc(s.Secrets, func(s types.ServiceSecretConfig) bool { return "/run/secrets/"+s.Source == file }) {
			t.Errorf("%q is none of the secrets", file)
		}
	})
}

func flagValue(command []string, flag string) (string, bool) {
	for _, arg := range command {
		if value, ok := strings.CutPrefix(arg, flag+"="); ok {
			return value, true
		}
	}
	return "", false
}
