package throwawaypg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// outputTimeout bounds the wait for backends that outlive a killed postmaster: they hold its output open.
const outputTimeout = 5 * time.Second

// programs runs initdb and postgres.
type programs struct {
	bindir string
	owner  owner
	log    io.Writer // nil: only the end of the output is kept
}

// command prepares a program that a signal to this process's group, as by Ctrl-C, does not reach.
func (p programs) command(output io.Writer, dir, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(p.bindir, name), args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LD_LIBRARY_PATH=" + os.Getenv("LD_LIBRARY_PATH"), "LC_ALL=C", "TZ=UTC", "HOME=" + dir}
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = processAttributes(p.owner.credential())
	cmd.WaitDelay = outputTimeout
	return cmd
}

func (p programs) initdb(ctx context.Context, f folders, args ...string) error {
	output := &tail{next: p.log}
	run := run(p.command(output, f.data, "initdb", append([]string{"--pgdata=" + f.data}, args...)...))
	select {
	case <-run.done:
	case <-ctx.Done():
		run.killGroup()
		<-run.done
		return fmt.Errorf("initdb: %w", context.Cause(ctx))
	}
	if run.err != nil {
		return fmt.Errorf("initdb: %w\n%s", run.err, output)
	}
	return nil
}

func (p programs) start(f folders, port int) (*server, error) {
	output := &tail{next: p.log}
	run := run(p.command(output, f.data, "postgres", "-D", f.data, "-p", strconv.Itoa(port)))
	if run.os == nil {
		<-run.done
		return nil, fmt.Errorf("start postgres: %w", run.err)
	}
	return &server{process: run, output: output}, nil
}

// process is a program that has been started.
type process struct {
	os   *os.Process   // nil: it could not be started
	done chan struct{} // closed when it has ended and its output has been read
	err  error         // set before done is closed
}

// run starts cmd and waits for it on a goroutine that ends with the program, or at once when cmd cannot be started.
func run(cmd *exec.Cmd) *process {
	p := &process{done: make(chan struct{})}
	started := make(chan struct{})
	go p.run(cmd, started)
	<-started
	return p
}

// run keeps its thread to itself until the program has ended: Linux signals a child with a parent-death signal when
// the thread that started it ends, not the process.
func (p *process) run(cmd *exec.Cmd, started chan<- struct{}) {
	defer close(p.done)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p.err = cmd.Start()
	if p.err == nil {
		p.os = cmd.Process
	}
	close(started)
	if p.err == nil {
		p.err = cmd.Wait()
	}
}

// killGroup ends the program with what it has started.
func (p *process) killGroup() {
	if p.os != nil {
		_ = syscall.Kill(-p.os.Pid, syscall.SIGKILL)
	}
}

// server is a running postmaster.
type server struct {
	*process
	output *tail
}

var errExited = errors.New("postgres exited")

func (s *server) running() bool {
	select {
	case <-s.done:
		return false
	default:
		return true
	}
}

// stop asks for a fast shutdown, then for an immediate one, then kills.
func (s *server) stop() {
	if !s.signal(syscall.SIGINT, fastTimeout) && !s.signal(syscall.SIGQUIT, quitTimeout) {
		s.kill()
	}
}

func (s *server) kill() {
	_ = s.os.Kill() // it may have ended by itself
	<-s.done
}

// signal reports whether the server has ended within the time.
func (s *server) signal(sig syscall.Signal, timeout time.Duration) bool {
	_ = s.os.Signal(sig) // it may have ended by itself
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-s.done:
		return true
	case <-timer.C:
		return false
	}
}
