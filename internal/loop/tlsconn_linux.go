package loop

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
)

const (
	recordHeader = 5
	// maxRecord is how much may stand behind a record's header. RFC 5246, "Record Payload Protection".
	maxRecord = 16<<10 + 2<<10
	// writeChunk is how much is encrypted before it is sent: whole records of the largest size.
	writeChunk = 64 << 10 // 64 KiB
)

// tlsScratch is what the TLS connections of a loop share.
type tlsScratch struct {
	fields *tlsFields // nil: not known
	in     []byte     // where the holder's records are read to, and decrypted
	holder *tlsConn   // whose tls.Conn points into in; nil: nobody's
	out    []byte     // the records of one write
}

// tlsConn is the transport of TLS on a descriptor of our own. Its tls.Conn reads and writes a Switch, in which rawConn is.
//
// Where the fields of a tls.Conn are known, records are read for it, into memory that the connections of the loop share: it
// is called when there is a whole record, and keeps nothing between two. Where they are not, it is called until it says
// ErrAgain, reads for itself, and keeps its buffers.
type tlsConn struct {
	pollConn
	tc      *tls.Conn
	readErr error // what tc ends with
	told    bool  // the handler knows readErr
	rawErr  error // what the ciphertext ends with
	maybe   bool  // there may be more in tc, whose fields are not known
	corked  bool  // what tc writes is collected
	silent  bool  // our side has ended
}

// adoptTLS returns nil, and tc is untouched, if the loop cannot poll it.
func (l *Loop) adoptTLS(tc *tls.Conn, c *Conn) transport {
	s, ok := tc.NetConn().(*Switch)
	if !ok || !tc.ConnectionState().HandshakeComplete {
		return nil
	}
	nc, ok := s.inner.(*net.TCPConn)
	if !ok {
		return nil
	}
	t := &tlsConn{pollConn: pollConn{c: c}, tc: tc, maybe: true}
	if t.take(l.poller, nc) != nil {
		return nil
	}
	_ = nc.Close()
	s.inner = (*rawConn)(t)
	if f := l.poller.tls.fields; f != nil {
		f.own(tc)
		f.forget(tc)
	}
	return t
}

// read reads as much as p takes of the records that are there.
func (t *tlsConn) read(p []byte) (n int, err error) {
	for n < len(p) && t.readErr == nil {
		if !t.decryptable() {
			if n > 0 || !t.fill() {
				break
			}
			continue
		}
		m, err := t.tc.Read(p[n:])
		n += m
		if t.maybe = err == nil; t.maybe {
			continue
		}
		if errors.Is(err, ErrAgain) {
			break
		}
		t.readErr, t.ended = err, true
	}
	switch {
	case n > 0:
		return n, nil
	case t.readErr == nil:
		return 0, ErrAgain
	}
	t.told = true
	return 0, t.readErr
}

// decryptable reports whether tc has something to say.
func (t *tlsConn) decryptable() bool {
	f := t.poller().tls.fields
	switch {
	case t.rawErr != nil:
		return true
	case f == nil:
		return t.maybe || t.hasInput
	}
	return f.decrypted(t.tc).Len() > 0 || wholeRecord(f.raw(t.tc).Bytes())
}

// wholeRecord reports whether p begins with all that a tls.Conn wants to see of a record: a header that it refuses is
// enough.
func wholeRecord(p []byte) bool {
	if len(p) < recordHeader {
		return false
	}
	body := int(p[3])<<8 | int(p[4])
	return len(p)-recordHeader >= body || body > maxRecord || p[1] != 3 || p[2] != 3
}

// fill reads once, and reports whether anything came. tc has no whole record.
func (t *tlsConn) fill() (more bool) {
	if !t.hasInput {
		return t.came(0, t.nothing())
	}
	s := &t.poller().tls
	if s.in == nil {
		s.in = make([]byte, BufferSize+recordHeader+maxRecord)
	}
	if s.holder != nil && s.holder != t {
		s.fields.own(s.holder.tc)
	}
	s.holder = t
	raw := s.fields.raw(t.tc)
	part := copy(s.in, raw.Bytes())
	n, err := t.pollConn.read(s.in[part:])
	*raw = *bytes.NewBuffer(s.in[:part+n])
	return t.came(n, err)
}

// came notes how a read of ciphertext went, and reports whether it brought anything.
func (t *tlsConn) came(n int, err error) (more bool) {
	if err != nil && !errors.Is(err, ErrAgain) {
		t.rawErr = err
	}
	return n > 0 || t.rawErr != nil
}

func (t *tlsConn) buffered() bool {
	switch {
	case t.told:
		return false
	case t.readErr != nil || t.pollConn.buffered():
		return true
	case t.poller().tls.fields == nil:
		return t.maybe
	}
	return t.decryptable()
}

// write encrypts p and sends the records together.
func (t *tlsConn) write(p []byte) {
	s := &t.poller().tls
	for len(p) > 0 && t.failed() == nil {
		n := min(len(p), writeChunk)
		t.corked = true
		_, err := t.tc.Write(p[:n])
		t.corked = false
		t.pollConn.write(s.out)
		s.out = s.out[:0]
		if err != nil && t.failed() == nil {
			t.fail(err)
		}
		p = p[n:]
	}
}

func (t *tlsConn) closeWrite() {
	if !t.silent {
		_ = t.tc.CloseWrite() // an error is in failed
		t.silent = true
	}
	if t.unsent() == 0 {
		t.pollConn.closeWrite()
	}
}

// close says goodbye, if that is still understood.
func (t *tlsConn) close() {
	if !t.silent && t.unsent() == 0 && t.failed() == nil && (t.readErr == nil || errors.Is(t.readErr, io.EOF)) {
		_ = t.tc.CloseWrite()
	}
	t.silent = true
	if s := &t.poller().tls; s.holder == t {
		s.holder = nil
	}
	t.pollConn.close()
}

func (t *tlsConn) leave() {
	if s := &t.poller().tls; s.holder == t {
		s.fields.own(t.tc)
		s.holder = nil
	}
	t.pollConn.leave()
}
