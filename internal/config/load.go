package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"ostro.dev/ostro/internal/core/spelling"
	"ostro.dev/ostro/protocol"
)

// LoadOptions are what the command line decides; a zero field leaves the decision to the environment and the file.
type LoadOptions struct {
	Home   string // --home
	File   string // --config; must exist when given
	DAGs   string // --dags
	Host   string // --host
	Port   *int   // --port
	Python string // --python
	// Environ is the environment as os.Environ gives it, which is also what nil means.
	Environ []string
}

// Environ is the process's environment, for the few places that hand it on to a child process.
func Environ() []string { return os.Environ() }

// Load reads the configuration: defaults, then the file, then the environment, then the options. The home folder and the
// file need not exist. The result has been validated.
func Load(o LoadOptions) (Config, error) {
	environ := o.Environ
	if environ == nil {
		environ = os.Environ()
	}
	env := make(map[string]string, len(environ))
	for _, kv := range environ {
		if name, value, ok := strings.Cut(kv, "="); ok {
			env[name] = value
		}
	}
	home, err := findHome(o.Home, env)
	if err != nil {
		return Config{}, err
	}
	c := Defaults(home)
	c.Origins, c.Lines = map[string]string{}, map[string]int{}
	for _, key := range Keys() {
		c.Origins[key] = FromDefault
	}
	if err := c.readFile(o.File, env); err != nil {
		return Config{}, err
	}
	if err := c.readEnv(env); err != nil {
		return Config{}, err
	}
	if err := c.readFlags(o); err != nil {
		return Config{}, err
	}
	c.fromMachine(env)
	if err := c.Validate(); err != nil {
		return Config{}, fmt.Errorf("check the configuration: %w", err)
	}
	return c, nil
}

func findHome(flag string, env map[string]string) (string, error) {
	home := flag
	if home == "" {
		home = env["OSTRO_HOME"]
	}
	if home == "" {
		if env["HOME"] == "" {
			return "", errors.New("find the home folder: neither OSTRO_HOME nor HOME is set; say --home DIR")
		}
		return filepath.Join(env["HOME"], ".ostro"), nil
	}
	abs, err := filepath.Abs(expand(home, env))
	if err != nil {
		return "", fmt.Errorf("find the home folder: %w", err)
	}
	return abs, nil
}

// readFile overlays the file: the one named by the option or OSTRO_CONFIG, which must exist, else the home's, which may not.
func (c *Config) readFile(flag string, env map[string]string) error {
	named := flag
	if named == "" {
		named = env["OSTRO_CONFIG"]
	}
	if named != "" {
		abs, err := filepath.Abs(expand(named, env))
		if err != nil {
			return fmt.Errorf("find configuration file %s: %w", named, err)
		}
		c.File = abs
	}
	text, err := os.ReadFile(c.File)
	if errors.Is(err, fs.ErrNotExist) && named == "" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	if err := c.decode(text); err != nil {
		return err
	}
	c.resolve(filepath.Dir(c.File), FromFile, env)
	return nil
}

// decode overlays a YAML text and collects all its faults, each with file and line.
func (c *Config) decode(text []byte) error {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return fmt.Errorf("%s: %s", c.File, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if doc.Kind == 0 || len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
		return nil
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return fmt.Errorf("%s:%d: expected keys and values, found %s", c.File, root.Line, describe(root))
	}
	d := decoder{config: c, fields: fields()}
	d.mapping(root, "")
	return errors.Join(d.errs...)
}

type decoder struct {
	config *Config
	fields []field
	errs   []error
}

func (d *decoder) fault(line int, format string, args ...any) {
	d.errs = append(d.errs, fmt.Errorf("%s:%d: %s", d.config.File, line, fmt.Sprintf(format, args...)))
}

// mapping overlays the keys of one section; prefix is the section's key with a dot, "" for the whole file.
func (d *decoder) mapping(node *yaml.Node, prefix string) {
	seen := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, value := node.Content[i], node.Content[i+1]
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		key := prefix + name.Value
		if line, twice := seen[name.Value]; twice {
			d.fault(name.Line, "key %s was already set in line %d", key, line)
			continue
		}
		seen[name.Value] = name.Line
		if at := slices.IndexFunc(d.fields, func(f field) bool { return f.key == key }); at >= 0 {
			d.leaf(d.fields[at], value)
			continue
		}
		if slices.ContainsFunc(d.fields, func(f field) bool { return strings.HasPrefix(f.key, key+".") }) {
			switch {
			case value.Kind == yaml.MappingNode:
				d.mapping(value, key+".")
			case value.Tag != "!!null": // a section whose lines are all commented out is no mistake
				d.fault(value.Line, "%s: expected a section with keys of its own, found %s", key, describe(value))
			}
			continue
		}
		d.unknown(name, prefix)
	}
}

func (d *decoder) leaf(f field, value *yaml.Node) {
	if f.key == "images" && !d.images(value) {
		return
	}
	if err := f.set(d.config, value); err != nil {
		d.fault(value.Line, "%s: %v", f.key, err)
		return
	}
	d.config.Origins[f.key], d.config.Lines[f.key] = FromFile, value.Line
}

// images checks the keys of each image, which the YAML package would drop in silence.
func (d *decoder) images(node *yaml.Node) bool {
	if node.Kind != yaml.MappingNode {
		return true // set says what was expected
	}
	before := len(d.errs)
	known := []string{"dir", "python", "env"}
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, settings := node.Content[i], node.Content[i+1]
		if settings.Kind != yaml.MappingNode {
			d.fault(settings.Line, "images.%s: expected dir, python and env, found %s", name.Value, describe(settings))
			continue
		}
		for j := 0; j+1 < len(settings.Content); j += 2 {
			if key := settings.Content[j]; !slices.Contains(known, key.Value) {
				d.fault(key.Line, "unknown key images.%s.%s%s", name.Value, key.Value, suggestion(spelling.Nearest(key.Value, known)))
			}
		}
	}
	return len(d.errs) == before
}

// unknown reports a key that does not exist, with the nearest of its section or, failing that, of the whole file.
func (d *decoder) unknown(name *yaml.Node, prefix string) {
	var siblings, all []string
	for _, f := range d.fields {
		all = append(all, f.key)
		if rest, ok := strings.CutPrefix(f.key, prefix); ok {
			first, _, _ := strings.Cut(rest, ".")
			siblings = append(siblings, prefix+first)
		}
	}
	near := spelling.Nearest(prefix+name.Value, siblings)
	if near == "" {
		near = spelling.Nearest(prefix+name.Value, all)
	}
	if near == "" { // the right name in the wrong section
		if at := slices.IndexFunc(all, func(key string) bool { return strings.HasSuffix(key, "."+name.Value) }); at >= 0 {
			near = all[at]
		}
	}
	d.fault(name.Line, "unknown key %s%s", prefix+name.Value, suggestion(near))
}

func suggestion(near string) string {
	if near == "" {
		return "; the example file lists every key"
	}
	return "; did you mean " + near + "?"
}

// notSettings are the OSTRO_ variables that are no keys: what Load itself reads, what the client reads, and what Ostro
// gives to the processes it starts.
var notSettings = []string{
	"OSTRO_HOME", "OSTRO_CONFIG", "OSTRO_URL", "OSTRO_TOKEN", "OSTRO_HOST_FD", "OSTRO_TASK_FD", "OSTRO_WORKER_HOME",
	"OSTRO_ATTEMPT_ID", "OSTRO_DAG_ID", "OSTRO_RUN_ID", "OSTRO_TASK_ID", "OSTRO_MAP_INDEX", "OSTRO_TRY_NUMBER",
	"OSTRO_XCOM_PATH", "OSTRO_WORKER_INSTANCE", "OSTRO_DAGTEST_SETTINGS", "OSTRO_RESTORE_ENV", "OSTRO_EXIT_LIMIT",
	"OSTRO_FORK_ID",
	"OSTRO_TRIGGER_WARN_AFTER", "OSTRO_TRIGGER_GIVE_UP_AFTER",
}

// databaseURL is the name by which deployments know OSTRO_DATABASE; where both are set, this one counts.
const databaseURL = "OSTRO_DATABASE_URL"

// readEnv overlays OSTRO_… variables. A variable that is no key is an error when it looks like one that was misspelt, and
// else something to warn of: the name may well be somebody else's, such as those that Kubernetes gives for a service.
func (c *Config) readEnv(env map[string]string) error {
	byName := map[string]field{}
	for _, f := range fields() {
		byName[EnvName(f.key)] = f
	}
	byName[databaseURL] = byName[EnvName("database")]
	names := slices.Sorted(maps.Keys(byName))
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if !strings.HasPrefix(name, "OSTRO_") || slices.Contains(notSettings, name) || env[name] == "" {
			continue // an empty one is as if it were not set
		}
		f, known := byName[name]
		if !known {
			if near := misspelt(name, append(names, notSettings...)); near != "" {
				errs = append(errs, fmt.Errorf("environment variable %s is not a setting%s", name, suggestion(near)))
			} else {
				c.Warnings = append(c.Warnings, fmt.Sprintf("environment variable %s is not a setting and has no effect%s", name, foreign(name)))
			}
			continue
		}
		if err := f.set(c, envNode(f, env[name])); err != nil {
			errs = append(errs, fmt.Errorf("environment variable %s: %w", name, err))
			continue
		}
		c.Origins[f.key] = FromEnv
	}
	if len(errs) == 0 {
		c.resolve("", FromEnv, env)
	}
	return errors.Join(errs...)
}

// misspelt is the setting whose name, or the last part of whose name, a variable nearly has; "" when there is none.
func misspelt(name string, known []string) string {
	for _, candidate := range known {
		if spelling.Distance(name, candidate) <= 2 {
			return candidate
		}
	}
	short := strings.TrimPrefix(name, "OSTRO_")
	best, least := "", 3
	for _, key := range Keys() {
		leaf := strings.ToUpper(key[strings.LastIndexByte(key, '.')+1:])
		if d := spelling.Distance(short, leaf); len(leaf) >= 6 && d < least {
			best, least = EnvName(key), d
		}
	}
	return best
}

// foreign says by which name Variables and Connections are known in the environment.
func foreign(name string) string {
	for _, kind := range []string{"VAR", "CONN"} {
		if rest, ok := strings.CutPrefix(name, "OSTRO_"+kind+"_"); ok {
			return "; it is AIRFLOW_" + kind + "_" + rest + ", as in Airflow"
		}
	}
	return ""
}

// envNode reads an environment variable's value: text stays text, everything else is YAML on one line.
func envNode(f field, value string) *yaml.Node {
	text := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value}
	if f.expects() == "text" {
		return text
	}
	var doc yaml.Node
	if yaml.Unmarshal([]byte(value), &doc) != nil || len(doc.Content) == 0 {
		return text
	}
	return doc.Content[0]
}

func (c *Config) readFlags(o LoadOptions) error {
	for key, flag := range map[string]struct {
		value  string
		target *string
	}{"dags": {o.DAGs, &c.DAGs}, "host": {o.Host, &c.Host}, "python": {o.Python, &c.Python}} {
		if flag.value != "" {
			*flag.target, c.Origins[key] = flag.value, FromFlag
		}
	}
	if o.Port != nil {
		c.Port, c.Origins["port"] = *o.Port, FromFlag
	}
	c.resolve("", FromFlag, nil)
	return nil
}

// resolve makes the paths of one origin absolute: those of a file against its folder, others against the working folder.
func (c *Config) resolve(base, origin string, env map[string]string) {
	abs := func(p string) string {
		p = expand(p, env)
		if p == "" || filepath.IsAbs(p) {
			return p
		}
		if joined, err := filepath.Abs(filepath.Join(base, p)); err == nil {
			return joined
		}
		return p
	}
	program := func(p string) string { // a bare name is looked up on PATH
		if strings.ContainsRune(p, '/') {
			return abs(p)
		}
		return p
	}
	if c.Origins["dags"] == origin {
		c.DAGs = abs(c.DAGs)
	}
	if c.Origins["python"] == origin {
		c.Python = program(c.Python)
	}
	if c.Origins["images"] == origin {
		for pattern, image := range c.Images {
			c.Images[pattern] = protocol.ImageSettings{Dir: abs(image.Dir), Python: program(image.Python), Env: image.Env}
		}
	}
}

// expand replaces a leading ~ by the person's home folder.
func expand(p string, env map[string]string) string {
	if home := env["HOME"]; home != "" && (p == "~" || strings.HasPrefix(p, "~/")) {
		return home + p[1:]
	}
	return p
}

// fromMachine fills what depends on the machine: the interpreter, and whether a development S3 is wanted.
func (c *Config) fromMachine(env map[string]string) {
	if c.Python == "" {
		c.Python = "python3"
		if venv := env["VIRTUAL_ENV"]; venv != "" {
			c.Python = filepath.Join(venv, "bin", "python")
		}
	}
	if !strings.ContainsRune(c.Python, '/') {
		c.Python = lookPath(c.Python, env["PATH"])
	}
	if c.S3.Dev == nil {
		dev := c.S3.Endpoint == "" && env["AWS_ENDPOINT_URL"] == "" && env["AWS_ENDPOINT_URL_S3"] == "" &&
			env["AWS_ACCESS_KEY_ID"] == "" && env["AWS_PROFILE"] == ""
		c.S3.Dev = &dev
	}
	if c.BaseURL == "" {
		host := c.Host
		if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
			host = "127.0.0.1"
		}
		c.BaseURL = "http://" + net.JoinHostPort(host, strconv.Itoa(c.Port))
	}
}

// lookPath finds a program on the given PATH; a name that is not found comes back as it is.
func lookPath(name, path string) string {
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file
		}
	}
	return name
}
