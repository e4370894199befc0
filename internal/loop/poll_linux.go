package loop

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxEvents is how many sockets are reported at once.
const maxEvents = 256

// poller waits for descriptors with epoll, level-triggered. It belongs to its loop but for wake.
type poller struct {
	epoll    int
	eventfd  int
	asleep   atomic.Bool // a post has to wake the loop
	events   [maxEvents]unix.EpollEvent
	conns    map[int32]*pollConn // by descriptor
	nextTurn uint32              // generation of the next descriptor, so that a stale event is recognised
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
	p := &poller{epoll: ep, eventfd: ev, conns: make(map[int32]*pollConn)}
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, ev, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(ev)}); err != nil {
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

// wait waits until a socket is ready, the time is over or wake is called, and deals with the sockets.
func (p *poller) wait(l *Loop, d time.Duration) {
	ms := int((d + time.Millisecond - 1) / time.Millisecond)
	p.asleep.Store(true)
	if l.pending() {
		ms = 0
	}
	n, err := unix.EpollWait(p.epoll, p.events[:], ms)
	p.asleep.Store(false)
	l.now = time.Now()
	if err != nil { // EINTR; the others are bugs
		return
	}
	for i := range p.events[:n] {
		e := &p.events[i]
		if e.Fd == int32(p.eventfd) {
			var b [8]byte
			_, _ = unix.Read(p.eventfd, b[:])
			continue
		}
		if t := p.conns[e.Fd]; t != nil && t.generation == uint32(e.Pad) {
			t.ready(e.Events)
		}
	}
}

// pollConn is the transport on a descriptor of our own, which no one else reads, writes or closes.
type pollConn struct {
	c          *Conn
	p          *poller
	fd         int
	generation uint32
	interest   uint32 // what epoll is asked for
	hasInput   bool   // a read may find something
	ended      bool   // the end, or an error, has been read
	hung       bool   // it has left epoll: the peer hung up while nobody read
	out        []byte // unsent
	writeErr   error
}

// adoptPolled takes the descriptor out of a plain TCP or Unix connection. It returns nil if nc is something else, or if
// the loop polls none; nc is untouched then.
func (l *Loop) adoptPolled(nc net.Conn, c *Conn) transport {
	if l.poller == nil {
		return nil
	}
	switch nc.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return nil
	}
	fd, err := detach(nc.(syscall.Conn))
	if err != nil {
		return nil
	}
	p := l.poller
	p.nextTurn++
	t := &pollConn{c: c, p: p, fd: fd, generation: p.nextTurn}
	if t.ask(unix.EPOLL_CTL_ADD, unix.EPOLLIN|unix.EPOLLRDHUP) != nil {
		_ = unix.Close(fd)
		return nil
	}
	_ = nc.Close()
	p.conns[int32(fd)] = t
	return t
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

func (t *pollConn) ask(op int, events uint32) error {
	t.interest = events
	return unix.EpollCtl(t.p.epoll, op, t.fd, &unix.EpollEvent{Events: events, Fd: int32(t.fd), Pad: int32(t.generation)})
}

// ready deals with what epoll reports.
func (t *pollConn) ready(events uint32) {
	if events&unix.EPOLLOUT != 0 {
		t.flush()
	}
	if t.c.closed || events&^unix.EPOLLOUT == 0 {
		return
	}
	t.hasInput = true
	if t.ended || t.writeErr != nil || t.c.paused && !t.c.shutting {
		t.pause(events)
		return
	}
	t.c.readable()
}

// pause takes the interest in reading back, which is left until something comes. A peer that has hung up would be
// reported with no interest set either: it leaves epoll.
func (t *pollConn) pause(events uint32) {
	if events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		t.hung = true
		_ = t.ask(unix.EPOLL_CTL_DEL, 0)
		return
	}
	_ = t.ask(unix.EPOLL_CTL_MOD, t.interest&^(unix.EPOLLIN|unix.EPOLLRDHUP))
}

func (t *pollConn) resume() {
	switch {
	case t.hung:
	case t.interest&unix.EPOLLIN == 0:
		_ = t.ask(unix.EPOLL_CTL_MOD, t.interest|unix.EPOLLIN|unix.EPOLLRDHUP)
	}
	if t.hasInput || t.hung {
		t.hasInput = true
		t.c.loop.post(event{conn: t.c, kind: eventReadable})
	}
}

// read reads once. A short read means that there is no more now: the next one is not tried before epoll reports it.
func (t *pollConn) read(p []byte) (n int, err error) {
	if !t.hasInput {
		if t.writeErr != nil {
			return 0, t.writeErr
		}
		return 0, ErrAgain
	}
	for {
		r, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(t.fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		n = int(r)
		switch {
		case errno == syscall.EINTR:
			continue
		case errno == syscall.EAGAIN:
			t.hasInput = false
			if t.writeErr != nil {
				return 0, t.writeErr
			}
			return 0, ErrAgain
		case errno != 0:
			t.ended = true
			return 0, os.NewSyscallError("read", errno)
		case n == 0:
			t.ended = true
			return 0, io.EOF
		}
		t.hasInput = n == len(p) || t.hung
		return n, nil
	}
}

func (t *pollConn) write(p []byte) {
	if t.writeErr != nil {
		return
	}
	if len(t.out) == 0 {
		p = p[t.send(p):]
	}
	if len(p) == 0 || t.writeErr != nil {
		return
	}
	t.out = append(t.out, p...)
	if !t.hung && t.interest&unix.EPOLLOUT == 0 {
		_ = t.ask(unix.EPOLL_CTL_MOD, t.interest|unix.EPOLLOUT)
	}
}

// send writes once and returns how much was taken.
func (t *pollConn) send(p []byte) int {
	for {
		r, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(t.fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		switch errno {
		case 0:
			return int(r)
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return 0
		}
		t.writeErr, t.out, t.hasInput = os.NewSyscallError("write", errno), nil, true
		t.c.loop.post(event{conn: t.c, kind: eventReadable})
		return 0
	}
}

// flush sends what was queued.
func (t *pollConn) flush() {
	if len(t.out) == 0 {
		return
	}
	n := t.send(t.out)
	if t.writeErr != nil {
		return
	}
	if t.out = t.out[n:]; len(t.out) > 0 {
		return
	}
	t.out = nil
	_ = t.ask(unix.EPOLL_CTL_MOD, t.interest&^unix.EPOLLOUT)
	t.c.drained()
}

func (t *pollConn) unsent() int   { return len(t.out) }
func (t *pollConn) failed() error { return t.writeErr }

func (t *pollConn) closeWrite() {
	if unix.Shutdown(t.fd, unix.SHUT_WR) != nil {
		t.c.Close()
	}
}

func (t *pollConn) close() {
	delete(t.p.conns, int32(t.fd))
	_ = unix.Close(t.fd)
	t.out = nil
}
