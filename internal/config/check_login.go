package config

import (
	"slices"
	"strings"
)

// login checks that what a tenant asks of its clients is there to be had, and that Sluice then has something to log in to
// Postgres with.
func (k *checker) login(at string, t *Tenant) {
	k.enforcement(at, t)
	k.identity(at+".auth", t)
	path := at + ".auth.method"
	switch t.Auth.Method {
	case AuthCert:
		if k.cfg.TLS.ClientCert == ClientCertNone && k.sound("tls.client_cert") {
			k.add(path, "cert needs tls.client_cert, optional or required")
		}
	case AuthPeer:
		if !k.listens(t.Name, true) && k.sound("listeners") {
			k.add(path, "peer needs a listener on a Unix socket")
		}
	case AuthJWT:
	default:
		return
	}
	if !k.hasSecret(t) && k.sound(at+".backend", at+".backend.cert_file", at+".roles", at+".auth.users_file", at+".auth.query") {
		k.add(path, "%s gives no secret to log in to PostgreSQL with: it needs %s.roles[].backend.password, or %s.backend.cert_file, or secrets in %s.auth.users_file",
			t.Auth.Method, at, at, at)
	}
}

// enforcement checks that TLS is asked for only where it is offered, and that the tenant does not say two things.
func (k *checker) enforcement(at string, t *Tenant) {
	const key = ".tls_enforcement"
	if t.RequireTLS && (t.TLSEnforcement == TLSObserve || t.TLSEnforcement == TLSWarn) {
		k.add(at+key, "must be enforce or absent, since %s.require_tls is true, %s", at, k.got(at+key, t.TLSEnforcement))
	}
	if k.cfg.TLS.Enabled() || !k.sound("tls.cert_file") || !k.listens(t.Name, false) {
		return
	}
	needs := func(path, stage string) {
		switch stage {
		case TLSWarn:
			k.add(path, "needs tls.cert_file and tls.key_file: without them clients would be told to use what is not offered")
		case TLSEnforce:
			k.add(path, "needs tls.cert_file and tls.key_file: without them nobody can log in over TCP")
		}
	}
	if t.RequireTLS {
		needs(at+".require_tls", TLSEnforce)
	} else {
		needs(at+key, t.TLSEnforcement)
	}
	for i, r := range t.Roles {
		needs(item(at+".roles", i)+key, r.TLSEnforcement)
	}
	for i, d := range t.Databases {
		needs(item(at+".databases", i)+key, d.TLSEnforcement)
	}
}

// listens reports whether a listener serves the tenant, on a Unix socket or over TCP.
func (k *checker) listens(tenant string, unix bool) bool {
	return slices.ContainsFunc(k.cfg.Listeners, func(l Listener) bool {
		return strings.HasPrefix(l.Address, "/") == unix && (len(l.Tenants) == 0 || slices.Contains(l.Tenants, tenant))
	})
}

// hasSecret reports whether Sluice may be able to log in to Postgres for a client that has shown no secret. A Postgres on
// this machine may trust it.
func (k *checker) hasSecret(t *Tenant) bool {
	stored := t.Auth.UsersFile != "" || t.Auth.Query != "" || t.URLLogin || t.Backend.CertFile != ""
	role := slices.ContainsFunc(t.Roles, func(r Role) bool { return r.Backend.Password != "" })
	return stored || role || !slices.ContainsFunc(t.Backend.Hosts, func(h HostPort) bool { return !h.Local() })
}
