// Package loop waits for sockets and timeouts and calls handlers.
//
// A Loop is one goroutine. Connections are adopted by a loop and belong to it from then on: their handlers, their timers
// and whatever else the caller keeps per loop are touched on that goroutine only, so that none of it needs a lock. A
// handler never blocks. The rest of the process reaches a loop by Post.
//
// On Linux a loop waits with epoll and reads and writes TCP and Unix connections itself, and TCP connections under TLS that
// was set up over a Switch: an idle connection has no goroutine and no buffer. Elsewhere, in a loop made with Portable, and
// for other connections goroutines read and write for it; handlers and ownership are the same.
package loop

import (
	"runtime/debug"
	"sync"
	"time"

	"sluice/internal/bag"
)

// BufferSize is the size of the buffer that a loop lends to its handlers.
const BufferSize = 64 << 10 // 64 KiB

// Loop calls handlers. Make one with New and give it a goroutine with Run.
type Loop struct {
	panicked func(v any, stack []byte)
	poller   *poller // nil: portable

	wake    chan struct{}  // holds one token while queue is not empty
	stopped chan struct{}  // closed when Run has returned
	helpers sync.WaitGroup // the goroutines of the connections

	mu    sync.Mutex // guards below
	queue []func()
	ended bool // Run takes no more events

	// What follows belongs to the loop's goroutine.
	now       time.Time
	worked    time.Duration // see Worked
	turnNo    uint32
	buf       []byte
	spare     []func()
	ready     []*Conn // to be told in the next turn that they can read
	lastReady []*Conn
	stop      bool
	conns     bag.Bag[*Conn]
	timers    map[time.Duration]*timerList
	lists     []*timerList // the same, for going through
}

// Kind says how a loop waits.
type Kind int

// The kinds.
const (
	Native   Kind = iota // with what the system has for many sockets, if it has something
	Portable             // on a channel: works in bubbles of testing/synctest
)

// New returns a Loop. panicked is called on the loop when a function that was posted, or a timer, panics; a panic in a
// handler goes to the handler. Errors: the system has no descriptors left to wait with.
func New(kind Kind, panicked func(v any, stack []byte)) (*Loop, error) {
	l := &Loop{
		panicked: panicked,
		wake:     make(chan struct{}, 1),
		stopped:  make(chan struct{}),
		now:      time.Now(),
		buf:      make([]byte, BufferSize),
		timers:   make(map[time.Duration]*timerList),
	}
	if kind == Portable {
		return l, nil
	}
	var err error
	l.poller, err = newPoller()
	return l, err
}

// Run serves the loop until Stop. It then closes the connections that are left, without telling their handlers, and
// returns when no goroutine of the loop runs any more.
func (l *Loop) Run() {
	defer close(l.stopped)
	if l.poller != nil {
		l.runPolled()
	} else {
		l.runPortable()
	}
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	for c := range l.conns.All() {
		c.Close()
	}
	l.helpers.Wait()
	if l.poller != nil {
		l.poller.close()
	}
}

func (l *Loop) runPolled() {
	for !l.stop {
		n := l.poller.wait(l, l.untilNextTimeout())
		l.begin()
		l.poller.dispatch(n)
		l.turn()
		l.fireTimers()
		l.sample()
	}
}

func (l *Loop) runPortable() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for !l.stop {
		timer.Reset(l.untilNextTimeout())
		select {
		case <-l.wake:
		case <-timer.C:
		}
		l.begin()
		l.turn()
		l.fireTimers()
		l.sample()
	}
}

// begin begins a turn with what the last one has put off.
func (l *Loop) begin() {
	l.now = time.Now()
	l.turnNo++
	ready := l.ready
	l.ready = l.lastReady[:0]
	for i, c := range ready {
		ready[i], c.queued = nil, false
		c.readable()
	}
	l.lastReady = ready[:0]
}

// sampled is how many turns stand for one whose time is taken: reading the clock costs.
const sampled = 16

func (l *Loop) sample() {
	if l.turnNo%sampled == 0 {
		l.worked += sampled * time.Since(l.now)
	}
}

// Worked returns about how long the loop has not waited since its beginning. To be called on the loop.
func (l *Loop) Worked() time.Duration { return l.worked }

// enqueue has c told in the next turn that it can read.
func (l *Loop) enqueue(c *Conn) {
	if !c.queued {
		c.queued = true
		l.ready = append(l.ready, c)
	}
}

// Stop makes Run return. It does not wait for that.
func (l *Loop) Stop() { l.Post(func() { l.stop = true }) }

// Post has f called on the loop, after what was posted before, and reports whether it will be: false once Run is over.
// It never blocks and may be called from anywhere.
func (l *Loop) Post(f func()) bool { return l.post(f, func() {}) }

// post does what Post does, and calls settled when it is certain that f will be called, and before it is. settled must
// not block, nor post anything.
func (l *Loop) post(f, settled func()) bool {
	l.mu.Lock()
	if l.ended {
		l.mu.Unlock()
		return false
	}
	l.queue = append(l.queue, f)
	settled()
	if l.poller != nil {
		l.poller.wake() // under the lock, so that the poller is open
		l.mu.Unlock()
		return true
	}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return true
}

// PostBehindInput is Post, but f is called after what had arrived on the connections before the call has been read, as far as
// their handlers want to read. That holds where the loop polls, and for maxEvents connections at a time.
func (l *Loop) PostBehindInput(f func()) bool {
	return l.Post(func() { l.Post(f) }) // which is behind the turn's reading, and in front of the next turn's
}

// Unsent returns how many bytes its connections have not handed to the network yet. To be called on the loop.
func (l *Loop) Unsent() (n int) {
	for c := range l.conns.All() {
		n += c.Unsent()
	}
	return n
}

// Do has f called on the loop and waits until it has returned. It reports false, f not having been called, if Run is over.
// It must not be called on a loop.
func (l *Loop) Do(f func()) bool {
	done := make(chan struct{})
	if !l.Post(func() { defer close(done); f() }) {
		return false
	}
	select {
	case <-done:
		return true
	case <-l.stopped:
	}
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// pending reports whether there is something to do.
func (l *Loop) pending() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue) > 0
}

// Now returns the time at which the current turn began, the only one at which the loop reads the clock. To be called on
// the loop.
func (l *Loop) Now() time.Time { return l.now }

// Buffer returns the loop's buffer of BufferSize bytes, lent until the handler returns. To be called on the loop.
func (l *Loop) Buffer() []byte { return l.buf }

// turn deals with the events that are there now.
func (l *Loop) turn() {
	l.mu.Lock()
	events := l.queue
	l.queue = l.spare[:0]
	l.mu.Unlock()
	for i, f := range events {
		l.guard(f)
		events[i] = nil
	}
	l.spare = events[:0]
}

// guard calls f, which is nobody's in particular.
func (l *Loop) guard(f func()) {
	defer func() {
		if v := recover(); v != nil {
			l.panicked(v, debug.Stack())
		}
	}()
	f()
}
