package proxy

import (
	"context"
	"fmt"

	"sluice/auth/jwt"
)

// tenantTokens builds what verifies the tokens of the tenant's clients. The keys of an issuer that is asked stay what they
// are if old has asked there too.
func tenantTokens(ts, old *tenantState, dial DialFunc) (*jwt.Verifier, error) {
	c := ts.cfg.Auth.JWT
	var err error
	switch {
	case c.JWKSFile != "":
		if ts.keys, err = jwt.ReadKeys(c.JWKSFile); err != nil {
			return nil, fmt.Errorf("jwks_file: %w", err)
		}
	case old != nil && old.keys != nil && old.cfg.Auth.JWT.JWKSURL == c.JWKSURL:
		ts.keys = old.keys
	default:
		if ts.keys, err = jwt.FetchedKeys(c.JWKSURL, dial); err != nil {
			return nil, fmt.Errorf("jwks_url: %w", err)
		}
	}
	return jwt.New(jwt.Params{
		Keys: ts.keys, Issuer: c.Issuer, Audience: c.Audience, RoleClaim: c.RoleClaim, Roles: c.Roles,
		Algorithms: c.Algorithms, Leeway: c.Leeway,
	})
}

// followIssuers has the keys of st's issuers fetched from now on, and those of no others. Calls wait for each other.
func (s *Server) followIssuers(st *state) {
	wanted := make(map[*jwt.Keys]*tenantState)
	for _, ts := range st.tenants {
		if ts.keys != nil && ts.keys.Fetches() {
			wanted[ts.keys] = ts
		}
	}
	for keys, stop := range s.issuers {
		if wanted[keys] == nil {
			stop()
			delete(s.issuers, keys)
		}
	}
	for keys, ts := range wanted {
		if s.issuers[keys] != nil {
			continue
		}
		ctx, stop := context.WithCancel(s.ctx)
		s.issuers[keys] = stop
		s.workers.Go(func() { s.followIssuer(ctx, ts.cfg.Name, keys) })
	}
}

// followIssuer has the keys fetched until ctx is done, and logs what comes of it.
func (s *Server) followIssuer(ctx context.Context, tenant string, keys *jwt.Keys) {
	log := s.log.With(logTenant, tenant)
	keys.Run(ctx, func(err error, usable bool) {
		switch {
		case err == nil:
			log.Info("keys of tokens fetched")
		case usable:
			log.Warn("keys of tokens cannot be fetched, the old ones count", logError, err)
		default:
			log.Error("keys of tokens cannot be fetched, nobody can log in by token", logError, err)
		}
	})
}
