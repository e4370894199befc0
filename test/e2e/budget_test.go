package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Two roles whose pools share one backend.
const oneForAll = "max_backends: 1\npool_wait_timeout: 10s"

func TestIdleRoleGivesTheOnlyBackendAway(t *testing.T) {
	t.Parallel()
	pg := ownCluster(t)
	r := start(t, pg, base(pg, oneForAll))
	alice := r.connect("transaction", "alice", simple)
	for _, sql := range []string{"SELECT 1", "CREATE FUNCTION harmless() RETURNS int LANGUAGE sql AS 'SELECT 1'"} {
		r.exec(alice, "BEGIN")
		r.exec(alice, sql)
		served := make(chan error, 1)
		go func() { served <- r.once("bob") }()
		r.eventually("bob waits", func() bool { return r.srv.Totals().Waiting == 1 })
		r.exec(alice, "COMMIT")
		if err := <-served; err != nil {
			t.Errorf("after %q: bob: %v", sql, err)
		}
	}
}

func TestBusyRoleLeavesOthersTheirTurn(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, oneForAll))
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
	busy := make(chan error, 3)
	for range cap(busy) {
		c := r.connect("transaction", "alice", simple)
		go func() {
			var err error
			for err == nil && ctx.Err() == nil {
				_, err = c.Exec(context.Background(), "SELECT pg_sleep(0.01)")
			}
			busy <- err
		}()
	}
	if err := r.once("bob"); err != nil {
		t.Errorf("bob: %v", err)
	}
	stop()
	for range cap(busy) {
		if err := <-busy; err != nil {
			t.Errorf("alice: %v", err)
		}
	}
}

// once logs in, runs a statement and leaves.
func (r *rig) once(user string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, r.url("transaction", user, simple))
	if err != nil {
		return err
	}
	defer c.Close(context.Background())
	_, err = c.Exec(ctx, "SELECT 1")
	return err
}

func TestBackendKilledWithAParseOutstanding(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, ""))
	c := r.raw("transaction", "alice")
	c.send(parseMsg("s", "SELECT pg_sleep(1000) /* parse_outstanding */"), bindMsg("s"), executeMsg, syncMsg)
	r.eventually("it runs", func() bool { return r.activity(running, "parse_outstanding") == "1" })
	if got := r.activity("SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity WHERE query LIKE '%parse_outstanding%' AND pid <> pg_backend_pid()"); got != "true" {
		t.Fatal(got)
	}
	c.until('E')
	r.eventually("the session is gone", func() bool { return r.srv.Totals().Clients == 0 })
}

// A client that sends and does not read is not read either.
func TestWriterThatDoesNotReadIsNotReadWithoutEnd(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, ""))
	c := r.raw("transaction", "alice")
	one, err := syncMsg.Encode(nil)
	must(t, err)
	var flood []byte
	for len(flood) < 1<<20 {
		flood = append(flood, one...)
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(3 * time.Second))
	sent := 0
	for err == nil && sent < 200<<20 {
		var n int
		n, err = c.conn.Write(flood)
		sent += n
	}
	if err == nil {
		t.Errorf("%d MiB were taken from a client that reads nothing", sent>>20)
	}
}
