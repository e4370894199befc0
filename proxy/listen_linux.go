package proxy

import (
	"context"
	"net"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// When a peer of which nothing is heard is asked whether it is still there, and how often: what Go sets by itself.
const (
	keepAlive      = 15 * time.Second
	keepAliveTries = 9
)

// listen is net.Listen, but that connections inherit the listening socket's keep-alive: setting it for each costs four system
// calls.
func listen(network, address string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAlive: -1, Control: inheritKeepAlive}
	return lc.Listen(context.Background(), network, address)
}

// inheritKeepAlive is a net.ListenConfig's Control.
func inheritKeepAlive(network, _ string, c syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return nil
	}
	var failed error
	set := func(fd uintptr) {
		for _, o := range [...]struct{ level, name, value int }{
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(keepAlive / time.Second)},
			{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(keepAlive / time.Second)},
			{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAliveTries},
		} {
			if err := unix.SetsockoptInt(int(fd), o.level, o.name, o.value); err != nil && failed == nil {
				failed = err
			}
		}
	}
	if err := c.Control(set); err != nil {
		return err
	}
	return failed
}
