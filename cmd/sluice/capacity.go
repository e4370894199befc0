package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"sluice/internal/config"
	"sluice/proxy"
)

// maxPoolLines bounds the pools of a tenant that are listed one by one.
const maxPoolLines = 20

// checkLive writes what the tenants' pools can ask of Postgres at worst, beside what Postgres has.
//
// Errors: *unusableError if it cannot fit, others if a Postgres could not be asked.
func (s source) checkLive(ctx context.Context, w io.Writer, cfg *config.Config) error {
	all, err := proxy.Capacities(ctx, cfg)
	if err != nil {
		return err
	}
	var tight, failed []error
	for i := range all {
		c := &all[i]
		if err := writeCapacity(w, c); err != nil {
			return err
		}
		switch {
		case c.Err != nil && !errors.Is(c.Err, proxy.ErrNoService):
			failed = append(failed, fmt.Errorf("tenant %s: PostgreSQL could not be asked: %w", c.Tenant, c.Err))
		case !c.Fits():
			tight = append(tight, fmt.Errorf("tenants[%d]: does not fit: up to %d backends, but PostgreSQL has %d left; lower pool_size or max_backends", i,
				c.Certain(), c.Postgres.Left()))
		}
	}
	if len(tight) > 0 {
		return &unusableError{file: s.file, errs: append(tight, failed...)}
	}
	return errors.Join(failed...)
}

// account is one tenant's part, as arithmetic.
type account struct{ strings.Builder }

// line adds a line; the numbers stand below each other.
func (a *account) line(head, number, format string, args ...any) {
	fmt.Fprintf(a, "  %-12s %7s   %s\n", head, number, fmt.Sprintf(format, args...))
}

// writeCapacity writes one tenant's part.
func writeCapacity(w io.Writer, c *proxy.Capacity) error {
	var a account
	fmt.Fprintf(&a, "\ntenant %s\n", c.Tenant)
	a.pools(c)
	a.bound(c)
	if c.Err == nil {
		a.room(c.Postgres)
	}
	fmt.Fprintf(&a, "  %s\n", verdict(c))
	_, err := io.WriteString(w, a.String())
	return err
}

// pools adds the pools and their sum.
func (a *account) pools(c *proxy.Capacity) {
	head := "pools"
	for _, p := range c.Pools[:min(len(c.Pools), maxPoolLines)] {
		a.line(head, strconv.Itoa(p.Size), "%s, %s, %s mode", cmp.Or(prefixed("database ", p.Database), "any database"),
			cmp.Or(prefixed("role ", p.Role), "any role"), p.Mode)
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
			modes[i] = fmt.Sprintf("%d %s", p.Size, p.Mode)
		}
		a.line("", fmt.Sprintf("+%d", n), "for each further (database, role): %s", strings.Join(modes, " + "))
	}
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

// verdict says whether it fits.
func verdict(c *proxy.Capacity) string {
	left, certain := c.Postgres.Left(), c.Certain()
	switch {
	case errors.Is(c.Err, proxy.ErrNoService):
		return "PostgreSQL is there, but cannot be asked: set service.role, a role that can log in, and service.password"
	case c.Err != nil:
		return "PostgreSQL could not be asked"
	case c.Auto:
		return "fits: max_backends follows what is left"
	case certain > left:
		return fmt.Sprintf("DOES NOT FIT: %d > %d", certain, left)
	case c.Open() && c.MaxBackends > left:
		return fmt.Sprintf("fits: %d <= %d; but further databases and roles can make it max_backends, %d > %d", certain, left, c.MaxBackends, left)
	case c.Open() && c.MaxBackends == 0:
		return fmt.Sprintf("fits: %d <= %d; but nothing bounds further databases and roles", certain, left)
	case c.Open():
		return fmt.Sprintf("fits: at most max_backends, %d <= %d", c.MaxBackends, left)
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
