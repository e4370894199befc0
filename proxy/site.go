package proxy

import (
	"context"
	"strings"

	"sluice/auth"
	"sluice/internal/backend"
	"sluice/internal/config"
	"sluice/internal/wire"
)

// Site is a tenant whose clients are not served: what Sluice would use to look up their secrets and to log in to Postgres.
// Nothing is opened before a method asks. It is safe for concurrent use.
type Site struct {
	ts        *tenantState
	listeners []config.Listener
	answer    backend.Limit
}

// maxSiteAnswer bounds what Postgres may say to one question of a Site.
const maxSiteAnswer = 1 << 20 // 1 MiB

// Sites returns the tenants of cfg, in its order. Each must be closed. Errors: those of Check, joined.
func Sites(cfg *config.Config) ([]*Site, error) {
	st, err := compile(cfg, nil, environment{})
	if err != nil {
		return nil, err
	}
	sites := make([]*Site, len(cfg.Tenants))
	for i := range cfg.Tenants {
		sites[i] = &Site{
			ts: st.tenants[strings.ToLower(cfg.Tenants[i].Name)], listeners: cfg.Listeners,
			answer: backend.Limit{Rows: 10_000, Bytes: maxSiteAnswer},
		}
		if svc := sites[i].ts.svc; svc != nil {
			svc.once = true
		}
	}
	return sites, nil
}

// Config returns the tenant's configuration.
func (s *Site) Config() *config.Tenant { return s.ts.cfg }

// Close closes what is open.
func (s *Site) Close() {
	if s.ts.svc != nil {
		s.ts.svc.close()
	}
}

// Capacity adds up what the tenant's pools can ask of Postgres, and asks what that has.
func (s *Site) Capacity(ctx context.Context) Capacity {
	c := s.ts.capacity(s.listeners)
	c.Postgres, c.Err = s.ts.room(ctx)
	return c
}

// Encryption connects to every host and says how that is protected, without a login.
func (s *Site) Encryption(ctx context.Context) []backend.Encryption { return s.ts.dialer.Inspect(ctx) }

// Ask runs a query of the service login, whose password is not tried again once Postgres has refused it. It blocks for some seconds at most. Errors: ErrNoService, *auth.ServerError, those of
// backend.Dialer, wrapped.
func (s *Site) Ask(ctx context.Context, sql string, args ...string) ([][]*string, error) {
	if s.ts.svc == nil {
		return nil, ErrNoService
	}
	return s.ts.svc.ask(ctx, s.answer, sql, args...)
}

// FollowsRoom asks what max_backends: auto asks. Errors: as Ask.
func (s *Site) FollowsRoom(ctx context.Context) error {
	if s.ts.svc == nil {
		return ErrNoService
	}
	_, err := s.ts.svc.left(ctx, 0)
	return err
}

// Secret returns what Sluice knows of a role: from the users file, or by asking Postgres. Errors: auth.ErrUnknownRole, or why
// nothing could be asked, wrapped.
func (s *Site) Secret(ctx context.Context, role string) (auth.Entry, error) {
	if s.ts.store == nil {
		return auth.Entry{}, auth.ErrUnknownRole
	}
	return s.ts.store.Lookup(ctx, role)
}

// Target returns whom Sluice logs in to Postgres as for a client with that role and credential, to a database that clients
// know by that name.
func (s *Site) Target(role, database string, c auth.Credential) backend.Target {
	t := s.ts.login(role, c)
	t.Database = s.ts.dbname(database)
	t.Params = append([]wire.Param(nil), s.ts.settings...)
	return t
}

// Dial logs in to Postgres. The caller must close the connection. Errors: those of backend.Dialer.
func (s *Site) Dial(ctx context.Context, t backend.Target) (*backend.Conn, error) {
	return s.ts.dialer.Dial(ctx, t)
}

// Shut returns the keys of the lists that admit nobody, and keep the role away whatever it proves. process is that of the
// whole process.
func (s *Site) Shut(process config.Network, role string) (keys []string) {
	if len(process.AllowedCIDRs) == 0 {
		keys = append(keys, "network.allowed_cidrs")
	}
	if len(s.ts.cfg.Network.AllowedCIDRs) == 0 {
		keys = append(keys, "tenants[].network.allowed_cidrs")
	}
	if r := s.ts.roles[role]; r != nil && len(r.Network.AllowedCIDRs) == 0 {
		keys = append(keys, "tenants[].roles[].network.allowed_cidrs")
	}
	return keys
}
