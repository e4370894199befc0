package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"sluice/proxy"
)

// maxPoolLines bounds the pools of a tenant that are listed one by one.
const maxPoolLines = 20

// connections holds what the pools can ask of Postgres at worst against what it has.
func (s *subject) connections(ctx context.Context) {
	c := s.site.Capacity(ctx)
	s.pools = c.Pools
	b := &Block{Subject: s.title("connections")}
	f := b.add(OK, "%s", Verdict(&c))
	f.Detail = Arithmetic(&c)
	switch {
	case errors.Is(c.Err, proxy.ErrNoService):
		f.Level = Warning
	case c.Err != nil:
		f.Level = Problem
		f.Text += ": " + c.Err.Error()
		f.Advice, f.SQL = s.forbidden(c.Err, "GRANT SELECT ON pg_catalog.pg_stat_database TO "+identifier(s.t.Service.Role)+";")
	case !c.Fits():
		f.Level, f.Advice = Problem, "lower pool_size or max_backends, or raise max_connections"
	case c.Unbounded():
		f.Level, f.Advice = Warning, "set max_backends to "+strconv.Itoa(max(1, c.Postgres.Left()-c.Beside()))+" at most, or to auto"
	}
	s.block(b)
}

// account is a sum, as lines.
type account struct{ lines []string }

// line adds a line; the numbers stand below each other.
func (a *account) line(head, number, format string, args ...any) {
	a.lines = append(a.lines, fmt.Sprintf("%-12s %7s   %s", head, number, fmt.Sprintf(format, args...)))
}

// Arithmetic returns what a tenant's pools can ask of Postgres, and what that has, as lines.
func Arithmetic(c *proxy.Capacity) []string {
	var a account
	a.pools(c)
	a.bound(c)
	head := "beside it"
	for _, o := range c.Own {
		a.line(head, fmt.Sprintf("+%d", o.Count), "%s", o.For)
		head = ""
	}
	if c.Err == nil {
		a.room(c.Postgres)
	}
	return a.lines
}

// pools adds the pools and their sum.
func (a *account) pools(c *proxy.Capacity) {
	head := "pools"
	for _, p := range c.Pools[:min(len(c.Pools), maxPoolLines)] {
		database := cmp.Or(prefixed("database ", p.Database), "any database")
		what := kindOf(p)
		if !p.Listens() {
			what = cmp.Or(prefixed("role ", p.Role), "any role") + ", " + what + " mode"
		}
		a.line(head, strconv.Itoa(p.Size), "%s, %s", database, what)
		head = ""
	}
	if rest := c.Pools[min(len(c.Pools), maxPoolLines):]; len(rest) > 0 {
		n := 0
		for _, p := range rest {
			n += p.Size
		}
		a.line("", strconv.Itoa(n), "%d more pools", len(rest))
	}
	a.line("worst case", strconv.Itoa(c.Worst()), "backends in %d pools", len(c.Pools))
	if c.Open() {
		n, modes := 0, make([]string, len(c.Further))
		for i, p := range c.Further {
			n += p.Size
			modes[i] = fmt.Sprintf("%d %s", p.Size, kindOf(p))
		}
		a.line("", fmt.Sprintf("+%d", n), "for each further (database, role): %s", strings.Join(modes, " + "))
	}
}

// kindOf says what a pool is for.
func kindOf(p proxy.PoolSize) string {
	if p.Listens() {
		return "shared LISTEN"
	}
	return p.Mode
}

// bound adds max_backends.
func (a *account) bound(c *proxy.Capacity) {
	const head = "max_backends"
	switch {
	case c.Auto && c.Err == nil:
		a.line(head, "auto", "80 %% of what is left, asked again and again: now %d", max(1, c.Postgres.Left()*8/10))
	case c.Auto:
		a.line(head, "auto", "80 %% of what is left, asked again and again")
	case c.MaxBackends > 0:
		a.line(head, strconv.Itoa(c.MaxBackends), "backends of the tenant in all")
	default:
		a.line(head, "auto", "needs service.role: there is no bound")
	}
}

// room adds what Postgres has.
func (a *account) room(r proxy.Room) {
	a.line("PostgreSQL", strconv.Itoa(r.MaxConnections), "max_connections of version %s", r.Version)
	a.line("", fmt.Sprintf("-%d", r.Reserved), "reserved_connections and superuser_reserved_connections")
	a.line("", fmt.Sprintf("-%d", r.Others), "connections of others, those of a running Sluice included")
	a.line("left", strconv.Itoa(r.Left()), "connections for Sluice")
}

// Verdict says whether it fits.
func Verdict(c *proxy.Capacity) string {
	left, certain := c.Postgres.Left(), c.Certain()
	most := c.MaxBackends + c.Beside()
	switch {
	case errors.Is(c.Err, proxy.ErrNoService):
		return "PostgreSQL is there, but cannot be asked: set service.role, a role that can log in, and service.password"
	case c.Err != nil:
		return "PostgreSQL could not be asked"
	case c.Auto:
		return "fits: max_backends follows what is left"
	case certain > left:
		return fmt.Sprintf("DOES NOT FIT: %d > %d", certain, left)
	case c.Open() && c.MaxBackends > 0 && most > left:
		return fmt.Sprintf("fits: %d <= %d; but further databases and roles can make it %d > %d, with max_backends", certain, left, most, left)
	case c.Open() && c.MaxBackends == 0:
		return fmt.Sprintf("fits: %d <= %d; but nothing bounds further databases and roles", certain, left)
	case c.Open():
		return fmt.Sprintf("fits: at most max_backends and what is beside it, %d <= %d", most, left)
	}
	return fmt.Sprintf("fits: %d <= %d", certain, left)
}

// prefixed puts a prefix before a text that is not empty.
func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}
