package loop

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// rawConn is the ciphertext of a tlsConn, as the net.Conn that its tls.Conn reads and writes. Neither blocks: a tls.Conn
// can try again after a Read that says ErrAgain, being temporary; for a Write it cannot, so none fails.
type rawConn tlsConn

// Read implements net.Conn.
func (r *rawConn) Read(p []byte) (n int, err error) {
	t := (*tlsConn)(r)
	if t.rawErr != nil {
		return 0, t.rawErr
	}
	n, err = t.pollConn.read(p)
	t.came(n, err)
	return n, err
}

// Write implements net.Conn. Outside of tlsConn.write it is crypto/tls that has something to say: an alert, new keys.
func (r *rawConn) Write(p []byte) (n int, err error) {
	switch t := (*tlsConn)(r); {
	case t.silent:
	case t.corked:
		t.poller().tls.out = append(t.poller().tls.out, p...)
	default:
		t.pollConn.write(p)
	}
	return len(p), nil
}

// Close implements net.Conn. The descriptor is the loop's to close.
func (r *rawConn) Close() error { return nil }

// LocalAddr implements net.Conn.
func (r *rawConn) LocalAddr() net.Addr { return address(unix.Getsockname(int(r.fd))) }

// RemoteAddr implements net.Conn. A tls.Conn without a server name keeps session tickets under it.
func (r *rawConn) RemoteAddr() net.Addr { return address(unix.Getpeername(int(r.fd))) }

// SetDeadline implements net.Conn: nothing blocks.
func (r *rawConn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn.
func (r *rawConn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn.
func (r *rawConn) SetWriteDeadline(time.Time) error { return nil }

// address returns the address that the system says a socket has, an empty one if it has none.
func address(sa unix.Sockaddr, err error) net.Addr {
	if err != nil {
		return &net.TCPAddr{}
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
	case *unix.SockaddrInet6:
		return &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
	}
	return &net.TCPAddr{}
}
