package proxy

import (
	"sync"
	"time"
)

// autoEvery is how often Postgres is asked how many backends it has left.
const autoEvery = 10 * time.Second

// followBudgets keeps the budgets of tenants with max_backends: auto at what Postgres has left. It asks at the start, every
// autoEvery, and after a reload.
func (s *Server) followBudgets() {
	followed := make(map[*tenant]bool) // whose limit comes from an answer
	for {
		s.askBudgets(followed)
		select {
		case <-s.ctx.Done():
			return
		case <-s.reloaded:
		case <-time.After(autoEvery):
		}
	}
}

// askBudgets asks for every tenant, side by side: one whose Postgres is silent does not hold up the others.
func (s *Server) askBudgets(followed map[*tenant]bool) {
	asked := make(map[*tenant]bool)
	var mu sync.Mutex // guards asked
	var wg sync.WaitGroup
	for _, ts := range s.state.Load().tenants {
		if !ts.cfg.MaxBackends.Auto || ts.svc == nil {
			continue
		}
		before := followed[ts.tenant]
		wg.Go(func() {
			answered := s.followBudget(ts, before)
			mu.Lock()
			defer mu.Unlock()
			asked[ts.tenant] = answered || before
		})
	}
	wg.Wait()
	clear(followed)
	for t, answered := range asked {
		followed[t] = answered
	}
}

// followBudget asks once, and reports whether there was an answer. What smooth says to smooth is taken over by half of the
// difference, so that a storm of other clients does not starve us.
func (s *Server) followBudget(ts *tenantState, smooth bool) bool {
	used, before := ts.budget.Used()
	left, err := ts.svc.left(s.ctx, used)
	if err != nil {
		if s.ctx.Err() == nil {
			s.log.Warn("max_backends: auto could not ask", logTenant, ts.name, logError, err)
		}
		return false
	}
	if smooth {
		left = halfway(before, left)
	}
	if left != before {
		ts.budget.SetMax(left)
		s.log.Debug("max_backends changed", logTenant, ts.name, "max_backends", left)
	}
	return true
}

// halfway returns the middle between two numbers, rounded so that repeating it arrives at the second.
func halfway(from, to int) int {
	if from < to {
		return (from + to + 1) / 2
	}
	return (from + to) / 2
}
