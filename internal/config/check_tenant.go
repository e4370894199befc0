package config

import (
	"errors"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
)

// tenants checks each tenant and that they can be told apart.
func (k *checker) tenants() {
	list := k.cfg.Tenants
	if len(list) == 0 {
		k.add("tenants", "must have at least one tenant")
	}
	word := regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	names := make([]string, len(list))
	for i := range list {
		at := item("tenants", i)
		// A TLS server name selects a tenant too, and has no case.
		names[i] = strings.ToLower(list[i].Name)
		if !word.MatchString(list[i].Name) {
			k.add(at+".name", "must consist of letters, digits, _ and -, %s", k.got(at+".name", list[i].Name))
		}
		k.backend(at+".backend", list[i].Backend)
		k.databases(at+".databases", list[i].Databases)
		k.auth(at, &list[i])
		k.login(at, &list[i])
		k.tokens(at+".auth", list[i].Auth)
		k.pools(at, &list[i])
		k.roles(at+".roles", list[i].Roles)
		k.managed(at, &list[i])
	}
	k.unique(names, func(i int) string { return item("tenants", i) + ".name" })
}

func (k *checker) backend(at string, b Backend) {
	if len(b.Hosts) == 0 {
		k.add(at+".host", "must have at least one host")
	}
	k.together(at, "cert_file", b.CertFile, "key_file", b.KeyFile)
	if weak := b.TLSMode == TLSDisable || b.TLSMode == TLSPrefer; weak && b.TLSNegotiation == TLSDirect && k.sound(at+".tls_mode") {
		k.add(at+".tls_negotiation", "direct needs %s.tls_mode require, verify-ca or verify-full, not %s", at, b.TLSMode)
	}
	names := make([]string, len(b.Settings))
	for i, s := range b.Settings {
		names[i] = strings.ToLower(s.Name)
	}
	k.unique(names, func(i int) string { return item(at+".settings", i) })
}

func (k *checker) databases(at string, list []Database) {
	names := make([]string, len(list))
	for i, d := range list {
		names[i] = d.Name
	}
	k.unique(names, func(i int) string { return item(at, i) + ".name" })
}

func (k *checker) roles(at string, list []Role) {
	names := make([]string, len(list))
	for i, r := range list {
		names[i] = r.Name
	}
	k.unique(names, func(i int) string { return item(at, i) + ".name" })
}

// auth checks that secrets can come from somewhere and that the query can be asked.
func (k *checker) auth(at string, t *Tenant) {
	a := t.Auth
	if a.Query != "" {
		if !regexp.MustCompile(`\$1([^0-9]|$)`).MatchString(a.Query) {
			k.add(at+".auth.query", "must contain $1, the role that logs in")
		}
		if t.Service.Role == "" && k.sound(at+".service.role") {
			k.add(at+".auth.query", "needs %s.service.role", at)
		}
	}
	if t.Service.Password != "" && t.Service.Role == "" && k.sound(at+".service.role") {
		k.add(at+".service.password", "needs %s.service.role", at)
	}
	if t.Service.Role != "" && t.Service.Database == "" {
		k.add(at+".service.database", "must not be empty")
	}
	if a.UsersFile == "" && k.needsUsers(at, t) {
		k.add(at+".auth.users_file", "must not be empty: %s", noUsersHint)
	}
}

const noUsersHint = "set it or auth.query, or auth.method to trust"

// needsUsers reports whether nobody could log in to t without a users file.
func (k *checker) needsUsers(at string, t *Tenant) bool {
	secretless := slices.Contains([]AuthMethod{AuthTrust, AuthCert, AuthJWT, AuthPeer}, t.Auth.Method)
	return t.Auth.Query == "" && !secretless && !t.URLLogin && k.sound(at+".auth.query", at+".auth.method")
}

// usersFile looks for the users file of the i-th tenant. The default is given up if it does not exist and is not
// needed. lines has the paths that the file names.
func (k *checker) usersFile(i int, lines map[string]int) {
	t, at := &k.cfg.Tenants[i], item("tenants", i)
	path := at + ".auth.users_file"
	if t.Auth.UsersFile == "" {
		return
	}
	info, err := os.Stat(t.Auth.UsersFile)
	switch {
	case err == nil && info.IsDir():
		k.add(path, "is a folder, %s", k.got(path, t.Auth.UsersFile))
	case err == nil:
	case lines[path] != 0:
		k.add(path, "%s, %s", reason(err), k.got(path, t.Auth.UsersFile))
	case !errors.Is(err, fs.ErrNotExist):
		k.add(path, "its default: %s", reason(err))
	case k.needsUsers(at, t):
		k.add(path, "its default users.txt does not exist beside the configuration file: %s", noUsersHint)
	default:
		t.Auth.UsersFile = ""
	}
}

// pools checks that the sizes of pools fit each other.
func (k *checker) pools(at string, t *Tenant) {
	if t.MaxPinned > t.PoolSize && k.sound(at+".pool_size") {
		k.add(at+".max_pinned", "must be at most pool_size %d, %s", t.PoolSize, k.got(at+".max_pinned", t.MaxPinned))
	}
	warm := at + ".backend.min_backends"
	if t.Backend.MinBackends > t.PoolSize && k.sound(at+".pool_size") {
		k.add(warm, "must be at most pool_size %d, %s", t.PoolSize, k.got(warm, t.Backend.MinBackends))
	}
	if !t.MaxBackends.Auto && t.Backend.MinBackends > t.MaxBackends.N && k.sound(at+".max_backends") {
		k.add(warm, "must be at most max_backends %d, %s", t.MaxBackends.N, k.got(warm, t.Backend.MinBackends))
	}
}
