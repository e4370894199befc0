package throwawaypg_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/internal/throwawaypg"
)

// childEnv makes this test binary start a cluster, print its folder, and wait for its death.
const childEnv = "THROWAWAYPG_TEST_CHILD"

func TestPostgresEndsWhenItsParentIsKilled(t *testing.T) {
	if os.Getenv(childEnv) != "" {
		c := throwawaypg.MustStart(t, throwawaypg.Options{})
		_, _ = os.Stdout.WriteString("cluster: " + c.Dir() + "\n")
		select {}
	}
	t.Parallel()
	child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=2m")
	child.Env = append(os.Environ(), childEnv+"=1")
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var dir string
	for lines := bufio.NewScanner(stdout); dir == "" && lines.Scan(); {
		_, dir, _ = strings.Cut(lines.Text(), "cluster: ")
	}
	if dir == "" {
		t.Fatalf("the child started no cluster: %v", child.Wait())
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	postmaster := pidfd(t, filepath.Join(dir, "data", "postmaster.pid"))

	_ = child.Process.Kill()
	_ = child.Wait()
	const wait = 30_000 // milliseconds
	events := []unix.PollFd{{Fd: int32(postmaster), Events: unix.POLLIN}}
	if n, err := unix.Poll(events, wait); n != 1 {
		t.Errorf("postmaster still runs after its parent's death: poll: %d, %v", n, err)
	}
}

// pidfd returns a descriptor that becomes readable when the process named in the file ends.
func pidfd(t *testing.T, file string) int {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("pidfd of %d: %v", pid, err)
	}
	t.Cleanup(func() {
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) // in case the test has failed
		_ = unix.Close(fd)
	})
	return fd
}

func TestPostgresIsOutOfReachOfTheTerminal(t *testing.T) {
	t.Parallel()
	c := throwawaypg.MustStart(t, throwawaypg.Options{})
	content, err := os.ReadFile(filepath.Join(c.DataDir(), "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	group, err := unix.Getpgid(pid)
	if err != nil || group != pid {
		t.Errorf("process group of postmaster %d: got %d, %v, want its own", pid, group, err)
	}
}
