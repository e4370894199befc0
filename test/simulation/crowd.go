package simulation

import (
	"sync"
	"time"
)

// login is what a client says when it connects, and what is to be expected of that.
type login struct {
	tenant, role, database, mode string
	baseline, application        string
	from                         string
	wrong                        bool // password
}

// shelf names those that one backend can serve.
func (l login) shelf() string {
	name := poolName(l.tenant, l.database, l.role, l.mode) + " " + l.baseline
	if l.mode == "session" {
		name += " " + l.application
	}
	return name
}

// life is one connection of a client, as the others need to know it. The crowd's mutex guards it.
type life struct {
	session   string // its name, part of its stamps
	addr      string
	login     login
	counted   bool // among the clients that may be logged in
	in        bool // among those that are
	greeted   bool // Sluice has said that it is ready
	left      bool // the client has said goodbye, or cut the connection
	torn      bool // the connection ended in the middle of a message to the client
	fatal     string
	cancelled time.Time // its last cancel request with its own key
	working   time.Time // since when it waits for answers; zero: it does not
	slow      time.Time // the end of the last work that took long
}

// crowd is all connections that ever were.
type crowd struct {
	w *world

	mu        sync.Mutex // guards below, and the lives
	bySession map[string]*life
	byAddr    map[string]*life
	order     []*life
}

func newCrowd(w *world) *crowd {
	return &crowd{w: w, bySession: make(map[string]*life), byAddr: make(map[string]*life)}
}

// join adds a life that is about to send its start-up packet.
func (c *crowd) join(l *life) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bySession[l.session], c.byAddr[l.addr] = l, l
	c.order = append(c.order, l)
	if c.w.ends.of(l.addr) != nil {
		return // refused before it has said a word
	}
	l.counted = true
	for _, key := range clientKeys(l.login) {
		c.w.census.enter([]string{maybe + key})
	}
}

// greet notes that Sluice has let the client in.
func (c *crowd) greet(l *life) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l.greeted = true
	if !l.left && l.counted {
		l.in = true
		c.w.census.enter(clientKeys(l.login))
	}
}

// leave notes that the client ends its connection now.
func (c *crowd) leave(l *life) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l.left = true
	c.out(l)
}

// out takes the client off those that are logged in for sure. c.mu is held.
func (c *crowd) out(l *life) {
	if l.in {
		l.in = false
		c.w.census.leave(clientKeys(l.login))
	}
}

// ended notes that Sluice says the session, or attempt, is over. It is asked in the midst of that.
func (c *crowd) ended(addr, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.byAddr[addr]
	if l == nil {
		return // a connection that sent no start-up packet
	}
	c.refused(l, reason)
	if reason == "pool_wait_timeout" {
		c.w.line.despair(l.session)
	}
	c.w.line.leave(l.session)
	c.out(l)
	c.uncount(l)
}

// uncount takes the client off those that may be logged in. c.mu is held.
func (c *crowd) uncount(l *life) {
	if !l.counted {
		return
	}
	l.counted = false
	for _, key := range clientKeys(l.login) {
		c.w.census.leave([]string{maybe + key})
	}
}

// refused checks a refusal because of a limit. c.mu is held.
func (c *crowd) refused(l *life, reason string) {
	keys := clientKeys(l.login)
	limits := map[string]string{
		"too_many_clients": keys[0], "too_many_clients_from_address": keys[1], "too_many_clients_for_tenant": keys[2],
		"too_many_clients_for_role": keys[3], "too_many_clients_for_database": keys[4],
	}
	if key, ok := limits[reason]; ok {
		c.w.census.refused(key, reason)
	}
}

// update changes a life.
func (c *crowd) update(l *life, change func(*life)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(l)
}

// of returns a copy of the life of a session.
func (c *crowd) of(session string) (life, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.bySession[session]
	if l == nil {
		return life{}, false
	}
	return *l, true
}

// all returns copies of all lives, the oldest first.
func (c *crowd) all() (lives []life) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.order {
		lives = append(lives, *l)
	}
	return lives
}
