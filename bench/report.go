package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// report is what results.json holds.
type report struct {
	Date         string     `json:"date"`
	Machine      string     `json:"machine"`
	Kernel       string     `json:"kernel"`
	Sluice       string     `json:"sluice"`
	PgBouncer    string     `json:"pgbouncer"`
	Postgres     string     `json:"postgres"`
	Seconds      float64    `json:"seconds"`
	Rounds       int        `json:"rounds"`
	CallsBy      string     `json:"system_calls_counted_by"`
	Measurements []measured `json:"measurements"`
	Goals        []outcome  `json:"goals"`

	record *record
}

// measured is one number with its rounds.
type measured struct {
	Scenario string    `json:"scenario"`
	Metric   string    `json:"metric"`
	Unit     string    `json:"unit"`
	Target   string    `json:"target"`
	Median   float64   `json:"median"`
	Rounds   []float64 `json:"rounds"`
}

// outcome is a goal that was measured.
type outcome struct {
	Scenario string  `json:"scenario"`
	Metric   string  `json:"metric"`
	Against  string  `json:"against,omitempty"`
	Value    float64 `json:"value"`
	AtMost   float64 `json:"at_most"`
	Reached  bool    `json:"reached"`
}

// newReport asks the programs for their versions and puts everything in order.
func newReport(ctx context.Context, r *rig, o options, rec *record) (*report, error) {
	sluice, err1 := version(ctx, r.sluice, "version")
	pgbouncer, err2 := version(ctx, r.pgbouncer, "--version")
	postgres, err3 := r.cluster.Value(ctx, "SHOW server_version")
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	tracer, ok := findTracer(ctx)
	if !ok {
		tracer.program = "nothing"
	}
	out := &report{
		Date:      time.Now().UTC().Format(time.DateOnly),
		Machine:   fmt.Sprintf("%d cores, %s", runtime.NumCPU(), processorName()),
		Kernel:    kernel(),
		Sluice:    sluice,
		PgBouncer: pgbouncer,
		Postgres:  "PostgreSQL " + postgres,
		Seconds:   o.duration.Seconds(),
		Rounds:    o.rounds,
		CallsBy:   tracer.program,
		record:    rec,
	}
	out.fill()
	return out, nil
}

// fill lists what the record holds.
func (r *report) fill() {
	for _, scenario := range scenarioNames() {
		for _, m := range metrics() {
			for _, target := range []string{nameDirect, namePgBouncer, nameSluice} {
				k := key{scenario, target, m.id}
				if value, ok := r.record.median(k); ok {
					r.Measurements = append(r.Measurements, measured{scenario, m.id, m.unit, target, value, r.record.rounds(k)})
				}
			}
		}
	}
	for _, g := range goals() {
		if value, ok := g.value(r.record); ok {
			r.Goals = append(r.Goals, outcome{g.of.scenario, g.of.metric, g.against(), value, g.atMost, reached(value, g.atMost)})
		}
	}
}

// reached compares what is shown, which has two digits behind the point.
func reached(value, atMost float64) bool { return math.Round(value*100)/100 <= atMost }

// scenarioNames returns each name once, in the order of measurement.
func scenarioNames() []string {
	var names []string
	seen := map[string]bool{}
	for _, s := range scenarios(0) {
		if !seen[s.name] {
			seen[s.name] = true
			names = append(names, s.name)
		}
	}
	return names
}

// about is what the numbers depend on, in a few sentences.
func (r *report) about() string {
	return fmt.Sprintf("%s, %s, %s, %s, on %s, Linux %s. Medians of %d rounds of %g s. System calls counted by %s.",
		r.Date, r.Sluice, r.PgBouncer, r.Postgres, r.Machine, r.Kernel, r.Rounds, r.Seconds, r.CallsBy)
}

// publish prints the table and writes the files.
func publish(r *report, o options, out io.Writer) error {
	if _, err := fmt.Fprintf(out, "%s\n\n%s", r.about(), r.text()); err != nil {
		return err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	plot, err := r.plot()
	if err != nil {
		return err
	}
	err = errors.Join(
		os.WriteFile(filepath.Join(o.out, "results.json"), append(content, '\n'), 0o644),
		os.WriteFile(filepath.Join(o.out, "results.svg"), plot, 0o644))
	if err != nil || !o.writeReadme {
		return err
	}
	return r.writeReadme(plot)
}

const (
	readmeFile   = "bench/README.md"
	readmePlot   = "bench/results.svg"
	resultsBegin = "<!-- results: bench -write-readme writes what follows -->\n"
	resultsEnd   = "<!-- end of results -->\n"
)

// writeReadme replaces the results in README.md, and the picture that it shows.
func (r *report) writeReadme(plot []byte) error {
	content, err := os.ReadFile(readmeFile)
	if err != nil {
		return err
	}
	results := r.about() + "\n\n![Sluice's costs as ratios to PgBouncer's](results.svg)\n\n" + r.markdown()
	content, err = replaceBetween(content, resultsBegin, resultsEnd, results)
	if err != nil {
		return fmt.Errorf("%s: %w", readmeFile, err)
	}
	return errors.Join(os.WriteFile(readmeFile, content, 0o644), os.WriteFile(readmePlot, plot, 0o644))
}

// replaceBetween replaces what stands between two marks.
func replaceBetween(content []byte, begin, end, text string) ([]byte, error) {
	before, rest, ok1 := bytes.Cut(content, []byte(begin))
	_, after, ok2 := bytes.Cut(rest, []byte(end))
	if !ok1 || !ok2 {
		return nil, fmt.Errorf("the marks %q and %q are missing", strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return bytes.Join([][]byte{before, []byte(begin), []byte("\n" + text + "\n"), []byte(end), after}, nil), nil
}

// processorName returns what Linux calls the processor.
func processorName() string {
	content, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(content)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func kernel() string {
	content, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(content))
}
