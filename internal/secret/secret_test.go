package secret

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestSecretsAreReplacedTheLongestFirst(t *testing.T) {
	var m Masker
	m.Add("hunter2", "hunter2-long", "abcd", "line one\nline two\n}", "with \"quotes\" in")
	m.AddExplicit("pin", "")
	for text, want := range map[string]string{
		"":                             "",
		"nothing here":                 "nothing here",
		"hunter2":                      "***",
		"x=hunter2-long;y=hunter2":     "x=***;y=***",
		"abcd is too short to mask":    "abcd is too short to mask",
		"pin was named in words":       "*** was named in words",
		"first line one":               "first ***",
		"then line two":                "then ***",
		"a } stays":                    "a } stays",
		`{"k": "with \"quotes\" in"}`:  `{"k": "***"}`,
		`raw with "quotes" in and out`: `raw *** and out`,
	} {
		if got := m.Mask(text); got != want {
			t.Errorf("Mask(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestASecretIsHiddenInTheFormsProgramsPrintItIn(t *testing.T) {
	var m Masker
	m.Add(`p@ss/w "rd\é`)
	for _, form := range []string{
		`p@ss/w "rd\é`, `"p@ss/w \"rd\\é"`, `"p@ss/w \"rd\\\u00e9"`, `'p@ss/w "rd\\é'`,
		"postgres://u:p%40ss%2Fw%20%22rd%5C%C3%A9@h", "x=p%40ss%2Fw+%22rd%5C%C3%A9", "p%40ss/w%20%22rd%5C%C3%A9",
	} {
		if got := m.Mask(form); strings.Contains(got, "ss") || !strings.Contains(got, Hidden) {
			t.Errorf("Mask(%q) = %q", form, got)
		}
	}
}

func TestWhatIsSecretInATextIsFoundByItsNameAndByTheKeysInIt(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"api_key", "plain", []string{"plain"}},
		{"settings", "plain", nil},
		{"settings", `{"user":"joe","db":{"password":"hunter2"},"tokens":["a",{"id":12345}]}`, []string{"a", "12345", "hunter2"}},
		{"db_password", `{"a":"x","b":["y"]}`, []string{`{"a":"x","b":["y"]}`, "x", "y"}},
		{"db_password", `{"torn`, []string{`{"torn`}},
		{"", "", nil},
	} {
		got := Find(c.name, c.text)
		slices.Sort(got)
		slices.Sort(c.want)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("Find(%q, %q) (-want +got):\n%s", c.name, c.text, diff)
		}
	}
}

func TestTheBeginningOfASecretAtTheEndOfATextIsFound(t *testing.T) {
	var m Masker
	m.Add("passport", "port-number")
	for text, want := range map[string]int{"": 0, "a pass": 4, "passport": 4, "por": 3, "port-numbe": 10, "port-number": 0, "nothing": 0} {
		if got := m.MayBegin([]byte(text)); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func TestTheZeroMaskerLeavesTextAlone(t *testing.T) {
	var m Masker
	if got := m.Mask("text"); got != "text" {
		t.Errorf("got %q", got)
	}
	m.Add("", "abc")
	if got := m.Mask("abc"); got != "abc" {
		t.Errorf("got %q", got)
	}
}

func TestJSONIsMaskedByNameAndByValue(t *testing.T) {
	var m Masker
	m.Add("hunter2")
	for in, want := range map[string]string{
		`{"user":"u","password":"x","n":12345678901234567890,"url":"http://u:hunter2@h"}`:            `{"n":12345678901234567890,"password":"***","url":"http://u:***@h","user":"u"}`,
		`{"api-key":1,"Token":null,"secret":"","secrets":["a",{"b":"c"}],"flag":{"use_proxy":true}}`: `{"Token":null,"api-key":"***","flag":{"use_proxy":true},"secret":"","secrets":["***",{"b":"***"}]}`,
		`["hunter2","other"]`: `["***","other"]`,
		`not json hunter2`:    `not json ***`,
		``:                    ``,
	} {
		if got := string(m.MaskJSON(json.RawMessage(in))); got != want {
			t.Errorf("MaskJSON(%s)\n got %s\nwant %s", in, got, want)
		}
	}
}

func TestNamesThatHoldSecrets(t *testing.T) {
	for name, want := range map[string]bool{
		"password": true, "DB_PASSWORD": true, "x-api-key": true, "AWS_SECRET_ACCESS_KEY": true, "slack_token": true,
		"user": false, "path": false, "": false, "keyboard": false, "passive": false,
		"tokenizer": false, "max_tokens": false, "max_new_tokens": false, "hf_token": true,
	} {
		if got := IsSensitive(name); got != want {
			t.Errorf("IsSensitive(%q) = %v", name, got)
		}
	}
}

func TestNoSecretIsLeftInMaskedText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.StringMatching(`[a-c]{5,8}`), 1, 5).Draw(t, "values")
		var m Masker
		m.Add(values...)
		text := strings.Join(rapid.SliceOf(rapid.OneOf(rapid.SampledFrom(values), rapid.StringMatching(`[a-d ]{0,4}`))).Draw(t, "text"), "")
		masked := m.Mask(text)
		for _, value := range values {
			if strings.Contains(masked, value) {
				t.Fatalf("%q is left in %q", value, masked)
			}
		}
	})
}

func TestASealedValueOpensInItsOwnPlaceOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "home", "secret.key")
	box, err := OpenBox(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("key file: %v, %v", info.Mode(), err)
	}
	sealed, err := box.Seal("variable/a", []byte("top secret"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(sealed, "top secret") || !IsSealed(sealed) || !box.Current(sealed) {
		t.Errorf("sealed: %q", sealed)
	}
	again, err := OpenBox(path) // as after a restart
	if err != nil {
		t.Fatal(err)
	}
	if got, err := again.Open("variable/a", sealed); err != nil || string(got) != "top secret" {
		t.Errorf("opened %q, %v", got, err)
	}
	for name, bad := range map[string][2]string{
		"elsewhere":   {"variable/b", sealed},
		"changed":     {"variable/a", sealed[:len(sealed)-6] + "AAAAA="},
		"cut":         {"variable/a", sealed[:len(sealedPrefix)+12]},
		"not sealed":  {"variable/a", "top secret"},
		"unknown key": {"variable/a", sealedPrefix + "ffff:AAAA"},
	} {
		if got, err := box.Open(bad[0], bad[1]); !errors.Is(err, ErrSealed) {
			t.Errorf("%s: opened %q, %v", name, got, err)
		}
	}
}

func TestAfterARotationOldValuesOpenAndNewOnesUseTheNewKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret.key")
	box, err := OpenBox(path)
	if err != nil {
		t.Fatal(err)
	}
	old, err := box.Seal("p", []byte("old"))
	if err != nil {
		t.Fatal(err)
	}
	if err := box.Rotate(); err != nil {
		t.Fatal(err)
	}
	fresh, err := box.Seal("p", []byte("new"))
	if err != nil {
		t.Fatal(err)
	}
	if box.Current(old) || !box.Current(fresh) {
		t.Error("the old key still counts as current")
	}
	again, err := OpenBox(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, sealed := range []string{old, fresh} {
		value, err := again.Open("p", sealed)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(value))
	}
	if diff := cmp.Diff([]string{"old", "new"}, got); diff != "" {
		t.Errorf("opened (-want +got):\n%s", diff)
	}
}

func TestABadKeyFileIsAnErrorAndIsNeverReplaced(t *testing.T) {
	good := "abcd AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
	for name, tc := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"empty":             {"", 0o600, "it holds no key"},
		"readable by all":   {good, 0o644, "others may read it (mode 644)"},
		"cut in the middle": {good[:20], 0o600, "line 1 is not an id and a key"},
	} {
		path := filepath.Join(t.TempDir(), "secret.key")
		if err := os.WriteFile(path, []byte(tc.text), tc.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, tc.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenBox(path); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q", name, err, tc.want)
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != tc.text {
			t.Errorf("%s: the file is now %q, %v", name, text, err)
		}
	}
}

func TestProcessesThatStartTogetherAgreeOnOneKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret.key")
	boxes := make([]*Box, 8)
	var group sync.WaitGroup
	for i := range boxes {
		group.Go(func() {
			box, err := OpenBox(path)
			if err != nil {
				t.Error(err)
			}
			boxes[i] = box
		})
	}
	group.Wait()
	sealed, err := boxes[0].Seal("p", []byte("v"))
	if err != nil {
		t.Fatal(err)
	}
	for i, box := range boxes {
		if _, err := box.Open("p", sealed); err != nil {
			t.Errorf("box %d: %v", i, err)
		}
	}
}
