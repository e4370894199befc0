package proxy_test

import (
	"crypto/md5"
	"encoding/hex"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/config"
	"sluice/internal/pgscript"
)

// guessTenant logs in as a role that there is nowhere, and returns how that looked with tenant written as TENANT, and the salt
// that is shown.
func (h *harness) guessTenant(t *testing.T, tenant, user, options string) (looks, salt string) {
	t.Helper()
	c := h.connect(transactionPort)
	if err := c.Login(user, "app", "wrong", "options", options); err == nil {
		t.Fatalf("%s was let in", user)
	}
	looks = kinds(strings.ReplaceAll(c.Transcript(), tenant, "TENANT"))
	again := h.connect(transactionPort)
	if err := again.Startup("user", user, "options", options); err != nil {
		t.Fatal(err)
	}
	fe := pgproto3.NewFrontend(again.NetConn(), again.NetConn())
	if _, err := fe.Receive(); err != nil {
		t.Fatal(err)
	}
	fe.Send(&pgproto3.SASLInitialResponse{AuthMechanism: "SCRAM-SHA-256", Data: []byte("n,,n=,r=nonce")})
	if err := fe.Flush(); err != nil {
		t.Fatal(err)
	}
	msg, err := fe.Receive()
	challenge, ok := msg.(*pgproto3.AuthenticationSASLContinue)
	if err != nil || !ok {
		t.Fatalf("got %v, %v, want the salt", msg, err)
	}
	_, salt, _ = strings.Cut(string(challenge.Data), ",s=")
	return looks, salt
}

func TestNobodyLearnsWhichTenantsThereAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, func(c *config.Config, tenant *config.Tenant) {
			tenant.Name, tenant.Auth.Method, tenant.Auth.UsersFile = "acme", config.AuthSCRAM, usersFile(t, `"alice" "secret"`)
			other := *tenant
			other.Name = "globex"
			c.Tenants = append(c.Tenants, other)
		})
		_, nowhere := h.guessTenant(t, "-", "nobody", "")
		want := ""
		for _, tenant := range []string{"acme", "globex", "missing"} {
			// looks has what each login looks like, and which of the salts are the same.
			var looks []string
			var salts []string
			for _, try := range [][2]string{
				{"nobody.TENANT", ""}, {"nobody", "-csluice.tenant=TENANT"}, {"nobody.TENANT", "reference=TENANT"},
				{"nobody.TENANT", "reference=globe"}, {"nobody.TENANT", "reference=acme"}, {"nobody.globex", "reference=TENANT"},
			} {
				look, salt := h.guessTenant(t, tenant, strings.ReplaceAll(try[0], "TENANT", tenant), strings.ReplaceAll(try[1], "TENANT", tenant))
				looks, salts = append(looks, look), append(salts, salt)
			}
			if salts[0] != salts[1] || salts[0] != salts[2] || salts[0] == nowhere {
				t.Errorf("%s: the salts are %q and %q, want the first three alike, and unlike %q", tenant, salts[:3], salts[3:], nowhere)
			}
			got := strings.Join(looks[:4], "\n\n")
			if want == "" {
				want = got
			}
			if got != want {
				t.Errorf("%s looks like\n%s\nwant what another one does:\n%s", tenant, got, want)
			}
			for _, look := range looks {
				if !strings.Contains(look, `ErrorResponse FATAL 28P01 "password authentication failed for user \"nobody`) {
					t.Errorf("%s: refused with\n%s", tenant, look)
				}
			}
		}
		for _, why := range []string{`the client names two tenants, \"acme\" and \"globe\"`, `this listener has no tenant \"missing\"`, "the client names none of the tenants"} {
			if !strings.Contains(h.log.String(), why) {
				t.Errorf("the log does not say %s:\n%s", why, h.log)
			}
		}
		c := h.connect(transactionPort)
		if err := c.Login("nobody.acme", "app", "wrong", "options", "reference=acme -c sluice.tenant=missing"); err == nil || !strings.Contains(c.Transcript(), "the options name two different tenants") {
			t.Errorf("two options that disagree: %v\n%s", err, c.Transcript())
		}
	})
}

func TestMD5AsRoleAndTenant(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		sum := md5.Sum([]byte("secretbob"))
		h := newHarness(t, pgscript.Options{Passwords: map[string]string{"alice": "secret"}}, func(_ *config.Config, tenant *config.Tenant) {
			tenant.Auth.Method = config.AuthMD5
			tenant.Auth.UsersFile = usersFile(t, `"alice" "secret"`, `"bob" "md5`+hex.EncodeToString(sum[:])+`"`)
		})
		query(t, h.login(port, "alice.default"), "SELECT current_user", "alice")
		for _, user := range []string{"alice", "bob", "nobody"} {
			got := refusal(t, h.connect(port), user+".default", "app", "wrong")
			want := `B: ErrorResponse FATAL 28P01 "password authentication failed for user \"` + user + `.default\"" "With md5 the password is hashed together with the user name: `
			if !strings.HasPrefix(got, want) {
				t.Errorf("refused with %s, want %s", got, want)
			}
		}
		if got := refusal(t, h.connect(port), "bob", "app", "wrong"); strings.Contains(got, "With md5") {
			t.Errorf("without a tenant: %s", got)
		}
		synctest.Wait()
		if !strings.Contains(h.log.String(), "hashed with another user name") {
			t.Errorf("the log does not say why:\n%s", h.log)
		}
	})
}

func TestTheRefusalNamesTheUserAsTheClientDoes(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, func(_ *config.Config, tenant *config.Tenant) {
			tenant.Auth.Method, tenant.Auth.UsersFile = config.AuthSCRAM, usersFile(t, `"alice" "secret"`)
		})
		want := `B: ErrorResponse FATAL 28P01 "password authentication failed for user \"alice.default\""`
		if got := refusal(t, h.connect(port), "alice.default", "app", "wrong"); got != want {
			t.Errorf("refused with %s, want %s", got, want)
		}
		synctest.Wait()
		if !strings.Contains(h.log.String(), "role=alice ") {
			t.Errorf("the log does not name the role:\n%s", h.log)
		}
	})
}
