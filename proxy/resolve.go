package proxy

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"sluice/auth"
	"sluice/internal/wire"
)

// wanted is what a client says of the tenant that it wants, whatever tenants there are.
type wanted struct {
	role, suffix string   // the user name, split at its last dot; empty without one
	server       string   // first label of the TLS server name, which has no case
	options      []string // in the options
}

func (a *admission) wanted(st *startup) *wanted {
	w := &wanted{options: st.tenants}
	if i := strings.LastIndexByte(st.user, '.'); i > 0 {
		w.role, w.suffix = st.user[:i], st.user[i+1:]
	}
	if a.tlsConn != nil {
		if label, _, ok := strings.Cut(a.tlsConn.ConnectionState().ServerName, "."); ok {
			w.server = strings.ToLower(label)
		}
	}
	return w
}

// resolve finds the tenant: by the suffix of the user name, the TLS server name and the options, which must agree. There is
// none for a stranger, who must not be able to tell why.
func (a *admission) resolve(st *startup) (*tenantState, *endError) {
	a.typed, a.role = st.user, st.user
	w := a.wanted(st)
	if len(w.options) > 1 && slices.ContainsFunc(w.options, func(name string) bool { return name != w.options[0] }) {
		return nil, &endError{reason: ReasonInvalidStartup, message: "the options name two different tenants"}
	}
	ts := a.named(w)
	if ts == nil || !a.serves(ts.cfg.Name) {
		a.stray(w)
		return nil, nil
	}
	if w.suffix == ts.cfg.Name {
		a.role = w.role
	}
	return ts, nil
}

// named returns the tenant that w names; nil if there is none, or w names two. A suffix or a server name that is no tenant's
// does not count: it belongs to the role's name, or to any host.
func (a *admission) named(w *wanted) *tenantState {
	var names []string
	if a.state.tenant(w.suffix) != nil {
		names = append(names, w.suffix)
	}
	if t := a.state.tenants[w.server]; t != nil {
		names = append(names, t.cfg.Name)
	}
	names = append(names, w.options...)
	if len(names) == 0 {
		return a.state.only
	}
	for _, name := range names {
		if name != names[0] {
			a.astray = fmt.Sprintf("the client names two tenants, %.64q and %.64q", names[0], name)
			return nil
		}
	}
	return a.state.tenant(names[0])
}

// tenant returns the tenant with that name, nil if there is none.
func (st *state) tenant(name string) *tenantState {
	if t := st.tenants[strings.ToLower(name)]; t != nil && t.cfg.Name == name {
		return t
	}
	return nil
}

// stray takes the client for one of a tenant that there is not. What it is known by follows from what it says alone, in the
// same way as for tenants that there are: the salts that it is shown, and the delays behind failures, must not tell.
func (a *admission) stray(w *wanted) {
	option := ""
	if len(w.options) > 0 {
		option = w.options[0]
	}
	asked := cmp.Or(option, w.suffix)
	a.claimed = cmp.Or(asked, w.server)
	if w.suffix != "" && w.suffix == a.claimed {
		a.role = w.role
	}
	switch {
	case a.astray != "":
	case asked == "":
		a.astray = "the client names none of the tenants, as in role.tenant"
	default:
		a.astray = fmt.Sprintf("this listener has no tenant %.64q", asked)
	}
}

// stranger is the login to a tenant that does not exist: it looks like a wrong password, but in the log.
func (a *admission) stranger(ctx context.Context, wc *wire.Conn) *endError {
	au, err := auth.New(auth.Params{Method: auth.SCRAMSHA256, Store: auth.Chain{}, MockKey: a.srv.env.mockKeyOf(a.claimed)})
	if err != nil {
		return &endError{reason: ReasonInternalError, err: err}
	}
	if _, e := a.authenticate(ctx, wc, au); e != nil {
		if errors.Is(e.err, auth.ErrAuthFailed) {
			e.err = fmt.Errorf("%w: %s", e.err, a.astray)
		}
		return e
	}
	return &endError{reason: ReasonInternalError, err: errors.New("a stranger was authenticated")}
}

// mockKeyOf returns what the salts of a tenant's roles are made of for which none is stored. A tenant that does not exist has
// one as well: the same role has another salt in each, so that none tells which there are.
func (e *environment) mockKeyOf(tenant string) (key [32]byte) {
	h := hmac.New(sha256.New, e.mockKey[:])
	_, _ = io.WriteString(h, strings.ToLower(tenant))
	h.Sum(key[:0])
	return key
}

// serves reports whether the listener serves the tenant.
func (a *admission) serves(tenant string) bool {
	only := a.ln.cfg().Tenants
	return len(only) == 0 || slices.Contains(only, tenant)
}
