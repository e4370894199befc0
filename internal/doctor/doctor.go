// Package doctor finds out what keeps clients from logging in, in a configuration, its certificates and Postgres.
//
// It opens no listener and changes nothing. It connects to Postgres as Sluice would, with what Sluice knows of a role; where
// that is only a SCRAM verifier it breaks off before a proof, so that no failed login is counted or logged.
package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/auth"
	"sluice/internal/config"
	"sluice/proxy"
)

// maxRoles bounds the roles of a tenant that are looked at, maxDatabases the databases that each is tried in.
const (
	maxRoles     = 100
	maxDatabases = 5
)

// Params say what is examined.
type Params struct {
	Config *config.Config
	Roles  []string // beside those that the configuration and its users files name
}

// Examine looks at everything, and tells all that it finds. It blocks until every Postgres has answered or its timeouts have
// passed, or ctx is done. Errors: those of proxy.Check, joined, when the configuration cannot be used at all.
func Examine(ctx context.Context, p Params) (*Report, error) {
	sites, err := proxy.Sites(p.Config)
	if err != nil {
		return nil, err
	}
	e := &examination{cfg: p.Config, now: time.Now()}
	e.ownCertificates()
	for _, site := range sites {
		s := &subject{examination: e, site: site, t: site.Config(), catalog: newCatalog(site)}
		s.examine(ctx, p.Roles)
		site.Close()
	}
	return &e.report, nil
}

// examination is one run.
type examination struct {
	cfg    *config.Config
	now    time.Time
	report Report
}

// block adds what was found about a subject, unless that is nothing.
func (e *examination) block(b *Block) {
	if len(b.Findings) > 0 {
		e.report.Blocks = append(e.report.Blocks, *b)
	}
}

// subject is a tenant that is examined.
type subject struct {
	*examination
	site    *proxy.Site
	t       *config.Tenant
	catalog *catalog
	pools   []proxy.PoolSize
	asked   bool // the service login works: Postgres can be asked
}

// title returns the name of a subject of the tenant.
func (s *subject) title(format string, args ...any) string {
	return "tenant " + s.t.Name + ": " + fmt.Sprintf(format, args...)
}

func (s *subject) examine(ctx context.Context, more []string) {
	if !s.connection(ctx) {
		return // each of the rest would say the same
	}
	roles := s.roles(more)
	s.service(ctx, roles)
	s.connections(ctx)
	for _, role := range roles[:min(len(roles), maxRoles)] {
		s.role(ctx, role)
	}
	if len(roles) == 0 {
		b := &Block{Subject: s.title("roles")}
		b.warn("name those that clients use with --role", "no login was tried: neither roles nor a users file names a role")
		s.block(b)
	}
	if rest := len(roles) - maxRoles; rest > 0 {
		b := &Block{Subject: s.title("further roles")}
		b.warn("name them with --role", "%d more roles were not looked at", rest)
		s.block(b)
	}
}

// roles returns those that the configuration names, and more, each once.
func (s *subject) roles(more []string) (names []string) {
	for _, r := range s.t.Roles {
		names = append(names, r.Name)
	}
	if s.t.URLLogin {
		names = append(names, s.t.Service.Role)
	}
	if s.t.Auth.UsersFile != "" {
		if users, err := auth.LoadUsers(s.t.Auth.UsersFile); err == nil { // Sites has read it
			names = append(names, users.Roles()...)
		}
	}
	if s.t.Auth.Method == config.AuthJWT {
		names = append(names, s.t.Auth.JWT.Roles...)
	}
	for _, l := range s.cfg.IdentMaps {
		if l.Map == s.t.Auth.Map && !strings.Contains(l.Role, firstGroup) {
			names = append(names, l.Role)
		}
	}
	names = append(names, more...)
	seen := make(map[string]bool)
	return slices.DeleteFunc(names, func(name string) bool {
		again := seen[name]
		seen[name] = true
		return again
	})
}
