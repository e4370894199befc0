package simulation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/auth/scram"
	"sluice/internal/memnet"
	"sluice/internal/wire"
)

// patience is how long a client waits for an answer. Everybody is answered, or told that the session is over, before.
const patience = 60 * time.Second

// client connects again and again, and works while there are steps left. It belongs to one goroutine.
type client struct {
	w    *world
	id   int
	rng  *rand.Rand
	runs int // connections so far

	// What follows is about the connection of the moment.
	life    *life
	who     login
	nc      *memnet.Conn
	fe      *pgproto3.Frontend
	read    frames
	pid     uint32
	key     []byte
	stamps  int
	dialled time.Time
	account
	conversation
}

func newClient(w *world, id int) *client { return &client{w: w, id: id, rng: w.rng(uint64(id))} }

// live connects and works until there is nothing more to do, or nobody to work for.
func (c *client) live() {
	for {
		<-time.After(between(c.rng, 0, 200*time.Millisecond))
		if !c.connect() {
			return
		}
		if c.login() {
			c.w.outcomes.add("login: in")
			c.session()
		}
		_ = c.nc.Close()
	}
}

// connect opens a connection. It reports false if nobody listens any more.
func (c *client) connect() bool {
	c.runs++
	c.who = c.draw()
	nc, err := c.w.network.DialFrom(context.Background(), c.who.from, portOf(c.who.mode))
	if err != nil {
		if !c.w.draining.Load() {
			c.w.violation("dial %s: %v", portOf(c.who.mode), err)
		}
		return false
	}
	c.nc, c.dialled, c.stamps, c.read = nc, time.Now(), 0, frames{}
	c.fe = pgproto3.NewFrontend(&pacedReader{c: c}, nc)
	c.life = &life{session: fmt.Sprintf("%dx%d", c.id, c.runs), addr: nc.LocalAddr().String(), login: c.who}
	c.account = newAccount()
	c.conversation = newConversation()
	return true
}

// draw decides who the client is this time.
func (c *client) draw() login {
	who := login{
		tenant: pick(c.rng, tenants()...), role: pick(c.rng, roles()...), database: pick(c.rng, databases()...),
		mode: pick(c.rng, modes()...), from: pick(c.rng, addresses()...),
		baseline: pick(c.rng, "a", "a", "a", "b"), application: pick(c.rng, "app1", "app2"),
	}
	if chance(c.rng, 30) {
		who.mode = "transaction"
	}
	switch c.rng.IntN(60) {
	case 0, 1:
		who.wrong = true
	case 2:
		who.role, who.wrong = unknownRole, true
	case 3:
		who.role = deniedRole
	case 4:
		who.from = deniedByProcess
	case 5:
		who.from = deniedByTenant
	case 6:
		who.database = unknownDatabase
	}
	return who
}

// welcome reports whether the client may be let in at all.
func (l login) welcome() bool {
	return !l.wrong && l.role != deniedRole && l.from != deniedByProcess && l.from != deniedByTenant && l.database != unknownDatabase
}

// login takes the client to ReadyForQuery. It reports false if that was refused, or the client has lost its patience.
func (c *client) login() bool {
	c.w.crowd.join(c.life)
	startup := wire.AppendStartup(nil, wire.Version30, []wire.Param{
		{Name: "user", Value: c.who.role + "." + c.who.tenant}, {Name: "database", Value: c.who.database},
		{Name: "application_name", Value: c.who.application}, {Name: "sim.mode", Value: c.who.mode},
		{Name: "sim.baseline", Value: c.who.baseline},
	})
	c.note("connects as %+v from %s", c.who, c.life.addr)
	if _, err := c.nc.Write(startup); err != nil {
		return false // refused already
	}
	exchange := scram.NewClient(c.proof, scram.ClientOptions{Mechanism: scram.SHA256})
	for {
		msg, err := c.receive()
		if err != nil {
			c.over(err)
			return false
		}
		if chance(c.rng, 0.3) {
			c.cut("in the middle of its login")
			return false
		}
		switch m := msg.(type) {
		case *pgproto3.ErrorResponse:
			c.refused(m)
			return false
		case *pgproto3.ReadyForQuery:
			c.greeted()
			return true
		default:
			if err := c.answer(exchange, m); err != nil {
				c.note("login: %v", err)
			}
		}
	}
}

// proof is what the client proves its password with.
func (c *client) proof(salt []byte, iterations int) (scram.Keys, error) {
	if keys, ok := c.w.rules.keys[c.who.role]; ok && !c.who.wrong {
		return keys, nil
	}
	return scram.DeriveKeys("wrong", salt, min(iterations, 2)) // what it says is wrong in any case
}

// answer deals with a message of a login.
func (c *client) answer(exchange *scram.Client, msg pgproto3.BackendMessage) error {
	switch m := msg.(type) {
	case *pgproto3.AuthenticationSASL:
		return c.write(&pgproto3.SASLInitialResponse{AuthMechanism: scram.SHA256, Data: exchange.First()})
	case *pgproto3.AuthenticationSASLContinue:
		final, err := exchange.Final(m.Data)
		if err != nil {
			return err
		}
		if c.who.mode == "session" {
			c.w.line.come(c.life.session, c.who.tenant, c.who.shelf())
			defer c.w.line.whole(c.life.session)
		}
		return c.write(&pgproto3.SASLResponse{Data: final})
	case *pgproto3.AuthenticationSASLFinal:
		return exchange.Verify(m.Data)
	case *pgproto3.AuthenticationOk:
		c.w.line.serve(c.life.session)
	case *pgproto3.ParameterStatus:
		c.parameter(m)
	case *pgproto3.BackendKeyData:
		c.pid, c.key = m.ProcessID, append([]byte(nil), m.SecretKey...)
	default:
		c.violation("a login was answered with %T", msg)
	}
	return nil
}

// greeted checks that the client was let in rightly.
func (c *client) greeted() {
	if !c.who.welcome() {
		c.violation("%+v was let in", c.who)
	}
	if at := c.w.rules.revokedSince(c.who); !at.IsZero() && at.Before(c.dialled) {
		c.violation("%+v was let in, though it may not log in since %s", c.who, at.Sub(c.w.began))
	}
	c.w.crowd.greet(c.life)
}

// refused checks that the client was refused rightly.
func (c *client) refused(m *pgproto3.ErrorResponse) {
	c.note("refused: %s %s %s", m.Code, m.Message, m.Detail)
	c.w.outcomes.add("login: refused with " + m.Code)
	c.w.crowd.update(c.life, func(l *life) { l.fatal = m.Code })
	switch m.Code {
	case "53300", "57P03", "57014": // caps and waits; Postgres or Sluice is down; the time was up
		<-time.After(between(c.rng, 0, time.Second))
	case "28P01":
		if !c.who.wrong {
			c.violation("the right password of %+v was refused", c.who)
		}
	case "28000":
		if c.who.welcome() && c.w.rules.revokedSince(c.who).IsZero() && time.Since(c.dialled) == 0 {
			c.violation("%+v was refused: %s", c.who, m.Message)
		}
	case "3D000":
		if c.who.database != unknownDatabase {
			c.violation("database %s was refused", c.who.database)
		}
	default:
		c.violation("%+v was refused with %s %s", c.who, m.Code, m.Message)
	}
}

// receive returns the next message. Its error is that of the connection; patience that has run out is a violation.
func (c *client) receive() (pgproto3.BackendMessage, error) {
	_ = c.nc.SetReadDeadline(time.Now().Add(patience))
	began := time.Now()
	msg, err := c.fe.Receive()
	if err != nil && time.Since(began) >= patience {
		c.violation("no answer within %s; owed: %v", patience, c.owed)
	}
	return msg, err
}

// write sends a message at once.
func (c *client) write(msg wire.Message) error {
	p, err := msg.Encode(nil)
	if err != nil {
		return err
	}
	_, err = c.nc.Write(p)
	return err
}

// cut ends the connection without a word.
func (c *client) cut(when string) {
	c.note("cuts its connection %s", when)
	c.w.outcomes.add("client: cut " + when)
	c.w.crowd.leave(c.life)
	if c.life.greeted && chance(c.rng, 50) {
		c.nc.Reset()
	} else {
		_ = c.nc.Close()
	}
	c.gone(nil)
}

func (c *client) note(format string, args ...any) { c.w.note("c"+c.life.session, format, args...) }

func (c *client) violation(format string, args ...any) {
	c.w.violation("client %s: %s", c.life.session, fmt.Sprintf(format, args...))
}

// nextStamp makes a stamp that nobody else has.
func (c *client) nextStamp() string {
	c.stamps++
	return stamp(c.life.session, c.stamps)
}

// pacedReader reads slowly if its client does.
type pacedReader struct{ c *client }

func (r *pacedReader) Read(p []byte) (int, error) {
	if pace := r.c.pace; pace > 0 {
		<-time.After(between(r.c.rng, 0, pace))
		p = p[:min(len(p), 8<<10)]
	}
	n, err := r.c.nc.Read(p)
	r.c.read.feed(p[:n])
	return n, err
}
