package e2e

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"sluice/auth/scram"
)

const (
	manyClients    = 2000
	manyBackends   = 20
	loginsAtOnce   = 50 // so that none waits for longer than login_timeout on a slow machine
	rounds         = 3  // of each client
	soakTimeout    = 5 * time.Minute
	leakBytes      = 2 << 10 // a session that is kept is some KiB
	goroutineSlack = 20      // the runtime's and the test's own that come and go
)

// Each client has a row and prepared statements of its own, whose names mean something else to the others. Not parallel:
// it counts the goroutines of the process.
func TestTwoThousandClientsOnTwentyBackends(t *testing.T) {
	pg := ownCluster(t)
	cheap, err := scram.NewVerifier("alice-secret", scram.NewSalt(), 1) // the clients' arithmetic is not what is tested
	must(t, err)
	must(t, pg.Exec(t.Context(), "ALTER ROLE alice PASSWORD '"+cheap.String()+"'"))
	r := start(t, pg, base(pg, fmt.Sprintf("pool_size: %d\nmax_backends: %d\npool_wait_timeout: 60s", manyBackends, manyBackends)))
	setup := r.connect("transaction", "alice", "")
	r.exec(setup, "CREATE TABLE counters (client int PRIMARY KEY, n int NOT NULL)")
	must(t, setup.Close(r.ctx()))
	r.eventually("nobody is connected", func() bool { return r.srv.Totals().Clients == 0 })
	// Postgres itself refuses the backend that would be one too many.
	must(t, pg.Exec(r.ctx(), fmt.Sprintf("ALTER ROLE alice CONNECTION LIMIT %d", manyBackends)))
	goroutines, heap := runtime.NumGoroutine(), heapInUse()

	watch := r.watchBackends("alice")
	soak(t, r)
	if peak := watch(); peak > manyBackends || peak < 2 {
		t.Errorf("up to %d backends existed, want at most %d, and more than one", peak, manyBackends)
	}
	if got, want := r.valueIn("app", "SELECT count(*) || ' ' || coalesce(sum(n), 0) FROM counters"),
		fmt.Sprint(manyClients, manyClients*rounds); got != want {
		t.Errorf("the table has %s rows and transactions, want %s", got, want)
	}
	r.eventually("Sluice has seen the clients go", func() bool { return r.srv.Totals().Clients == 0 })
	r.eventually("the clients' goroutines are gone", func() bool {
		return runtime.NumGoroutine() <= goroutines+goroutineSlack
	})
	grown := heapInUse() - heap - int64(r.logs.Cap()) // what stays is a set of prepared statements for each backend
	if grown > manyClients*leakBytes {
		t.Errorf("%d KiB are kept for clients that are gone", grown>>10)
	}
	t.Logf("goroutines: %d before, %d after; heap: %d KiB before, %d KiB more after", goroutines, runtime.NumGoroutine(), heap>>10, grown>>10)
}

// soak has all clients connected at once, then all at work at once, then all gone.
func soak(t *testing.T, r *rig) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), soakTimeout)
	defer cancel()
	clients := r.connectMany(ctx)
	r.eventually("all clients are counted", func() bool { return r.srv.Totals().Clients == manyClients })
	each(clients, manyClients, func(c *manyClient) { c.run(ctx, t) })
	each(clients, loginsAtOnce, func(c *manyClient) { _ = c.conn.Close(ctx) })
}

// manyClient is one of many.
type manyClient struct {
	id   int
	conn *pgconn.PgConn
}

// connectMany logs all clients in; none leaves before all are there.
func (r *rig) connectMany(ctx context.Context) []*manyClient {
	r.t.Helper()
	config, err := pgconn.ParseConfig(r.url("transaction", "alice", ""))
	must(r.t, err)
	clients := make([]*manyClient, manyClients)
	for i := range clients {
		clients[i] = &manyClient{id: i}
	}
	var failed atomic.Pointer[error]
	each(clients, loginsAtOnce, func(c *manyClient) {
		conn, err := pgconn.ConnectConfig(ctx, config)
		if err != nil {
			failed.Store(&err)
			return
		}
		c.conn = conn
	})
	if err := failed.Load(); err != nil {
		r.t.Fatalf("log in: %v", *err)
	}
	return clients
}

// each calls f for all clients, for at most limit of them at once.
func each(clients []*manyClient, limit int, f func(*manyClient)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	free := make(chan struct{}, limit)
	for _, c := range clients {
		free <- struct{}{}
		wg.Go(func() {
			f(c)
			<-free
		})
	}
}

// run does some transactions and checks that what they see is the client's own.
func (c *manyClient) run(ctx context.Context, t *testing.T) {
	steps := []struct {
		name string
		do   func() error
	}{
		{"prepare own", func() error { return c.prepare(ctx, "own", fmt.Sprintf("SELECT %d + $1::int", c.id*1000)) }},
		{"prepare count", func() error {
			return c.prepare(ctx, "count", "INSERT INTO counters VALUES ($1, 1) ON CONFLICT (client) DO UPDATE SET n = counters.n + 1 RETURNING n")
		}},
	}
	for n := range rounds {
		steps = append(steps, struct {
			name string
			do   func() error
		}{fmt.Sprint("round ", n), func() error { return c.round(ctx, n) }})
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			t.Errorf("client %d: %s: %v", c.id, step.name, err)
			return
		}
	}
}

func (c *manyClient) prepare(ctx context.Context, name, sql string) error {
	_, err := c.conn.Prepare(ctx, name, sql, nil)
	return err
}

// round is a transaction of several round trips between two of one.
func (c *manyClient) round(ctx context.Context, n int) error {
	id := strconv.Itoa(c.id)
	return errors.Join(
		c.wantPrepared(ctx, strconv.Itoa(c.id*1000+n), "own", strconv.Itoa(n)),
		c.want(c.conn.ExecParams(ctx, "BEGIN", nil, nil, nil, nil), ""),
		c.wantPrepared(ctx, strconv.Itoa(n+1), "count", id),
		c.wantPrepared(ctx, strconv.Itoa(c.id*1000+7), "own", "7"),
		c.want(c.conn.ExecParams(ctx, "COMMIT", nil, nil, nil, nil), ""),
		c.want(c.conn.ExecParams(ctx, "SELECT n FROM counters WHERE client = $1", [][]byte{[]byte(id)}, nil, nil, nil), strconv.Itoa(n+1)),
	)
}

func (c *manyClient) wantPrepared(ctx context.Context, want, name, arg string) error {
	return c.want(c.conn.ExecPrepared(ctx, name, [][]byte{[]byte(arg)}, nil, nil), want)
}

// want compares the one value of a result, "" if there is none.
func (c *manyClient) want(r *pgconn.ResultReader, want string) error {
	result := r.Read()
	got := ""
	if len(result.Rows) > 0 {
		got = string(result.Rows[0][0])
	}
	if result.Err == nil && got != want {
		return fmt.Errorf("got %q, want %q", got, want)
	}
	return result.Err
}

// watchBackends counts a role's backends, asking Postgres past Sluice, again and again until the function that it
// returns is called, which returns the most that it saw.
func (r *rig) watchBackends(role string) (peak func() int) {
	r.t.Helper()
	c, err := pgx.Connect(r.ctx(), r.pg.SuperuserURL("postgres"))
	must(r.t, err)
	stop, result := make(chan struct{}), make(chan int, 1)
	end := sync.OnceFunc(func() { close(stop) })
	var watching sync.WaitGroup
	r.t.Cleanup(func() {
		end()
		watching.Wait()
		_ = c.Close(context.Background())
	})
	watching.Go(func() {
		most := 0
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			var n int
			err := c.QueryRow(context.Background(), "SELECT count(*) FROM pg_stat_activity WHERE usename = $1", role).Scan(&n)
			if err != nil {
				r.t.Errorf("ask pg_stat_activity: %v", err)
			}
			most = max(most, n)
			select {
			case <-stop:
				result <- most
				return
			case <-tick.C:
			}
		}
	})
	return func() int { end(); return <-result }
}

// heapInUse returns the bytes that are reachable.
func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what finalizers let go
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// valueIn asks a database of Postgres's past Sluice.
func (r *rig) valueIn(database, sql string) string {
	r.t.Helper()
	c, err := pgx.Connect(r.ctx(), r.pg.SuperuserURL(database))
	must(r.t, err)
	defer func() { _ = c.Close(context.Background()) }()
	return r.value(c, sql)
}
