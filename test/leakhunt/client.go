package leakhunt

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// keepJournal is how many lines are told of a client that has seen something it should not.
const keepJournal = 60

// looking is what a client does when it looks.
const looking = "looks"

// errDiffers ends a client that has seen something else than its twin. It has been told already.
var errDiffers = errors.New("the client and its twin differ")

// client is one of the random ones, with one session after another.
type client struct {
	w      *world
	tn     tenant
	index  int
	ctx    context.Context // the hunt's
	rng    *rand.Rand
	tokens chan struct{} // of those of its tenant that may pin

	p        pair
	serial   int      // of what it has made up
	sessions int      // it has had
	prepared []string // names of the statements that it has
	named    bool     // it came with an application_name
	doomed   bool     // something pins it to its end
	holds    bool     // a token
	asked    bool     // for the number of an earlier transaction
	journal  []string
}

func newClient(ctx context.Context, w *world, tn tenant, index int, tokens chan struct{}) *client {
	stream := uint64(index)
	for _, letter := range tn.name {
		stream = stream*31 + uint64(letter)
	}
	return &client{w: w, tn: tn, index: index, ctx: ctx, rng: rand.New(rand.NewPCG(w.seed, stream)), tokens: tokens}
}

// hunt plays session after session until the hunt is over.
func (c *client) hunt() {
	for c.ctx.Err() == nil {
		err := c.session()
		c.releaseToken()
		switch said, _ := errors.AsType[*pgconn.PgError](err); {
		case err == nil || c.ctx.Err() != nil || errors.Is(err, errDiffers):
		case said != nil && said.Code == "53300":
			c.w.count("ended with 53300")
		default:
			c.fail("lost its connection: %v", err)
		}
	}
}

// session connects with start-up parameters of its own, plays episodes, and leaves in one way or another.
func (c *client) session() (err error) {
	c.sessions++
	c.prepared, c.doomed, c.asked = nil, false, false
	params := make(map[string]string)
	if c.named = !c.tn.code && c.rng.IntN(2) == 0; c.named {
		params["application_name"] = c.mark()
	}
	for _, s := range settings {
		if s.startup && c.rng.IntN(8) == 0 {
			params[s.name] = s.value(c)
		}
	}
	c.note("connects with %v", params)
	if c.p, err = c.w.connect(c.ctx, c.tn, params); err != nil {
		return err
	}
	defer func() { c.p.close() }()
	if err := c.tx("TRUNCATE " + c.table() + " RESTART IDENTITY"); err != nil {
		return err
	}
	left := 5 + c.rng.IntN(60)
	for ; left > 0 && c.ctx.Err() == nil; left-- {
		if c.doomed {
			left = min(left, 4)
		}
		if err := c.episode(); err != nil {
			return err
		}
	}
	return c.leave()
}

// leave ends the session: politely, without a word, or in the middle of something.
func (c *client) leave() error {
	switch c.rng.IntN(4) {
	case 0:
		c.note("vanishes")
		c.p.vanish()
		c.w.count("vanished")
	case 1:
		for _, sql := range []string{"BEGIN", c.anySet(), "INSERT INTO " + c.table() + " (v) VALUES ('lost')", c.anySet()} {
			if err := c.run(simple(sql), sql); err != nil {
				return err
			}
		}
		c.note("vanishes in its transaction")
		c.p.vanish()
		c.w.count("vanished in a transaction")
	case 2:
		for _, sql := range []string{c.anySet(), "SELECT pg_catalog.pg_sleep(0.2)"} {
			c.p.sluice.Frontend().SendQuery(query(sql))
			c.note("sends %s", sql)
		}
		if err := c.p.sluice.Frontend().Flush(); err != nil {
			return err
		}
		c.note("vanishes at once")
		c.p.vanish()
		c.w.count("vanished with statements under way")
	}
	return nil
}

// tx runs the statements of one transaction, or of several, one after another, and looks when that is over.
func (c *client) tx(statements ...string) error {
	for _, sql := range statements {
		s := simple(sql)
		if !strings.Contains(sql, ";") && c.rng.IntN(3) == 0 {
			s = extended(sql)
		}
		if err := c.run(s, sql); err != nil {
			return err
		}
	}
	return c.look()
}

// look compares what the session sees with what the twin sees.
func (c *client) look() error {
	if c.p.sluice.TxStatus() != 'I' {
		return nil
	}
	c.w.count("compared")
	return c.run(look, looking)
}

// run takes a step on both connections and compares.
func (c *client) run(s step, about string) error {
	sluice, twin, err := c.p.both(c.ctx, s)
	if err != nil {
		return err
	}
	if about == looking {
		c.note("sees the same: %t", sluice == twin)
	} else {
		c.note("%s: %s", about, sluice)
	}
	if sluice != twin {
		c.fail("%s\n  through sluice: %s\n        directly: %s", about, sluice, twin)
		return errDiffers
	}
	return nil
}

func (c *client) note(format string, args ...any) {
	c.journal = append(c.journal, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
	if len(c.journal) > keepJournal {
		c.journal = c.journal[1:]
	}
}

// fail tells what has gone wrong, and ends the hunt.
func (c *client) fail(format string, args ...any) {
	c.w.t.Errorf("client %d of %s (%s), session %d: %s\n%s", c.index, c.tn.name, c.mark(), c.sessions, fmt.Sprintf(format, args...),
		strings.Join(c.journal, "\n"))
	c.w.stop(errDiffers)
}

// token reports whether the client may pin its backend now. It keeps the token until releaseToken.
func (c *client) token() bool {
	if c.holds {
		return true
	}
	select {
	case c.tokens <- struct{}{}:
		c.holds = true
	default:
	}
	return c.holds
}

func (c *client) releaseToken() {
	if c.holds {
		<-c.tokens
		c.holds = false
	}
}

func (c *client) table() string { return fmt.Sprintf("w%d.t", c.index) }

// mark is what the client's values begin with.
func (c *client) mark() string { return fmt.Sprintf("%s%d", c.tn.name, c.index) }

// next returns a number that the client has not used yet.
func (c *client) next() int {
	c.serial++
	return c.serial
}

// number is one that no other client of the hunt comes to.
func (c *client) number(from int) int { return from + c.index*1000 + c.next()%1000 }

// pick returns one of some.
func pick[T any](c *client, of ...T) T { return of[c.rng.IntN(len(of))] }
