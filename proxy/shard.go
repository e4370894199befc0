package proxy

import (
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/backend"
	"sluice/internal/bag"
	"sluice/internal/loop"
	"sluice/internal/relay"
	"sluice/pool"
)

// sweepEvery is how often a shard looks for backends that are too old or idle, and for pools that nobody uses.
const sweepEvery = time.Second

// shard is a loop with what lives on it. Everything in it is touched on the loop only.
type shard struct {
	loop  *loop.Loop
	srv   *Server
	done  sync.WaitGroup // the loop's goroutine
	sweep loop.Timer
	pools atomic.Int64
	heat  heat

	lanes    map[*lane]struct{}
	sessions bag.Bag[*session]
	ears     map[*hub]*ear
	turns    []*turn // that no session has

	// Lent for one turn.
	toBackend, toClient relay.Out
}

func newShard(srv *Server, kind loop.Kind) (*shard, error) {
	sh := &shard{srv: srv, lanes: make(map[*lane]struct{}), ears: make(map[*hub]*ear)}
	var err error
	if sh.loop, err = loop.New(kind, sh.panicked); err != nil {
		return nil, err
	}
	sh.loop.Post(sh.sweepLanes)
	return sh, nil
}

// start runs the loop until it is stopped.
func (sh *shard) start() { sh.done.Go(sh.loop.Run) }

// panicked is what happens after a panic that is no session's: it is logged, and the loop lives on.
func (sh *shard) panicked(v any, stack []byte) {
	sh.srv.metrics.Panicked()
	sh.srv.log.Error("panic on a loop", logPanic, v, logStack, string(stack))
}

func (sh *shard) sweepLanes() {
	sh.loop.Start(&sh.sweep, sweepEvery, sh.sweepLanes)
	for l := range sh.lanes {
		l.pool.Sweep()
		l.sweepCode()
		l.sweepParts()
		l.tryRemove()
	}
	sh.feel()
}

// lane is a pool with what the proxy keeps beside it on the pool's loop.
type lane struct {
	*shard
	tenant *tenant
	key    pool.Key
	code   string // the database's name in Postgres, by which its code is known; key has what clients call it
	pool   *pool.Pool

	speaking *atomic.Pointer[string] // where the channel stands on which backends say who speaks, see speakers

	// What logins may read anywhere, written on the loop.
	greetings sync.Map                 // []wire.Param that clients are greeted with, by key of the baseline
	shared    sync.Map                 // *destination of all sessions, by listener
	cred      atomic.Pointer[[32]byte] // fingerprint of the credential of the last login

	// Guarded by tenant.mu.
	refs    int  // sessions and logins that use the lane
	granted int  // backends that it may have, or still has, of those of all parts of the pool
	leaving bool // it is given up: its sessions go to other parts of the pool

	// Touched on the loop only.
	settings  laneSettings
	baselines map[string]*baseline
	traffic   pool.Traffic
	counters  relay.Counters
	observer  relay.Observer
	target    *backend.Target // of the last login

	learnt    code                  // what was known last of the database's code
	behind    relay.Behind          // the code of the database
	named     map[uint64]struct{}   // fingerprints of statements whose surprises have been logged
	codeStale bool                  // the schema has changed since the code was last read
	reading   bool                  // the code is being read
	sequences bool                  // a client has asked for currval or lastval
	vacancies map[*session]*vacancy // that sessions need, which have a backend

	others   []*lane // the other parts of the pool, see spread.go
	inviting bool    // a waiter of another part has been asked to come
	seeking  bool    // a waiter is about to go to another part
	dropped  bool    // clients call something else by the database's name now
	before   uint64  // transactions at the last sweep
	recent   uint64  // transactions between the last two sweeps
	cold     int     // sweeps for which the parts have had little to do

	pinsSeen  map[pinSeen]struct{} // that were logged
	explained explanation          // the last one
	reported  time.Time            // when it was logged last who holds the backends
}

// destination returns d, or one that is equal: the same for all sessions of the lane that come from one listener.
func (l *lane) destination(d *destination) *destination {
	shared, _ := l.shared.LoadOrStore(d.listener, d)
	return shared.(*destination)
}

// tryRemove forgets a lane that nobody uses and that has no backends.
func (l *lane) tryRemove() {
	s := l.pool.Stats()
	if s.Idle+s.Active+s.Login+s.Closing > 0 {
		return
	}
	l.srv.census.begun.Add(1)
	defer l.srv.census.done.Add(1)
	if !l.tenant.forget(l, l.stats().Traffic) {
		return
	}
	l.reportObserved()
	l.pool.Close(func() {})
	delete(l.lanes, l)
	l.pools.Add(-1)
}

// recheck holds the sessions against a new policy: those that it denies end at their next free moment. The others get
// its limits with their lane.
func (sh *shard) recheck() {
	for s := range sh.sessions.All() {
		s.checkPolicy()
	}
}

// stats returns what is known of the lane now. To be called on the loop.
func (l *lane) stats() pool.Stats {
	s := l.pool.Stats()
	s.Limits = l.settings.limits // of all parts
	s.Traffic = l.traffic.Clone()
	c := &l.counters
	s.Traffic.Transactions, s.Traffic.Queries = c.Transactions, c.Queries
	s.Traffic.ClientParses, s.Traffic.BackendParses, s.Traffic.Binds = c.ClientParses, c.BackendParses, c.Binds
	s.Traffic.Questions, s.Traffic.QuestionsFailed, s.Traffic.Carried = c.Questions, c.QuestionsFailed, c.Carried
	s.Traffic.LeaksPrevented = c.LeaksPrevented
	s.Traffic.Errors = make(map[string]uint64, len(c.Errors))
	for class, n := range c.Errors {
		s.Traffic.Errors[class] = n
	}
	s.Traffic.PinnedClients, s.Traffic.PinnedTime = l.pins()
	s.Traffic.MaxClients = l.settings.maxClients
	return s
}
