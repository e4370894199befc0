package pool

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/backend"
)

var (
	seed  = flag.Uint64("seed", 0, "seed of the simulation; 0: a new one for each run")
	steps = flag.Int("steps", 400, "steps of a simulation")
)

// world is a simulation: random sessions on several pools of one Budget, and the faults of a Postgres.
type world struct {
	t      *testing.T
	rng    *rand.Rand
	pg     *postgres
	budget *Budget
	used   int          // of the budget at the last check
	had    map[*rig]int // backends of a pool at the last check
	pools  []*rig
	lines  map[*rig]map[string][]*client // who waits, by baseline, in order
	all    []*client
}

// TestSimulation plays random sessions and faults. `go test -run Simulation -seed N` plays one again.
func TestSimulation(t *testing.T) {
	runs, first := 30, *seed
	if first == 0 {
		first = rand.Uint64()
	} else {
		runs = 1
	}
	for i := range runs {
		n := first + uint64(i)
		ok := t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Logf("-seed %d", n)
			synctest.Test(t, func(t *testing.T) { simulate(t, n) })
		})
		if !ok {
			return
		}
	}
}

func simulate(t *testing.T, n uint64) {
	w := &world{
		t: t, rng: rand.New(rand.NewPCG(n, 0)), pg: newPostgres(t), lines: map[*rig]map[string][]*client{}, had: map[*rig]int{},
	}
	w.budget = NewBudget(1 + w.rng.IntN(6))
	for range 1 + w.rng.IntN(3) {
		w.pools = append(w.pools, w.pool())
	}
	for i := range *steps {
		w.step()
		w.check()
		if t.Failed() {
			t.Fatalf("after step %d", i)
		}
	}
	w.finish()
}

func (w *world) pool() *rig {
	r := newRig(w.t, w.pg, w.budget, w.limits())
	rng := rand.New(rand.NewPCG(w.rng.Uint64(), 0)) // the loop's
	r.Params.Retired = func(b *Backend) {
		d := time.Duration(rng.IntN(3)) * 20 * time.Millisecond
		time.AfterFunc(d, func() { r.loop.Post(func() { r.Closed(b) }) })
	}
	w.lines[r] = map[string][]*client{}
	return r
}

func (w *world) limits() Limits {
	size := 1 + w.rng.IntN(4)
	return Limits{
		Size: size, MinIdle: w.rng.IntN(size + 1), MaxPinned: w.rng.IntN(size + 1),
		IdleTimeout: time.Duration(w.rng.IntN(3)) * time.Second, MaxLifetime: time.Duration(w.rng.IntN(3)) * 10 * time.Second,
	}
}

// step does one thing, and lets some time pass.
func (w *world) step() {
	r := w.pools[w.rng.IntN(len(w.pools))]
	switch k := w.rng.IntN(100); {
	case k < 40:
		w.acquire(r)
	case k < 70:
		w.giveBack(w.rng.IntN(5) == 0)
	case k < 75:
		w.cancel()
	case k < 80:
		w.pin()
	case k < 84:
		w.lose(r)
	case k < 88:
		fail := []error{nil, nil, errUnreachable, errRejected}[w.rng.IntN(4)]
		w.pg.set(fail, time.Duration(w.rng.IntN(3))*50*time.Millisecond)
	case k < 90:
		l := w.limits()
		r.do(func() { r.SetLimits(l) })
	case k < 92:
		w.budget.SetMax(w.rng.IntN(7))
	case k < 94:
		r.do(r.Renew)
	default:
		r.do(r.Sweep)
	}
	w.pg.pass(time.Duration(w.rng.IntN(40)) * time.Millisecond)
}

func (w *world) acquire(r *rig) {
	baseline := string(rune('a' + w.rng.IntN(3)))
	c := r.client(baseline)
	c.state = []string{"", "a", "b"}[w.rng.IntN(3)]
	w.all = append(w.all, c)
	c.w.Granted = func(b *Backend, err error) { w.granted(r, c, b, err) }
	r.do(func() {
		w.lines[r][baseline] = append(w.lines[r][baseline], c)
		want := likeliest(r, c)
		b := r.Acquire(&c.w, baseline, c.state, backend.Target{Role: baseline, Database: "app"})
		if want != nil && b != want {
			w.t.Errorf("a client with state %q was lent %+v, want %+v", c.state, b, want)
		}
		if b != nil {
			w.granted(r, c, b, nil)
		}
	})
}

// likeliest returns the idle backend that c is to be lent: the last used of those that carry its state, else of all.
func likeliest(r *rig, c *client) (best *Backend) {
	s := r.shelves[c.name]
	if s == nil {
		return nil
	}
	for _, b := range s.idle {
		if best == nil || b.State == c.state || best.State != c.state {
			best = b
		}
	}
	return best
}

// rightful reports whether c, of the line, is to be answered now: who has waited longest with the backend's state, but nobody is
// passed over by one who has waited less than a third as long, nor after 5 s.
func (w *world) rightful(r *rig, line []*client, c *client, b *Backend) bool {
	if len(line) == 0 {
		return false
	}
	age := func(c *client) time.Duration { return r.Now().Sub(c.w.since) }
	at := slices.IndexFunc(line, func(o *client) bool { return b != nil && o.state == b.State })
	if at < 0 || age(line[0]) >= 5*time.Second || age(line[0]) > 3*age(line[at]) {
		at = 0
	}
	return c == line[at]
}

// granted is on a pool's loop; no other goroutine runs meanwhile but another pool's loop, so what it touches is its pool's.
func (w *world) granted(r *rig, c *client, b *Backend, err error) {
	if c.b != nil || c.err != nil {
		w.t.Errorf("a client was answered twice")
	}
	line := w.lines[r][c.name]
	if !w.rightful(r, line, c, b) {
		w.t.Errorf("a client of %q was answered before one whose turn it was", c.name)
	}
	c.b, c.err, c.granted = b, err, time.Now()
	w.lines[r][c.name] = slices.DeleteFunc(line, func(o *client) bool { return o == c })
	switch {
	case err != nil:
	case b.Baseline() != c.name:
		w.t.Errorf("a client of %q was lent a backend of %q", c.name, b.Baseline())
	case b.generation != r.generation:
		w.t.Error("a backend was lent again after Renew")
	}
}

// holders returns the clients that hold a backend.
func (w *world) holders() (all []*client) {
	for _, c := range w.all {
		if c.b != nil && !c.done {
			all = append(all, c)
		}
	}
	return all
}

func (w *world) giveBack(discard bool) {
	holders := w.holders()
	if len(holders) == 0 {
		return
	}
	c := holders[w.rng.IntN(len(holders))]
	c.done = true
	c.r.do(func() {
		if discard {
			c.r.Discard(c.b)
		} else {
			c.b.State = c.state
			c.r.Release(c.b)
		}
	})
}

func (w *world) cancel() {
	for _, c := range w.all {
		if c.b == nil && c.err == nil && w.rng.IntN(4) == 0 {
			c.r.do(func() {
				if c.r.Cancel(&c.w) {
					c.err = errors.New("cancelled")
					w.lines[c.r][c.name] = slices.DeleteFunc(w.lines[c.r][c.name], func(o *client) bool { return o == c })
				}
			})
			return
		}
	}
}

func (w *world) pin() {
	if holders := w.holders(); len(holders) > 0 {
		c := holders[w.rng.IntN(len(holders))]
		c.r.do(func() { c.r.Pin(c.b) })
	}
}

func (w *world) lose(r *rig) {
	r.do(func() {
		for _, key := range []string{"a", "b", "c"} {
			if s := r.shelves[key]; s != nil && len(s.idle) > 0 {
				r.Lost(s.idle[w.rng.IntN(len(s.idle))])
				return
			}
		}
	})
}

// check holds the world against what must always be true.
func (w *world) check() {
	total := 0
	seen := map[*Backend]bool{}
	for _, c := range w.holders() {
		if seen[c.b] {
			w.t.Error("two clients hold the same backend")
		}
		seen[c.b] = true
	}
	for _, r := range w.pools {
		r.do(func() { total += w.checkPool(r) })
	}
	used, limit := w.budget.Used()
	if used != total {
		w.t.Errorf("the budget counts %d, the pools have %d (of %d)", used, total, limit)
	}
	if limit > 0 && used > limit && used > w.used { // above a limit that was lowered it may be, but not rise
		w.t.Errorf("the budget of %d is exceeded: %d", limit, used)
	}
	w.used = used
	w.checkBudget()
}

// checkBudget checks what the budget knows of the pools.
func (w *world) checkBudget() {
	b := w.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	leaving := 0
	for _, r := range w.pools {
		leaving += r.Pool.closing
		if r.tokens != r.total {
			w.t.Errorf("a pool has %d tokens for %d backends", r.tokens, r.total)
		}
		if slices.Contains(b.waiting, r.Pool) != r.short {
			w.t.Errorf("a pool that stands in line (%v) does not know: %v", slices.Contains(b.waiting, r.Pool), r.short)
		}
	}
	if b.leaving != leaving || b.asked != 0 {
		w.t.Errorf("the budget counts %d backends on their way out, %d asked for, the pools have %d", b.leaving, b.asked, leaving)
	}
}

// checkPool checks one pool, on its loop, and returns how many backends it has.
func (w *world) checkPool(r *rig) int {
	held, waiting, pinned := 0, 0, 0
	for _, c := range w.all {
		switch {
		case c.r != r:
		case c.b != nil && !c.done:
			held++
			if c.b.pinned {
				pinned++
			}
		case c.b == nil && c.err == nil:
			waiting++
		}
	}
	idle, total, login := 0, 0, 0
	for _, s := range r.shelves {
		idle += len(s.idle)
		total += s.total
		login += s.login
	}
	s := r.Stats()
	if s.Idle != idle || s.Active != held || s.Waiting != waiting || s.Pinned != pinned || s.Login != login || (idle > 0) != (r.coldest.Load() > 0) {
		w.t.Errorf("stats %+v, want idle %d (coldest %d), active %d, waiting %d, pinned %d, login %d",
			s, idle, r.coldest.Load(), held, waiting, pinned, login)
	}
	if total != r.total || s.Idle+s.Active+s.Login+s.Closing != total {
		w.t.Errorf("%d backends on the shelves, %d in the pool, %+v", total, r.total, s)
	}
	if r.total > r.Limits.Size && r.total > w.had[r] {
		w.t.Errorf("the size of %d is exceeded: %+v", r.Limits.Size, s)
	}
	w.had[r] = r.total
	return r.total
}

// finish lets capacity come back: everybody must be served, or refused, in the end, and nothing be left.
func (w *world) finish() {
	w.pg.set(nil, 0)
	for range 200 {
		w.giveBack(false)
		w.pg.pass(200 * time.Millisecond)
	}
	for len(w.holders()) > 0 {
		w.giveBack(false)
		w.pg.pass(200 * time.Millisecond)
	}
	for _, c := range w.all {
		if c.b == nil && c.err == nil {
			w.t.Errorf("a client of %q was forgotten", c.name)
		}
	}
	w.check()
	for _, r := range w.pools {
		r.end()
	}
	wantUsed(w.t, w.budget, 0)
}
