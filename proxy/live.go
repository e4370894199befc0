package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"sluice/auth"
	"sluice/internal/backend"
	"sluice/internal/config"
	"sluice/pool"
)

// Capacity is what a tenant's pools can ask of its Postgres at worst, beside what Postgres has.
type Capacity struct {
	Tenant string

	Pools       []PoolSize // of every database and role that is listed, in every mode that listeners have, and what listens for clients
	Further     []PoolSize // what each database or role more that is let in may add, one for each mode; none: no others are
	MaxBackends int        // 0: no number is set
	Auto        bool       // max_backends follows Postgres
	Own         []OwnConnections

	Postgres Room
	// Err is why Postgres could not be asked; ErrNoService if it is there, but Sluice has no login of its own.
	Err error
}

// PoolSize is how many backends one pool may have. An empty Database or Role is any one.
type PoolSize struct {
	Database, Role, Mode string
	Size                 int
}

// Listens reports whether it is the pool of one that listens to a database for all clients of the transaction port.
func (p PoolSize) Listens() bool { return p.Mode == modeListen }

// OwnConnections are those, beside max_backends, over which Sluice asks for itself.
type OwnConnections struct {
	For   string // what is asked, in words
	Count int    // at most, at a time
}

// Room is what a Postgres has for Sluice.
type Room struct {
	Version        string
	MaxConnections int
	Reserved       int // for superusers and pg_use_reserved_connections
	Others         int // connections that are open, those of a running Sluice included
}

// Left returns how many connections Sluice can have.
func (r Room) Left() int { return max(0, r.MaxConnections-r.Reserved-r.Others) }

// ErrNoService is the answer for a tenant without service.role.
var ErrNoService = errors.New("no service.role: max_connections cannot be asked")

// roomQuery asks for Room; the connection that asks does not count.
const roomQuery = `SELECT pg_catalog.current_setting('server_version'), pg_catalog.current_setting('max_connections'),` +
	` (pg_catalog.current_setting('superuser_reserved_connections')::pg_catalog.int4` +
	` OPERATOR(pg_catalog.+) COALESCE(pg_catalog.current_setting('reserved_connections', true), '0')::pg_catalog.int4)::pg_catalog.text,` +
	` (SELECT (pg_catalog.sum(numbackends) OPERATOR(pg_catalog.-) 1)::pg_catalog.text FROM pg_catalog.pg_stat_database)`

// Worst returns how many backends the listed pools can have together, max_backends left aside.
func (c *Capacity) Worst() int {
	n := 0
	for _, p := range c.Pools {
		n += p.Size
	}
	return n
}

// Open reports whether databases or roles that are not listed can make it more than Worst.
func (c *Capacity) Open() bool { return len(c.Further) > 0 }

// Beside returns how many connections Sluice can have beside max_backends.
func (c *Capacity) Beside() int {
	n := 0
	for _, o := range c.Own {
		n += o.Count
	}
	return n
}

// Certain returns how many connections the tenant can come to have for certain, if its clients ask for them.
func (c *Capacity) Certain() int {
	if c.MaxBackends > 0 {
		return min(c.Worst(), c.MaxBackends) + c.Beside()
	}
	return c.Worst() + c.Beside()
}

// Fits reports whether Postgres has room for what Certain says, or max_backends: auto sees to it. It is true if Postgres
// could not be asked.
func (c *Capacity) Fits() bool { return c.Err != nil || c.Auto || c.Certain() <= c.Postgres.Left() }

// Unbounded reports whether it fits, but databases and roles that are not listed can make it more than Postgres has left.
func (c *Capacity) Unbounded() bool {
	return c.Err == nil && !c.Auto && c.Fits() && c.Open() && (c.MaxBackends == 0 || c.MaxBackends+c.Beside() > c.Postgres.Left())
}

// Capacities asks every tenant's Postgres what it has, with the service login, and adds up what the pools of cfg can ask of
// it. It opens no listener. It blocks until all have answered, for some seconds at most, or ctx is done.
//
// Errors: those of Check, joined. What concerns one Postgres is in its Capacity.
func Capacities(ctx context.Context, cfg *config.Config) ([]Capacity, error) {
	sites, err := Sites(cfg)
	if err != nil {
		return nil, err
	}
	all := make([]Capacity, len(sites))
	for i, s := range sites {
		all[i] = s.Capacity(ctx)
		s.Close()
	}
	return all, nil
}

// capacity adds up the tenant's pools.
func (ts *tenantState) capacity(listeners []config.Listener) Capacity {
	t := ts.cfg
	c := Capacity{Tenant: t.Name, Auto: t.MaxBackends.Auto && ts.svc != nil}
	if !t.MaxBackends.Auto {
		c.MaxBackends = t.MaxBackends.N
	}
	databases, roles := []string{}, []string{}
	for _, d := range t.Databases {
		databases = append(databases, d.Name)
	}
	for _, r := range t.Roles {
		roles = append(roles, r.Name)
	}
	if len(databases) == 0 && t.OtherDatabases == config.Allow {
		databases = []string{""}
	}
	if len(roles) == 0 && t.OtherRoles == config.Allow {
		roles = []string{""}
	}
	for _, mode := range ts.modes(listeners) {
		size := func(database, role string) PoolSize {
			key := pool.Key{Tenant: t.Name, Database: database, Role: role, Mode: mode}
			return PoolSize{Database: database, Role: role, Mode: mode, Size: ts.lane(key).limits.Size}
		}
		for _, database := range databases {
			for _, role := range roles {
				if r := ts.roles[role]; r == nil || len(r.Modes) == 0 || slices.Contains(r.Modes, config.Mode(mode)) {
					c.Pools = append(c.Pools, size(database, role))
				}
			}
		}
		if t.OtherDatabases == config.Allow || t.OtherRoles == config.Allow {
			c.Further = append(c.Further, size("", ""))
		}
	}
	ts.countOwn(&c, databases, listeners)
	return c
}

// countOwn adds the connections that serve no client's statements: those that listen, which count among the backends, and
// those beside them.
func (ts *tenantState) countOwn(c *Capacity, databases []string, listeners []config.Listener) {
	t := ts.cfg
	pooled := slices.Contains(ts.modes(listeners), modeTransaction)
	if ts.svc != nil && pooled {
		listening := make(map[string]bool)
		for _, database := range databases {
			name := ts.dbname(database)
			if !listening[name] { // aliases share one
				listening[name] = true
				c.Pools = append(c.Pools, PoolSize{Database: name, Role: ts.svc.target.Role, Mode: modeListen, Size: 1})
			}
		}
		if t.OtherDatabases == config.Allow {
			c.Further = append(c.Further, PoolSize{Role: ts.svc.target.Role, Mode: modeListen, Size: 1})
		}
	}
	if t.Auth.Query != "" || t.URLLogin {
		c.Own = append(c.Own, OwnConnections{For: "looking passwords up", Count: auth.MaxQueries})
	}
	if c.Auto {
		c.Own = append(c.Own, OwnConnections{For: "max_backends: auto", Count: 1})
	}
	readers := 0
	for _, p := range c.Pools {
		if p.Mode == modeTransaction || p.Mode == modeSession && t.ObserveTransactionMode {
			readers++
		}
	}
	if readers > 0 && t.StateCheck != config.StateCheckHint {
		c.Own = append(c.Own, OwnConnections{For: "reading the code of functions, for moments", Count: readers})
	}
}

// modes returns those in which clients can reach the tenant.
func (ts *tenantState) modes(listeners []config.Listener) (modes []string) {
	for _, mode := range []config.Mode{config.ModeSession, config.ModeTransaction} {
		if slices.ContainsFunc(listeners, func(l config.Listener) bool {
			return l.Mode == mode && (len(l.Tenants) == 0 || slices.Contains(l.Tenants, ts.cfg.Name))
		}) {
			modes = append(modes, string(mode))
		}
	}
	return modes
}

// room asks Postgres. Without a service login it only looks whether Postgres is there.
func (ts *tenantState) room(ctx context.Context) (Room, error) {
	if ts.svc == nil {
		ctx, cancel := context.WithTimeout(ctx, serviceTimeout)
		defer cancel()
		if err := ts.dialer.Probe(ctx); err != nil {
			return Room{}, err
		}
		return Room{}, ErrNoService
	}
	rows, err := ts.svc.ask(ctx, backend.Limit{Rows: 1, Bytes: 1 << 10}, roomQuery)
	if err != nil {
		return Room{}, err
	}
	if len(rows) != 1 || len(rows[0]) != 4 || slices.Contains(rows[0], nil) {
		return Room{}, errors.New("unexpected answer to the question for max_connections")
	}
	room := Room{Version: *rows[0][0]}
	for i, to := range []*int{&room.MaxConnections, &room.Reserved, &room.Others} {
		if *to, err = strconv.Atoi(*rows[0][i+1]); err != nil {
			return Room{}, fmt.Errorf("the answer to the question for max_connections: %w", err)
		}
	}
	room.Others = max(0, room.Others)
	return room, nil
}
