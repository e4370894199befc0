package simulation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/memnet"
	"sluice/proxy"
)

const (
	clientCount   = 28
	clusterCount  = 2
	maxViolations = 10 // that are printed
	drainTime     = 20 * time.Second
	scrapeEvery   = 2 * time.Second
)

// world is one simulation. It belongs to a bubble.
type world struct {
	t       *testing.T
	seed    uint64
	began   time.Time
	network *memnet.Network
	srv     *proxy.Server

	census   *census
	line     *line
	ends     *ends
	ledger   *ledger
	rules    *rules
	clusters []*cluster
	crowd    *crowd
	journal  *journal

	steps    atomic.Int64 // units of work that are left
	draining atomic.Bool
	drained  atomic.Pointer[time.Time] // when the drain began
	outcomes tally                     // what clients met, for the report

	violations atomic.Int64
}

// newWorld starts the clusters and a Sluice in front of them. The journal may be nil.
func newWorld(t *testing.T, seed uint64, steps int, j *journal) *world {
	w := &world{t: t, seed: seed, began: time.Now(), network: memnet.New(), journal: j}
	w.steps.Store(int64(steps))
	w.census, w.line, w.ends, w.ledger, w.crowd = newCensus(w), newLine(w), newEnds(w), newLedger(w), newCrowd(w)
	rng := w.rng(streamRules)
	w.rules = newRules(w, rng)
	for i := range clusterCount {
		w.clusters = append(w.clusters, newCluster(w, i))
	}
	srv, err := proxy.New(w.rules.config(), proxy.Options{
		Log:    slog.New(w.ends),
		Listen: func(_, address string) (net.Listener, error) { return w.network.Listen(address), nil },
		Dial:   w.network.Dial,
		Loops:  3,
	})
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	w.srv = srv
	return w
}

// run plays the simulation to its end.
func (w *world) run() {
	served := make(chan error, 1)
	go func() { served <- w.srv.Serve() }()
	stop := make(chan struct{})
	var clients, watchers sync.WaitGroup
	for id := 1; id <= clientCount; id++ {
		clients.Go(func() { newClient(w, id).live() })
	}
	watchers.Go(func() { w.operate(stop) })
	watchers.Go(func() { w.scrape(stop) })
	for w.steps.Load() > 0 && w.violations.Load() == 0 {
		<-time.After(50 * time.Millisecond)
	}
	close(stop)
	watchers.Wait()
	synctest.Wait()
	w.audit()
	w.drain()
	clients.Wait()
	if err := <-served; !errors.Is(err, proxy.ErrServerClosed) {
		w.violation("Serve = %v, want ErrServerClosed", err)
	}
	w.close()
}

// drain shuts Sluice down while the clients go on.
func (w *world) drain() {
	w.draining.Store(true)
	for _, pg := range w.clusters {
		pg.setMood(mood{})
	}
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	start := time.Now()
	w.drained.Store(&start)
	err := w.srv.Shutdown(ctx)
	w.outcomes.add(fmt.Sprintf("drain: %v", err))
	if took := time.Since(start); took > drainTime+10*time.Second {
		w.violation("the drain took %s", took)
	}
}

// drainedAt returns when the drain began; zero: it has not.
func (w *world) drainedAt() time.Time {
	if at := w.drained.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// close ends the clusters, which nobody may use any more, and asks for the final accounts.
func (w *world) close() {
	<-time.After(time.Minute) // what lingers has ended
	for _, pg := range w.clusters {
		if n := pg.open(); n > 0 {
			w.violation("%d backends of cluster %d are left after the drain", n, pg.id)
		}
		pg.close()
	}
	w.census.settle()
	w.line.settle()
	w.ends.settle()
	w.ledger.settle()
}

// streams of randomness beside those of clients, whose number is the client's.
const (
	streamRules uint64 = iota + 1<<32
	streamOperator
	streamBackends
)

// rng returns a stream of randomness of its own.
func (w *world) rng(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(w.seed, stream)) }

// between draws a duration that is hardly ever drawn twice, so that few things happen at the same instant.
func between(rng *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(rng.Int64N(int64(most-least)+1))
}

// chance is true with the given probability in percent.
func chance(rng *rand.Rand, percent float64) bool { return rng.Float64()*100 < percent }

// since returns the time of the simulation.
func (w *world) since() time.Duration { return time.Since(w.began) }

// violation reports that something is not as it must be. The run ends soon after.
func (w *world) violation(format string, args ...any) {
	if w.violations.Add(1) <= maxViolations {
		w.t.Errorf("seed %d at %s: %s", w.seed, w.since(), fmt.Sprintf(format, args...))
	}
}

// note writes a line into the journal.
func (w *world) note(who, format string, args ...any) {
	if w.journal != nil {
		w.journal.add(w.since(), who, format, args...)
	}
}
