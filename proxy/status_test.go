package proxy_test

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/config"
	"sluice/internal/pgscript"
)

// statusOfTwoPools is what operators' tools read: a key that changes breaks them.
const statusOfTwoPools = `{
  "version": "",
  "uptime_seconds": 10,
  "draining": false,
  "clients": 3,
  "listeners": [
    {
      "name": "session",
      "mode": "session",
      "address": "127.0.0.1:5432"
    },
    {
      "name": "transaction",
      "mode": "transaction",
      "address": "127.0.0.1:6543"
    }
  ],
  "tenants": [
    {
      "name": "default",
      "backends": 2,
      "max_backends": 7,
      "dials": {
        "limit": 4,
        "opening": 0,
        "waiting": 0
      },
      "pools": [
        {
          "database": "app",
          "role": "alice",
          "mode": "transaction",
          "clients": 2,
          "waiting": 1,
          "oldest_wait_seconds": 8,
          "backends": {
            "active": 1,
            "idle_in_transaction": 0,
            "pinned": 1,
            "idle": 0,
            "login": 0,
            "closing": 0,
            "max_backends_used_up": false
          },
          "pool_size": 1,
          "max_clients": 0,
          "transactions": 1,
          "queries": 1,
          "pins": {
            "listen": 1
          },
          "pinned": [
            {
              "session": 1,
              "role": "alice",
              "application_name": "",
              "client_addr": "ADDRESS",
              "backend_pid": 1001,
              "reason": "listen",
              "statement": "LISTEN news",
              "seconds": 10
            }
          ],
          "longest_holders": [
            {
              "session": 1,
              "role": "alice",
              "application_name": "",
              "client_addr": "ADDRESS",
              "backend_pid": 1001,
              "state": "pinned",
              "pin": "listen",
              "seconds": 10
            }
          ]
        },
        {
          "database": "app",
          "role": "bob",
          "mode": "session",
          "clients": 1,
          "waiting": 0,
          "oldest_wait_seconds": 0,
          "backends": {
            "active": 1,
            "idle_in_transaction": 0,
            "pinned": 0,
            "idle": 0,
            "login": 0,
            "closing": 0,
            "max_backends_used_up": false
          },
          "pool_size": 1,
          "max_clients": 0,
          "transactions": 0,
          "queries": 0,
          "longest_holders": [
            {
              "session": 3,
              "role": "bob",
              "application_name": "psql",
              "client_addr": "ADDRESS",
              "backend_pid": 1002,
              "state": "idle",
              "seconds": 8
            }
          ]
        }
      ]
    }
  ]
}`

func TestStatusIsStable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, func(_ *config.Config, tenant *config.Tenant) {
			tenant.PoolSize, tenant.MaxBackends = 1, config.AutoInt{N: 7}
		})
		query(t, h.login(transactionPort, "alice"), "LISTEN news")
		time.Sleep(2 * time.Second)
		waiting := h.login(transactionPort, "alice")
		run(t, waiting, "SELECT 'waits'")
		h.login(sessionPort, "bob", "application_name", "psql")
		time.Sleep(8 * time.Second)
		status := h.srv.Status()
		for i := range status.Tenants[0].Pools {
			status.Tenants[0].Pools[i].Holders[0].ClientAddr = "ADDRESS"
			for j := range status.Tenants[0].Pools[i].Pinned {
				status.Tenants[0].Pools[i].Pinned[j].ClientAddr = "ADDRESS"
			}
		}
		got, err := json.MarshalIndent(status, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(statusOfTwoPools, string(got)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}
