package cli

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/config"
)

// programVersion is what this source calls itself; a release build sets its tag with the linker's -X.
var programVersion = "0.1.0-dev"

// buildVersion is the program's version and the commit it was built from, where the build knows them.
func buildVersion() (version, revision string) {
	version = programVersion
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version, ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			revision = s.Value
		}
	}
	return version, revision
}

func (c *command) versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Show the version of this program and of the running server", Example: "  ostro version", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			version, revision := buildVersion()
			out := struct {
				Version  string        `json:"version"`
				Revision string        `json:"revision,omitempty"`
				Server   *wire.Version `json:"server"`
				URL      string        `json:"url,omitempty"`
			}{Version: version, Revision: revision}
			if cl, err := c.connect(); err == nil { // no server is no fault here
				ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
				defer cancel()
				if v, err := cl.Version(ctx); err == nil {
					out.Server, out.URL = &v, cl.Base()
				}
			}
			return c.show(out, func() {
				fmt.Fprintf(c.Out, "ostro %s\n", version)
				if out.Server != nil {
					fmt.Fprintf(c.Out, "server %s at %s\n", out.Server.Version, out.URL)
				}
			})
		}}
}

func (c *command) configCommand() *cobra.Command {
	show := &cobra.Command{Use: "show", Short: "Show the configuration and where each value comes from", Args: args(0, 0),
		Long:    "Show the configuration as the defaults, the file, the environment and the flags give it, with the origin of each value.\nFlags that a running server was started with are not in it.",
		Example: "  ostro config show\n  ostro config show -o json",
		RunE: func(*cobra.Command, []string) error {
			cfg, err := c.loadConfig(config.LoadOptions{})
			if err != nil {
				return err
			}
			if url := runningAt(cfg.Home); url != "" {
				fmt.Fprintf(c.Err, "This is what a command started now would use; flags given to the server at %s are not in it.\n", url)
			}
			text, err := cfg.Dump()
			if err != nil {
				return err
			}
			if c.output != "json" {
				_, err := c.Out.Write(text)
				return err
			}
			var values map[string]any
			if err := yaml.Unmarshal(text, &values); err != nil {
				return fmt.Errorf("read the configuration back: %w", err)
			}
			return c.show(map[string]any{"home": cfg.Home, "file": cfg.File, "config": values, "origins": cfg.Origins}, func() {})
		}}
	return c.parent("config", "Show the configuration", "  ostro config show", show)
}
