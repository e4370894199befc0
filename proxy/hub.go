package proxy

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"sluice/internal/backend"
	"sluice/internal/loop"
	"sluice/internal/sessionstate"
	"sluice/internal/wire"
	"sluice/pool"
)

// modeListen is the mode of the pools of one from which the listening connections come. No listener has it.
const modeListen = "listen"

const (
	// openTimeout is how long those who want to listen wait for a listening connection.
	openTimeout = 5 * time.Second
	// answerTimeout is how long the connection may take to answer: clients wait for it.
	answerTimeout = 30 * time.Second
	// listenIdle is how long a listening connection to which nobody listens is kept.
	listenIdle = 5 * time.Second
	// firstRetry and lastRetry are how long no listening connection is opened again after one was lost, or could not be had.
	firstRetry = time.Second
	lastRetry  = time.Minute
)

var (
	errNoListener   = errors.New("no listening connection")
	errListenAnswer = errors.New("it does not answer")
	errListenWait   = errors.New("no listening connection in time: max_backends is used up, or PostgreSQL is slow")
)

// hub listens to a database for all sessions of a tenant that do, over one connection of the tenant's service role. It lives
// on a loop; what the sessions of a loop, its own or another, have to do with it goes through their ear.
type hub struct {
	lane   *lane // with the pool of one
	svc    *service
	target backend.Target
	marker string // channel of the marks of hand-overs

	speaking *atomic.Pointer[string] // where voices stands while they are heard

	encoding atomic.Pointer[string] // client_encoding of the connection

	// Touched on the loop only.
	waiter pool.Waiter
	timer  loop.Timer // waits for the connection, or keeps it open while nobody listens
	bc     *backendConn
	held   []byte // the beginning of a message

	voices   string            // channel on which backends say who speaks, of this connection
	speakers map[uint32]uint32 // who does, by the backend's pid

	channels map[string]map[*ear]int // who wants each, and how often
	on       map[string]bool         // what Postgres has been asked to have the connection listen to
	changed  map[string]bool         // what may have to be asked
	next     []request               // are answered by the next query
	asked    []request               // are answered by the one under way
	busy     bool                    // a query is under way
	refused  string                  // what Postgres has said to it
	ears     map[*shard]*ear         // all that have ever wanted something of this connection

	retry   time.Duration
	retryAt time.Time
	retired bool
}

// request is what an ear wants to know: that the hub listens to channels, or that it is caught up. done is called on the
// ear's loop.
type request struct {
	ear      *ear
	channels []string
	done     func(err error)
}

// newHub returns a hub for a database of the lane's tenant, which is locked. l is its own.
func newHub(l *lane, svc *service, database string) *hub {
	h := &hub{
		lane: l, svc: svc, target: svc.target, retry: firstRetry,
		speaking: l.tenant.speaking(database), speakers: make(map[uint32]uint32), channels: make(map[string]map[*ear]int), on: make(map[string]bool), changed: make(map[string]bool), ears: make(map[*shard]*ear),
	}
	h.marker = newChannel()
	h.target.Database = database
	h.target.Params = []wire.Param{ // not client_encoding: names and payloads are as the database has them
		{Name: "application_name", Value: "sluice listen"},
		{Name: "statement_timeout", Value: "0"},
		{Name: "idle_session_timeout", Value: "0"},
	}
	h.waiter.Granted = h.granted
	return h
}

// newChannel returns the name of a channel that nobody else has.
func newChannel() string {
	var name [8]byte
	_, _ = rand.Read(name[:]) // never fails
	return "sluice_" + hex.EncodeToString(name[:])
}

// hub returns what listens to the session's database, nil if nothing can.
func (s *session) hub() *hub {
	srv, t := s.lane.srv, s.lane.tenant
	ts := srv.state.Load().tenants[strings.ToLower(t.name)]
	if ts == nil || ts.svc == nil || ts.tenant != t {
		return nil
	}
	t.mu.Lock()
	h := t.hubs[s.lane.code]
	t.mu.Unlock()
	if h != nil && h.svc == ts.svc {
		return h
	}
	key := pool.Key{Tenant: t.name, Database: s.lane.code, Role: ts.svc.target.Role, Mode: modeListen}
	l := t.lane(key, 1, func(ps *parts) *lane { return srv.newLane(ts, key, ps) })
	if l == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if h = t.hubs[s.lane.code]; h != nil && h.svc == ts.svc { // another loop was faster
		l.refs--
		return h
	}
	h = newHub(l, ts.svc, s.lane.code)
	t.hubs[s.lane.code] = h
	return h
}

// retireHubs ends what listens with another service login than svc, which is the one that counts now.
func (t *tenant) retireHubs(svc *service) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for database, h := range t.hubs {
		if h.svc != svc {
			delete(t.hubs, database)
			h.lane.loop.Post(h.retire)
		}
	}
}

// want has the hub listen to r's channels for its ear, until unwant.
func (h *hub) want(r request) {
	if h.retired || h.bc == nil && h.lane.loop.Now().Before(h.retryAt) {
		r.ear.post(func() { r.done(errNoListener) })
		return
	}
	if h.bc != nil && !h.busy {
		h.timer.Stop()
	}
	h.ears[r.ear.shard] = r.ear
	asked := true
	for _, name := range r.channels {
		ears := h.channels[name]
		if ears == nil {
			ears = make(map[*ear]int)
			h.channels[name] = ears
		}
		ears[r.ear]++
		if !h.on[name] {
			h.changed[name], asked = true, false
		}
	}
	if asked && !h.busy {
		r.ear.post(func() { r.done(nil) })
		return
	}
	h.next = append(h.next, r)
	h.kick()
}

// unwant takes want back.
func (h *hub) unwant(e *ear, channels []string) {
	for _, name := range channels {
		ears := h.channels[name]
		if ears == nil { // forgotten with a connection that was lost
			continue
		}
		if ears[e]--; ears[e] <= 0 {
			delete(ears, e)
		}
		if len(ears) == 0 {
			delete(h.channels, name)
			h.changed[name] = true
		}
	}
	h.kick()
}

// catchUp has r answered when all that was committed before has been delivered.
func (h *hub) catchUp(r request) {
	if h.bc == nil || h.ears[r.ear.shard] != r.ear { // the ear is of a connection that is no more
		r.ear.post(func() { r.done(errNoListener) })
		return
	}
	h.next = append(h.next, r)
	h.kick()
}

// kick does what is to be done next: the connection is opened or asked, or closed a while after nobody wants it any more.
func (h *hub) kick() {
	switch {
	case len(h.channels) == 0 && len(h.next) == 0 && !h.busy:
		h.unused()
	case h.busy:
	case h.bc == nil:
		h.open()
	case len(h.next) > 0 || len(h.changed) > 0:
		h.timer.Stop()
		h.ask()
	}
}

// open gets the connection from the pool.
func (h *hub) open() {
	if h.waiter.Waiting() || h.retired {
		return
	}
	h.lane.loop.Start(&h.timer, openTimeout, func() {
		h.lane.pool.Cancel(&h.waiter)
		h.failed(errListenWait)
	})
	h.lane.pool.SetLogin(h.target)
	if b := h.lane.pool.Acquire(&h.waiter, baselineKey(h.target.Params, 0), "", h.target); b != nil {
		h.granted(b, nil)
	}
}

// granted is called by the pool.
func (h *hub) granted(b *pool.Backend, err error) {
	if err != nil {
		h.failed(err)
		return
	}
	h.timer.Stop()
	h.bc = b.Owner.(*backendConn)
	h.bc.hub = h
	for _, p := range b.Conn.Params {
		if p.Name == "client_encoding" {
			h.encoding.Store(&p.Value)
		}
	}
	h.kick()
}

// failed refuses those who wait for the connection.
func (h *hub) failed(err error) {
	h.timer.Stop()
	h.lane.srv.log.Warn("clients that listen are pinned: there is no listening connection", logPool, h.lane.key.String(), logError, err)
	h.backOff()
	h.refuse(err)
}

// backOff has no connection opened for a while.
func (h *hub) backOff() {
	h.retryAt = h.lane.loop.Now().Add(h.retry)
	h.retry = min(2*h.retry, lastRetry)
}

// refuse tells all who wait that they wait in vain, and forgets everything.
func (h *hub) refuse(err error) {
	waiting := append(h.asked, h.next...)
	h.asked, h.next, h.busy, h.refused, h.held = nil, nil, false, "", nil
	h.heedSpeakers("")
	clear(h.channels)
	clear(h.ears)
	clear(h.on)
	clear(h.changed)
	for _, r := range waiting {
		r.ear.post(func() { r.done(err) })
	}
}

// ask sends a query: what has changed, or nothing, whose answer comes behind all that was committed before.
func (h *hub) ask() {
	var sql strings.Builder
	if !h.on[h.marker] {
		h.on[h.marker] = true
		h.voices = newChannel()
		sql.WriteString("LISTEN " + h.marker + "; LISTEN " + h.voices + ";")
	}
	for name := range h.changed {
		switch wanted := h.channels[name] != nil; {
		case wanted == h.on[name]:
			continue
		case wanted:
			sql.WriteString("LISTEN ")
		default:
			sql.WriteString("UNLISTEN ")
		}
		h.on[name] = !h.on[name]
		sql.WriteString(sessionstate.QuoteIdentifier(name) + ";")
		if !h.on[name] {
			delete(h.on, name)
		}
	}
	clear(h.changed)
	h.asked, h.next, h.busy = h.next, nil, true
	h.lane.loop.Start(&h.timer, answerTimeout, func() { h.lost(errListenAnswer) })
	msg := wire.AppendHeader(nil, wire.Query, sql.Len()+1)
	h.bc.conn.Write(append(append(msg, sql.String()...), 0))
}

// unused keeps the connection for a while.
func (h *hub) unused() {
	switch {
	case h.waiter.Waiting():
		h.timer.Stop()
		h.lane.pool.Cancel(&h.waiter)
	case h.bc == nil:
	case h.lane.srv.draining.Load():
		h.close()
	default:
		h.lane.loop.Start(&h.timer, listenIdle, h.close)
	}
}

// close closes the connection.
func (h *hub) close() {
	h.timer.Stop()
	if h.bc == nil {
		return
	}
	bc := h.bc
	h.bc, bc.hub = nil, nil
	h.refuse(errNoListener)
	bc.discard()
}

// retire ends the hub for good: its clients are told that they may miss something.
func (h *hub) retire() {
	if h.retired {
		return
	}
	h.retired = true
	if h.waiter.Waiting() {
		h.timer.Stop()
		h.lane.pool.Cancel(&h.waiter)
		h.refuse(errNoListener)
	}
	h.end(errors.New("the service login has changed"))
	h.lane.tenant.done(h.lane)
}

// lost deals with the end of the connection.
func (h *hub) lost(err error) {
	h.lane.srv.log.Error("listening connection lost, its clients are told", logPool, h.lane.key.String(), logError, err)
	h.backOff()
	h.end(err)
}

// end closes the connection and tells all who listen.
func (h *hub) end(err error) {
	h.tell()
	for _, sh := range h.lane.srv.shards {
		sh.loop.Post(func() {
			if e := sh.ears[h]; e != nil {
				e.lost(err)
			}
		})
	}
	h.close()
}
