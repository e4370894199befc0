package pgscript

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

const firstPID = 1001

// Options say how a Server is made. The zero value admits everybody without TLS.
type Options struct {
	Passwords map[string]string // of roles, asked for in clear; nil: trust
	TLS       *tls.Config       // nil: SSLRequest is answered with 'N'
	Settings  map[string]string // each connection starts with them, over what Postgres has by default
	Knobs     Knobs             // as they are at first
	Answers   bool              // Sluice's question what a session holds is answered: settings and channels; else it fails
}

// Knobs are what a test turns while the server runs.
type Knobs struct {
	Refuse     *pgproto3.ErrorResponse // answers every start-up message; nil: logins are taken
	RefuseSSL  *pgproto3.ErrorResponse // answers every SSLRequest
	HangUp     bool                    // connections are closed as soon as they are accepted
	Mute       bool                    // connections are accepted and never answered
	LoginDelay time.Duration           // before the answer to a start-up message
	QueryDelay time.Duration           // before each Query and Execute
	LateNews   bool                    // notifications come in front of a ReadyForQuery only, as from a process that is slow to wake up
}

// Server is a fake Postgres: logins, settings, transaction status, prepared statements, portals, COPY, cancel, and a
// SQL of a few statements (see sql.go).
type Server struct {
	options Options
	ln      net.Listener
	wg      sync.WaitGroup

	notifyMu sync.Mutex // held while a transaction's notifications are told, so that all hear them in one order

	mu      sync.Mutex // guards below
	knobs   Knobs
	conns   []*ServerConn // all there ever were that sent a start-up message
	open    map[net.Conn]bool
	cancels int
	closed  bool
}

// Serve starts a server on ln. The caller must Close it.
func Serve(ln net.Listener, o Options) *Server {
	s := &Server{options: o, ln: ln, knobs: o.Knobs, open: map[net.Conn]bool{}}
	s.wg.Add(1)
	go s.accept()
	return s
}

// Close ends all connections and waits until everything has ended.
func (s *Server) Close() {
	_ = s.ln.Close()
	s.mu.Lock()
	s.closed = true
	for nc := range s.open {
		_ = nc.Close()
	}
	for _, c := range s.conns {
		c.kill(false)
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// Adjust changes the knobs.
func (s *Server) Adjust(change func(k *Knobs)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.knobs)
}

// RefuseConnections answers every login from now on with a FATAL of this SQLSTATE; an empty one ends that.
func (s *Server) RefuseConnections(sqlstate, message string) {
	s.Adjust(func(k *Knobs) {
		k.Refuse = nil
		if sqlstate != "" {
			k.Refuse = fatal(sqlstate, message).response()
		}
	})
}

// Conns returns all connections that ever sent a start-up message, the oldest first.
func (s *Server) Conns() []*ServerConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.conns)
}

// Open returns how many connections are open, those that have not logged in yet too.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// Received returns what all connections have received behind their start-up messages, the oldest connection first.
func (s *Server) Received() (lines []string) {
	for _, c := range s.Conns() {
		lines = append(lines, c.Log()...)
	}
	return lines
}

// Cancels returns how many cancel requests have arrived, those with a wrong key too.
func (s *Server) Cancels() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cancels
}

// KillConn ends the backend with this pid, as pg_terminate_backend does (with a FATAL 57P01) or as a crash does.
// It reports whether there was one.
func (s *Server) KillConn(pid uint32, withFatal bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.find(pid)
	if c == nil {
		return false
	}
	c.kill(withFatal)
	return true
}

// cancelConn cancels what the backend with this pid does, as pg_cancel_backend does. It reports whether there was one.
func (s *Server) cancelConn(pid uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.find(pid)
	if c != nil {
		c.cancelNow()
	}
	return c != nil
}

// find returns the backend with this pid that lives, nil if there is none. s.mu is held.
func (s *Server) find(pid uint32) *ServerConn {
	for _, c := range s.conns {
		if c.PID == pid && s.open[c.raw] {
			return c
		}
	}
	return nil
}

func (s *Server) accept() {
	defer s.wg.Done()
	for {
		nc, err := s.ln.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.closed || s.knobs.HangUp {
			s.mu.Unlock()
			_ = nc.Close()
			continue
		}
		s.open[nc] = true
		s.wg.Add(1)
		go s.serve(nc)
		s.mu.Unlock()
	}
}

func (s *Server) serve(nc net.Conn) {
	defer s.wg.Done()
	defer func() {
		_ = nc.Close()
		s.mu.Lock()
		delete(s.open, nc)
		s.mu.Unlock()
	}()
	if s.now().Mute {
		_, _ = io.Copy(io.Discard, nc) // until the client gives up
		return
	}
	if c := s.begin(nc); c != nil {
		c.run()
	}
}

// begin reads what stands before the session: requests for encryption, a cancel request or the start-up message.
// It returns nil where there is no session.
func (s *Server) begin(raw net.Conn) *ServerConn {
	nc := raw
	for {
		be := pgproto3.NewBackend(nc, nc)
		msg, err := be.ReceiveStartupMessage()
		if err != nil {
			return nil
		}
		switch m := msg.(type) {
		case *pgproto3.CancelRequest:
			s.cancel(m.ProcessID, m.SecretKey)
			return nil
		case *pgproto3.StartupMessage:
			return s.register(raw, nc, be, m)
		case *pgproto3.SSLRequest:
			if nc = s.encrypt(nc, be); nc == nil {
				return nil
			}
		default:
			_, _ = nc.Write([]byte{'N'})
		}
	}
}

// encrypt answers an SSLRequest and returns the connection to go on with, nil if there is none.
func (s *Server) encrypt(nc net.Conn, be *pgproto3.Backend) net.Conn {
	if refuse := s.now().RefuseSSL; refuse != nil {
		be.Send(refuse)
		_ = be.Flush()
		return nil
	}
	if s.options.TLS == nil {
		_, _ = nc.Write([]byte{'N'})
		return nc
	}
	_, _ = nc.Write([]byte{'S'})
	return tls.Server(nc, s.options.TLS)
}

// register gives a connection its pid and key and what it needs to run.
func (s *Server) register(raw, nc net.Conn, be *pgproto3.Backend, m *pgproto3.StartupMessage) *ServerConn {
	c := &ServerConn{
		User: m.Parameters["user"], Database: m.Parameters["database"], Startup: maps.Clone(m.Parameters),
		server: s, raw: raw, nc: nc, be: be,
		cancelled: make(chan struct{}, 1), killed: make(chan struct{}),
		status: 'I', statements: map[string]statement{}, portals: map[string]*portal{}, reported: map[string]string{},
	}
	_, c.TLS = nc.(*tls.Conn)
	c.settings = c.firstSettings()
	s.mu.Lock()
	defer s.mu.Unlock()
	c.PID = firstPID + uint32(len(s.conns))
	c.Key = binary.BigEndian.AppendUint32(nil, c.PID*2654435761)
	s.conns = append(s.conns, c)
	return c
}

func (s *Server) cancel(pid uint32, key []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancels++
	if c := s.find(pid); c != nil && bytes.Equal(c.Key, key) {
		c.cancelNow()
	}
}

// cancelNow cancels what the backend does; if that is nothing, it has no effect.
func (c *ServerConn) cancelNow() {
	select {
	case c.cancelled <- struct{}{}:
	default:
	}
}

func (s *Server) now() Knobs {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.knobs
}

// sqlError is an error of the server's own.
type sqlError struct{ severity, code, message string }

func (e *sqlError) Error() string { return e.severity + " " + e.code + " " + e.message }

func (e *sqlError) response() *pgproto3.ErrorResponse {
	return &pgproto3.ErrorResponse{Severity: e.severity, SeverityUnlocalized: e.severity, Code: e.code, Message: e.message}
}

func fatal(code, message string) *sqlError { return &sqlError{"FATAL", code, message} }

var errEnded = errors.New("session ended")
