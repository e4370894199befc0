package simulation

import (
	"math"
	"strings"
	"sync"
	"time"
)

// grace is how long a limit that was lowered may still be in the hands of what began before: a login that has read the
// old configuration, a backend that is being opened, and again and again while Postgres does not answer.
const grace = 6 * time.Second

// census counts what is limited, clients and backends, and knows the limits that are and were in force. A limit may be
// exceeded for no time at all, because what happens at one instant has no order, and by what was there before it was
// lowered, but never by something new.
type census struct {
	w *world

	mu     sync.Mutex // guards below
	gauges map[string]*gauge
	limits map[string][]limit
}

// limit is a limit with the time from which on it holds; 0 is none.
type limit struct {
	at time.Time
	n  int
}

// gauge is how many there are of something.
type gauge struct {
	n    int
	at   time.Time // of the last change
	high int       // the most at that instant
	over time.Time // since when there are too many; zero: there are not
}

func newCensus(w *world) *census {
	return &census{w: w, gauges: make(map[string]*gauge), limits: make(map[string][]limit)}
}

// What is counted: names of gauges and limits. Clients are counted twice: those that are logged in for sure, who must not
// be too many, and those that may be, who must be enough to refuse somebody.
const maybe = "maybe "

func clientKeys(who login) []string {
	tenant := "clients of " + who.tenant + " " + who.mode
	return []string{"clients", "clients from " + who.from, tenant, tenant + " as " + who.role, tenant + " in " + who.database}
}

func backendKeys(tenant, database, role, mode string) []string {
	return []string{"backends of " + tenant, poolName(tenant, database, role, mode)}
}

func poolName(tenant, database, role, mode string) string {
	return "pool " + strings.Join([]string{tenant, database, role, mode}, "/")
}

// limit puts a limit into force.
func (c *census) limit(key string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limits[key] = append(c.limits[key], limit{time.Now(), n})
}

// bounds returns the least and the most of the limits that were in force lately. c.mu is held.
func (c *census) bounds(key string, now time.Time) (least, most int) {
	least, most = math.MaxInt, 0
	all := c.limits[key]
	for i := len(all) - 1; i >= 0; i-- {
		n := all[i].n
		if n == 0 {
			n = math.MaxInt
		}
		least, most = min(least, n), max(most, n)
		if now.Sub(all[i].at) > grace {
			break
		}
	}
	if len(all) == 0 {
		return math.MaxInt, math.MaxInt
	}
	return least, most
}

// enter counts one more under each key.
func (c *census) enter(keys []string) { c.add(keys, 1) }

// leave counts one less under each key.
func (c *census) leave(keys []string) { c.add(keys, -1) }

func (c *census) add(keys []string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for _, key := range keys {
		g := c.gauge(key, now)
		g.n += n
		g.high = max(g.high, g.n)
		_, most := c.bounds(key, now)
		switch {
		case g.n > most && n > 0 && g.over.IsZero() && !strings.HasPrefix(key, maybe):
			g.over = now
		case g.n <= most:
			g.over = time.Time{}
		}
	}
}

// gauge returns the gauge as it is to be changed now. c.mu is held.
func (c *census) gauge(key string, now time.Time) *gauge {
	g := c.gauges[key]
	if g == nil {
		g = &gauge{}
		c.gauges[key] = g
	}
	if now.After(g.at) {
		g.at, g.high = now, g.n
	}
	c.judge(key, g, now)
	return g
}

// judge reports a limit that has been exceeded for some time. c.mu is held.
func (c *census) judge(key string, g *gauge, now time.Time) {
	if g.over.IsZero() || !now.After(g.over) {
		return
	}
	_, most := c.bounds(key, g.over)
	c.w.violation("%s: %d, limit %d, since %s", key, g.n, most, g.over.Sub(c.w.began))
	g.over = time.Time{}
}

// refused checks that a client which was refused because of the limit of key was refused rightly: it is counted itself.
func (c *census) refused(key, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	least, _ := c.bounds(key, now)
	if g := c.gauge(maybe+key, now); g.high-1 < least {
		c.w.violation("%s: a client was refused with %s, %d others at most, limit %d", key, reason, g.high-1, least)
	}
}

// settle checks that nothing is left. Of those that may be logged in, some may have been cut off unheard by the drain.
func (c *census) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, g := range c.gauges {
		c.judge(key, g, time.Now())
		if g.n != 0 && !strings.HasPrefix(key, maybe) {
			c.w.violation("%s: %d are left in the end", key, g.n)
		}
	}
}
