package loop

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// run gives a loop its goroutine for the time of a test.
func run(t *testing.T, kind Kind) *Loop {
	t.Helper()
	l := newLoop(t, kind)
	var wg sync.WaitGroup
	wg.Go(l.Run)
	t.Cleanup(func() { l.Stop(); wg.Wait() })
	return l
}

func newLoop(t *testing.T, kind Kind) *Loop {
	t.Helper()
	l, err := New(kind, func(v any, stack []byte) { t.Errorf("panic on the loop: %v\n%s", v, stack) })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// both runs a test with loops of both kinds.
func both(t *testing.T, f func(t *testing.T, kind Kind)) {
	t.Parallel()
	for name, kind := range map[string]Kind{"native": Native, "portable": Portable} {
		t.Run(name, func(t *testing.T) { t.Parallel(); f(t, kind) })
	}
}

// recorder is a Handler that notes what happens.
type recorder struct {
	conn     *Conn
	got      bytes.Buffer
	err      error
	drained  int
	panicked any
	on       func(r *recorder) // called by Readable instead of reading, if set
	heard    chan struct{}     // one token when something happened
}

func newRecorder() *recorder { return &recorder{heard: make(chan struct{}, 1)} }

func (r *recorder) Readable() {
	defer r.tell()
	if r.on != nil {
		r.on(r)
		return
	}
	r.readAll()
}

func (r *recorder) readAll() {
	for {
		n, err := r.conn.Read(r.conn.loop.Buffer())
		r.got.Write(r.conn.loop.Buffer()[:n])
		if err != nil {
			if !errors.Is(err, ErrAgain) {
				r.err = err
			}
			return
		}
	}
}

func (r *recorder) Drained()                 { r.drained++; r.tell() }
func (r *recorder) Panicked(v any, _ []byte) { r.panicked = v; r.tell() }
func (r *recorder) tell() {
	select {
	case r.heard <- struct{}{}:
	default:
	}
}

// until waits, outside of the loop, until cond holds on it.
func (r *recorder) until(t *testing.T, l *Loop, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		ok := false
		l.Do(func() { ok = cond() })
		if ok {
			return
		}
		select {
		case <-r.heard:
		case <-deadline:
			t.Fatalf("never: %s", what)
		}
	}
}

// pair returns a connection adopted by l and its peer.
func pair(t *testing.T, l *Loop, r *recorder) (peer *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	out, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	in, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = out.Close() })
	l.Do(func() { r.conn = l.Adopt(in, r) })
	return out.(*net.TCPConn)
}

func TestReadAndEnd(t *testing.T) { both(t, readAndEnd) }

func readAndEnd(t *testing.T, kind Kind) {
	l, r := run(t, kind), newRecorder()
	peer := pair(t, l, r)
	want := strings.Repeat("0123456789", 50_000)
	go func() { _, _ = io.WriteString(peer, want); _ = peer.CloseWrite() }()
	r.until(t, l, "the end", func() bool { return r.err != nil })
	if r.got.String() != want || !errors.Is(r.err, io.EOF) {
		t.Errorf("got %d bytes and %v, want %d and EOF", r.got.Len(), r.err, len(want))
	}
}

func TestWriteQueuesWhatThePeerDoesNotTake(t *testing.T) { both(t, writeQueuesWhatThePeerDoesNotTake) }

func writeQueuesWhatThePeerDoesNotTake(t *testing.T, kind Kind) {
	l, r := run(t, kind), newRecorder()
	peer := pair(t, l, r)
	chunk := bytes.Repeat([]byte("x"), 1<<20)
	l.Do(func() {
		for range 16 {
			r.conn.Write(chunk)
		}
	})
	if got, err := io.ReadFull(peer, make([]byte, 16<<20)); err != nil {
		t.Fatalf("the peer got %d bytes: %v", got, err)
	}
	r.until(t, l, "drained", func() bool { return r.drained > 0 && r.conn.Unsent() == 0 })
}

func TestPausedHandlerIsToldWhenItWantsToRead(t *testing.T) {
	both(t, pausedHandlerIsToldWhenItWantsToRead)
}

func pausedHandlerIsToldWhenItWantsToRead(t *testing.T, kind Kind) {
	l, r := run(t, kind), newRecorder()
	peer := pair(t, l, r)
	l.Do(func() { r.conn.Want(false) })
	if _, err := io.WriteString(peer, "hello"); err != nil {
		t.Fatal(err)
	}
	l.Do(func() {})
	l.Do(func() {
		if r.got.Len() > 0 {
			t.Error("told while paused")
		}
		r.conn.Want(true)
	})
	r.until(t, l, "hello", func() bool { return r.got.String() == "hello" })
}

func TestPanicInAHandlerReachesTheHandler(t *testing.T) { both(t, panicInAHandlerReachesTheHandler) }

func panicInAHandlerReachesTheHandler(t *testing.T, kind Kind) {
	l, r := run(t, kind), newRecorder()
	r.on = func(*recorder) { panic("boom") }
	peer := pair(t, l, r)
	if _, err := io.WriteString(peer, "x"); err != nil {
		t.Fatal(err)
	}
	r.until(t, l, "the panic", func() bool { return r.panicked == "boom" })
	l.Do(func() { r.conn.Close() })
	if _, err := peer.Read(make([]byte, 1)); err == nil {
		t.Error("the loop did not go on")
	}
}

func TestShutdownDeliversTheLastBytes(t *testing.T) { both(t, shutdownDeliversTheLastBytes) }

func shutdownDeliversTheLastBytes(t *testing.T, kind Kind) {
	l, r := run(t, kind), newRecorder()
	peer := pair(t, l, r)
	go func() { // a peer that still talks
		_, _ = peer.Write(bytes.Repeat([]byte("x"), 4<<20))
	}()
	l.Do(func() {
		r.conn.Write([]byte("goodbye"))
		r.conn.Shutdown()
	})
	got, err := io.ReadAll(peer)
	if string(got) != "goodbye" || err != nil {
		t.Errorf("the peer got %q, %v", got, err)
	}
}

func TestShutdownEndsWithoutThePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLoop(t, Portable)
		go l.Run()
		near, far := net.Pipe()
		defer far.Close()
		r := newRecorder()
		l.Do(func() { r.conn = l.Adopt(near, r) })
		start := time.Now()
		l.Do(func() { r.conn.Write([]byte("never read")); r.conn.Shutdown() })
		_, _ = far.Write([]byte("x"))
		<-time.After(ShutdownTimeout)
		synctest.Wait()
		if _, err := far.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("after %v: %v, want a closed connection", time.Since(start), err)
		}
		l.Stop()
	})
}

func TestTimersFireInOrderAtTheirInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLoop(t, Portable)
		go l.Run()
		start := time.Now()
		var fired []time.Duration
		note := func() { fired = append(fired, time.Since(start)) }
		var a, b, c, d Timer
		l.Do(func() {
			l.Start(&a, 3*time.Second, note)
			l.Start(&b, time.Second, note)
			l.Start(&c, 2*time.Second, note)
			l.Start(&d, 0, note)
		})
		<-time.After(time.Second)
		synctest.Wait()
		l.Do(func() { l.Start(&b, time.Second, note); c.Stop() })
		<-time.After(time.Minute)
		synctest.Wait()
		l.Do(func() {
			want := []time.Duration{time.Second, 2 * time.Second, 3 * time.Second}
			if len(fired) != 3 || fired[0] != want[0] || fired[1] != want[1] || fired[2] != want[2] {
				t.Errorf("fired at %v, want %v", fired, want)
			}
			if a.Running() || d.Running() {
				t.Error("a timer that fired runs")
			}
		})
		l.Stop()
	})
}

func TestPostAfterTheEndIsRefused(t *testing.T) {
	t.Parallel()
	l := newLoop(t, Portable)
	done := make(chan struct{})
	go func() { defer close(done); l.Run() }()
	l.Stop()
	<-done
	if l.Post(func() {}) || l.Do(func() {}) {
		t.Error("a loop that is over took a function")
	}
}
