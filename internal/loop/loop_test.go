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

// variant is a way to serve connections.
type variant struct {
	name string
	kind Kind
	lost bool // nothing is known of crypto/tls's fields
}

// run gives a loop its goroutine for the time of a test.
func run(t testing.TB, v variant) *Loop {
	t.Helper()
	l := newLoop(t, v.kind)
	if v.lost {
		loseFields(l)
	}
	var wg sync.WaitGroup
	wg.Go(l.Run)
	t.Cleanup(func() { l.Stop(); wg.Wait() })
	return l
}

func newLoop(t testing.TB, kind Kind) *Loop {
	t.Helper()
	l, err := New(kind, func(v any, stack []byte) { t.Errorf("panic on the loop: %v\n%s", v, stack) })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// every runs a test with loops of every kind.
func every(t *testing.T, f func(t *testing.T, v variant)) {
	t.Parallel()
	for _, v := range []variant{{name: "native"}, {name: "native, fields lost", lost: true}, {name: "portable", kind: Portable}} {
		t.Run(v.name, func(t *testing.T) { t.Parallel(); f(t, v) })
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

// adopter is a Handler that is told its connection.
type adopter interface{ adopted(*Conn) }

func (r *recorder) adopted(c *Conn) { r.conn = c }

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
		switch {
		case err == nil:
			r.got.Write(r.conn.loop.Buffer()[:n])
		case errors.Is(err, ErrAgain):
			return
		default:
			r.err = err
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
func (r *recorder) until(t testing.TB, l *Loop, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
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
func pair(t testing.TB, l *Loop, r *recorder) (peer *net.TCPConn) {
	t.Helper()
	near, far := dial(t)
	l.Do(func() { r.conn = l.Adopt(near, r) })
	return far
}

// dial returns the two ends of a connection, which is closed at the end of the test.
func dial(t testing.TB) (near, far *net.TCPConn) {
	t.Helper()
	near, far = connect(t)
	t.Cleanup(func() { _ = near.Close(); _ = far.Close() })
	return near, far
}

func connect(t testing.TB) (near, far *net.TCPConn) {
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
	return in.(*net.TCPConn), out.(*net.TCPConn)
}

func TestReadAndEnd(t *testing.T) { every(t, readAndEnd) }

func readAndEnd(t *testing.T, v variant) {
	l, r := run(t, v), newRecorder()
	peer := pair(t, l, r)
	want := strings.Repeat("0123456789", 50_000)
	go func() { _, _ = io.WriteString(peer, want); _ = peer.CloseWrite() }()
	r.until(t, l, "the end", func() bool { return r.err != nil })
	if r.got.String() != want || !errors.Is(r.err, io.EOF) {
		t.Errorf("got %d bytes and %v, want %d and EOF", r.got.Len(), r.err, len(want))
	}
}

func TestWriteQueuesWhatThePeerDoesNotTake(t *testing.T) { every(t, writeQueuesWhatThePeerDoesNotTake) }

func writeQueuesWhatThePeerDoesNotTake(t *testing.T, v variant) {
	l, r := run(t, v), newRecorder()
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
	every(t, pausedHandlerIsToldWhenItWantsToRead)
}

func pausedHandlerIsToldWhenItWantsToRead(t *testing.T, v variant) {
	l, r := run(t, v), newRecorder()
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

func TestPanicInAHandlerReachesTheHandler(t *testing.T) { every(t, panicInAHandlerReachesTheHandler) }

func panicInAHandlerReachesTheHandler(t *testing.T, v variant) {
	l, r := run(t, v), newRecorder()
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

func TestShutdownDeliversTheLastBytes(t *testing.T) { every(t, shutdownDeliversTheLastBytes) }

func shutdownDeliversTheLastBytes(t *testing.T, v variant) {
	l, r := run(t, v), newRecorder()
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

// stubborn is a connection whose peer takes nothing.
type stubborn struct{ net.Conn }

func (stubborn) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestLastWordsOfAPeerThatTakesNothingAreHeard(t *testing.T) {
	for _, speaks := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			l := newLoop(t, Portable)
			go l.Run()
			near, far := net.Pipe()
			r := newRecorder()
			l.Do(func() { r.conn = l.Adopt(stubborn{near}, r) })
			l.Do(func() { r.conn.Write([]byte("x")) })
			synctest.Wait()
			l.Do(func() {
				if r.err != nil || !r.conn.Broken() {
					t.Errorf("err = %v, broken = %t before the peer has said all", r.err, r.conn.Broken())
				}
			})
			start, waited, words := time.Now(), lastWords, ""
			if speaks {
				waited, words = 0, "last words"
				_, _ = io.WriteString(far, words)
				_ = far.Close()
			}
			<-time.After(waited)
			synctest.Wait()
			l.Do(func() {
				if got := r.got.String(); got != words || r.err == nil {
					t.Errorf("heard %q, %v after %v, want %q and an error", got, r.err, time.Since(start), words)
				}
				r.conn.Close()
			})
			_ = far.Close()
			l.Stop()
		})
	}
}
