package proxy_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"sluice/internal/config"
	"sluice/internal/pgscript"
	"sluice/internal/tlsconf"
)

// refusal logs in and returns what the client is told instead of being let in.
func refusal(t *testing.T, c *pgscript.Client, user, database, password string) string {
	t.Helper()
	if err := c.Login(user, database, password); err == nil {
		t.Fatalf("%s was let in", user)
	}
	lines := strings.Split(c.Transcript(), "\n")
	return lines[len(lines)-1]
}

func noBackends(t *testing.T, h *harness) {
	t.Helper()
	synctest.Wait()
	if n := len(h.postgres.Conns()); n != 0 {
		t.Errorf("Postgres saw %d connections, want none", n)
	}
}

func TestWrongPasswordAndUnknownRoleLookTheSame(t *testing.T) {
	for _, method := range []config.AuthMethod{config.AuthMD5, config.AuthSCRAM, config.AuthAuto} {
		t.Run(string(method), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, pgscript.Options{}, func(_ *config.Config, tenant *config.Tenant) {
					tenant.Auth.Method, tenant.Auth.UsersFile = method, usersFile(t, `"alice" "secret"`)
				})
				var seen []string
				for _, user := range []string{"alice", "nobodyx"} {
					c := h.connect(transactionPort)
					_ = refusal(t, c, user, "app", "wrong")
					if _, err := c.NetConn().Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
						t.Errorf("read behind the refusal: %v", err)
					}
					seen = append(seen, kinds(strings.ReplaceAll(c.Transcript(), user, "ROLE")))
				}
				if seen[0] != seen[1] {
					t.Errorf("wrong password:\n%s\nunknown role:\n%s", seen[0], seen[1])
				}
				if !strings.Contains(seen[0], `B: ErrorResponse FATAL 28P01 "password authentication failed for user \"ROLE\""`) {
					t.Errorf("refused with\n%s", seen[0])
				}
				noBackends(t, h)
			})
		})
	}
}

// kinds drops what is random from a transcript of a login.
func kinds(transcript string) string {
	var lines []string
	for _, l := range strings.Split(transcript, "\n") {
		if strings.Contains(l, "SASL") || strings.Contains(l, "MD5") || strings.HasPrefix(l, "C: ") {
			l, _, _ = strings.Cut(l[3:], " ")
		}
		lines = append(lines, l)
	}
	return strings.Join(lines, "\n")
}

func TestRightPasswordIsAdmittedOnBothPorts(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{Passwords: map[string]string{"alice": "secret"}}, func(_ *config.Config, tenant *config.Tenant) {
			tenant.Auth.Method, tenant.Auth.UsersFile = config.AuthSCRAM, usersFile(t, `"alice" "secret"`)
		})
		query(t, h.login(port, "alice"), "SELECT current_user", "alice")
	})
}

func TestALoginWithoutATenantLooksLikeAWrongPasswordButInTheLog(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, func(c *config.Config, tenant *config.Tenant) {
			other := *tenant
			other.Name = "other"
			c.Tenants = append(c.Tenants, other)
		})
		for user, why := range map[string]string{"alice": "names none of the tenants", "alice.missing": `no tenant \"missing\"`} {
			if got := refusal(t, h.connect(port), user, "app", "secret"); !strings.HasPrefix(got, "B: ErrorResponse FATAL 28P01") {
				t.Errorf("%s: refused with %s", user, got)
			}
			if !strings.Contains(h.log.String(), why) {
				t.Errorf("%s: the log does not say %s:\n%s", user, why, h.log)
			}
		}
	})
}

func TestRulesOfAnAliasHoldForTheNameInPostgres(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, func(_ *config.Config, tenant *config.Tenant) {
			tenant.Databases = []config.Database{{
				Name: "reports", DBName: "prod",
				Network: config.Network{AllowedCIDRs: []config.Entry{{Prefix: netip.MustParsePrefix("10.0.0.0/8")}}},
			}}
		})
		for _, database := range []string{"reports", "prod"} {
			if got := refusal(t, h.connectFrom("192.0.2.1", port), "alice", database, ""); !strings.Contains(got, "28000") {
				t.Errorf("%s from elsewhere: %s", database, got)
			}
			if err := h.connectFrom("10.0.0.1", port).Login("alice", database, ""); err != nil {
				t.Errorf("%s from within: %v", database, err)
			}
		}
		if err := h.connectFrom("192.0.2.1", port).Login("alice", "other", ""); err != nil {
			t.Errorf("another database: %v", err)
		}
	})
}

func TestWhatAnybodyCanSendIsBoundedInTheLogs(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		audit := filepath.Join(t.TempDir(), "audit.jsonl")
		h := newHarness(t, pgscript.Options{}, func(c *config.Config, tenant *config.Tenant) {
			c.Log.Audit = audit
			tenant.Auth.Method, tenant.Auth.UsersFile = config.AuthSCRAM, usersFile(t, `"alice" "secret"`)
			closed := *tenant
			closed.Name, closed.OtherRoles = "closed", config.Deny
			c.Tenants = append(c.Tenants, closed)
		})
		long := "\u009b31m\x1b[2J" + strings.Repeat("x", 3000)
		for _, user := range []string{long, long + ".default", "alice." + long, long + ".closed", "alice.default"} {
			_ = refusal(t, h.connect(port), user, "a"+long, "wrong")
		}
		recorded, err := os.ReadFile(audit)
		if err != nil {
			t.Fatal(err)
		}
		for _, log := range []string{h.log.String(), h.json.String(), string(recorded)} {
			for line := range strings.Lines(log) {
				odd := strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return !unicode.IsPrint(r) })
				if len(line) > 1500 || odd {
					t.Errorf("a line of %d bytes, with control characters %t:\n%q", len(line), odd, line)
				}
			}
			if strings.Count(log, "auth_failed") < 4 || !strings.Contains(log, "denied_policy") || !strings.Contains(log, "wrong password") {
				t.Errorf("it does not say what there was:\n%s", log)
			}
		}
	})
}

func TestAddressDeniedByTheProcessHearsNothing(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, func(c *config.Config, _ *config.Tenant) {
			c.Network.DeniedCIDRs = []config.Entry{{Prefix: netip.MustParsePrefix("203.0.113.0/24")}}
		})
		if got, err := io.ReadAll(h.dialFrom("203.0.113.7", port)); len(got) > 0 || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
		noBackends(t, h)
		if !strings.Contains(h.log.String(), "reason=denied_address") {
			t.Errorf("the log does not say so:\n%s", h.log)
		}
	})
}

func TestAddressDeniedByTheTenantIsNamedInTheRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, func(_ *config.Config, tenant *config.Tenant) {
			tenant.Network.AllowedCIDRs = []config.Entry{{Prefix: netip.MustParsePrefix("10.0.0.0/8")}}
		})
		c := h.connectFrom("203.0.113.7", transactionPort)
		got := refusal(t, c, "alice", "app", "secret")
		want := `connection from address 203.0.113.7 to the transaction port 6543 is not allowed for user \"alice\", database \"app\", no encryption`
		if !strings.HasPrefix(got, "B: ErrorResponse FATAL 28000") || !strings.Contains(got, want) {
			t.Errorf("refused with %s, want %s", got, want)
		}
		noBackends(t, h)
		if err := h.connectFrom("10.1.2.3", transactionPort).Login("alice", "app", "secret"); err != nil {
			t.Errorf("an allowed address: %v", err)
		}
	})
}

func TestRoleMayBeLimitedToOneMode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, func(_ *config.Config, tenant *config.Tenant) {
			tenant.Roles = []config.Role{{Name: "alice", Modes: []config.Mode{config.ModeTransaction}, Network: everywhere()}}
		})
		got := refusal(t, h.connect(sessionPort), "alice", "app", "secret")
		if got != `B: ErrorResponse FATAL 28000 "role \"alice\" may not log in on the session port" "Use the other port."` {
			t.Errorf("refused with %s", got)
		}
		noBackends(t, h)
		query(t, h.login(transactionPort, "alice"), "SELECT 'x'", "x")
		query(t, h.login(sessionPort, "bob"), "SELECT 'x'", "x")
	})
}

// everywhere is a network that narrows nothing.
func everywhere() config.Network {
	return config.Network{AllowedCIDRs: []config.Entry{{Prefix: netip.MustParsePrefix("0.0.0.0/0")}, {Prefix: netip.MustParsePrefix("::/0")}}}
}

func TestUnlistedRolesAndDatabasesCanBeDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, func(_ *config.Config, tenant *config.Tenant) {
			tenant.OtherRoles, tenant.OtherDatabases = config.Deny, config.Deny
			tenant.Roles = []config.Role{{Name: "alice", Network: everywhere()}}
			tenant.Databases = []config.Database{{Name: "app", DBName: "app_prod", Network: everywhere()}}
		})
		if got := refusal(t, h.connect(transactionPort), "bob", "app", "x"); !matches(t, "ErrorResponse FATAL 28000", got[3:]) {
			t.Errorf("role: refused with %s", got)
		}
		if got := refusal(t, h.connect(transactionPort), "alice", "other", "x"); got != `B: ErrorResponse FATAL 3D000 "database \"other\" does not exist"` {
			t.Errorf("database: refused with %s", got)
		}
		noBackends(t, h)
		query(t, h.login(transactionPort, "alice"), "SELECT current_database()", "app_prod")
	})
}

func TestRequireTLSRefusesPlainClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cert, key := certificate(t)
		h := newHarness(t, pgscript.Options{}, func(c *config.Config, tenant *config.Tenant) {
			c.TLS.CertFile, c.TLS.KeyFile = cert, key
			tenant.RequireTLS = true
		})
		got := refusal(t, h.connect(transactionPort), "alice", "app", "secret")
		if got != `B: ErrorResponse FATAL 28000 "connection requires TLS" "Connect with sslmode=require."` {
			t.Errorf("refused with %s", got)
		}
		noBackends(t, h)
		c := h.connect(transactionPort)
		if err := c.StartTLS(&tls.Config{InsecureSkipVerify: true}); err != nil {
			t.Fatal(err)
		}
		if err := c.Login("alice", "app", "secret"); err != nil {
			t.Fatal(err)
		}
		query(t, c, "SELECT 'x'", "x")
		c.Run(t, "C: Terminate", "B: EOF")
	})
}

// certificate writes a throwaway certificate and its key.
func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	cert, key, err := tlsconf.SelfSigned([]string{"sluice.example"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := errors.Join(os.WriteFile(certFile, cert, 0o600), os.WriteFile(keyFile, key, 0o600)); err != nil {
		t.Fatal(err)
	}
	return certFile, keyFile
}
