package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"sluice/auth"
	"sluice/internal/backend"
)

// login is one to Postgres that was tried.
type login struct {
	role, database string
	source         string      // of the secret: a key of the configuration
	method         auth.Method // of the client's login; empty for the service login
	stored         string      // kind of the secret in Postgres; empty: not known
}

// try logs in to Postgres as Sluice does for a client, as far as that goes without one.
func (s *subject) try(ctx context.Context, t backend.Target) error {
	c, err := s.site.Dial(ctx, t)
	if err != nil {
		return err
	}
	return c.Close()
}

// explain says what came of a login.
func (s *subject) explain(b *Block, l login, err error) {
	none, isNone := errors.AsType[*auth.NoSecretError](err)
	refused, isRefused := backend.Rejected(err)
	switch {
	case err == nil:
		b.ok("PostgreSQL lets Sluice in as %q, with %s", l.role, l.source)
	case errors.Is(err, auth.ErrTrialFits):
		in := "clients get in"
		if !s.asked {
			in += ", if the database exists and lets it" // Postgres looks only behind the proof
		}
		b.ok("PostgreSQL asks for SCRAM-SHA-256, and its verifier of %q is that of %s: with the password, %s", l.role, l.source, in)
	case errors.Is(err, auth.ErrVerifierMismatch):
		f := b.add(Problem, "PostgreSQL stores another SCRAM verifier of %q than %s, or none%s", l.role, l.source, s.orNoRole())
		f.Advice = "set the same in both: copy what PostgreSQL has, or ALTER ROLE … PASSWORD with the verifier that Sluice has"
		f.SQL = []string{"SELECT rolpassword FROM pg_catalog.pg_authid WHERE rolname = " + literal(l.role) + ";"}
	case isNone:
		s.explainNone(b, l, none)
	case errors.Is(err, auth.ErrCleartext):
		b.problem("set backend.tls_mode to verify-full, or scram-sha-256 in pg_hba.conf", "PostgreSQL's pg_hba.conf asks for the password of %q in clear, where it could be read on its way", l.role)
	case errors.Is(err, auth.ErrUnsupported):
		b.problem("use scram-sha-256, cert or trust in pg_hba.conf for the address of Sluice", "PostgreSQL's pg_hba.conf asks %q for something that Sluice does not know: %s", l.role, cause(err))
	case errors.Is(err, auth.ErrImpostor):
		b.problem("find out what runs at that address", "the server does not know the verifier of %q: %s", l.role, cause(err))
	case isRefused:
		s.explainRefusal(b, l, refused.Code, refused.Routine, refused.Message)
	default:
		b.problem("", "logging in as %q failed: %s", l.role, cause(err))
	}
}

// explainNone says what is missing for what Postgres asks.
func (s *subject) explainNone(b *Block, l login, e *auth.NoSecretError) {
	switch {
	case l.method == "":
		b.problem("set service.password", "PostgreSQL asks for %s, and there is no service.password", e.Need)
	case e.Have == "nothing" && !l.method.Asks():
		b.problem("set roles[].backend.password for it, or its password in auth.users_file; or backend.cert_file, with cert in pg_hba.conf",
			"PostgreSQL asks for %s, and a client's login by %s gives Sluice nothing to answer with (a SCRAM verifier does not suffice)", e.Need, l.method)
	case e.Have == "nothing":
		b.problem("set roles[].backend.password", "PostgreSQL asks for %s, and Sluice has nothing to answer with", e.Need)
	case e.Have == "an md5 hash":
		b.problem("store the verifier that PostgreSQL has, or the password, in "+l.source, "PostgreSQL asks for %s, and %s has an md5 hash of %q, which does not answer that", e.Need, l.source, l.role)
	default:
		f := b.add(Problem, "PostgreSQL asks for %s, which the SCRAM keys that clients of %q show do not answer: it stores an md5 hash, or pg_hba.conf says so", e.Need, l.role)
		f.Advice = "have PostgreSQL store a verifier, and scram-sha-256 stand in pg_hba.conf; set the password anew:"
		f.SQL = []string{"SET password_encryption = 'scram-sha-256';", "ALTER ROLE " + identifier(l.role) + " PASSWORD '…';"}
	}
}

// explainRefusal says what Postgres's refusal means. Its words may be in any language: what it means is in code and routine.
func (s *subject) explainRefusal(b *Block, l login, code, routine, message string) {
	f := b.add(Problem, "PostgreSQL refuses %q in database %q: %s (%s)", l.role, l.database, message, code)
	switch {
	case code == "28P01" && l.stored == auth.KindMD5:
		f.Advice = "PostgreSQL stores an md5 hash, and pg_hba.conf asks for scram-sha-256; set the password anew:"
		f.SQL = []string{"SET password_encryption = 'scram-sha-256';", "ALTER ROLE " + identifier(l.role) + " PASSWORD '…';"}
	case code == "28P01" && l.stored == auth.KindNone:
		f.Advice = "PostgreSQL stores no password of it:"
		f.SQL = []string{"ALTER ROLE " + identifier(l.role) + " PASSWORD '…';"}
	case code == "28P01":
		f.Advice = "set the password of PostgreSQL in " + l.source + ", and look at the role's VALID UNTIL" + s.orNoRole()
	case code == "28000" && routine == "ClientAuthentication":
		f.Advice = fmt.Sprintf("pg_hba.conf refuses Sluice's address: add a line such as \"host %s %s ADDRESS scram-sha-256\" (hostssl over TLS) and reload; if it asks for a certificate, set backend.cert_file",
			hbaName(l.database), hbaName(l.role))
	case code == "28000":
		f.Advice = "create the role, or let it log in:"
		f.SQL = []string{"ALTER ROLE " + identifier(l.role) + " LOGIN;"}
	case code == "3D000":
		f.Advice = "set databases[].dbname to its name in PostgreSQL, or create it"
	case code == insufficientPrivilege:
		f.Advice = "let it connect:"
		f.SQL = []string{"GRANT CONNECT ON DATABASE " + identifier(l.database) + " TO " + identifier(l.role) + ";"}
	case code == "53300":
		f.Advice = "raise max_connections or the CONNECTION LIMIT of the role or database, or lower pool_size"
	case code == "55000":
		f.Advice = "let it take connections:"
		f.SQL = []string{"ALTER DATABASE " + identifier(l.database) + " ALLOW_CONNECTIONS true;"}
	}
}

// orNoRole returns what a wrong password may be, too: Postgres does not tell it from a role that it does not have.
func (s *subject) orNoRole() string {
	if s.asked {
		return ""
	}
	return ", or there is no such role"
}

// cause returns the text of an error of a login, without what the subject says already.
func cause(err error) string {
	if e, ok := errors.AsType[*backend.LoginError](err); ok {
		return e.Err.Error()
	}
	return reasonOf(err)
}

// literal quotes a text for SQL.
func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// hbaName quotes a name for pg_hba.conf.
func hbaName(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
