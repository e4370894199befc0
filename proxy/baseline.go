package proxy

import (
	"crypto/sha256"
	"slices"
	"strings"

	"sluice/auth"
	"sluice/internal/backend"
	"sluice/internal/prepared"
	"sluice/internal/relay"
	"sluice/internal/sessionstate"
	"sluice/internal/wire"
)

// baseline is what the backends of a lane have in common that were opened with the same start-up parameters. Statements
// are interned per baseline, because Postgres parses them under these settings. It lives on the lane's loop.
type baseline struct {
	key    string
	table  *prepared.Table
	params []wire.Param // ParameterStatus of the backend that was opened last; never changed in place
	relay  *relay.Params

	target *backend.Target   // of the last login
	cred   [sha256.Size]byte // fingerprint of its credential

	refs int // sessions and backends
}

// baseline returns the lane's baseline with that key, one reference added.
func (l *lane) baseline(key string) *baseline {
	b := l.baselines[key]
	if b == nil {
		b = &baseline{key: key, table: prepared.NewTable()}
		l.baselines[key] = b
	}
	b.refs++
	return b
}

// share returns the target of an earlier login that is the same, so that sessions need not keep one each.
func (b *baseline) share(t *backend.Target, cred [sha256.Size]byte) *backend.Target {
	if b.target == nil || b.cred != cred || b.target.Role != t.Role || b.target.Database != t.Database {
		b.target, b.cred = t, cred
	}
	return b.target
}

// setParams notes what a new backend has reported. Machines that run keep to what their client was told.
func (l *lane) setParams(b *baseline, params []wire.Param) {
	if b.relay != nil && slices.Equal(b.params, params) {
		return
	}
	b.params = params
	l.greetings.Store(b.key, params)
	behind := &l.behind
	if strings.Contains(b.key, "pg_temp") { // a search_path under which any CREATE TABLE may make a temporary one
		behind = &relay.Behind{}
		behind.Set(relay.Strict, &sessionstate.Code{Opaque: true, Unknown: true})
	}
	b.relay = &relay.Params{
		Raw: l.key.Mode != modeTransaction, Behind: behind, Table: b.table, Baseline: params,
		Counters: &l.counters, Sequences: &l.sequences, PlanUnnamed: &l.settings.planUnnamed,
		Shared: &l.settings.listens, Observer: &l.observer, Speakers: l.speakers, Redefined: l.redefined,
	}
}

func (l *lane) dropBaseline(b *baseline) {
	b.refs--
	if b.refs == 0 {
		delete(l.baselines, b.key)
		l.greetings.Delete(b.key)
	}
}

// enter finds the session's baseline, one reference added, and takes over what its login says about opening backends. To be
// called on the loop.
func (s *session) enter(key string) {
	l := s.lane
	s.base = l.baseline(key)
	if last := l.cred.Load(); last == nil || !covers(s.target.Credential, *last) {
		if last != nil {
			l.pool.Renew()
		}
		now := generation(s.target.Credential)
		l.cred.Store(&now)
	}
	s.target = s.base.share(s.target, fingerprint(s.target.Credential))
	l.target = s.target
	l.pool.SetLogin(*s.target)
}

// known returns the parameters of the baseline with that key if they are known, and the credential fits the open backends: then
// a login has nothing to learn. It may be called from anywhere.
func (l *lane) known(key string, t *backend.Target) []wire.Param {
	params, ok := l.greetings.Load(key)
	last := l.cred.Load()
	if !ok || last == nil || !covers(t.Credential, *last) {
		return nil
	}
	return params.([]wire.Param)
}

// noCredential stands for none; it differs from what identifies any other.
func noCredential() [sha256.Size]byte { return [sha256.Size]byte{1} }

// fingerprint identifies a credential.
func fingerprint(c auth.Credential) [sha256.Size]byte {
	if c.IsZero() {
		return noCredential()
	}
	return c.Fingerprint()
}

// generation identifies the secret of a credential: backends carry that of the one that they have logged in with.
func generation(c auth.Credential) [sha256.Size]byte {
	if c.IsZero() {
		return noCredential()
	}
	return c.Generation()
}

// covers reports whether backends of that generation may serve who has shown c.
func covers(c auth.Credential, of [sha256.Size]byte) bool {
	if c.IsZero() {
		return of == noCredential()
	}
	return c.Covers(of)
}
