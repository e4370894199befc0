package proxy_test

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/config"
	"sluice/internal/logbuf"
	"sluice/internal/memnet"
	"sluice/internal/pgscript"
	"sluice/proxy"
)

const (
	sessionPort     = "127.0.0.1:5432"
	transactionPort = "127.0.0.1:6543"
	postgresAddress = "127.0.0.1:5433"
)

// bothPorts runs a test in a bubble for each port.
func bothPorts(t *testing.T, f func(t *testing.T, port string)) {
	for name, port := range map[string]string{"session": sessionPort, "transaction": transactionPort} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, port) })
		})
	}
}

// harness is a network with a Postgres and a Sluice in front of it. It belongs to a bubble and ends with its test.
type harness struct {
	t        *testing.T
	network  *memnet.Network
	postgres *pgscript.Server
	srv      *proxy.Server
	log      *logbuf.Buffer
	json     *logbuf.Buffer // the same
}

// settings is a configuration as most tests want it: everybody is trusted, and the code of the database too.
func settings(ch change) *config.Config {
	c := config.Default()
	c.Admin.Address, c.Watch, c.Log.Sessions = "", "none", "all"
	t := &c.Tenants[0]
	t.Auth.Method, t.Auth.UsersFile = config.AuthTrust, ""
	t.StateCheck = config.StateCheckHint
	t.Backend.TLSMode = config.TLSDisable
	if ch != nil {
		ch(&c, t)
	}
	return &c
}

// change is what a test wants other than settings has it.
type change func(c *config.Config, tenant *config.Tenant)

// dialFunc is how Postgres is reached.
type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// newHarness starts a Postgres and a Sluice with the settings.
func newHarness(t *testing.T, o pgscript.Options, ch change) *harness {
	t.Helper()
	return newHarnessOn(t, o, ch, func(n *memnet.Network) dialFunc { return n.Dial })
}

// newHarnessOn is newHarness with another way to Postgres.
func newHarnessOn(t *testing.T, o pgscript.Options, ch change, dial func(n *memnet.Network) dialFunc) *harness {
	t.Helper()
	h := &harness{t: t, network: memnet.New(), log: &logbuf.Buffer{}, json: &logbuf.Buffer{}}
	h.postgres = pgscript.Serve(h.network.Listen(postgresAddress), o)
	t.Cleanup(h.postgres.Close)
	debug := &slog.HandlerOptions{Level: slog.LevelDebug}
	srv, err := proxy.New(settings(ch), proxy.Options{
		Log:    slog.New(slog.NewMultiHandler(slog.NewTextHandler(h.log, debug), slog.NewJSONHandler(h.json, debug))),
		Listen: func(_, address string) (net.Listener, error) { return h.network.Listen(address), nil },
		Dial:   proxy.DialFunc(dial(h.network)),
		Loops:  3,
	})
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	h.srv = srv
	served := make(chan error, 1)
	go func() { served <- srv.Serve() }()
	t.Cleanup(func() {
		_ = srv.Close()
		if err := <-served; !errors.Is(err, proxy.ErrServerClosed) {
			t.Errorf("Serve = %v, want ErrServerClosed", err)
		}
		if strings.Contains(h.log.String(), "panic") {
			t.Errorf("something panicked:\n%s", h.log)
		}
	})
	return h
}

// connect returns a client that has said nothing yet.
func (h *harness) connect(port string) *pgscript.Client {
	h.t.Helper()
	return h.connectFrom("127.0.0.1", port)
}

func (h *harness) connectFrom(from, port string) *pgscript.Client {
	h.t.Helper()
	return pgscript.NewClient(h.dialFrom(from, port))
}

func (h *harness) dialFrom(from, port string) *memnet.Conn {
	h.t.Helper()
	nc, err := h.network.DialFrom(h.t.Context(), from, port)
	if err != nil {
		h.t.Fatalf("dial %s: %v", port, err)
	}
	h.t.Cleanup(func() { _ = nc.Close() })
	return nc
}

// login returns a client that is logged in as user to the database app.
func (h *harness) login(port, user string, params ...string) *pgscript.Client {
	h.t.Helper()
	c := h.connect(port)
	if err := c.Login(user, "app", "secret", params...); err != nil {
		h.t.Fatalf("login: %v\n%s", err, c.Transcript())
	}
	return c
}

// cancel sends a cancel request for the client, and waits until it is answered by silence.
func (h *harness) cancel(port string, c *pgscript.Client) {
	h.t.Helper()
	if err := pgscript.Cancel(h.dialFrom("127.0.0.1", port), c.PID, c.Key); err != nil {
		h.t.Errorf("cancel: %v", err)
	}
}

// received returns what Postgres was sent, but for what Sluice asks on its own account.
func (h *harness) received() []string {
	var lines []string
	for _, c := range h.postgres.Conns() {
		lines = append(lines, clients(c.Log())...)
	}
	return lines
}

// clients drops what Sluice asks on its own account, a statement with its Bind, Execute and Sync, from the log of a backend.
func clients(log []string) (lines []string) {
	for i := 0; i < len(log); i++ {
		if strings.HasPrefix(log[i], `Parse "" "SELECT p.oid::`) {
			i += 3
			continue
		}
		lines = append(lines, log[i])
	}
	return lines
}

// count returns how many lines begin so.
func count(lines []string, prefix string) (n int) {
	for _, l := range lines {
		if strings.HasPrefix(l, prefix) {
			n++
		}
	}
	return n
}

// query runs a simple query and fails the test unless the first values are those wanted.
func query(t *testing.T, c *pgscript.Client, sql string, want ...string) {
	t.Helper()
	got, err := c.Query(sql)
	if err != nil || strings.Join(got, ",") != strings.Join(want, ",") {
		t.Fatalf("%s = %q, %v, want %q\n%s", sql, got, err, want, c.Transcript())
	}
}

// background runs f on a goroutine that ends before the test does, and returns a channel that is closed when it has.
func background(t *testing.T, f func()) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	t.Cleanup(func() { <-done })
	return done
}

func wantElapsed(t *testing.T, start time.Time, want time.Duration) {
	t.Helper()
	if got := time.Since(start); got != want {
		t.Errorf("took %s, want %s", got, want)
	}
}

// shutdown drains with a deadline, on a goroutine of its own.
func (h *harness) shutdown(limit time.Duration) <-chan error {
	result := make(chan error, 1)
	background(h.t, func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		result <- h.srv.Shutdown(ctx)
	})
	return result
}

// usersFile writes a users file and returns its path.
func usersFile(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users.txt")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// answerMD5 goes on with a login that has sent its start-up message.
func answerMD5(t *testing.T, c *pgscript.Client, user, password string) {
	t.Helper()
	fe := pgproto3.NewFrontend(c.NetConn(), c.NetConn())
	msg, err := fe.Receive()
	ask, ok := msg.(*pgproto3.AuthenticationMD5Password)
	if err != nil || !ok {
		t.Fatalf("got %v, %v, want AuthenticationMD5Password", msg, err)
	}
	inner := md5.Sum([]byte(password + user))
	outer := md5.Sum(append([]byte(hex.EncodeToString(inner[:])), ask.Salt[:]...))
	fe.Send(&pgproto3.PasswordMessage{Password: "md5" + hex.EncodeToString(outer[:])})
	if err := fe.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Collect(); err != nil {
		t.Fatal(err)
	}
}
