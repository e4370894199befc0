package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"sluice/auth"
	"sluice/internal/backend"
	"sluice/internal/config"
)

// inPostgres looks at what Postgres says of the role that Sluice logs in as, and reports whether trying to makes sense.
func (r *roleView) inPostgres(ctx context.Context) bool {
	if !r.asked {
		return true
	}
	as := r.as()
	pg, err := r.catalog.role(ctx, as)
	switch {
	case errors.Is(err, errNoRole):
		f := r.b.add(Problem, "PostgreSQL has no role %q", as)
		f.Advice, f.SQL = "create it:", []string{"CREATE ROLE " + identifier(as) + " LOGIN PASSWORD '…';"}
		return false
	case err != nil:
		r.b.warn("", "PostgreSQL could not be asked about role %q: %v", as, err)
		return true
	case !pg.login:
		f := r.b.add(Problem, "role %q may not log in to PostgreSQL (NOLOGIN)", as)
		f.Advice, f.SQL = "let it:", []string{"ALTER ROLE " + identifier(as) + " LOGIN;"}
		return false
	case pg.expired:
		f := r.b.add(Problem, "the password of role %q has expired in PostgreSQL (VALID UNTIL %s)", as, pg.validUntil)
		f.Advice, f.SQL = "set a new one, and:", []string{"ALTER ROLE " + identifier(as) + " VALID UNTIL 'infinity';"}
	case pg.validUntil != "" && pg.validUntil != "infinity":
		r.b.ok("its password is valid until %s in PostgreSQL", pg.validUntil)
	}
	r.limit(as, pg)
	if stored, err := r.catalog.stored(ctx, as); err == nil {
		r.stored = stored.Kind()
	}
	return true
}

// limit holds the role's CONNECTION LIMIT against its pools.
func (r *roleView) limit(as string, pg pgRole) {
	if pg.limit < 0 || pg.super {
		return
	}
	most := 0
	for _, p := range r.pools {
		if !p.Listens() && (p.Role == r.name || p.Role == "") {
			most += p.Size
		}
	}
	raise := []string{fmt.Sprintf("ALTER ROLE %s CONNECTION LIMIT %d;", identifier(as), max(1, most))}
	switch {
	case pg.limit == 0:
		f := r.b.add(Problem, "role %q may have no connection (CONNECTION LIMIT 0)", as)
		f.Advice, f.SQL = "raise it:", raise
	case pg.limit < most:
		f := r.b.add(Warning, "role %q may have %s (CONNECTION LIMIT), and its pools may open %d: clients beyond that wait, or are refused with 53300", as, plural(pg.limit, "connection"), most)
		f.Advice, f.SQL = fmt.Sprintf("set roles[].pool_size so that its pools have %d at most, or:", pg.limit), raise
	}
}

// logins tries to log in to Postgres.
func (r *roleView) logins(ctx context.Context) {
	if r.barred && !r.ownPassword() {
		return
	}
	databases := r.databases(ctx)
	source := r.source()
	if r.ownPassword() {
		source = "roles[].backend.password"
	}
	outcomes := &Block{}
	var where [][]string // the databases of each outcome
	shown := r.shown()
	databases = databases[:min(len(databases), maxDatabases)]
	for n, database := range databases {
		t := r.site.Target(r.name, database, auth.Credential{})
		one := &Block{}
		var err error
		shown, err = r.tryAll(ctx, database, shown)
		r.explain(one, login{role: t.Role, database: t.Database, source: source, method: r.method, stored: r.stored}, err)
		f := one.Findings[0]
		if rest := databases[n+1:]; len(shown) == 0 && len(rest) > 0 {
			f.Text += "; that would be another failed login for " + strings.Join(rest, ", ") + ", which was not tried"
		}
		i := slices.IndexFunc(outcomes.Findings, func(g Finding) bool { return g.Text == f.Text })
		if i < 0 {
			i = len(where)
			outcomes.Findings, where = append(outcomes.Findings, f), append(where, nil)
		}
		where[i] = append(where[i], database)
		if len(shown) == 0 {
			break
		}
	}
	for i := range outcomes.Findings {
		f := outcomes.Findings[i]
		f.Text = "database " + strings.Join(where[i], ", ") + ": " + f.Text
		r.b.Findings = append(r.b.Findings, f)
	}
}

// tryAll logs in with what the role's secrets suffice for, and returns what came of the first that fits: of two, while the
// password changes, PostgreSQL knows one. Without any that fits it is what came of the first. left are those that have not been
// refused for a wrong password: with the others each try would be a failed login.
func (r *roleView) tryAll(ctx context.Context, database string, shown []auth.Credential) (left []auth.Credential, first error) {
	for i, c := range shown {
		err := r.try(ctx, r.site.Target(r.name, database, c))
		if err == nil || errors.Is(err, auth.ErrTrialFits) {
			return append(left, shown[i:]...), err
		}
		if i == 0 {
			first = err
		}
		if !backend.WrongPassword(err) {
			left = append(left, c)
		}
	}
	return left, first
}

// shown returns what the role's secrets suffice for to log in to PostgreSQL with, the zero Credential if there is nothing.
func (r *roleView) shown() (all []auth.Credential) {
	if r.ownPassword() {
		return []auth.Credential{{}}
	}
	for _, s := range r.secrets {
		c := s.Alone()
		if r.method.Asks() {
			c = s.Trial()
		}
		if !c.IsZero() {
			all = append(all, c)
		}
	}
	if all == nil {
		all = []auth.Credential{{}}
	}
	return all
}

// databases returns those to try, by the names that clients use, and says which the role cannot use at all.
func (r *roleView) databases(ctx context.Context) []string {
	names := make([]string, len(r.t.Databases))
	for i, d := range r.t.Databases {
		names[i] = d.Name
	}
	if !r.asked {
		if len(names) == 0 {
			names = []string{r.t.Service.Database}
		}
		return names
	}
	as := r.as()
	all, err := r.catalog.databases(ctx, as)
	if err != nil {
		r.b.warn("", "PostgreSQL could not be asked about databases: %v", err)
		return names
	}
	if len(names) == 0 && r.t.OtherDatabases == config.Allow {
		for _, d := range all {
			if d.open && d.connect {
				names = append(names, d.name)
			}
		}
		if len(names) == 0 {
			r.b.problem("GRANT CONNECT ON DATABASE … TO "+identifier(as), "role %q may connect to no database", as)
		}
		return names
	}
	return slices.DeleteFunc(names, func(name string) bool { return !r.usable(all, name, as) })
}

// usable reports whether the role can use a database that the configuration names, and says why not.
func (r *roleView) usable(all []pgDatabase, name, as string) bool {
	actual := r.site.Target(r.name, name, auth.Credential{}).Database
	i := slices.IndexFunc(all, func(d pgDatabase) bool { return d.name == actual })
	switch {
	case i < 0:
		r.b.problem("set databases[].dbname to its name in PostgreSQL, or create it", "PostgreSQL has no database %q", actual)
		return false
	case !all[i].open || all[i].limit == 0:
		f := r.b.add(Problem, "database %q takes no connections", actual)
		f.Advice = "let it:"
		f.SQL = []string{"ALTER DATABASE " + identifier(actual) + " ALLOW_CONNECTIONS true CONNECTION LIMIT -1;"}
		return false
	case !all[i].connect:
		f := r.b.add(Problem, "role %q has no CONNECT on database %q", as, actual)
		f.Advice = "unless that is meant:"
		f.SQL = []string{"GRANT CONNECT ON DATABASE " + identifier(actual) + " TO " + identifier(as) + ";"}
		return false
	}
	return true
}
