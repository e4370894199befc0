package memnet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

const server = "db.example:5432"

// connect returns both ends of a connection.
func connect(t *testing.T, n *Network) (client, backend *Conn) {
	t.Helper()
	l := n.Listen(server)
	client, err := n.DialFrom(t.Context(), "203.0.113.7:5000", server)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatalf("accept: %v", err)
	}
	return client, accepted.(*Conn)
}

// wantTimeout fails the test unless err is what net.Conn says behind a deadline.
func wantTimeout(t *testing.T, op string, err error) {
	t.Helper()
	var ne net.Error
	if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("%s = %v, want a timeout", op, err)
	}
}

func TestConnectionHasTheChosenAddresses(t *testing.T) {
	t.Parallel()
	client, backend := connect(t, New())
	if got := backend.RemoteAddr().String(); got != "203.0.113.7:5000" {
		t.Errorf("the backend sees %s", got)
	}
	if got, want := client.RemoteAddr().String(), backend.LocalAddr().String(); got != want || got != "192.0.2.1:5432" {
		t.Errorf("client dialled %s, backend listens on %s", got, want)
	}
	if _, ok := backend.RemoteAddr().(*net.TCPAddr); !ok {
		t.Errorf("address is a %T", backend.RemoteAddr())
	}
}

func TestBothDirectionsCarryAllBytesInOrder(t *testing.T) {
	t.Parallel()
	client, backend := connect(t, New())
	sent := bytes.Repeat([]byte("0123456789abcdef"), 3*BufferBytes/16)
	var wg sync.WaitGroup
	for _, c := range []struct{ from, to *Conn }{{client, backend}, {backend, client}} {
		wg.Go(func() {
			if n, err := c.from.Write(sent); n != len(sent) || err != nil {
				t.Errorf("write = %d, %v", n, err)
			}
			if err := c.from.CloseWrite(); err != nil {
				t.Errorf("close write: %v", err)
			}
		})
		wg.Go(func() {
			got, err := io.ReadAll(c.to)
			if !bytes.Equal(got, sent) || err != nil {
				t.Errorf("read %d bytes of %d, %v", len(got), len(sent), err)
			}
		})
	}
	wg.Wait()
	if got := client.Written(); got != int64(len(sent)) {
		t.Errorf("Written() = %d, want %d", got, len(sent))
	}
}

func TestWriteBlocksWhileTheBufferIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, backend := connect(t, New())
		start := time.Now()
		_ = client.SetWriteDeadline(start.Add(3 * time.Second))
		n, err := client.Write(make([]byte, BufferBytes+1))
		if wantTimeout(t, "write", err); n != BufferBytes || time.Since(start) != 3*time.Second {
			t.Errorf("wrote %d bytes in %s", n, time.Since(start))
		}
		if got := backend.Unread(); got != BufferBytes {
			t.Errorf("Unread() = %d", got)
		}
		_ = client.SetWriteDeadline(time.Time{})
		done := make(chan error)
		go func() { _, err := client.Write([]byte("x")); done <- err }()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("write into a full buffer returned %v", err)
		default:
		}
		_, _ = backend.Read(make([]byte, 1))
		if err := <-done; err != nil {
			t.Errorf("write after the peer has read: %v", err)
		}
	})
}

func TestReadDeadlineIsExactAndCanBeMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, backend := connect(t, New())
		start := time.Now()
		_ = client.SetReadDeadline(start.Add(time.Second))
		go func() {
			time.Sleep(500 * time.Millisecond)
			_ = client.SetReadDeadline(start.Add(5 * time.Second))
		}()
		_, err := client.Read(make([]byte, 1))
		if wantTimeout(t, "read", err); time.Since(start) != 5*time.Second {
			t.Errorf("read took %s, want 5s", time.Since(start))
		}
		_, _ = backend.Write([]byte("x"))
		_, err = client.Read(make([]byte, 1))
		wantTimeout(t, "read of what has arrived, behind the deadline", err)
		_ = client.SetReadDeadline(time.Time{})
		if n, err := client.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("read without deadline = %d, %v", n, err)
		}
	})
}

func TestDeadlineInThePastStopsABlockedRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, _ := connect(t, New())
		done := make(chan error)
		go func() { _, err := client.Read(make([]byte, 1)); done <- err }()
		synctest.Wait()
		_ = client.SetDeadline(time.Now().Add(-time.Hour))
		wantTimeout(t, "read", <-done)
		_, err := client.Write([]byte("x"))
		wantTimeout(t, "write", err)
	})
}

func TestCloseStopsOwnCallsAndEndsThePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, backend := connect(t, New())
		done := make(chan error)
		go func() { _, err := client.Read(make([]byte, 1)); done <- err }()
		_, _ = client.Write([]byte("last"))
		synctest.Wait()
		if err := client.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		for op, err := range map[string]error{
			"blocked read": <-done,
			"second close": client.Close(),
			"set deadline": client.SetDeadline(time.Now()),
		} {
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s = %v, want net.ErrClosed", op, err)
			}
		}
		if _, err := client.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write behind close = %v", err)
		}
		if got, err := io.ReadAll(backend); string(got) != "last" || err != nil {
			t.Errorf("peer read %q, %v", got, err)
		}
		if _, err := backend.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("peer's write = %v, want EPIPE", err)
		}
	})
}

func TestHalfCloseLeavesTheOtherDirectionOpen(t *testing.T) {
	t.Parallel()
	client, backend := connect(t, New())
	_ = client.CloseWrite()
	if _, err := backend.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("peer's read = %v, want EOF", err)
	}
	if _, err := client.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("write behind CloseWrite = %v, want EPIPE", err)
	}
	if _, err := backend.Write([]byte("x")); err != nil {
		t.Errorf("peer's write: %v", err)
	}
	if n, err := client.Read(make([]byte, 9)); n != 1 || err != nil {
		t.Errorf("read = %d, %v", n, err)
	}
}

func TestResetLosesWhatWasNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, backend := connect(t, New())
		_, _ = client.Write([]byte("lost"))
		done := make(chan error)
		go func() { _, err := backend.Write(make([]byte, BufferBytes+1)); done <- err }()
		synctest.Wait()
		client.Reset()
		if err := <-done; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("peer's blocked write = %v, want ECONNRESET", err)
		}
		if n, err := backend.Read(make([]byte, 9)); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("peer's read = %d, %v, want ECONNRESET", n, err)
		}
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("own read = %v, want net.ErrClosed", err)
		}
	})
}

func TestConcurrentWritesDoNotMix(t *testing.T) {
	t.Parallel()
	client, backend := connect(t, New())
	const size = 3 * BufferBytes
	var wg sync.WaitGroup
	for _, b := range []byte("ab") {
		wg.Go(func() { _, _ = client.Write(bytes.Repeat([]byte{b}, size)) })
	}
	got := make([]byte, 2*size)
	if _, err := io.ReadFull(backend, got); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	for i := range 2 {
		part := got[i*size : (i+1)*size]
		if bytes.Count(part, part[:1]) != size {
			t.Errorf("write %d holds bytes of the other", i+1)
		}
	}
}

func TestDialWithoutListenerIsRefused(t *testing.T) {
	t.Parallel()
	n := New()
	for addr, want := range map[string]error{server: syscall.ECONNREFUSED, "/run/none": syscall.ENOENT} {
		if _, err := n.Dial(t.Context(), "tcp", addr); !errors.Is(err, want) {
			t.Errorf("dial %s = %v, want %v", addr, err, want)
		}
	}
	for _, addr := range []string{"db.example", "db.example:x"} {
		if _, err := n.Dial(t.Context(), "tcp", addr); err == nil {
			t.Errorf("dial %s succeeded", addr)
		}
	}
}

func TestSilentAddressBlocksUntilTheContextIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		n.Listen(server)
		n.SetSilent(server, true)
		ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
		defer cancel()
		start := time.Now()
		if _, err := n.Dial(ctx, "tcp", server); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 7*time.Second {
			t.Errorf("dial = %v after %s", err, time.Since(start))
		}
		n.SetSilent(server, false)
		if _, err := n.Dial(t.Context(), "tcp", server); err != nil {
			t.Errorf("dial: %v", err)
		}
	})
}

func TestClosedListenerResetsAndRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		l := n.Listen("[::]:6543")
		pending, err := n.Dial(t.Context(), "tcp", "198.51.100.1:6543")
		if err != nil {
			t.Fatalf("dial through the wildcard: %v", err)
		}
		idle := n.Listen(server)
		done := make(chan error)
		go func() { _, err := idle.Accept(); done <- err }()
		synctest.Wait()
		_, _ = l.Close(), idle.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept = %v, want net.ErrClosed", err)
		}
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("second close = %v, want net.ErrClosed", err)
		}
		if _, err := pending.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read of a connection never accepted = %v, want ECONNRESET", err)
		}
		if _, err := n.Dial(t.Context(), "tcp", server); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dial = %v, want ECONNREFUSED", err)
		}
		n.Listen(server) // the address is free again
	})
}

func TestUnixSocketsAndChosenPorts(t *testing.T) {
	t.Parallel()
	n := New()
	l := n.Listen("/run/sluice/.s.PGSQL.5432")
	if _, err := n.Dial(t.Context(), "unix", "/run/sluice/.s.PGSQL.5432"); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil || c.LocalAddr().Network() != "unix" {
		t.Errorf("accepted on %v, %v", c.LocalAddr(), err)
	}
	one, two := n.Listen("127.0.0.1:0"), n.Listen("127.0.0.1:0")
	if one.Addr().String() == two.Addr().String() {
		t.Errorf("both listen on %s", one.Addr())
	}
	if _, err := n.Dial(t.Context(), "tcp", two.Addr().String()); err != nil {
		t.Errorf("dial of a chosen port: %v", err)
	}
}
