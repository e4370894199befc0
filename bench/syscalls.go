package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// tracer counts the system calls of a process.
type tracer struct {
	program   string
	arguments []string               // behind which the process's number comes
	count     func(line string) int  // the calls that a line of its output tells of
	attached  func(line string) bool // the line from which on it counts
}

// perf counts in the kernel and costs the process next to nothing.
func perf() tracer {
	return tracer{
		program:   "perf",
		arguments: []string{"stat", "-x", ",", "-I", "100", "-e", "raw_syscalls:sys_enter", "-p"},
		count:     parsePerfLine,
		attached:  func(line string) bool { return strings.Contains(line, ",raw_syscalls:sys_enter,") },
	}
}

// strace stops the process twice for each call, so that more clients than usual are ready at once when it goes on.
func strace() tracer {
	return tracer{
		program:   "strace",
		arguments: []string{"-c", "-f", "-p"},
		count:     parseStraceLine,
		attached:  func(line string) bool { return strings.Contains(line, " attached") },
	}
}

// findTracer returns the first that works here; false: none does.
func findTracer(ctx context.Context) (tracer, bool) {
	if exec.CommandContext(ctx, "perf", "stat", "-e", "raw_syscalls:sys_enter", "true").Run() == nil {
		return perf(), true
	}
	works := exec.CommandContext(ctx, "strace", "-c", "-o", os.DevNull, "true").Run() == nil
	return strace(), works
}

// during counts the calls of a process while work runs.
func (t tracer) during(ctx context.Context, pid int, work func() error) (calls int, err error) {
	ctx, cancel := context.WithTimeout(ctx, graceTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, t.program, append(t.arguments, strconv.Itoa(pid))...)
	output, err := cmd.StderrPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(output)
	var before strings.Builder
	attached := false
	for !attached && lines.Scan() {
		before.WriteString(lines.Text() + "\n")
		attached = t.attached(lines.Text())
	}
	if !attached {
		return 0, errors.Join(fmt.Errorf("%s did not attach:\n%s", t.program, before.String()), cmd.Wait())
	}
	counted := make(chan int, 1)
	go t.sum(lines, output, counted)
	workErr := work()
	_ = cmd.Process.Signal(os.Interrupt) // it may have ended by itself
	calls = <-counted
	_ = cmd.Wait() // says that it was interrupted
	if calls == 0 && workErr == nil {
		workErr = fmt.Errorf("%s counted nothing", t.program)
	}
	return calls, workErr
}

// sum ends with the tracer's output.
func (t tracer) sum(lines *bufio.Scanner, output io.Reader, counted chan<- int) {
	calls := 0
	for lines.Scan() {
		calls += t.count(lines.Text())
	}
	_, _ = io.Copy(io.Discard, output)
	counted <- calls
}

// parsePerfLine reads a line of perf stat -x , -I: time, count, unit, event, …
func parsePerfLine(line string) int {
	fields := strings.Split(line, ",")
	if len(fields) < 4 || fields[3] != "raw_syscalls:sys_enter" {
		return 0
	}
	count, err := strconv.Atoi(fields[1])
	if err != nil || count < 0 {
		return 0 // "<not counted>": the process did nothing
	}
	return count
}

// parseStraceLine reads the last line of strace -c: percent, seconds, microseconds per call, calls, errors, "total".
func parseStraceLine(line string) int {
	fields := strings.Fields(line)
	if len(fields) < 5 || fields[len(fields)-1] != "total" {
		return 0
	}
	count, err := strconv.Atoi(fields[3])
	if err != nil || count < 0 {
		return 0
	}
	return count
}
