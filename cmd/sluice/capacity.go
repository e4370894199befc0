package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"sluice/internal/config"
	"sluice/internal/doctor"
	"sluice/proxy"
)

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
		lines := append(doctor.Arithmetic(c), doctor.Verdict(c))
		if _, err := fmt.Fprintf(w, "\ntenant %s\n  %s\n", c.Tenant, strings.Join(lines, "\n  ")); err != nil {
			return err
		}
		switch {
		case c.Err != nil && !errors.Is(c.Err, proxy.ErrNoService):
			failed = append(failed, fmt.Errorf("tenant %s: PostgreSQL could not be asked: %w", c.Tenant, c.Err))
		case !c.Fits():
			tight = append(tight, fmt.Errorf("tenants[%d]: does not fit: up to %d connections, but PostgreSQL has %d left; lower pool_size or max_backends", i,
				c.Certain(), c.Postgres.Left()))
		}
	}
	if len(tight) > 0 {
		return &unusableError{file: s.file, errs: append(tight, failed...)}
	}
	return errors.Join(failed...)
}
