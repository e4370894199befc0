package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// runInsteadOfTests has the test binary be the program.
const runInsteadOfTests = "SLUICE_TEST_RUN_PROGRAM"

// testTimeout bounds every wait for something that should happen at once, on a busy machine.
const testTimeout = 3 * time.Minute

func TestMain(m *testing.M) {
	if os.Getenv(runInsteadOfTests) != "" {
		//nolint:forbidigo // the exit code is what tests look at
		os.Exit(run(context.Background(), streams{os.Stdin, os.Stdout, os.Stderr}, "test", os.Args[1:]))
	}
	m.Run()
}

// result is what a command has left behind.
type result struct {
	code        int
	out, stderr string
}

// command runs a command line inside the test.
func command(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	var out, stderr bytes.Buffer
	code := run(t.Context(), streams{strings.NewReader(stdin), &out, &stderr}, "v1.2.3", append([]string{}, args...))
	return result{code, out.String(), stderr.String()}
}

// program is a command line run by a process of its own.
type program struct {
	t      *testing.T
	cmd    *exec.Cmd
	out    *output
	stderr *output
	exited chan struct{}
}

// start runs a command line in a process that is gone at the end of the test.
func start(t *testing.T, args ...string) *program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, cmd: exec.Command(self, args...), exited: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), runInsteadOfTests+"=1", databaseURLEnv+"=")
	p.out, p.stderr = p.pipe(p.cmd.StdoutPipe()), p.pipe(p.cmd.StderrPipe())
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(p.out.read)
	reading.Go(p.stderr.read)
	go func() {
		defer close(p.exited)
		reading.Wait()
		_ = p.cmd.Wait() // the state says it
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it has ended, unless the test failed
		<-p.exited
		if t.Failed() {
			t.Logf("stdout of sluice %s:\n%s\nstderr:\n%s", strings.Join(args, " "), p.out.all(), p.stderr.all())
		}
	})
	return p
}

func (p *program) pipe(r io.ReadCloser, err error) *output {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
	return newOutput(r)
}

func (p *program) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("signal %v: %v", s, err)
	}
}

// wantExit waits for the end of the process.
func (p *program) wantExit(code int) {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(testTimeout):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // for the stacks
		<-p.exited
		p.t.Fatalf("still running after %s", testTimeout)
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Errorf("got exit code %d (%s), want %d", got, p.cmd.ProcessState, code)
	}
}

// output is what a process writes, while it does.
type output struct {
	source io.ReadCloser

	mu    sync.Mutex // guards below
	lines []string
	more  chan struct{} // closed, and replaced, when a line comes
	ended bool
}

func newOutput(r io.ReadCloser) *output { return &output{source: r, more: make(chan struct{})} }

func (o *output) read() {
	scanner := bufio.NewScanner(o.source)
	for scanner.Scan() {
		o.add(scanner.Text(), false)
	}
	o.add("", true)
}

// abandon closes the pipe, as a reader does that ends.
func (o *output) abandon() { _ = o.source.Close() }

func (o *output) add(line string, last bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !last {
		o.lines = append(o.lines, line)
	}
	o.ended = last
	close(o.more)
	o.more = make(chan struct{})
}

func (o *output) all() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.lines, "\n")
}

// await waits for a line that holds all of the texts, and returns it. Lines that an earlier call returned are passed over
// by giving the number of matches to skip.
func (o *output) await(t *testing.T, skip int, texts ...string) string {
	t.Helper()
	timeout := time.After(testTimeout)
	for {
		o.mu.Lock()
		lines, more, ended := o.lines, o.more, o.ended
		o.mu.Unlock()
		left := skip
		for _, line := range lines {
			if containsAll(line, texts) {
				if left == 0 {
					return line
				}
				left--
			}
		}
		if ended {
			t.Fatalf("got no line with %q before the end", texts)
		}
		select {
		case <-more:
		case <-timeout:
			t.Fatalf("got no line with %q within %s", texts, testTimeout)
		}
	}
}

func containsAll(line string, texts []string) bool {
	for _, text := range texts {
		if !strings.Contains(line, text) {
			return false
		}
	}
	return true
}
