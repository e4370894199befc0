package simulation

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"sluice/auth/scram"
	"sluice/internal/config"
)

// Who and what there is. Mallory and other databases are never let in, nor is anybody from the denied addresses.
const (
	deniedByProcess = "203.0.113.9"
	deniedByTenant  = "198.51.100.9"
	deniedRole      = "mallory"
	unknownRole     = "nobody"
	unknownDatabase = "attic"
	password        = "secret"
	iterations      = 2 // of SCRAM: what the hash costs is not simulated
)

func roles() []string     { return []string{"ann", "bob", "carol"} }
func databases() []string { return []string{"app", "web"} }
func modes() []string     { return []string{"session", "transaction"} }
func tenants() []string   { return []string{"acme", "globex"} }

func portOf(mode string) string {
	if mode == "session" {
		return "127.0.0.1:5432"
	}
	return "127.0.0.1:6543"
}

// rules is the configuration of the moment, and with whom it shares secrets.
type rules struct {
	w         *world
	users     string // path of the users file
	verifiers map[string]scram.Verifier
	keys      map[string]scram.Keys

	mu           sync.Mutex // guards below
	now          *config.Config
	queryTimeout time.Duration        // the least that ever was in force; 0: none was
	revoked      map[string]time.Time // "tenant role mode": since when it may not log in
}

func newRules(w *world, rng *rand.Rand) *rules {
	r := &rules{
		w: w, users: filepath.Join(w.t.TempDir(), "users.txt"), revoked: make(map[string]time.Time),
		verifiers: make(map[string]scram.Verifier), keys: make(map[string]scram.Keys),
	}
	var lines []string
	for i, role := range append(roles(), deniedRole) {
		salt := []byte(fmt.Sprintf("salt of number %d", i))
		v, err := scram.NewVerifier(password, salt, iterations)
		keys, err2 := scram.DeriveKeys(password, salt, iterations)
		if err != nil || err2 != nil {
			w.t.Fatal(err, err2)
		}
		r.verifiers[role], r.keys[role] = v, keys
		lines = append(lines, fmt.Sprintf("%q %q", role, v.String()))
	}
	if err := os.WriteFile(r.users, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	r.draw(rng)
	return r
}

// config returns the configuration of the moment.
func (r *rules) config() *config.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// draw makes up a configuration, and tells the census what is the limit from now on.
func (r *rules) draw(rng *rand.Rand) {
	c := config.Default()
	c.Admin.Address, c.Watch, c.Log.Sessions, c.Log.Level = "", "none", "all", "debug"
	c.Limits.MaxClients = 20 + rng.IntN(20)
	c.Limits.MaxClientsPerAddress = pick(rng, 0, 0, 7)
	c.Limits.LoginTimeout = 4 * time.Second
	c.Network = config.Network{AllowedCIDRs: everywhere(), DeniedCIDRs: []config.Entry{{Prefix: netip.MustParsePrefix(deniedByProcess + "/32")}}}
	template := c.Tenants[0]
	c.Tenants = nil
	for i, name := range tenants() {
		c.Tenants = append(c.Tenants, r.tenant(rng, template, name, i))
	}
	if problems := c.Validate(); len(problems) > 0 {
		r.w.t.Errorf("the configuration: %v", problems)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = &c
	r.publish(&c)
}

func (r *rules) tenant(rng *rand.Rand, t config.Tenant, name string, i int) config.Tenant {
	t.Name = name
	t.Auth.Method, t.Auth.UsersFile = config.AuthSCRAM, r.users
	t.StateCheck = config.StateCheckHint
	t.MaxClients = pick(rng, 0, 0, 8, 12)
	t.PoolSize = 1 + rng.IntN(4)
	t.SessionPoolSize = pick(rng, 0, 2, 4)
	t.MaxBackends = config.AutoInt{N: 4 + rng.IntN(8)}
	t.MaxPinned = rng.IntN(t.PoolSize)
	t.Spread = config.AutoInt{N: pick(rng, 1, 1, 2, 3)}
	t.PoolWaitTimeout = between(rng, 500*time.Millisecond, 3*time.Second)
	t.Network.Network = config.Network{AllowedCIDRs: everywhere(), DeniedCIDRs: []config.Entry{{Prefix: netip.MustParsePrefix(deniedByTenant + "/32")}}}
	t.Backend.Hosts, t.Backend.TLSMode = []config.HostPort{{Host: clusterHost(i), Port: clusterPort}}, config.TLSDisable
	t.Backend.ConnectTimeout, t.Backend.MinBackends = time.Second, rng.IntN(2)
	t.Backend.MaxLifetime = pick(rng, 0, 5*time.Second)
	t.Backend.IdleTimeout = pick(rng, 0, time.Second, 3*time.Second)
	t.Timeouts = config.Timeouts{
		ClientIdle: pick(rng, 0, 0, 3*time.Second), IdleInTransaction: pick(rng, 0, 0, time.Second),
		Query: pick(rng, 0, 0, 1500*time.Millisecond), ClientLifetime: pick(rng, 0, 0, 10*time.Second),
	}
	everybody := config.Network{AllowedCIDRs: everywhere()}
	bob := config.Role{Name: "bob", PoolSize: 1 + rng.IntN(3), MaxClients: 3 + rng.IntN(4), Network: everybody, TLSEnforcement: config.TLSObserve}
	carol := config.Role{Name: "carol", Network: everybody, TLSEnforcement: config.TLSObserve}
	switch rng.IntN(4) {
	case 0:
		carol.Modes = []config.Mode{config.ModeSession}
	case 1:
		carol.Modes = []config.Mode{config.ModeTransaction}
	}
	t.OtherRoles, t.OtherDatabases = config.Deny, config.Deny
	t.Roles = []config.Role{{Name: "ann", Network: everybody, TLSEnforcement: config.TLSObserve}, bob, carol}
	t.Databases = []config.Database{
		{Name: "app", DBName: "app", Network: everybody, TLSEnforcement: config.TLSObserve},
		{Name: "web", DBName: "web", PoolSize: pick(rng, 0, 2), MaxClients: pick(rng, 0, 6), Network: everybody, TLSEnforcement: config.TLSObserve},
	}
	return t
}

func everywhere() []config.Entry {
	return []config.Entry{{Prefix: netip.MustParsePrefix("0.0.0.0/0")}, {Prefix: netip.MustParsePrefix("::/0")}}
}

// pick draws one of the values.
func pick[T any](rng *rand.Rand, values ...T) T { return values[rng.IntN(len(values))] }

// publish tells the census the limits. r.mu is held.
func (r *rules) publish(c *config.Config) {
	set := r.w.census.limit
	set("clients", c.Limits.MaxClients)
	set(maybe+"clients", c.Limits.MaxClients)
	for _, from := range addresses() {
		both(set, "clients from "+from, c.Limits.MaxClientsPerAddress)
	}
	for i := range c.Tenants {
		t := &c.Tenants[i]
		set("backends of "+t.Name, t.MaxBackends.N)
		if t.Spread.N > 1 {
			r.w.line.split(t.Name)
		}
		if q := t.Timeouts.Query; q > 0 && (r.queryTimeout == 0 || q < r.queryTimeout) {
			r.queryTimeout = q
		}
		for _, mode := range modes() {
			both(set, "clients of "+t.Name+" "+mode, t.MaxClients)
			for _, role := range t.Roles {
				both(set, "clients of "+t.Name+" "+mode+" as "+role.Name, role.MaxClients)
				r.publishModes(t.Name, &role, mode)
				for _, db := range t.Databases {
					set(poolName(t.Name, db.Name, role.Name, mode), poolSize(t, &db, &role, mode))
				}
			}
			for _, db := range t.Databases {
				both(set, "clients of "+t.Name+" "+mode+" in "+db.Name, db.MaxClients)
			}
		}
	}
}

func both(set func(string, int), key string, n int) {
	set(key, n)
	set(maybe+key, n)
}

// publishModes notes since when a role may not use a mode. r.mu is held.
func (r *rules) publishModes(tenant string, role *config.Role, mode string) {
	key := tenant + " " + role.Name + " " + mode
	allowed := len(role.Modes) == 0
	for _, m := range role.Modes {
		allowed = allowed || string(m) == mode
	}
	if allowed {
		delete(r.revoked, key)
	} else if _, known := r.revoked[key]; !known {
		r.revoked[key] = time.Now()
	}
}

// poolSize is what the documentation says the size of a pool is: the role's, else the database's, else the mode's.
func poolSize(t *config.Tenant, db *config.Database, role *config.Role, mode string) int {
	switch {
	case role.PoolSize > 0:
		return role.PoolSize
	case db.PoolSize > 0:
		return db.PoolSize
	case mode == "session" && t.SessionPoolSize > 0:
		return t.SessionPoolSize
	}
	return t.PoolSize
}

// revokedSince returns since when who may not log in; zero: it may.
func (r *rules) revokedSince(who login) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.revoked[who.tenant+" "+who.role+" "+who.mode]
}

// queryLimit returns the least timeouts.query that there has been, 0 if there has been none.
func (r *rules) queryLimit() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.queryTimeout
}

// addresses returns where clients come from.
func addresses() []string {
	return []string{"10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5"}
}
