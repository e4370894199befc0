package e2e

import (
	"fmt"
	"testing"
)

// What ALTER DATABASE and ALTER ROLE set holds for sessions that begin behind it, and for no other.
func TestSettingsOfADatabaseAndARoleHoldForNewSessions(t *testing.T) {
	t.Parallel()
	var all shops
	for _, mode := range modes {
		for what, alter := range map[string]string{
			"database": "ALTER DATABASE %q SET default_transaction_isolation = 'serializable'",
			"role":     "ALTER ROLE alice IN DATABASE %q SET default_transaction_isolation = 'serializable'",
			"block":    "BEGIN; ALTER DATABASE %q SET default_transaction_isolation = 'serializable'; COMMIT",
		} {
			t.Run(what+" through the "+mode+" port", func(t *testing.T) {
				t.Parallel()
				shop := all.open(t, "Defaults")
				r := shopkeeper(t, shop)
				r.visit(mode, "alice", shop) // leaves an idle backend
				before := r.into(mode, "alice", shop, simple)
				const show = "SHOW default_transaction_isolation"
				if got := r.value(before, show); got != "read committed" {
					t.Fatalf("before: %q", got)
				}
				r.exec(before, fmt.Sprintf(alter, shop))
				for range 2 {
					after := r.into(mode, "alice", shop, simple)
					if got := r.value(after, show); got != "serializable" {
						t.Errorf("a session from behind it: %q", got)
					}
					must(t, after.Close(r.ctx()))
				}
				if got := r.value(before, show); got != "read committed" {
					t.Errorf("a session from before it: %q", got)
				}
			})
		}
	}
}
