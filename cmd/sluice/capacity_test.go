package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/throwawaypg"
)

// live starts a Postgres and returns a function that runs check --live on a tenant's further lines.
func live(t *testing.T, settings map[string]string) func(tenant string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	pg, err := throwawaypg.Start(ctx, throwawaypg.Options{Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pg.Stop() })
	if err := pg.Exec(ctx, `CREATE ROLE service LOGIN PASSWORD 'service-secret'`); err != nil {
		t.Fatal(err)
	}
	return func(tenant string) result { return checkOn(t, pg.Port(), tenant) }
}

// checkOn runs check --live on a tenant behind a port; what differs between runs is cut out of what it writes.
func checkOn(t *testing.T, port int, tenant string) result {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sluice.yaml")
	text := fmt.Sprintf("admin: {address: \"\"}\ntenants:\n  - backend: {host: 127.0.0.1, port: %d, tls_mode: disable}\n    auth: {method: trust}\n", port)
	text += "    " + strings.ReplaceAll(strings.TrimSpace(tenant), "\n", "\n    ") + "\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got := command(t, "", "check", "--config", path, "--live")
	got.out = strings.ReplaceAll(got.out, path, "FILE")
	got.out = regexp.MustCompile(`of version [0-9.]+.*`).ReplaceAllString(got.out, "of version N")
	got.stderr = strings.ReplaceAll(got.stderr, path, "FILE")
	return got
}

// wantResult compares what a check has left behind. In what is wanted OTHERS, LEFT, PADDED and AUTO stand for what follows from how
// many connections Postgres had, which can be some that were just ending.
func wantResult(t *testing.T, got result, code int, out, stderr string) {
	t.Helper()
	filled := strings.NewReplacer("OTHERS", fmt.Sprintf("%7s", "-"+found(got.out, `-([0-9]+)   connections of others`)),
		"LEFT", found(got.out, `left +([0-9]+) `), "PADDED", fmt.Sprintf("%7s", found(got.out, `left +([0-9]+) `)),
		"AUTO", found(got.out, `now ([0-9]+)`))
	if diff := cmp.Diff(filled.Replace(strings.TrimLeft(out, "\n")), got.out); diff != "" {
		t.Errorf("stdout (-want +got):\n%s", diff)
	}
	if got.code != code || got.stderr != filled.Replace(stderr) {
		t.Errorf("got exit code %d, stderr %q, want %d, %q", got.code, got.stderr, code, stderr)
	}
	if usable, err := strconv.Atoi(found(got.out, `PostgreSQL +([0-9]+)`)); err == nil {
		left, _ := strconv.Atoi(found(got.out, `left +([0-9]+) `))
		others, _ := strconv.Atoi(found(got.out, `-([0-9]+)   connections of others`))
		if left != usable-3-others || others > 10 {
			t.Errorf("%d left of %d, 3 reserved and %d others", left, usable, others)
		}
	}
}

func found(text, pattern string) string {
	if m := regexp.MustCompile(pattern).FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}

const login = "service: {role: service, password: service-secret}\n"

func TestLiveCheckOfASmallPostgres(t *testing.T) {
	t.Parallel()
	check := live(t, map[string]string{"max_connections": "40", "superuser_reserved_connections": "3"})
	wantResult(t, check(login+`
databases: [{name: app}, {name: reports, pool_size: 5}]
other_databases: deny
roles: [{name: alice}, {name: batch, modes: [session], pool_size: 4}]
other_roles: deny
pool_size: 10
max_backends: 100`), 2, `
FILE: ok

tenant default
  pools             10   database app, role alice, session mode
                     4   database app, role batch, session mode
                     5   database reports, role alice, session mode
                     4   database reports, role batch, session mode
                    10   database app, role alice, transaction mode
                     5   database reports, role alice, transaction mode
                     1   database app, shared LISTEN
                     1   database reports, shared LISTEN
  worst case        40   backends in 8 pools
  max_backends     100   backends of the tenant in all
  beside it         +2   reading the code of functions, for moments
  PostgreSQL        40   max_connections of version N
                    -3   reserved_connections and superuser_reserved_connections
               OTHERS   connections of others, those of a running Sluice included
  left         PADDED   connections for Sluice
  DOES NOT FIT: 42 > LEFT
`, "FILE: tenants[0]: does not fit: up to 42 connections, but PostgreSQL has LEFT left; lower pool_size or max_backends\n")
	for tenant, want := range map[string]string{
		"pool_size: 15\nmax_backends: 20":                                       "fits: at most max_backends and what is beside it, 21 <= LEFT",
		"pool_size: 10\nmax_backends: 38":                                       "fits: 22 <= LEFT; but further databases and roles can make it 39 > LEFT, with max_backends",
		"pool_size: 100\nmax_backends: auto":                                    "fits: max_backends follows what is left",
		"pool_size: 12\nroles: [{name: a, modes: [session]}]\nmax_backends: 20": "fits: at most max_backends and what is beside it, 20 <= LEFT",
		"pool_size: 7\nmax_backends: 20\nother_roles: deny\nother_databases: deny\ndatabases: [{name: x}]\nroles: [{name: a}]": "fits: 16 <= LEFT",
	} {
		got := check(login + tenant)
		want = strings.ReplaceAll(want, "LEFT", found(got.out, `left +([0-9]+) `))
		if got.code != 0 || got.stderr != "" || !strings.HasSuffix(got.out, "\n  "+want+"\n") {
			t.Errorf("%s: got exit code %d, %s%s, want %q", tenant, got.code, got.out, got.stderr, want)
		}
	}
	if got := check(login + "pool_size: 19\nmax_backends: 50"); got.code != 2 || !strings.Contains(got.out, "DOES NOT FIT: 40 > ") {
		t.Errorf("got exit code %d, %s, want 2", got.code, got.out)
	}
}

func TestLiveCheckOfABigPostgres(t *testing.T) {
	t.Parallel()
	check := live(t, map[string]string{"max_connections": "300"})
	wantResult(t, check(login), 0, `
FILE: ok

tenant default
  pools             15   any database, any role, session mode
                    15   any database, any role, transaction mode
                     1   any database, shared LISTEN
  worst case        31   backends in 3 pools
                   +31   for each further (database, role): 15 session + 15 transaction + 1 shared LISTEN
  max_backends    auto   80 % of what is left, asked again and again: now AUTO
  beside it         +1   max_backends: auto
                    +1   reading the code of functions, for moments
  PostgreSQL       300   max_connections of version N
                    -3   reserved_connections and superuser_reserved_connections
               OTHERS   connections of others, those of a running Sluice included
  left         PADDED   connections for Sluice
  fits: max_backends follows what is left
`, "")
	wantResult(t, check("pool_size: 100"), 0, `
FILE: ok
FILE: tenants[0].service: no role, so on the transaction port each client that has run LISTEN keeps a backend

tenant default
  pools            100   any database, any role, session mode
                   100   any database, any role, transaction mode
  worst case       200   backends in 2 pools
                  +200   for each further (database, role): 100 session + 100 transaction
  max_backends    auto   needs service.role: there is no bound
  beside it         +1   reading the code of functions, for moments
  PostgreSQL is there, but cannot be asked: set service.role, a role that can log in, and service.password
`, "")
	if got := check("service: {role: service, password: wrong}"); got.code != 1 ||
		!strings.Contains(got.stderr, `sluice: tenant default: PostgreSQL could not be asked: log in to backend`) {
		t.Errorf("with a wrong password: got exit code %d, %q", got.code, got.stderr)
	}
}

func TestLiveCheckListsSoManyPoolsOnly(t *testing.T) {
	t.Parallel()
	check := live(t, map[string]string{"max_connections": "500"})
	var names []string
	for i := range 15 {
		names = append(names, fmt.Sprintf("{name: r%d}", i))
	}
	got := check(login + "pool_size: 10\nroles: [" + strings.Join(names, ", ") + "]")
	if want := "      101   11 more pools\n  worst case       301   backends in 31 pools\n"; !strings.Contains(got.out, want) || got.code != 0 {
		t.Errorf("got exit code %d, %s, want %q", got.code, got.out, want)
	}
}

func TestLiveCheckWithoutPostgresExitsWithOne(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			_ = nc.Close() // a port that nobody else takes, and no Postgres
		}
	}()
	for _, tenant := range []string{login, "pool_size: 1"} {
		got := checkOn(t, ln.Addr().(*net.TCPAddr).Port, tenant)
		if got.code != 1 || !strings.Contains(got.out, "\n  PostgreSQL could not be asked\n") ||
			!strings.Contains(got.stderr, "sluice: tenant default: PostgreSQL could not be asked: dial backend 127.0.0.1:") {
			t.Errorf("%s: got exit code %d, %s%s, want 1", tenant, got.code, got.out, got.stderr)
		}
	}
}
