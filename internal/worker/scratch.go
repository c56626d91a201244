package worker

import (
	"log/slog"
	"os"
	"path/filepath"
)

// scratchRoot is where attempts have their folders for what nobody needs after them.
func scratchRoot(home string) string { return filepath.Join(home, "run", "scratch") }

// scratchPath is an attempt's folder. The task makes it if it needs one, so most are never there.
func scratchPath(home, attempt string) string {
	if attempt == "" || attempt != filepath.Base(attempt) || !filepath.IsLocal(attempt) {
		return ""
	}
	return filepath.Join(scratchRoot(home), attempt)
}

// removeScratch removes such a folder. What cannot be removed is in nobody's way, and is tried again by the next worker.
func removeScratch(logger *slog.Logger, path string) {
	if path == "" {
		return
	}
	if err := os.RemoveAll(path); err != nil {
		logger.Warn("a folder of an attempt that is over cannot be removed", "path", path, "err", err)
	}
}
