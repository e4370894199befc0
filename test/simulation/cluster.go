package simulation

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/auth/scram"
	"sluice/internal/memnet"
	"sluice/internal/wire"
)

const (
	clusterPort = 5433
	firstPID    = 1001
	maxMessage  = 1 << 20
)

func clusterHost(i int) string { return fmt.Sprintf("10.0.0.%d", i+1) }

func clusterAddr(i int) string { return net.JoinHostPort(clusterHost(i), strconv.Itoa(clusterPort)) }

// mood is how a cluster feels about those who connect. The zero value welcomes everybody.
type mood struct {
	down      bool          // nobody listens
	refusal   string        // SQLSTATE that answers every login
	mute      bool          // connections are taken and never answered
	slow      time.Duration // before a login is answered
	sabotage  bool          // what Sluice injects on its own account fails
	slowClose time.Duration // how long a backend takes to end after Terminate
}

// cluster is a model of one Postgres: a postmaster with its backends. The first asks for no password, the others for
// SCRAM-SHA-256.
type cluster struct {
	w    *world
	id   int
	name string // of the tenant whose cluster it is

	wg sync.WaitGroup

	mu       sync.Mutex // guards below
	mood     mood
	ln       *memnet.Listener
	backends map[uint32]*backend
	lastPID  uint32
}

func newCluster(w *world, id int) *cluster {
	pg := &cluster{w: w, id: id, name: tenants()[id], backends: make(map[uint32]*backend), lastPID: firstPID - 1}
	pg.setMood(mood{})
	return pg
}

// setMood changes the mood; a cluster that goes down takes its backends with it.
func (pg *cluster) setMood(m mood) {
	pg.mu.Lock()
	pg.mood = m
	var victims []*backend
	switch {
	case m.down && pg.ln != nil:
		_ = pg.ln.Close()
		pg.ln = nil
		for _, b := range pg.backends {
			victims = append(victims, b)
		}
	case !m.down && pg.ln == nil:
		pg.ln = pg.w.network.Listen(clusterAddr(pg.id))
		ln := pg.ln
		pg.wg.Go(func() { pg.accept(ln) })
	}
	pg.mu.Unlock()
	for _, b := range victims {
		b.kill(death(b.pid % uint32(numDeaths)))
	}
}

func (pg *cluster) moodNow() mood {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	return pg.mood
}

// close ends the cluster and waits for it.
func (pg *cluster) close() {
	pg.setMood(mood{down: true})
	pg.wg.Wait()
}

// open returns how many backends there are.
func (pg *cluster) open() int {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	return len(pg.backends)
}

// victim draws one of the backends, nil if there is none.
func (pg *cluster) victim(rng *rand.Rand) *backend {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	n := rng.IntN(len(pg.backends) + 1)
	for pid := uint32(firstPID); pid <= pg.lastPID; pid++ {
		if b := pg.backends[pid]; b != nil {
			if n--; n < 0 {
				return b
			}
		}
	}
	return nil
}

func (pg *cluster) accept(ln *memnet.Listener) {
	for {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		pg.wg.Go(func() { pg.serve(nc.(*memnet.Conn)) })
	}
}

// serve deals with one connection: a cancel request or a session.
func (pg *cluster) serve(nc *memnet.Conn) {
	defer nc.Close()
	r, err := wire.ReadRequest(nc)
	switch {
	case err != nil:
	case r.Kind == wire.CancelRequest:
		pg.cancel(r.PID, r.Key)
	case r.Kind == wire.StartupRequest:
		pg.session(nc, r)
	default:
		pg.w.violation("cluster %d was asked for request %d, not for a session", pg.id, r.Kind)
	}
}

// session is the life of a backend, which exists from here on.
func (pg *cluster) session(nc *memnet.Conn, r *wire.Request) {
	b := pg.fork(nc, r)
	b.enter()
	defer b.leave()
	m := pg.moodNow()
	switch {
	case m.mute:
		b.follow() // until Sluice gives up
		return
	case b.pause(m.slow) != nil:
		return
	case m.refusal != "":
		_ = b.send(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: m.refusal, Message: "refused"})
		return
	}
	if err := b.authenticate(); err != nil {
		pg.w.note(b.name(), "login: %v", err)
		return
	}
	pg.wg.Go(b.follow)
	b.run()
	<-b.inbox.ended
}

// fork makes a backend with a pid and a key of its own.
func (pg *cluster) fork(nc *memnet.Conn, r *wire.Request) *backend {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	pg.lastPID++
	b := newBackend(pg, nc, pg.lastPID)
	b.key = binary.BigEndian.AppendUint32(nil, b.rng.Uint32())
	b.role, _ = r.Get("user")
	b.database, _ = r.Get("database")
	b.mode, _ = r.Get("sim.mode")
	b.startApplication, _ = r.Get("application_name")
	b.application = b.startApplication
	b.owner.pooled = b.mode == "transaction"
	return b
}

// cancel deals with a cancel request, which takes its time.
func (pg *cluster) cancel(pid uint32, key []byte) {
	pg.mu.Lock()
	b := pg.backends[pid]
	pg.mu.Unlock()
	if b == nil || !bytes.Equal(b.key, key) {
		pg.w.note("cluster", "cancel of %d, which is nobody", pid)
		return
	}
	<-time.After(b.cancelDelay)
	b.interrupt()
}

// authenticate asks for a proof, and greets.
func (b *backend) authenticate() error {
	c := wire.NewConn(b.nc, wire.Client)
	if b.pg.id > 0 {
		if err := b.askSCRAM(c); err != nil {
			return err
		}
	}
	return b.send(
		&pgproto3.AuthenticationOk{},
		&pgproto3.ParameterStatus{Name: "server_version", Value: "17.0"},
		&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"},
		&pgproto3.ParameterStatus{Name: "TimeZone", Value: defaultZone},
		&pgproto3.ParameterStatus{Name: "application_name", Value: b.application},
		&pgproto3.BackendKeyData{ProcessID: b.pid, SecretKey: b.key},
		&pgproto3.ReadyForQuery{TxStatus: 'I'},
	)
}

func (b *backend) askSCRAM(c *wire.Conn) error {
	exchange, err := scram.NewServer(b.pg.w.rules.verifiers[b.role], scram.ServerOptions{Mechanism: scram.SHA256})
	if err != nil {
		return err
	}
	var initial pgproto3.SASLInitialResponse
	var response pgproto3.SASLResponse
	if err := b.ask(c, &pgproto3.AuthenticationSASL{AuthMechanisms: []string{scram.SHA256}}, initial.Decode); err != nil {
		return err
	}
	first, err := exchange.First(initial.Data)
	if err != nil {
		return err
	}
	if err := b.ask(c, &pgproto3.AuthenticationSASLContinue{Data: first}, response.Decode); err != nil {
		return err
	}
	final, err := exchange.Final(response.Data)
	if err != nil {
		return fmt.Errorf("the proof of %s: %w", b.role, err)
	}
	return b.send(&pgproto3.AuthenticationSASLFinal{Data: final})
}

// ask sends a request and reads its answer.
func (b *backend) ask(c *wire.Conn, request wire.Message, decode func([]byte) error) error {
	if err := b.send(request); err != nil {
		return err
	}
	_, body, err := c.ReadMessage(maxMessage)
	if err != nil {
		return err
	}
	return decode(bytes.Clone(body))
}
