package main

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// demoFolder returns the folder that the demo has named.
func demoFolder(t *testing.T, p *program) string {
	t.Helper()
	line := p.out.await(t, 0, "throwaway PostgreSQL in ")
	_, folder, _ := strings.Cut(strings.TrimSuffix(line, "."), "PostgreSQL in ")
	return folder
}

func wantRemoved(t *testing.T, folder string) {
	t.Helper()
	if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: got %v, want it removed", folder, err)
	}
}

func TestDemoRunsUntilCtrlC(t *testing.T) {
	t.Parallel()
	p := start(t, "demo")
	folder := demoFolder(t, p)
	if _, err := os.Stat(folder); err != nil {
		t.Error(err)
	}
	for i := range 2 {
		psql, databaseURL := p.out.await(t, i, `psql "host=`), strings.TrimSpace(p.out.await(t, i, "postgres://"))
		dsn := regexp.MustCompile(`"(.*)"`).FindStringSubmatch(psql)[1]
		for _, s := range []string{databaseURL, dsn} {
			ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
			conn, err := pgx.Connect(ctx, s)
			cancel()
			if err != nil {
				t.Fatalf("%s: %v", s, err)
			}
			wantOne(t, conn)
			mustExec(t, conn, "SELECT count(*) FROM accounts")
			_ = conn.Close(t.Context())
		}
	}
	admin := regexp.MustCompile(`http://[0-9.:]+`).FindString(p.out.await(t, 0, "for operators"))
	response, err := http.Get(admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("/metrics: got %s, want 200", response.Status)
	}
	working := regexp.MustCompile(`^clients +\d+   backends +\d+   transactions/s +[1-9]\d*$`)
	for skip := 0; !working.MatchString(p.out.await(t, skip, "clients  24   backends ")); {
		skip++
	}
	p.signal(syscall.SIGINT)
	p.wantExit(0)
	wantRemoved(t, folder)
	if got := p.stderr.all(); got != "" {
		t.Errorf("got %q on stderr, want nothing", got)
	}
	if got := p.out.all(); strings.Contains(got, "errors") {
		t.Errorf("got %q, want no errors", got)
	}
}

func TestDemoEndsAfterItsDuration(t *testing.T) {
	t.Parallel()
	p := start(t, "demo", "--duration", "3s")
	folder := demoFolder(t, p)
	p.wantExit(0)
	wantRemoved(t, folder)
}

func TestDemoEndsWithItsTerminal(t *testing.T) {
	t.Parallel()
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM} {
		p := start(t, "demo", "--no-load")
		folder := demoFolder(t, p)
		p.signal(s)
		p.signal(s) // those who are impatient do not make it leave the folder
		p.wantExit(0)
		wantRemoved(t, folder)
	}
}

func TestDemoEndsWithTheReaderOfItsPipe(t *testing.T) {
	t.Parallel()
	p := start(t, "demo", "--no-load")
	folder := demoFolder(t, p)
	p.out.abandon()
	p.wantExit(0)
	wantRemoved(t, folder)
	if got := p.stderr.all(); got != "" {
		t.Errorf("got %q on stderr, want nothing", got)
	}
}

func TestDemoStopsWhileItStarts(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, stderr strings.Builder
	code := run(ctx, streams{strings.NewReader(""), &out, &stderr}, "test", []string{"demo"})
	if code != 0 || out.String() != "" || stderr.String() != "" {
		t.Errorf("got exit code %d, stdout %q, stderr %q, want 0 and nothing", code, out.String(), stderr.String())
	}
}

func TestFreePortPassesOverTakenOnes(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", net.JoinHostPort(demoHost, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	taken := l.Addr().(*net.TCPAddr).Port
	got, err := freePort(taken)
	if err != nil || got <= taken || got >= taken+maxPortsTried {
		t.Errorf("got %d, %v, want one soon after %d", got, err, taken)
	}
}

func TestLoadTellsOfErrorsOnce(t *testing.T) {
	t.Parallel()
	var l load
	if got := l.trouble(); got != "" {
		t.Errorf("got %q, want nothing", got)
	}
	l.failed(errors.New("first"))
	l.failed(errors.New("second,\n\tlonger"))
	if got, want := l.trouble(), "   errors 2, last: second, longer"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := l.trouble(); got != "" {
		t.Errorf("got %q, want nothing", got)
	}
}

func TestLoadStopsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var l load
	l.running.Add(1)
	go l.client(ctx, "postgres://nobody@127.0.0.1:1/nothing", 0)
	for deadline := time.Now().Add(testTimeout); l.trouble() == ""; {
		if time.Now().After(deadline) {
			t.Fatal("got no error where nobody listens")
		}
		pause(ctx, time.Millisecond)
	}
	cancel()
	l.running.Wait()
}
