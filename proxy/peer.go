package proxy

import (
	"errors"
	"fmt"
	"net"
	"os/user"
	"strconv"
	"syscall"
)

// errNoPeer is a connection of which the system cannot tell whose process is at its other end.
var errNoPeer = errors.New("could not get peer credentials")

// peerUser returns the name of the user of the operating system who has opened the Unix socket's other end. It blocks for
// as long as looking up a user takes.
func peerUser(nc net.Conn) (string, error) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return "", errNoPeer
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return "", fmt.Errorf("%w: %w", errNoPeer, err)
	}
	var uid uint32
	var asked error
	if err := raw.Control(func(fd uintptr) { uid, asked = peerUID(int(fd)) }); err != nil {
		asked = err
	}
	if asked != nil {
		return "", fmt.Errorf("%w: %w", errNoPeer, asked)
	}
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return "", fmt.Errorf("could not look up local user ID %d: %w", uid, err)
	}
	return u.Username, nil
}
