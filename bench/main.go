// Command bench compares Sluice with PgBouncer and with Postgres alone, in one run on one machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:forbidigo // main ends the process
	}
}

// run is either the whole measurement or, as a process of its own beside it, a storm of logins.
func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == stormCommand {
		return runStorm(ctx, args[1:], os.Stdout)
	}
	o, err := parseOptions(args, os.Stderr)
	if err != nil {
		return err
	}
	return measure(ctx, o, os.Stdout, os.Stderr)
}

// options are what the command line says.
type options struct {
	duration    time.Duration // of each measurement
	rounds      int
	only        []string // empty: everything
	out         string
	sluice      string
	pgbouncer   string // empty: what buildScript prints
	writeReadme bool
}

func parseOptions(args []string, usage io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(usage)
	seconds := flags.Int("seconds", 4, "how long each measurement takes, after a second to warm up")
	flags.IntVar(&o.rounds, "rounds", 3, "how often everything is measured; medians are reported")
	only := flags.String("only", "", "comma-separated `groups` to measure: "+strings.Join(groups(), " "))
	flags.StringVar(&o.out, "out", "bench/results", "`folder` for results.json and results.svg")
	flags.StringVar(&o.sluice, "sluice", "bin/sluice", "the Sluice to measure")
	flags.StringVar(&o.pgbouncer, "pgbouncer", "", "the PgBouncer to compare with; empty: the one that "+buildScript+" builds")
	flags.BoolVar(&o.writeReadme, "write-readme", false, "write the results into "+readmeFile)
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.duration = time.Duration(*seconds) * time.Second
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	return o, o.validate(flags.NArg())
}

func (o options) validate(arguments int) error {
	if arguments > 0 {
		return errors.New("it takes flags only")
	}
	if o.duration < 2*time.Second || o.duration > 10*time.Minute || o.rounds < 1 || o.rounds > 100 {
		return errors.New("-seconds must be 2 to 600 and -rounds 1 to 100")
	}
	for _, group := range o.only {
		if !slices.Contains(groups(), group) {
			return fmt.Errorf("-only %s: there are %s", group, strings.Join(groups(), " "))
		}
	}
	return nil
}

// wants reports whether a group of scenarios is to be measured.
func (o options) wants(group string) bool { return len(o.only) == 0 || slices.Contains(o.only, group) }

// measure runs every scenario once a round, then reports. A scenario that fails is named, and what the others gave is
// reported nevertheless.
func measure(ctx context.Context, o options, out, log io.Writer) (err error) {
	r, err := newRig(ctx, o, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	record := newRecord()
	failed := r.runRounds(ctx, o, record)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	report, err := newReport(ctx, r, o, record)
	if err != nil {
		return err
	}
	if err := publish(report, o, out); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d measurements failed; see above", failed)
	}
	return nil
}

// runRounds returns how many measurements failed.
func (r *rig) runRounds(ctx context.Context, o options, rec *record) (failed int) {
	start := time.Now()
	for round := range o.rounds {
		for _, s := range scenarios(o.duration) {
			if !o.wants(s.group) || ctx.Err() != nil {
				continue
			}
			r.say("%5.0fs  round %d of %d: %s", time.Since(start).Seconds(), round+1, o.rounds, s.name)
			err := s.measure(ctx, r, rec.forRound(s.name, round))
			if err != nil && ctx.Err() == nil {
				failed++
				r.say("%s: %v", s.name, err)
			}
		}
	}
	return failed
}
