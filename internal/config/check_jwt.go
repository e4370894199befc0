package config

import (
	"errors"
	"net/url"
)

// tokens checks that method jwt, and nothing else, says which tokens to take.
func (k *checker) tokens(at string, a Auth) {
	at, method, jwt := at+".jwt", at+".method", a.JWT
	if jwt.JWKSURL != "" {
		if err := checkKeysURL(jwt.JWKSURL); err != nil {
			k.add(at+".jwks_url", "%s", err)
		}
	}
	if a.Method != AuthJWT {
		for _, set := range [][2]string{{"jwks_file", jwt.JWKSFile}, {"jwks_url", jwt.JWKSURL}} {
			if set[1] != "" && k.sound(method) {
				k.add(at+"."+set[0], "needs %s jwt", method)
			}
		}
		return
	}
	switch {
	case jwt.JWKSFile == "" && jwt.JWKSURL == "" && k.sound(at+".jwks_file", at+".jwks_url"):
		k.add(method, "jwt needs %s.jwks_file or %s.jwks_url", at, at)
	case jwt.JWKSFile != "" && jwt.JWKSURL != "" && k.sound(at+".jwks_file"):
		k.add(at+".jwks_url", "must be empty where there is %s.jwks_file", at)
	}
	k.named(at+".issuer", jwt.Issuer)
	k.named(at+".audience", jwt.Audience...)
	k.named(at+".roles", jwt.Roles...)
	k.named(at+".algorithms", jwt.Algorithms...)
	if jwt.RoleClaim == "" || jwt.RoleClaim == "/" {
		k.add(at+".role_claim", "must name a claim")
	}
}

// named reports a setting that method jwt needs and that is empty, or has an empty element.
func (k *checker) named(at string, values ...string) {
	if len(values) == 0 {
		k.add(at, "must not be empty with method jwt")
	}
	for _, v := range values {
		if v == "" {
			k.add(at, "must not be empty with method jwt")
		}
	}
}

// checkKeysURL reports what is wrong with the address of a key set: whoever can change what comes from there can log in.
func checkKeysURL(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("must be a URL that begins with https://")
	case u.User != nil:
		return errors.New("must not hold a user or password")
	case u.Fragment != "":
		return errors.New("must not have a fragment")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return errors.New("must be https: http is for this machine only")
	}
	return nil
}
