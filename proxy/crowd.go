package proxy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

const (
	// rateWindow is over how long limits.max_connection_rate_per_address is meant: so many seconds' worth may come at once.
	rateWindow = 10
	// maxTold is how many refusals may be on their way to one address at a time; beyond it is a flood, and nobody is told.
	maxTold = 5
	// maxCallers is how many addresses are known when one of which nobody is there is forgotten for each new one.
	maxCallers = 20000
	// drawn is how many of the waiting are looked at to find who has to go.
	drawn = 8
)

// errCrowdedOut is the end of a login that has made room for others.
var errCrowdedOut = errors.New("crowded out")

// crowd knows the connections that have not shown yet who they are. They cost their address: how many may wait at a time and
// how many may come in a second is bounded for each. When there are too many in all, one of the address that has most of
// them makes room, so that who only holds connections open keeps nobody else out.
type crowd struct {
	mu      sync.Mutex // guards below
	waiting []*admission
	callers map[netip.Addr]*caller // by netpolicy.Source
}

// caller is an address.
type caller struct {
	waiting int
	told    int       // refusals on their way
	debt    float64   // connections that came faster than they may
	at      time.Time // of debt
}

func newCrowd() *crowd { return &crowd{callers: make(map[netip.Addr]*caller)} }

// crowdLimits are the limits on one address; 0 means none.
type crowdLimits struct {
	waiting int // at a time
	rate    int // connections a second
}

// arrive takes the connection in, or returns why it is refused.
func (c *crowd) arrive(a *admission, l crowdLimits, now time.Time) *endError {
	c.mu.Lock()
	defer c.mu.Unlock()
	from := a.source()
	if from.IsValid() {
		who := c.caller(from)
		if l.rate > 0 {
			who.pay(l.rate, now)
			if who.debt+1 > float64(l.rate*rateWindow) {
				return &endError{reason: ReasonConnectionRateFromAddress, message: "too many connections",
					detail: fmt.Sprintf("limits.max_connection_rate_per_address is %d a second.", l.rate)}
			}
			who.debt++
		}
		if l.waiting > 0 && who.waiting >= l.waiting {
			return &endError{reason: ReasonTooManyClientsFromAddress, message: "too many clients already",
				detail: fmt.Sprintf("limits.max_clients_per_address is %d.", l.waiting)}
		}
		who.waiting++
	}
	a.place = len(c.waiting)
	a.waiting = true
	c.waiting = append(c.waiting, a)
	return nil
}

// leave lets the connection go its way. It reports false if it is not waiting: it has left before, or had to make room.
func (c *crowd) leave(a *admission) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.remove(a)
}

// makeRoom ends one of the waiting, one of the address that has most of them as far as a look at a few of them tells. It
// reports false if nobody waits.
func (c *crowd) makeRoom() bool {
	c.mu.Lock()
	if len(c.waiting) == 0 {
		c.mu.Unlock()
		return false
	}
	var chosen *admission
	most := 0
	for range drawn {
		a := c.waiting[rand.IntN(len(c.waiting))]
		n := 1
		if who := c.callers[a.source()]; who != nil {
			n = who.waiting
		}
		if n > most || n == most && a.id < chosen.id { // who has waited longer
			chosen, most = a, n
		}
	}
	c.remove(chosen)
	c.mu.Unlock()
	chosen.end(errCrowdedOut)
	return true
}

// remove is leave. c.mu is held.
func (c *crowd) remove(a *admission) bool {
	if !a.waiting {
		return false
	}
	a.waiting = false
	last := len(c.waiting) - 1
	c.waiting[a.place] = c.waiting[last]
	c.waiting[a.place].place = a.place
	c.waiting[last] = nil
	c.waiting = c.waiting[:last]
	if who := c.callers[a.source()]; who != nil {
		who.waiting--
		c.forget(a.source(), who)
	}
	return true
}

// tell reports whether the address may be told why it is refused, which ends with told.
func (c *crowd) tell(from netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !from.IsValid() {
		return true
	}
	who := c.caller(from)
	if who.told >= maxTold {
		return false
	}
	who.told++
	return true
}

func (c *crowd) told(from netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if who := c.callers[from]; who != nil {
		who.told--
		c.forget(from, who)
	}
}

// caller returns what is known of an address. c.mu is held.
func (c *crowd) caller(from netip.Addr) *caller {
	who := c.callers[from]
	if who == nil {
		if len(c.callers) >= maxCallers {
			c.forgetOne()
		}
		who = &caller{}
		c.callers[from] = who
	}
	return who
}

// forget drops an address of which nothing is to be remembered. c.mu is held.
func (c *crowd) forget(from netip.Addr, who *caller) {
	if who.idle() && who.debt == 0 {
		delete(c.callers, from)
	}
}

// forgetOne drops an address that is known only for having come too fast, if a look at a few finds one. c.mu is held.
func (c *crowd) forgetOne() {
	looks := 8 * drawn
	for from, who := range c.callers {
		if who.idle() {
			delete(c.callers, from)
			return
		}
		if looks--; looks == 0 {
			return
		}
	}
}

// idle reports whether nobody is there of the address.
func (who *caller) idle() bool { return who.waiting == 0 && who.told == 0 }

// pay takes off what time has made good.
func (who *caller) pay(rate int, now time.Time) {
	who.debt = max(0, who.debt-now.Sub(who.at).Seconds()*float64(rate))
	who.at = now
}
