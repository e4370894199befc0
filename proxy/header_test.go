package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/pires/go-proxyproto"
)

// trickle is a connection that gives at most a few bytes at a time.
type trickle struct {
	net.Conn
	in   *bytes.Reader
	most int
}

func (c trickle) Read(p []byte) (int, error) { return c.in.Read(p[:min(len(p), c.most)]) }

// headerV2 returns a v2 header with what follows the family.
func headerV2(command, family byte, length int, rest string) string {
	return string(proxyproto.SIGV2) + string([]byte{command, family, byte(length >> 8), byte(length)}) + rest
}

const (
	addresses4 = "\xcb\x00\x71\x07\x0a\x00\x00\x09\x9c\x40\x15\x38" // 203.0.113.7:40000 to 10.0.0.9:5432
	addresses6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + "\x9c\x40\x15\x38"
)

func TestHeadersAreUnderstood(t *testing.T) {
	t.Parallel()
	unix := string(make([]byte, 216))
	for header, want := range map[string]string{
		"PROXY TCP4 203.0.113.7 10.0.0.9 40000 5432\r\n":               "203.0.113.7:40000",
		"PROXY TCP6 2001:db8::7 2001:db8::1 40000 5432\r\n":            "[2001:db8::7]:40000",
		"PROXY TCP6 ::ffff:203.0.113.7 ::ffff:10.0.0.9 40000 5432\r\n": "203.0.113.7:40000",
		"PROXY UNKNOWN\r\n":                                                   "",
		"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n":                       "",
		headerV2(0x21, 0x11, 12, addresses4):                                  "203.0.113.7:40000",
		headerV2(0x21, 0x11, 19, addresses4+"\x04\x00\x04abcd"):               "203.0.113.7:40000",
		headerV2(0x21, 0x21, 36, addresses6):                                  "[2001:db8::7]:40000",
		headerV2(0x21, 0x31, 216, unix):                                       "",
		headerV2(0x20, 0x00, 0, ""):                                           "",
		headerV2(0x20, 0x11, 12, addresses4):                                  "",
		headerV2(0x20, 0x00, maxV2, string(make([]byte, maxV2))):              "",
		headerV2(0x21, 0x11, maxV2, addresses4+string(make([]byte, 4096-12))): "203.0.113.7:40000",
	} {
		for _, most := range []int{1, 5, 1 << 20} {
			in := bytes.NewReader([]byte(header + "rest"))
			raw, err := readHeader(trickle{in: in, most: most})
			if err != nil || string(raw) != header {
				t.Errorf("%q, %d at a time: read %q, %v", header, most, raw, err)
				continue
			}
			if left, _ := io.ReadAll(in); string(left) != "rest" {
				t.Errorf("%q, %d at a time: %q is left, want the rest", header, most, left)
			}
			got, err := clientIn(raw)
			var wanted netip.AddrPort
			if want != "" {
				wanted = netip.MustParseAddrPort(want)
			}
			if err != nil || got != wanted {
				t.Errorf("%q: %v, %v, want %v", header, got, err, wanted)
			}
		}
	}
}

func TestBadHeadersAreRefusedAsSoonAsTheyCanBe(t *testing.T) {
	t.Parallel()
	for _, header := range []string{
		"\x00\x00\x00\x08\x04\xd2\x16\x2f", // SSLRequest, behind which a client waits
		"\x16\x03\x01\x02\x00\x01",         // TLS
		"PROXX",
		"\r\n\r\n\x00\r\nQUIX",
		"PROXY UNKNOWN" + string(bytes.Repeat([]byte(" x"), 60)),
		"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n" + string(bytes.Repeat([]byte("x"), 100)),
		headerV2(0x21, 0x11, maxV2+1, ""),
		headerV2(0x20, 0x00, 0xffff, ""),
	} {
		nc := trickle{in: bytes.NewReader([]byte(header)), most: 1 << 20}
		if raw, err := readHeader(nc); !errors.Is(err, errNoHeader) {
			t.Errorf("%q: read %q, %v, want errNoHeader", header, raw, err)
		}
	}
	for _, header := range []string{
		"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
		"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
		"PROXY TCP4 2001:db8::7 5.6.7.8 1 2\r\n",
		"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
		"PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n",
		"PROXY TCP6 fe80::1%lo 2001:db8::1 1 2\r\n",
		"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
		"PROXYX TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
		"PROXY UNKNOWNX\r\n",
		headerV2(0x11, 0x11, 12, addresses4), // version 1 in the binary form
		headerV2(0x22, 0x11, 12, addresses4), // a command that there is not
		headerV2(0x21, 0x13, 12, addresses4), // a transport that there is not
		headerV2(0x21, 0x12, 12, addresses4), // UDP
		headerV2(0x21, 0x00, 0, ""),          // an address, of no family
		headerV2(0x21, 0x11, 11, addresses4[:11]),
		headerV2(0x21, 0x21, 12, addresses4),
	} {
		raw, err := readHeader(trickle{in: bytes.NewReader([]byte(header)), most: 1 << 20})
		if err != nil {
			t.Errorf("%q: read %q, %v", header, raw, err)
			continue
		}
		if got, err := clientIn(raw); err == nil {
			t.Errorf("%q: understood as %v", header, got)
		}
	}
}

// FuzzProxyHeader holds what is read against the library, which is given all the bytes at once.
func FuzzProxyHeader(f *testing.F) {
	for _, header := range []string{
		"PROXY TCP4 203.0.113.7 10.0.0.9 40000 5432\r\n", "PROXY TCP6 2001:db8::7 2001:db8::1 40000 5432\r\n",
		"PROXY UNKNOWN\r\n", "PROXY \r\n\r\n", "PROXY a\r\nb\r\n\r\n",
		headerV2(0x21, 0x11, 12, addresses4), headerV2(0x21, 0x21, 36, addresses6), headerV2(0x20, 0x00, 3, "\x04\x00\x00"),
		headerV2(0x21, 0x31, 216, string(make([]byte, 216))), headerV2(0x20, 0x11, 5, "abcde"), "\x16\x03\x01", "\x00\x00\x00\x08\x04\xd2\x16\x2f",
	} {
		f.Add([]byte(header+"rest"), uint8(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, most uint8) {
		rest := bytes.NewReader(in)
		raw, err := readHeader(trickle{in: rest, most: int(most) + 1})
		if len(raw)+rest.Len() != len(in) || !bytes.Equal(raw, in[:len(raw)]) {
			t.Fatalf("%d bytes read and %d left, of %d", len(raw), rest.Len(), len(in))
		}
		if len(raw) > lengthEnd+maxV2 {
			t.Fatalf("%d bytes read", len(raw))
		}
		if err != nil {
			return
		}
		got, err := clientIn(raw)
		library := bufio.NewReaderSize(bytes.NewReader(in), len(in)+1)
		h, wrong := proxyproto.Read(library)
		switch {
		case err != nil && wrong == nil && !h.TransportProtocol.IsDatagram():
			t.Fatalf("%q: %v, but the library understands %+v", raw, err, h)
		case err == nil && wrong != nil:
			t.Fatalf("%q: understood as %v, but the library says %v", raw, got, wrong)
		case err != nil:
			return
		}
		if used := len(in) - library.Buffered(); used != len(raw) {
			t.Fatalf("%q: the library used %d bytes", raw, used)
		}
		tcp, ok := h.SourceAddr.(*net.TCPAddr)
		if ok = ok && h.Command.IsProxy(); ok != got.IsValid() || ok && (!tcp.IP.Equal(got.Addr().AsSlice()) || tcp.Port != int(got.Port())) {
			t.Fatalf("%q: understood as %v, by the library as %v", raw, got, h.SourceAddr)
		}
	})
}
