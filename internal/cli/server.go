package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"ostro.dev/ostro/internal/client"
	"ostro.dev/ostro/internal/config"
)

// loadConfig reads the configuration as the flags, the environment and the file give it.
func (c *command) loadConfig(o config.LoadOptions) (config.Config, error) {
	o.Home = c.home
	if c.portGiven {
		o.Port = &c.port
	}
	cfg, err := config.Load(o)
	if err != nil {
		return cfg, &problem{code: exitUsage, err: err}
	}
	return cfg, nil
}

// serverFile is what a running server writes to HOME/run/server.json.
type serverFile struct {
	URL    string `json:"url"`
	PID    int    `json:"pid"`
	DAGs   string `json:"dags"`
	Python string `json:"python"`
}

// connect finds the server: the port that was asked for, else the one the home's server says it listens on, else the
// configured one.
func (c *command) connect() (*client.Client, error) {
	cfg, err := c.loadConfig(config.LoadOptions{})
	if err != nil {
		return nil, err
	}
	base := address(cfg)
	if from := cfg.Origins["port"]; from != config.FromFlag && from != config.FromEnv {
		if url := runningAt(cfg.Home); url != "" {
			base = url
		}
	}
	token, err := os.ReadFile(filepath.Join(cfg.Home, "token"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &problem{code: exitUnreachable, err: fmt.Errorf("no server has run with home %s: it has no token file", cfg.Home),
			hint: "start one with: ostro standalone --home " + cfg.Home + ", or name its home with --home"}
	}
	if err != nil {
		return nil, &problem{code: exitRefused, err: fmt.Errorf("read the token: %w", err)}
	}
	return client.New(base, strings.TrimSpace(string(token))), nil
}

func address(cfg config.Config) string {
	host := cfg.Host
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(cfg.Port))
}

// runningAt is the address in HOME/run/server.json.
func runningAt(home string) string { return announced(home).URL }

// announced reads HOME/run/server.json; a file that cannot be read is as good as none.
func announced(home string) serverFile {
	var f serverFile
	raw, err := os.ReadFile(filepath.Join(home, "run", "server.json"))
	if err != nil || json.Unmarshal(raw, &f) != nil {
		return serverFile{}
	}
	return f
}
