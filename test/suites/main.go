// Command suites runs test suites of others directly and through Sluice's ports, and compares: PostgreSQL's own regression
// and isolation suites, and those of tokio-postgres and postgres.js.
//
// Every test that passes directly has to pass through Sluice, but for those in exceptions.go. The scripts "install-…" beside
// it get the tests; CONTRIBUTING.md says what they need.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"sluice/internal/config"
)

const (
	folder        = "test/suites"
	resultsFolder = folder + "/.cache/results"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "suites:", err)
		os.Exit(1) //nolint:forbidigo // main ends the process
	}
}

// options are what the command line says.
type options struct {
	ways       []string
	suites     []string
	timeout    time.Duration // of one suite, one way
	stateCheck string
}

func parseOptions(args []string, usage io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("suites", flag.ContinueOnError)
	flags.SetOutput(usage)
	through := flags.String("through", strings.Join(ways(), ","), "comma-separated `ways` to Postgres; what passes directly is the measure for the others")
	suites := flags.String("suites", strings.Join(suiteNames(), ","), "comma-separated `suites`")
	flags.DurationVar(&o.timeout, "timeout", 20*time.Minute, "how long one suite may take one way")
	flags.StringVar(&o.stateCheck, "state-check", config.StateCheckStrict, "the tenant's `state_check`")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.ways, o.suites = strings.Split(*through, ","), strings.Split(*suites, ",")
	if flags.NArg() > 0 {
		return o, errors.New("it takes flags only")
	}
	return o, errors.Join(known("-through", o.ways, ways()), known("-suites", o.suites, suiteNames()))
}

// known checks that all names are there.
func known(flag string, names, all []string) error {
	for _, name := range names {
		if !slices.Contains(all, name) {
			return fmt.Errorf("%s %s: there are %s", flag, name, strings.Join(all, " "))
		}
	}
	return nil
}

// run runs what the options ask for and reports it. A run that could not be made is an error, and so are tests that
// fail only through Sluice.
func run(ctx context.Context, args []string, out, log io.Writer) error {
	o, err := parseOptions(args, log)
	if err != nil {
		return err
	}
	worse := 0
	for _, s := range suites() {
		if !slices.Contains(o.suites, s.name) {
			continue
		}
		runs, err := runWays(ctx, &s, o, log)
		if err != nil {
			return err
		}
		worse += report(out, s.name, runs)
	}
	if worse > 0 {
		return fmt.Errorf("%d times a test failed that passes directly; what they printed is in %s", worse, resultsFolder)
	}
	return nil
}

func runWays(ctx context.Context, s *suite, o options, log io.Writer) (runs []*result, err error) {
	got, err := install(ctx, s.install, log)
	if err != nil {
		return nil, err
	}
	for _, way := range s.ways {
		if !slices.Contains(o.ways, way) {
			continue
		}
		_, _ = fmt.Fprintf(log, "%s, %s ...\n", s.name, way)
		r, err := runSuite(ctx, s, got, way, o)
		if err != nil {
			return nil, fmt.Errorf("%s, %s: %w", s.name, way, err)
		}
		runs = append(runs, r)
	}
	return runs, nil
}

// install runs a script of this folder and returns the path that it prints.
func install(ctx context.Context, script string, log io.Writer) (string, error) {
	cmd := exec.CommandContext(ctx, folder+"/"+script)
	cmd.Stderr = log
	output, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s/%s: %w", folder, script, err)
	}
	return strings.TrimSpace(string(output)), nil
}
