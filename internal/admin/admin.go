// Package admin answers operators over HTTP: metrics, health, status, reload, and the API that changes the policy.
//
// Who may look is decided by where it listens; who may change something, or see statements, by a bearer token, also on loopback, because a
// browser or a sidecar reaches that too. On its Unix socket, which only the own user can open, no token is needed.
package admin

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"sluice/internal/unixsocket"
	"sluice/proxy"
)

const (
	readTimeout    = 10 * time.Second
	writeTimeout   = 60 * time.Second // a reload reads files and may ask a name server
	idleTimeout    = 2 * time.Minute  // longer than the usual scrape interval
	maxHeaderBytes = 16 << 10         // 16 KiB
	healthTimeout  = 5 * time.Second
	stopTimeout    = 5 * time.Second // how long requests under way may take when the server stops
)

// Target is what operators ask about and change. Its methods are called from many goroutines at a time, and as often as
// load balancers ask.
type Target interface {
	// Health looks at what the process needs, and returns when ctx is done at the latest.
	Health(ctx context.Context) Health
	// Status returns what the process does, for encoding/json. It holds no secrets.
	Status() any
	// TransactionMode returns what clients of the session port would have to reckon with on the transaction port, for
	// encoding/json. It holds statements without their literals.
	TransactionMode() any
	// TLSLogins returns who has logged in without TLS, and with which, for encoding/json.
	TLSLogins() any
	// Authorities returns, as PEM, what clients need to verify the certificate that they are shown; empty: it is not known.
	Authorities() []byte
	// Reload loads the configuration anew, all or nothing. Its error is shown to the operator.
	Reload(by proxy.Author) error
	// Draining reports whether the process shuts down.
	Draining() bool
}

// The states of a Health or Part. Any other counts as unhealthy.
const (
	Healthy   = "healthy"
	Degraded  = "degraded" // it works, but not all of it
	Unhealthy = "unhealthy"
)

// Health is how the process is, and how its parts are.
type Health struct {
	State string
	Parts []Part
}

// Part is something that the process needs, such as a tenant's Postgres.
type Part struct {
	Name    string
	State   string
	Message string
	Latency time.Duration
}

// Token is what an operator must know to change something. It is never printed.
type Token string

// Format writes "[redacted]" for every verb and flag.
func (Token) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[redacted]")) }

// MarshalText returns "[redacted]".
func (Token) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// Params says what a Server does.
type Params struct {
	Address string      // "IP:port"; empty: none
	Socket  string      // path of a Unix socket; empty: none
	Token   Token       // empty: nothing can be changed but over the socket
	TLS     *tls.Config // nil: none. Not changed; the Server does not change it
	Target  Target
	Policy  Policy // nil: the API has none
	Bans    Bans   // nil: nothing is told of bans
	Metrics http.Handler
	Log     *slog.Logger
	Version string
}

// Server answers operators.
type Server struct {
	params   Params
	hosts    hosts
	listener net.Listener // nil: none
	socket   net.Listener // nil: none
	http     *http.Server
	token    atomic.Pointer[[sha256.Size]byte] // hash of the token; nil: none
	refusals throttle
}

// New returns a Server that does not listen yet.
func New(p Params) *Server {
	s := &Server{params: p, hosts: hostsOf(p.Address, p.TLS != nil)}
	s.SetToken(p.Token)
	s.http = &http.Server{
		Handler: s.handler(), ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes, ConnContext: withPeer, ErrorLog: slog.NewLogLogger(p.Log.Handler(), slog.LevelDebug),
	}
	if p.TLS != nil {
		s.http.TLSConfig = p.TLS.Clone()
	}
	return s
}

// SetToken changes the token, for requests that come from now on. An empty one means that nothing can be changed.
func (s *Server) SetToken(t Token) {
	if t == "" {
		s.token.Store(nil)
		return
	}
	hash := sha256.Sum256([]byte(t))
	s.token.Store(&hash)
}

// Listen opens the address and the socket, so that a mistake in them shows before anything is served.
func (s *Server) Listen() error {
	if s.params.Address != "" {
		listener, err := net.Listen("tcp", s.params.Address)
		if err != nil {
			return fmt.Errorf("listen for operators: %w", err)
		}
		s.listener = listener
	}
	if s.params.Socket != "" {
		socket, err := unixsocket.Listen(s.params.Socket, socketMode)
		if err != nil {
			if s.listener != nil {
				_ = s.listener.Close()
			}
			return fmt.Errorf("listen for operators: admin.socket: %w", err)
		}
		s.socket = socket
	}
	return nil
}

// Addrs returns what Listen has opened: the port of an address is known if the one asked for was 0.
func (s *Server) Addrs() (addrs []net.Addr) {
	for _, l := range s.open() {
		addrs = append(addrs, l.Addr())
	}
	return addrs
}

// open returns what is open.
func (s *Server) open() (all []net.Listener) {
	if s.listener != nil {
		all = append(all, s.listener)
	}
	if s.socket != nil {
		all = append(all, s.socket)
	}
	return all
}

// Serve answers until ctx is done; it listens first if Listen was not called. Requests under way may then finish for 5 s,
// what is left is cut off. It is called once.
//
// Errors: what keeps it from listening or accepting; nil when it ends because ctx is done.
func (s *Server) Serve(ctx context.Context) error {
	if len(s.open()) == 0 {
		if err := s.Listen(); err != nil {
			return err
		}
	}
	open := s.open()
	done := make(chan error, len(open))
	for _, l := range open {
		go s.accept(l, done)
	}
	var failed error
	select {
	case failed = <-done:
		done <- failed // for the wait below
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := s.http.Shutdown(stopping); err != nil {
		_ = s.http.Close() // those that did not finish in time
	}
	for range open {
		if err := <-done; failed == nil && !errors.Is(err, http.ErrServerClosed) {
			failed = err
		}
	}
	if failed != nil {
		return fmt.Errorf("answer operators: %w", failed)
	}
	return nil
}

// accept serves l until that fails or the server stops. TLS is for what comes over a network.
func (s *Server) accept(l net.Listener, done chan<- error) {
	if s.params.TLS != nil && l == s.listener {
		done <- s.http.ServeTLS(l, "", "")
		return
	}
	done <- s.http.Serve(l)
}
