package auth

import "errors"

// ErrTrialFits is how a LoginBackend ends whose Credential is that of a Trial, when Postgres stores the same verifier, as far
// as can be told without the password.
var ErrTrialFits = errors.New("the SCRAM verifier in Postgres has the salt of the one known to Sluice")

// The kinds of secrets.
const (
	KindNone     = "none"
	KindPlain    = "password"
	KindMD5      = "md5 hash"
	KindVerifier = "SCRAM verifier"
)

// Kind names what is stored.
func (s Secret) Kind() string {
	switch {
	case s.s == nil:
		return KindNone
	case s.s.verifier != nil:
		return KindVerifier
	case s.s.hash != "":
		return KindMD5
	}
	return KindPlain
}

// Alone returns what the stored secret alone suffices for, whatever the client shows: nothing for a verifier.
func (s Secret) Alone() Credential { return s.credential() }

// Trial returns a Credential that tries how far a login to Postgres comes with what is stored, without a client: Alone,
// and for a verifier one that is never let in. LoginBackend compares its salt with Postgres's and breaks off with
// ErrTrialFits or ErrVerifierMismatch before anything is proved, so that Postgres counts no failed login.
func (s Secret) Trial() Credential {
	if !s.isVerifier() {
		return s.credential()
	}
	return Credential{c: &credential{trial: true, shown: &shownKeys{verifier: *s.s.verifier}}}
}

// Good returns the secrets that are valid now, the role's own first: two while its password changes.
func (e Entry) Good() []Secret { return e.valid() }

// Expired reports whether no secret is valid any more.
func (e Entry) Expired() bool { return len(e.valid()) == 0 && !e.Secret.IsZero() }

// Asks reports whether the client is held against a stored secret.
func (m Method) Asks() bool { return m == Auto || m == Password || m == MD5 || m == SCRAMSHA256 }

// AsksFor returns how a role with this secret is asked to prove itself by the method; it is empty if the role is refused
// whatever it proves.
func (m Method) AsksFor(s Secret) Method {
	if m.Asks() && (s.IsZero() || m == SCRAMSHA256 && s.hash() != "") {
		return ""
	}
	return m.forSecret(s)
}
