// Package proxy serves clients: it listens, admits, authenticates, leases, relays and drains.
//
// A client's life begins on a goroutine of its own (admit.go), where it may block; once logged in it is adopted by the
// loop of its pool (session.go) and its goroutine ends. The configuration is one immutable state behind an atomic
// pointer; a reload builds a whole new one first.
package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/auth/jwt"
	"sluice/internal/config"
	"sluice/internal/loop"
	"sluice/internal/metrics"
	"sluice/netpolicy"
	"sluice/pool"
)

// ErrServerClosed is what Serve returns after Shutdown or Close.
var ErrServerClosed = errors.New("server closed")

// Options is what a Server gets beside its configuration.
type Options struct {
	Log     *slog.Logger
	Level   *slog.LevelVar // set to log.level at each reload; may be nil
	Version string
	Loops   int // how many share the work; 0: one for each core

	// Where clients come from, and how Postgres and issuers of tokens are reached; nil: the system's network.
	Listen ListenFunc
	Dial   DialFunc
}

// ListenFunc opens a listener, as net.Listen does.
type ListenFunc func(network, address string) (net.Listener, error)

// DialFunc opens a connection, as (*net.Dialer).DialContext does.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Server is a running Sluice. Make one with New.
type Server struct {
	log     *slog.Logger
	level   *slog.LevelVar
	version string
	metrics *metrics.Metrics
	env     environment
	listen  ListenFunc
	began   time.Time

	listenUnix func(path string, mode fs.FileMode) (net.Listener, error)

	state   atomic.Pointer[state]
	shards  []*shard
	caps    *caps
	crowd   *crowd
	guard   *netpolicy.Guard
	cancels *cancels
	census  census
	moves   atomic.Uint64 // of sessions between parts of pools
	audit   *audit
	history *history
	records *records
	nextID  atomic.Uint64

	reminders reminders    // of certificates
	logins    atomic.Int64 // connections that caps does not count yet
	proving   atomic.Int64 // of these, those that have said who they are

	ctx      context.Context // ends when the server does
	cancel   context.CancelFunc
	workers  sync.WaitGroup // accept loops, logins and what runs in the background
	draining atomic.Bool
	serving  atomic.Bool
	closed   chan struct{}
	reloaded chan struct{} // holds a token while followBudgets has not seen the last reload
	rewound  chan struct{} // holds a token while followClock has not seen the last change of the policy

	mu        sync.Mutex // guards below; held over a reload, never on the path of a client
	listeners []*listener
	ended     bool
	unwatch   context.CancelFunc // ends the watch of certificates; nil: there is none

	changing sync.Mutex // guards keeper and issuers; held over a change of state, by a reload, the API or the clock; taken after mu
	keeper   *keeper
	issuers  map[*jwt.Keys]context.CancelFunc // whose keys are being fetched, with what ends that
}

// New compiles the configuration and opens the listeners. Nothing is served before Serve. The caller must call Close or
// Shutdown in the end.
//
// Errors name the key path, or the listener.
func New(cfg *config.Config, o Options) (*Server, error) {
	s := &Server{
		log: o.Log, level: o.Level, version: o.Version, began: time.Now(),
		caps: newCaps(), crowd: newCrowd(), guard: netpolicy.NewGuard(guardLimits(cfg.Bans)), cancels: newCancels(),
		closed: make(chan struct{}), reloaded: make(chan struct{}, 1),
		audit: newAudit(o.Log), history: newHistory(), rewound: make(chan struct{}, 1),
		issuers: make(map[*jwt.Keys]context.CancelFunc),
	}
	s.listen, s.listenUnix = listen, listenUnix
	if o.Listen != nil {
		s.listen, s.listenUnix = o.Listen, func(path string, _ fs.FileMode) (net.Listener, error) { return o.Listen("unix", path) }
	}
	s.env.dial, s.env.turnstile = o.Dial, newTurnstile()
	_, _ = rand.Read(s.env.mockKey[:]) // never fails
	st, opened, err := s.prepare(cfg)
	if err != nil {
		return nil, err
	}
	s.listeners = opened.all
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.metrics = metrics.New(source{s})
	kind := loop.Native
	if o.Listen != nil || o.Dial != nil {
		kind = loop.Portable // another network than the system's
	}
	loops := o.Loops
	if loops == 0 {
		loops = runtime.GOMAXPROCS(0)
	}
	for err == nil && len(s.shards) < loops {
		var sh *shard
		if sh, err = newShard(s, kind); err == nil {
			s.shards = append(s.shards, sh)
		}
	}
	for _, sh := range s.shards { // which know each other
		sh.start()
	}
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	s.use(st)
	_ = s.strike()
	s.workers.Go(s.followBudgets)
	s.workers.Go(s.followClock)
	s.workers.Go(s.trim)
	if s.records.dir != nil {
		s.workers.Go(s.keepRecords)
	}
	s.workers.Go(s.followCertificates)
	s.watchCertificates(st, nil)
	return s, nil
}

// prepare does what New can fail at: it reads what the API has changed, compiles, and opens files and listeners.
func (s *Server) prepare(cfg *config.Config) (*state, *openedListeners, error) {
	var err error
	if s.keeper, err = newKeeper(cfg.StateDir); err != nil {
		return nil, nil, err
	}
	sv, data, err := s.keeper.read()
	if err != nil {
		return nil, nil, err
	}
	s.keeper.seen = data
	s.records = newRecords(s.keeper.dir)
	if err := s.records.load(s.guard, s.history, time.Now()); err != nil {
		return nil, nil, err
	}
	env := s.env
	env.saved = sv
	st, err := compile(cfg, nil, env)
	if err != nil {
		return nil, nil, err
	}
	file, err := openAudit(cfg.Log.Audit)
	if err != nil {
		return nil, nil, err
	}
	s.audit.use(file)
	opened, err := s.openListeners(cfg, nil)
	if err != nil {
		s.audit.use(nil)
	}
	return st, opened, err
}

// Serve accepts clients until Shutdown or Close is called, and returns ErrServerClosed then.
func (s *Server) Serve() error {
	s.mu.Lock()
	if !s.ended {
		s.serving.Store(true)
		for _, ln := range s.listeners {
			s.accept(ln)
		}
	}
	s.mu.Unlock()
	<-s.closed
	return ErrServerClosed
}

// use makes st the state that counts, and has what lives take it over.
func (s *Server) use(st *state) {
	before := s.state.Swap(st)
	s.guard.SetLimits(guardLimits(st.cfg.Bans))
	s.followIssuers(st)
	s.records.changed()
	if s.level != nil {
		_ = s.level.UnmarshalText([]byte(st.cfg.Log.Level)) // validated with the configuration
	}
	for _, ts := range st.tenants {
		ts.observed.follow(ts.cfg.ObserveTransactionMode)
		if !ts.cfg.MaxBackends.Auto {
			ts.budget.SetMax(ts.cfg.MaxBackends.N)
		} else if ts.svc == nil {
			ts.budget.SetMax(0)
		}
		for _, l := range ts.all() {
			if ts.postgresName(l.key) != l.code {
				ts.drop(l)
				continue
			}
			l.loop.Post(func() { l.apply(ts.lane(l.key)) })
		}
		ts.retireHubs(ts.svc)
	}
	if before == nil {
		return
	}
	for name, old := range before.tenants {
		now := st.tenants[name]
		if old.svc != nil && (now == nil || now.svc != old.svc) {
			old.svc.close()
		}
		if now == nil {
			old.remove()
			old.retireHubs(nil)
		}
	}
	for _, sh := range s.shards {
		sh.loop.Post(sh.recheck)
	}
}

// Reload replaces the configuration, and what the API has changed by what the state file says: all of it, or nothing if an
// error is returned, which names what is wrong. Sessions that the new one denies end at their next free moment.
func (s *Server) Reload(cfg *config.Config) error { return s.ReloadBy(cfg, Author{Via: "reload"}) }

// ReloadBy is Reload, with who asks for it for the audit log.
func (s *Server) ReloadBy(cfg *config.Config, by Author) (err error) {
	defer func() { s.metrics.Reloaded(err) }()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.draining.Load() {
		return ErrServerClosed
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	before := s.state.Load()
	sv, data, err := s.keeper.read()
	if err != nil {
		return err
	}
	env := s.env
	env.saved = sv
	st, err := compile(cfg, before, env)
	if err != nil {
		return err
	}
	file, err := openAudit(cfg.Log.Audit)
	if err != nil {
		return err
	}
	opened, err := s.openListeners(cfg, s.listeners)
	if err != nil {
		if file != nil {
			_ = file.Close()
		}
		return err
	}
	st.swapCertificates() // nothing can go wrong any more
	s.keeper.seen = data
	s.audit.use(file)
	s.use(st)
	s.rewind()
	select {
	case s.reloaded <- struct{}{}:
	default:
	}
	s.listeners = opened.all
	if s.serving.Load() {
		for _, ln := range opened.fresh {
			s.accept(ln)
		}
	}
	for _, ln := range opened.gone {
		ln.close()
	}
	s.watchCertificates(st, before)
	s.log.Info("configuration reloaded")
	changed := !reflect.DeepEqual(policySpec(before.cfg, before.saved), policySpec(cfg, sv))
	s.audit.note(auditReload, append(by.attrs(), logChanged, changed)...)
	return nil
}

// ReloadFailed takes note of a reload that failed before it came to Reload: the configuration could not be loaded.
func (s *Server) ReloadFailed(err error) { s.metrics.Reloaded(err) }

// Metrics returns the handler of /metrics.
func (s *Server) Metrics() http.Handler { return s.metrics.Handler() }

// Draining reports whether the server is on its way to its end.
func (s *Server) Draining() bool { return s.draining.Load() }

// ListenerInfo is an open listener.
type ListenerInfo struct {
	Name    string `json:"name"`
	Mode    string `json:"mode"`
	Address string `json:"address"`
}

// Listeners returns what is open.
func (s *Server) Listeners() []ListenerInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	infos := []ListenerInfo{}
	for _, ln := range s.listeners {
		infos = append(infos, ListenerInfo{ln.cfg().Name, string(ln.cfg().Mode), ln.ln.Addr().String()})
	}
	return infos
}

// pick returns the shard with the fewest pools, of those on which ps, if not nil, has no part yet.
func (s *Server) pick(ps *parts) *shard {
	var best *shard
	for _, sh := range s.shards {
		if !ps.on(sh) && (best == nil || sh.pools.Load() < best.pools.Load()) {
			best = sh
		}
	}
	return best
}

// newLane makes a part of the pool with that key.
func (s *Server) newLane(ts *tenantState, key pool.Key, ps *parts) *lane {
	if now := s.state.Load().tenants[strings.ToLower(ts.cfg.Name)]; now != nil {
		ts = now // there has been a reload since the login began
	}
	return s.pick(ps).newLane(ps, pool.Params{
		Key: key, Budget: ts.budget, Gate: ts.gate, Retry: ts.cfg.Backend.ConnectTimeout, Pins: &ps.pins,
	}, &lane{tenant: ts.tenant, key: key, code: ts.postgresName(key), settings: ts.lane(key), speaking: ts.tenant.speaking(ts.postgresName(key))})
}

// newLane has l live on the shard, with a pool that works as p says. The tenant is locked.
func (sh *shard) newLane(ps *parts, p pool.Params, l *lane) *lane {
	sh.pools.Add(1)
	l.shard, l.baselines = sh, make(map[string]*baseline)
	p.Limits = l.settings.limits
	ps.lanes = append(ps.lanes, l)
	p.Limits.Size = ps.share(l, p.Limits.Size, 0)
	p.Dialer, p.Rejected, p.Post, p.Now, p.Opened, p.Retired = l.dialer(), rejected, l.loop.Post, l.loop.Now, l.opened, l.retired
	var err error
	if l.pool, err = pool.New(p); err != nil {
		panic(fmt.Sprintf("bug: %v", err)) // puddle refuses only sizes below 1
	}
	l.loop.Post(func() {
		l.lanes[l] = struct{}{}
		l.observe()
		l.heedVacancy()
	})
	return l
}

// apply takes new settings over. To be called on the loop.
func (l *lane) apply(n laneSettings) {
	changed := n.dialer != l.settings.dialer
	l.settings = n
	l.observe()
	l.learnCode()
	l.limit()
	if changed {
		l.pool.SetDialer(l.dialer())
	}
}
