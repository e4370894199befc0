package proxy

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"

	"github.com/pires/go-proxyproto"

	"sluice/netpolicy"
)

const (
	// signatureLen is how long the signature of a v2 header is. No header is shorter.
	signatureLen = 12
	// lengthEnd is where the length of a v2 header ends: behind the signature, the command and the family.
	lengthEnd = signatureLen + 4
	// maxV1 is the longest v1 header (PROXY protocol, "Human-readable header format (Version 1)").
	maxV1 = 107
	// maxV2 bounds what follows the length of a v2 header: addresses, at most 216 bytes, and what balancers tell besides,
	// such as their own TLS session with the client's certificate.
	maxV2 = 4 << 10 // 4 KiB
)

// errNoHeader is a load balancer that does not begin with a PROXY header, or with one that cannot be understood.
var errNoHeader = errors.New("no PROXY header")

// identify notes where the client comes from. Behind a load balancer that is trusted to tell it is in the header that the
// balancer must send first: it is read, and nothing past it.
func (a *admission) identify() *endError {
	tcp, ok := a.nc.RemoteAddr().(*net.TCPAddr)
	if !ok {
		a.unix = true
		return nil
	}
	ap := tcp.AddrPort()
	a.addr = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	if !netpolicy.Networks(a.ln.cfg().ProxyProtocolFrom).Contains(a.addr.Addr()) {
		return nil
	}
	balancer := a.addr
	a.balancer, a.veiled = &balancer, true
	raw, err := readHeader(a.nc)
	switch {
	case len(raw) == 0 && err != nil: // it looks whether the port is open
		return &endError{reason: ReasonClientDisconnected, err: errQuiet}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &endError{reason: ReasonLoginTimeout, err: err}
	case errors.Is(err, errNoHeader):
		return &endError{reason: ReasonProtocolViolation, err: err, message: "a PROXY protocol header is required from this address"}
	case err != nil:
		return &endError{reason: ReasonClientDisconnected, err: err}
	}
	client, err := clientIn(raw)
	if err != nil {
		return &endError{reason: ReasonProtocolViolation, err: err, message: "malformed PROXY protocol header"}
	}
	if client.IsValid() {
		a.addr, a.veiled = client, false
	}
	return nil
}

// readHeader reads the header of either version whole, and nothing past it. What it returns beside an error is what has
// been read. Errors: errNoHeader, wrapped, or what the connection said.
func readHeader(nc net.Conn) ([]byte, error) {
	raw := make([]byte, 0, 128) // holds any header without extensions but those for Unix sockets
	for len(raw) < signatureLen {
		n, err := nc.Read(raw[len(raw):signatureLen])
		raw = raw[:len(raw)+n]
		if !begins(raw, proxyproto.SIGV1) && !begins(raw, proxyproto.SIGV2) {
			return raw, fmt.Errorf("%w: the connection begins with %q", errNoHeader, raw)
		}
		if err != nil && len(raw) < signatureLen {
			return raw, err
		}
	}
	if raw[0] == proxyproto.SIGV1[0] {
		return readV1(nc, raw)
	}
	return readV2(nc, raw)
}

// begins reports whether raw is the beginning of a header with that signature, or the other way round.
func begins(raw, signature []byte) bool {
	n := min(len(raw), len(signature))
	return bytes.Equal(raw[:n], signature[:n])
}

// readV1 goes on with a line up to its CR LF. Where the line is not over, at least these two are still to come.
func readV1(nc net.Conn, raw []byte) ([]byte, error) {
	for !bytes.HasSuffix(raw, []byte("\r\n")) {
		need := 2
		if raw[len(raw)-1] == '\r' {
			need = 1
		}
		if len(raw)+need > maxV1 {
			return raw, fmt.Errorf("%w: its line is longer than %d bytes", errNoHeader, maxV1)
		}
		var err error
		if raw, err = extend(nc, raw, need); err != nil {
			return raw, err
		}
	}
	return raw, nil
}

// readV2 goes on with a header that tells its length.
func readV2(nc net.Conn, raw []byte) ([]byte, error) {
	raw, err := extend(nc, raw, lengthEnd-len(raw))
	if err != nil {
		return raw, err
	}
	n := int(binary.BigEndian.Uint16(raw[lengthEnd-2:]))
	if n > maxV2 {
		return raw, fmt.Errorf("%w: %d bytes of it, at most %d", errNoHeader, n, maxV2)
	}
	return extend(nc, raw, n)
}

// extend reads exactly n more bytes.
func extend(nc net.Conn, raw []byte, n int) ([]byte, error) {
	at := len(raw)
	raw = append(raw, make([]byte, n)...)
	m, err := io.ReadFull(nc, raw[at:])
	return raw[:at+m], err
}

// clientIn returns the client's address that a whole header tells; the zero AddrPort if it tells none: LOCAL, UNKNOWN and
// the balancer's own Unix sockets.
func clientIn(raw []byte) (netip.AddrPort, error) {
	in := bytes.NewReader(raw)
	buffered := bufio.NewReaderSize(in, len(raw)+1) // it fills in one read
	h, err := proxyproto.Read(buffered)
	switch {
	case err != nil:
		return netip.AddrPort{}, err
	case buffered.Buffered() != 0 || in.Len() != 0:
		return netip.AddrPort{}, errors.New("bytes behind the header")
	case h.Command.IsLocal():
		return netip.AddrPort{}, nil
	case h.TransportProtocol.IsDatagram():
		return netip.AddrPort{}, fmt.Errorf("the client's connection is %v", h.TransportProtocol)
	}
	tcp, ok := h.SourceAddr.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, nil
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}
