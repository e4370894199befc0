package main

import "testing"

func TestSystemCallsAreRead(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name  string
		parse func(string) int
		line  string
		want  int
	}{
		{"perf", parsePerfLine, "     0.100215791,1234,,raw_syscalls:sys_enter,100201712,100.00,,", 1234},
		{"perf, idle", parsePerfLine, "     0.100215791,<not counted>,,raw_syscalls:sys_enter,0,100.00,,", 0},
		{"perf, another event", parsePerfLine, "1.0,7,,cycles,1,100.00,,", 0},
		{"strace", parseStraceLine, "100.00    0.123456           1      4321        12 total", 4321},
		{"strace, no errors", parseStraceLine, "100.00    0.123456           1      4321           total", 4321},
		{"strace, one call", parseStraceLine, " 42.00    0.023456           1       321           read", 0},
		{"strace, header", parseStraceLine, "% time     seconds  usecs/call     calls    errors syscall", 0},
	}
	for _, c := range cases {
		if got := c.parse(c.line); got != c.want {
			t.Errorf("%s: got %d, want %d from %q", c.name, got, c.want, c.line)
		}
	}
}

func TestTracersSeeThatTheyAttached(t *testing.T) {
	t.Parallel()
	if !perf().attached("0.1,1,,raw_syscalls:sys_enter,1,100.00,,") || perf().attached("Error: no such event") {
		t.Error("perf: attached is wrong")
	}
	if !strace().attached("strace: Process 12 attached with 3 threads") || strace().attached("strace: attach: Operation not permitted") {
		t.Error("strace: attached is wrong")
	}
}
