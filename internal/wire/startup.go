package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

// Codes that stand where a start-up message has its protocol version.
const (
	sslRequestCode    = 80877103
	gssencRequestCode = 80877104
	cancelRequestCode = 80877102
)

// Protocol versions, major<<16 | minor.
const (
	Version30 = 3 << 16
	Version32 = 3<<16 | 2
)

const (
	// maxStartup is the longest start-up packet that Postgres takes (MAX_STARTUP_PACKET_LENGTH).
	maxStartup = 10000
	// usualParams is how many parameters clients send at most, but for a few: user, database, application_name, client_encoding.
	usualParams = 4
	// MaxCancelKey is the longest secret key of BackendKeyData and CancelRequest. Protocol: "Message Formats".
	MaxCancelKey = 256
)

// tlsHandshake is the first byte of a TLS connection: the record type of its ClientHello. As the first byte of a length it
// would announce hundreds of megabytes.
const tlsHandshake = 0x16

// How the headers of the PROXY protocol begin: as lengths, hundreds of megabytes too.
const (
	proxyV1 = "PROX"
	proxyV2 = "\r\n\r\n"
)

// goodbye is how Terminate begins. It is no start-up packet, but clients that give up before they have sent one say it.
const goodbye = "X\x00\x00\x00"

// ErrStartup is a start-up packet that cannot be understood.
var ErrStartup = errors.New("invalid startup packet")

// RequestKind tells what the first packet of a connection asks for.
type RequestKind int

// The kinds of first packets.
const (
	StartupRequest RequestKind = iota + 1
	SSLRequest
	GSSENCRequest
	CancelRequest
	DirectTLS // no packet at all: TLS begins at once
)

// Param is a start-up parameter.
type Param struct{ Name, Value string }

// Request is a connection's first packet. Kind tells which of the other fields are set.
type Request struct {
	Kind    RequestKind
	Version uint32  // StartupRequest: major<<16 | minor as the client asked
	Params  []Param // StartupRequest: in the client's order, repeated names included
	PID     uint32  // CancelRequest
	Key     []byte  // CancelRequest: 4 bytes before protocol 3.2, up to MaxCancelKey from then on
	Head    []byte  // DirectTLS: what has been read of the ClientHello
}

// Major returns the major protocol version asked for.
func (r *Request) Major() int { return int(r.Version >> 16) }

// Minor returns the minor protocol version asked for.
func (r *Request) Minor() int { return int(r.Version & 0xffff) }

// Get returns the value of the named parameter; of several, the last, as Postgres does.
func (r *Request) Get(name string) (value string, ok bool) {
	for _, p := range r.Params {
		if p.Name == name {
			value, ok = p.Value, true
		}
	}
	return value, ok
}

// ReadRequest reads one start-up packet and nothing past it. It blocks until the packet is whole, or, where TLS begins
// instead, until its first bytes are there. A cancel request that nobody can have sent for a key of ours has no PID.
//
// Errors: what the connection said (io.EOF when it ended before the first byte, or with Terminate), or ErrStartup, wrapped.
// Protocol: "Start-up", "SSL Session Encryption", "GSSAPI Session Encryption", "Canceling Requests in Progress".
func ReadRequest(nc net.Conn) (*Request, error) {
	var h [4]byte
	if _, err := io.ReadFull(nc, h[:]); err != nil {
		return nil, err
	}
	if h[0] == tlsHandshake {
		return &Request{Kind: DirectTLS, Head: h[:]}, nil
	}
	if string(h[:]) == goodbye {
		return nil, io.EOF
	}
	if string(h[:]) == proxyV1 || string(h[:]) == proxyV2 {
		return nil, fmt.Errorf("%w: a PROXY protocol header is not accepted from this address", ErrStartup)
	}
	n := binary.BigEndian.Uint32(h[:])
	if n < 8 || n > maxStartup {
		return nil, fmt.Errorf("%w: invalid length %d", ErrStartup, n)
	}
	body, err := readBody(nc, nil, int(n-4))
	if err != nil {
		return nil, err
	}
	return parseRequest(body)
}

// parseRequest understands a start-up packet without its length word. The result does not alias body.
func parseRequest(body []byte) (*Request, error) {
	code := binary.BigEndian.Uint32(body)
	rest := body[4:]
	switch code {
	case sslRequestCode, gssencRequestCode:
		if len(rest) != 0 {
			return nil, fmt.Errorf("%w: %d bytes behind an encryption request", ErrStartup, len(rest))
		}
		if code == sslRequestCode {
			return &Request{Kind: SSLRequest}, nil
		}
		return &Request{Kind: GSSENCRequest}, nil
	case cancelRequestCode:
		r := &Request{Kind: CancelRequest}
		if len(rest) >= 4 && len(rest) <= 4+MaxCancelKey { // otherwise it names nobody
			r.PID, r.Key = binary.BigEndian.Uint32(rest), append([]byte(nil), rest[4:]...)
		}
		return r, nil
	}
	r := &Request{Kind: StartupRequest, Version: code}
	if r.Major() != 3 {
		return r, nil // the caller refuses it; its parameters may have another form
	}
	return r, r.parseParams(rest)
}

// parseParams reads name and value pairs up to the terminating empty name.
func (r *Request) parseParams(p []byte) error {
	for {
		name, rest, ok := CString(p)
		if !ok {
			return fmt.Errorf("%w: parameter name without end", ErrStartup)
		}
		if len(name) == 0 {
			if len(rest) != 0 {
				return fmt.Errorf("%w: %d bytes behind the parameters", ErrStartup, len(rest))
			}
			return nil
		}
		value, rest, ok := CString(rest)
		if !ok {
			return fmt.Errorf("%w: value of parameter %.64q without end", ErrStartup, name)
		}
		if r.Params == nil {
			r.Params = make([]Param, 0, usualParams)
		}
		r.Params = append(r.Params, Param{Name: string(name), Value: string(value)})
		p = rest
	}
}

// AppendStartup appends a start-up message of the given version with the parameters in their order.
func AppendStartup(dst []byte, version uint32, params []Param) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, version)
	for _, p := range params {
		dst = append(append(dst, p.Name...), 0)
		dst = append(append(dst, p.Value...), 0)
	}
	dst = append(dst, 0)
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at))
	return dst
}

// AppendSSLRequest appends an SSLRequest.
func AppendSSLRequest(dst []byte) []byte {
	dst = append(dst, 0, 0, 0, 8)
	return binary.BigEndian.AppendUint32(dst, sslRequestCode)
}

// AppendCancelRequest appends a CancelRequest.
func AppendCancelRequest(dst []byte, pid uint32, key []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(12+len(key)))
	dst = binary.BigEndian.AppendUint32(dst, cancelRequestCode)
	dst = binary.BigEndian.AppendUint32(dst, pid)
	return append(dst, key...)
}
