package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestOperatorsUseTheSocketWithoutAToken(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket, audit := filepath.Join(dir, "admin"), filepath.Join(dir, "audit.jsonl")
	folder := writeFiles(t, map[string]string{"sluice.yaml": fmt.Sprintf(`listeners: [{name: session, address: "127.0.0.1:0", mode: session}]
admin: {address: "", socket: %s}
log: {audit: %s}
state_dir: %s
tenants: [{auth: {method: trust}, network: {managed_by: api}}]
`, socket, audit, filepath.Join(dir, "state"))})
	p := start(t, "serve", "--config", filepath.Join(folder, "sluice.yaml"))
	p.stderr.await(t, 0, "listening for operators", socket)
	p.stderr.await(t, 0, "sluice started")
	if info, err := os.Lstat(socket); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("the socket has %v, %v", info.Mode(), err)
	}
	for _, c := range []struct{ args, out string }{
		{"bans list --admin unix:" + socket, "no address is banned\n"},
		{"bans clear --all --admin unix://" + socket, "0 cleared\n"},
		{"network-restrictions update --db-allow-cidr 10.0.0.0/8 --admin unix:" + socket, "  10.0.0.0/8\n"},
		{"report transaction-mode --admin unix:" + socket, "tenant default is not observed"},
	} {
		if got := command(t, "", strings.Fields(c.args)...); got.code != 0 || !strings.Contains(got.out, c.out) {
			t.Errorf("%s: got %+v, want %q", c.args, got, c.out)
		}
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(audit)
	who := fmt.Sprintf(`"author":"socket","author_user":"%s (uid %s)"`, me.Username, me.Uid)
	if err != nil || strings.Count(string(text), who) != 2 || strings.Contains(string(text), "author_name") {
		t.Errorf("audit log: %v, want %s twice in\n%s", err, who, text)
	}
	p.signal(syscall.SIGTERM)
	p.wantExit(0)
	if _, err := os.Lstat(socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
	if got := command(t, "", "bans", "list", "--admin", "unix:"+socket); got.code != 1 || !strings.HasPrefix(got.stderr, "sluice: ask "+socket+": ") {
		t.Errorf("nobody answers: got %+v", got)
	}
	if got := command(t, "", "bans", "list", "--admin", "unix:"); got.code != 2 || !strings.Contains(got.stderr, "--admin: unix: must be followed by the path") {
		t.Errorf("no path: got %+v", got)
	}
}
