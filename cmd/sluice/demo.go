package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

const (
	demoEvery       = time.Second     // between two lines
	demoStopTimeout = 2 * time.Second // for sessions of others to end by themselves
)

func newDemo(version string) *cobra.Command {
	o := demoOptions{version: version}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run Sluice in front of a throwaway PostgreSQL, with a small live load",
		Long: "Makes a PostgreSQL cluster in a temporary folder, starts Sluice in front of it, and runs a small load through\n" +
			"both ports. PostgreSQL's server programs are installed by the system's package manager if there are none.\n" +
			"Ctrl-C ends everything and removes the folder.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case o.duration < 0:
				return usagef("--duration: must not be negative, got %s", o.duration)
			case o.maxBackends < minDemoBackends:
				return usagef("--max-backends: must be at least %d, got %d", minDemoBackends, o.maxBackends)
			}
			return runDemo(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().DurationVar(&o.duration, "duration", 0, "end by itself after this `time`; 0: at Ctrl-C")
	cmd.Flags().BoolVar(&o.idle, "no-load", false, "run no load")
	cmd.Flags().IntVar(&o.maxBackends, "max-backends", 20, "max_backends: connections to PostgreSQL over both ports")
	return cmd
}

type demoOptions struct {
	version     string
	duration    time.Duration
	idle        bool
	maxBackends int
}

// runDemo blocks until ctx is done, the demo's time is over, or somebody ends it. Nothing of it is left then.
func runDemo(ctx context.Context, o demoOptions, out, log io.Writer) error {
	ctx, stop := untilSignal(ctx)
	defer stop()
	postgres, err := startDemoPostgres(ctx, log)
	if err != nil {
		return unlessOver(ctx, err)
	}
	err = serveDemo(ctx, o, postgres, out, log)
	return errors.Join(unlessOver(ctx, err), postgres.cluster.Stop())
}

// errReaderGone is a terminal that was closed, or a pipe that nobody reads any more.
var errReaderGone = errors.New("nobody reads the output")

// unlessOver drops an error that is due to somebody ending the demo.
func unlessOver(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, errReaderGone) {
		return nil
	}
	return err
}

// tell writes text. Errors: errReaderGone, wrapped, or what keeps it from being written.
func tell(out io.Writer, format string, args ...any) error {
	_, err := fmt.Fprintf(out, format, args...)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.EIO):
		return fmt.Errorf("%w: %w", errReaderGone, err)
	}
	return fmt.Errorf("write: %w", err)
}

// serveDemo runs Sluice and the load until ctx is done or the time is over.
func serveDemo(ctx context.Context, o demoOptions, postgres *demoPostgres, out, log io.Writer) error {
	sluice, err := startDemoSluice(postgres, o, log)
	if err != nil {
		return err
	}
	defer sluice.stop()
	if err := makeDemoTable(ctx, sluice.verifiedURL(sessionPort, demoApp)); err != nil {
		return err
	}
	if err := sluice.introduce(out); err != nil {
		return err
	}
	if o.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.duration)
		defer cancel()
	}
	var l load
	if !o.idle {
		loading, endLoad := context.WithCancel(ctx)
		defer l.running.Wait() // before the proxy stops, so that its clients leave in peace
		defer endLoad()
		l.start(loading, sluice)
	}
	return sluice.watch(ctx, out, &l)
}

// watch writes a line a second, until ctx is done or Sluice has ended.
func (s *demoSluice) watch(ctx context.Context, out io.Writer, l *load) error {
	tick := time.NewTicker(demoEvery)
	defer tick.Stop()
	before, since := s.server.Totals(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-s.ended:
			return fmt.Errorf("the demo's Sluice has ended: %w", err)
		case <-tick.C:
		}
		now, at := s.server.Totals(), time.Now()
		done := float64(max(now.Transactions, before.Transactions)-before.Transactions) / at.Sub(since).Seconds()
		before, since = now, at
		if err := tell(out, "clients %3d   backends %2d   transactions/s %4.0f%s\n", now.Clients, now.Backends, done, l.trouble()); err != nil {
			return err
		}
	}
}
