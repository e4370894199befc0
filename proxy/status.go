package proxy

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"sluice/pool"
)

// Status is what /status shows.
type Status struct {
	Version   string         `json:"version"`
	Uptime    float64        `json:"uptime_seconds"`
	Draining  bool           `json:"draining"`
	Clients   int            `json:"clients"`
	Listeners []ListenerInfo `json:"listeners"`
	Tenants   []TenantStatus `json:"tenants"`
}

// TenantStatus is one tenant's part of Status.
type TenantStatus struct {
	Name        string       `json:"name"`
	Backends    int          `json:"backends"`
	MaxBackends int          `json:"max_backends"` // 0: no limit but the pools'
	Dials       DialStatus   `json:"dials"`
	Pools       []PoolStatus `json:"pools"`
}

// DialStatus is how a tenant's backends are opened.
type DialStatus struct {
	Limit   int `json:"limit"` // at a time; follows what Postgres bears
	Opening int `json:"opening"`
	Waiting int `json:"waiting"`
}

// PoolStatus is one pool's.
type PoolStatus struct {
	Database     string            `json:"database"`
	Role         string            `json:"role"`
	Mode         string            `json:"mode"`
	Clients      int               `json:"clients"`
	Waiting      int               `json:"waiting"`
	OldestWait   float64           `json:"oldest_wait_seconds"`
	Backends     BackendStatus     `json:"backends"`
	PoolSize     int               `json:"pool_size"`
	MaxClients   int               `json:"max_clients"`
	Transactions uint64            `json:"transactions"`
	Queries      uint64            `json:"queries"`
	Pins         map[string]uint64 `json:"pins,omitempty"`
	Pinned       []Pinned          `json:"pinned,omitempty"` // those that have been so longest
	Ended        map[string]uint64 `json:"sessions_ended,omitempty"`
	Holders      []Holder          `json:"longest_holders,omitempty"`
}

// BackendStatus counts a pool's backends by state.
type BackendStatus struct {
	Active            int  `json:"active"`              // held by a session
	IdleInTransaction int  `json:"idle_in_transaction"` // of these
	Pinned            int  `json:"pinned"`              // of the active ones
	Idle              int  `json:"idle"`
	Login             int  `json:"login"`
	Closing           int  `json:"closing"`
	NoneLeft          bool `json:"max_backends_used_up"` // the pool waits for one of max_backends
}

// Status returns what is known of the server now: tenants in the order of the configuration, pools in that of their names.
func (s *Server) Status() Status {
	out := Status{
		Version: s.version, Uptime: time.Since(s.began).Seconds(), Draining: s.draining.Load(),
		Clients: s.clients(), Listeners: s.Listeners(), Tenants: []TenantStatus{},
	}
	pools := s.poolStats()
	slices.SortFunc(pools, func(x, y pool.Stats) int { return cmp.Compare(x.Key.String(), y.Key.String()) })
	held := make(map[pool.Key]laneHolders)
	for _, part := range everyLane(s, (*lane).held) {
		all := held[part.key]
		all.holders, all.pinned = append(all.holders, part.holders...), append(all.pinned, part.pinned...)
		held[part.key] = all
	}
	state := s.state.Load()
	for _, t := range state.cfg.Tenants {
		ts := TenantStatus{Name: t.Name, Pools: []PoolStatus{}}
		if live := state.tenants[strings.ToLower(t.Name)]; live != nil {
			ts.Backends, ts.MaxBackends = live.budget.Used()
			ts.Dials = DialStatus(live.gate.Stats())
		}
		for _, p := range pools {
			if p.Key.Tenant == t.Name {
				ts.Pools = append(ts.Pools, poolStatus(&p, held[p.Key]))
			}
		}
		out.Tenants = append(out.Tenants, ts)
	}
	return out
}

// laneHolders are the holders of a lane's backends.
type laneHolders struct {
	key     pool.Key
	holders []Holder // the longest
	pinned  []Pinned
}

// held returns who holds the lane's backends. To be called on the loop.
func (l *lane) held() laneHolders { return laneHolders{l.key, longest(l.holders()), l.shownPinned()} }

// poolStatus returns what is shown of a pool.
func poolStatus(p *pool.Stats, parts laneHolders) PoolStatus {
	return PoolStatus{
		Database: p.Key.Database, Role: p.Key.Role, Mode: p.Key.Mode,
		Clients: p.Traffic.Clients, Waiting: p.Waiting, OldestWait: p.OldestWait.Seconds(),
		Backends: BackendStatus{
			Active: p.Active, IdleInTransaction: p.Traffic.InBlock, Pinned: p.Pinned, Idle: p.Idle, Login: p.Login,
			Closing: p.Closing, NoneLeft: p.Short,
		},
		PoolSize: p.Limits.Size, MaxClients: p.Traffic.MaxClients,
		Transactions: p.Traffic.Transactions, Queries: p.Traffic.Queries, Pins: p.Traffic.Pins, Ended: p.Traffic.Ended,
		Pinned: longestPinned(parts.pinned), Holders: longestHolders(parts.holders),
	}
}
