package loop

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"reflect"
	"unsafe"
)

// tlsFields is where a tls.Conn keeps what a loop takes out of it between two records: crypto/tls itself gives nothing back
// before the end of the connection. A toolchain that keeps them elsewhere, or as something else, is done without.
type tlsFields struct {
	rawInput uintptr // bytes.Buffer: what was read and has not been decrypted
	input    uintptr // bytes.Reader: what was decrypted and has not been read, in the memory of rawInput
	hand     uintptr // bytes.Buffer: the handshake message that is being read
	isClient uintptr // bool

	// Of use to the handshake and to who asks for its outcome.
	ekm              uintptr // exporter: keeps the whole ClientHello
	peerCertificates uintptr // []*x509.Certificate
	verifiedChains   uintptr // [][]*x509.Certificate
}

// exporter is what exports keying material.
type exporter = func(label string, context []byte, length int) ([]byte, error)

// findTLSFields returns nil if this toolchain's tls.Conn has other fields.
func findTLSFields() *tlsFields {
	f := &tlsFields{}
	for _, want := range []struct {
		offset *uintptr
		name   string
		typ    reflect.Type
	}{
		{&f.rawInput, "rawInput", reflect.TypeFor[bytes.Buffer]()},
		{&f.input, "input", reflect.TypeFor[bytes.Reader]()},
		{&f.hand, "hand", reflect.TypeFor[bytes.Buffer]()},
		{&f.isClient, "isClient", reflect.TypeFor[bool]()},
		{&f.ekm, "ekm", reflect.TypeFor[exporter]()},
		{&f.peerCertificates, "peerCertificates", reflect.TypeFor[[]*x509.Certificate]()},
		{&f.verifiedChains, "verifiedChains", reflect.TypeFor[[][]*x509.Certificate]()},
	} {
		field, ok := reflect.TypeFor[tls.Conn]().FieldByName(want.name)
		if !ok || field.Type != want.typ {
			return nil
		}
		*want.offset = field.Offset
	}
	return f
}

func field[T any](tc *tls.Conn, offset uintptr) *T {
	return (*T)(unsafe.Add(unsafe.Pointer(tc), offset))
}

func (f *tlsFields) raw(tc *tls.Conn) *bytes.Buffer { return field[bytes.Buffer](tc, f.rawInput) }

func (f *tlsFields) decrypted(tc *tls.Conn) *bytes.Reader { return field[bytes.Reader](tc, f.input) }

// own has tc hold what it has not worked off yet in memory of its own, and nothing beyond that.
func (f *tlsFields) own(tc *tls.Conn) {
	in := f.decrypted(tc)
	rest := exactly(in.Len())
	_, _ = in.Read(rest) // fails only if there is nothing
	in.Reset(rest)
	for _, b := range []*bytes.Buffer{f.raw(tc), field[bytes.Buffer](tc, f.hand)} {
		rest := exactly(b.Len())
		copy(rest, b.Bytes())
		*b = *bytes.NewBuffer(rest)
	}
}

// exactly returns n bytes, nil for none.
func exactly(n int) []byte {
	if n == 0 {
		return nil
	}
	return make([]byte, n)
}

// forget drops what is of no use after the handshake. A client's side needs the certificates for the session tickets that
// may come.
func (f *tlsFields) forget(tc *tls.Conn) {
	*field[exporter](tc, f.ekm) = nil
	if *field[bool](tc, f.isClient) {
		return
	}
	*field[[]*x509.Certificate](tc, f.peerCertificates) = nil
	*field[[][]*x509.Certificate](tc, f.verifiedChains) = nil
}
