package main

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseProgress(t *testing.T) {
	t.Parallel()
	at, rate, err := parseProgress("progress: 1763731234.125 s, 9012.3 tps, lat 3.331 ms stddev 1.200, 0 failed")
	if err != nil || at != 1763731234.125 || rate != 9012.3 {
		t.Errorf("got %v, %v, %v, want 1763731234.125, 9012.3", at, rate, err)
	}
	for _, line := range []string{
		"progress: ", "progress: 1 s", "progress: 1 s, 2 tp", "progress: 1, 2 tps", "progress: x s, 2 tps", "progress: 1 s, NaN tps",
		"progress: 1 s, inf tps", "progress: -1 s, 2 tps",
	} {
		if _, _, err := parseProgress(line); !errors.Is(err, errProgress) {
			t.Errorf("parseProgress(%q): got %v, want errProgress", line, err)
		}
	}
}

func TestMeterCountsBetweenTheFirstLineAndTheLast(t *testing.T) {
	t.Parallel()
	output := "pgbench (15.18)\n" +
		"progress: 100.000 s, 9999.0 tps, lat 1 ms stddev 1, 0 failed\n" +
		"progress: 101.000 s, 100.0 tps, lat 1 ms stddev 1, 0 failed\n" +
		"progress: 103.000 s, 200.0 tps, lat 1 ms stddev 1, 0 failed\n"
	var used usage
	now := func() (usage, error) {
		used.pooler += time.Second
		used.postgres += 10 * time.Second
		return used, nil
	}
	var m meter
	if err := m.follow(strings.NewReader(output), now); err != nil {
		t.Fatal(err)
	}
	l := load{duration: 3 * time.Second}
	dir := logFolder(t, "0 1 30 0 1763731234 5\n", "1 1 10 0 1763731234 5\n1 2 20 0 1763731234 5\n")
	got, err := l.result(&m, "number of transactions actually processed: 1500\nnumber of failed transactions: 0 (0.000%)\n", dir)
	want := pgbenchRun{
		transactions: 1500, rate: 500.0 / 3, window: 500, latency: 20,
		used: usage{pooler: 2 * time.Second, postgres: 20 * time.Second},
	}
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if m.complaints.String() != "pgbench (15.18)\n" {
		t.Errorf("complaints: got %q", m.complaints.String())
	}
	l.duration = 10 * time.Second
	if _, err := l.result(&m, "number of transactions actually processed: 0\n", dir); !errors.Is(err, errTooShort) {
		t.Errorf("window far below the duration: got %v, want errTooShort", err)
	}
}

func TestMeterReportsWhatItCannotRead(t *testing.T) {
	t.Parallel()
	broken := errors.New("no such process")
	var m meter
	err := m.follow(strings.NewReader("progress: x\nprogress: 1.0 s, 2.0 tps\n"), func() (usage, error) { return usage{}, broken })
	if !errors.Is(err, errProgress) || !errors.Is(err, broken) {
		t.Errorf("got %v, want errProgress and the meter's error", err)
	}
}

func TestParseSummaryCountsAndRefusesFailures(t *testing.T) {
	t.Parallel()
	const processed = "number of transactions actually processed: 12\n"
	if got, err := parseSummary("tps = 4\n" + processed + "number of failed transactions: 0 (0.000%)\n"); err != nil || got != 12 {
		t.Errorf("got %d, %v, want 12", got, err)
	}
	for _, text := range []string{"", "tps = 4\n", "number of transactions actually processed: x\n", processed + "number of failed transactions: 1 (8.3%)\n"} {
		if _, err := parseSummary(text); !errors.Is(err, errSummary) {
			t.Errorf("parseSummary(%q): got %v, want errSummary", text, err)
		}
	}
}

func TestLogsMustBeReadable(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"", "1 2\n", "1 2 x 0\n", "1 2 -5 0\n"} {
		if _, err := medianOfLogs(logFolder(t, content)); !errors.Is(err, errLog) {
			t.Errorf("log %q: got %v, want errLog", content, err)
		}
	}
}

func TestLoadIsRunWithoutVacuumAndWithAllItsClients(t *testing.T) {
	t.Parallel()
	got := load{mode: modePrepared, clients: 32, reconnect: true}.arguments(7 * time.Second)
	for _, want := range [][]string{{"-n"}, {"-S"}, {"-M", "prepared"}, {"-c", "32"}, {"-j", "2"}, {"-T", "7"}, {"-C"}, {"--sampling-rate=1"}} {
		at := slices.Index(got, want[0])
		if at < 0 || !slices.Equal(got[at:at+len(want)], want) {
			t.Errorf("arguments: got %v, want %v in them", got, want)
		}
	}
}

func FuzzPgbench(f *testing.F) {
	f.Add("progress: 1.5 s, 9012.3 tps, lat 3.331 ms")
	f.Add("number of transactions actually processed: 12\nnumber of failed transactions: 0 (0.000%)\n")
	f.Add("0 1 2345 0 1763731234 567\n")
	f.Fuzz(func(t *testing.T, text string) {
		if at, rate, err := parseProgress(text); err == nil && (math.IsNaN(at+rate) || at < 0 || rate < 0) {
			t.Errorf("parseProgress(%q): got %v, %v", text, at, rate)
		}
		if n, err := parseSummary(text); err == nil && n < 0 {
			t.Errorf("parseSummary(%q): got %d", text, n)
		}
		if latencies, err := appendLatencies(nil, text); err == nil && len(latencies) > 0 && slices.Min(latencies) < 0 {
			t.Errorf("appendLatencies(%q): got %v", text, latencies)
		}
		if parsePerfLine(text) < 0 || parseStraceLine(text) < 0 {
			t.Errorf("system calls of %q: got less than none", text)
		}
	})
}

// logFolder holds logs of pgbench.
func logFolder(t *testing.T, contents ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i, content := range contents {
		name := filepath.Join(dir, "pgbench_log.123"+strings.Repeat(".1", i))
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
