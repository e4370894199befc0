// Command regress runs PostgreSQL's own regression suite directly and through Sluice's ports, and compares.
//
// Every test that passes directly has to pass through Sluice, but for those in exceptions.go. It needs Debian, or what
// comes from it, with PostgreSQL's server of its packages, dpkg-dev and gcc; the script "install" gets the rest.
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
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"sluice/internal/config"
)

const (
	folder        = "test/regress"
	installScript = folder + "/install"
	resultsFolder = folder + "/.cache/results"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "regress:", err)
		os.Exit(1) //nolint:forbidigo // main ends the process
	}
}

// options are what the command line says.
type options struct {
	ways    []string
	suites  []string
	timeout time.Duration // of one suite, one way

	stateCheck string
}

func parseOptions(args []string, usage io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("regress", flag.ContinueOnError)
	flags.SetOutput(usage)
	through := flags.String("through", strings.Join(ways(), ","), "comma-separated `ways` to Postgres; only directly there is a measure for the others")
	suites := flags.String("suites", strings.Join([]string{suiteRegress, suiteIsolation}, ","), "comma-separated `suites`")
	flags.DurationVar(&o.timeout, "timeout", 20*time.Minute, "how long one suite may take one way")
	flags.StringVar(&o.stateCheck, "state-check", config.StateCheckStrict, "the tenant's `state_check`")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.ways, o.suites = strings.Split(*through, ","), strings.Split(*suites, ",")
	if flags.NArg() > 0 {
		return o, errors.New("it takes flags only")
	}
	for _, way := range o.ways {
		if !slices.Contains(ways(), way) {
			return o, fmt.Errorf("-through %s: there are %s", way, strings.Join(ways(), " "))
		}
	}
	for _, suite := range o.suites {
		if suite != suiteRegress && suite != suiteIsolation {
			return o, fmt.Errorf("-suites %s: there are %s %s", suite, suiteRegress, suiteIsolation)
		}
	}
	return o, nil
}

// run runs what the options ask for and reports it. A run that could not be made is an error, and so are tests that
// fail only through Sluice.
func run(ctx context.Context, args []string, out, log io.Writer) error {
	o, err := parseOptions(args, log)
	if err != nil {
		return err
	}
	src, err := findSources(ctx, log)
	if err != nil {
		return err
	}
	worse := 0
	for _, suite := range o.suites {
		var runs []*result
		for _, way := range waysOf(suite) {
			if !slices.Contains(o.ways, way) {
				continue
			}
			_, _ = fmt.Fprintf(log, "%s, %s ...\n", suite, way)
			r, err := runSuite(ctx, src, suite, way, o)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", suite, way, err)
			}
			runs = append(runs, r)
		}
		worse += report(out, suite, runs)
	}
	if worse > 0 {
		return fmt.Errorf("%d times a test failed that passes directly; what they printed is in %s", worse, resultsFolder)
	}
	return nil
}

// sources are what the script "install" has got.
type sources struct {
	tests string // the source package's src/test
	lib   string // regress.so and what else the tests load
	pgxs  string // the folder of pg_regress and pg_isolation_regress
	bin   string // the server's programs and psql
}

func findSources(ctx context.Context, log io.Writer) (sources, error) {
	cmd := exec.CommandContext(ctx, installScript)
	cmd.Stderr = log
	output, err := cmd.Output()
	if err != nil {
		return sources{}, fmt.Errorf("%s: %w", installScript, err)
	}
	dir := strings.TrimSpace(string(output))
	home, err := os.ReadFile(filepath.Join(dir, "complete"))
	if err != nil {
		return sources{}, err
	}
	postgres := strings.TrimSpace(string(home))
	return sources{
		tests: filepath.Join(dir, "test"), lib: filepath.Join(dir, "lib"),
		pgxs: filepath.Join(postgres, "lib/pgxs/src/test"), bin: filepath.Join(postgres, "bin"),
	}, nil
}
