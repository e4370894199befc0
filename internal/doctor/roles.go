package doctor

import (
	"context"
	"errors"
	"slices"

	"sluice/auth"
	"sluice/internal/config"
)

// role looks at whether clients can log in as a role, to Sluice and from there to Postgres.
func (s *subject) role(ctx context.Context, name string) {
	b := &Block{Subject: s.title("role %s", plain(name))}
	defer func() { s.block(b) }()
	r := &roleView{subject: s, name: name, b: b, method: auth.Method(s.t.Auth.Method)}
	r.secret(ctx)
	r.listeners()
	if r.inPostgres(ctx) {
		r.logins(ctx)
	}
}

// roleView is one role that is looked at.
type roleView struct {
	*subject
	name   string
	b      *Block
	method auth.Method
	entry  auth.Entry
	// secrets are those of the entry that count now: two while the password changes.
	secrets []auth.Secret
	barred  bool   // Sluice knows nothing that would let a client in
	stored  string // kind of the secret in Postgres; empty: not known
}

// as returns the role that Sluice logs in as for it.
func (r *roleView) as() string { return r.site.Target(r.name, "", auth.Credential{}).Role }

// ownPassword reports whether the configuration has a password to log in to Postgres with.
func (r *roleView) ownPassword() bool {
	return !r.site.Target(r.name, "", auth.Credential{}).Credential.IsZero()
}

// source names where Sluice knows the role's secret from.
func (r *roleView) source() string {
	if r.t.Auth.UsersFile != "" {
		if users, err := auth.LoadUsers(r.t.Auth.UsersFile); err == nil {
			if _, err := users.Lookup(context.Background(), r.name); err == nil {
				return "auth.users_file"
			}
		}
	}
	if r.t.URLLogin {
		return "the database URL (or pg_authid)"
	}
	return "auth.query"
}

// secret looks at what Sluice knows of the role.
func (r *roleView) secret(ctx context.Context) {
	var err error
	r.entry, err = r.site.Secret(ctx, r.name)
	r.secrets = r.entry.Good()
	if !r.method.Asks() {
		if len(r.secrets) == 0 { // who need not prove a secret may have one that has expired
			r.secrets = []auth.Secret{r.entry.Secret}
		}
		if err != nil && !errors.Is(err, auth.ErrUnknownRole) {
			r.barred = true
			r.b.problem("see the service login", "what is stored of it cannot be looked up: %v", err)
		}
		return
	}
	refused := func(s auth.Secret) bool { return r.method.AsksFor(s) == "" }
	r.barred = true
	switch {
	case errors.Is(err, auth.ErrUnknownRole):
		r.unknown()
	case err != nil:
		r.b.problem("see the service login", "its secret cannot be looked up: %v", err)
	case r.entry.Secret.IsZero():
		f := r.b.add(Problem, "%s has no password of it: it cannot log in with one", r.source())
		f.Advice, f.SQL = "set one:", []string{"ALTER ROLE " + identifier(r.name) + " PASSWORD '…';"}
	case r.entry.Expired():
		f := r.b.add(Problem, "its password has expired on %s: Sluice refuses it", day(r.entry.ValidUntil))
		f.Advice, f.SQL = "set a new one, or:", []string{"ALTER ROLE " + identifier(r.name) + " VALID UNTIL 'infinity';"}
	case !slices.ContainsFunc(r.secrets, func(s auth.Secret) bool { return !refused(s) }):
		f := r.b.add(Problem, "%s has an md5 hash of it, and auth.method is scram-sha-256, which needs a verifier: every login is refused", r.source())
		f.Advice = "set the password anew, or auth.method to auto; then copy the verifier if it is in a file:"
		f.SQL = []string{"SET password_encryption = 'scram-sha-256';", "ALTER ROLE " + identifier(r.name) + " PASSWORD '…';"}
	default:
		r.barred = false
		r.secrets = slices.DeleteFunc(r.secrets, refused)
		r.kinds()
	}
}

// kinds says what Sluice has of the role: two secrets while its password changes.
func (r *roleView) kinds() {
	if len(r.secrets) == 2 {
		r.b.ok("%s has two secrets of it, which are both good: its password changes", r.source())
	}
	for _, s := range r.secrets {
		if kind := s.Kind(); kind != auth.KindMD5 {
			r.b.ok("%s has a %s of it", r.source(), kind)
			continue
		}
		f := r.b.add(Warning, "%s has an md5 hash of it, which is as good as the password to who gets hold of it", r.source())
		f.Advice = "set the password anew:"
		f.SQL = []string{"SET password_encryption = 'scram-sha-256';", "ALTER ROLE " + identifier(r.name) + " PASSWORD '…';"}
	}
}

// unknown explains a role of which nothing is stored.
func (r *roleView) unknown() {
	switch {
	case r.t.URLLogin:
		r.b.problem("see the service login", "it is not in pg_authid with LOGIN, or Sluice may not read that: its clients are refused as with a wrong password")
	case r.t.Auth.Query == "":
		r.b.problem("add a line \"role\" \"verifier\" to auth.users_file (sluice hash-password makes verifiers), or set auth.query",
			"auth.users_file does not have it: its clients are refused as with a wrong password")
	default:
		r.b.problem("it must exist, with LOGIN and a password, and be what auth.query selects (not a superuser, in the function that Sluice suggests)",
			"auth.query returns no row for it: its clients are refused as with a wrong password")
	}
}

// listeners looks at what each listener asks of the role's clients.
func (r *roleView) listeners() {
	if r.t.OtherRoles == config.Deny && !slices.ContainsFunc(r.t.Roles, func(c config.Role) bool { return c.Name == r.name }) {
		r.b.problem("add it to roles, or set other_roles to allow", "it is not in roles, and other_roles is deny: it is refused")
		return
	}
	for _, key := range r.site.Shut(r.cfg.Network, r.name) {
		r.b.problem("list the networks that may connect", "%s is empty, which admits nobody", key)
	}
	if !r.admitted() {
		return
	}
	usable := false
	for _, l := range r.cfg.Listeners {
		if len(l.Tenants) > 0 && !slices.Contains(l.Tenants, r.t.Name) || !r.uses(l.Mode) {
			continue
		}
		if r.listener(&l) {
			usable = true
		}
	}
	if !usable && !r.barred {
		r.b.problem("look at listeners, roles[].modes and auth.method", "there is no listener on which its clients can log in")
	}
}

// uses reports whether the role may use the mode.
func (r *roleView) uses(mode config.Mode) bool {
	for _, c := range r.t.Roles {
		if c.Name == r.name {
			return len(c.Modes) == 0 || slices.Contains(c.Modes, mode)
		}
	}
	return true
}
