package proxy_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"sluice/internal/config"
	"sluice/internal/pgscript"
)

const (
	outside = "203.0.113.66" // where those come from who are to be refused
	inside  = "192.0.2.7"
)

// way is one of the ways to come to a listener.
type way struct {
	port  string
	tls   string // "", SSLRequest or direct
	proxy string // "", v1 or v2
}

// ways returns all: through both ports and the socket, with and without TLS and a load balancer.
func ways(socket string) []way {
	all := []way{{socket, "", ""}}
	for _, port := range []string{sessionPort, transactionPort} {
		for _, encryption := range []string{"", "SSLRequest", "direct"} {
			for _, proxy := range []string{"", "v1", "v2"} {
				all = append(all, way{port, encryption, proxy})
			}
		}
	}
	return all
}

// login comes that way from an address.
func (w way) login(h *harness, from, user, database, password string) error {
	c, err := w.open(h, from)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	return c.Login(user, database, password)
}

// open returns a client that has come that way and has not said yet as whom.
func (w way) open(h *harness, from string) (*pgscript.Client, error) {
	peer := from
	if w.proxy != "" {
		peer = balancer
	}
	nc, err := h.network.DialFrom(h.t.Context(), peer, w.port)
	if err != nil {
		return nil, err
	}
	h.t.Cleanup(func() { _ = nc.Close() })
	switch w.proxy {
	case "v1":
		_, err = fmt.Fprintf(nc, "PROXY TCP4 %s 10.0.0.9 1 5432\r\n", from)
	case "v2":
		_, err = nc.Write([]byte(headerV2(from + ":1")))
	}
	c := pgscript.NewClient(nc)
	switch w.tls {
	case "SSLRequest":
		err = errors.Join(err, c.StartTLS(clientTLS()))
	case "direct":
		tc := tls.Client(nc, clientTLS("postgresql"))
		err = errors.Join(err, tc.Handshake())
		c = pgscript.NewClient(tc)
	}
	return c, err
}

// rule is why a login is refused.
type rule struct {
	set     change
	refuses func(w way, m config.AuthMethod, socket string) bool // nil: all
	admits  bool                                                 // who comes from inside
	user    string
	db      string
	pw      string
}

func overTCP(w way, _ config.AuthMethod, socket string) bool { return w.port != socket }

func withoutTLS(w way, _ config.AuthMethod, socket string) bool {
	return w.tls == "" && w.port != socket
}

func refusingRules() map[string]rule {
	return map[string]rule{
		"process, allowed": {set: func(c *config.Config, _ *config.Tenant) { c.Network = only("192.0.2.0/24") }, refuses: overTCP, admits: true},
		"process, denied": {set: func(c *config.Config, _ *config.Tenant) { c.Network.DeniedCIDRs = only("203.0.113.0/24").AllowedCIDRs },
			refuses: overTCP, admits: true},
		"tenant": {set: func(_ *config.Config, t *config.Tenant) { t.Network.Network = only("192.0.2.0/24") }, refuses: overTCP, admits: true},
		"role": {set: func(_ *config.Config, t *config.Tenant) {
			t.Roles = []config.Role{{Name: "alice", Network: only("192.0.2.0/24")}}
		},
			refuses: overTCP, admits: true},
		"database": {set: func(_ *config.Config, t *config.Tenant) {
			t.Databases = []config.Database{{Name: "app", DBName: "app", Network: only("192.0.2.0/24")}}
		}, refuses: overTCP, admits: true},
		"nobody": {set: func(_ *config.Config, t *config.Tenant) { t.Network.AllowedCIDRs = nil }, refuses: overTCP},
		"mode": {set: func(_ *config.Config, t *config.Tenant) {
			t.Roles = []config.Role{{Name: "alice", Network: everywhere(), Modes: []config.Mode{config.ModeSession}}}
		}, refuses: func(w way, _ config.AuthMethod, _ string) bool { return w.port == transactionPort }},
		"other roles":                   {set: func(_ *config.Config, t *config.Tenant) { t.OtherRoles = config.Deny }},
		"other databases":               {set: func(_ *config.Config, t *config.Tenant) { t.OtherDatabases = config.Deny }},
		"require_tls":                   {set: func(_ *config.Config, t *config.Tenant) { t.RequireTLS = true }, refuses: withoutTLS},
		"tls_enforcement of the tenant": {set: func(_ *config.Config, t *config.Tenant) { t.TLSEnforcement = config.TLSEnforce }, refuses: withoutTLS},
		"tls_enforcement of the role": {set: func(_ *config.Config, t *config.Tenant) {
			t.Roles = []config.Role{{Name: "alice", Network: everywhere(), TLSEnforcement: config.TLSEnforce}}
		}, refuses: withoutTLS},
		"tls_enforcement of the database": {set: func(_ *config.Config, t *config.Tenant) {
			t.TLSEnforcement = config.TLSWarn
			t.Databases = []config.Database{{Name: "app", DBName: "app", Network: everywhere(), TLSEnforcement: config.TLSEnforce}}
		}, refuses: withoutTLS},
		"wrong password": {refuses: func(_ way, m config.AuthMethod, _ string) bool { return m != config.AuthTrust }, pw: "wrong"},
		"unknown role":   {refuses: func(_ way, m config.AuthMethod, _ string) bool { return m != config.AuthTrust }, user: "nobodyx"},
		"replication":    {db: "app\x00replication\x00true"},
	}
}

// Whatever refuses a login, on whatever way it comes, and however it would have proved itself: Postgres is not touched.
func TestWhatIsRefusedNeverTouchesABackend(t *testing.T) {
	offer := withTLS(t)
	users := usersFile(t, `"alice" "secret"`)
	keys := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(keys, keySet(t, "k"), 0o600); err != nil {
		t.Fatal(err)
	}
	methods := []config.AuthMethod{config.AuthTrust, config.AuthPassword, config.AuthMD5, config.AuthSCRAM, config.AuthCert, config.AuthPeer, config.AuthJWT}
	for name, r := range refusingRules() {
		for _, method := range methods {
			t.Run(name+" "+string(method), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					socket := filepath.Join(t.TempDir(), "s")
					if err := os.WriteFile(socket, nil, 0o600); err != nil { // its permissions are set
						t.Fatal(err)
					}
					h := newHarness(t, pgscript.Options{Passwords: map[string]string{"alice": "secret"}}, func(c *config.Config, tenant *config.Tenant) {
						offer(c, tenant)
						c.Listeners = append(c.Listeners, config.Listener{Name: "socket", Address: socket, Mode: config.ModeSession, UnixMode: 0o600})
						byToken(config.JWT{JWKSFile: keys, Roles: []string{"alice"}})(c, tenant)
						tenant.Auth.Method, tenant.Auth.UsersFile = method, users
						behind("10.0.0.0/8", r.set)(c, tenant)
					})
					r.try(t, h, method, socket)
				})
			})
		}
	}
}

// try has logins be refused on all ways, and then admitted from where they may come.
func (r rule) try(t *testing.T, h *harness, method config.AuthMethod, socket string) {
	t.Helper()
	user, db, pw := "alice", "app", "secret"
	if r.user != "" {
		user = r.user
	}
	if r.db != "" {
		db = r.db
	}
	if method == config.AuthJWT {
		pw = tokenFor(t, "k", "alice")
	}
	if r.pw != "" {
		pw = r.pw
	}
	for _, w := range ways(socket) {
		if r.refuses != nil && !r.refuses(w, method, socket) {
			continue
		}
		if err := w.login(h, outside, user, db, pw); err == nil {
			t.Errorf("%+v: let in", w)
		}
		if synctest.Wait(); len(h.postgres.Conns()) != 0 {
			t.Fatalf("%+v: Postgres saw a connection", w)
		}
	}
	if !r.admits || method == config.AuthCert || method == config.AuthPeer {
		return
	}
	for _, w := range ways(socket) {
		if (method == config.AuthPassword || method == config.AuthJWT) && w.tls == "" {
			continue
		}
		if err := w.login(h, inside, user, db, pw); err != nil {
			t.Errorf("%+v from inside: %v", w, err)
		}
	}
	if synctest.Wait(); len(h.postgres.Conns()) == 0 {
		t.Error("nobody who was let in has a backend")
	}
}
