package proxy_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/config"
	"sluice/internal/pgscript"
)

const plainNotice = `B: NoticeResponse NOTICE 01P01 "this connection is not encrypted: connections without TLS will be refused"` +
	` "Connect with sslmode=require, or better with sslmode=verify-full and the authority's certificate, which the operator has."`

// stages has tenant, role alice and database app enforce TLS as far as told.
func stages(offer change, tenant, role, database string) change {
	return func(c *config.Config, t *config.Tenant) {
		offer(c, t)
		t.TLSEnforcement = tenant
		t.Roles = []config.Role{{Name: "alice", Network: everywhere(), TLSEnforcement: role}}
		t.Databases = []config.Database{{Name: "app", DBName: "app", Network: everywhere(), TLSEnforcement: database}}
	}
}

func TestStagesOfTLSAtEveryLevelAndPort(t *testing.T) {
	offer := withTLS(t)
	weight := map[string]int{"observe": 0, "warn": 1, "enforce": 2}
	for _, tenant := range []string{"observe", "warn", "enforce"} {
		for _, role := range []string{"observe", "warn", "enforce"} {
			for _, database := range []string{"observe", "warn", "enforce"} {
				t.Run(tenant+" "+role+" "+database, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						socket := filepath.Join(t.TempDir(), "s")
						if err := os.WriteFile(socket, nil, 0o600); err != nil { // its permissions are set
							t.Fatal(err)
						}
						h := newHarness(t, pgscript.Options{}, func(c *config.Config, tn *config.Tenant) {
							c.Listeners = append(c.Listeners, config.Listener{Name: "socket", Address: socket, Mode: config.ModeSession, UnixMode: 0o600})
							stages(offer, tenant, role, database)(c, tn)
						})
						for _, as := range []struct {
							user, database string
							stage          int
						}{
							{"alice", "app", max(weight[tenant], weight[role], weight[database])}, {"alice", "other", max(weight[tenant], weight[role])},
							{"bob", "app", max(weight[tenant], weight[database])}, {"bob", "other", weight[tenant]},
						} {
							for _, w := range ways(socket) {
								if w.proxy == "" {
									wantStage(t, h, w, as.user, as.database, as.stage)
								}
							}
						}
					})
				})
			}
		}
	}
}

// wantStage logs in and fails unless the client is treated as the stage says.
func wantStage(t *testing.T, h *harness, w way, user, database string, stage int) {
	t.Helper()
	c, err := w.open(h, inside)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	synctest.Wait() // those before have gone
	before := len(h.postgres.Conns())
	err = c.Login(user, database, "secret")
	exempt := w.tls != "" || !strings.Contains(w.port, ":")
	told := strings.Count(c.Transcript(), plainNotice)
	about := fmt.Sprintf("%+v %s to %s at stage %d", w, user, database, stage)
	if want := map[bool]int{true: 1}[stage == 1 && !exempt]; told != want || strings.Count(c.Transcript(), "NoticeResponse") != told {
		t.Errorf("%s: told %d times, want %d:\n%s", about, told, want, c.Transcript())
	}
	if stage < 2 || exempt {
		if err != nil {
			t.Errorf("%s: %v", about, err)
			return
		}
		query(t, c, "SELECT 'x'", "x")
		c.Run(t, "C: Terminate", "B: EOF")
		return
	}
	if err == nil || !strings.Contains(err.Error(), `FATAL 28000 "connection requires TLS" "Connect with sslmode=require."`) {
		t.Errorf("%s: %v, want a refusal", about, err)
	}
	if synctest.Wait(); len(h.postgres.Conns()) != before {
		t.Errorf("%s: Postgres saw a connection", about)
	}
}

func TestAStricterStageEndsSessionsWithoutTLS(t *testing.T) {
	offer := withTLS(t)
	for name, next := range map[string]change{
		"tenant": stages(offer, "enforce", "observe", "observe"), "role": stages(offer, "warn", "enforce", "observe"),
		"database": stages(offer, "warn", "observe", "enforce"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, pgscript.Options{}, stages(offer, "observe", "observe", "observe"))
				plain := h.login(transactionPort, "alice")
				secure := h.connect(transactionPort)
				if err := secure.StartTLS(clientTLS()); err != nil {
					t.Fatal(err)
				}
				if err := secure.Login("alice", "app", ""); err != nil {
					t.Fatal(err)
				}
				h.reload(stages(offer, "warn", "warn", "warn")) // changes nothing for who is there
				query(t, plain, "SELECT 'x'", "x")
				h.reload(next)
				plain.Run(t, "B: ErrorResponse FATAL 57P01", "B: EOF")
				query(t, secure, "SELECT 'x'", "x")
			})
		})
	}
}

func TestWhatTheAPISaysOfTLSGoesBeforeTheConfiguration(t *testing.T) {
	offer := withTLS(t)
	for _, tc := range []struct {
		configured   string
		require      bool
		api          bool
		want         string
		wantRequired bool
	}{
		{configured: "observe", api: true, want: "enforce", wantRequired: true},
		{configured: "warn", api: true, want: "enforce", wantRequired: true},
		{configured: "enforce", api: true, want: "enforce", wantRequired: true},
		{configured: "observe", want: "observe"},
		{configured: "warn", want: "warn"},
		{configured: "enforce", want: "observe"},
		{configured: "enforce", require: true, want: "observe"},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHarness(t, pgscript.Options{}, func(c *config.Config, tenant *config.Tenant) {
				offer(c, tenant)
				managed(t.TempDir())(c, tenant)
				tenant.TLSEnforcement, tenant.RequireTLS = tc.configured, tc.require
			})
			if e, err := h.srv.Encryption(""); err != nil || e.Required != (tc.configured == "enforce") || e.Stage != tc.configured {
				t.Errorf("%+v: at first %+v, %v", tc, e, err)
			}
			e, err := h.srv.Encrypt("", tc.api, operator)
			if err != nil || e.Required != tc.wantRequired || e.Stage != tc.want {
				t.Errorf("%+v: Encrypt = %+v, %v", tc, e, err)
			}
			again, err := h.srv.Encryption("")
			if err != nil || again != e || h.srv.TLSLogins().Tenants[0].Stage != tc.want {
				t.Errorf("%+v: then %+v, %v", tc, again, err)
			}
			if err := h.connect(sessionPort).Login("alice", "app", ""); (err != nil) != tc.wantRequired {
				t.Errorf("%+v: a login without TLS: %v", tc, err)
			}
		})
	}
}

// talliedLogins is what operators' tools read: a key that changes breaks them. It begins when synctest's clock does.
const talliedLogins = `{
  "tenants": [
    {
      "tenant": "default",
      "tls_enforcement": "observe",
      "since": "2000-01-01T00:00:00Z",
      "plain_logins": 4,
      "tls_logins": 3,
      "plain": [
        {
          "role": "alice",
          "database": "app",
          "application_name": "psql",
          "network": "203.0.113.7/32",
          "tls_enforcement": "warn",
          "count": 2,
          "last_seen": "2000-01-01T01:00:00Z"
        },
        {
          "role": "alice",
          "database": "app",
          "application_name": "",
          "network": "2001:db8::/64",
          "tls_enforcement": "warn",
          "count": 1,
          "last_seen": "2000-01-01T01:00:00Z"
        },
        {
          "role": "bob",
          "database": "app",
          "application_name": "",
          "network": "127.0.0.1/32",
          "tls_enforcement": "observe",
          "count": 1,
          "last_seen": "2000-01-01T01:00:00Z"
        }
      ],
      "tls": [
        {
          "role": "alice",
          "version": "TLS 1.3",
          "cipher": "TLS_AES_128_GCM_SHA256",
          "count": 2,
          "last_seen": "2000-01-01T01:00:00Z"
        },
        {
          "role": "alice",
          "version": "TLS 1.2",
          "cipher": "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
          "count": 1,
          "last_seen": "2000-01-01T01:00:00Z"
        }
      ]
    }
  ]
}`

func TestLoginsAreTalliedByTLS(t *testing.T) {
	offer := withTLS(t)
	synctest.Test(t, func(t *testing.T) {
		socket := filepath.Join(t.TempDir(), "s")
		if err := os.WriteFile(socket, nil, 0o600); err != nil { // its permissions are set
			t.Fatal(err)
		}
		h := newHarness(t, pgscript.Options{}, func(c *config.Config, tenant *config.Tenant) {
			stages(offer, "observe", "warn", "observe")(c, tenant)
			tenant.OtherDatabases = config.Deny
			c.Listeners = append(c.Listeners, config.Listener{Name: "socket", Address: socket, Mode: config.ModeSession, UnixMode: 0o600})
		})
		plain := func(from, port, user, database string, params ...string) error {
			return h.connectFrom(from, port).Login(user, database, "", params...)
		}
		if err := plain("203.0.113.7", sessionPort, "alice", "app", "application_name", "psql"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		for _, err := range []error{
			plain("203.0.113.7", transactionPort, "alice", "app", "application_name", "psql"), plain("2001:db8::7", sessionPort, "alice", "app"),
			plain("127.0.0.1", transactionPort, "bob", "app"), plain("127.0.0.1", socket, "bob", "app"),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if plain("203.0.113.7", sessionPort, "alice", "nowhere") == nil { // who is refused is not counted
			t.Error("let in to a database that is not listed")
		}
		older := clientTLS()
		older.MaxVersion = 0x0303
		for _, config := range []func() error{
			func() error { return way{sessionPort, "SSLRequest", ""}.login(h, inside, "alice", "app", "") },
			func() error { return way{transactionPort, "direct", ""}.login(h, inside, "alice", "app", "") },
			func() error {
				c := h.connect(sessionPort)
				if err := c.StartTLS(older); err != nil {
					return err
				}
				return c.Login("alice", "app", "")
			},
		} {
			if err := config(); err != nil {
				t.Fatal(err)
			}
		}
		h.reload(func(c *config.Config, tenant *config.Tenant) { // what was counted stays
			stages(offer, "observe", "warn", "observe")(c, tenant)
		})
		got, err := json.MarshalIndent(h.srv.TLSLogins(), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(talliedLogins, string(got)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		wantMetric(t, h, `sluice_logins_by_tls_total{cipher="",tenant="default",version="none"} 4`)
		wantMetric(t, h, `sluice_logins_by_tls_total{cipher="TLS_AES_128_GCM_SHA256",tenant="default",version="TLS 1.3"} 2`)
		wantMetric(t, h, `sluice_plain_logins_total{role="alice",stage="warn",tenant="default"} 3`)
		wantMetric(t, h, `sluice_plain_logins_total{role="bob",stage="observe",tenant="default"} 1`)
	})
}

// wantMetric fails unless a scrape has the line.
func wantMetric(t *testing.T, h *harness, line string) {
	t.Helper()
	if got := h.metrics(); !strings.Contains(got, "\n"+line+"\n") {
		t.Errorf("no %s in\n%s", line, got)
	}
}
