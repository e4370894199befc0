package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const spreadOverThree = "spread: 3\npool_size: 6\npool_wait_timeout: 60s"

// TestClientsKeepEverythingWhileTheyMove has clients of a pool in three parts come, go and work unevenly, so that sessions move
// between the parts: each keeps its settings, its prepared statements and its cancel key, and Postgres never sees more backends
// than the pool may have.
func TestClientsKeepEverythingWhileTheyMove(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := start(t, cluster, base(cluster, spreadOverThree))
	admin, err := pgx.Connect(r.ctx(), cluster.SuperuserURL("postgres"))
	must(t, err)
	defer admin.Close(context.Background())
	r.exec(admin, "CREATE ROLE spread LOGIN PASSWORD 'spread-secret'")
	peak := r.watchBackends("spread")
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			for life := range 3 {
				if err := r.nomad(rng, fmt.Sprintf("%d_%d", i, life)); err != nil {
					t.Errorf("client %d, life %d: %v", i, life, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := peak(); n > 6 {
		t.Errorf("%d backends at a time, want at most 6", n)
	}
	if pins := r.counter("sluice_pins_total"); pins > 0 {
		t.Errorf("%v sessions were pinned", pins)
	}
	if moves := r.moves(); moves == 0 {
		t.Error("nobody has moved")
	}
}

// moves returns how many sessions have gone to another part of their pool.
func (r *rig) moves() (n float64) {
	r.t.Helper()
	w := httptest.NewRecorder()
	r.srv.Metrics().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	_, after, _ := strings.Cut(w.Body.String(), "\nsluice_session_moves_total ")
	if _, err := fmt.Sscan(after, &n); err != nil {
		r.t.Fatalf("sluice_session_moves_total: %v", err)
	}
	return n
}

// nomad is a client's life.
func (r *rig) nomad(rng *rand.Rand, id string) error {
	ctx := r.ctx()
	c, err := pgx.Connect(ctx, r.url("transaction", "spread", "application_name=app_"+id))
	if err != nil {
		return err
	}
	defer c.Close(context.Background())
	zone := [...]string{"UTC", "Asia/Tokyo", "America/Lima"}[rng.IntN(3)]
	for _, sql := range []string{"SET TimeZone = '" + zone + "'", "SET app.id = '" + id + "'"} {
		if _, err := c.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
			return err
		}
	}
	const seen = "SELECT concat_ws(' ', current_setting('TimeZone'), current_setting('app.id'), current_setting('application_name'), $1::text)"
	if _, err := c.Prepare(ctx, "seen", seen); err != nil {
		return err
	}
	for round := range 5 + rng.IntN(20) {
		var got string
		want := fmt.Sprintf("%s %s app_%s %d", zone, id, id, round)
		if err := c.QueryRow(ctx, "seen", fmt.Sprint(round)).Scan(&got); err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("round %d: got %q, want %q", round, got, want)
		}
		switch rng.IntN(6) {
		case 0:
			if _, err := c.Exec(ctx, "SELECT pg_sleep(0.05)"); err != nil {
				return err
			}
		case 1:
			if err := cancelled(ctx, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// cancelled has the client cancel a statement of its own.
func cancelled(ctx context.Context, c *pgx.Conn) error {
	over := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C: // which may be before the statement has begun
				_ = c.PgConn().CancelRequest(ctx)
			}
		}
	})
	_, err := c.Exec(ctx, "SELECT pg_sleep(60)")
	close(over)
	wg.Wait() // no request is left that could hit the next statement
	if err == nil || !strings.Contains(err.Error(), "57014") {
		return fmt.Errorf("the statement ended with %w, want 57014", err)
	}
	return nil
}
