package admin

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/memnet"
)

// serving is a Server on a network in memory, in a bubble.
func serving(t *testing.T, tg *target) (s *Server, network *memnet.Network, stop context.CancelFunc, done chan error) {
	t.Helper()
	s, _ = newServer(tg, nil)
	network = memnet.New()
	s.listener = network.Listen(s.params.Address)
	ctx, stop := context.WithCancel(t.Context())
	done = make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	return s, network, stop, done
}

func TestServeLetsRequestsFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tg := &target{health: Health{State: Healthy}, block: make(chan struct{})}
		_, network, stop, done := serving(t, tg)
		transport := &http.Transport{DialContext: network.Dial}
		defer transport.CloseIdleConnections()
		answered := make(chan string, 1)
		go func() {
			r, err := (&http.Client{Transport: transport}).Get("http://127.0.0.1:9930/readyz")
			if err != nil {
				answered <- err.Error()
				return
			}
			_ = r.Body.Close()
			answered <- r.Status
		}()
		synctest.Wait()
		stop()
		synctest.Wait()
		if _, err := network.Dial(t.Context(), "tcp", "127.0.0.1:9930"); err == nil {
			t.Error("new connections are taken while the server stops")
		}
		close(tg.block)
		if got := <-answered; got != "200 OK" {
			t.Errorf("request under way: got %s", got)
		}
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

func TestServeCutsOffWhatDoesNotFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tg := &target{block: make(chan struct{})}
		_, network, stop, done := serving(t, tg)
		conn, err := network.Dial(t.Context(), "tcp", "127.0.0.1:9930")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
		synctest.Wait()
		start := time.Now()
		stop()
		if err := <-done; err != nil || time.Since(start) != stopTimeout {
			t.Errorf("Serve: %v after %v, want nil after %v", err, time.Since(start), stopTimeout)
		}
		if n, err := conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("the connection is still there: %d bytes", n)
		}
		close(tg.block)
	})
}

func TestSlowAndLargeRequestsAreCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, network, stop, done := serving(t, &target{})
		dial := func() net.Conn {
			conn, err := network.Dial(t.Context(), "tcp", "127.0.0.1:9930")
			if err != nil {
				t.Fatal(err)
			}
			return conn
		}
		slow := dial()
		fmt.Fprint(slow, "GET /readyz HTTP/1.1\r\nHost: local")
		start := time.Now()
		if n, err := slow.Read(make([]byte, 1)); err == nil && n == 0 || time.Since(start) != readTimeout {
			t.Errorf("slow request: %d bytes, %v after %v, want an end after %v", n, err, time.Since(start), readTimeout)
		}
		large := dial()
		go func() {
			_, _ = fmt.Fprintf(large, "GET / HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n", strings.Repeat("x", 2*maxHeaderBytes))
		}()
		reply := make([]byte, 12)
		if _, err := large.Read(reply); err != nil || string(reply) != "HTTP/1.1 431" {
			t.Errorf("large headers: got %q, %v", reply, err)
		}
		_, _ = slow.Close(), large.Close()
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

func TestServeOnATakenAddress(t *testing.T) {
	t.Parallel()
	first, _ := newServer(&target{}, func(p *Params) { p.Address = "127.0.0.1:0" })
	if err := first.Listen(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.listener.Close() }()
	second, _ := newServer(&target{}, func(p *Params) { p.Address = first.Addrs()[0].String() })
	if err := second.Serve(t.Context()); err == nil || !strings.Contains(err.Error(), "listen for operators") {
		t.Errorf("got %v", err)
	}
}

func TestServeWithTLS(t *testing.T) {
	t.Parallel()
	issuer := httptest.NewTLSServer(nil) // for its certificate
	defer issuer.Close()
	s, _ := newServer(&target{status: "fine"}, func(p *Params) { p.Address, p.TLS = "127.0.0.1:0", issuer.TLS })
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	r, err := issuer.Client().Get("https://" + s.Addrs()[0].String() + "/status")
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Body.Close()
	if r.StatusCode != 200 {
		t.Errorf("got %s", r.Status)
	}
	issuer.Client().CloseIdleConnections()
	stop()
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
}
