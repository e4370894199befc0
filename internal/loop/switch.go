package loop

import "net"

// Switch is the connection over which TLS is set up for a connection that a Loop is to adopt:
//
//	tc := tls.Server(loop.NewSwitch(nc), config)
//
// A *tls.Conn keeps the connection that it was made over. What a Switch passes its calls on to can be exchanged, and is by
// the loop that adopts tc: for the descriptor that it polls, if it was a TCP connection.
//
// A Switch is used like the connection in it. A Switch without TLS may be adopted, too, and is then what is in it.
type Switch struct{ inner }

// inner is a net.Conn that is embedded without being exported.
type inner interface{ net.Conn }

// NewSwitch returns a Switch that passes everything on to nc.
func NewSwitch(nc net.Conn) *Switch { return &Switch{inner: nc} }

// Set has s pass everything on to nc from now on. Nothing else may use s meanwhile.
func (s *Switch) Set(nc net.Conn) { s.inner = nc }
