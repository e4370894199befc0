package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"sluice/internal/config"
	"sluice/netpolicy"
)

// guardLimits translates the configuration.
func guardLimits(c config.Bans) netpolicy.Limits {
	return netpolicy.Limits{After: c.After, Window: c.Window, For: c.For, Never: c.Never}
}

// attempt is the client's login as the guard counts it. A tenant that does not exist counts by the name that was asked for:
// else the delay would tell that it does not.
func (a *admission) attempt() netpolicy.Attempt {
	at := netpolicy.Attempt{Tenant: a.tenant, Role: a.role, Addr: a.counted()}
	if at.Tenant == "" {
		at.Tenant = "?" + a.claimed[:min(len(a.claimed), maxApplication)]
	}
	return at
}

// passGuard makes the client wait for as long as failed logins before it cost, or refuses it.
func (a *admission) passGuard(ctx context.Context) *endError {
	at := a.attempt()
	deadline, _ := ctx.Deadline()
	now := time.Now()
	v := a.srv.guard.Ask(at, deadline.Sub(now), now)
	switch {
	case v.Ban != nil:
		return a.banned(v.Ban)
	case v.Busy:
		return a.mayTell(&endError{reason: ReasonTooManyFailedLogins, message: "too many failed logins from address " + a.seenAs()})
	case v.Wait == 0:
		return nil
	}
	a.srv.metrics.LoginDelayed(a.tenant)
	timer := time.NewTimer(v.Wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			return &endError{reason: ReasonLoginTimeout, err: context.Cause(ctx)}
		}
		return &endError{reason: ReasonDraining, err: context.Cause(ctx)}
	}
	if b := a.srv.guard.Banned(at, time.Now()); b != nil { // by others from there, meanwhile
		return a.banned(b)
	}
	return nil
}

// banned is the refusal of a banned address.
func (a *admission) banned(b *netpolicy.Ban) *endError {
	return a.mayTell(&endError{
		reason:  ReasonBannedAddress,
		message: fmt.Sprintf("address %s is banned because of too many failed logins", a.seenAs()),
		hint:    fmt.Sprintf("The ban ends at %s. Check the password, or ask the operator.", b.Until.UTC().Format(time.RFC3339)),
	})
}

// mayTell returns the refusal, or in a flood of them from one address a silent end, which is counted but leaves no line.
func (a *admission) mayTell(e *endError) *endError {
	if a.telling = a.srv.crowd.tell(a.source()); a.telling {
		return e
	}
	a.srv.metrics.Refused(a.tenant, a.mode, e.reason.String())
	return &endError{reason: e.reason, err: errQuiet}
}

// guessed counts a proof that was complete and wrong.
func (a *admission) guessed() {
	a.srv.metrics.LoginFailed(a.tenant, a.role)
	b := a.srv.guard.Failed(a.attempt(), time.Now())
	if b == nil {
		return
	}
	a.srv.records.changed()
	a.srv.metrics.Banned(a.tenant)
	attrs := []any{
		logAddress, b.Network.Addr(), logNetwork, b.Network, logTenant, a.tenant,
		logUntil, b.Until.UTC(), logFailures, b.Failures, logWhy, b.Reason,
	}
	a.srv.log.Warn("address banned", attrs...)
	a.srv.audit.note(auditBanned, attrs...)
}

// Ban is an address that may not log in to a tenant for a time.
type Ban struct {
	Tenant   string       `json:"tenant"`
	Network  netip.Prefix `json:"network"`
	Since    time.Time    `json:"since"`
	Until    time.Time    `json:"until"`
	Failures int          `json:"failures"`
	Reason   string       `json:"reason"`
}

// Bans returns the bans of now, those that end first in front.
func (s *Server) Bans() []Ban {
	list := []Ban{}
	for _, b := range s.guard.Bans(time.Now()) {
		list = append(list, Ban{b.Tenant, b.Network, b.Since.UTC(), b.Until.UTC(), b.Failures, b.Reason})
	}
	return list
}

// ClearBans ends the bans of a tenant, of all with an empty name, that touch the network, or any with the zero Prefix. The
// failures that have led to them are forgotten. It returns how many bans there were.
func (s *Server) ClearBans(tenant string, network netip.Prefix, by Author) int {
	n := s.guard.Clear(tenant, network, time.Now())
	s.records.changed()
	attrs := append(by.attrs(), logTenant, tenant, logCount, n)
	if network.IsValid() {
		attrs = append(attrs, logNetwork, network)
	}
	s.audit.note(auditCleared, attrs...)
	return n
}
