package loop

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// parrot is a Handler that sends back what it reads.
type parrot struct{ conn *Conn }

func (p *parrot) adopted(c *Conn) { p.conn = c }

func (p *parrot) Readable() {
	for {
		n, err := p.conn.Read(p.conn.loop.Buffer())
		if err != nil {
			if !errors.Is(err, ErrAgain) {
				p.conn.Close()
			}
			return
		}
		p.conn.Write(p.conn.loop.Buffer()[:n])
	}
}

func (p *parrot) Drained()             {}
func (p *parrot) Panicked(any, []byte) { p.conn.Close() }

// message is about as long as a Query, or its answer.
const message = "0123456789012345678901234567890123456789012345678901234567890123456789"

// plainEcho returns a function that has a message echoed by a connection of l, and allocates nothing itself.
func plainEcho(t testing.TB, l *Loop) func() {
	near, far := dial(t)
	p := &parrot{}
	l.Do(func() { p.conn = l.Adopt(near, p) })
	out, in := []byte(message), make([]byte, len(message))
	return func() { swap(t, far, out, in) }
}

// tlsEcho is plainEcho over TLS.
func tlsEcho(t testing.TB, l *Loop) func() {
	p := &parrot{}
	_, f := forge(t, l, p, false)
	out := make([]byte, 0, headerLen+len(message)+1+f.out.aead.Overhead())
	in := make([]byte, cap(out))
	return func() { swap(t, f.nc, f.out.seal(out[:0], dataRecord, message), in) }
}

func swap(t testing.TB, nc net.Conn, out, in []byte) {
	_, err := nc.Write(out)
	if err == nil {
		_, err = io.ReadFull(nc, in)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestEchoDoesNotAllocate(t *testing.T) {
	for _, test := range []struct {
		name string
		make func(testing.TB, *Loop) func()
		want float64
	}{{"plain", plainEcho, 0}, {"tls", tlsEcho, poolLoss}} {
		t.Run(test.name, func(t *testing.T) {
			echo := test.make(t, run(t, variant{}))
			echo()
			if n := testing.AllocsPerRun(1000, echo); n > test.want {
				t.Errorf("%v allocations for a message, want %v at most", n, test.want)
			}
		})
	}
}

// idle returns how many bytes n idle TLS clients take here, each, with what serves them, and nothing that is theirs.
func idle(t testing.TB, v variant, version uint16, n int) int {
	t.Helper()
	l := run(t, v)
	server, client := configs(t, version)
	handlers, sockets := make([]parrot, n), make([]int, 0, n)
	defer func() {
		for _, fd := range sockets {
			_ = unix.Close(fd)
		}
	}()
	before := held()
	for i := range n {
		sockets = append(sockets, login(t, l, &handlers[i], server, client))
	}
	after := held()
	l.Do(func() { runtime.KeepAlive(handlers) })
	return (after - before) / n
}

// login has l adopt a client that has sent a query and got its answer, and returns its socket.
func login(t testing.TB, l *Loop, p *parrot, server, client *tls.Config) (fd int) {
	t.Helper()
	near, far := connect(t)
	adoptable, peer := tls.Server(NewSwitch(near), server), tls.Client(far, client)
	done := make(chan error, 1)
	go func() { done <- adoptable.Handshake() }()
	if err := errors.Join(peer.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	l.Do(func() { p.conn = l.Adopt(adoptable, p) })
	swap(t, peer, make([]byte, 8<<10), make([]byte, 8<<10))
	swap(t, peer, []byte(message), make([]byte, len(message)))
	fd, err := detach(syscall.Conn(far))
	if err != nil {
		t.Fatal(err)
	}
	_ = far.Close()
	return fd
}

// held returns what the heap and the goroutines take.
func held() int {
	runtime.GC()
	runtime.GC() // what has a finalizer goes the second time, and so do pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}

func TestIdleTLSClientIsSmall(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS13, tls.VersionTLS12} {
		const limit = 5 << 10
		if got := idle(t, variant{}, version, 300); got > limit {
			t.Errorf("%s: %d bytes, want %d at most", tls.VersionName(version), got, limit)
		}
	}
}
