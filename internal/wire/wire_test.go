package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgproto3"
)

func TestHeader(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		in   string
		typ  byte
		body int
		ok   bool
		err  error
	}{
		{"Q\x00\x00\x00", 0, 0, false, nil},
		{"Q\x00\x00\x00\x04", 'Q', 0, true, nil},
		{"Q\x00\x00\x01\x04rest", 'Q', 256, true, nil},
		{"Q\x00\x00\x00\x03", 'Q', 0, true, ErrLength},
		{"Q\xff\xff\xff\xff", 'Q', 0, true, ErrLength},
	} {
		typ, body, ok, err := Header([]byte(tc.in))
		if typ != tc.typ || body != tc.body || ok != tc.ok || !errors.Is(err, tc.err) {
			t.Errorf("Header(%q) = %q, %d, %t, %v; want %q, %d, %t, %v", tc.in, typ, body, ok, err, tc.typ, tc.body, tc.ok, tc.err)
		}
	}
}

func TestCheckFrontendKnowsTypesAndSizes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		typ  byte
		body int
		err  error
	}{
		{Query, 1 << 29, nil},
		{Sync, 0, nil},
		{Sync, 20000, ErrLength},
		{CopyData, maxLarge, ErrLength},
		{'T', 0, ErrType},
		{0, 0, ErrType},
		{Password, 10, ErrType},
	} {
		if err := CheckFrontend(tc.typ, tc.body); !errors.Is(err, tc.err) {
			t.Errorf("CheckFrontend(%q, %d) = %v, want %v", tc.typ, tc.body, err, tc.err)
		}
	}
}

func TestConnReadsOneMessageAndNothingPastIt(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	go func() {
		b, _ := (&pgproto3.Query{String: "select 1"}).Encode(nil)
		b, _ = (&pgproto3.Sync{}).Encode(b)
		_, _ = far.Write(append(b, "raw"...))
		_ = far.Close()
	}()
	c := NewConn(near, Client)
	typ, body, err := c.ReadMessage(100)
	if typ != Query || string(body) != "select 1\x00" || err != nil {
		t.Fatalf("first message = %q, %q, %v", typ, body, err)
	}
	if typ, body, err = c.ReadMessage(100); typ != Sync || len(body) != 0 || err != nil {
		t.Fatalf("second message = %q, %q, %v", typ, body, err)
	}
	rest, err := io.ReadAll(near)
	if string(rest) != "raw" || err != nil {
		t.Fatalf("rest = %q, %v", rest, err)
	}
	if _, _, err = c.ReadMessage(100); !errors.Is(err, io.EOF) {
		t.Fatalf("after the end: %v, want EOF", err)
	}
}

func TestConnRefusesWhatIsTooLarge(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	go func() { _, _ = far.Write([]byte("Q\x00\x00\x10\x04")) }()
	_, _, err := NewConn(near, Client).ReadMessage(100)
	var side *Error
	if !errors.Is(err, ErrTooLarge) || !errors.As(err, &side) || side.Side != Client {
		t.Fatalf("got %v, want ErrTooLarge of the client", err)
	}
}

func TestReadRequest(t *testing.T) {
	t.Parallel()
	params := []Param{{"user", "alice"}, {"options", "-c x=1"}, {"user", "bob"}}
	for _, tc := range []struct {
		name string
		in   []byte
		want *Request
		err  error
	}{
		{"startup", AppendStartup(nil, Version30, params), &Request{Kind: StartupRequest, Version: Version30, Params: params}, nil},
		{"no parameters", AppendStartup(nil, Version32, nil), &Request{Kind: StartupRequest, Version: Version32}, nil},
		{"ssl", AppendSSLRequest(nil), &Request{Kind: SSLRequest}, nil},
		{"gss", []byte("\x00\x00\x00\x08\x04\xd2\x16\x30"), &Request{Kind: GSSENCRequest}, nil},
		{"cancel", AppendCancelRequest(nil, 7, []byte("abcd")), &Request{Kind: CancelRequest, PID: 7, Key: []byte("abcd")}, nil},
		{"cancel with the longest key", AppendCancelRequest(nil, 7, bytes.Repeat([]byte("k"), MaxCancelKey)),
			&Request{Kind: CancelRequest, PID: 7, Key: bytes.Repeat([]byte("k"), MaxCancelKey)}, nil},
		{"cancel with a longer key", AppendCancelRequest(nil, 7, bytes.Repeat([]byte("k"), MaxCancelKey+1)), &Request{Kind: CancelRequest}, nil},
		{"cancel cut short", []byte("\x00\x00\x00\x0b\x04\xd2\x16\x2e\x00\x00\x00"), &Request{Kind: CancelRequest}, nil},
		{"direct tls", []byte("\x16\x03\x01\x02\x00hello"), &Request{Kind: DirectTLS, Head: []byte("\x16\x03\x01\x02")}, nil},
		{"cancel without key", AppendCancelRequest(nil, 7, nil), &Request{Kind: CancelRequest, PID: 7}, nil},
		{"protocol 2", []byte("\x00\x00\x00\x0c\x00\x02\x00\x00junk"), &Request{Kind: StartupRequest, Version: 2 << 16}, nil},
		{"too short", []byte("\x00\x00\x00\x07\x00\x03\x00"), nil, ErrStartup},
		{"too long", []byte("\x00\x00\x30\x00\x00\x03\x00\x00"), nil, ErrStartup},
		{"http", []byte("GET / HTTP/1.1\r\n\r\n"), nil, ErrStartup},
		{"no end", []byte("\x00\x00\x00\x0d\x00\x03\x00\x00user\x00"), nil, ErrStartup},
		{"bytes behind", []byte("\x00\x00\x00\x0a\x00\x03\x00\x00\x00x"), nil, ErrStartup},
		{"cut off", []byte("\x00\x00\x00\x0a\x00\x03"), nil, io.ErrUnexpectedEOF},
		{"nothing", nil, nil, io.EOF},
		{"goodbye", []byte("X\x00\x00\x00\x04"), nil, io.EOF},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			near, far := net.Pipe()
			go func() { _, _ = far.Write(tc.in); _ = far.Close() }()
			got, err := ReadRequest(near)
			if !errors.Is(err, tc.err) {
				t.Fatalf("error = %v, want %v", err, tc.err)
			}
			if err == nil {
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("request (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestGetTakesTheLastValue(t *testing.T) {
	t.Parallel()
	r := Request{Params: []Param{{"user", "alice"}, {"user", "bob"}}}
	if got, ok := r.Get("user"); got != "bob" || !ok {
		t.Errorf("Get(user) = %q, %t", got, ok)
	}
	if _, ok := r.Get("database"); ok {
		t.Error("Get(database) found something")
	}
}

func TestReadRequestReadsNothingPastThePacket(t *testing.T) {
	t.Parallel()
	for _, packet := range [][]byte{
		AppendStartup(nil, Version32, []Param{{"user", "alice"}}), AppendSSLRequest(nil),
		AppendCancelRequest(nil, 7, bytes.Repeat([]byte("k"), MaxCancelKey)), []byte("\x16\x03\x01\x02"),
	} {
		near, far := net.Pipe()
		go func() { _, _ = far.Write(append(packet, "rest"...)); _ = far.Close() }()
		if _, err := ReadRequest(near); err != nil {
			t.Fatalf("%q: %v", packet, err)
		}
		if rest, err := io.ReadAll(near); string(rest) != "rest" || err != nil {
			t.Errorf("%q: then %q, %v, want the rest", packet, rest, err)
		}
	}
}

func FuzzReadRequest(f *testing.F) {
	f.Add(AppendStartup(nil, Version30, []Param{{"user", "a"}}))
	f.Add(AppendStartup(nil, Version32, []Param{{"user", "a"}, {"_pq_.x", "1"}}))
	f.Add(AppendStartup(nil, 3<<16|9999, nil))
	f.Add([]byte("\x00\x00\x00\x0c\x00\x02\x00\x00junk"))
	f.Add(AppendSSLRequest(nil))
	f.Add(AppendCancelRequest(nil, 1, []byte("1234")))
	f.Add(AppendCancelRequest(nil, 1, bytes.Repeat([]byte("k"), MaxCancelKey)))
	f.Add(AppendCancelRequest(nil, 1, bytes.Repeat([]byte("k"), MaxCancelKey+1)))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < 8 {
			return
		}
		r, err := parseRequest(in[4:])
		switch {
		case err != nil:
			return
		case r.Kind == CancelRequest:
			fuzzedCancel(t, in[4:], r)
			return
		case r.Kind != StartupRequest || r.Major() != 3:
			return
		}
		again := AppendStartup(nil, r.Version, r.Params)
		if !bytes.Equal(again[4:], in[4:]) {
			t.Fatalf("a request that was understood is written differently:\n got %q\nwant %q", again[4:], in[4:])
		}
	})
}

// fuzzedCancel checks that a cancel request either names nobody or is all that was sent, and no more than keys are.
func fuzzedCancel(t *testing.T, body []byte, r *Request) {
	t.Helper()
	if r.Key == nil && r.PID == 0 {
		return
	}
	if len(r.Key) > MaxCancelKey {
		t.Fatalf("a key of %d bytes", len(r.Key))
	}
	if again := AppendCancelRequest(nil, r.PID, r.Key)[4:]; !bytes.Equal(again, body) {
		t.Fatalf("a cancel request is written differently:\n got %q\nwant %q", again, body)
	}
}

func TestForgetOverwritesTheLastMessage(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	secret := bytes.Repeat([]byte("secret "), 2<<10) // more than the first read
	go func() { _ = NewConn(far, Client).Send(&pgproto3.PasswordMessage{Password: string(secret)}) }()
	c := NewConn(near, Client)
	_, body, err := c.ReadMessage(64 << 10)
	if err != nil || !bytes.HasPrefix(body, secret) {
		t.Fatalf("read %d bytes, %v", len(body), err)
	}
	c.Forget()
	if len(bytes.Trim(body[:cap(body)], "\x00")) > 0 {
		t.Error("the message is still there")
	}
}
