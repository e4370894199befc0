package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestURLBecomesTheOnlyTenant(t *testing.T) {
	t.Parallel()
	got, err := FromURL("postgres://my%20role:p%40ss%3A%2F@db.example.com:6000/app?sslmode=require&connect_timeout=9&application_name=a%20b")
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	tn := &want.Tenants[0]
	tn.URLLogin = true
	tn.Auth.UsersFile = ""
	tn.Service = Service{Role: "my role", Password: "p@ss:/", Database: "app"}
	tn.Backend.Hosts = []HostPort{{"db.example.com", 6000}}
	tn.Backend.Port = 5432
	tn.Backend.TLSMode = TLSRequire
	tn.Backend.ConnectTimeout = 9 * time.Second
	tn.Backend.Settings = []Setting{{"application_name", "a b"}}
	if diff := cmp.Diff(want, *got, compare()); diff != "" {
		t.Errorf("FromURL (-want +got):\n%s", diff)
	}
}

func TestURLForms(t *testing.T) {
	t.Setenv("SLUICE_SESSION_ADDRESS", "127.0.0.1:7001")
	t.Setenv("SLUICE_TRANSACTION_ADDRESS", "127.0.0.1:7002")
	for _, tt := range []struct{ url, want string }{
		{"postgresql://u@localhost", "u  u localhost:5432 prefer "},
		{"postgres://u@/d", "u  d localhost:5432 prefer "},
		{"postgres://u@:5555/d", "u  d localhost:5555 prefer "},
		{"postgres://u:p@[::1]:1/d", "u p d [::1]:1 prefer "},
		{"postgres://u@h1,h2:7/d?port=8", "u  d h1:8,h2:7 verify-full "},
		{"postgres://u@%2Frun%2Fpostgresql:6/d", "u  d /run/postgresql/.s.PGSQL.6 prefer "},
		{"postgres:///d?host=/run/postgresql&user=u&password=p%26", "u p& d /run/postgresql/.s.PGSQL.5432 prefer "},
		{"postgres://u@h/d?dbname=e&target_session_attrs=any&channel_binding=prefer", "u  e h:5432 verify-full "},
		{"postgres://u@h?sslmode=disable", "u  u h:5432 disable "},
		{"postgres://u@h?sslmode=allow", "u  u h:5432 prefer "},
		{"postgres://u@h?sslmode=prefer&sslrootcert=/ca", "u  u h:5432 prefer /ca"},
		{"postgres://u@h?sslmode=require&sslrootcert=/ca", "u  u h:5432 verify-ca /ca"},
		{"postgres://u@h?sslmode=verify-full&sslrootcert=/ca", "u  u h:5432 verify-full /ca"},
		{"postgres://u@localhost?sslrootcert=system", "u  u localhost:5432 verify-full "},
	} {
		c, err := FromURL(tt.url)
		if err != nil {
			t.Errorf("FromURL(%s): %v", tt.url, err)
			continue
		}
		tn := c.Tenants[0]
		var hosts []string
		for _, h := range tn.Backend.Hosts {
			hosts = append(hosts, h.String())
		}
		got := fmt.Sprint(tn.Service.Role, " ", tn.Service.Password.Reveal(), " ", tn.Service.Database, " ",
			strings.Join(hosts, ","), " ", tn.Backend.TLSMode, " ", tn.Backend.CAFile)
		if got != tt.want {
			t.Errorf("FromURL(%s)\n got %q\nwant %q", tt.url, got, tt.want)
		}
		if got, want := c.Listeners[0].Address+c.Listeners[1].Address, "127.0.0.1:7001127.0.0.1:7002"; got != want {
			t.Errorf("listeners = %s, want %s", got, want)
		}
	}
}

func TestBadURLsAreExplainedWithoutThePassword(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ url, want string }{
		{"", "database URL: must start with postgres://"},
		{"hunter2", "database URL: must start with postgres://"},
		{"mysql://u:hunter2@h/d", "database URL: must start with postgres://"},
		{"postgres://", "database URL: must have a role: postgres://role:password@host/database\n" +
			"tenants[0].backend.host: is the address of listeners[0]: Sluice would connect to itself; SLUICE_SESSION_ADDRESS and SLUICE_TRANSACTION_ADDRESS move the listeners"},
		{"postgres://u:hunter2%@h/d", "database URL: the password has a wrong % escape"},
		{"postgres://u:hunter2/x@h/d", "database URL: has an @ after the host: in a password / is written %2F, ? is %3F; elsewhere @ is %40"},
		{"postgres://u:x?hunter2@h/d", "database URL: has an @ after the host: in a password / is written %2F, ? is %3F; elsewhere @ is %40"},
		{"postgres://u:hunter2@h:port,a b:1,h:0/d", "database URL: host 1: must have a port from 1 to 65535\n" +
			"database URL: host 2: must be host, host:port or the folder of a Unix socket; several hosts are a list\n" +
			"database URL: host 3: must have a port from 1 to 65535"},
		{"postgres://u:hunter2@h/d?sslmode=no&x=1&channel_binding=require&port=x&connect_timeout=y", "" +
			"database URL: parameter channel_binding must be disable or prefer, or left out\n" +
			"database URL: connect_timeout must be a number of seconds\n" +
			"database URL: port: must have a port from 1 to 65535\n" +
			"database URL: parameter x is not supported\n" +
			"database URL: sslmode must be one of disable, prefer, require, verify-ca, verify-full"},
		{"postgres://u@h?sslmode=require&sslrootcert=system", "database URL: sslrootcert=system needs sslmode=verify-full"},
		{"postgres://u@h?sslcert=c&connect_timeout=0", "tenants[0].backend.connect_timeout: must be at least 1ms, got 0s\n" +
			"tenants[0].backend.cert_file: needs tenants[0].backend.key_file"},
	} {
		_, err := FromURL(tt.url)
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("FromURL(%s): %v, want an *Error", tt.url, err)
			continue
		}
		if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
			t.Errorf("FromURL(%s) (-want +got):\n%s", tt.url, diff)
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("FromURL(%s): the password is in the error", tt.url)
		}
	}
}

func TestEnvironmentGoesBeforeTheURL(t *testing.T) {
	t.Setenv("SLUICE_SESSION_ADDRESS", "nowhere")
	t.Setenv("SLUICE_ADMIN_ADDRESS", "")
	t.Setenv("SLUICE_LOG_FORMAT", "json")
	_, err := FromURL("postgres://u@h/d")
	want := `listeners[0].address: must be "IP:port", ":port" or the path of a Unix socket, got the value of SLUICE_SESSION_ADDRESS`
	if got := fmt.Sprint(err); got != want {
		t.Errorf("error = %s, want %s", got, want)
	}
	t.Setenv("SLUICE_SESSION_ADDRESS", "")
	c, err := FromURL("postgres://u@h/d")
	if err != nil {
		t.Fatal(err)
	}
	if c.Log.Format != "json" || c.Listeners[0].Address != "127.0.0.1:5432" {
		t.Errorf("log.format = %q, session address = %q, want json and the default", c.Log.Format, c.Listeners[0].Address)
	}
}
