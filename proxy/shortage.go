package proxy

import (
	"fmt"
	"time"

	"sluice/pool"
)

// reportEvery is how often it is logged at most who holds the backends of a pool that has none left.
const reportEvery = 10 * time.Second

// explanation is why a pool has no backend for a client: for the client, so without anybody's name or address.
type explanation struct {
	at           time.Time // the loop's turn
	detail, hint string
}

// explain completes a refusal for want of a backend with what the pool's backends do and what can be done about it, and
// logs who has them. It leaves others as they are. To be called on the loop while the client still stands in the line.
func (l *lane) explain(e *endError) {
	if e.reason != ReasonPoolWaitTimeout && e.reason != ReasonTooManyPinned {
		return
	}
	holders := l.holders()
	switch {
	case e.reason == ReasonTooManyPinned:
		e.detail += " " + l.pinnedDetail(holders)
	case l.explained.at.Equal(l.loop.Now()): // many have waited since the same moment
		e.detail, e.hint = l.explained.detail, l.explained.hint
	default:
		st := l.pool.Stats()
		b := l.budgetUse(st)
		e.detail, e.hint = l.waitDetail(st, b, holders), l.waitHint(st, b, holders)
		l.explained = explanation{l.loop.Now(), e.detail, e.hint}
	}
	l.report(e, holders)
}

// report logs who holds the backends, now and then.
func (l *lane) report(e *endError, holders []holder) {
	now := l.loop.Now()
	if now.Sub(l.reported) < reportEvery {
		return
	}
	l.reported = now
	attrs := []any{logPool, l.key.String(), logReason, e.reason.String(), logDetail, e.detail, logHolders, longest(holders)}
	if l.pool.Stats().Short {
		shares := l.tenant.budget.Shares()
		attrs = append(attrs, logShares, shares[:min(len(shares), maxHolders)])
	}
	l.srv.log.Warn("pool exhausted", attrs...)
}

// poolWords names the pool to its own client.
func (l *lane) poolWords() string {
	return fmt.Sprintf("Pool %s/%s (%s)", l.key.Database, l.key.Role, l.key.Mode)
}

// budgetUse is how a tenant's max_backends is used up. The zero value: it is not.
type budgetUse struct {
	limit, here, elsewhere, pools int // backends, and other pools that have some
}

func (l *lane) budgetUse(st pool.Stats) budgetUse {
	if !st.Short {
		return budgetUse{}
	}
	var b budgetUse
	_, b.limit = l.tenant.budget.Used()
	for _, share := range l.tenant.budget.Shares() {
		if share.Key == l.key {
			b.here += share.Backends
			continue
		}
		b.elsewhere += share.Backends
		b.pools++
	}
	return b
}

// waitDetail says what the backends do that a client has waited for.
func (l *lane) waitDetail(st pool.Stats, b budgetUse, holders []holder) string {
	s := fmt.Sprintf("%s: %d of %d backends in use", l.poolWords(), st.Active, st.Limits.Size)
	if n := len(l.others) + 1; n > 1 {
		s += fmt.Sprintf(" in this of its %d parts", n)
	}
	if len(holders) > 0 {
		s += ": " + listed(groups(holders))
	}
	for _, other := range [...]struct {
		n    int
		what string
	}{
		{st.Idle, "idle, but opened with other start-up parameters"}, {st.Login, "being opened"}, {st.Closing, "being closed"},
	} {
		if other.n > 0 {
			s += fmt.Sprintf(", %d %s", other.n, other.what)
		}
	}
	s += fmt.Sprintf("; %s, the first for %.1f s.", plural(st.Waiting, "client waits", "clients wait"), st.OldestWait.Seconds())
	if b.limit > 0 {
		s += fmt.Sprintf(" All backends of the tenant are taken (max_backends is %d): %d by this pool, %d by %s.", b.limit, b.here,
			b.elsewhere, plural(b.pools, "other pool", "other pools"))
	}
	return s
}

// waitHint says what can be done, by what most of the backends do.
func (l *lane) waitHint(st pool.Stats, b budgetUse, holders []holder) string {
	sizeKey := fmt.Sprintf("pool_size (now %d)", l.settings.limits.Size)
	if l.key.Mode == modeSession {
		sizeKey = "session_" + sizeKey
	}
	if b.limit > 0 {
		if b.elsewhere >= b.here {
			return fmt.Sprintf("Ask the operator to raise max_backends (now %d), or to lower the pool_size of other roles.", b.limit)
		}
		sizeKey = fmt.Sprintf("max_backends (now %d)", b.limit)
	}
	most := holdsReturning
	if found := byState(holders); len(found) > 0 {
		most = found[0].state
	}
	switch {
	case st.Login > len(holders):
		return "PostgreSQL takes long to accept connections: ask the operator to look at it."
	case most == holdsInBlock:
		return "Commit or roll back as soon as the work is done, or ask the operator to set timeouts.idle_in_transaction."
	case most == holdsPinned:
		return "Connect clients that keep state in their session to the session port, or ask the operator to raise " + sizeKey + "."
	case most == holdsIdle:
		return "Close connections that are not used, connect to the transaction port, or ask the operator to raise " + sizeKey + "."
	case most == holdsActive:
		return "Look for slow statements and for locks that they wait for, or ask the operator to raise " + sizeKey + "."
	}
	return "Keep transactions short, or ask the operator to raise " + sizeKey + "."
}

// byState is groups without the reasons of pins.
func byState(all []holder) []group {
	plain := make([]holder, len(all))
	for i, h := range all {
		plain[i] = holder{state: h.state, age: h.age}
	}
	return groups(plain)
}

// pinnedDetail says why backends of the pool are pinned, whatever their sessions do now.
func (l *lane) pinnedDetail(holders []holder) string {
	var pinned []holder
	for _, h := range holders {
		if h.pin != "" {
			pinned = append(pinned, holder{state: holdsPinned, pin: h.pin, age: h.age})
		}
	}
	if len(pinned) == 0 {
		return l.poolWords() + ": none is pinned."
	}
	return fmt.Sprintf("%s: %s.", l.poolWords(), listed(groups(pinned)))
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
