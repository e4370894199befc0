package e2e

import (
	"context"
	"strings"
	"testing"
	"time"
)

// TestMalformedFlushHarmsNobodyElse has a client send a Flush that is too long, and go. Postgres answers it with an error and
// skips what follows up to a Sync: the next client's query must not be what it skips, nor the error that client's.
func TestMalformedFlushHarmsNobodyElse(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			for _, then := range []string{"stays", "vanishes"} {
				r := start(t, cluster, base(cluster, "pool_size: 1\nsession_pool_size: 2"))
				bad := r.raw(mode, "alice")
				bad.send(queryMsg("SELECT 1"))
				bad.until('Z')
				_, err := bad.conn.Write([]byte("H\x00\x00\x00\x05x"))
				must(t, err)
				if then == "vanishes" {
					_ = bad.conn.Close()
				} else {
					bad.send(syncMsg)
					bad.until('Z')
				}
				next := r.raw(mode, "alice")
				for range 3 {
					next.send(queryMsg("SELECT 'fine'"))
					if got, want := next.until('Z'), "T D(fine) C Z"; got != want {
						t.Fatalf("the next client, while the first one %s: got %q, want %q", then, got, want)
					}
				}
			}
		})
	}
}

// TestStatementWhoseResultHasChangedIsNotAnsweredOtherwise has a client run a statement again, on another backend, after somebody
// has changed the type of its column. Postgres refuses that: the client would take the new rows for what it was told of the old
// ones, and read the bytes of a text as a number.
func TestStatementWhoseResultHasChangedIsNotAnsweredOtherwise(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, "pool_size: 2\nmax_pinned: 1"))
	a, holder, other := r.raw("transaction", "alice"), r.connect("transaction", "alice", simple), r.connect("transaction", "alice", simple)
	r.exec(other, "CREATE TABLE changed_result (x int)")
	r.exec(other, "INSERT INTO changed_result VALUES (1)")
	a.send(parseMsg("s", "SELECT x FROM changed_result"), describe("s"), bindMsg("s"), executeMsg, syncMsg)
	if got, want := a.until('Z'), "1 t T 2 D(1) C Z"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	r.exec(holder, "BEGIN") // on the backend that was used last, which has the statement
	r.exec(holder, "SELECT 1")
	r.exec(other, "ALTER TABLE changed_result ALTER x TYPE text USING 'text ' || x")
	a.send(bindMsg("s"), executeMsg, syncMsg)
	if got := a.until('Z'); !strings.HasPrefix(got, "E(0A000)") {
		t.Errorf("got %q, want the error that Postgres gives, 0A000", got)
	}
	r.exec(holder, "COMMIT")
	_ = holder.Close(context.Background())
}

// TestTinyStatementTimeoutOfAClientIsItsOwn has clients give their statements almost no time. What Sluice asks on their backends on
// its own account is not theirs: they never find themselves in a transaction that they have not begun.
func TestTinyStatementTimeoutOfAClientIsItsOwn(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, "pool_size: 4"))
	for i := range 40 {
		c := r.raw("transaction", "alice")
		c.send(queryMsg("SET statement_timeout = '1ms'"))
		if got := c.until('Z'); got != "C Z" && got != "C S Z" {
			t.Fatalf("client %d: SET: %q", i, got)
		}
		for range 3 {
			c.send(queryMsg("RESET statement_timeout"))
			if got := c.until('Z'); !strings.HasPrefix(got, "C ") && !strings.HasPrefix(got, "E(57014)") {
				t.Fatalf("client %d: RESET: %q", i, got)
			}
		}
		c.send(queryMsg("SELECT 'fine'"))
		if got, want := c.until('Z'), "T D(fine) C Z"; got != want {
			t.Fatalf("client %d: got %q, want %q", i, got, want)
		}
		_ = c.conn.Close()
	}
}

// TestNotificationRightBehindListenArrives has somebody notify as soon as LISTEN is answered, while Sluice may be asking on the same
// backend what the session holds.
func TestNotificationRightBehindListenArrives(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, "pool_size: 30"))
	notifier := r.connect("transaction", "alice", simple)
	for i := range 20 {
		c := r.connect("transaction", "alice", simple)
		r.exec(c, "LISTEN right_behind")
		r.exec(notifier, "NOTIFY right_behind, 'hello'")
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		_, err := c.WaitForNotification(ctx)
		cancel()
		if err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
		_ = c.Close(context.Background())
	}
}
