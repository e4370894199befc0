package proxy

import (
	"container/list"
	"context"
	"runtime"
	"sync"
)

// turnstile bounds how many logins at a time use a core for long: the arithmetic of TLS handshakes and of passwords. The
// goroutines of logins would otherwise take the cores from the loops when thousands of clients connect at once. Who waits
// for the network holds no place.
type turnstile struct {
	mu    sync.Mutex // guards below
	free  int        // places
	begun list.List  // of chan struct{}: who was let in before and has come back; they go first, so that logins end
	fresh list.List  // of chan struct{}: who waits for the first time
}

// newTurnstile returns a turnstile with a place for every core but one, and one at least.
func newTurnstile() *turnstile { return &turnstile{free: max(1, runtime.GOMAXPROCS(0)-1)} }

// enter waits for a place, which the caller must leave. begun says that it has had one before. It returns ctx's cause when
// ctx is done first.
func (t *turnstile) enter(ctx context.Context, begun bool) error {
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return nil
	}
	line := &t.fresh
	if begun {
		line = &t.begun
	}
	turn := make(chan struct{})
	place := line.PushBack(turn)
	t.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-turn: // it came at the last moment
		t.pass()
	default:
		line.Remove(place)
	}
	return context.Cause(ctx)
}

// leave gives the place to who has waited longest.
func (t *turnstile) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pass()
}

// pass is leave. t.mu is held.
func (t *turnstile) pass() {
	for _, line := range []*list.List{&t.begun, &t.fresh} {
		if first := line.Front(); first != nil {
			close(line.Remove(first).(chan struct{}))
			return
		}
	}
	t.free++
}

// run does work in a place. It is auth.Params.Compute.
func (t *turnstile) run(ctx context.Context, work func()) error {
	if err := t.enter(ctx, true); err != nil {
		return err
	}
	defer t.leave()
	work()
	return nil
}
