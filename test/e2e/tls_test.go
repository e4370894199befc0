package e2e

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/throwawaypg"
)

// secured is base with TLS on both sides: clients are shown cert, Postgres is verified by the authority.
func secured(pg *throwawaypg.Cluster, a *authority, cert pair, extra string) string {
	yaml := strings.Replace(base(pg, extra), "tls_mode: disable", fmt.Sprintf("tls_mode: verify-full, ca_file: %q", a.file), 1)
	return yaml + fmt.Sprintf("tls: {cert_file: %q, key_file: %q}\n", cert.cert, cert.key)
}

// psql runs one statement by libpq and returns what it prints, or the error with what libpq says.
func psql(t *testing.T, conninfo, sql string) (string, error) {
	t.Helper()
	bin, err := throwawaypg.Find()
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "psql"), "--no-psqlrc", "--tuples-only", "--no-align", "--command", sql, conninfo)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "PGCONNECT_TIMEOUT=30"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// conninfo is libpq's for a port on this machine.
func conninfo(addr, user, more string) string {
	host, port, _ := net.SplitHostPort(addr)
	return fmt.Sprintf("host=%s port=%s user=%s password=%s-secret dbname=app %s", host, port, user, user, more)
}

func TestChannelBindingOfLibpqOnBothSides(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	pg := tlsCluster(t, a)
	r := start(t, pg, secured(pg, a, a.issue("sluice.example"), ""))
	for _, mode := range modes {
		for _, binding := range []string{"require", "prefer", "disable"} {
			got, err := psql(t, conninfo(r.addr[mode], "alice", "sslmode=verify-full sslrootcert="+a.file+" channel_binding="+binding), "SELECT current_user")
			if err != nil || got != "alice" {
				t.Errorf("%s, channel_binding=%s: %q, %v", mode, binding, got, err)
			}
		}
		_, err := psql(t, conninfo(r.addr[mode], "alice", "sslmode=disable channel_binding=require"), "SELECT 1")
		if err == nil {
			t.Errorf("%s: channel binding without TLS", mode)
		}
		_, err = psql(t, strings.Replace(conninfo(r.addr[mode], "alice", "sslmode=require channel_binding=require"), "alice-secret", "wrong", 1), "SELECT 1")
		if err == nil || !strings.Contains(err.Error(), "password authentication failed") {
			t.Errorf("%s: a wrong password: %v", mode, err)
		}
	}
}

func TestNoChannelBindingIsOfferedWhereItIsUndefined(t *testing.T) {
	t.Parallel()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	a := authorityWith(t, key)
	cert := a.issue("sluice")
	r := start(t, cluster, base(cluster, "")+fmt.Sprintf("tls: {cert_file: %q, key_file: %q}\n", cert.cert, cert.key))
	for _, mode := range modes {
		secure := "sslmode=verify-full sslrootcert=" + a.file
		if got, err := psql(t, conninfo(r.addr[mode], "alice", secure), "SELECT current_user"); err != nil || got != "alice" {
			t.Errorf("%s: %q, %v", mode, got, err)
		}
		_, err := psql(t, conninfo(r.addr[mode], "alice", secure+" channel_binding=require"), "SELECT 1")
		if err == nil || !strings.Contains(err.Error(), "channel binding is required") {
			t.Errorf("%s: channel_binding=require: %v, want libpq's refusal", mode, err)
		}
	}
}

func TestSomebodyInTheMiddleIsNoticedByChannelBinding(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	pg := tlsCluster(t, a)
	own := a.issue("middle.example").load(t)
	between := func(target string) *middle {
		return &middle{t: t, target: target, config: &tls.Config{Certificates: []tls.Certificate{own}}}
	}
	t.Run("client and Sluice", func(t *testing.T) {
		r := start(t, pg, secured(pg, a, a.issue("sluice.example"), ""))
		addr := fmt.Sprintf("127.0.0.1:%d", between(r.addr["transaction"]).listen())
		_, err := psql(t, conninfo(addr, "alice", "sslmode=verify-full sslrootcert="+a.file), "SELECT 1")
		if err == nil || !strings.Contains(err.Error(), "SCRAM channel binding check failed") {
			t.Errorf("got %v", err)
		}
		if got, err := psql(t, conninfo(addr, "alice", "sslmode=require channel_binding=disable"), "SELECT 1"); err != nil || got != "1" {
			t.Errorf("without channel binding: %q, %v", got, err)
		}
		if !strings.Contains(r.logs.String(), "reason=identity_failed") {
			t.Error("the log does not say so")
		}
	})
	t.Run("Sluice and Postgres", func(t *testing.T) {
		port := between(fmt.Sprintf("127.0.0.1:%d", pg.Port())).listen()
		yaml := strings.Replace(secured(pg, a, a.issue("sluice.example"), ""), fmt.Sprintf("port: %d", pg.Port()), fmt.Sprintf("port: %d", port), 1)
		r := start(t, pg, yaml)
		if _, err := pgx.Connect(r.ctx(), r.url("transaction", "alice", "")); err == nil {
			t.Error("logged in through somebody who holds another certificate than Postgres")
		}
		if !strings.Contains(r.logs.String(), "channel binding") {
			t.Errorf("the log does not name the reason")
		}
	})
}

func TestResumedTLSSessionsOfClientsAreBoundToTheCertificate(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	pg := tlsCluster(t, a)
	first, second := a.issue("first.example"), a.issue("second.example")
	yaml := secured(pg, a, first, "")
	yaml = strings.Replace(yaml, "tls: {", fmt.Sprintf("tls: {certificates: [{cert_file: %q, key_file: %q}], ", second.cert, second.key), 1)
	r := start(t, pg, yaml)
	config, err := pgx.ParseConfig(strings.Replace(r.url("session", "alice", "channel_binding=require"), "sslmode=disable", "sslmode=require", 1))
	must(t, err)
	var resumed []bool
	config.TLSConfig = &tls.Config{RootCAs: a.pool(), ServerName: "localhost", ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	config.TLSConfig.VerifyConnection = func(cs tls.ConnectionState) error {
		resumed = append(resumed, cs.DidResume)
		return nil
	}
	for range 3 {
		c, err := pgx.ConnectConfig(r.ctx(), config)
		must(t, err)
		if got := r.value(c, "SELECT current_user::text"); got != "alice" {
			t.Errorf("logged in as %q", got)
		}
		_ = c.Close(r.ctx())
	}
	if fmt.Sprint(resumed) != "[false true true]" {
		t.Errorf("resumed: %t, want all but the first", resumed)
	}
	// A certificate that is exchanged ends the tickets: what is bound to is always what the client knows.
	must(t, os.Rename(second.cert, first.cert))
	must(t, os.Rename(second.key, first.key))
	must(t, r.srv.Reload(r.load(strings.Replace(yaml, fmt.Sprintf("certificates: [{cert_file: %q, key_file: %q}], ", second.cert, second.key), "", 1))))
	c, err := pgx.ConnectConfig(r.ctx(), config)
	must(t, err)
	_ = c.Close(r.ctx())
	if resumed[len(resumed)-1] {
		t.Error("a ticket outlived its certificate")
	}
}

func TestDirectTLSOfClients(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	r := start(t, cluster, base(cluster, "require_tls: true")+fmt.Sprintf("tls: {cert_file: %q, key_file: %q}\n", a.issue("sluice").cert, filepath.Join(a.dir, "sluice.key")))
	for _, mode := range modes {
		url := strings.Replace(r.url(mode, "alice", "sslnegotiation=direct&channel_binding=require&max_protocol_version=3.2"),
			"sslmode=disable", "sslmode=verify-full&sslrootcert="+a.file, 1)
		c, err := pgx.Connect(r.ctx(), url)
		must(t, err)
		if got := r.value(c, "SELECT 'hello'"); got != "hello" {
			t.Errorf("%s: got %q", mode, got)
		}
		cancelRunning(t, r, c)
		_ = c.Close(r.ctx())
	}
	nc, err := tls.Dial("tcp", r.addr["session"], &tls.Config{RootCAs: a.pool(), ServerName: "localhost"})
	if err == nil {
		_, err = nc.Read(make([]byte, 1))
		_ = nc.Close()
	}
	if err == nil {
		t.Error("direct TLS without ALPN is answered")
	}
	nc, err = tls.Dial("tcp", r.addr["session"], &tls.Config{RootCAs: a.pool(), ServerName: "localhost", NextProtos: []string{"h2", "postgresql"}})
	must(t, err)
	defer nc.Close()
	if got := nc.ConnectionState().NegotiatedProtocol; got != "postgresql" {
		t.Errorf("agreed on %q", got)
	}
	_, err = nc.Write([]byte("\x00\x00\x00\x0c\x00\x02\x00\x00junk"))
	must(t, err)
	buf := make([]byte, 200)
	n, err := nc.Read(buf)
	must(t, err)
	if !strings.HasPrefix(string(buf[:n]), "EFATAL:  unsupported frontend protocol 2.0") {
		t.Errorf("protocol 2 inside TLS: %q", buf[:n])
	}
}

// cancelRunning has c run a statement that does not end, and cancels it.
func cancelRunning(t *testing.T, r *rig, c *pgx.Conn) {
	t.Helper()
	failed := make(chan error, 1)
	go func() {
		_, err := c.Exec(r.ctx(), "SELECT pg_sleep(600)")
		failed <- err
	}()
	// Until it runs there is nothing to cancel.
	deadline := time.After(30 * time.Second)
	for {
		must(t, c.PgConn().CancelRequest(r.ctx()))
		select {
		case err := <-failed:
			if sqlstate(err) != "57014" {
				t.Errorf("the statement ended with %v, want 57014", err)
			}
			return
		case <-deadline:
			t.Fatal("the statement was not cancelled")
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func TestDirectTLSTowardsPostgres(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	front := &middle{t: t, target: fmt.Sprintf("127.0.0.1:%d", cluster.Port()), direct: true,
		config: &tls.Config{Certificates: []tls.Certificate{a.issue("front").load(t)}, NextProtos: []string{"postgresql"}}}
	yaml := base(cluster, "")
	yaml = strings.Replace(yaml, fmt.Sprintf("port: %d", cluster.Port()), fmt.Sprintf("port: %d", front.listen()), 1)
	yaml = strings.Replace(yaml, "tls_mode: disable", fmt.Sprintf("tls_mode: verify-full, tls_negotiation: direct, ca_file: %q", a.file), 1)
	r := start(t, cluster, yaml)
	for _, mode := range modes {
		c := r.connect(mode, "alice", "")
		if got := r.value(c, "SELECT 'hello'"); got != "hello" {
			t.Errorf("%s: got %q", mode, got)
		}
		cancelRunning(t, r, c)
	}
	if h := r.srv.Health(r.ctx()); h.State != "healthy" {
		t.Errorf("health: %+v", h)
	}
}

func TestClientThatThinksThatWeCannotBindIsWarned(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	r := start(t, cluster, base(cluster, "")+fmt.Sprintf("tls: {cert_file: %q, key_file: %q}\n", a.issue("sluice").cert, filepath.Join(a.dir, "sluice.key")))
	nc, err := tls.Dial("tcp", r.addr["session"], &tls.Config{RootCAs: a.pool(), ServerName: "localhost", NextProtos: []string{"postgresql"}})
	must(t, err)
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	fe := pgproto3.NewFrontend(nc, nc)
	fe.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "alice", "database": "app"}})
	must(t, fe.Flush())
	m, err := fe.Receive()
	must(t, err)
	if sasl, ok := m.(*pgproto3.AuthenticationSASL); !ok || fmt.Sprint(sasl.AuthMechanisms) != "[SCRAM-SHA-256-PLUS SCRAM-SHA-256]" {
		t.Fatalf("offered %v, want PLUS first", m)
	}
	fe.Send(&pgproto3.SASLInitialResponse{AuthMechanism: "SCRAM-SHA-256", Data: []byte("y,,n=,r=abcdefgh")})
	must(t, fe.Flush())
	m, err = fe.Receive()
	must(t, err)
	if e, ok := m.(*pgproto3.ErrorResponse); !ok || e.Code != "28000" || e.Message != "SCRAM channel binding negotiation error" || e.Detail == "" {
		t.Errorf("got %+v", m)
	}
}
