package simulation

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/memnet"
	"sluice/internal/wire"
)

const (
	defaultZone  = "UTC"
	unasked      = "nobody has asked for this"
	bufferedMost = 8 << 10 // 8 KiB: what Postgres keeps back before it sends
)

// Errors that end a backend, beside those of its connection.
var (
	errKilled     = errors.New("killed")
	errTerminated = errors.New("terminated by the client")
)

// sqlError is an ERROR.
type sqlError struct{ code, message string }

func (e *sqlError) Error() string { return e.code + " " + e.message }

// death is a way to die.
type death uint32

const (
	deathFatal death = iota // as pg_terminate_backend does: with FATAL 57P01
	deathClose
	deathReset
	numDeaths
)

// message is a message of a client; its body is its own.
type message struct {
	typ  byte
	body []byte
}

// backend is one server process of a cluster. One goroutine reads (follow), so that what arrives is seen when it does,
// another works.
type backend struct {
	pg          *cluster
	nc          *memnet.Conn
	pid         uint32
	key         []byte
	rng         *rand.Rand // of the working goroutine
	cancelDelay time.Duration

	role, database, mode string

	inbox   inbox
	annoyed chan struct{} // holds a token when it is to say something unasked
	killed  chan struct{}
	dying   sync.Once
	death   death // valid when killed is closed
	gone    sync.Once

	mu          sync.Mutex    // guards below
	running     string        // stamp of what can be cancelled now; empty: nothing
	interrupted chan struct{} // holds a token when it is

	// What follows belongs to the working goroutine.
	out                           []byte
	owner                         ownership
	status                        byte
	pending                       []string // stamps to be committed with the transaction
	skipping                      bool
	statements                    map[string]statement
	portals                       map[string]portal
	zone, application             string
	startApplication              string
	reportedZone, reportedAppName string

	local bool   // zone is to the end of the transaction
	outer string // and this is it behind that
}

type portal struct {
	statement
	params [][]byte // nil is NULL
}

func newBackend(pg *cluster, nc *memnet.Conn, pid uint32) *backend {
	rng := pg.w.rng(streamBackends + uint64(pg.id)<<40 + uint64(pid))
	b := &backend{
		pg: pg, nc: nc, pid: pid, rng: rng, cancelDelay: between(rng, 0, 150*time.Millisecond),
		inbox: inbox{wake: make(chan struct{}, 1), ended: make(chan struct{})}, killed: make(chan struct{}),
		interrupted: make(chan struct{}, 1), annoyed: make(chan struct{}, 1), status: 'I', zone: defaultZone, reportedZone: defaultZone,
		statements: make(map[string]statement), portals: make(map[string]portal),
	}
	b.owner = ownership{w: pg.w, name: b.name()}
	pg.backends[pid] = b
	return b
}

func (b *backend) name() string { return b.pg.name + "/" + strconv.Itoa(int(b.pid)) }

// enter counts the backend.
func (b *backend) enter() {
	b.pg.w.census.enter(backendKeys(b.pg.name, b.database, b.role, b.mode))
	b.pg.w.note(b.name(), "forked for %s/%s (%s)", b.role, b.database, b.mode)
}

// leave does so no more: its connection has ended, on whichever side first.
func (b *backend) leave() {
	b.gone.Do(func() {
		b.pg.w.census.leave(backendKeys(b.pg.name, b.database, b.role, b.mode))
		b.pg.w.note(b.name(), "gone")
		b.pg.mu.Lock()
		defer b.pg.mu.Unlock()
		delete(b.pg.backends, b.pid)
	})
}

// kill has the backend die, whatever it does.
func (b *backend) kill(d death) {
	b.dying.Do(func() {
		b.pg.w.note(b.name(), "killed (%d)", d)
		b.death = d
		switch d {
		case deathClose:
			_ = b.nc.Close()
		case deathReset:
			b.nc.Reset()
		}
		close(b.killed)
	})
}

// interrupt cancels what runs.
func (b *backend) interrupt() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pg.w.note(b.name(), "cancel request, while %q runs", b.running)
	if b.running == "" {
		return
	}
	if session := sessionOf(b.running); !b.pg.w.mayCancel(session) {
		b.pg.w.violation("%s: %s was cancelled, and nobody has asked for that", b.name(), b.running)
	}
	select {
	case b.interrupted <- struct{}{}:
	default:
	}
}

// annoy has the backend say something that nobody has asked for, if it has nothing else to do.
func (b *backend) annoy() {
	select {
	case b.annoyed <- struct{}{}:
	default:
	}
}

// run works until the connection ends, and closes it.
func (b *backend) run() {
	b.reportedAppName = b.application
	var err error
	for err == nil {
		var m message
		if m, err = b.next(nil); err == nil {
			err = b.take(m)
		}
	}
	if errors.Is(err, errKilled) && b.death == deathFatal {
		_ = b.send(&pgproto3.ErrorResponse{
			Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "57P01", Message: "terminating connection due to administrator command",
		})
	}
	b.pg.w.note(b.name(), "ends: %v", err)
	_ = b.nc.Close()
	b.leave()
}

// next waits for a message, or for interrupted.
func (b *backend) next(interrupted <-chan struct{}) (message, error) {
	for {
		select {
		case <-b.killed:
			return message{}, errKilled
		default:
		}
		m, ok, err := b.inbox.pop()
		if ok || err != nil {
			return m, err
		}
		select {
		case <-b.inbox.wake:
		case <-b.killed:
		case <-b.annoyed:
			if err := b.send(&pgproto3.NoticeResponse{Severity: "LOG", Code: "00000", Message: unasked}); err != nil {
				return message{}, err
			}
		case <-interrupted:
			return message{}, &sqlError{"57014", "canceling statement due to user request"}
		}
	}
}

// pause waits, as Postgres does also when its client has gone. The error is errKilled.
func (b *backend) pause(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	select {
	case <-b.killed:
		return errKilled
	case <-time.After(d):
		return nil
	}
}

// work waits as a statement that runs does: it can be cancelled.
func (b *backend) work(stamp string, wait func(interrupted <-chan struct{}) error) error {
	b.mu.Lock()
	b.running = stamp
	select {
	case <-b.interrupted: // came too late for what ran before
	default:
	}
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.running = ""
		b.mu.Unlock()
	}()
	return wait(b.interrupted)
}

// put adds answers to what is to be sent.
func (b *backend) put(msgs ...wire.Message) error {
	for _, m := range msgs {
		var err error
		if b.out, err = m.Encode(b.out); err != nil {
			return err
		}
	}
	if len(b.out) >= bufferedMost {
		return b.flush()
	}
	return nil
}

func (b *backend) flush() error {
	out := b.out
	b.out = nil
	_, err := b.nc.Write(out)
	return err
}

// send sends at once.
func (b *backend) send(msgs ...wire.Message) error { return errors.Join(b.put(msgs...), b.flush()) }

// inbox is what has arrived and has not been looked at.
type inbox struct {
	wake  chan struct{} // holds a token when there is news
	ended chan struct{} // closed when nothing more will come

	mu   sync.Mutex // guards below
	msgs []message
	err  error
}

func (i *inbox) pop() (m message, ok bool, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.msgs) == 0 {
		return m, false, i.err
	}
	m = i.msgs[0]
	i.msgs = i.msgs[1:]
	return m, true, nil
}

func (i *inbox) push(m message, err error) {
	i.mu.Lock()
	if err != nil {
		i.err = err
	} else {
		i.msgs = append(i.msgs, m)
	}
	i.mu.Unlock()
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

// follow reads to the end of the connection.
func (b *backend) follow() {
	defer close(b.inbox.ended)
	defer b.leave()
	c := wire.NewConn(b.nc, wire.Client)
	for {
		typ, body, err := c.ReadMessage(maxMessage)
		if err != nil {
			b.inbox.push(message{}, err)
			return
		}
		m := message{typ, bytes.Clone(body)}
		if session := m.session(); session != "" {
			b.pg.w.line.serve(session)
		}
		b.inbox.push(m, nil)
	}
}

// session returns whose message that is, if it says so and needs a backend.
func (m message) session() string {
	switch m.typ {
	case wire.Query:
		text, _, _ := wire.CString(m.body)
		return sessionOf(parseStatement(string(text)).stamp)
	case wire.Bind:
		var bind pgproto3.Bind
		if bind.Decode(m.body) == nil && len(bind.Parameters) == 1 && bytes.HasPrefix(bind.Parameters[0], []byte("t")) {
			return sessionOf(string(bind.Parameters[0]))
		}
	}
	return ""
}
