package proxy

import (
	"fmt"
	"slices"
	"time"

	"sluice/internal/config"
)

// Notes returns what works less well than it could with cfg, which Check has found nothing wrong with, each with its key
// path: what is not said, and certificates that are not valid, or soon will not be.
func Notes(cfg *config.Config) (notes []string) {
	pooled := slices.ContainsFunc(cfg.Listeners, func(l config.Listener) bool { return l.Mode == config.ModeTransaction })
	for i := range cfg.Tenants {
		if pooled && cfg.Tenants[i].Service.Role == "" {
			notes = append(notes, fmt.Sprintf("tenants[%d].service: no role, so on the transaction port each client that has run LISTEN keeps a backend", i))
		}
	}
	return append(notes, certificateNotes(cfg, time.Now())...)
}

// certificateNotes returns a note for each certificate that is not valid at now, or soon will not be.
func certificateNotes(cfg *config.Config, now time.Time) (notes []string) {
	if t, err := serverTLS(cfg.TLS); err == nil {
		notes = append(notes, dated("tls", t, now)...)
	}
	for i := range cfg.Tenants {
		if _, t, err := tenantDialer(&cfg.Tenants[i].Backend, nil); err == nil {
			notes = append(notes, dated(fmt.Sprintf("tenants[%d].backend", i), t, now)...)
		}
	}
	return notes
}

// perishable is what is made of certificates, as package tlsconf makes it.
type perishable interface {
	Warnings(now time.Time) []error
	Outdated(now time.Time) []error
}

// dated returns what the certificates under a key path have against now.
func dated(path string, p perishable, now time.Time) (notes []string) {
	for _, w := range slices.Concat(p.Warnings(now), p.Outdated(now)) {
		notes = append(notes, path+": "+w.Error())
	}
	return notes
}
