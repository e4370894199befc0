package proxy_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"sluice/internal/config"
	"sluice/internal/pgscript"
)

func TestClientLimitsRefuseWithAHintAndLeaveTheOtherModeAlone(t *testing.T) {
	for name, limit := range map[string]struct {
		set    change
		hint   string
		detail string
	}{
		"tenant": {
			func(_ *config.Config, t *config.Tenant) { t.MaxClients = 2 },
			"Close idle connections, or ask the operator to raise max_clients.", "max_clients of this tenant in transaction mode is 2.",
		},
		"role": {
			func(_ *config.Config, t *config.Tenant) {
				t.Roles = []config.Role{{Name: "alice", MaxClients: 2, Network: everywhere()}}
			},
			"Close idle connections of this role, or ask the operator to raise its max_clients.", "max_clients of this role in transaction mode is 2.",
		},
		"database": {
			func(_ *config.Config, t *config.Tenant) {
				t.Databases = []config.Database{{Name: "app", DBName: "app", MaxClients: 2, Network: everywhere()}}
			},
			"Close idle connections to this database, or ask the operator to raise its max_clients.", "max_clients of this database in transaction mode is 2.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, pgscript.Options{}, limit.set)
				first := h.login(transactionPort, "alice")
				h.login(transactionPort, "alice")
				want := `B: ErrorResponse FATAL 53300 "too many clients already" "` + limit.hint + `"`
				if got := refusal(t, h.connect(transactionPort), "alice", "app", "x"); got != want {
					t.Errorf("refused with %s, want %s", got, want)
				}
				if !strings.Contains(h.log.String(), limit.detail) {
					t.Errorf("the log does not say %q:\n%s", limit.detail, h.log)
				}
				h.login(sessionPort, "alice")
				first.Run(t, "C: Terminate", "B: EOF")
				synctest.Wait()
				h.login(transactionPort, "alice")
			})
		})
	}
}

func TestClientLimitOfARoleOrDatabaseConcernsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, func(_ *config.Config, t *config.Tenant) {
			t.Roles = []config.Role{{Name: "alice", MaxClients: 1, Network: everywhere()}}
		})
		h.login(transactionPort, "alice")
		h.login(transactionPort, "bob")
		h.login(transactionPort, "bob")
	})
}

func TestClientLimitOfTheProcessCountsBothPortsAndLogins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{Knobs: pgscript.Knobs{Mute: true}}, func(c *config.Config, _ *config.Tenant) { c.Limits.MaxClients = 2 })
		for _, port := range []string{sessionPort, transactionPort} {
			c := h.connect(port) // its login waits for Postgres
			if err := c.Startup("user", "alice", "database", "app"); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		got := refusal(t, h.connect(transactionPort), "bob", "app", "x")
		if want := `B: ErrorResponse FATAL 53300 "too many clients already" "Close idle connections, or ask the operator to raise limits.max_clients."`; got != want {
			t.Errorf("refused with %s, want %s", got, want)
		}
	})
}

func TestClientLimitPerAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, func(c *config.Config, _ *config.Tenant) { c.Limits.MaxClientsPerAddress = 1 })
		if err := h.connectFrom("10.0.0.1", transactionPort).Login("alice", "app", "x"); err != nil {
			t.Fatal(err)
		}
		if got := refusal(t, h.connectFrom("::ffff:10.0.0.1", sessionPort), "alice", "app", "x"); !matches(t, "ErrorResponse FATAL 53300", got[3:]) {
			t.Errorf("refused with %s", got)
		}
		if err := h.connectFrom("10.0.0.2", transactionPort).Login("alice", "app", "x"); err != nil {
			t.Fatal(err)
		}
	})
}

func TestRefusedAndFailedLoginsAreNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, func(_ *config.Config, tenant *config.Tenant) {
			tenant.MaxClients = 1
			tenant.Auth.Method, tenant.Auth.UsersFile = config.AuthSCRAM, usersFile(t, `"alice" "secret"`)
		})
		for range 3 {
			refusal(t, h.connect(transactionPort), "alice", "app", "wrong")
			c := h.connect(transactionPort)
			if err := c.Startup("user", "alice", "database", "app"); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			_ = c.NetConn().Close()
			synctest.Wait()
		}
		h.login(transactionPort, "alice")
	})
}
