package loop

import (
	"io"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pollConn is the transport on a descriptor of our own, which no one else reads, writes or closes.
type pollConn struct {
	c          *Conn
	late       *late // nil: nothing is unsent, and writing has not failed
	fd         int32 // -1: closed
	slot       int32
	generation uint32
	interest   interest
	hasInput   bool // a read may find something
	ended      bool // the end, or an error, has been read
	hung       bool // it has left epoll: the peer hung up while nobody read
}

// interest is what epoll is asked for.
type interest uint8

const (
	wantIn  interest = 1 << iota // what comes, and the end
	wantOut                      // that something can be sent
)

// events returns what epoll calls it.
func (i interest) events() (events uint32) {
	if i&wantIn != 0 {
		events |= unix.EPOLLIN | unix.EPOLLRDHUP
	}
	if i&wantOut != 0 {
		events |= unix.EPOLLOUT
	}
	return events
}

// late is what a connection could not write at once, which most can.
type late struct {
	out []byte
	err error // why nothing can be written any more
}

// take gives t a descriptor of the socket. On an error nothing has changed.
func (t *pollConn) take(p *poller, socket syscall.Conn) error {
	fd, err := detach(socket)
	if err != nil {
		return err
	}
	t.fd = int32(fd)
	if err := p.add(t); err != nil {
		_ = unix.Close(fd)
		return err
	}
	return nil
}

// poller returns that of its loop.
func (t *pollConn) poller() *poller { return t.c.loop.poller }

func (t *pollConn) ask(op int, i interest) error {
	t.interest = i
	return unix.EpollCtl(t.poller().epoll, op, int(t.fd), &unix.EpollEvent{Events: i.events(), Fd: t.slot, Pad: int32(t.generation)})
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
	if t.ended || t.failed() != nil || t.c.paused && !t.c.shutting() {
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
	_ = t.ask(unix.EPOLL_CTL_MOD, t.interest&^wantIn)
}

func (t *pollConn) resume() {
	op := unix.EPOLL_CTL_MOD
	switch {
	case t.hung:
		t.hung, op = false, unix.EPOLL_CTL_ADD
	case t.interest&wantIn != 0:
		return
	}
	i := wantIn
	if t.unsent() > 0 {
		i |= wantOut
	}
	_ = t.ask(op, i)
}

// buffered: epoll reports again and again what the socket holds, but not why writing has failed.
func (t *pollConn) buffered() bool { return t.failed() != nil && !t.ended }

// read reads once. A short read means that there is no more now: the next one is not tried before epoll reports it.
func (t *pollConn) read(p []byte) (n int, err error) {
	if !t.hasInput {
		return 0, t.nothing()
	}
	for {
		r, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(t.fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), 0, 0, 0)
		n = int(r)
		switch {
		case errno == syscall.EINTR:
			continue
		case errno == syscall.EAGAIN:
			t.hasInput = false
			return 0, t.nothing()
		case errno != 0:
			t.ended = true
			return 0, os.NewSyscallError("recv", errno)
		case n == 0:
			t.ended = true
			return 0, io.EOF
		}
		t.hasInput = n == len(p)
		return n, nil
	}
}

// nothing is the answer when there is no input.
func (t *pollConn) nothing() error {
	if t.failed() == nil {
		return ErrAgain
	}
	t.ended = true
	return t.failed()
}

func (t *pollConn) write(p []byte) {
	if len(p) == 0 || t.failed() != nil {
		return
	}
	if t.unsent() == 0 {
		p = p[t.send(p):]
	}
	if len(p) == 0 || t.failed() != nil {
		return
	}
	if t.late == nil {
		t.late = new(late)
	}
	t.late.out = append(t.late.out, p...)
	if !t.hung && t.interest&wantOut == 0 {
		_ = t.ask(unix.EPOLL_CTL_MOD, t.interest|wantOut)
	}
}

// send writes once and returns how much was taken.
func (t *pollConn) send(p []byte) int {
	for {
		r, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(t.fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			return int(r)
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return 0
		}
		t.fail(os.NewSyscallError("send", errno))
		return 0
	}
}

// fail ends writing. The handler is told when it has read what there is to read.
func (t *pollConn) fail(err error) {
	t.late, t.hasInput = &late{err: err}, true
	t.c.loop.enqueue(t.c)
}

// flush sends what was queued.
func (t *pollConn) flush() {
	if t.unsent() == 0 {
		return
	}
	n := t.send(t.late.out)
	if t.failed() != nil {
		return
	}
	if t.late.out = t.late.out[n:]; t.unsent() > 0 {
		return
	}
	t.late = nil
	_ = t.ask(unix.EPOLL_CTL_MOD, t.interest&^wantOut)
	t.c.drained()
}

func (t *pollConn) unsent() int {
	if t.late == nil {
		return 0
	}
	return len(t.late.out)
}

func (t *pollConn) failed() error {
	if t.late == nil {
		return nil
	}
	return t.late.err
}

func (t *pollConn) closeWrite() {
	if unix.Shutdown(int(t.fd), unix.SHUT_WR) != nil {
		t.c.Close()
	}
}

func (t *pollConn) close() {
	t.poller().remove(t)
	_ = unix.Close(int(t.fd))
	t.fd, t.late = -1, nil
}

func (t *pollConn) leave() {
	if !t.hung {
		_ = t.ask(unix.EPOLL_CTL_DEL, 0)
	}
	t.poller().remove(t)
}

func (t *pollConn) left(*Loop) {}

func (t *pollConn) arrive() {
	t.hung, t.hasInput = false, false // epoll reports what is there
	if err := t.poller().add(t); err != nil {
		t.hung = true
		t.fail(err)
	}
}
