package proxy

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/backend"
	"sluice/internal/metrics"
	"sluice/pool"
)

// source is what the metrics read at each scrape.
type source struct{ s *Server }

// clients returns how many clients there are, those that log in and have said as whom included.
func (s *Server) clients() int { return int(s.proving.Load()) + s.caps.count() }

// PoolStats implements metrics.Source.
func (src source) PoolStats() []pool.Stats { return src.s.poolStats() }

// Process implements metrics.Source.
func (src source) Process() metrics.Process {
	s := src.s
	st := s.state.Load()
	p := metrics.Process{
		Version: s.version, Clients: s.clients(), MaxClients: st.cfg.Limits.MaxClients, Draining: s.draining.Load(), Loops: len(s.shards),
		CertificateExpiry: st.tls.Expiry(), Moves: s.moves.Load(),
	}
	p.BackendCertificateExpiry = make(map[string]time.Time)
	for _, ts := range st.tenants {
		if end := ts.tls.Expiry(); !end.IsZero() {
			p.BackendCertificateExpiry[ts.cfg.Name] = end
		}
	}
	p.Bans = make(map[string]int)
	for _, b := range s.guard.Bans(time.Now()) {
		if !strings.HasPrefix(b.Tenant, "?") {
			p.Bans[b.Tenant]++
		}
	}
	for _, ts := range st.tenants {
		used, limit := ts.budget.Used()
		dials := ts.gate.Stats()
		p.Budgets = append(p.Budgets, metrics.Budget{
			Tenant: ts.cfg.Name, Used: used, Max: limit, DialLimit: dials.Limit, DialsWaiting: dials.Waiting,
		})
	}
	return p
}

// census counts what goes from one lane to another, so that whoever adds lanes up can tell that nothing did meanwhile.
type census struct{ begun, done atomic.Uint64 }

// censusTries is how often lanes are added up before numbers that may be off by what moved are good enough.
const censusTries = 10

// poolStats asks every loop for its pools, and adds up the parts of each.
func (s *Server) poolStats() (all []pool.Stats) {
	for range censusTries {
		begun, done := s.census.begun.Load(), s.census.done.Load()
		all = s.addParts()
		if begun == done && s.census.begun.Load() == begun {
			break
		}
	}
	return all
}

func (s *Server) addParts() []pool.Stats {
	var all []pool.Stats
	at := make(map[pool.Key]int)
	for _, part := range everyLane(s, (*lane).stats) {
		i, ok := at[part.Key]
		if !ok {
			at[part.Key] = len(all)
			all = append(all, part)
			continue
		}
		all[i].Add(&part)
	}
	for _, ts := range s.state.Load().tenants {
		ts.eachPast(func(key pool.Key, past *pool.Traffic) {
			if i, ok := at[key]; ok {
				all[i].Traffic.Add(past)
			}
		})
	}
	return all
}

// everyLane asks all lanes on their loops. The loops are asked side by side.
func everyLane[T any](s *Server, ask func(*lane) T) []T {
	per := make([][]T, len(s.shards))
	var wg sync.WaitGroup
	for i, sh := range s.shards {
		wg.Go(func() {
			sh.loop.Do(func() {
				for l := range sh.lanes {
					per[i] = append(per[i], ask(l))
				}
			})
		})
	}
	wg.Wait()
	return slices.Concat(per...)
}

// Totals is a summary for people who watch.
type Totals struct {
	Clients      int
	Backends     int
	Waiting      int
	Transactions uint64
}

// Totals returns the numbers of now.
func (s *Server) Totals() Totals {
	var t Totals
	for _, st := range s.poolStats() {
		t.Clients += st.Traffic.Clients
		t.Backends += st.Idle + st.Active
		t.Waiting += st.Waiting
		t.Transactions += st.Traffic.Transactions
	}
	return t
}

// Health states, worst last.
const (
	Healthy   = "healthy"
	Degraded  = "degraded"
	Unhealthy = "unhealthy"
)

// Health is whether the server can do its work, part by part.
type Health struct {
	State string
	Parts []HealthPart
}

// HealthPart is one thing that has to work.
type HealthPart struct {
	Name    string
	State   string
	Message string
	Latency time.Duration // of finding out
}

const (
	// healthTimeout bounds the whole question.
	healthTimeout = 3 * time.Second
	// slowLoop is how late a loop may be before it counts as degraded.
	slowLoop = 100 * time.Millisecond
)

// Health asks the loops and every tenant's Postgres. It blocks for at most a few seconds.
//
// A server none of whose tenants can be reached is unhealthy; one with some of them is degraded.
func (s *Server) Health(ctx context.Context) Health {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	st := s.state.Load()
	var parts []HealthPart
	var mu sync.Mutex
	var wg sync.WaitGroup
	reachable := 0
	for _, ts := range st.tenants {
		wg.Go(func() {
			part := ts.health(ctx)
			mu.Lock()
			defer mu.Unlock()
			parts = append(parts, part)
			if part.State != Unhealthy {
				reachable++
			}
		})
	}
	loops := s.loopHealth()
	wg.Wait()
	h := Health{State: Healthy, Parts: append([]HealthPart{loops}, parts...)}
	for _, p := range h.Parts {
		if p.State != Healthy {
			h.State = Degraded
		}
	}
	if reachable == 0 || loops.State == Unhealthy || s.draining.Load() {
		h.State = Unhealthy
	}
	return h
}

func (s *Server) loopHealth() HealthPart {
	began := time.Now()
	part := HealthPart{Name: "loops", State: Healthy}
	for _, sh := range s.shards {
		if !sh.loop.Do(func() {}) {
			part.State, part.Message = Unhealthy, "stopped"
		}
	}
	part.Latency = time.Since(began)
	if part.State == Healthy && part.Latency > slowLoop {
		part.State, part.Message = Degraded, "slow to answer"
	}
	return part
}

// health asks whether the tenant's Postgres takes connections: by the service login if there is one, else by the first
// step of a connection.
func (ts *tenantState) health(ctx context.Context) HealthPart {
	began := time.Now()
	part := HealthPart{Name: "postgres " + ts.cfg.Name, State: Healthy}
	var err error
	if ts.svc != nil {
		_, err = ts.svc.ask(ctx, backend.Limit{Rows: 1, Bytes: 64}, "SELECT 1")
	} else {
		err = ts.dialer.Probe(ctx)
	}
	part.Latency = time.Since(began)
	switch {
	case err == nil:
	case backend.Unreachable(err) || errors.Is(err, context.DeadlineExceeded):
		part.State, part.Message = Unhealthy, "not reachable"
	default:
		part.State, part.Message = Degraded, "reachable, but Sluice's own login fails"
	}
	return part
}
