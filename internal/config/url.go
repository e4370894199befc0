package config

import (
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/viper"
)

// The environment variables that move the two listeners where there is no file to do it.
const (
	sessionAddressEnv     = "SLUICE_SESSION_ADDRESS"
	transactionAddressEnv = "SLUICE_TRANSACTION_ADDRESS"
)

// defaultPostgresPort is where Postgres listens if a URL does not say, not Backend.Port's default, which leaves that
// port to Sluice.
const defaultPostgresPort = 5432

// FromURL returns the configuration for one database without a file: the defaults, with a tenant whose backend and
// service login are those of a URL postgres://role:password@host:port/database?sslmode=…, and whose URLLogin is set.
// The environment's overrides apply, and SLUICE_SESSION_ADDRESS and SLUICE_TRANSACTION_ADDRESS move the listeners.
//
// The error is an *Error with every problem that was found. It never contains the URL or a part of it that may be
// the password.
func FromURL(databaseURL string) (*Config, error) {
	w := newWalker("")
	c, err := w.overlay(w.absent(root()).(map[string]any))
	if err != nil {
		return nil, newError("", append(w.problems, Problem{Message: err.Error()}))
	}
	if err := w.moveListeners(c.Listeners); err != nil {
		return nil, newError("", append(w.problems, Problem{Message: err.Error()}))
	}
	u := urlReader{tenant: &c.Tenants[0]}
	u.read(databaseURL)
	w.problems = append(w.problems, u.problems...)
	resolve(c)
	k := w.checker(c)
	k.broken["tenants[0].backend.host"] = u.unread
	k.check()
	if err := newError("", w.located(k.problems)); err != nil {
		return nil, err
	}
	return c, nil
}

// moveListeners lays the two variables over the addresses of the default listeners.
func (w *walker) moveListeners(listeners []Listener) error {
	v := viper.New()
	for i, env := range []string{sessionAddressEnv, transactionAddressEnv} {
		if err := v.BindEnv(env, env); err != nil {
			return fmt.Errorf("bind %s: %w", env, err)
		}
		if address := v.GetString(env); address != "" {
			listeners[i].Address = address
			w.references[item("listeners", i)+".address"] = env
		}
	}
	return nil
}

// urlReader lays a database URL over a tenant.
type urlReader struct {
	tenant   *Tenant
	database string
	problems []Problem
	unread   bool // the hosts could not be read, and are not what the URL means
}

func (u *urlReader) problem(format string, args ...any) {
	u.problems = append(u.problems, Problem{Path: "database URL", Message: fmt.Sprintf(format, args...)})
}

// read takes a URL apart by itself: package net/url knows only one host, and repeats the URL in its errors.
func (u *urlReader) read(text string) {
	t := u.tenant
	t.URLLogin = true
	t.Auth.UsersFile = ""
	t.Backend.Port = defaultPostgresPort
	t.Backend.Hosts = nil
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok || scheme != "postgres" && scheme != "postgresql" {
		u.problem("must start with postgres://")
		u.unread = true
		return
	}
	rest, query, _ := strings.Cut(rest, "?")
	authority, database, _ := strings.Cut(rest, "/")
	if strings.Contains(database+query, "@") {
		u.problem("has an @ after the host: in a password / is written %%2F, ? is %%3F; elsewhere @ is %%40")
		u.unread = true
		return
	}
	login, hosts, hasLogin := cutLast(authority, "@")
	if !hasLogin {
		login, hosts = "", authority
	}
	role, password, _ := strings.Cut(login, ":")
	t.Service.Role = u.unescape("the role", role)
	t.Service.Password = Secret(u.unescape("the password", password))
	u.database = u.unescape("the database", database)
	u.hosts(hosts)
	u.parameters(query)
	u.finish()
}

// finish fills in what the URL leaves out.
func (u *urlReader) finish() {
	t := u.tenant
	if t.Service.Role == "" {
		u.problem("must have a role: postgres://role:password@host/database")
	}
	t.Service.Database = u.database
	if u.database == "" {
		t.Service.Database = t.Service.Role
	}
	if len(t.Backend.Hosts) == 0 {
		t.Backend.Hosts = []HostPort{{Host: "localhost"}}
	}
}

func (u *urlReader) unescape(what, text string) string {
	s, err := url.PathUnescape(text)
	if err != nil || strings.ContainsRune(s, 0) {
		u.problem("%s has a wrong %% escape", what)
		return ""
	}
	return s
}

// hosts reads a list of hosts, each with a port or without.
func (u *urlReader) hosts(list string) {
	if list == "" {
		return
	}
	for i, text := range strings.Split(list, ",") {
		host, port := text, ""
		if strings.HasPrefix(strings.ToUpper(text), "%2F") {
			host, port, _ = strings.Cut(text, ":") // a folder, which may have a port too
		}
		if host == "" || strings.HasPrefix(host, ":") {
			host = "localhost" + host
		}
		v, err := parseHostPort(u.unescape("the host", host))
		if err != nil {
			u.problem("host %d: %s", i+1, err)
			u.unread = true
			continue
		}
		h := v.(HostPort)
		if port != "" {
			if h.Port, err = parsePort(port); err != nil || h.Port == 0 {
				u.problem("host %d: %s", i+1, errPort)
			}
		}
		u.tenant.Backend.Hosts = append(u.tenant.Backend.Hosts, h)
	}
}

// parameters reads what stands behind the '?'. One that is not known is a problem: it may ask for protection.
func (u *urlReader) parameters(query string) {
	values := map[string]string{}
	for text := range strings.SplitSeq(query, "&") {
		if text == "" {
			continue
		}
		name, value, _ := strings.Cut(text, "=")
		values[name] = u.unescape("a parameter", value)
	}
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		u.parameter(name, values[name])
	}
	u.protection(values["sslmode"], values["sslrootcert"])
}

func (u *urlReader) parameter(name, value string) {
	t := u.tenant
	switch name {
	case "sslmode", "sslrootcert":
		// protection reads them together.
	case "sslcert":
		t.Backend.CertFile = value
	case "sslkey":
		t.Backend.KeyFile = value
	case "user":
		t.Service.Role = value
	case "password":
		t.Service.Password = Secret(value)
	case "dbname":
		u.database = value
	case "host":
		t.Backend.Hosts = nil
		u.hosts(strings.ReplaceAll(value, "/", "%2F"))
	case "port":
		n, err := parsePort(value)
		if err != nil || n == 0 {
			u.problem("port: %s", errPort)
			return
		}
		t.Backend.Port = n
	case "connect_timeout":
		n, err := strconv.ParseUint(value, 10, 16)
		if err != nil {
			u.problem("connect_timeout must be a number of seconds")
			return
		}
		t.Backend.ConnectTimeout = time.Duration(n) * time.Second
	case "sslnegotiation":
		if value != TLSPostgres && value != TLSDirect {
			u.problem("sslnegotiation must be postgres or direct")
			return
		}
		t.Backend.TLSNegotiation = value
	case "application_name":
		t.Backend.Settings = append(t.Backend.Settings, Setting{Name: name, Value: value})
	default:
		u.other(name, value)
	}
}

// other accepts parameters with the values that ask for nothing.
func (u *urlReader) other(name, value string) {
	accepted := map[string][]string{
		"channel_binding":      {"disable", "prefer"},
		"gssencmode":           {"disable", "prefer"},
		"load_balance_hosts":   {"disable"},
		"target_session_attrs": {"any"},
	}
	switch values, known := accepted[name]; {
	case !known:
		u.problem("parameter %s is not supported", harmless(name))
	case !slices.Contains(values, value):
		u.problem("parameter %s must be %s, or left out", name, strings.Join(values, " or "))
	}
}

// protection turns sslmode and sslrootcert into the TLS mode, with libpq's rules: allow is no more than prefer, and
// require with authorities of its own checks them.
func (u *urlReader) protection(mode, rootCert string) {
	b := &u.tenant.Backend
	modes := find(reflect.TypeFor[Config](), "tenants").element()
	words := find(modes.typ, "backend.tls_mode").oneOf
	switch {
	case mode == "allow":
		mode = string(TLSPrefer)
	case mode != "" && !slices.Contains(words, mode):
		u.problem("sslmode must be one of %s", strings.Join(words, ", "))
		mode = ""
	}
	b.TLSMode = TLSMode(mode)
	switch {
	case rootCert == "system":
		if mode != "" && b.TLSMode != TLSVerifyFull {
			u.problem("sslrootcert=system needs sslmode=verify-full")
		}
		b.TLSMode = TLSVerifyFull
	case rootCert != "":
		b.CAFile = rootCert
		if b.TLSMode == TLSRequire {
			b.TLSMode = TLSVerifyCA
		}
	}
}
