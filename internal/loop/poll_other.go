//go:build !linux

package loop

import (
	"net"
	"time"
)

// poller is nothing: connections are served by goroutines.
type poller struct{}

func newPoller() (*poller, error)                     { return nil, nil }
func (*poller) wake()                                 {}
func (*poller) close()                                {}
func (*poller) wait(*Loop, time.Duration) int         { return 0 }
func (*poller) dispatch(int)                          {}
func (l *Loop) adoptPolled(net.Conn, *Conn) transport { return nil }
