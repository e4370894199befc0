package unixsocket

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// ErrNoPeer is a connection of which the system cannot tell whose process is at its other end.
var ErrNoPeer = errors.New("could not get peer credentials")

// PeerUID returns the effective user of the process that has opened the other end of a Unix socket, as of its connect.
// Errors: ErrNoPeer, wrapped; with errors.ErrUnsupported on systems that never tell.
func PeerUID(nc net.Conn) (uint32, error) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return 0, ErrNoPeer
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrNoPeer, err)
	}
	var uid uint32
	var asked error
	if err := raw.Control(func(fd uintptr) { uid, asked = peerUID(int(fd)) }); err != nil {
		asked = err
	}
	if asked != nil {
		return 0, fmt.Errorf("%w: %w", ErrNoPeer, asked)
	}
	return uid, nil
}
