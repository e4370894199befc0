package config

import (
	"slices"
	"strings"
)

// login checks that what a tenant asks of its clients is there to be had, and that Sluice then has something to log in to
// Postgres with.
func (k *checker) login(at string, t *Tenant) {
	if t.RequireTLS && !k.cfg.TLS.Enabled() && k.sound("tls.cert_file") && k.listens(t.Name, false) {
		k.add(at+".require_tls", "needs tls.cert_file and tls.key_file: without them nobody can log in over TCP")
	}
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
	default:
		return
	}
	if !k.hasSecret(t) && k.sound(at+".backend", at+".backend.cert_file", at+".roles", at+".auth.users_file", at+".auth.query") {
		k.add(path, "%s gives no secret to log in to PostgreSQL with: it needs %s.roles[].backend.password, or %s.backend.cert_file, or secrets in %s.auth.users_file",
			t.Auth.Method, at, at, at)
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
