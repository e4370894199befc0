package proxy_test

import (
	"context"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/config"
	"sluice/internal/memnet"
	"sluice/internal/pgscript"
)

// counting is a Postgres that answers every query with two numbers: the connections that it has for ordinary roles, and
// those that are open.
type counting struct {
	ln net.Listener
	wg sync.WaitGroup

	mu           sync.Mutex // guards below
	usable, open int
	mute         bool // it answers no query
}

func (p *counting) set(usable, open int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.usable, p.open = usable, open
}

func (p *counting) serve() {
	defer p.wg.Done()
	for {
		nc, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() {
			defer nc.Close()
			be := pgproto3.NewBackend(nc, nc)
			if _, err := be.ReceiveStartupMessage(); err != nil {
				return
			}
			be.Send(&pgproto3.AuthenticationOk{})
			be.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte("1234")})
			be.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
			for be.Flush() == nil {
				msg, err := be.Receive()
				if err != nil {
					return
				}
				p.answer(be, msg)
			}
		})
	}
}

func (p *counting) answer(be *pgproto3.Backend, msg pgproto3.FrontendMessage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mute {
		return
	}
	switch msg.(type) {
	case *pgproto3.Parse:
		be.Send(&pgproto3.ParseComplete{})
	case *pgproto3.Bind:
		be.Send(&pgproto3.BindComplete{})
	case *pgproto3.Execute:
		be.Send(&pgproto3.DataRow{Values: [][]byte{strconv.AppendInt(nil, int64(p.usable), 10), strconv.AppendInt(nil, int64(p.open), 10)}})
		be.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
	case *pgproto3.Sync:
		be.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	}
}

// newAutoHarness starts a Sluice with max_backends: auto in front of a counting Postgres.
func newAutoHarness(t *testing.T, usable, open int) (*harness, *counting) {
	t.Helper()
	const address = "127.0.0.1:5555"
	pg := &counting{usable: usable, open: open}
	h := newHarnessOn(t, pgscript.Options{}, auto, func(n *memnet.Network) dialFunc {
		pg.ln = n.Listen(address)
		pg.wg.Add(1)
		go pg.serve()
		return func(ctx context.Context, network, _ string) (net.Conn, error) { return n.Dial(ctx, network, address) }
	})
	t.Cleanup(func() {
		_ = h.srv.Close()
		_ = pg.ln.Close()
		pg.wg.Wait()
	})
	synctest.Wait()
	return h, pg
}

func auto(_ *config.Config, tenant *config.Tenant) {
	tenant.MaxBackends = config.AutoInt{Auto: true}
	tenant.Service = config.Service{Role: "service", Database: "postgres"}
}

func (h *harness) wantMaxBackends(want int) {
	h.t.Helper()
	synctest.Wait()
	if got := h.srv.Status().Tenants[0].MaxBackends; got != want {
		h.t.Errorf("max_backends is %d, want %d", got, want)
	}
}

func TestAutoFollowsWhatPostgresHasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, pg := newAutoHarness(t, 100, 10)
		h.wantMaxBackends(72) // 80 % of 90
		pg.set(100, 60)       // others have come: 80 % of 40 are left
		time.Sleep(10*time.Second - time.Nanosecond)
		h.wantMaxBackends(72)
		time.Sleep(5 * time.Second) // from now on between two answers
		for _, want := range []int{52, 42, 37, 34, 33, 32, 32} {
			h.wantMaxBackends(want)
			time.Sleep(10 * time.Second)
		}
		pg.set(100, 0) // they have gone
		time.Sleep(10 * time.Second)
		for _, want := range []int{56, 68, 74, 77, 79, 80, 80} {
			h.wantMaxBackends(want)
			time.Sleep(10 * time.Second)
		}
		pg.set(3, 200) // never none
		time.Sleep(2 * time.Minute)
		h.wantMaxBackends(1)
	})
}

func TestAutoKeepsTheLastAnswerWhilePostgresIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, pg := newAutoHarness(t, 100, 0)
		pg.mu.Lock()
		pg.mute = true
		pg.mu.Unlock()
		pg.set(50, 0)
		time.Sleep(5 * time.Minute)
		h.wantMaxBackends(80)
		if want := "max_backends: auto could not ask"; !strings.Contains(h.log.String(), want) {
			t.Errorf("the log does not have %q:\n%s", want, h.log)
		}
		pg.mu.Lock()
		pg.mute = false
		pg.mu.Unlock()
		time.Sleep(20 * time.Second)
		if got := h.srv.Status().Tenants[0].MaxBackends; got >= 80 {
			t.Errorf("max_backends stays at %d when Postgres answers again", got)
		}
	})
}

func TestReloadAsksAtOnceAndTakesTheFirstAnswerAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, pg := newAutoHarness(t, 100, 0)
		h.wantMaxBackends(80)
		pg.set(100, 50)
		if err := h.srv.Reload(settings(auto)); err != nil {
			t.Fatal(err)
		}
		h.wantMaxBackends(60)
		if err := h.srv.Reload(settings(func(c *config.Config, tenant *config.Tenant) {
			auto(c, tenant)
			tenant.MaxBackends = config.AutoInt{N: 7}
		})); err != nil {
			t.Fatal(err)
		}
		h.wantMaxBackends(7)
		if err := h.srv.Reload(settings(auto)); err != nil {
			t.Fatal(err)
		}
		h.wantMaxBackends(40) // not half way from 7
	})
}
