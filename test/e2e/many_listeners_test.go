package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/wire"
)

const (
	manyListeners   = 10_000
	listenerBytes   = 4 << 10 // of Sluice's memory for each of them
	listenersEnv    = "SLUICE_TEST_LISTENERS"
	listenersWithin = 5 * time.Minute
)

// The clients live in a process of their own, so that neither it nor this one needs more than one descriptor for each. Not
// parallel: it counts the memory of the process.
func TestTenThousandClientsListenOnOneBackend(t *testing.T) {
	pg := ownCluster(t)
	r := start(t, pg, "limits: {max_clients: 20000}\n"+strings.Replace(base(pg, `pool_size: 4
max_backends: 6
pool_wait_timeout: 60s
roles:
  - {name: alice, backend: {password: alice-secret}}
  - {name: bob, backend: {password: bob-secret}}
`), "auth: {", "auth: {method: trust, ", 1))
	speaker := r.connect("session", "bob", "")
	heap := heapInUse()

	clients := r.audience("everybody")
	clients.wantSaid(fmt.Sprint(manyListeners, " listen"))
	if got := r.srv.Totals().Clients; got != manyListeners+1 {
		t.Errorf("%d clients are connected, want %d and one who speaks", got, manyListeners)
	}
	if shared, backends := r.listening(); shared != "1" || backends > "5" || len(backends) > 1 {
		t.Errorf("%s connections listen beside %s of the pools, want 1 beside at most 4 and the speaker's", shared, backends)
	}
	r.exec(speaker, "NOTIFY everybody, 'hello'")
	clients.wantSaid(fmt.Sprint(manyListeners, " heard hello"))
	if grown := heapInUse() - heap - int64(r.logs.Cap()); grown > manyListeners*listenerBytes {
		t.Errorf("%d bytes are kept for each client that listens, want at most %d", grown/manyListeners, listenerBytes)
	} else {
		t.Logf("%d bytes for each client", grown/manyListeners)
	}
	clients.leave()
	r.eventually("Sluice has seen the clients go", func() bool { return r.srv.Totals().Clients == 1 })
	r.eventually("nobody listens any more", func() bool { shared, _ := r.listening(); return shared == "0" })
}

// audience is the process of the clients.
type audience struct {
	t    *testing.T
	in   io.WriteCloser
	said *bufio.Scanner
	cmd  *exec.Cmd
}

// audience starts clients that log in and listen to a channel.
func (r *rig) audience(channel string) *audience {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), listenersWithin)
	r.t.Cleanup(cancel)
	c := &audience{t: r.t, cmd: exec.CommandContext(ctx, os.Args[0])}
	c.cmd.Env = append(os.Environ(), listenersEnv+"="+r.addr["transaction"]+" "+channel)
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	must(r.t, err)
	c.in, err = c.cmd.StdinPipe()
	must(r.t, err)
	must(r.t, c.cmd.Start())
	c.said = bufio.NewScanner(out)
	return c
}

func (c *audience) wantSaid(want string) {
	c.t.Helper()
	if !c.said.Scan() || c.said.Text() != want {
		c.t.Fatalf("the clients said %q (%v), want %q", c.said.Text(), c.said.Err(), want)
	}
}

// leave has all clients hang up.
func (c *audience) leave() {
	c.t.Helper()
	must(c.t, c.in.Close())
	must(c.t, c.cmd.Wait())
}

// listenTogether is the process of the clients: what is in listenersEnv says where they log in and to what they listen. It
// ends when its input does.
func listenTogether(task string) error {
	addr, channel, _ := strings.Cut(task, " ")
	conns := make([]net.Conn, manyListeners)
	errs := make([]error, manyListeners)
	var wg sync.WaitGroup
	free := make(chan struct{}, loginsAtOnce)
	for i := range conns {
		free <- struct{}{}
		wg.Go(func() {
			conns[i], errs[i] = listenOnce(addr, channel)
			<-free
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	fmt.Println(manyListeners, "listen")
	var payload string
	for _, nc := range conns {
		body, err := readUpTo(nc, wire.NotificationResponse)
		if err != nil {
			return err
		}
		var n pgproto3.NotificationResponse
		if err := n.Decode(body); err != nil {
			return err
		}
		payload = n.Payload
	}
	fmt.Println(manyListeners, "heard", payload)
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// listenOnce logs a client in and has it listen.
func listenOnce(addr, channel string) (net.Conn, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	if err := nc.SetDeadline(time.Now().Add(listenersWithin)); err != nil {
		return nil, err
	}
	for _, msg := range []pgproto3.FrontendMessage{
		&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "alice", "database": "app"}},
		queryMsg("LISTEN " + channel),
	} {
		b, err := msg.Encode(nil)
		if err != nil {
			return nil, err
		}
		if _, err := nc.Write(b); err != nil {
			return nil, err
		}
		if _, err := readUpTo(nc, wire.ReadyForQuery); err != nil {
			return nil, err
		}
	}
	return nc, nil
}

// readUpTo reads up to a message of the given type and returns its body.
func readUpTo(r io.Reader, want byte) (body []byte, err error) {
	for {
		var head [wire.HeaderLen]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return nil, err
		}
		typ, n, _, err := wire.Header(head[:])
		if err != nil {
			return nil, err
		}
		body = make([]byte, n)
		if _, err := io.ReadFull(r, body); err != nil {
			return nil, err
		}
		switch typ {
		case want:
			return body, nil
		case wire.ErrorResponse:
			return nil, fmt.Errorf("refused: %q", body)
		}
	}
}
