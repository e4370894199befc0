package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	stormCommand  = "storm" // runs this program as the generator of logins
	stormPassword = "SLUICE_BENCH_PASSWORD"
	stormClients  = 16 // at once
	stormBegan    = "began"
)

// storm is a process that logs in again and again, so that its work does not share a Go scheduler with what measures.
type storm struct {
	cmd    *exec.Cmd
	output *bufio.Scanner
}

// startStorm returns once the first login is done. The caller must wait for the end.
func (r *rig) startStorm(ctx context.Context, t target, encrypted bool, duration time.Duration) (*storm, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &storm{cmd: exec.CommandContext(ctx, self, stormCommand, "-address", t.address, "-tls="+strconv.FormatBool(encrypted), "-for", duration.String())}
	s.cmd.Env = append(os.Environ(), stormPassword+"="+r.password)
	s.cmd.Stderr = r.log
	pipe, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.output = bufio.NewScanner(pipe)
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	if !s.output.Scan() || s.output.Text() != stormBegan {
		return nil, errors.Join(errors.New("the storm of logins did not begin"), s.cmd.Wait())
	}
	return s, nil
}

// wait blocks until the storm is over and returns how many logins there were since startStorm returned.
func (s *storm) wait() (logins int, err error) {
	if s.output.Scan() {
		logins, err = strconv.Atoi(strings.TrimSpace(s.output.Text()))
	}
	if err := errors.Join(err, s.cmd.Wait()); err != nil {
		return 0, fmt.Errorf("storm of logins: %w", err)
	}
	if logins == 0 {
		return 0, errors.New("storm of logins: none succeeded")
	}
	return logins, nil
}

// runStorm is the process: it says that it began, then how many logins there were.
func runStorm(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet(stormCommand, flag.ContinueOnError)
	address := flags.String("address", "", "where to log in")
	encrypted := flags.Bool("tls", false, "with TLS")
	duration := flags.Duration("for", time.Second, "how long")
	if err := flags.Parse(args); err != nil {
		return err
	}
	d := newDialer(role, os.Getenv(stormPassword), database)
	first, err := d.login(ctx, *address, *encrypted)
	if err != nil {
		return err
	}
	first.end()
	if _, err := fmt.Fprintln(out, stormBegan); err != nil {
		return err
	}
	logins, err := d.storm(ctx, *address, *encrypted, *duration)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, logins)
	return err
}

// storm logs in and leaves, stormClients at once, until the time is over, each of them at least once.
func (d *dialer) storm(ctx context.Context, address string, encrypted bool, duration time.Duration) (int64, error) {
	var (
		wg      sync.WaitGroup
		logins  atomic.Int64
		mu      sync.Mutex // guards failure
		failure error
		end     = time.Now().Add(duration)
	)
	for range stormClients {
		wg.Go(func() {
			for more := true; more; more = time.Now().Before(end) {
				s, err := d.login(ctx, address, encrypted)
				if err != nil {
					mu.Lock()
					failure = errors.Join(failure, err)
					mu.Unlock()
					return
				}
				s.end()
				logins.Add(1)
			}
		})
	}
	wg.Wait()
	return logins.Load(), failure
}
