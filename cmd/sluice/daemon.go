package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"sluice/internal/admin"
	"sluice/internal/config"
	"sluice/internal/tlsconf"
	"sluice/proxy"
)

// daemon is a running "sluice serve".
type daemon struct {
	source source
	log    *slog.Logger
	server *proxy.Server
	admin  *admin.Server // nil: there is none
	cfg    atomic.Pointer[config.Config]

	adminCert *tlsconf.Certificate // nil: there is none

	reloading sync.Mutex // held over a reload, which a signal and an operator may ask for at a time; guards below
	seen      digests    // the files, as the last reload has seen them
	unwatch   func()     // ends the watch of files; nil: there is none
	watchers  sync.WaitGroup
}

// serve runs Sluice until a signal ends it. It blocks until every client is gone, or cut off.
//
// Errors: *config.Error and *unusableError if the configuration cannot be used; else what failed at run time.
func serve(ctx context.Context, s source, version string, stderr io.Writer, signals <-chan os.Signal) error {
	cfg, err := s.load()
	if err != nil {
		return err
	}
	log, level := newLogger(stderr, cfg.Log)
	d := &daemon{source: s, log: log}
	d.cfg.Store(cfg)
	d.checkDescriptors(cfg)
	if err := d.start(cfg, level, version); err != nil {
		// What the configuration is to blame for is more than the first thing that went wrong.
		if unusable := s.unusable(cfg); unusable != nil {
			return unusable
		}
		return fmt.Errorf("start: %w", err)
	}
	defer func() { _ = d.server.Close() }() // does nothing after a drain
	d.announce(version)
	defer d.stopWatching()
	d.reloading.Lock()
	d.rewatch(cfg, nil)
	d.reloading.Unlock()
	if d.adminCert != nil {
		watching, stop := context.WithCancel(ctx)
		defer stop()
		d.watchAdminCertificate(watching, cfg.Watch)
	}
	return d.run(ctx, signals)
}

// start opens what clients and operators connect to.
func (d *daemon) start(cfg *config.Config, level *slog.LevelVar, version string) (err error) {
	d.server, err = proxy.New(cfg, proxy.Options{Log: d.log, Level: level, Version: version})
	if err != nil {
		return err
	}
	if d.adminCert, err = adminCertificate(cfg.Admin); err != nil {
		return errors.Join(err, d.server.Close())
	}
	if d.admin, err = newAdmin(cfg.Admin, d.adminCert, d.server, d.Reload, d.log, version); err != nil {
		return errors.Join(err, d.server.Close())
	}
	return nil
}

func (d *daemon) announce(version string) {
	for _, l := range d.server.Listeners() {
		d.log.Info("listening", "listener", l.Name, "mode", l.Mode, "address", l.Address)
	}
	if d.admin != nil {
		for _, addr := range d.admin.Addrs() {
			d.log.Info("listening for operators", "address", addr.String())
		}
	}
	d.log.Info("sluice started", "version", version, "pid", os.Getpid())
}

// run serves until a signal, ctx or a failure ends it.
func (d *daemon) run(ctx context.Context, signals <-chan os.Signal) error {
	operators, stopOperators := context.WithCancel(context.WithoutCancel(ctx))
	defer stopOperators()
	served, answered := make(chan error, 1), make(chan error, 1)
	go d.serveClients(served)
	go d.serveOperators(operators, answered)
	var failed error
	for ended := false; !ended; {
		select {
		case s := <-signals:
			if s == syscall.SIGHUP {
				_ = d.Reload(proxy.Author{Via: "signal"}) // logged
				continue
			}
			d.log.Info("draining", "signal", s.String(), "timeout_seconds", d.cfg.Load().ShutdownTimeout.Seconds())
		case <-ctx.Done():
			d.log.Info("draining", "timeout_seconds", d.cfg.Load().ShutdownTimeout.Seconds())
		case failed = <-served:
			served <- failed // for the wait below
		case failed = <-answered:
			answered <- failed
		}
		ended = true
	}
	d.drain(signals)
	stopOperators() // last, so that /readyz tells of the drain
	if err := <-served; failed == nil && !errors.Is(err, proxy.ErrServerClosed) {
		failed = err
	}
	if err := <-answered; failed == nil {
		failed = err
	}
	d.log.Info("sluice stopped")
	return failed
}

func (d *daemon) serveClients(served chan<- error) { served <- d.server.Serve() }

// serveOperators ends with ctx. Without an admin address it only waits.
func (d *daemon) serveOperators(ctx context.Context, answered chan<- error) {
	if d.admin == nil {
		<-ctx.Done()
		answered <- nil
		return
	}
	answered <- d.admin.Serve(ctx)
}

// drain has the sessions end between two transactions, until shutdown_timeout or a further signal ends what is left.
func (d *daemon) drain(signals <-chan os.Signal) {
	ctx, cancel := context.WithTimeout(context.Background(), d.cfg.Load().ShutdownTimeout)
	defer cancel()
	done := make(chan error, 1)
	go d.shutdown(ctx, done)
	for {
		select {
		case err := <-done:
			if errors.Is(err, context.DeadlineExceeded) {
				d.log.Warn("drain timed out, the rest was cut off")
			}
			return
		case s := <-signals:
			if s == syscall.SIGHUP {
				continue
			}
			d.log.Warn("ending now", "signal", s.String())
			_ = d.server.Close() // ends the drain
		}
	}
}

func (d *daemon) shutdown(ctx context.Context, done chan<- error) { done <- d.server.Shutdown(ctx) }
