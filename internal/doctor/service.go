package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"sluice/auth"
)

// service looks at Sluice's own login, and at what it may ask.
func (s *subject) service(ctx context.Context, roles []string) {
	b := &Block{Subject: s.title("service login")}
	defer func() { s.block(b) }()
	own := s.t.Service
	if own.Role == "" {
		b.warn("CREATE ROLE sluice LOGIN PASSWORD '…', and set service.role and service.password",
			"there is none: auth.query, max_backends: auto and the shared LISTEN are off, and PostgreSQL cannot be asked about roles")
		return
	}
	if _, err := s.site.Ask(ctx, "SELECT 1"); err != nil {
		s.explain(b, login{role: own.Role, database: own.Database, source: s.ownSource()}, err)
		return
	}
	s.asked = true
	b.ok("PostgreSQL lets Sluice in as %q, to database %q, with %s", own.Role, own.Database, s.ownSource())
	if r, err := s.catalog.role(ctx, own.Role); err == nil && r.super {
		b.warn("use a role of its own, which may only run auth.query", "%q is a superuser: who gets hold of %s owns the cluster", own.Role, s.ownSource())
	}
	s.lookups(ctx, b, roles)
	if s.t.MaxBackends.Auto {
		s.room(ctx, b)
	}
	s.code(ctx, b, roles)
}

// ownSource names where the password of the service login is from.
func (s *subject) ownSource() string {
	if s.t.URLLogin {
		return "the database URL"
	}
	return "service.password"
}

// lookups looks at whether secrets can be looked up in Postgres.
func (s *subject) lookups(ctx context.Context, b *Block, roles []string) {
	if s.t.Auth.Query == "" && !s.t.URLLogin {
		return
	}
	probe := s.t.Service.Role // any name will do: that the query runs is what counts
	if len(roles) > 0 {
		probe = roles[0]
	}
	rows, err := s.lookUp(ctx, probe)
	message, denied := privilege(err)
	refused, isRefused := errors.AsType[*auth.ServerError](err)
	switch {
	case err == nil && len(rows) > 0 && (len(rows) > 2 || len(rows[0]) < 2 || len(rows[0]) > 3):
		b.problem("it must return one row, or two while a password changes: role, verifier and perhaps valid_until", "auth.query returns %s of %s for role %q", plural(len(rows), "row"), plural(len(rows[0]), "column"), probe)
	case err == nil:
		b.ok("it may look secrets up")
	case s.t.URLLogin && denied:
		f := b.add(Warning, "it may not read pg_authid (%s): only %q itself can log in through Sluice", message, s.t.Service.Role)
		f.Advice, f.SQL = s.forbidden(err, "GRANT SELECT (rolname, rolpassword, rolvaliduntil, rolcanlogin) ON pg_catalog.pg_authid TO "+identifier(s.t.Service.Role)+";")
	case denied, isRefused && (refused.Response.Code == "42883" || refused.Response.Code == "42P01" || refused.Response.Code == "3F000"):
		f := b.add(Problem, "auth.query fails: %s", refused.Response.Message)
		f.Advice = fmt.Sprintf("as a superuser, in the database %s; and set auth.query to \"SELECT role, verifier, valid_until FROM sluice.login($1)\":", s.t.Service.Database)
		f.SQL = loginFunction(s.t.Service.Role)
	default:
		b.problem("auth.query must be SELECT role, verifier[, valid_until] FROM … WHERE role = $1", "auth.query fails: %v", err)
	}
}

// lookUp asks what a login asks.
func (s *subject) lookUp(ctx context.Context, role string) ([][]*string, error) {
	sql := s.t.Auth.Query
	if sql == "" {
		sql = `SELECT rolname, rolpassword, rolvaliduntil FROM pg_catalog.pg_authid WHERE rolname OPERATOR(pg_catalog.=) $1 AND rolcanlogin`
	}
	return s.site.Ask(ctx, sql, role)
}

// loginFunction returns what gives the service role the secrets of roles that may log in, and no more.
func loginFunction(service string) []string {
	role := identifier(service)
	return []string{
		"CREATE SCHEMA IF NOT EXISTS sluice;",
		"CREATE OR REPLACE FUNCTION sluice.login(name text) RETURNS TABLE (role text, verifier text, valid_until timestamptz)\n" +
			"  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog\n" +
			"  AS 'SELECT rolname, rolpassword, rolvaliduntil FROM pg_authid WHERE rolname = name AND rolcanlogin AND NOT rolsuper';",
		"REVOKE EXECUTE ON FUNCTION sluice.login(text) FROM PUBLIC;",
		"GRANT USAGE ON SCHEMA sluice TO " + role + ";",
		"GRANT EXECUTE ON FUNCTION sluice.login(text) TO " + role + ";",
	}
}

// room looks at whether max_backends: auto gets its answer.
func (s *subject) room(ctx context.Context, b *Block) {
	err := s.site.FollowsRoom(ctx)
	if err == nil {
		b.ok("it may ask what max_backends: auto needs")
		return
	}
	f := b.add(Problem, "max_backends: auto cannot ask how many connections are left: %v", err)
	f.Advice, f.SQL = s.forbidden(err, "GRANT SELECT ON pg_catalog.pg_stat_database TO "+identifier(s.t.Service.Role)+";")
}

// code looks at whether the roles of clients may read what the database's code does.
func (s *subject) code(ctx context.Context, b *Block, roles []string) {
	if s.t.StateCheck == "hint" {
		return
	}
	hidden := make(map[string][]string) // by catalog
	for _, role := range roles[:min(len(roles), maxRoles)] {
		as := s.site.Target(role, "", auth.Credential{}).Role
		if _, err := s.catalog.role(ctx, as); err != nil {
			continue // its own block says so
		}
		names, err := s.catalog.unreadable(ctx, as)
		if err != nil {
			b.warn("", "it cannot be told whether role %q may read pg_proc: %v", as, err)
			return
		}
		for _, name := range names {
			hidden[name] = append(hidden[name], identifier(as))
		}
	}
	if len(hidden) == 0 {
		b.ok("the roles may read what the database's code does (pg_proc and others)")
		return
	}
	f := b.add(Problem, "roles may not read what the database's code does: Sluice takes it for code that may do anything, and keeps a backend with each client of the transaction port")
	f.Advice = "as a superuser, in each database:"
	for name := range strings.SplitSeq(codeCatalogs, ",") {
		if hidden[name] != nil {
			f.SQL = append(f.SQL, "GRANT SELECT ON pg_catalog."+name+" TO "+strings.Join(hidden[name], ", ")+";")
		}
	}
}
