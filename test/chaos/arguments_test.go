package chaos

import (
	"strings"
	"testing"
	"time"
)

func TestWrongRequestsAreAnsweredWithWhatWhereAndTheExitCodeDocumented(t *testing.T) {
	in := newInstallation(t, "", map[string]string{"good.py": good("good")})
	in.trigger("good", "r")
	in.eventually("the run ends", 60*time.Second, func() bool { return in.state("good", "r") == "success" })
	for _, c := range []struct {
		args  string
		code  int
		words []string
	}{
		{"dags trigger good --conf not-json", 2, []string{"--conf", "JSON object", "not-json"}},
		{"dags trigger good --conf [1]", 2, []string{"JSON object"}},
		{"dags trigger goood", 3, []string{`"goood"`, "did you mean good?"}},
		{"runs show good s", 3, []string{`"s"`, "ostro runs list good"}},
		{"tasks logs good helo r", 3, []string{`"helo"`, "did you mean hello?"}},
		{"tasks logs good hello r --try 7", 3, []string{"try 7"}},
		{"dags list --outptu json", 2, []string{"--outptu", "did you mean --output?"}},
		{"dags trigger", 2, []string{"DAG_ID"}},
		{"dags trigger good --run-id r", 5, []string{"exists already"}},
		{"pools set p many", 2, []string{"many"}},
		{"standalone --port abc", 2, []string{"abc", "--port"}},
		{"standalone --port 99999", 2, []string{"port", "99999"}},
	} {
		_, stderr, code := in.ostro(strings.Fields(c.args)...)
		in.expect("ostro "+c.args, stderr, code, c.code, c.words...)
	}
	in.stopServer()
	for text, words := range map[string][]string{
		"port: 8080\nparsing:\n  timeoot: 3s\n": {"ostro.yaml:3", "parsing.timeoot", "did you mean parsing.timeout?"},
		"parsing:\n  timeout: soon\n":           {"ostro.yaml:2", "parsing.timeout", "duration", "soon"},
		"scheduler: [1]\n":                      {"ostro.yaml:1", "scheduler"},
		"scheduler:\n  max_infra_retries: -1\n": {"ostro.yaml:2", "max_infra_retries"},
		"port: 1\nport: 2\n":                    {"ostro.yaml:2", "port"},
		"parsing:\n\ttimeout: 3s\n":             {"ostro.yaml", "2"},
	} {
		in.configure(text)
		stderr, code := in.startFails()
		in.expect(text, stderr, code, 2, words...)
	}
	in.configure("")
}
