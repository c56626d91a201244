package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// maxLines is the length above which a file is more than one thing.
const maxLines = 600

// longer lists the files that are allowed to be longer, each with its reason.
var longer = map[string]string{
	"python/tests/host/test_hazards.py": "one test for each hazard of forking, which share their helpers",
}

// environment lists the files beside config and main that may read the environment, each with its reason.
var environment = map[string]string{
	"internal/worker/hosts.go":    "hands the worker's own environment on to the Python processes it starts",
	"internal/daghost/daghost.go": "finds an interpreter on PATH as exec would",

	"internal/device/smitest/smitest.go": "puts a program before the PATH of a test",
}

// forbidden are calls with the places where they are right.
var forbidden = []struct {
	pkg   string
	names []string
	where func(file string, synctest bool) bool // true: forbidden there
	why   string
}{
	{"os", []string{"Getenv", "LookupEnv", "Environ", "ExpandEnv"}, func(file string, _ bool) bool {
		return !isTest(file) && !strings.HasPrefix(file, "internal/config/") && !strings.HasPrefix(file, "cmd/") &&
			!strings.HasPrefix(file, "test/") && environment[file] == ""
	}, "only internal/config and main read the environment"},
	{"time", []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "LoadLocation"}, func(file string, _ bool) bool {
		return strings.HasPrefix(file, "internal/core/") && !isTest(file)
	}, "core takes the time as an argument"},
	{"time", []string{"Sleep"}, func(file string, synctest bool) bool {
		return isTest(file) && !synctest
	}, "a test waits for what it waits for, not for a while; in a synctest bubble sleeping is virtual"},
	{"os", []string{"Exit"}, func(file string, _ bool) bool {
		return !isTest(file) && !strings.HasPrefix(file, "cmd/") && !strings.HasPrefix(file, "test/") && !strings.HasPrefix(file, "bench/")
	}, "only main ends the process"},
	{"slog", []string{"Info", "Warn", "Error", "Debug", "Default", "SetDefault"}, func(file string, _ bool) bool {
		return !isTest(file) && !strings.HasPrefix(file, "cmd/")
	}, "the logger is passed in"},
}

func isTest(file string) bool { return strings.HasSuffix(file, "_test.go") }

// files calls visit for every Go file of the repository, parsed.
func files(t *testing.T, visit func(name string, set *token.FileSet, file *ast.File)) {
	t.Helper()
	dir := root(t)
	n := 0
	walk(t, dir, ".go", func(name string) {
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, filepath.Join(dir, name), nil, parser.ParseComments)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		n++
		visit(name, set, file)
	})
	if n == 0 {
		t.Error("no Go file was found")
	}
}

// walk lists the repository's own files with a suffix, without hidden folders and what packages bring.
func walk(t *testing.T, dir, suffix string, visit func(name string)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && path != dir && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "testdata" || name == "demo-home") {
			return filepath.SkipDir
		}
		if !entry.IsDir() && strings.HasSuffix(name, suffix) {
			relative, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			visit(filepath.ToSlash(relative))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestForbiddenCallsAreNotMade(t *testing.T) {
	used := map[string]bool{}
	files(t, func(name string, set *token.FileSet, file *ast.File) {
		synctest := false
		imported := map[string]bool{}
		for _, spec := range file.Imports {
			path := strings.Trim(spec.Path.Value, `"`)
			synctest = synctest || path == "testing/synctest"
			if spec.Name == nil {
				imported[path[strings.LastIndexByte(path, '/')+1:]] = true
			}
		}
		ast.Inspect(file, func(node ast.Node) bool {
			selector, ok := node.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			from, ok := selector.X.(*ast.Ident)
			if !ok || !imported[from.Name] {
				return true
			}
			for _, rule := range forbidden {
				for _, call := range rule.names {
					if from.Name != rule.pkg || selector.Sel.Name != call {
						continue
					}
					if rule.where(name, synctest) {
						t.Errorf("%s: %s.%s: %s", set.Position(node.Pos()), rule.pkg, call, rule.why)
					} else if rule.pkg == "os" {
						used[name] = true
					}
				}
			}
			return true
		})
	})
	for name := range environment {
		if !used[name] {
			t.Errorf("%s is allowed to read the environment and does not: take it off the list", name)
		}
	}
}

func TestNothingHappensAtImport(t *testing.T) {
	files(t, func(name string, set *token.FileSet, file *ast.File) {
		for _, declaration := range file.Decls {
			if f, ok := declaration.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s: an init function: wire things where they are made", set.Position(f.Pos()))
			}
		}
	})
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	comments := map[string]string{}
	files(t, func(name string, _ *token.FileSet, file *ast.File) {
		if !isTest(name) {
			comments[filepath.Dir(name)] += file.Doc.Text()
		}
	})
	for folder, comment := range comments {
		if len(strings.Fields(comment)) < 8 {
			t.Errorf("%s has no package comment that says what it is for: %q", folder, comment)
		}
	}
}

func TestFilesStayReadable(t *testing.T) {
	dir := root(t)
	seen := map[string]bool{}
	for _, suffix := range []string{".go", ".py"} {
		walk(t, dir, suffix, func(name string) {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Count(string(text), "\n")
			seen[name] = lines > maxLines
			if lines > maxLines && longer[name] == "" {
				t.Errorf("%s has %d lines, more than %d: what are the two things in it?", name, lines, maxLines)
			}
		})
	}
	for name := range longer {
		if !seen[name] {
			t.Errorf("%s is not longer than %d lines: take it off the list", name, maxLines)
		}
	}
}
