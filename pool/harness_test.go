package pool

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/backend"
	"sluice/internal/loop"
	"sluice/internal/memnet"
	"sluice/internal/pgscript"
)

var (
	errUnreachable = errors.New("unreachable")
	errRejected    = errors.New("rejected")
)

// postgres is where the backends of a test come from: a Dialer whose outcome is scripted.
type postgres struct {
	dialer *backend.Dialer
	gate   *Gate
	rigs   []*rig // that use it

	mu       sync.Mutex // guards below
	fail     error
	delay    time.Duration
	attempts []time.Time
	targets  []string
	dialling int
	most     int // that were dialling at a time
}

func newPostgres(t *testing.T) *postgres {
	t.Helper()
	n := memnet.New()
	s := pgscript.Serve(n.Listen("127.0.0.1:5432"), pgscript.Options{})
	t.Cleanup(s.Close)
	d, err := backend.NewDialer(backend.Params{
		Hosts: []backend.Address{{Network: "tcp", Addr: "127.0.0.1:5432"}}, TLSMode: backend.TLSDisable, DialContext: n.Dial,
	})
	if err != nil {
		t.Fatal(err)
	}
	return &postgres{dialer: d, gate: NewGate()}
}

func (p *postgres) set(fail error, delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail, p.delay = fail, delay
}

// Dial implements Dialer. What is set when it begins counts.
func (p *postgres) Dial(ctx context.Context, t backend.Target) (*backend.Conn, error) {
	p.mu.Lock()
	fail, delay := p.fail, p.delay
	p.attempts = append(p.attempts, time.Now())
	p.targets = append(p.targets, t.Role)
	p.dialling++
	p.most = max(p.most, p.dialling)
	p.mu.Unlock()
	defer p.hangUp()
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if fail != nil {
		return nil, fail
	}
	return p.dialer.Dial(ctx, t)
}

func (p *postgres) hangUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialling--
}

// dials returns how often it was tried to open a backend.
func (p *postgres) dials() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.attempts)
}

// rig is a pool on a loop of its own.
type rig struct {
	*Pool
	pg      *postgres
	t       *testing.T
	loop    *loop.Loop
	closing time.Duration // how long a backend takes to close
	emptied int
	clients []*client
}

func newRig(t *testing.T, pg *postgres, b *Budget, l Limits) *rig {
	t.Helper()
	r := &rig{t: t, pg: pg}
	pg.rigs = append(pg.rigs, r)
	var err error
	r.loop, err = loop.New(loop.Portable, func(v any, stack []byte) { t.Errorf("panic: %v\n%s", v, stack) })
	if err != nil {
		t.Fatal(err)
	}
	r.Pool, err = New(Params{
		Key: Key{Tenant: "t", Database: "app", Role: "alice", Mode: "transaction"}, Limits: l, Budget: b, Gate: pg.gate,
		Dialer: pg, Retry: 5 * time.Second,
		Rejected: func(err error) bool { return errors.Is(err, errRejected) },
		Post:     r.loop.Post, Now: r.loop.Now,
		Opened:  func(*Backend) {},
		Retired: r.retire,
	})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(r.loop.Run)
	t.Cleanup(func() { r.loop.Stop(); wg.Wait() })
	return r
}

func (r *rig) retire(b *Backend) {
	if r.closing == 0 {
		r.loop.Post(func() { r.Closed(b) })
		return
	}
	time.AfterFunc(r.closing, func() { r.loop.Post(func() { r.Closed(b) }) })
}

// do calls f on the loop and lets everything settle.
func (r *rig) do(f func()) {
	r.t.Helper()
	if !r.loop.Do(f) {
		r.t.Fatal("the loop has ended")
	}
	synctest.Wait()
}

// client is a session that wants a backend.
type client struct {
	r       *rig
	name    string
	state   string // what its session has set
	w       Waiter
	b       *Backend
	err     error
	granted time.Time
	done    bool // has given its backend back

	answered chan struct{} // nil, or closed when it is
}

func (r *rig) client(name string) *client {
	c := &client{r: r, name: name}
	c.w.Granted = func(b *Backend, err error) { c.b, c.err, c.granted = b, err, time.Now() }
	r.clients = append(r.clients, c)
	return c
}

// acquire asks for a backend of a baseline.
func (r *rig) acquire(baseline string) *client { return r.acquireAs(baseline, "") }

// acquireHere is acquire without waiting for anything to settle, for a goroutine of a test's own.
func (r *rig) acquireHere(baseline string, state string) *client {
	c := &client{r: r, name: baseline, answered: make(chan struct{})}
	c.state = state
	c.w.Granted = func(b *Backend, err error) {
		c.b, c.err, c.granted = b, err, time.Now()
		close(c.answered)
	}
	r.loop.Do(func() {
		if b := r.Acquire(&c.w, baseline, c.state, backend.Target{Role: baseline, Database: "app"}); b != nil {
			c.w.Granted(b, nil)
		}
	})
	return c
}

// over reports whether the pool is closed.
func (r *rig) over() (over bool) {
	return !r.loop.Do(func() { over = r.closed }) || over
}

// held is acquire of one that must be served at once.
func (r *rig) held(baseline string) *client {
	r.t.Helper()
	c := r.acquire(baseline)
	if c.b == nil {
		r.t.Fatalf("no backend of %s: %v", baseline, c.err)
	}
	return c
}

// acquireAs is acquire of a session that has set something.
func (r *rig) acquireAs(baseline string, state string) *client {
	c := r.client(baseline)
	c.state = state
	r.do(func() {
		if b := r.Acquire(&c.w, baseline, c.state, backend.Target{Role: baseline, Database: "app"}); b != nil {
			c.w.Granted(b, nil)
		}
	})
	return c
}

// release gives the backend back with what the session has set.
func (c *client) release() {
	c.done = true
	c.r.do(func() {
		c.b.State = c.state
		c.r.Release(c.b)
	})
}

func (r *rig) wantStats(idle, active, waiting int) {
	r.t.Helper()
	var s Stats
	r.do(func() { s = r.Stats() })
	if s.Idle != idle || s.Active != active || s.Waiting != waiting {
		r.t.Errorf("idle %d, active %d, waiting %d, want %d, %d, %d", s.Idle, s.Active, s.Waiting, idle, active, waiting)
	}
}

// end closes the pool, which must become empty when the clients have given back what they hold.
func (r *rig) end() {
	r.t.Helper()
	r.do(func() { r.Close(func() { r.emptied++ }) })
	for _, c := range r.clients {
		if c.b != nil && !c.done {
			c.release()
		}
	}
	r.pg.pass(r.closing + time.Minute)
	if r.emptied != 1 {
		r.t.Errorf("empty was called %d times, want once", r.emptied)
	}
}

func wantUsed(t *testing.T, b *Budget, want int) {
	t.Helper()
	synctest.Wait()
	if used, _ := b.Used(); used != want {
		t.Errorf("%d tokens are used, want %d", used, want)
	}
}

// pass lets time pass and everything settle. The loops may touch again what the test has looked at.
func (p *postgres) pass(d time.Duration) {
	for _, r := range p.rigs {
		r.loop.Post(func() {})
	}
	synctest.Wait()
	time.Sleep(d)
	synctest.Wait()
}
