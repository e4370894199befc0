package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sluice/internal/config"
	"sluice/netpolicy"
)

const (
	maxAllowed       = 100_000 // networks in one list of the API
	maxConfirmWithin = 24 * time.Hour
)

// The kinds of a RefusedError.
var (
	ErrUnknownTenant  = errors.New("unknown tenant")
	ErrInvalidChange  = errors.New("invalid change")
	ErrNotManaged     = errors.New("not managed by the API")
	ErrNothingPending = errors.New("nothing to confirm")
)

// RefusedError says why the policy was not changed, or not shown. Nothing has been done. It wraps its kind.
type RefusedError struct {
	Kind    error // one of the above
	Field   string
	Message string
}

// Error says it to the operator.
func (e *RefusedError) Error() string {
	if e.Field == "" {
		return e.Message
	}
	return e.Field + ": " + e.Message
}

// Unwrap returns the kind.
func (e *RefusedError) Unwrap() error { return e.Kind }

func refused(kind error, field, format string, args ...any) error {
	return &RefusedError{Kind: kind, Field: field, Message: fmt.Sprintf(format, args...)}
}

// AllowedNetwork is an entry of a tenant's list of allowed networks.
type AllowedNetwork struct {
	Prefix  netip.Prefix
	Until   time.Time // zero: for good
	Comment string
}

// Restrictions are the networks from which a tenant can be reached, as far as its own list goes: those of the process,
// roles and databases narrow it, and what is denied is left aside.
type Restrictions struct {
	Tenant    string
	Managed   bool // the API may change them
	Allowed   []AllowedNetwork
	Before    []AllowedNetwork // what counted before the last change by the API; nil: there was none
	ChangedAt time.Time        // by the API; zero: never
	ChangedBy string
	ConfirmBy time.Time // when Before counts again unless the change is confirmed; zero: it is for good
}

// Encryption says whether a tenant takes clients without TLS.
type Encryption struct {
	Tenant   string
	Managed  bool // the API may change it
	Required bool
	Stage    string // what tls_enforcement says of it: observe, warn or enforce
}

// Restriction is a wish for another list of allowed networks.
type Restriction struct {
	Tenant       string   // empty: the only one
	IPv4, IPv6   []string // "10.0.0.0/8", which "until TIME" and "# comment" may follow
	AllowNobody  bool     // the lists may be empty
	AllowCutoff  bool     // the caller's own address may be shut out
	ConfirmIn    time.Duration
	Author       Author
	Caller       netip.Addr // from where the change is asked for; the zero Addr: not over a network
	allowed      []config.Entry
	confirmUntil *time.Time
}

// Restrictions returns the networks from which the tenant, empty being the only one, can be reached.
// Errors: *RefusedError.
func (s *Server) Restrictions(tenant string) (Restrictions, error) {
	st := s.state.Load()
	t, err := st.configured(tenant)
	if err != nil {
		return Restrictions{}, err
	}
	return st.restrictions(t, time.Now()), nil
}

// Encryption returns whether the tenant, empty being the only one, takes clients without TLS. Errors: *RefusedError.
func (s *Server) Encryption(tenant string) (Encryption, error) {
	st := s.state.Load()
	t, err := st.configured(tenant)
	if err != nil {
		return Encryption{}, err
	}
	return st.encryption(t), nil
}

func (st *state) encryption(t *config.Tenant) Encryption {
	stage := tenantStage(t, st.saved)
	return Encryption{Tenant: t.Name, Managed: st.managed(t), Required: stage == netpolicy.Enforce, Stage: stage.String()}
}

// Restrict replaces the networks from which a tenant can be reached. When it returns nil the change stands in the state
// file and counts; sessions that it denies end at their next free moment.
//
// Errors: *RefusedError; else what kept it from being written. Either way nothing is changed.
func (s *Server) Restrict(r Restriction) (Restrictions, error) {
	return change(s, r.Tenant, func(st *state, t *config.Tenant) (*saved, error) {
		after, err := st.restricted(t, &r, time.Now())
		if err == nil && !r.AllowCutoff && len(r.allowed) > 0 {
			err = st.keepsCaller(t, r.Caller, after)
		}
		return after, err
	}, func(before, st *state, t *config.Tenant) Restrictions {
		attrs := append(r.Author.attrs(), logTenant, t.Name, logSetting, "network.allowed_cidrs",
			logBefore, texts(before.allowed(t)), logAfter, texts(r.allowed))
		if r.confirmUntil != nil {
			attrs = append(attrs, logConfirmBy, *r.confirmUntil)
		}
		s.audit.note(auditPolicy, attrs...)
		return st.restrictions(t, time.Now())
	})
}

// Confirm has the tenant's last change stay that waits for it. Errors: as Restrict.
func (s *Server) Confirm(tenant string, author Author) (Restrictions, error) {
	return change(s, tenant, func(st *state, t *config.Tenant) (*saved, error) {
		says := st.saved.counts(t)
		if says.Network == nil || says.Network.Pending == nil {
			return nil, refused(ErrNothingPending, "", "no change waits to be confirmed: it has gone back, or was for good")
		}
		network := *says.Network
		network.Pending = nil
		says.Network = &network
		return st.saved.with(says), nil
	}, func(_, st *state, t *config.Tenant) Restrictions {
		s.audit.note(auditConfirmed, append(author.attrs(), logTenant, t.Name)...)
		return st.restrictions(t, time.Now())
	})
}

// Encrypt says whether a tenant takes clients without TLS. Errors: as Restrict.
func (s *Server) Encrypt(tenant string, required bool, author Author) (Encryption, error) {
	return change(s, tenant, func(st *state, t *config.Tenant) (*saved, error) {
		says := st.saved.counts(t)
		says.TLS = &savedTLS{Required: required, savedChange: savedChange{time.Now().UTC(), author.String()}}
		after := st.saved.with(says)
		if err := checkSaved(st.cfg, after); err != nil {
			return nil, refused(ErrInvalidChange, "requestedConfig.database", "Sluice offers no TLS: set tls.cert_file and tls.key_file first")
		}
		return after, nil
	}, func(before, after *state, t *config.Tenant) Encryption {
		s.audit.note(auditPolicy, append(author.attrs(), logTenant, t.Name, logSetting, "require_tls",
			logBefore, requiresTLS(t, before.saved), logAfter, required)...)
		return after.encryption(t)
	})
}

// change makes what next returns count for a tenant that the API manages, and returns what done says, which is told of the
// state before and after.
func change[V any](s *Server, tenant string, next func(*state, *config.Tenant) (*saved, error), done func(before, after *state, t *config.Tenant) V) (none V, err error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	if s.draining.Load() {
		return none, ErrServerClosed
	}
	before := s.state.Load()
	t, err := before.configured(tenant)
	if err != nil {
		return none, err
	}
	if !before.managed(t) {
		return none, refused(ErrNotManaged, "", "tenant %s: the configuration rules here: set network.managed_by to api, and state_dir", t.Name)
	}
	if s.keeper.changed() {
		return none, fmt.Errorf("state_dir: %s %w", s.keeper.dir.Path(savedFile), errStateChanged)
	}
	after, err := next(before, t)
	if err != nil {
		return none, err
	}
	policy, err := netpolicy.Compile(policySpec(before.cfg, after), time.Now())
	if err != nil {
		return none, fmt.Errorf("network: %w", err)
	}
	if err := s.keeper.write(after); err != nil {
		return none, err
	}
	return done(before, s.usePolicy(policy, after), t), nil
}

// restricted returns what the API says once r counts, and fills in what r means.
func (st *state) restricted(t *config.Tenant, r *Restriction, now time.Time) (*saved, error) {
	v4, err := parseAllowed("dbAllowedCidrs", r.IPv4, now, netip.Addr.Is4)
	if err != nil {
		return nil, err
	}
	v6, err := parseAllowed("dbAllowedCidrsV6", r.IPv6, now, netip.Addr.Is6)
	if err != nil {
		return nil, err
	}
	r.allowed = slices.Concat(v4, v6)
	switch {
	case len(r.allowed) > maxAllowed:
		return nil, refused(ErrInvalidChange, "dbAllowedCidrs", "has %d networks with dbAllowedCidrsV6, %d are the most", len(r.allowed), maxAllowed)
	case len(r.allowed) == 0 && !r.AllowNobody:
		return nil, refused(ErrInvalidChange, "dbAllowedCidrs", "is empty, and with it nobody could connect any more: --allow-nobody (allowNobody) says that this is meant")
	case r.ConfirmIn < 0 || r.ConfirmIn > maxConfirmWithin:
		return nil, refused(ErrInvalidChange, "confirmWithin", "must be from 1s to %s, or absent", maxConfirmWithin)
	}
	if r.allowed == nil {
		r.allowed = []config.Entry{}
	}
	says := st.saved.counts(t)
	network := &savedNetwork{Allowed: r.allowed, savedChange: savedChange{now.UTC(), r.Author.String()}}
	switch {
	case says.Network == nil:
	case says.Network.Pending != nil: // the way back leads to what was decided last, not to what was only tried
		network.Before = says.Network.Before
	default:
		network.Before = says.Network.Allowed
	}
	if r.ConfirmIn > 0 {
		until := now.Add(r.ConfirmIn).UTC()
		network.Pending, r.confirmUntil = &until, &until
	}
	says.Network = network
	return st.saved.with(says), nil
}

func parseAllowed(field string, list []string, now time.Time, family func(netip.Addr) bool) ([]config.Entry, error) {
	var entries []config.Entry
	for i, text := range list {
		at := fmt.Sprintf("%s[%d]", field, i)
		e, err := config.ParseEntry(text)
		switch {
		case err != nil:
			return nil, refused(ErrInvalidChange, at, "%s, got %.80q", err, text)
		case !family(e.Prefix.Addr()):
			return nil, refused(ErrInvalidChange, at, "belongs into the other list: dbAllowedCidrs is for IPv4, dbAllowedCidrsV6 for IPv6, got %.80q", text)
		case !e.Until.IsZero() && !now.Before(e.Until):
			return nil, refused(ErrInvalidChange, at, "has expired already, got %.80q", text)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// keepsCaller refuses what would shut out an address that reaches the tenant now, and from which the change is asked for.
func (st *state) keepsCaller(t *config.Tenant, caller netip.Addr, after *saved) error {
	if !caller.IsValid() {
		return nil
	}
	entry := func(sv *saved) bool {
		now := time.Now()
		for _, e := range setsOf(st.cfg).entries(tenantNetwork(t, sv).AllowedCIDRs) {
			if (e.Until.IsZero() || now.Before(e.Until)) && e.Prefix.Contains(caller.Unmap().WithZone("")) {
				return true
			}
		}
		return false
	}
	if entry(st.saved) && !entry(after) {
		return refused(ErrInvalidChange, "dbAllowedCidrs",
			"would shut out %s, from where you ask for it: add it, or say with --allow-self-cutoff (allowSelfCutoff) that this is meant", caller.Unmap())
	}
	return nil
}

// usePolicy makes policy, which is compiled from sv, the one that counts. s.changing is held.
func (s *Server) usePolicy(policy *netpolicy.Policy, sv *saved) *state {
	st := *s.state.Load()
	st.policy, st.saved = policy, sv
	s.state.Store(&st)
	for _, sh := range s.shards {
		sh.loop.Post(sh.recheck)
	}
	s.rewind()
	return &st
}

// configured returns the tenant with that name, or for the empty name the only one.
func (st *state) configured(tenant string) (*config.Tenant, error) {
	if tenant == "" {
		if st.only == nil {
			return nil, refused(ErrUnknownTenant, "tenant", "which of %s?", strings.Join(st.names(), ", "))
		}
		return st.only.cfg, nil
	}
	if ts := st.tenants[strings.ToLower(tenant)]; ts != nil && ts.cfg.Name == tenant {
		return ts.cfg, nil
	}
	return nil, refused(ErrUnknownTenant, "tenant", "there is none with the name %.80q", tenant)
}

func (st *state) names() []string {
	var names []string
	for _, t := range st.cfg.Tenants {
		names = append(names, t.Name)
	}
	return names
}

// managed reports whether the API may change what counts for the tenant.
func (st *state) managed(t *config.Tenant) bool { return t.Network.ManagedBy == config.ManagedByAPI }

// allowed returns the tenant's list as it counts.
func (st *state) allowed(t *config.Tenant) []config.Entry {
	return tenantNetwork(t, st.saved).AllowedCIDRs
}

func (st *state) restrictions(t *config.Tenant, now time.Time) Restrictions {
	r := Restrictions{Tenant: t.Name, Managed: st.managed(t), Allowed: st.networks(st.allowed(t), now)}
	if n := st.saved.counts(t).Network; n != nil {
		r.ChangedAt, r.ChangedBy = n.At, n.By
		before := n.Before
		if before == nil {
			before = t.Network.AllowedCIDRs
		}
		r.Before = st.networks(before, now)
		if n.Pending != nil {
			r.ConfirmBy = *n.Pending
		}
	}
	return r
}

// networks returns what counts of a list at now, with what the sets in it hold.
func (st *state) networks(list []config.Entry, now time.Time) []AllowedNetwork {
	all := []AllowedNetwork{}
	for _, e := range setsOf(st.cfg).entries(list) {
		if e.Until.IsZero() || now.Before(e.Until) {
			all = append(all, AllowedNetwork{Prefix: e.Prefix, Until: e.Until, Comment: e.Comment})
		}
	}
	return all
}

// texts returns entries as the audit log has them.
func texts(entries []config.Entry) []string {
	all := make([]string, len(entries))
	for i, e := range entries {
		all[i] = e.String()
	}
	return all
}
