package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/user"
	"strconv"

	"sluice/internal/unixsocket"
)

// socketMode is the permissions of the socket: the own user alone.
const socketMode = 0o600

// peerKey is where the context of a request over the socket has its peer.
type peerKey struct{}

// peer is who has opened a connection over the socket.
type peer struct {
	user  string // name and number; empty: the system does not tell
	other bool   // it is another user than that of this process, or could not be told though the system tells
}

// withPeer notes who is at the other end of a Unix socket. It is an http.Server's ConnContext.
func withPeer(ctx context.Context, nc net.Conn) context.Context {
	if nc.LocalAddr().Network() != "unix" {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, peerOf(unixsocket.PeerUID(nc)))
}

// peerOf judges what the system says. Where it says nothing, the permissions of the socket have to do.
func peerOf(uid uint32, err error) peer {
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return peer{}
	case err != nil:
		return peer{other: true}
	}
	return peer{user: nameOf(uid), other: int64(uid) != int64(os.Geteuid())}
}

// nameOf returns a user's name and number.
func nameOf(uid uint32) string {
	number := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(number); err == nil {
		return fmt.Sprintf("%s (uid %s)", u.Username, number)
	}
	return "uid " + number
}

// overSocket returns who sends a request over the socket; ok is false if it has come over a network.
func overSocket(r *http.Request) (p peer, ok bool) {
	p, ok = r.Context().Value(peerKey{}).(peer)
	return p, ok
}

// callerOf returns who sends a request, for the log: the user, or the address.
func callerOf(r *http.Request) string {
	if p, local := overSocket(r); local {
		return p.user
	}
	return r.RemoteAddr
}
