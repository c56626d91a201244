package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/protocol"
)

func load(t *testing.T, o LoadOptions) Config {
	t.Helper()
	if o.Environ == nil {
		o.Environ = []string{"HOME=" + t.TempDir()}
	}
	c, err := Load(o)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return c
}

func TestGoodFilesLoad(t *testing.T) {
	files, err := filepath.Glob("testdata/*.good.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no good files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { load(t, LoadOptions{File: file}) })
	}
}

func TestBadFilesSayWhatIsWrongAndWhere(t *testing.T) {
	files, err := filepath.Glob("testdata/*.bad.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no bad files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Load(LoadOptions{File: file, Environ: []string{"HOME=" + t.TempDir()}})
			if err == nil {
				t.Fatal("loaded without an error")
			}
			for line := range strings.Lines(string(text)) {
				if want, ok := strings.CutPrefix(strings.TrimSpace(line), "# error: "); ok && !strings.Contains(err.Error(), want) {
					t.Errorf("error lacks %q:\n%v", want, err)
				}
			}
		})
	}
}

func TestTheExampleFileLoadsAndNamesEveryKeyWithItsDefault(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, FileName), []byte(Example), 0o600); err != nil {
		t.Fatal(err)
	}
	got := load(t, LoadOptions{Home: dir, Environ: []string{"PATH="}})
	optional := map[string]bool{"tasks.retry_delay_override": true}
	for _, key := range Keys() {
		name := key[strings.LastIndexByte(key, '.')+1:]
		if got.Origins[key] != FromFile && !(optional[key] && strings.Contains(Example, "# "+name+":")) {
			t.Errorf("the example lacks %s", key)
		}
	}
	want := load(t, LoadOptions{Home: dir, File: "testdata/empty.good.yaml", Environ: []string{"PATH="}})
	want.File, want.Images = got.File, got.Images // shown there with values worth copying
	want.Origins = got.Origins
	no := false
	want.Scheduler.CatchupByDefault = &no
	if got.Tasks.Env != nil && len(got.Tasks.Env) == 0 {
		want.Tasks.Env = got.Tasks.Env
	}
	got.Lines = want.Lines // of one file alone
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the example's values differ from the defaults (-default +example):\n%s", diff)
	}
}

func TestDefaultsNeedNoFile(t *testing.T) {
	home := t.TempDir()
	got := load(t, LoadOptions{Environ: []string{"HOME=" + home, "PATH="}})
	if got.Home != home+"/.ostro" || got.DAGs != home+"/.ostro/dags" || got.Port != 8080 || got.BaseURL != "http://127.0.0.1:8080" {
		t.Errorf("home %s, dags %s, port %d, base URL %s", got.Home, got.DAGs, got.Port, got.BaseURL)
	}
	if got.Python != "python3" || !*got.S3.Dev {
		t.Errorf("python %s, devs3 %v", got.Python, *got.S3.Dev)
	}
}

func TestFlagsOverrideEnvironmentOverridesFile(t *testing.T) {
	home := t.TempDir()
	text := "port: 1\nhost: localhost\ndags: here\nscheduler: {parallelism: 3}\n"
	if err := os.WriteFile(filepath.Join(home, FileName), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	port := 3
	got := load(t, LoadOptions{Home: home, Port: &port, Environ: []string{
		"OSTRO_PORT=2", "OSTRO_HOST=::1", "OSTRO_TASKS_DEFAULT_RETRY_DELAY=7s", "OSTRO_TASKS_ENV={A: b}",
		"OSTRO_HOSTS_MEMORY=2GiB", "OSTRO_ATTEMPT_ID=018f", "OSTRO_TASK_FD=3", "OSTRO_SOMETHING_ELSE=1", "VIRTUAL_ENV=/venv",
	}})
	if got.Port != 3 || got.Host != "::1" || got.Scheduler.Parallelism != 3 || got.DAGs != home+"/here" {
		t.Errorf("port %d, host %s, parallelism %d, dags %s", got.Port, got.Host, got.Scheduler.Parallelism, got.DAGs)
	}
	if got.Tasks.DefaultRetryDelay != 7*time.Second || got.Tasks.Env["A"] != "b" || got.Hosts.Memory != 2<<30 {
		t.Errorf("retry delay %s, env %v, memory %d", got.Tasks.DefaultRetryDelay, got.Tasks.Env, got.Hosts.Memory)
	}
	if got.Python != "/venv/bin/python" || got.BaseURL != "http://[::1]:3" {
		t.Errorf("python %s, base URL %s", got.Python, got.BaseURL)
	}
	want := map[string]string{"port": FromFlag, "host": FromEnv, "dags": FromFile, "compat": FromDefault}
	for key, origin := range want {
		if got.Origins[key] != origin {
			t.Errorf("%s comes from %s, want %s", key, got.Origins[key], origin)
		}
	}
}

func TestAMisspeltVariableIsAnError(t *testing.T) {
	for env, want := range map[string]string{
		"OSTRO_PROT=1":                  "OSTRO_PROT is not a setting; did you mean OSTRO_PORT?",
		"OSTRO_SCHEDULER_PARALELISM=1":  "did you mean OSTRO_SCHEDULER_PARALLELISM?",
		"OSTRO_TASK_DEFAULT_RETRIES=1":  "did you mean OSTRO_TASKS_DEFAULT_RETRIES?",
		"OSTRO_PARALELLISM=1":           "OSTRO_PARALELLISM is not a setting; did you mean OSTRO_SCHEDULER_PARALLELISM?",
		"OSTRO_TIMEOUT=1s":              "did you mean OSTRO_PARSING_TIMEOUT?",
		"OSTRO_HOMES=/x":                "did you mean OSTRO_HOME?",
		"OSTRO_PORT=many":               `OSTRO_PORT: expected a whole number, found "many"`,
		"OSTRO_TASKS_KILL_GRACE=10":     "expected a duration",
		"OSTRO_SCHEDULER_PARALLELISM=0": "scheduler.parallelism: 0 is less than 1 (from OSTRO_SCHEDULER_PARALLELISM)",
	} {
		_, err := Load(LoadOptions{Home: t.TempDir(), Environ: []string{env}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", env, err, want)
		}
	}
}

func TestAVariableThatMayBeSomebodyElsesIsAWarning(t *testing.T) {
	got := load(t, LoadOptions{Home: t.TempDir(), Environ: []string{"OSTRO_SERVICE_HOST=10.0.0.1", "OSTRO_VAR_env=x", "OSTRO_XCOM_PATH=/x", "OSTRO_ENV=prod"}})
	want := []string{
		"environment variable OSTRO_ENV is not a setting and has no effect",
		"environment variable OSTRO_SERVICE_HOST is not a setting and has no effect",
		"environment variable OSTRO_VAR_env is not a setting and has no effect; it is AIRFLOW_VAR_env, as in Airflow",
	}
	if diff := cmp.Diff(want, got.Warnings); diff != "" {
		t.Error(diff)
	}
}

func TestWhatAConfigurationNamesMustBeThere(t *testing.T) {
	home := t.TempDir()
	for _, dir := range []string{"my-dags", "train"} {
		if err := os.Mkdir(filepath.Join(home, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	python := "python: " + os.Args[0] + "\n" // a program, at least
	for text, want := range map[string]string{
		"python: /nonexistent/python":                            "python: there is no program /nonexistent/python (in " + home + "/ostro.yaml:1)",
		"python: no-such-python":                                 "python: there is no program no-such-python on PATH (in ",
		"python: ./train":                                        "train cannot be run: is a directory",
		python + "dags: my-dag":                                  "dags: there is no folder " + home + "/my-dag; did you mean " + home + "/my-dags? (in " + home + "/ostro.yaml:2)",
		python + "dags: my-dag/deep":                             "did you mean " + home + "/my-dags?",
		python + "dags: ostro.yaml":                              home + "/ostro.yaml is not a folder",
		python + "dags: dags":                                    "",
		python + "dags: my-dags":                                 "",
		python + "images: {'a:*': {dir: trian}}":                 "images.a:*.dir: there is no folder " + home + "/trian; did you mean " + home + "/train? (in ",
		python + "images: {'a:*': {dir: train, python: ./none}}": "images.a:*.python: there is no program " + home + "/none (in ",
		python + "images: {'a:*': {dir: train}}":                 "",
	} {
		if err := os.WriteFile(filepath.Join(home, FileName), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		err := load(t, LoadOptions{Home: home, Environ: []string{"PATH=/usr/bin"}}).Check()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s\nerror %v, want %q", text, err, want)
		}
	}
}

func TestPathsOfAFileAreRelativeToItsFolder(t *testing.T) {
	here, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	got := load(t, LoadOptions{File: "testdata/images.good.yaml"})
	want := map[string]protocol.ImageSettings{
		"ml-pipeline:*": {Dir: here + "/train", Python: here + "/venv/bin/python", Env: map[string]string{"A": "1"}},
		"gpu":           {Dir: "/opt/gpu", Python: "python3.11"},
	}
	if diff := cmp.Diff(want, got.Images); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	if got.Parsing.Memory != 512<<20 || *got.Tasks.RetryDelayOverride != time.Second {
		t.Errorf("memory %d, retry delay override %s", got.Parsing.Memory, *got.Tasks.RetryDelayOverride)
	}
}

func TestANamedFileMustExist(t *testing.T) {
	for _, o := range []LoadOptions{{File: "missing.yaml", Environ: []string{"HOME=/x"}}, {Environ: []string{"HOME=/x", "OSTRO_CONFIG=missing.yaml"}}} {
		if _, err := Load(o); err == nil || !strings.Contains(err.Error(), "missing.yaml") {
			t.Errorf("Load(%+v): %v", o, err)
		}
	}
}

func TestARealS3KeepsTheDevelopmentOneAway(t *testing.T) {
	for _, env := range []string{"AWS_ENDPOINT_URL=http://s3", "AWS_ACCESS_KEY_ID=k", "OSTRO_S3_ENDPOINT=http://s3"} {
		if got := load(t, LoadOptions{Home: t.TempDir(), Environ: []string{env}}); *got.S3.Dev {
			t.Errorf("devs3 starts beside %s", env)
		}
	}
	if got := load(t, LoadOptions{Home: t.TempDir(), Environ: []string{"AWS_ACCESS_KEY_ID=k", "OSTRO_S3_DEV=true"}}); !*got.S3.Dev {
		t.Error("devs3 does not start although it was asked for")
	}
}

func TestADumpIsReadBackAsTheSameConfiguration(t *testing.T) {
	home := t.TempDir()
	port := 9000
	want := load(t, LoadOptions{Home: home, Port: &port, File: "testdata/images.good.yaml", Environ: []string{"PATH=", "OSTRO_LOG_LEVEL=debug"}})
	text, err := want.Dump()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"port: 9000 # flag", "log_level: debug # env OSTRO_LOG_LEVEL", "pods: process # file", "compat: airflow3 # default", "# file: "} {
		if !strings.Contains(string(text), line) {
			t.Errorf("dump lacks %q:\n%s", line, text)
		}
	}
	file := filepath.Join(home, "dumped.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	got := load(t, LoadOptions{Home: home, File: file, Environ: []string{"PATH="}})
	want.File, want.Origins, got.Origins = got.File, nil, nil
	if want.Tasks.Env == nil {
		want.Tasks.Env = map[string]string{}
	}
	got.Lines = want.Lines // of one file alone
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("dumped and loaded again (-want +got):\n%s", diff)
	}
}
