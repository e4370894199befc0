package loop

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// unixPair returns the two ends of a Unix socket, through which bytes, ends and errors come at once.
func unixPair(t testing.TB) (near, far *net.UnixConn) {
	t.Helper()
	dir, err := os.MkdirTemp("", "loop") // a short name: that of a socket has no room for the test's
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ln, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	out, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	in, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = out.Close(); _ = in.Close() })
	return in.(*net.UnixConn), out.(*net.UnixConn)
}

// flood is a Handler whose connection never runs dry: it has its peer write again what it has read.
type flood struct {
	*recorder
	refill  func(n int)
	total   int
	perTurn map[uint32]int
}

const enough = 8 << 20 // bytes after which a flood ends in any case

func (f *flood) Readable() {
	defer f.tell()
	for f.total < enough {
		n, err := f.conn.Read(f.conn.loop.Buffer())
		if err != nil {
			return
		}
		f.total += n
		f.perTurn[f.conn.loop.turnNo] += n
		f.refill(n)
	}
	f.conn.Want(false)
}

func TestAFloodLetsTheOthersHaveTheirTurn(t *testing.T) {
	for _, test := range []struct {
		name string
		tls  bool
	}{{"plain", false}, {"tls", true}} {
		t.Run(test.name, func(t *testing.T) {
			every(t, func(t *testing.T, v variant) {
				l, other := run(t, v), newRecorder()
				f := &flood{recorder: newRecorder(), perTurn: make(map[uint32]int)}
				near, otherPeer := unixPair(t)
				var nc, peer net.Conn
				if test.tls {
					in, out := dial(t)
					nc, peer = handshake(t, role{version: 0x304}, in, out)
				} else {
					nc, peer = unixPair(t)
				}
				noted := -1
				other.on = func(r *recorder) {
					r.readAll()
					if noted < 0 {
						noted = f.total
					}
				}
				_ = peer.SetWriteDeadline(time.Now().Add(time.Minute))
				chunk := make([]byte, BufferSize) // a full buffer: there may be more
				f.refill = func(n int) {
					if f.total == n {
						_, _ = otherPeer.Write([]byte("me too"))
					}
					if !test.tls {
						_, _ = peer.Write(chunk[:n])
					}
				}
				l.Do(func() { other.conn = l.Adopt(near, other); f.conn = l.Adopt(nc, f) })
				_, _ = peer.Write(chunk)
				for n := 0; test.tls && n < enough; n += len(chunk) { // its peer must not wait on the loop
					_, _ = peer.Write(chunk)
				}
				f.until(t, l, "the flood's end", func() bool { return f.total >= enough })
				l.Do(func() { checkTurns(t, v, f, noted) })
			})
		})
	}
}

func checkTurns(t *testing.T, v variant, f *flood, noted int) {
	t.Helper()
	for turn, n := range f.perTurn {
		if n > turnBudget+BufferSize {
			t.Errorf("%d bytes in turn %d, want %d at most", n, turn, turnBudget+BufferSize)
		}
	}
	if v.kind == Portable {
		return // the other's goroutine reads when the scheduler lets it
	}
	if limit := 3 * turnBudget; noted < 0 || noted > limit {
		t.Errorf("the other had its turn after %d bytes, want %d at most", noted, limit)
	}
}

func TestWriteErrorIsToldToAPausedHandler(t *testing.T) {
	every(t, func(t *testing.T, v variant) {
		l, r := run(t, v), newRecorder()
		near, far := unixPair(t)
		l.Do(func() { r.conn = l.Adopt(near, r); r.conn.Want(false) })
		_ = far.Close()
		l.Do(func() { r.conn.Write([]byte("x")) })
		r.until(t, l, "the error", func() bool { return r.err != nil })
	})
}

func TestWriteErrorIsToldBeyondTheBudget(t *testing.T) {
	every(t, func(t *testing.T, v variant) {
		l, r := run(t, v), newRecorder()
		near, far := unixPair(t)
		r.on = func(r *recorder) { r.conn.turn, r.conn.spent, r.on = l.turnNo, turnBudget, nil; r.readAll() }
		l.Do(func() {
			r.conn = l.Adopt(near, r)
			r.conn.Want(false)
			_ = far.Close()
			r.conn.Write([]byte("x"))
		})
		r.until(t, l, "the error", func() bool { return r.err != nil })
	})
}

func TestPeerThatHungUpWhilePausedIsReadToItsEnd(t *testing.T) {
	every(t, func(t *testing.T, v variant) {
		l, r := run(t, v), newRecorder()
		near, far := unixPair(t)
		l.Do(func() { r.conn = l.Adopt(near, r); r.conn.Want(false) })
		_, _ = far.Write([]byte("last words"))
		_ = far.Close()
		for range 3 { // it is paused and goes on several times
			l.Do(func() {})
			l.Do(func() { r.conn.Want(true); r.conn.Want(false) })
		}
		l.Do(func() { r.conn.Want(true) })
		r.until(t, l, "the end", func() bool { return r.err != nil })
		if got := r.got.String(); got != "last words" || !errors.Is(r.err, io.EOF) {
			t.Errorf("got %q and %v, want the last words and EOF", got, r.err)
		}
	})
}

func TestShutdownAfterTheEndClosesWithoutWaiting(t *testing.T) {
	every(t, func(t *testing.T, v variant) {
		l, r := run(t, v), newRecorder()
		near, far := unixPair(t)
		l.Do(func() { r.conn = l.Adopt(near, r) })
		_ = far.CloseWrite()
		r.until(t, l, "the end", func() bool { return r.err != nil })
		drained := make(chan struct{})
		l.Do(func() {
			r.conn.Write([]byte("goodbye"))
			r.conn.Shutdown()
			if r.conn.Unsent() == 0 && !r.conn.closed {
				t.Error("waits for a peer whose end has been read")
			}
			close(drained)
		})
		<-drained
		if got, err := io.ReadAll(far); string(got) != "goodbye" || err != nil {
			t.Errorf("the peer got %q, %v", got, err)
		}
		l.Do(func() {
			if r.conn.linger.Running() && r.conn.Unsent() == 0 {
				t.Error("still lingers")
			}
		})
	})
}

func TestReadOfNothingIsNotTheEnd(t *testing.T) {
	every(t, func(t *testing.T, v variant) {
		l, r := run(t, v), newRecorder()
		near, far := unixPair(t)
		r.on = func(r *recorder) {
			if n, err := r.conn.Read(nil); n != 0 || err != nil {
				t.Errorf("got %d, %v, want nothing", n, err)
			}
			r.readAll()
		}
		l.Do(func() { r.conn = l.Adopt(near, r) })
		_, _ = far.Write([]byte("x"))
		r.until(t, l, "x", func() bool { return r.got.String() == "x" })
	})
}

// helpless panics when it is told that it has panicked.
type helpless struct{ *recorder }

func (h helpless) Panicked(any, []byte) { panic("again") }

func TestPanicAfterAPanicClosesTheConnection(t *testing.T) {
	t.Parallel()
	for _, kind := range []Kind{Native, Portable} {
		panics := make(chan any, 10)
		l, err := New(kind, func(v any, _ []byte) { panics <- v })
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { defer close(done); l.Run() }()
		h := helpless{newRecorder()}
		h.on = func(*recorder) { panic("boom") }
		near, far := unixPair(t)
		l.Do(func() { h.conn = l.Adopt(near, h) })
		_, _ = far.Write([]byte("x"))
		if got := <-panics; got != "again" {
			t.Errorf("the loop hears of %v", got)
		}
		if _, err := far.Read(make([]byte, 1)); err == nil {
			t.Error("the connection lives on")
		}
		l.Stop()
		<-done
	}
}
