package proxy_test

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/config"
	"sluice/internal/pgscript"
	"sluice/proxy"
)

// observe is a configuration with observe_transaction_mode.
func observe(_ *config.Config, tenant *config.Tenant) {
	tenant.ObserveTransactionMode, tenant.Backend.IdleTimeout = true, time.Minute
}

// observedOfTwoRoles is what operators' tools read: a key that changes breaks them. It begins when synctest's clock does.
const observedOfTwoRoles = `{
  "tenants": [
    {
      "tenant": "default",
      "observe_transaction_mode": true,
      "since": "2000-01-01T00:00:00Z",
      "statements": 5,
      "omitted": 0,
      "code": [],
      "effects": [
        {
          "database": "app",
          "role": "alice",
          "application_name": "worker",
          "effect": "pins_to_end",
          "reason": "load",
          "count": 1,
          "statement": "LOAD ?"
        },
        {
          "database": "app",
          "role": "alice",
          "application_name": "worker",
          "effect": "pins",
          "reason": "listen",
          "count": 2,
          "statement": "LISTEN news"
        },
        {
          "database": "app",
          "role": "bob",
          "application_name": "",
          "effect": "asks",
          "reason": "set",
          "count": 1,
          "statement": "SET TimeZone = ?"
        }
      ]
    }
  ]
}`

func TestObservedIsWhatTheSessionPortSees(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, observe)
		alice := h.login(sessionPort, "alice", "application_name", "worker")
		query(t, alice, "LISTEN news")
		query(t, alice, "LISTEN news")
		if _, err := alice.Query("LOAD 'x'"); err == nil { // it counts all the same
			t.Error("LOAD did not fail")
		}
		query(t, h.login(sessionPort, "bob"), "SET TimeZone = 'Asia/Tokyo'")
		query(t, h.login(sessionPort, "bob"), "SELECT 'x'", "x")
		query(t, h.login(transactionPort, "carol"), "LISTEN news")
		wantObserved(t, h.srv.TransactionMode(), observedOfTwoRoles)
		wantObserved(t, h.srv.TransactionMode(), observedOfTwoRoles) // reading it takes nothing away
	})
}

func TestObservedOutlivesItsPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, observe)
		c := h.login(sessionPort, "alice")
		query(t, c, "LISTEN news")
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if pools := h.srv.Status().Tenants[0].Pools; len(pools) > 0 {
			t.Fatalf("the pool is still there: %v", pools)
		}
		query(t, h.login(sessionPort, "alice"), "LISTEN news")
		if got := h.srv.TransactionMode().Tenants[0].Effects; len(got) != 1 || got[0].Count != 2 {
			t.Errorf("got %v, want LISTEN twice", got)
		}
	})
}

func TestObservingFollowsAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, nil)
		c := h.login(sessionPort, "alice")
		listen := func(on bool, want uint64) {
			t.Helper()
			cfg := settings(func(_ *config.Config, tenant *config.Tenant) { tenant.ObserveTransactionMode = on })
			if err := h.srv.Reload(cfg); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			query(t, c, "LISTEN news")
			got := h.srv.TransactionMode().Tenants[0]
			if got.Observing != on || got.Looked != want || (got.Since != nil) != on {
				t.Errorf("with %t: got %+v, want %d statements", on, got, want)
			}
		}
		query(t, c, "LISTEN news")
		listen(false, 0)
		listen(true, 1)
		listen(true, 2)
		listen(false, 0)
		listen(true, 1) // it begins anew
	})
}

func wantObserved(t *testing.T, report proxy.TransactionModeReport, want string) {
	t.Helper()
	got, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
