package throwawaypg

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// ErrNoPackageManager is returned by Install on a system whose package manager it does not know.
var ErrNoPackageManager = errors.New("no known package manager: install PostgreSQL's server programs by hand")

// NeedRootError is returned by Install when it is not root and sudo would ask for a password.
type NeedRootError struct {
	Command string // what a user can paste into a shell to do the same
}

// Error names the command to run by hand.
func (e *NeedRootError) Error() string {
	return "install postgres: needs root; run: " + e.Command
}

//go:embed apt.sh
var aptScript string

// manager is a package manager and the shell script that installs PostgreSQL's server with it.
type manager struct {
	program string
	script  string
	asUser  bool // refuses to run as root and needs no root
}

func managers() []manager {
	return []manager{
		{program: "apt-get", script: statements(aptScript)},
		{program: "dnf", script: "dnf install -y postgresql-server"},
		{program: "yum", script: "yum install -y postgresql-server"},
		{program: "zypper", script: "zypper --non-interactive install postgresql-server"},
		{program: "apk", script: "apk add postgresql"},
		{program: "pacman", script: "pacman -S --noconfirm --needed postgresql"},
		{program: "brew", script: "brew install postgresql@17", asUser: true},
	}
}

// statements joins the lines of a script in which each line is one statement into one line.
func statements(script string) string {
	var lines []string
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}

// Install installs PostgreSQL's server programs with the system's package manager and says on log what it does.
// No cluster is made or started.
//
// It needs root, or sudo that does not ask; it blocks for as long as the package manager does. A done ctx asks the
// package manager to stop and waits for it, since a killed one leaves the system half installed.
//
// Errors: *NeedRootError, ErrNoPackageManager, the package manager's exit.
func Install(ctx context.Context, log io.Writer) error {
	in := installer{path: os.Getenv("PATH"), root: os.Geteuid() == 0, log: log}
	return in.run(ctx)
}

type installer struct {
	path string // where programs are looked for
	root bool
	log  io.Writer
}

func (in installer) run(ctx context.Context) error {
	m, ok := in.manager()
	if !ok {
		return ErrNoPackageManager
	}
	argv := []string{"/bin/sh", "-c", m.script}
	if !in.root && !m.asUser {
		sudo := in.lookup("sudo")
		if sudo == "" || in.command(ctx, sudo, "-n", "true").Run() != nil {
			return &NeedRootError{Command: "sudo sh -c '" + m.script + "'"}
		}
		argv = append([]string{sudo, "-n"}, argv...)
	}
	if _, err := fmt.Fprintf(in.log, "installing PostgreSQL's server programs with %s\n", m.program); err != nil {
		return fmt.Errorf("install postgres: %w", err)
	}
	cmd := in.command(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = in.log, in.log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("install postgres with %s: %w", m.program, err)
	}
	return nil
}

func (in installer) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "PATH="+in.path)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	return cmd
}

// manager returns the first package manager that is here and can be run as this user.
func (in installer) manager() (manager, bool) {
	for _, m := range managers() {
		if in.lookup(m.program) != "" && !(in.root && m.asUser) {
			return m, true
		}
	}
	return manager{}, false
}

func (in installer) lookup(program string) string {
	for _, dir := range filepath.SplitList(in.path) {
		if file := filepath.Join(dir, program); filepath.IsAbs(file) && executable(file) {
			return file
		}
	}
	return ""
}
