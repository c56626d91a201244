package archtest

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "ostro.dev/ostro/"

// A layer says what the packages under a path may import from this module. The first layer whose path fits a package
// decides. A path ending in "." stands for that package alone, without those below it.
type layer struct {
	path string
	may  []string
	why  string
}

// contracts are the packages that say what an adapter must do. Services see these, never an implementation.
var contracts = []string{"internal/core", "protocol.", "internal/store.", "internal/executor.", "internal/workerapi."}

var layers = []layer{
	{"internal/core", []string{"internal/core"}, "core is pure"},
	{"protocol", []string{"internal/core/dag"}, "the wire carries the DAG model and nothing else of ours"},
	{"sdk", []string{"protocol"}, "authors must not inherit the server"},
	{"python", nil, "it only embeds the Python runtime"},

	{"internal/store/storetest", []string{"internal/core", "protocol.", "internal/store"}, "the conformance suite"},
	{"internal/store/sqlite", []string{"internal/core"}, "an engine knows SQL, not the store built on it"},
	{"internal/store/postgres", []string{"internal/core"}, "an engine knows SQL, not the store built on it"},
	{"internal/store", []string{"internal/core", "protocol.", "internal/store"}, "adapters know core and one technology"},
	{"internal/executor.", []string{"internal/core", "protocol."}, "the contract of executors"},
	{"internal/executor", []string{"internal/core", "protocol.", "internal/executor.", "internal/workerapi."}, "adapters do not import each other"},
	{"internal/workerapi", []string{"internal/core", "protocol.", "internal/executor."}, "the contract between server and worker"},
	{"internal/daghost", []string{"internal/core", "protocol."}, "adapters do not import each other"},
	{"internal/secret", []string{"internal/core"}, "adapters do not import each other"},
	{"internal/devs3", []string{"internal/core"}, "adapters do not import each other"},
	{"internal/artifact", []string{"internal/core"}, "adapters do not import each other"},
	{"internal/device", []string{"internal/core"}, "adapters do not import each other"},
	{"internal/notify", []string{"internal/core"}, "adapters do not import each other"},
	{"internal/auth", []string{"internal/core"}, "adapters do not import each other"},
	{"internal/config", []string{"protocol.", "internal/core/spelling"}, "settings know nothing of what they are for"},

	{"internal/worker", append([]string{"internal/worker", "internal/daghost", "internal/device", "internal/secret"}, contracts...), "the worker owns hosts, pipes and masking, and looks at the GPUs"},
	{"internal/taskapi", append([]string{"internal/taskapi", "internal/secret", "internal/scheduler"}, contracts...), "what a task may ask of the server"},
	{"internal/scheduler", append([]string{"internal/scheduler"}, contracts...), "services see contracts only"},
	{"internal/bundle", append([]string{"internal/bundle"}, contracts...), "services see contracts only"},
	{"internal/tracking", append([]string{"internal/tracking"}, contracts...), "services see contracts only"},
	{"internal/alert", append([]string{"internal/alert"}, contracts...), "services see contracts only"},

	{"internal/api/v2/wire", []string{"internal/api/v2/wire"}, "client and server share it"},
	{"internal/api", append([]string{"internal/api", "internal/scheduler", "internal/taskapi", "internal/tracking", "internal/bundle", "internal/auth", "internal/secret"}, contracts...), "delivery: services and contracts"},
	{"internal/client", []string{"internal/client", "internal/api/v2/wire"}, "the client reaches the server over HTTP only"},
	{"internal/metrics", append([]string{"internal/metrics"}, contracts...), "delivery: services and contracts"},
	{"internal/app", []string{""}, "the composition root"},
	{"internal/cli", []string{"internal/cli", "internal/app", "internal/client", "internal/config", "internal/api/v2/wire", "internal/core", "protocol.", "internal/store."}, "commands call the app or the client"},
	{"cmd", []string{"internal/cli", "internal/config"}, "main is nothing but the call"},

	{"internal/archtest", nil, "tests only"},
	{"internal/simtest", []string{""}, "the whole program, simulated"},
	{"test", []string{""}, "the whole program, for real"},
	{"bench", nil, "a client like any other"},
	{"examples", []string{""}, "a test runs every example"},
}

// owners are the technologies that stay behind one seam.
var owners = []struct {
	technology string
	packages   []string
	testsToo   bool // the rule counts for test files as well
}{
	{"database/sql", []string{"internal/store"}, false},
	{"modernc.org/", []string{"internal/store/sqlite"}, false},
	{"github.com/pressly/goose", []string{"internal/store"}, false},
	{"github.com/jackc/pgx", []string{"internal/store"}, false},
	{"k8s.io/", []string{"internal/executor/kubernetes"}, false},
	{"gocloud.dev/", []string{"internal/artifact"}, false},
	{"github.com/aws/", []string{"internal/artifact"}, false},
	{"cloud.google.com/", []string{"internal/artifact"}, false},
	{"github.com/rclone/gofakes3", []string{"internal/devs3"}, true},
	{"github.com/danielgtaylor/huma", []string{"internal/api"}, false},
	{"github.com/spf13/", []string{"internal/cli"}, false},
	{"golang.org/x/term", []string{"internal/cli"}, false},
	{"go.yaml.in/yaml", []string{"internal/config", "internal/cli"}, false},
	{"github.com/prometheus/", []string{"internal/metrics"}, false},
	// Libraries for tests must not end up in the binary.
	{"testing", []string{"internal/store/storetest", "internal/executor/executortest", "internal/device/smitest", "internal/simtest", "test"}, false},
	{"github.com/google/go-cmp", []string{"internal/store/storetest", "internal/executor/executortest", "internal/simtest", "test"}, false},
	{"pgregory.net/rapid", []string{"internal/store/storetest", "internal/executor/executortest", "internal/simtest", "test"}, false},
	{"go.uber.org/goleak", []string{"internal/store/storetest", "internal/executor/executortest", "internal/simtest", "test"}, false},
	{"github.com/rogpeppe/go-internal", []string{"test"}, false},
	{"github.com/robfig/cron", nil, false},
	// What we do not want anywhere.
	{"github.com/stretchr/testify", nil, true},
	{"github.com/spf13/viper", nil, true},
	{"github.com/golang/mock", nil, true},
	{"log", nil, true},
	{"io/ioutil", nil, true},
}

// impure are the parts of the standard library that core must do without.
var impure = []string{"context", "os", "net", "log", "database/sql", "syscall", "io/fs", "embed", "plugin", "runtime/debug", "math/rand"}

type pkg struct {
	ImportPath, Dir, Doc               string
	Imports, TestImports, XTestImports []string
}

func (p pkg) path() string { return strings.TrimPrefix(p.ImportPath, module) }

// packages asks the go command for the module's packages.
func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("read go list: %v", err)
		}
		all = append(all, p)
	}
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// under says whether a package is meant by a path of the tables above.
func under(pkg, path string) bool {
	if alone, ok := strings.CutSuffix(path, "."); ok {
		return pkg == alone
	}
	return path == "" || pkg == path || strings.HasPrefix(pkg, path+"/")
}

func TestPackagesImportOnlyWhatTheirLayerMay(t *testing.T) {
	for _, p := range packages(t) {
		var rule *layer
		for i := range layers {
			if under(p.path(), layers[i].path) {
				rule = &layers[i]
				break
			}
		}
		if rule == nil {
			t.Errorf("%s belongs to no layer: say in internal/archtest what it may import", p.path())
			continue
		}
	imports:
		for _, imported := range p.Imports {
			target, ours := strings.CutPrefix(imported, module)
			if !ours {
				continue
			}
			for _, allowed := range rule.may {
				if under(target, allowed) {
					continue imports
				}
			}
			t.Errorf("%s imports %s: %s", p.path(), target, rule.why)
		}
	}
}

func TestTechnologiesStayBehindTheirSeam(t *testing.T) {
	for _, p := range packages(t) {
		for _, owner := range owners {
			imports := p.Imports
			if owner.testsToo {
				imports = append(append(append([]string(nil), imports...), p.TestImports...), p.XTestImports...)
			}
			for _, imported := range imports {
				name := strings.TrimSuffix(owner.technology, "/")
				if imported != name && !strings.HasPrefix(imported, name+"/") || imported == "log/slog" {
					continue
				}
				allowed := false
				for _, path := range owner.packages {
					allowed = allowed || under(p.path(), path)
				}
				if !allowed {
					t.Errorf("%s imports %s, which belongs to %v alone", p.path(), imported, owner.packages)
				}
			}
		}
	}
}

func TestCoreUsesThePurePartOfTheStandardLibraryOnly(t *testing.T) {
	found := false
	for _, p := range packages(t) {
		if !under(p.path(), "internal/core") {
			continue
		}
		found = true
		for _, imported := range p.Imports {
			if strings.HasPrefix(imported, module) {
				continue // the layers say which
			}
			if first, _, _ := strings.Cut(imported, "/"); strings.Contains(first, ".") {
				t.Errorf("%s imports %s: core uses the standard library only", p.path(), imported)
			}
			for _, bad := range impure {
				if imported == bad || strings.HasPrefix(imported, bad+"/") && imported != "net/url" {
					t.Errorf("%s imports %s: core does no I/O, takes no context and does not log", p.path(), imported)
				}
			}
		}
	}
	if !found {
		t.Error("there is no core")
	}
}
