package main

import (
	"context"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/internal/throwawaypg"
)

// TestGeneratorsWorkWithPostgres runs each generator of load once, in front of a Postgres.
func TestGeneratorsWorkWithPostgres(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cert, key, err := selfSigned(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cluster := throwawaypg.MustStart(t, throwawaypg.Options{TLS: &throwawaypg.TLS{Cert: cert, Key: key}})
	address := net.JoinHostPort(cluster.Host(), strconv.Itoa(cluster.Port()))
	if err := cluster.Exec(ctx, "CREATE TABLE pgbench_accounts AS SELECT 1 AS aid, 1 AS bid, 0 AS abalance, repeat(' ', 84) AS filler"); err != nil {
		t.Fatal(err)
	}
	d := newDialer("postgres", cluster.SuperuserPassword(), "postgres")

	if pid, err := postmaster(cluster.DataDir()); err != nil || pid <= 0 {
		t.Errorf("postmaster: got %d, %v", pid, err)
	}
	for _, encrypted := range []bool{false, true} {
		sessions, err := d.loginMany(ctx, address, encrypted, 5, "SELECT 1")
		if err != nil || len(sessions) != 5 {
			t.Errorf("loginMany, TLS %v: got %d sessions, %v, want 5", encrypted, len(sessions), err)
		}
		endAll(sessions)
		wantCopied(ctx, t, d, address, encrypted)
		if n, err := d.storm(ctx, address, encrypted, time.Millisecond); err != nil || n < stormClients {
			t.Errorf("storm, TLS %v: got %d logins, %v, want at least %d", encrypted, n, err, stormClients)
		}
	}
	for _, mode := range []string{modeSimple, modePrepared} {
		p, err := d.newProbe(ctx, address, mode)
		if err != nil {
			t.Fatalf("newProbe %s: %v", mode, err)
		}
		took, err := p.repeat(3, nil)
		p.close()
		if err != nil || len(took) != 3 || took[0] <= 0 {
			t.Errorf("probe %s: got %v, %v, want three durations", mode, took, err)
		}
	}
	if len(d.keys) != 1 {
		t.Errorf("keys were derived %d times, want once", len(d.keys))
	}
}

func wantCopied(ctx context.Context, t *testing.T, d *dialer, address string, encrypted bool) {
	t.Helper()
	s, err := d.login(ctx, address, encrypted)
	if err != nil {
		t.Fatal(err)
	}
	defer s.end()
	if n, err := copyOut(s); err != nil || n != 91 {
		t.Errorf("copyOut, TLS %v: got %d bytes, %v, want the row's 91", encrypted, n, err)
	}
	if n, err := copyIn(s, 3); err != nil || n != int64(3*len(copyMessage())) {
		t.Errorf("copyIn, TLS %v: got %d bytes, %v, want three messages", encrypted, n, err)
	}
	if err := s.query("SELECT 1/0"); err == nil || !strings.Contains(err.Error(), "22012") {
		t.Errorf("query that fails, TLS %v: got %v, want 22012", encrypted, err)
	}
}

func TestLoginSaysWhoRefused(t *testing.T) {
	t.Parallel()
	cluster := throwawaypg.MustStart(t, throwawaypg.Options{})
	address := net.JoinHostPort(cluster.Host(), strconv.Itoa(cluster.Port()))
	_, err := newDialer("postgres", "wrong", "postgres").login(t.Context(), address, false)
	if err == nil || !strings.Contains(err.Error(), address) || !strings.Contains(err.Error(), "28P01") {
		t.Errorf("wrong password: got %v, want the address and 28P01", err)
	}
	_, err = newDialer("postgres", cluster.SuperuserPassword(), "postgres").login(t.Context(), address, true)
	if err == nil || !strings.Contains(err.Error(), "TLS refused") {
		t.Errorf("TLS where there is none: got %v", err)
	}
}
