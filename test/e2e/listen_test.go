package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// channelOf returns a channel that no other test uses.
func channelOf(t *testing.T) string { return strings.ToLower(strings.ReplaceAll(t.Name(), "/", "_")) }

// next returns the next notification as channel and payload, and the pid in it.
func (r *rig) next(c *pgx.Conn) (text string, pid uint32) {
	r.t.Helper()
	n, err := c.WaitForNotification(r.ctx())
	if err != nil {
		r.t.Fatalf("wait for a notification: %v", err)
	}
	return n.Channel + " " + n.Payload, n.PID
}

// wantHeard checks what c hears next.
func (r *rig) wantHeard(c *pgx.Conn, channel string, payloads ...string) {
	r.t.Helper()
	for _, p := range payloads {
		if got, _ := r.next(c); got != channel+" "+p {
			r.t.Errorf("heard %q, want %q", got, channel+" "+p)
		}
	}
}

// wantNothingMore has everything come that is on its way, by a last word, and checks that there is nothing else.
func (r *rig) wantNothingMore(c, speaker *pgx.Conn, channel string) {
	r.t.Helper()
	r.exec(speaker, "SELECT pg_notify($1, 'the last')", channel)
	r.wantHeard(c, channel, "the last")
}

// listening counts the connections in the database app that listen for many, and those of the clients' pools.
func (r *rig) listening() (listeners, backends string) {
	return r.valueIn("postgres", "SELECT count(*)::text FROM pg_stat_activity WHERE datname = 'app' AND application_name = 'sluice listen'"),
		r.valueIn("postgres", "SELECT count(*)::text FROM pg_stat_activity WHERE datname = 'app' AND usename IN ('alice', 'bob')")
}

func TestClientsThatListenShareOneConnection(t *testing.T) {
	t.Parallel()
	pg := ownCluster(t)
	r := start(t, pg, base(pg, "pool_size: 2\nmax_backends: 3"))
	channel := channelOf(t)
	var listeners []*pgx.Conn
	for range 20 {
		c := r.connect("transaction", "alice", "")
		r.exec(c, "LISTEN "+channel)
		r.exec(c, fmt.Sprintf("LISTEN %s_%d", channel, len(listeners)))
		listeners = append(listeners, c)
	}
	if shared, backends := r.listening(); shared != "1" || backends > "2" {
		t.Errorf("%s connections listen beside %s of the pool, want 1 beside at most 2", shared, backends)
	}
	if status := r.srv.Status().Tenants[0]; status.Backends > 3 {
		t.Errorf("%d backends are counted, want at most max_backends: 3", status.Backends)
	}
	speaker := r.connect("session", "bob", "")
	r.exec(speaker, "NOTIFY "+channel+", 'for all'")
	for i, c := range listeners {
		r.wantHeard(c, channel, "for all")
		own := fmt.Sprintf("%s_%d", channel, i)
		r.exec(speaker, "NOTIFY "+own+", 'for one'")
		r.wantHeard(c, own, "for one")
	}
	for _, c := range listeners {
		r.exec(c, "UNLISTEN *")
	}
	r.eventually("nobody listens any more", func() bool { shared, _ := r.listening(); return shared == "0" })
}

func TestListenerHearsEverythingOnceAndInOrder(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, "pool_size: 2"))
	channel := channelOf(t)
	listener, speaker := r.connect("transaction", "alice", ""), r.connect("transaction", "alice", "")
	r.exec(listener, "LISTEN "+channel)
	for i := range 50 {
		r.exec(speaker, "SELECT pg_notify($1, $2)", channel, fmt.Sprint(i))
	}
	for i := range 50 {
		r.wantHeard(listener, channel, fmt.Sprint(i))
	}
	r.wantNothingMore(listener, speaker, channel)
}

func TestListenThatIsRolledBackNeverWas(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, "pool_size: 2"))
	channel := channelOf(t)
	listener, speaker := r.connect("transaction", "alice", ""), r.connect("transaction", "alice", "")
	r.exec(listener, "LISTEN "+channel+"_kept")
	for _, sql := range []string{
		"BEGIN", "LISTEN " + channel, "ROLLBACK",
		"BEGIN", "SAVEPOINT a", "LISTEN " + channel, "UNLISTEN *", "ROLLBACK TO a", "COMMIT",
	} {
		r.exec(listener, sql)
	}
	if got, want := r.value(listener, "SELECT string_agg(c, ' ') FROM pg_listening_channels() c"), channel+"_kept"; got != want {
		t.Errorf("listens to %q, want %q", got, want)
	}
	r.exec(speaker, "SELECT pg_notify($1, 'never')", channel)
	r.wantNothingMore(listener, speaker, channel+"_kept")
}

func TestOwnNotificationsComeBeforeReadyForQueryWithTheOwnPID(t *testing.T) {
	t.Parallel()
	pg := ownCluster(t) // code is created
	r := start(t, pg, base(pg, "pool_size: 2"))
	channel := channelOf(t)
	c := r.connect("transaction", "alice", "")
	own := c.PgConn().PID()
	if own <= 1<<22 {
		t.Errorf("the client has pid %d, which a process may have", own)
	}
	fn := "CREATE FUNCTION own_notifications() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_notify('" + channel + "', 'by a function'); END $$"
	r.exec(r.connect("session", "alice", ""), fn)
	heard := 0
	for _, sql := range []string{
		"LISTEN " + channel + "; NOTIFY " + channel + ", 'in the same transaction'", "NOTIFY " + channel + ", 'alone'",
		"BEGIN; NOTIFY " + channel + ", 'in a block'; COMMIT", "SELECT own_notifications()",
	} {
		r.exec(c, sql)
		n, err := c.WaitForNotification(expired())
		if err != nil {
			t.Errorf("%s: nothing had come with the answer: %v", sql, err)
			continue
		}
		if n.PID != own {
			t.Errorf("%s: notified by %d, want %d", sql, n.PID, own)
		}
		heard++
	}
	if n, err := c.WaitForNotification(expired()); err == nil {
		t.Errorf("behind %d notifications came %+v", heard, n)
	}
}

// expired returns a context that is done: what has come is there all the same.
func expired() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// TestNotificationsNameTheirSession has clients notify on one backend, one behind the other. What code behind a statement
// notifies has the pid of the session only where that has notified by itself before.
func TestNotificationsNameTheirSession(t *testing.T) {
	t.Parallel()
	pg := ownCluster(t)
	r := start(t, pg, base(pg, "pool_size: 1\nmax_backends: 4"))
	channel := channelOf(t)
	listener, first, second := r.connect("transaction", "alice", ""), r.connect("transaction", "alice", ""), r.connect("transaction", "alice", "")
	r.exec(first, "CREATE FUNCTION hidden() RETURNS void LANGUAGE sql AS $$SELECT pg_notify('"+channel+"', 'hidden')$$")
	r.exec(listener, "LISTEN "+channel)
	backend := r.value(first, "SELECT pg_backend_pid()::text")
	ownOf := func(c *pgx.Conn) string { return fmt.Sprint(c.PgConn().PID()) }
	for _, tc := range []struct {
		by   *pgx.Conn
		sql  string
		want string
	}{
		{first, "NOTIFY " + channel, ownOf(first)},
		{first, "BEGIN; NOTIFY " + channel + ", 'again'; COMMIT", ownOf(first)},
		{first, "SELECT hidden()", ownOf(first)},
		{second, "SELECT hidden()", backend},
		{second, "SELECT pg_notify('" + channel + "', $1)", ownOf(second)},
		{first, "SELECT hidden()", backend},
		{listener, "SELECT hidden()", ownOf(listener)},
		{listener, "NOTIFY " + channel, ownOf(listener)},
		{second, "DO $$BEGIN PERFORM pg_notify('" + channel + "', 'do'); END$$", ownOf(second)},
	} {
		if strings.Contains(tc.sql, "$1") {
			r.exec(tc.by, tc.sql, "parameter")
		} else {
			r.exec(tc.by, tc.sql)
		}
		if _, pid := r.next(listener); fmt.Sprint(pid) != tc.want {
			t.Errorf("%s: the pid is %d, want %s (of the backend %s)", tc.sql, pid, tc.want, backend)
		}
	}
	tx, err := first.Begin(r.ctx())
	must(t, err)
	r.exec(first, "NOTIFY "+channel+", 'taken back'")
	must(t, tx.Rollback(r.ctx()))
	r.exec(second, "SELECT hidden()")
	if _, pid := r.next(listener); fmt.Sprint(pid) != backend {
		t.Errorf("behind a notification that was taken back: the pid is %d, want %s", pid, backend)
	}
	tx, err = first.Begin(r.ctx())
	must(t, err)
	r.exec(first, "PREPARE says AS SELECT pg_notify('"+channel+"', 'prepared')") // which has the backend learn the client's names
	r.exec(first, "EXECUTE says")
	must(t, tx.Commit(r.ctx()))
	if _, pid := r.next(listener); fmt.Sprint(pid) != ownOf(first) {
		t.Errorf("behind a statement that was prepared in the transaction: the pid is %d, want %s", pid, ownOf(first))
	}
}
