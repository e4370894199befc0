package proxy

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"sluice/internal/config"
	"sluice/internal/unixsocket"
)

// listener is an open port. It outlives a reload that does not change its address.
type listener struct {
	ln      net.Listener
	setting atomic.Pointer[config.Listener]

	accepting atomic.Bool // there is an accept loop
}

func (l *listener) cfg() *config.Listener { return l.setting.Load() }

// lastCalls is how long a listener that is to be closed goes on accepting: closing it would reset the connections that wait
// to be accepted, which are owed an answer.
const lastCalls = 100 * time.Millisecond

// close has the accept loop close the listener once its queue is empty; without an accept loop, closing is at once.
func (l *listener) close() {
	d, ok := l.ln.(interface{ SetDeadline(time.Time) error })
	if !ok || !l.accepting.Load() || d.SetDeadline(time.Now().Add(lastCalls)) != nil {
		_ = l.ln.Close()
	}
}

// openedListeners is what a configuration needs: all, of which fresh were not open before, and what it no longer needs.
type openedListeners struct {
	all, fresh, gone []*listener
}

// openListeners opens what cfg needs and before does not have. On an error nothing stays open that was not before.
func (s *Server) openListeners(cfg *config.Config, before []*listener) (*openedListeners, error) {
	o := &openedListeners{}
	kept := make(map[*listener]*config.Listener)
	for i := range cfg.Listeners {
		c := &cfg.Listeners[i]
		if ln := sameAddress(before, c, kept); ln != nil {
			kept[ln] = c
			o.all = append(o.all, ln)
			continue
		}
		nl, err := s.open(c)
		if err != nil {
			for _, ln := range o.fresh {
				ln.close()
			}
			return nil, fmt.Errorf("listeners[%d].address: %w", i, err)
		}
		ln := &listener{ln: nl}
		ln.setting.Store(c)
		o.fresh = append(o.fresh, ln)
		o.all = append(o.all, ln)
	}
	if err := chmod(kept); err != nil {
		for _, ln := range o.fresh {
			ln.close()
		}
		return nil, err
	}
	for ln, c := range kept {
		ln.setting.Store(c)
	}
	for _, ln := range before {
		if kept[ln] == nil {
			o.gone = append(o.gone, ln)
		}
	}
	return o, nil
}

func sameAddress(before []*listener, c *config.Listener, kept map[*listener]*config.Listener) *listener {
	for _, ln := range before {
		if kept[ln] == nil && ln.cfg().Address == c.Address {
			return ln
		}
	}
	return nil
}

// chmod gives the Unix sockets of listeners that are kept the permissions that they are to have from now on.
func chmod(kept map[*listener]*config.Listener) error {
	for ln, c := range kept {
		if !isSocketPath(c.Address) || ln.cfg().UnixMode == c.UnixMode {
			continue
		}
		if err := os.Chmod(c.Address, c.UnixMode); err != nil {
			return fmt.Errorf("listener %s: unix_mode: %w", c.Name, err)
		}
	}
	return nil
}

// isSocketPath reports whether the address is that of a Unix socket.
func isSocketPath(address string) bool { return strings.HasPrefix(address, "/") }

// open opens one address. "[::]:port" and ":port" take IPv4 as well.
func (s *Server) open(c *config.Listener) (net.Listener, error) {
	if !isSocketPath(c.Address) {
		return s.listen("tcp", c.Address)
	}
	return s.listenUnix(c.Address, c.UnixMode)
}

// listenUnix opens a Unix socket of the system.
func listenUnix(path string, mode fs.FileMode) (net.Listener, error) {
	ln, err := unixsocket.Listen(path, mode)
	if err != nil {
		return nil, err
	}
	return ln, nil
}

// acceptPause is how long accepting rests when the process has run out of file descriptors.
const acceptPause = 50 * time.Millisecond

// accept gives the listener its goroutine.
func (s *Server) accept(ln *listener) {
	ln.accepting.Store(true)
	s.workers.Go(func() { s.acceptLoop(ln) })
}

func (s *Server) acceptLoop(ln *listener) {
	for {
		nc, err := ln.ln.Accept()
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
			_ = ln.ln.Close()
			return
		}
		if err != nil {
			s.log.Error("accept failed", logListener, ln.cfg().Name, logError, err)
			select {
			case <-time.After(acceptPause):
			case <-s.ctx.Done():
				return
			}
			continue
		}
		if int(s.logins.Load())+s.caps.count() >= s.state.Load().cfg.Limits.MaxClients+overLimit && !s.crowd.makeRoom() {
			_ = nc.Close() // a flood: nobody is told anything
			s.metrics.Refused("", string(ln.cfg().Mode), ReasonTooManyClients.String())
			continue
		}
		s.workers.Add(1)
		s.logins.Add(1)
		go s.admit(nc, ln)
	}
}
