package proxy

import (
	"fmt"
	"net"
	"os/user"
	"strconv"

	"sluice/internal/unixsocket"
)

// peerUser returns the name of the user of the operating system who has opened the Unix socket's other end. It blocks for
// as long as looking up a user takes.
func peerUser(nc net.Conn) (string, error) {
	uid, err := unixsocket.PeerUID(nc)
	if err != nil {
		return "", err
	}
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return "", fmt.Errorf("could not look up local user ID %d: %w", uid, err)
	}
	return u.Username, nil
}
