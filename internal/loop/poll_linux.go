package loop

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxEvents is how many sockets are reported at once.
	maxEvents = 256
	// wakeSlot stands for the eventfd where epoll reports a connection's slot.
	wakeSlot = -1
)

// poller waits for descriptors with epoll, level-triggered. It belongs to its loop but for wake.
type poller struct {
	epoll    int
	eventfd  int
	asleep   atomic.Bool // a post has to wake the loop
	events   [maxEvents]unix.EpollEvent
	conns    []*pollConn // by slot, which epoll reports; nil: free
	free     []int32     // slots of conns
	lastConn uint32      // generation of the last connection, so that an event for one before in its slot is recognised
	tls      tlsScratch
}

func newPoller() (*poller, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create: %w", err)
	}
	ev, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(ep)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	p := &poller{epoll: ep, eventfd: ev, tls: tlsScratch{fields: findTLSFields()}}
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, ev, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: wakeSlot}); err != nil {
		p.close()
		return nil, fmt.Errorf("epoll_ctl: %w", err)
	}
	return p, nil
}

func (p *poller) close() {
	_ = unix.Close(p.eventfd)
	_ = unix.Close(p.epoll)
}

// wake ends a wait. It may be called from anywhere while the poller is open.
func (p *poller) wake() {
	if p.asleep.Swap(false) {
		var one [8]byte
		binary.NativeEndian.PutUint64(one[:], 1)
		_, _ = unix.Write(p.eventfd, one[:])
	}
}

// wait waits until a socket is ready, the time is over or wake is called, and returns how many events there are.
func (p *poller) wait(l *Loop, d time.Duration) int {
	ms := int((d + time.Millisecond - 1) / time.Millisecond)
	p.asleep.Store(true)
	if l.pending() {
		ms = 0
	}
	n, err := unix.EpollWait(p.epoll, p.events[:], ms)
	p.asleep.Store(false)
	if err != nil { // EINTR; the others are bugs
		return 0
	}
	return n
}

// dispatch deals with the n events that wait has found.
func (p *poller) dispatch(n int) {
	for i := range p.events[:n] {
		e := &p.events[i]
		if e.Fd == wakeSlot {
			var b [8]byte
			_, _ = unix.Read(p.eventfd, b[:])
			continue
		}
		if t := p.conns[e.Fd]; t != nil && t.generation == uint32(e.Pad) {
			t.ready(e.Events)
		}
	}
}

// add gives t a slot and has epoll report what comes.
func (p *poller) add(t *pollConn) error {
	slot := int32(len(p.conns))
	if last := len(p.free) - 1; last >= 0 {
		slot, p.free = p.free[last], p.free[:last]
	} else {
		p.conns = append(p.conns, nil)
	}
	p.lastConn++
	t.slot, t.generation = slot, p.lastConn
	if err := t.ask(unix.EPOLL_CTL_ADD, wantIn); err != nil {
		p.free = append(p.free, slot)
		return err
	}
	p.conns[slot] = t
	return nil
}

func (p *poller) remove(t *pollConn) {
	if p.conns[t.slot] != t {
		return // it could not be added
	}
	p.conns[t.slot] = nil
	p.free = append(p.free, t.slot)
}

// adoptPolled takes the descriptor out of a TCP or Unix connection, or out of a TCP connection under TLS that was set up
// over a Switch. It returns nil if nc is something else, or if the loop polls none; nc is untouched then.
func (l *Loop) adoptPolled(nc net.Conn, c *Conn) transport {
	if l.poller == nil {
		return nil
	}
	switch nc := nc.(type) {
	case *net.TCPConn, *net.UnixConn:
		t := &pollConn{c: c}
		if t.take(l.poller, nc.(syscall.Conn)) == nil {
			_ = nc.Close()
			return t
		}
	case *tls.Conn:
		if t := l.adoptTLS(nc, c); t != nil {
			return t
		}
	}
	return nil
}

// detach duplicates the descriptor: the copy shares the socket, and its being non-blocking, but no owner.
func detach(sc syscall.Conn) (fd int, err error) {
	rc, err := sc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var dupErr error
	err = rc.Control(func(s uintptr) { fd, dupErr = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0) })
	if err != nil {
		return 0, err
	}
	return fd, dupErr
}
