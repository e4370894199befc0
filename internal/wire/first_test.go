package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
)

// trickle is a connection that gives at most a few bytes at a time.
type trickle struct {
	net.Conn
	in   *bytes.Reader
	most int
}

func (c trickle) Read(p []byte) (int, error) { return c.in.Read(p[:min(len(p), c.most)]) }

func TestHeaderOfTheProxyProtocolIsNamed(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"PROXY UNKNOWN\r\n", "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"} {
		_, err := ReadRequest(trickle{in: bytes.NewReader([]byte(in)), most: 100})
		if !errors.Is(err, ErrStartup) || !strings.Contains(err.Error(), "PROXY protocol header") {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// Who announces much and sends nothing costs nothing. Not parallel: it counts what the process allocates.
func TestRoomIsMadeAsBytesCome(t *testing.T) {
	const announced, conns = 64 << 10, 500
	message := append([]byte{Password}, binary.BigEndian.AppendUint32(nil, announced)...)
	kept := make([]*Conn, conns)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range kept {
		kept[i] = NewConn(trickle{in: bytes.NewReader(message), most: 100}, Client)
		if _, _, err := kept[i].ReadMessage(announced); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if grown := (after.TotalAlloc - before.TotalAlloc) / conns; grown > 8<<10 {
		t.Errorf("%d bytes for each connection that has sent %d", grown, len(message))
	}
	runtime.KeepAlive(kept)
	for _, n := range []int{0, 1, firstRead - 1, firstRead, firstRead + 1, 4*firstRead + 1, 9000} {
		want := bytes.Repeat([]byte("x"), n)
		got, err := readBody(trickle{in: bytes.NewReader(append(want, "rest"...)), most: 700}, nil, n)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: got %d, %v", n, len(got), err)
		}
	}
}

// FuzzFirstBytes reads what a connection begins with: exactly one packet is taken, however it comes.
func FuzzFirstBytes(f *testing.F) {
	for _, in := range [][]byte{
		AppendStartup(nil, Version30, []Param{{"user", "a"}}), AppendSSLRequest(nil), AppendCancelRequest(nil, 1, []byte("1234")),
		[]byte("\x16\x03\x01\x02\x00\x01"), []byte("\x15\x03\x01\x00\x02\x01\x00"), []byte("\x00\x00\x00\x08\x04\xd2\x16\x30"),
		[]byte("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"), []byte("\r\n\r\n\x00\r\nQUIT\n"), []byte("\x00\x00\x00\x07abc"), []byte("\x00\x00\x27\x11abc"), []byte("GET / HTTP/1.1\r\n\r\n"), []byte("X\x00\x00\x00\x04"),
	} {
		f.Add(append(in, "rest"...), uint8(0))
		f.Add(in, uint8(255))
	}
	f.Fuzz(func(t *testing.T, in []byte, most uint8) {
		rest := bytes.NewReader(in)
		r, err := ReadRequest(trickle{in: rest, most: int(most) + 1})
		taken := len(in) - rest.Len()
		if err != nil {
			if !errors.Is(err, ErrStartup) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%q: %v", in, err)
			}
			if r != nil && r.Kind != StartupRequest {
				t.Fatalf("%q: %+v beside %v", in, r, err)
			}
			if taken > maxStartup {
				t.Fatalf("%d bytes taken", taken)
			}
			return
		}
		want := 4
		if r.Kind != DirectTLS {
			want = int(binary.BigEndian.Uint32(in))
		}
		if taken != want || r.Kind == DirectTLS && (in[0] != tlsHandshake || !bytes.Equal(r.Head, in[:4])) {
			t.Fatalf("%q: %+v, %d bytes taken, want %d", in, r, taken, want)
		}
	})
}
