package doctor

import (
	"fmt"
	"slices"
	"strings"

	"sluice/auth"
	"sluice/internal/config"
)

// firstGroup stands in the role of an ident map's line for what its expression has matched.
const firstGroup = `\1`

// admitted reports whether the configuration lets any client be the role, and says why not: by its token, or by a map.
func (r *roleView) admitted() bool {
	a := r.t.Auth
	if r.method == auth.JWT && !slices.Contains(a.JWT.Roles, r.name) {
		r.b.problem("add it there", "it is not in auth.jwt.roles: every token is refused for it")
		return false
	}
	mapped := func(l config.IdentLine) bool {
		return l.Map == a.Map && (l.Role == r.name || strings.Contains(l.Role, firstGroup))
	}
	if a.Map != "" && !slices.ContainsFunc(r.cfg.IdentMaps, mapped) {
		r.b.problem("add a line with that role to ident_maps", "the map %q has no line for it, and with auth.map only its lines count: every client is refused", a.Map)
		return false
	}
	return true
}

// listener says what one listener asks, and reports whether clients can log in there.
func (r *roleView) listener(l *config.Listener) bool {
	if r.barred {
		return false
	}
	where := "listener " + l.Name + " (" + l.Address + ", " + string(l.Mode) + " mode)"
	unix := strings.HasPrefix(l.Address, "/")
	if rule := r.certRule(); rule != "" && (unix || !r.cfg.TLS.Enabled()) {
		r.b.warn("use another listener, or another auth.client_cert", "%s: nobody can log in, as certificates (auth.client_cert) need TLS, which there is none of", where)
		return false
	}
	asked := r.method
	if len(r.secrets) > 0 {
		asked = r.method.AsksFor(r.secrets[0])
	}
	switch asked {
	case auth.Trust:
		if r.certRule() != "" {
			r.b.ok("%s: asks for nothing%s", where, r.beside())
			break
		}
		r.b.warn("set auth.method to auto", "%s: lets in everybody who says to be %q (auth.method trust)", where, r.name)
	case auth.Password, auth.JWT:
		what := "password"
		if asked == auth.JWT {
			what = "token"
		}
		if !l.Local() && !r.cfg.TLS.Enabled() {
			r.b.problem("set tls.cert_file and tls.key_file, or auth.method to auto", "%s: asks for the %s in clear, which needs TLS, and there is none", where, what)
			return false
		}
		r.b.ok("%s: asks for the %s%s", where, what, r.beside())
	case auth.Cert:
		if unix || !r.cfg.TLS.Enabled() {
			r.b.warn("use another listener, or another auth.method", "%s: nobody can log in, as certificates need TLS, which there is none of", where)
			return false
		}
		r.b.ok("%s: wants a client certificate that stands for the role%s", where, r.byMap())
	case auth.SocketUser:
		if !unix {
			r.b.warn("use a listener on a Unix socket, or another auth.method", "%s: nobody can log in, as auth.method peer needs a Unix socket", where)
			return false
		}
		if r.t.Auth.Map != "" {
			r.b.ok("%s: wants a client that runs as a user who stands for the role%s", where, r.byMap())
			break
		}
		r.b.ok("%s: wants a client that runs as the user of that name", where)
	case auth.MD5:
		r.b.ok("%s: asks for the password by md5%s", where, r.beside())
	case auth.SCRAMSHA256:
		r.b.ok("%s: asks for the password by SCRAM-SHA-256%s", where, r.beside())
	}
	return true
}

// certRule returns what auth.client_cert asks for beside the method; empty: nothing.
func (r *roleView) certRule() string {
	switch rule := r.t.Auth.ClientCert; rule {
	case config.ClientCertVerifyCA, config.ClientCertVerifyFull:
		return rule
	}
	return ""
}

// beside says what auth.client_cert asks for.
func (r *roleView) beside() string {
	switch r.certRule() {
	case config.ClientCertVerifyCA:
		return ", and for any valid client certificate"
	case config.ClientCertVerifyFull:
		return ", and for a client certificate that stands for the role" + r.byMap()
	}
	return ""
}

// byMap names the ident map that says who stands for the role.
func (r *roleView) byMap() string {
	if r.t.Auth.Map == "" {
		return ""
	}
	return fmt.Sprintf(" by the map %q", r.t.Auth.Map)
}
