package loop

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"net"
	"testing"
	"time"
)

// nomad is an echo that leaves for the other loop whenever it has read something and may leave.
type nomad struct {
	echo
	loops   [2]*Loop
	at      int
	leaving bool
	moves   int
}

func (n *nomad) Readable() {
	n.echo.Readable()
	n.leaveSoon()
}

func (n *nomad) Drained() {
	n.echo.Drained()
	n.leaveSoon()
}

// leaveSoon posts leave once at a time: one that is run after another has taken the connection away would look at it from
// a loop that it does not belong to.
func (n *nomad) leaveSoon() {
	if !n.leaving {
		n.leaving = true
		n.conn.loop.Post(n.leave)
	}
}

func (n *nomad) leave() {
	n.leaving = false
	n.at = 1 - n.at
	if !n.conn.Move(n.loops[n.at], func() { n.moves++ }) {
		n.at = 1 - n.at
	}
}

func TestConnectionsMoveBetweenLoopsUnderTraffic(t *testing.T) {
	every(t, func(t *testing.T, v variant) {
		t.Run("plain", func(t *testing.T) {
			t.Parallel()
			moveUnderTraffic(t, v, func(l *Loop, n *nomad) net.Conn {
				near, far := dial(t)
				l.Do(func() { n.conn = l.Adopt(near, n) })
				return far
			})
		})
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(tls.VersionName(version), func(t *testing.T) {
				t.Parallel()
				moveUnderTraffic(t, v, func(l *Loop, n *nomad) net.Conn {
					_, peer, _ := tlsPair(t, l, n, role{version: version})
					return peer
				})
			})
		}
	})
}

func moveUnderTraffic(t *testing.T, v variant, connect func(*Loop, *nomad) net.Conn) {
	n := &nomad{echo: echo{recorder: newRecorder(), limit: 1 << 20}, loops: [2]*Loop{run(t, v), run(t, v)}}
	peer := connect(n.loops[0], n)
	_ = peer.SetDeadline(time.Now().Add(time.Minute))
	random := mathrand.New(mathrand.NewPCG(1, 2))
	for range 200 {
		sent := make([]byte, 1+random.IntN(40_000))
		for i := range sent {
			sent[i] = byte(random.Uint32())
		}
		written := make(chan error, 1)
		go func() { _, err := peer.Write(sent); written <- err }()
		got := make([]byte, len(sent))
		if _, err := io.ReadFull(peer, got); err != nil {
			t.Fatal(err)
		}
		if err := <-written; err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(sent, got) {
			t.Fatal("something else came back")
		}
	}
	if err := peer.Close(); err != nil {
		t.Fatal(err)
	}
	for _, l := range n.loops { // what the two have in common is not touched any more
		l.Stop()
	}
	for _, l := range n.loops {
		<-l.stopped
	}
	if n.moves < 20 {
		t.Errorf("moved %d times, want at least 20", n.moves)
	}
}

func TestConnectionWithSomethingUnsentStays(t *testing.T) {
	every(t, connectionWithSomethingUnsentStays)
}

func connectionWithSomethingUnsentStays(t *testing.T, v variant) {
	here, there, r := run(t, v), run(t, v), newRecorder()
	peer := pair(t, here, r)
	moved := true
	here.Do(func() {
		r.conn.Write(make([]byte, 64<<20))
		moved = r.conn.Move(there, func() { t.Error("arrived") })
	})
	if moved {
		t.Fatal("moved")
	}
	if n, err := io.CopyN(io.Discard, peer, 64<<20); err != nil {
		t.Fatalf("the peer read %d bytes: %v", n, err)
	}
}

func TestConnectionStaysWhereTheOtherLoopHasEnded(t *testing.T) {
	every(t, connectionStaysWhereTheOtherLoopHasEnded)
}

func connectionStaysWhereTheOtherLoopHasEnded(t *testing.T, v variant) {
	here, there, r := run(t, v), run(t, v), newRecorder()
	peer := pair(t, here, r)
	there.Stop()
	<-there.stopped
	here.Do(func() {
		if r.conn.Move(there, func() { t.Error("arrived") }) {
			t.Error("moved")
		}
	})
	if _, err := peer.Write([]byte("here")); err != nil {
		t.Fatal(err)
	}
	r.until(t, here, "what was written is read", func() bool { return r.got.String() == "here" })
	if err := peer.Close(); err != nil {
		t.Fatal(err)
	}
	r.until(t, here, "the end is read", func() bool { return errors.Is(r.err, io.EOF) })
}
