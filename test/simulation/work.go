package simulation

import "time"

// unit is something that a client does, and waits for. It reports false if the session is over.
type unit struct {
	weight int
	do     func(*client) bool
	name   string
}

// units is what clients do between two transactions and inside of one.
func units() []unit {
	return []unit{
		{24, (*client).simple, "simple"},
		{24, (*client).prepared, "prepared"},
		{10, (*client).pipeline, "pipeline"},
		{6, (*client).dialogue, "dialogue"},
		{6, (*client).copyIn, "copy in"},
		{22, (*client).transaction, "transaction"},
		{14, (*client).cancelled, "cancelled"},
		{4, (*client).slowly, "slowly"},
		{2, (*client).keep, "keep"},
	}
}

// session works until the client has had enough, or is ended.
func (c *client) session() {
	for n := 2 + c.rng.IntN(25); n > 0 && c.w.violations.Load() == 0; n-- {
		<-time.After(between(c.rng, 0, 60*time.Millisecond))
		if chance(c.rng, 2) {
			<-time.After(between(c.rng, 0, 4*time.Second))
		}
		if c.w.steps.Add(-1) < 0 && !c.w.draining.Load() {
			break
		}
		if !c.step() {
			return
		}
	}
	c.leave()
}

// step does one unit, and checks that it could be done at all.
func (c *client) step() bool {
	all, total := units(), 0
	for _, u := range all {
		total += u.weight
	}
	n := c.rng.IntN(total)
	for _, u := range all {
		if n -= u.weight; n >= 0 {
			continue
		}
		began, free := time.Now(), c.block == 'I'
		c.note("unit %s", u.name)
		c.w.outcomes.add("unit: " + u.name)
		alive := u.do(c)
		c.rested()
		if alive && free {
			c.allowed(began)
		}
		return alive
	}
	return true
}

// allowed checks that a transaction that was begun then was one that the session might still begin.
func (c *client) allowed(began time.Time) {
	if at := c.w.rules.revokedSince(c.who); !at.IsZero() && at.Before(began) {
		c.violation("began a transaction at %s; it may not be here since %s", began.Sub(c.w.began), at.Sub(c.w.began))
	}
	if at := c.w.drainedAt(); !at.IsZero() && at.Before(began) {
		c.violation("began a transaction at %s; the drain began at %s", began.Sub(c.w.began), at.Sub(c.w.began))
	}
}

// some draws a statement without transaction commands.
func (c *client) some() statement {
	s := statement{verb: verbSelect, rows: 1, mark: "x"}
	switch c.rng.IntN(12) {
	case 0, 1, 2, 3:
		s = statement{verb: verbInsert}
	case 4:
		s = statement{verb: verbShow}
	case 5:
		s.rows = 2 + c.rng.IntN(20)
		s.width = c.rng.IntN(600)
	case 6:
		s.fails, s.rows = chance(c.rng, 50), c.rng.IntN(4)
	case 7:
		s.note = true
	case 8:
		s = statement{verb: verbCopyOut, mark: "out", rows: c.rng.IntN(30), width: c.rng.IntN(100)}
	}
	if chance(c.rng, 30) {
		s.sleep = between(c.rng, 0, 50*time.Millisecond)
	}
	return s
}

// simple sends a Query of one or more statements.
func (c *client) simple() bool {
	b := c.batch()
	statements := []statement{c.some()}
	for chance(c.rng, 20) {
		statements = append(statements, c.some())
	}
	b.query(statements...)
	b.transmit()
	return c.collect()
}

// shared draws one of the texts that all clients use; the stamp is its parameter.
func (c *client) shared() statement {
	switch c.rng.IntN(10) {
	case 0, 1, 2:
		return statement{verb: verbInsert, mark: pick(c.rng, "i1", "i2")}
	case 3:
		return statement{verb: verbSelect, mark: "fails", rows: 2, fails: true}
	case 4:
		return statement{verb: verbSelect, mark: "notes", rows: 1, note: true}
	case 5:
		return statement{verb: verbShow}
	case 6:
		return statement{verb: verbSelect, mark: "slow", rows: 1, sleep: 30 * time.Millisecond}
	}
	return statement{verb: verbSelect, mark: pick(c.rng, "s1", "s2", "s3", "s4"), rows: 1 + c.rng.IntN(2)}
}

// segment adds some work in the extended query protocol up to its Sync.
func (c *client) segment(b *batch) {
	for {
		c.prepareAndRun(b)
		if !chance(c.rng, 35) {
			break
		}
	}
	if name := c.anyName(); name != "" {
		switch c.rng.IntN(25) {
		case 0:
			b.parseBroken(name)
		case 1:
			b.describe(name)
		case 2:
			b.closeName(name)
		}
	}
	b.sync()
}

// anyName draws a name of a statement: none, or one that looks like Sluice's own, or another.
func (c *client) anyName() string {
	return pick(c.rng, "p1", "p2", "p3", "sluice_1", "", "", "")
}

// prepareAndRun adds a statement, named or not, prepared now or long ago, and sometimes not at all or twice.
func (c *client) prepareAndRun(b *batch) {
	name := c.anyName()
	s := c.shared()
	known := c.names[name]
	switch {
	case name == "", known.verb == "" && !chance(c.rng, 4):
		b.parse(name, s)
	case chance(c.rng, 3):
		b.parse(name, s) // the name may be taken
	case chance(c.rng, 10):
		b.closeName(name)
		b.parse(name, s)
	default:
		s = known
	}
	if chance(c.rng, 15) {
		b.describe(name)
	}
	b.run(name, s)
}

func (c *client) prepared() bool {
	b := c.batch()
	c.segment(b)
	b.transmit()
	return c.collect()
}

// pipeline sends several requests before it reads the first answer.
func (c *client) pipeline() bool {
	b := c.batch()
	for range 2 + c.rng.IntN(4) {
		if chance(c.rng, 30) {
			b.query(c.some())
		} else {
			c.segment(b)
		}
	}
	b.transmit()
	return c.collect()
}

// dialogue reads answers before it sends the Sync.
func (c *client) dialogue() bool {
	b := c.batch()
	c.prepareAndRun(b)
	b.flush()
	b.transmit()
	if !c.collect() {
		return false
	}
	<-time.After(between(c.rng, 0, 20*time.Millisecond))
	if chance(c.rng, 10) {
		c.cut("before its Sync")
		return false
	}
	b = c.batch()
	b.sync()
	b.transmit()
	return c.collect()
}

// copyIn sends a COPY with its data, waiting to be asked for it or not.
func (c *client) copyIn() bool {
	s := statement{verb: verbCopyIn, mark: "in", rows: c.rng.IntN(40), width: c.rng.IntN(200)}
	fail := chance(c.rng, 15)
	b := c.batch()
	b.query(s)
	s = c.owed[len(c.owed)-1].statements[0]
	if chance(c.rng, 30) {
		b.copyData(s, fail)
		b.transmit()
		return c.collect()
	}
	b.transmit()
	c.copying = func() error {
		<-time.After(between(c.rng, 0, 20*time.Millisecond))
		data := c.batch()
		data.copyData(s, fail)
		c.writeAll(data.bytes)
		return nil
	}
	return c.collect()
}

// transaction begins a block, or ends the one that is open.
func (c *client) transaction() bool {
	s := statement{verb: verbBegin}
	if c.block != 'I' {
		s.verb = verbCommit
		if c.block == 'E' || chance(c.rng, 20) {
			s.verb = pick(c.rng, verbRollback, verbRollback, verbCommit)
		}
	}
	b := c.batch()
	if chance(c.rng, 50) {
		b.query(s)
	} else {
		b.parse("", s)
		b.run("", s)
		b.sync()
	}
	if s.verb == verbBegin && chance(c.rng, 30) { // the whole block at once
		c.segment(b)
		b.query(statement{verb: verbInsert})
	}
	b.transmit()
	return c.collect()
}

// slowly reads a long answer slowly.
func (c *client) slowly() bool {
	c.pace = between(c.rng, time.Millisecond, 20*time.Millisecond)
	defer func() { c.pace = 0 }()
	b := c.batch()
	b.query(statement{verb: verbSelect, mark: "long", rows: 50 + c.rng.IntN(100), width: 2000})
	b.transmit()
	return c.collect()
}

// keep changes the session, so that a client of the transaction port takes that with it from backend to backend, or is tied
// to one.
func (c *client) keep() bool {
	if c.block != 'I' {
		return true
	}
	c.pinned = true
	b := c.batch()
	b.query(statement{verb: verbSet, zone: pick(c.rng, held+c.life.session, "Zone/"+c.life.session, "Zone/east", "Zone/west")})
	b.transmit()
	return c.collect()
}

// cancelled runs something, and cancels it, or what comes after it, or nothing.
func (c *client) cancelled() bool {
	done := make(chan struct{})
	request := c.request()
	go func() {
		defer close(done)
		request()
	}()
	b := c.batch()
	s := statement{verb: verbSelect, rows: 1, mark: "cancelled", sleep: between(c.rng, 0, 200*time.Millisecond)}
	if chance(c.rng, 50) {
		s.verb = verbInsert
	}
	if chance(c.rng, 50) {
		b.query(s)
	} else {
		b.parse("", s)
		b.run("", s)
		b.sync()
	}
	b.transmit()
	alive := c.collect()
	if alive && chance(c.rng, 50) { // before the request is answered
		c.rested()
		alive = c.simple()
	}
	<-done
	return alive
}
