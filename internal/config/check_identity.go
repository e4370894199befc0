package config

import (
	"errors"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

// identMaps checks the lines of the ident maps, each by itself.
func (k *checker) identMaps() {
	for i, l := range k.cfg.IdentMaps {
		at := item("ident_maps", i)
		groups, expr := 0, false
		if text, is := strings.CutPrefix(l.Identity, "/"); is {
			expr = true
			e, err := regexp.Compile(text)
			var wrong *syntax.Error
			switch {
			case errors.As(err, &wrong):
				k.add(at+".identity", "must be a regular expression behind its /: %s, %s", wrong.Code, k.got(at+".identity", l.Identity))
				continue
			case text == "":
				k.add(at+".identity", "must have a regular expression behind its /")
				continue
			}
			groups = e.NumSubexp()
		}
		k.mappedRole(at, l, expr, groups)
	}
}

// mappedRole checks that a line's role means what pg_ident.conf would take it for.
func (k *checker) mappedRole(at string, l IdentLine, expr bool, groups int) {
	role := at + ".role"
	refers := strings.Contains(l.Role, `\1`)
	switch {
	case strings.HasPrefix(l.Role, "/"), strings.HasPrefix(l.Role, "+"):
		k.add(role, "must be the name of a role, not a regular expression or a group of roles, %s", k.got(role, l.Role))
	case regexp.MustCompile(`\\[02-9]`).MatchString(l.Role):
		k.add(role, `must refer to the first group only, \1, %s`, k.got(role, l.Role))
	case refers && !expr:
		k.add(role, `has \1, but %s.identity is no regular expression: it begins with no /`, at)
	case refers && groups == 0 && k.sound(at+".identity"):
		k.add(role, `has \1, but the regular expression of %s.identity has no group`, at)
	}
}

// identity checks what a tenant asks of certificates and who they are for.
func (k *checker) identity(at string, t *Tenant) {
	a := t.Auth
	full := a.Method == AuthCert || a.ClientCert == ClientCertVerifyFull
	if a.ClientCert == ClientCertVerifyCA || a.ClientCert == ClientCertVerifyFull {
		k.clientCert(at+".client_cert", t)
	}
	if names := at + ".cert_names"; len(a.CertNames) == 0 {
		k.add(names, "must have at least one of cn, dns, email, uri")
	} else if !full && !slices.Equal(a.CertNames, []string{CertNameCN}) && k.sound(at) {
		k.add(names, "has a meaning only with %s.method cert, or %s.client_cert verify-full", at, at)
	}
	path := at + ".map"
	switch {
	case a.Map == "":
	case !full && a.Method != AuthPeer && k.sound(at):
		k.add(path, "has a meaning only with %s.method cert or peer, or %s.client_cert verify-full", at, at)
	case k.sound("ident_maps") && !slices.ContainsFunc(k.cfg.IdentMaps, func(l IdentLine) bool { return l.Map == a.Map }):
		k.add(path, "must be the map of one of ident_maps, %s", k.got(path, a.Map))
	}
}

// clientCert checks that clients can show the certificate that is asked of them beside the method.
func (k *checker) clientCert(path string, t *Tenant) {
	switch {
	case t.Auth.Method == AuthPeer:
		k.add(path, "cannot be asked for with method peer: on Unix sockets there is no TLS")
	case t.Auth.Method == AuthCert && t.Auth.ClientCert == ClientCertVerifyCA:
		k.add(path, "must be verify-full or none with method cert, which asks for no less")
	case k.cfg.TLS.ClientCert == ClientCertNone && k.sound("tls.client_cert"):
		k.add(path, "%s needs tls.client_cert, optional or required", t.Auth.ClientCert)
	case !k.listens(t.Name, false) && k.sound("listeners"):
		k.add(path, "%s needs a listener over TCP: on Unix sockets there is no TLS", t.Auth.ClientCert)
	}
}
