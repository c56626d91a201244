package app

import (
	"context"
	"log/slog"

	"ostro.dev/ostro/internal/config"
	"ostro.dev/ostro/internal/worker"
)

// ErrWorkerRunning: another worker runs on the same home folder.
var ErrWorkerRunning = worker.ErrRunning

// RunWorker is `ostro worker`: it runs attempts for the server of the same home until ctx ends, a server stops it, or
// nobody has needed it for long.
func RunWorker(ctx context.Context, cfg config.Config, logger *slog.Logger, version string) error {
	return worker.Run(ctx, worker.Options{Home: cfg.Home, Logger: logger, Version: version})
}
