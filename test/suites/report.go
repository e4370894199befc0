package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// test is what a suite says of one test.
type test struct {
	name   string
	passed bool
}

// parse returns the tests that a suite reports: pg_regress up to PostgreSQL 15 in lines of its own, alone or in a group, cargo
// in lines that look the same, and others in those of TAP.
func parse(output []byte) []test {
	own := regexp.MustCompile(`^(?:test| {4}) *(\S+) +\.\.\. (ok|FAILED|failed)\b`)
	tap := regexp.MustCompile(`^(ok|not ok) \d+ +[-+] (.*?)( +\d+ ms)?$`)
	var tests []test
	for line := range strings.SplitSeq(string(output), "\n") {
		if m := own.FindStringSubmatch(line); m != nil {
			tests = append(tests, test{m[1], m[2] == "ok"})
		} else if m := tap.FindStringSubmatch(line); m != nil {
			tests = append(tests, test{m[2], m[1] == "ok"})
		}
	}
	return tests
}

// What can become of a test, as the table shows it.
const (
	ok      = "ok"
	failed  = "FAILED"
	missing = "missing" // the suite did not come so far
)

// verdict is what became of a test.
func verdict(r *result, name string) string {
	i := slices.IndexFunc(r.tests, func(t test) bool { return t.name == name })
	switch {
	case i < 0:
		return missing
	case r.tests[i].passed:
		return ok
	default:
		return failed
	}
}

// report prints how the runs of a suite differ and returns how many tests are worse through Sluice than the exceptions
// allow. Without a direct run every test is expected to pass.
func report(out io.Writer, suite string, runs []*result) (worse int) {
	if len(runs) == 0 {
		return 0
	}
	_, _ = fmt.Fprintf(out, "\n%s\n", suite)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row(table, "test", runs, func(r *result) string { return r.way })
	for _, name := range names(runs) {
		if !slices.ContainsFunc(runs, func(r *result) bool { return verdict(r, name) != ok }) {
			continue
		}
		row(table, name, runs, func(r *result) string {
			got := verdict(r, name)
			if r.way == wayDirect || got == ok || slices.ContainsFunc(runs, directFailure(name)) {
				return got
			}
			if got == failed && exception(suite, r, name) {
				return got + " (by design)"
			}
			worse++
			return got + " !"
		})
	}
	row(table, "passed", runs, func(r *result) string { return fmt.Sprintf("%d of %d", passed(r), len(r.tests)) })
	row(table, "time", runs, func(r *result) string { return r.duration.Round(time.Second).String() })
	_ = table.Flush()
	for _, r := range runs {
		pins(out, r)
	}
	explain(out, suite, runs)
	return worse
}

// directFailure recognises a direct run in which the test has failed.
func directFailure(name string) func(*result) bool {
	return func(r *result) bool { return r.way == wayDirect && verdict(r, name) != ok }
}

func row(w io.Writer, head string, runs []*result, cell func(*result) string) {
	_, _ = fmt.Fprint(w, head)
	for _, r := range runs {
		_, _ = fmt.Fprint(w, "\t", cell(r))
	}
	_, _ = fmt.Fprintln(w)
}

// names returns those of all tests, in the order of the run with most of them.
func names(runs []*result) []string {
	longest := slices.MaxFunc(runs, func(x, y *result) int { return cmp.Compare(len(x.tests), len(y.tests)) })
	var names []string
	for _, t := range longest.tests {
		names = append(names, t.name)
	}
	return names
}

func passed(r *result) int {
	n := 0
	for _, t := range r.tests {
		if t.passed {
			n++
		}
	}
	return n
}

// pins prints for what sessions have kept their backends past a transaction.
func pins(out io.Writer, r *result) {
	if r.way != wayTransaction {
		return
	}
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(r.pool.Pins)) {
		if n := r.pool.Pins[reason]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", reason, n))
		}
	}
	_, _ = fmt.Fprintf(out, "pins on the transaction port, in %d transactions: %s\n", r.pool.Transactions, cmp.Or(strings.Join(parts, ", "), "none"))
}

// explain prints why the exceptions are there that were needed.
func explain(out io.Writer, suite string, runs []*result) {
	for _, e := range exceptions() {
		needed := slices.ContainsFunc(runs, func(r *result) bool { return exception(suite, r, e.test) && verdict(r, e.test) == failed })
		if e.suite == suite && needed {
			_, _ = fmt.Fprintf(out, "%s fails by design: %s\n", e.test, e.why)
		}
	}
}
