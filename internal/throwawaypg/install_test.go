package throwawaypg

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestInstallWithoutRootGoesThroughSudoThatDoesNotAsk(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	record := filepath.Join(bin, "record")
	fakeProgram(t, bin, "dnf", "exit 1")
	fakeProgram(t, bin, "sudo", `printf "%s\n" "$*" >> `+record+`; echo from sudo`)
	var log strings.Builder
	if err := (installer{path: bin, log: &log}).run(t.Context()); err != nil {
		t.Fatalf("install: %v", err)
	}
	got, err := os.ReadFile(record)
	if want := "-n true\n-n /bin/sh -c dnf install -y postgresql-server\n"; err != nil || string(got) != want {
		t.Errorf("sudo's arguments: got %q, %v, want %q", got, err, want)
	}
	if want := "installing PostgreSQL's server programs with dnf\nfrom sudo\n"; log.String() != want {
		t.Errorf("log: got %q, want %q", log.String(), want)
	}
}

func TestInstallNamesTheCommandWhenSudoWouldAsk(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"sudo", "not-sudo"} {
		bin := t.TempDir()
		fakeProgram(t, bin, "apt-get", "exit 1")
		fakeProgram(t, bin, name, "exit 1")
		var log strings.Builder
		err := installer{path: bin, log: &log}.run(t.Context())
		var needRoot *NeedRootError
		if !errors.As(err, &needRoot) {
			t.Fatalf("install: got %v, want *NeedRootError", err)
		}
		if strings.Contains(needRoot.Command, "\n") || !strings.Contains(needRoot.Command, "create_main_cluster = false") {
			t.Errorf("command: got %q, want one line that makes no cluster", needRoot.Command)
		}
		if log.Len() > 0 {
			t.Errorf("log: got %q, want nothing", log.String())
		}
	}
}

func TestInstallReportsThePackageManagersExit(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	fakeProgram(t, bin, "pacman", "echo no network; exit 3")
	var log strings.Builder
	err := installer{path: bin, root: true, log: &log}.run(t.Context())
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 || !strings.Contains(log.String(), "no network") {
		t.Errorf("install: got %v with log %q, want exit status 3 and the output", err, log.String())
	}
}

func TestInstallKnowsWhenItCannot(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	fakeProgram(t, bin, "brew", "exit 0") // refuses to run as root
	err := installer{path: bin, root: true, log: &strings.Builder{}}.run(t.Context())
	if !errors.Is(err, ErrNoPackageManager) {
		t.Errorf("install: got %v, want ErrNoPackageManager", err)
	}
}

func TestScriptsCanBePastedBetweenSingleQuotes(t *testing.T) {
	t.Parallel()
	for _, m := range managers() {
		if strings.ContainsAny(m.script, "'\n") {
			t.Errorf("%s: a quote or a line break in %q", m.program, m.script)
		}
		if out, err := exec.Command("/bin/sh", "-n", "-c", m.script).CombinedOutput(); err != nil {
			t.Errorf("%s: sh -n: %v: %s", m.program, err, out)
		}
	}
}
