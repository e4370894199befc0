package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"
	"time"

	"sluice/auth"
	"sluice/auth/jwt"
	"sluice/internal/backend"
	"sluice/internal/config"
	"sluice/internal/loop"
	"sluice/internal/relay"
	"sluice/internal/tlsconf"
	"sluice/internal/wire"
	"sluice/netpolicy"
	"sluice/pool"
)

const (
	modeSession     = string(config.ModeSession)
	modeTransaction = string(config.ModeTransaction)
)

// state is the configuration as it is used: compiled, immutable, reached through one atomic pointer. What lives on over
// a reload (tenant, with its pools) is pointed to.
type state struct {
	cfg     *config.Config
	policy  *netpolicy.Policy
	saved   *saved // what the API has changed; never nil
	tls     *tlsconf.Server
	tenants map[string]*tenantState // by lower-case name, as TLS server names have no case
	only    *tenantState            // the tenant, if there is one
	swaps   []func()                // see renew; none once the state counts
}

// tenantState is one tenant's part of it.
type tenantState struct {
	*tenant
	cfg       *config.Tenant
	auth      *auth.Authenticator
	keys      *jwt.Keys  // of the issuer of tokens; nil: none are taken
	store     auth.Chain // what auth asks; nil: nothing
	dialer    *backend.Dialer
	tls       *tlsconf.Backends // of the dialer
	svc       *service          // nil: there is none
	roles     map[string]*config.Role
	databases map[string]*config.Database
	settings  []wire.Param // every backend starts with them
}

// laneSettings is what a lane needs to know of the configuration.
type laneSettings struct {
	dialer      *backend.Dialer
	timeouts    config.Timeouts
	waitTimeout time.Duration
	maxClients  int
	check       relay.Check // state_check: how far code behind statements is trusted
	planUnnamed bool        // plan_unnamed is not off
	observe     bool        // observe_transaction_mode, for the session port
	addAddress  bool        // application_name_add_address
	listens     bool        // there is a service login, which can listen for all
	limits      pool.Limits // of all parts of the pool
	spread      config.AutoInt
}

// environment is what a state is built with beside the configuration.
type environment struct {
	mockKey   [32]byte   // see auth.Params
	dial      DialFunc   // nil: the system's
	turnstile *turnstile // nil: nothing is served
	saved     *saved     // nil: the API has changed nothing
}

// compile builds the state for cfg. before, which may be nil, is the state that it replaces: what has not changed is
// taken over. Errors: all that is wrong, joined, each with its key path.
func compile(cfg *config.Config, before *state, env environment) (*state, error) {
	st := &state{cfg: cfg, saved: env.saved, tenants: make(map[string]*tenantState, len(cfg.Tenants))}
	if st.saved == nil {
		st.saved = &saved{Version: savedVersion}
	}
	var problems []error
	policy, err := netpolicy.Compile(policySpec(cfg, st.saved), time.Now())
	if err != nil {
		problems = append(problems, fmt.Errorf("network: %w", err))
	}
	if err := checkSaved(cfg, st.saved); err != nil {
		problems = append(problems, err)
	}
	st.policy = policy
	if before != nil && reflect.DeepEqual(before.cfg.TLS, cfg.TLS) {
		st.tls, err = before.tls, st.renew(before.tls)
	} else {
		st.tls, err = serverTLS(cfg.TLS)
	}
	if err != nil {
		problems = append(problems, fmt.Errorf("tls: %w", err))
	}
	for i := range cfg.Tenants {
		ts, err := st.compileTenant(&cfg.Tenants[i], before, env)
		if err != nil {
			problems = append(problems, fmt.Errorf("tenants[%d].%w", i, err))
			continue
		}
		st.tenants[strings.ToLower(ts.cfg.Name)] = ts
		if len(cfg.Tenants) == 1 {
			st.only = ts
		}
	}
	return st, errors.Join(problems...)
}

// Check reports everything in cfg that New would refuse, without opening a listener: files that cannot be read, secrets
// and certificates that cannot be used.
func Check(cfg *config.Config) []error {
	_, err := compile(cfg, nil, environment{})
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// renew reads certificates again which are in use. They are swapped when the state begins to count: it may come to nothing.
func (st *state) renew(certificates interface{ Prepare() (func(), error) }) error {
	swap, err := certificates.Prepare()
	if err == nil {
		st.swaps = append(st.swaps, swap)
	}
	return err
}

// swapCertificates has those count that the state was built with. It is called once, before the state is shared.
func (st *state) swapCertificates() {
	for _, swap := range st.swaps {
		swap()
	}
	st.swaps = nil
}

func serverTLS(c config.TLS) (*tlsconf.Server, error) {
	p := tlsconf.ServerParams{
		CertFile: c.CertFile, KeyFile: c.KeyFile, ClientCert: tlsconf.ClientCert(c.ClientCert),
		ClientCAFile: c.ClientCAFile, MinVersion: tlsconf.Version(c.MinVersion), CAFile: c.CAFile,
	}
	for _, curve := range c.Curves {
		p.Curves = append(p.Curves, tlsconf.Curve(curve))
	}
	for _, pair := range c.Certificates {
		p.Certificates = append(p.Certificates, tlsconf.KeyPair(pair))
	}
	return tlsconf.NewServer(p)
}

func (st *state) compileTenant(c *config.Tenant, before *state, env environment) (*tenantState, error) {
	ts := &tenantState{cfg: c, roles: make(map[string]*config.Role), databases: make(map[string]*config.Database)}
	var old *tenantState
	if before != nil {
		old = before.tenants[strings.ToLower(c.Name)]
	}
	for i := range c.Roles {
		ts.roles[c.Roles[i].Name] = &c.Roles[i]
	}
	for i := range c.Databases {
		ts.databases[c.Databases[i].Name] = &c.Databases[i]
	}
	for _, s := range c.Backend.Settings {
		ts.settings = append(ts.settings, wire.Param{Name: s.Name, Value: s.Value})
	}
	var err error
	ts.tenant = newTenant(c.Name)
	if old != nil {
		ts.tenant = old.tenant
	}
	sameBackend := old != nil && reflect.DeepEqual(old.cfg.Backend, c.Backend)
	if sameBackend {
		ts.dialer, ts.tls, err = old.dialer, old.tls, st.renew(old.tls)
	} else {
		ts.dialer, ts.tls, err = tenantDialer(&c.Backend, env.dial)
	}
	if err != nil {
		return nil, fmt.Errorf("backend: %w", err)
	}
	if sameBackend && old.cfg.Service == c.Service {
		ts.svc = old.svc
	} else if ts.svc, err = newService(c.Service, ts.dialer); err != nil {
		return nil, fmt.Errorf("service: %w", err)
	}
	if ts.auth, err = tenantAuth(ts, old, st.cfg.IdentMaps, env); err != nil {
		return nil, fmt.Errorf("auth.%w", err)
	}
	return ts, nil
}

// tenantAuth builds what verifies the tenant's clients: the users file first, then the query. old is the tenant's state that
// is replaced, nil if there is none.
func tenantAuth(ts, old *tenantState, maps []config.IdentLine, env environment) (*auth.Authenticator, error) {
	p := auth.Params{Method: auth.Method(ts.cfg.Auth.Method), MockKey: env.mockKeyOf(ts.cfg.Name), ClientCert: auth.CertRule(ts.cfg.Auth.ClientCert)}
	for _, name := range ts.cfg.Auth.CertNames {
		p.CertNames = append(p.CertNames, auth.CertName(name))
	}
	var err error
	if p.IdentMap, err = identMap(maps, ts.cfg.Auth.Map); err != nil {
		return nil, fmt.Errorf("map: %w", err)
	}
	var stores auth.Chain
	if f := ts.cfg.Auth.UsersFile; f != "" {
		users, err := auth.LoadUsers(f)
		if err != nil {
			return nil, fmt.Errorf("users_file: %w", err)
		}
		stores = append(stores, users)
	}
	switch {
	case ts.cfg.Auth.Query != "":
		stores = append(stores, auth.NewCached(ts.svc.authQuery(ts.cfg.Auth.Query), ts.cfg.Auth.QueryCache))
	case ts.cfg.URLLogin:
		stores = append(stores, auth.NewCached(ts.svc.urlLogin(), ts.cfg.Auth.QueryCache))
	}
	if old != nil {
		p.Before = old.auth
	}
	if ts.cfg.Auth.Method == config.AuthJWT {
		var err error
		if p.Tokens, err = tenantTokens(ts, old, env.dial); err != nil {
			return nil, fmt.Errorf("jwt.%w", err)
		}
	}
	if env.turnstile != nil {
		p.Compute = env.turnstile.run
	}
	if len(stores) > 0 {
		p.Store, ts.store = stores, stores
	}
	a, err := auth.New(p)
	if err != nil {
		return nil, fmt.Errorf("method: %w", err)
	}
	return a, nil
}

// identMap compiles the ident map with that name; nil for the empty name.
func identMap(lines []config.IdentLine, name string) (*auth.IdentMap, error) {
	if name == "" {
		return nil, nil
	}
	var own []auth.IdentLine
	for _, l := range lines {
		if l.Map == name {
			own = append(own, auth.IdentLine{Identity: l.Identity, Role: l.Role})
		}
	}
	return auth.NewIdentMap(own)
}

// tenantDialer builds what opens the tenant's backends. The TLS configurations are made now, so that unreadable files are
// found now and TLS sessions can be resumed.
func tenantDialer(c *config.Backend, dial DialFunc) (*backend.Dialer, *tlsconf.Backends, error) {
	tp := tlsconf.BackendParams{
		Mode: tlsconf.Mode(c.TLSMode), CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile, ServerName: c.ServerName,
	}
	p := backend.Params{
		TLSMode: string(c.TLSMode), DirectTLS: c.TLSNegotiation == config.TLSDirect, Verifies: tp.Verifies(),
		ConnectTimeout: c.ConnectTimeout, DialContext: switched(dial),
	}
	var hosts []string
	for _, h := range c.Hosts {
		p.Hosts = append(p.Hosts, backend.Address{Network: h.Network(), Addr: h.String()})
		hosts = append(hosts, h.Host)
	}
	configs, err := tlsconf.NewBackends(tp, hosts)
	if err != nil {
		return nil, nil, err
	}
	p.TLSFor = func(host string) (*tls.Config, error) { return configs.Config(host), nil }
	d, err := backend.NewDialer(p)
	return d, configs, err
}

// switched returns dial, nil being the system's, with its connections ready to be adopted by a loop under TLS.
func switched(dial DialFunc) DialFunc {
	if dial == nil {
		dial = (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		nc, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return loop.NewSwitch(nc), nil
	}
}

// dbname returns the name in Postgres of what clients call database.
func (ts *tenantState) dbname(database string) string {
	if d := ts.databases[database]; d != nil {
		return d.DBName
	}
	return database
}

// postgresName returns the name in Postgres of the database of the pool with that key.
func (ts *tenantState) postgresName(key pool.Key) string {
	if key.Mode == modeListen {
		return key.Database
	}
	return ts.dbname(key.Database)
}

// login returns whom Sluice logs in to Postgres as for a client with that role and what its login has shown.
func (ts *tenantState) login(role string, shown auth.Credential) backend.Target {
	t := backend.Target{Role: role, Credential: shown}
	if r := ts.roles[role]; r != nil {
		if r.Backend.User != "" {
			t.Role, t.Credential = r.Backend.User, auth.Credential{}
		}
		if r.Backend.Password != "" {
			t.Credential = auth.PasswordCredential(r.Backend.Password.Reveal())
		}
	}
	return t
}

// lane returns the settings of the pool with that key.
func (ts *tenantState) lane(key pool.Key) laneSettings {
	c := ts.cfg
	s := laneSettings{
		dialer: ts.dialer, timeouts: c.Timeouts, waitTimeout: c.PoolWaitTimeout,
		check: checkOf(c.StateCheck), planUnnamed: c.PlanUnnamed != config.PlanUnnamedOff, spread: c.Spread,
		observe: c.ObserveTransactionMode && key.Mode == modeSession, addAddress: c.ApplicationNameAddAddr, listens: ts.svc != nil,
	}
	size := c.PoolSize
	if key.Mode == modeSession && c.SessionPoolSize > 0 {
		size = c.SessionPoolSize
	}
	if d := ts.databases[key.Database]; d != nil && d.PoolSize > 0 {
		size = d.PoolSize
	}
	if r := ts.roles[key.Role]; r != nil {
		if r.PoolSize > 0 {
			size = r.PoolSize
		}
		s.maxClients = r.MaxClients
	}
	s.limits = pool.Limits{
		Size: size, MinIdle: min(c.Backend.MinBackends, size), MaxPinned: c.MaxPinned,
		IdleTimeout: c.Backend.IdleTimeout, MaxLifetime: c.Backend.MaxLifetime,
	}
	if key.Mode == modeListen {
		s.limits.Size, s.limits.MinIdle = 1, 0
	}
	if s.limits.MaxPinned == 0 {
		s.limits.MaxPinned = max(1, size-1)
	}
	return s
}

// caps returns the client limits that concern a client.
func (st *state) caps(ts *tenantState, f *facts) capLimits {
	l := capLimits{
		process: st.cfg.Limits.MaxClients, address: st.cfg.Limits.MaxClientsPerAddress, tenant: ts.cfg.MaxClients,
	}
	if r := ts.roles[f.role]; r != nil {
		l.role = r.MaxClients
	}
	if d := ts.databases[f.database]; d != nil {
		l.database = d.MaxClients
	}
	return l
}

// checkOf translates state_check.
func checkOf(word string) relay.Check {
	switch word {
	case config.StateCheckLearn:
		return relay.Learn
	case config.StateCheckHint:
		return relay.Hint
	}
	return relay.Strict
}
