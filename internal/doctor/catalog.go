package doctor

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"sluice/auth"
	"sluice/proxy"
)

// insufficientPrivilege is the SQLSTATE of what a role may not read.
const insufficientPrivilege = "42501"

// catalog is what Postgres tells the service login. Every name in its questions is qualified: a search_path could hide one.
type catalog struct{ site *proxy.Site }

func newCatalog(site *proxy.Site) *catalog { return &catalog{site} }

// pgRole is a role of Postgres.
type pgRole struct {
	login, super, expired bool
	validUntil            string
	limit                 int // -1: none
}

// errNoRole is a role that Postgres does not have.
var errNoRole = errors.New("no such role")

// role returns what Postgres says of a role. Errors: errNoRole, proxy.ErrNoService, or what kept it from being asked.
func (c *catalog) role(ctx context.Context, name string) (r pgRole, err error) {
	rows, err := c.site.Ask(ctx, `SELECT rolcanlogin, rolsuper, COALESCE(rolvaliduntil OPERATOR(pg_catalog.<) pg_catalog.now(), false),`+
		` COALESCE(rolvaliduntil::pg_catalog.text, ''), rolconnlimit FROM pg_catalog.pg_roles`+
		` WHERE rolname OPERATOR(pg_catalog.=) $1::pg_catalog.name AND pg_catalog.length($1::pg_catalog.text) OPERATOR(pg_catalog.<) 64`, name)
	switch {
	case err != nil:
		return r, err
	case len(rows) == 0:
		return r, errNoRole
	}
	v, err := values(rows[0], 5)
	if err != nil {
		return r, err
	}
	r = pgRole{login: v[0] == "t", super: v[1] == "t", expired: v[2] == "t", validUntil: v[3]}
	r.limit, err = strconv.Atoi(v[4])
	return r, err
}

// stored returns the secret that Postgres keeps of a role. Errors: as role; *auth.ServerError with insufficientPrivilege where
// the service role may not see it, as is usual.
func (c *catalog) stored(ctx context.Context, name string) (auth.Secret, error) {
	rows, err := c.site.Ask(ctx, `SELECT COALESCE(rolpassword, '') FROM pg_catalog.pg_authid WHERE rolname OPERATOR(pg_catalog.=) $1::pg_catalog.name`, name)
	switch {
	case err != nil:
		return auth.Secret{}, err
	case len(rows) == 0:
		return auth.Secret{}, errNoRole
	}
	v, err := values(rows[0], 1)
	if err != nil {
		return auth.Secret{}, err
	}
	return auth.ParseSecret(name, v[0])
}

// pgDatabase is a database of Postgres, as a role can use it.
type pgDatabase struct {
	name    string
	open    bool // takes connections
	limit   int  // -1: none
	connect bool // the role may connect
}

// databases returns those that are no templates, with what a role may there.
func (c *catalog) databases(ctx context.Context, role string) ([]pgDatabase, error) {
	rows, err := c.site.Ask(ctx, `SELECT datname, datallowconn, datconnlimit,`+
		` pg_catalog.has_database_privilege($1::pg_catalog.name, oid, 'CONNECT') FROM pg_catalog.pg_database`+
		` WHERE NOT datistemplate ORDER BY datname USING OPERATOR(pg_catalog.<)`, role)
	if err != nil {
		return nil, err
	}
	var all []pgDatabase
	for _, row := range rows {
		v, err := values(row, 4)
		if err != nil {
			return nil, err
		}
		d := pgDatabase{name: v[0], open: v[1] == "t", connect: v[3] == "t"}
		if d.limit, err = strconv.Atoi(v[2]); err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

// codeCatalogs are what Sluice reads, as the roles of clients, to find code that changes sessions.
const codeCatalogs = "pg_proc,pg_language,pg_namespace,pg_depend,pg_rewrite,pg_attrdef,pg_constraint,pg_policy"

// unreadable returns those of codeCatalogs that a role may not read.
func (c *catalog) unreadable(ctx context.Context, role string) ([]string, error) {
	rows, err := c.site.Ask(ctx, `SELECT c.relname FROM pg_catalog.pg_class c`+
		` WHERE c.relnamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace`+
		` AND c.relname OPERATOR(pg_catalog.=) ANY (pg_catalog.string_to_array($2, ',')::pg_catalog.name[])`+
		` AND NOT pg_catalog.has_table_privilege($1::pg_catalog.name, c.oid, 'SELECT') ORDER BY c.relname USING OPERATOR(pg_catalog.<)`, role, codeCatalogs)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, row := range rows {
		v, err := values(row, 1)
		if err != nil {
			return nil, err
		}
		names = append(names, v[0])
	}
	return names, nil
}

// values returns a row of n values none of which is NULL.
func values(row []*string, n int) ([]string, error) {
	if len(row) != n {
		return nil, fmt.Errorf("unexpected answer of %d columns", len(row))
	}
	v := make([]string, n)
	for i := range row {
		if row[i] == nil {
			return nil, errors.New("unexpected NULL in an answer")
		}
		v[i] = *row[i]
	}
	return v, nil
}

// privilege returns what Postgres says of a missing privilege; ok is false for any other error.
func privilege(err error) (message string, ok bool) {
	refused, ok := errors.AsType[*auth.ServerError](err)
	if !ok || refused.Response.Code != insufficientPrivilege {
		return "", false
	}
	return refused.Response.Message, true
}

// forbidden returns the advice for an error of a question that the service role may not ask, with what allows it; nothing for
// any other error.
func (s *subject) forbidden(err error, grant ...string) (advice string, sql []string) {
	if _, ok := privilege(err); !ok {
		return "", nil
	}
	return fmt.Sprintf("as a superuser, in the database %s:", s.t.Service.Database), grant
}

// identifier quotes a name for SQL.
func identifier(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
