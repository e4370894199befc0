package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"sluice/proxy"
)

// socketDir returns a folder whose path is short enough for sockets.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sluice")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// onSocket has the transaction port listen on a Unix socket.
func onSocket(yaml, path, mode string) string {
	return strings.Replace(yaml, `"127.0.0.1:0", mode: transaction`, fmt.Sprintf("%q, mode: transaction, unix_mode: %q", path, mode), 1)
}

func TestPeerLogsInTheUserOfTheSocket(t *testing.T) {
	t.Parallel()
	me, err := user.Current()
	must(t, err)
	pg := ownCluster(t)
	must(t, pg.Exec(context.Background(), fmt.Sprintf(`CREATE ROLE %q LOGIN PASSWORD 'my-secret'`, me.Username), fmt.Sprintf("GRANT ALL ON DATABASE app TO %q", me.Username)))
	dir := socketDir(t)
	yaml := strings.Replace(base(pg, fmt.Sprintf("roles: [{name: %q, backend: {password: my-secret}}]", me.Username)), "auth: {", "auth: {method: peer, ", 1)
	r := start(t, pg, onSocket(yaml, filepath.Join(dir, ".s.PGSQL.6543"), "0600"))
	c, err := pgx.Connect(r.ctx(), fmt.Sprintf("host=%s port=6543 user=%s dbname=app", dir, me.Username))
	must(t, err)
	defer c.Close(context.Background())
	if got := r.value(c, "SELECT current_user::text"); got != me.Username {
		t.Errorf("logged in as %q, want %q", got, me.Username)
	}
	_, err = pgx.Connect(r.ctx(), fmt.Sprintf("host=%s port=6543 user=alice password=alice-secret dbname=app", dir))
	if sqlstate(err) != "28000" || !strings.Contains(err.Error(), `Peer authentication failed for user "alice"`) {
		t.Errorf("as somebody else: %v", err)
	}
	_, err = psql(t, conninfo(r.addr["session"], "alice", ""), "SELECT 1")
	if err == nil || !strings.Contains(err.Error(), "peer authentication is not possible over TCP") || !strings.Contains(err.Error(), "HINT:  Connect through Sluice's Unix socket") {
		t.Errorf("over TCP: %v", err)
	}
	if got, err := psql(t, fmt.Sprintf("host=%s port=6543 user=%s dbname=app", dir, me.Username), "SELECT current_user"); err != nil || got != me.Username {
		t.Errorf("psql: %q, %v", got, err)
	}
}

func TestUnixSocketHasItsPermissionsAndGoesAway(t *testing.T) {
	t.Parallel()
	path := filepath.Join(socketDir(t), ".s.PGSQL.6543")
	mode := func() os.FileMode {
		info, err := os.Lstat(path)
		must(t, err)
		if info.Mode()&os.ModeSocket == 0 {
			t.Errorf("%s is no socket: %s", path, info.Mode())
		}
		return info.Mode().Perm()
	}
	r := start(t, cluster, onSocket(base(cluster, ""), path, "0600"))
	if got := mode(); got != 0o600 {
		t.Errorf("permissions %o, want 600", got)
	}
	c, err := pgx.Connect(r.ctx(), fmt.Sprintf("host=%s port=6543 user=alice password=alice-secret dbname=app", filepath.Dir(path)))
	must(t, err)
	defer c.Close(context.Background())
	must(t, r.srv.Reload(r.load(onSocket(base(cluster, ""), path, "0666"))))
	if got := mode(); got != 0o666 {
		t.Errorf("permissions after the reload %o, want 666", got)
	}
	if got := r.value(c, "SELECT 'alive'"); got != "alive" {
		t.Errorf("got %q", got)
	}
	_ = c.Close(context.Background())
	must(t, r.srv.Close())
	if _, err := os.Lstat(path); err == nil {
		t.Errorf("%s is still there", path)
	}
}

func TestOnlySocketsThatNobodyListensOnAreReplaced(t *testing.T) {
	t.Parallel()
	dir := socketDir(t)
	open := func(r *rig, path string) error {
		srv, err := proxy.New(r.load(onSocket(base(cluster, ""), path, "0660")), proxy.Options{Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			must(t, srv.Close())
		}
		return err
	}
	r := start(t, cluster, base(cluster, ""))
	stale := filepath.Join(dir, "stale")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	must(t, err)
	ln.SetUnlinkOnClose(false)
	if err := open(r, stale); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("a socket in use: %v", err)
	}
	must(t, ln.Close())
	if err := open(r, stale); err != nil {
		t.Errorf("a socket that nobody listens on: %v", err)
	}
	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, []byte("precious"), 0o600))
	if err := open(r, file); err == nil {
		t.Error("listening on a path where there is a file")
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "precious" {
		t.Errorf("the file is now %q, %v", got, err)
	}
	link := filepath.Join(dir, "link")
	must(t, os.Symlink(file, link))
	if err := open(r, link); err == nil {
		t.Error("listening on a path where there is a link")
	}
	if _, err := os.Lstat(link); err != nil {
		t.Error(err)
	}
}
