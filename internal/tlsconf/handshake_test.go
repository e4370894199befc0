package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"sync"
	"testing"
)

// side is how a handshake ended for one side.
type side struct {
	state tls.ConnectionState
	err   error
	noted string // for the server: the common name of the certificate that belongs to the handshake
}

// handshake connects client and server configurations in memory and sends one byte to the client, so that it has read
// what follows a handshake: alerts and session tickets.
func handshake(t testing.TB, serverConfig, clientConfig *tls.Config) (server, client side) {
	t.Helper()
	toServer, toClient := newStream(), newStream()
	done := make(chan side)
	go func() {
		noted := &x509.Certificate{}
		conn := tls.Server(memConn{in: toServer, out: toClient}, serverConfig)
		err := conn.HandshakeContext(Noting(t.Context(), &noted))
		if err == nil {
			_, err = conn.Write([]byte{'x'})
		}
		toClient.end()
		done <- side{conn.ConnectionState(), err, noted.Subject.CommonName}
	}()
	conn := tls.Client(memConn{in: toClient, out: toServer}, clientConfig)
	err := conn.Handshake()
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
	}
	toServer.end()
	return <-done, side{state: conn.ConnectionState(), err: err}
}

// memConn is one end of a connection that, unlike that of net.Pipe, buffers: both ends may write at once, as an end
// that answers with an alert does.
type memConn struct {
	net.Conn // nil: nothing else is called
	in, out  *stream
}

func (c memConn) Read(p []byte) (int, error)  { return c.in.read(p) }
func (c memConn) Write(p []byte) (int, error) { return c.out.write(p) }

type stream struct {
	mu    sync.Mutex // guards below
	more  *sync.Cond
	data  []byte
	ended bool
}

func newStream() *stream {
	s := new(stream)
	s.more = sync.NewCond(&s.mu)
	return s
}

func (s *stream) write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data = append(s.data, p...)
	s.more.Broadcast()
	return len(p), nil
}

func (s *stream) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.data) == 0 && !s.ended {
		s.more.Wait()
	}
	if len(s.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.data)
	s.data = s.data[n:]
	return n, nil
}

func (s *stream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.more.Broadcast()
}
