package proxy

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice/internal/tlsconf"
)

const (
	certificateCheck  = time.Hour      // how often it is looked whether certificates end
	certificateRemind = 24 * time.Hour // how often the log says it of one
)

// certificates returns what st has made of certificates: towards clients, and of each tenant towards Postgres.
func (st *state) certificates() []tlsconf.Source {
	all := []tlsconf.Source{st.tls}
	for _, name := range st.names() {
		all = append(all, st.tenants[strings.ToLower(name)].tls)
	}
	return all
}

// watchCertificates reloads the certificates of st when their files change, until the server ends or they are replaced.
// before, which may be nil, is the state that st replaces. s.mu is held.
func (s *Server) watchCertificates(st, before *state) {
	s.warnOfCertificates()
	sources := st.certificates()
	if before != nil && before.cfg.Watch == st.cfg.Watch && slices.Equal(before.certificates(), sources) {
		return
	}
	if s.unwatch != nil {
		s.unwatch()
		s.unwatch = nil
	}
	if st.cfg.Watch == "none" {
		return
	}
	ctx, cancel := context.WithCancel(s.ctx)
	s.unwatch = cancel
	s.workers.Go(func() {
		err := tlsconf.Watch(ctx, sources, func(err error) {
			if err != nil {
				s.log.Error("certificate reload failed, the old ones stay", logError, err)
				return
			}
			s.log.Info("certificates reloaded")
			s.warnOfCertificates()
		})
		if err != nil {
			s.log.Error("certificates cannot be watched", logError, err)
		}
	})
}

// followCertificates warns of certificates before they end, and once they have. It ends with the server.
func (s *Server) followCertificates() {
	ticker := time.NewTicker(certificateCheck)
	defer ticker.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-ticker.C:
			s.warnOfCertificates()
		}
	}
}

// warnOfCertificates logs what is wrong with certificates, or soon will be.
func (s *Server) warnOfCertificates() {
	st, now := s.state.Load(), time.Now()
	for _, w := range s.reminders.news(st.tls.Warnings(now), now) {
		s.log.Warn("certificate", logError, w)
	}
	for _, name := range st.names() {
		ts := st.tenants[strings.ToLower(name)]
		for _, w := range s.reminders.news(ts.tls.Warnings(now), now) {
			s.log.Warn("certificate towards postgres", logTenant, name, logError, w)
		}
	}
}

// Authorities returns, as PEM, the certificates that clients need to verify Sluice's; nil if that is not known.
func (s *Server) Authorities() []byte { return s.state.Load().tls.Authorities() }

// reminders remembers which warnings were logged. The zero value has logged none.
type reminders struct {
	mu   sync.Mutex // guards below
	told map[string]time.Time
}

// news returns those warnings that are due to be logged.
func (r *reminders) news(warnings []error, now time.Time) (due []error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for text, at := range r.told {
		if now.Sub(at) >= certificateRemind {
			delete(r.told, text)
		}
	}
	for _, w := range warnings {
		if _, told := r.told[w.Error()]; told {
			continue
		}
		if r.told == nil {
			r.told = make(map[string]time.Time)
		}
		r.told[w.Error()] = now
		due = append(due, w)
	}
	return due
}
