package main

import (
	"context"
	"os/signal"
	"syscall"
)

// untilSignal returns a context that ends when somebody wants the command to end: by Ctrl-C, by closing its terminal or
// the pipe that it writes to, or by SIGTERM. Further signals change nothing until stop is called.
func untilSignal(ctx context.Context) (_ context.Context, stop context.CancelFunc) {
	return signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
}
