package backend_test

import (
	"context"
	"crypto/md5"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/auth"
	"sluice/internal/backend"
	"sluice/internal/throwawaypg"
	"sluice/internal/tlsconf"
)

// postgres is a real Postgres with TLS and a role per way to log in, whose password is "secret".
type postgres struct {
	cluster *throwawaypg.Cluster
	roots   *x509.CertPool
}

func startPostgres(t *testing.T) *postgres {
	t.Helper()
	cert, key, err := tlsconf.SelfSigned([]string{"127.0.0.1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	p := &postgres{roots: x509.NewCertPool()}
	p.roots.AppendCertsFromPEM(cert)
	p.cluster = throwawaypg.MustStart(t, throwawaypg.Options{
		TLS: &throwawaypg.TLS{Cert: cert, Key: key},
		HBA: []string{
			"host all by_password all password", "local all by_password password", "host all by_md5 all md5",
			"host all by_scram all scram-sha-256", "host all by_trust all trust", "host all nobody all reject",
			"hostssl all only_tls all scram-sha-256", "hostnossl all only_plain all scram-sha-256",
			"host all only_tls,only_plain all reject",
		},
	})
	var sql []string
	for _, role := range []string{"by_password", "by_scram", "by_trust", "nobody", "only_tls", "only_plain"} {
		sql = append(sql, "CREATE ROLE "+role+" LOGIN PASSWORD 'secret'")
	}
	sql = append(sql, fmt.Sprintf("CREATE ROLE by_md5 LOGIN PASSWORD 'md5%x'", md5.Sum([]byte("secretby_md5"))))
	if err := p.cluster.Exec(t.Context(), sql...); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *postgres) address() backend.Address {
	return tcp(net.JoinHostPort(p.cluster.Host(), strconv.Itoa(p.cluster.Port())))
}

func (p *postgres) socket() backend.Address {
	return backend.Address{Network: "unix", Addr: filepath.Join(p.cluster.SocketDir(), ".s.PGSQL."+strconv.Itoa(p.cluster.Port()))}
}

func (p *postgres) dialer(t *testing.T, mode string) *backend.Dialer {
	t.Helper()
	params := backend.Params{Hosts: []backend.Address{p.address()}, TLSMode: mode, TLSFor: trusting, ConnectTimeout: time.Minute}
	if mode == backend.TLSVerifyFull {
		params.TLSFor = verifying(p.roots)
	}
	return newDialer(t, params)
}

func as(role, password string) backend.Target {
	return backend.Target{Role: role, Database: "postgres", Credential: auth.PasswordCredential(password)}
}

func TestRealPostgres(t *testing.T) {
	t.Parallel()
	p := startPostgres(t)
	t.Run("logins", func(t *testing.T) { testLogins(t, p) })
	t.Run("refusals", func(t *testing.T) { testRefusals(t, p) })
	t.Run("unix socket", func(t *testing.T) {
		d := newDialer(t, backend.Params{Hosts: []backend.Address{p.socket()}, TLSMode: backend.TLSVerifyFull, TLSFor: trusting})
		c, err := d.Dial(t.Context(), as("by_password", "secret"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		testCancel(t, d, c)
	})
	t.Run("unknown authority", func(t *testing.T) {
		d := newDialer(t, backend.Params{Hosts: []backend.Address{p.address()}, TLSMode: backend.TLSVerifyFull, TLSFor: verifying(x509.NewCertPool())})
		_, err := d.Dial(t.Context(), as("by_scram", "secret"))
		wantTLSError(t, err, errUnknownAuthority)
	})
	t.Run("queries", func(t *testing.T) { testQueries(t, p) })
}

// testLogins logs in by each method and mode, with SCRAM over TLS bound to the channel.
func testLogins(t *testing.T, p *postgres) {
	for _, mode := range []string{backend.TLSDisable, backend.TLSPrefer, backend.TLSRequire, backend.TLSVerifyFull} {
		for _, role := range []string{"by_password", "by_md5", "by_scram", "by_trust"} {
			t.Run(mode+" "+role, func(t *testing.T) {
				d := p.dialer(t, mode)
				c, err := d.Dial(t.Context(), as(role, "secret"))
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				limit := backend.Limit{Rows: 1, Bytes: 100}
				rows, err := c.Query(t.Context(), limit,
					"SELECT pg_backend_pid(), ssl, current_user FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
				want := [][]*string{{new(strconv.Itoa(int(c.PID))), new(map[bool]string{false: "f", true: "t"}[mode != backend.TLSDisable]), &role}}
				if diff := cmp.Diff(want, rows); diff != "" || err != nil {
					t.Errorf("%v (-want +got):\n%s", err, diff)
				}
				if _, encrypted := c.NetConn().(*tls.Conn); encrypted != c.TLS || len(c.Params) < 10 || len(c.Key) != 4 {
					t.Errorf("TLS %t, parameters %v, key of %d bytes", c.TLS, c.Params, len(c.Key))
				}
				if role == "by_scram" {
					testCancel(t, d, c)
				}
			})
		}
	}
}

// testCancel cancels what runs on c.
func testCancel(t *testing.T, d *backend.Dialer, c *backend.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error)
	go func() {
		_, err := c.Query(ctx, backend.Limit{Rows: 1, Bytes: 100}, "SELECT pg_sleep(60)")
		done <- err
	}()
	for { // the query may not have begun
		if err := d.Cancel(ctx, c.Identity); err != nil {
			t.Fatalf("cancel: %v", err)
		}
		select {
		case err := <-done:
			if e, ok := errors.AsType[*auth.ServerError](err); !ok || e.Response.Code != "57014" || c.Broken() {
				t.Errorf("the query ended with %v", err)
			}
			return
		case <-ctx.Done():
			t.Fatal("the query did not end")
		default:
		}
	}
}

func testRefusals(t *testing.T, p *postgres) {
	for name, tc := range map[string]struct {
		mode   string
		target backend.Target
		want   string
	}{
		"wrong password":      {backend.TLSPrefer, as("by_scram", "wrong"), "28P01"},
		"wrong md5 password":  {backend.TLSPrefer, as("by_md5", "wrong"), "28P01"},
		"unknown role":        {backend.TLSPrefer, as("stranger", "secret"), "28P01"},
		"rejected":            {backend.TLSPrefer, as("nobody", "secret"), "28000"},
		"only with TLS":       {backend.TLSDisable, as("only_tls", "secret"), "28000"},
		"only without TLS":    {backend.TLSRequire, as("only_plain", "secret"), "28000"},
		"unknown database":    {backend.TLSPrefer, backend.Target{Role: "by_trust", Database: "none"}, "3D000"},
		"unknown parameter":   {backend.TLSPrefer, withParam("nonsense", "1"), "42704"},
		"wrong value":         {backend.TLSPrefer, withParam("statement_timeout", "x"), "22023"},
		"value in its place":  {backend.TLSPrefer, withParam("statement_timeout", "5s"), ""},
		"no secret":           {backend.TLSPrefer, as("by_scram", ""), "none"},
		"unexpected encoding": {backend.TLSPrefer, withParam("client_encoding", "klingon"), "22023"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := p.dialer(t, tc.mode).Dial(t.Context(), tc.target)
			if c != nil {
				defer c.Close()
			}
			said, rejected := backend.Rejected(err)
			_, noSecret := errors.AsType[*auth.NoSecretError](err)
			switch {
			case tc.want == "" && err == nil, tc.want == "none" && noSecret && !rejected:
			case !rejected || said.Code != tc.want || backend.Unreachable(err):
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

func withParam(name, value string) backend.Target {
	target := as("by_trust", "")
	target.Params = append(target.Params, struct{ Name, Value string }{name, value})
	return target
}

func testQueries(t *testing.T, p *postgres) {
	c, err := p.dialer(t, backend.TLSPrefer).Dial(t.Context(), as("by_scram", "secret"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	limit := backend.Limit{Rows: 2, Bytes: 1000}
	rows, err := c.Query(t.Context(), limit, "SELECT $1::text, NULL::int, length($2)", "it's", "ü")
	if diff := cmp.Diff([][]*string{{new("it's"), nil, new("1")}}, rows); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if _, err := c.Query(t.Context(), limit, "SELECT generate_series(1,3)"); !errors.Is(err, backend.ErrLimit) {
		t.Errorf("got %v, want ErrLimit", err)
	}
	_, err = c.Query(t.Context(), limit, "SELECT nonsense")
	if e, ok := errors.AsType[*auth.ServerError](err); !ok || e.Response.Code != "42703" || c.Broken() {
		t.Errorf("got %v, want 42703", err)
	}
	if _, err := c.Query(t.Context(), limit, "COPY pg_class TO STDOUT"); !errors.Is(err, backend.ErrProtocol) || !c.Broken() {
		t.Errorf("got %v, want ErrProtocol", err)
	}
}
