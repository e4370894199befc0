package main

import (
	"errors"
	"slices"
	"testing"
	"time"
)

func TestParseStatReadsTimesBehindAnyName(t *testing.T) {
	t.Parallel()
	const rest = " S 1 7 7 0 -1 4194560 99 100 0 0 12 34 56 78 20 0 5 0 1234 99999 55 18446744073709551615"
	want := processStat{own: 460 * time.Millisecond, children: 1340 * time.Millisecond}
	for _, name := range []string{"(postgres)", "(a) b (c))", "(1 2 3 4 5 6 7 8 9 10 11 12 13 14)", "(with\nline)"} {
		if got, err := parseStat("7 " + name + rest); err != nil || got != want {
			t.Errorf("parseStat with name %q: got %+v, %v, want %+v", name, got, err, want)
		}
	}
	for _, content := range []string{"", "7 (x", "7 (x) S 1 2", "7 (x) S 1 7 7 0 -1 4194560 99 100 0 0 12 34 56 many"} {
		if _, err := parseStat(content); !errors.Is(err, errStat) {
			t.Errorf("parseStat(%q): got %v, want errStat", content, err)
		}
	}
}

func TestParseRSSReadsBytes(t *testing.T) {
	t.Parallel()
	if got, err := parseRSS("Name:\tx\nVmHWM:\t 9999 kB\nVmRSS:\t    1234 kB\nThreads:\t1\n"); err != nil || got != 1234<<10 {
		t.Errorf("parseRSS: got %d, %v, want %d", got, err, 1234<<10)
	}
	for _, content := range []string{"", "Name:\tx\n", "VmRSS:\n", "VmRSS:\t12 MB\n", "VmRSS:\t-1 kB\n", "VmRSS:\t99999999999999999999 kB\n"} {
		if _, err := parseRSS(content); !errors.Is(err, errStatus) {
			t.Errorf("parseRSS(%q): got %v, want errStatus", content, err)
		}
	}
}

func TestParsePIDs(t *testing.T) {
	t.Parallel()
	if got, err := parsePIDs([]byte("12 345 6 ")); err != nil || !slices.Equal(got, []int{12, 345, 6}) {
		t.Errorf("parsePIDs: got %v, %v, want [12 345 6]", got, err)
	}
	for _, content := range []string{"12 x", "-3", "0"} {
		if got, err := parsePIDs([]byte(content)); err == nil {
			t.Errorf("parsePIDs(%q): got %v, want an error", content, got)
		}
	}
}

func FuzzProc(f *testing.F) {
	f.Add("7 (x) S 1 7 7 0 -1 4194560 99 100 0 0 12 34 56 78")
	f.Add("VmRSS:\t 12 kB\n")
	f.Add("1 2 3")
	f.Fuzz(func(t *testing.T, content string) {
		if _, err := parseStat(content); err != nil && !errors.Is(err, errStat) {
			t.Errorf("parseStat(%q): %v", content, err)
		}
		if n, err := parseRSS(content); err == nil && n < 0 {
			t.Errorf("parseRSS(%q): got %d", content, n)
		}
		if pids, err := parsePIDs([]byte(content)); err == nil && slices.ContainsFunc(pids, func(p int) bool { return p <= 0 }) {
			t.Errorf("parsePIDs(%q): got %v", content, pids)
		}
	})
}
