package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/wire"
)

// dial opens a connection that has said nothing yet.
func (r *rig) dial(mode string) net.Conn {
	r.t.Helper()
	nc, err := net.Dial("tcp", r.addr[mode])
	must(r.t, err)
	r.t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	return nc
}

func TestEncryptionRequestsWithoutACertificate(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, ""))
	ssl, gss := wire.AppendSSLRequest(nil), []byte{0, 0, 0, 8, 4, 0xd2, 0x16, 0x30}
	for name, requests := range map[string][][]byte{"SSLRequest first": {ssl, gss, ssl}, "GSSENCRequest first": {gss, ssl, gss}} {
		t.Run(name, func(t *testing.T) {
			nc := r.dial("session")
			for i, request := range requests[:2] {
				_, err := nc.Write(request)
				must(t, err)
				var b [1]byte
				if _, err := io.ReadFull(nc, b[:]); err != nil || b[0] != 'N' {
					t.Fatalf("request %d: %q, %v, want N", i, b, err)
				}
			}
			_, err := nc.Write(requests[2])
			must(t, err)
			if got, _ := io.ReadAll(nc); !strings.Contains(string(got), "08P01") {
				t.Errorf("the same request again: %q, want 08P01", got)
			}
		})
	}
}

func TestNewerProtocolsAreNegotiatedDownOnce(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, ""))
	user := []wire.Param{{Name: "user", Value: "alice"}, {Name: "database", Value: "app"}}
	for _, tc := range []struct {
		name    string
		version uint32
		extra   []wire.Param
		spoken  uint32   // from then on; 0: no negotiation
		want    []string // unknown options
	}{
		{"3.0", wire.Version30, nil, 0, nil},
		{"3.2", wire.Version32, nil, 0, nil},
		{"3.9999", 3<<16 | 9999, nil, wire.Version32, nil},
		{"an option", wire.Version30, []wire.Param{{Name: "_pq_.x", Value: "1"}, {Name: "_pq_.y", Value: "2"}}, wire.Version30, []string{"_pq_.x", "_pq_.y"}},
		{"an option of 3.2", wire.Version32, []wire.Param{{Name: "_pq_.x", Value: "1"}}, wire.Version32, []string{"_pq_.x"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			nc := r.dial("transaction")
			_, err := nc.Write(wire.AppendStartup(nil, tc.version, append(user, tc.extra...)))
			must(t, err)
			fe := pgproto3.NewFrontend(nc, nc)
			m, err := fe.Receive()
			must(t, err)
			if tc.spoken != 0 {
				v, ok := m.(*pgproto3.NegotiateProtocolVersion)
				if !ok || v.NewestMinorProtocol != tc.spoken || fmt.Sprint(v.UnrecognizedOptions) != fmt.Sprint(tc.want) {
					t.Fatalf("got %#v, want NegotiateProtocolVersion of %v", m, tc.want)
				}
				m, err = fe.Receive()
				must(t, err)
			}
			if _, ok := m.(*pgproto3.AuthenticationSASL); !ok {
				t.Errorf("then got %#v, want AuthenticationSASL", m)
			}
		})
	}
}

func TestProtocol32GivesLongKeys(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, ""))
	for _, mode := range modes {
		for version, length := range map[string]int{"3.0": 4, "3.2": 32} {
			c := r.connect(mode, "alice", "max_protocol_version="+version)
			if n := len(c.PgConn().SecretKey()); n != length {
				t.Errorf("%s, %s: a key of %d bytes, want %d", mode, version, n, length)
			}
			own := r.value(c, "SELECT pg_backend_pid()::text")
			if pid := fmt.Sprint(c.PgConn().PID()); (pid == own) != (mode == "session") {
				t.Errorf("%s: pid %s, the backend's is %s", mode, pid, own)
			}
			cancelRunning(t, r, c)
		}
	}
}

func TestWhatIsNotPostgres(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, ""))
	for name, tc := range map[string]struct {
		in   []byte
		want string
	}{
		"protocol 2": {[]byte("\x00\x00\x00\x0c\x00\x02\x00\x00junk"), "EFATAL:  unsupported frontend protocol 2.0: server supports 3.0 to 3.2\n"},
		"protocol 4": {[]byte("\x00\x00\x00\x0c\x00\x04\x00\x00junk"), "0A000"},
		"http":       {[]byte("GET / HTTP/1.1\r\n\r\n"), "08P01"},
		"no user":    {wire.AppendStartup(nil, wire.Version30, nil), "28000"},
	} {
		nc := r.dial("transaction")
		_, err := nc.Write(tc.in)
		must(t, err)
		if got, _ := io.ReadAll(nc); !strings.Contains(string(got), tc.want) {
			t.Errorf("%s: answered %q, want %s", name, got, tc.want)
		}
	}
}

func TestListensOnIPv6AndIPv4(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, strings.ReplaceAll(base(cluster, ""), "127.0.0.1:0", "[::]:0"))
	_, port, err := net.SplitHostPort(r.addr["transaction"])
	must(t, err)
	for _, host := range []string{"127.0.0.1", "[::1]"} {
		c, err := pgx.Connect(r.ctx(), strings.Replace(r.url("transaction", "alice", ""), r.addr["transaction"], host+":"+port, 1))
		must(t, err)
		if got := r.value(c, "SELECT 'hello'"); got != "hello" {
			t.Errorf("over %s: %q", host, got)
		}
		_ = c.Close(r.ctx())
	}
	denied := start(t, cluster, strings.ReplaceAll(base(cluster, `network: {denied_cidrs: ["127.0.0.0/8"]}`), "127.0.0.1:0", "[::]:0"))
	_, port, err = net.SplitHostPort(denied.addr["transaction"])
	must(t, err)
	_, err = pgx.Connect(r.ctx(), strings.Replace(denied.url("transaction", "alice", ""), denied.addr["transaction"], "127.0.0.1:"+port, 1))
	if sqlstate(err) != "28000" {
		t.Errorf("an IPv4 address on an IPv6 socket: %v, want 28000", err)
	}
}

func TestUnixSocketListener(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := dir + "/.s.PGSQL.6543"
	if len(path) > 100 {
		t.Fatalf("socket path too long for the system: %s", path)
	}
	r := start(t, cluster, strings.Replace(base(cluster, ""), `"127.0.0.1:0", mode: transaction`, fmt.Sprintf("%q, mode: transaction", path), 1))
	c, err := pgx.Connect(r.ctx(), fmt.Sprintf("host=%s port=6543 user=alice password=alice-secret dbname=app", dir))
	must(t, err)
	defer c.Close(r.ctx())
	if got := r.value(c, "SELECT 'hello'"); got != "hello" {
		t.Errorf("got %q", got)
	}
}

func TestMetricsAndStatusTellWhatHappened(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, "pool_size: 3"))
	for _, mode := range modes {
		c := r.connect(mode, "alice", "")
		r.exec(c, "SELECT 1")
		if mode == "transaction" {
			r.exec(c, "CREATE TEMP TABLE t (a int)")
			_, _ = c.Exec(r.ctx(), "SELECT nonsense")
		}
	}
	_, _ = pgx.Connect(r.ctx(), strings.Replace(r.url("transaction", "alice", ""), "alice-secret", "wrong", 1))
	r.eventually("the pin is counted", func() bool { return r.counter("sluice_pins_total", `reason="temp"`) == 1 })
	w := httptest.NewRecorder()
	r.srv.Metrics().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	labels := `database="app",mode="transaction",role="alice",tenant="default"`
	for _, want := range []string{
		`reason="auth_failed"`, `reason="temp"`, `class="42"`, `mode="session"`, labels,
		"sluice_transactions_total", "sluice_wait_seconds_bucket", "sluice_query_seconds_bucket", "sluice_transaction_seconds_bucket",
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
	if t.Failed() {
		t.Log(w.Body.String())
	}
	st := r.srv.Status()
	if len(st.Tenants) != 1 || len(st.Tenants[0].Pools) != 2 || st.Clients != 2 {
		t.Errorf("status: %+v", st)
	}
	if h := r.srv.Health(r.ctx()); h.State != "healthy" {
		t.Errorf("health: %+v", h)
	}
}
