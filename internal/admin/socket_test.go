package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"sluice/internal/unixsocket"
)

// overUnix serves s on a socket and returns a client for it.
func overUnix(t *testing.T, change func(*Params)) (*http.Client, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "admin")
	s, _ := newServer(&target{status: "fine"}, func(p *Params) {
		p.Address, p.Socket, p.Token = "", path, ""
		if change != nil {
			change(p)
		}
	})
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket is left behind: %v", err)
		}
		_ = os.RemoveAll(dir)
	})
	return &http.Client{Transport: transport}, path
}

func request(t *testing.T, c *http.Client, method, path, body string, headers ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://anything"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	answer, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

func TestTheSocketNeedsNoTokenAndNamesTheUser(t *testing.T) {
	t.Parallel()
	b := &banned{}
	c, path := overUnix(t, func(p *Params) { p.Bans = b })
	if info, err := os.Lstat(path); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("the socket has %v, %v", info.Mode(), err)
	}
	if code, text := request(t, c, "GET", "/status", ""); code != 200 || text != "\"fine\"\n" {
		t.Errorf("status: %d %s", code, text)
	}
	if code, text := request(t, c, "GET", "/api/v1/bans", ""); code != 200 || !strings.Contains(text, "203.0.113.7") {
		t.Errorf("bans: %d %s", code, text)
	}
	if code, text := request(t, c, "POST", "/reload", ""); code != 200 {
		t.Errorf("reload: %d %s", code, text)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if code, text := request(t, c, "POST", "/api/v1/bans/clear", `{"all": true}`, "Sluice-Author: somebody else"); code != 200 {
		t.Errorf("clear: %d %s", code, text)
	}
	if b.by.Via != "socket" || b.by.User != fmt.Sprintf("%s (uid %s)", me.Username, me.Uid) || b.by.ClientAddr != "" || b.by.Name != "" {
		t.Errorf("cleared by %+v", b.by)
	}
	for _, header := range []string{"Origin: http://evil.example", "Content-Type: text/plain"} {
		if code, text := request(t, c, "POST", "/reload", "", header); code != 403 && code != 415 {
			t.Errorf("%s: %d %s", header, code, text)
		}
	}
}

// A token opens the port; the socket does without one, whatever the token is.
func TestPortAndSocketAreServedTogether(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "admin")
	s, _ := newServer(&target{status: "fine"}, func(p *Params) { p.Address, p.Socket = "127.0.0.1:0", path })
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	if addrs := s.Addrs(); len(addrs) != 2 || addrs[1].String() != path {
		t.Errorf("open are %v", addrs)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	port := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := port.Post("http://"+s.Addrs()[0].String()+"/reload", "application/json", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != 401 {
		t.Errorf("on the port without a token: %s", answer.Status)
	}
	socket := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	if code, text := request(t, socket, "POST", "/reload", ""); code != 200 {
		t.Errorf("on the socket: %d %s", code, text)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestOthersAreRefusedOnTheSocket(t *testing.T) {
	t.Parallel()
	me := uint32(os.Geteuid())
	for _, c := range []struct {
		about string
		peer  peer
		code  int
	}{
		{"the same user", peerOf(me, nil), 200},
		{"another user", peerOf(me+1, nil), 403},
		{"a user of whom nothing is known", peerOf(0, unixsocket.ErrNoPeer), 403},
		{"a system that never tells", peerOf(0, errors.Join(unixsocket.ErrNoPeer, errors.ErrUnsupported)), 200},
	} {
		s, _ := newServer(&target{status: "fine"}, nil)
		for _, path := range []string{"GET /status", "POST /reload", "GET /metrics"} {
			method, path, _ := strings.Cut(path, " ")
			r := httptest.NewRequest(method, path, nil)
			r = r.WithContext(context.WithValue(r.Context(), peerKey{}, c.peer))
			w := httptest.NewRecorder()
			s.http.Handler.ServeHTTP(w, r)
			if w.Code != c.code {
				t.Errorf("%s: %s %s: got %d %s, want %d", c.about, method, path, w.Code, w.Body, c.code)
			}
		}
	}
}

func TestASocketThatIsTakenLeavesThePortFree(t *testing.T) {
	t.Parallel()
	_, path := overUnix(t, nil)
	s, _ := newServer(&target{}, func(p *Params) { p.Address, p.Socket = "127.0.0.1:0", path })
	if err := s.Listen(); err == nil || !strings.Contains(err.Error(), "admin.socket: "+path+": in use") {
		t.Errorf("got %v", err)
	}
	if _, err := s.listener.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the port is still open: %v", err)
	}
}
