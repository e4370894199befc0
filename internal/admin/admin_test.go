package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/proxy"
)

const secret = "correct-horse"

// target is a Target that says what it was told to.
type target struct {
	health      Health
	status      any
	fault       error
	draining    bool
	authorities []byte
	block       chan struct{} // if not nil, Health waits for it
	reloads     atomic.Int32
}

func (t *target) Health(ctx context.Context) Health {
	if t.block != nil {
		<-t.block
	}
	if _, limited := ctx.Deadline(); !limited {
		return Health{State: "without a deadline"}
	}
	return t.health
}
func (t *target) Status() any          { return t.status }
func (t *target) TransactionMode() any { return map[string]string{"statement": "LISTEN x"} }
func (t *target) Authorities() []byte  { return t.authorities }
func (t *target) TLSLogins() any       { return map[string]string{"application_name": "psql"} }
func (t *target) Draining() bool       { return t.draining }
func (t *target) Reload(proxy.Author) error {
	t.reloads.Add(1)
	return t.fault
}

func newServer(t *target, change func(*Params)) (*Server, *bytes.Buffer) {
	var log bytes.Buffer
	p := Params{
		Address: "127.0.0.1:9930", Token: secret, Target: t, Version: "1.2.3", Log: slog.New(slog.NewTextHandler(&log, nil)),
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("sluice_up 1\n")) }),
	}
	if change != nil {
		change(&p)
	}
	return New(p), &log
}

// ask sends a request with headers "Name: value".
func ask(s *Server, method, path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	r.Host = "127.0.0.1:9930"
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			r.Host = value
		} else {
			r.Header.Add(name, value)
		}
	}
	w := httptest.NewRecorder()
	s.http.Handler.ServeHTTP(w, r)
	return w
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	s, _ := newServer(&target{health: Health{State: Healthy}, status: map[string]int{"clients": 7}}, nil)
	for _, c := range []struct {
		method, path string
		code         int
		allow, body  string
	}{
		{"GET", "/", 200, "", "Sluice 1.2.3\n\nGET  /metrics                              metrics for Prometheus\n"},
		{"GET", "/metrics", 200, "", "sluice_up 1\n"},
		{"HEAD", "/metrics", 200, "", ""},
		{"GET", "/healthz", 200, "", "{\n  \"state\": \"alive\",\n  \"version\": \"1.2.3\"\n}\n"},
		{"GET", "/readyz", 200, "", "{\n  \"state\": \"healthy\",\n  \"parts\": []\n}\n"},
		{"GET", "/status", 200, "", "{\n  \"clients\": 7\n}\n"},
		{"GET", "/api/v1/status", 200, "", "{\n  \"clients\": 7\n}\n"},
		{"GET", "/api/v1/transaction-mode", 401, "", "{\n  \"error\": \"the header must be"},
		{"POST", "/api/v1/transaction-mode", 405, "GET, HEAD", ""},
		{"GET", "/reload", 405, "POST", ""},
		{"PUT", "/reload", 405, "POST", ""},
		{"POST", "/metrics", 405, "GET, HEAD", ""},
		{"DELETE", "/status", 405, "GET, HEAD", ""},
		{"POST", "/", 405, "GET, HEAD", ""},
		{"GET", "/metrics/", 404, "", ""},
		{"GET", "/debug/pprof/", 404, "", ""},
		{"POST", "/api/v1/reload", 404, "", ""},
	} {
		w := ask(s, c.method, c.path)
		if w.Code != c.code || w.Header().Get("Allow") != c.allow || !strings.HasPrefix(w.Body.String(), c.body) {
			t.Errorf("%s %s: got %d, Allow %q, %q; want %d, %q, %q", c.method, c.path, w.Code, w.Header().Get("Allow"), w.Body, c.code, c.allow, c.body)
		}
		if w.Header().Get("X-Content-Type-Options") != "nosniff" || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s: got headers %v", c.method, c.path, w.Header())
		}
	}
}

func TestStatementsAreForWhoKnowsTheToken(t *testing.T) {
	t.Parallel()
	const path, statements = "/api/v1/transaction-mode", "{\n  \"statement\": \"LISTEN x\"\n}\n"
	s, _ := newServer(&target{}, nil)
	if w := ask(s, "GET", path, "Authorization: Bearer wrong"); w.Code != 401 || strings.Contains(w.Body.String(), "LISTEN") {
		t.Errorf("with a wrong token: got %d, %q, want 401", w.Code, w.Body)
	}
	if w := ask(s, "GET", path, "Authorization: Bearer "+secret); w.Code != 200 || w.Body.String() != statements {
		t.Errorf("with the token: got %d, %q, want 200, %q", w.Code, w.Body, statements)
	}
	s.SetToken("")
	if w := ask(s, "GET", path); w.Code != 200 || w.Body.String() != statements {
		t.Errorf("where there is no token: got %d, %q, want 200, %q", w.Code, w.Body, statements)
	}
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	parts := []Part{{"acme", Degraded, "1 of 2 hosts answers", 1500 * time.Microsecond}, {"loops", "?", "", 0}}
	const view = `,"parts":[{"name":"acme","state":"degraded","message":"1 of 2 hosts answers","latency_seconds":0.0015},` +
		`{"name":"loops","state":"unhealthy","latency_seconds":0}]}`
	for _, c := range []struct {
		about  string
		target *target
		code   int
		body   string
	}{
		{"healthy", &target{health: Health{Healthy, parts}}, 200, `{"state":"healthy"` + view},
		{"degraded", &target{health: Health{Degraded, parts}}, 200, `{"state":"degraded"` + view},
		{"unhealthy", &target{health: Health{Unhealthy, parts}}, 503, `{"state":"unhealthy"` + view},
		{"a state that nobody knows", &target{health: Health{"fine", parts}}, 503, `{"state":"unhealthy"` + view},
		{"draining", &target{draining: true, health: Health{Healthy, parts}}, 503, `{"state":"draining","parts":[]}`},
	} {
		s, _ := newServer(c.target, nil)
		w := ask(s, "GET", "/readyz")
		var got bytes.Buffer
		if err := json.Compact(&got, w.Body.Bytes()); err != nil {
			t.Fatalf("%s: %v in %q", c.about, err, w.Body)
		}
		if diff := cmp.Diff(c.body, strings.TrimSpace(got.String())); w.Code != c.code || diff != "" {
			t.Errorf("%s: got %d, want %d (-want +got):\n%s", c.about, w.Code, c.code, diff)
		}
		if w := ask(s, "GET", "/healthz"); w.Code != 200 {
			t.Errorf("%s: /healthz says %d", c.about, w.Code)
		}
	}
}

func TestChangesNeedTheToken(t *testing.T) {
	t.Parallel()
	const bearer = "Authorization: Bearer " + secret
	for _, c := range []struct {
		about   string
		headers []string
		code    int
		body    string
	}{
		{"token", []string{bearer}, 200, "reloaded"},
		{"token and JSON", []string{bearer, "Content-Type: application/json; charset=utf-8"}, 200, "reloaded"},
		{"scheme in lower case", []string{"Authorization: bearer " + secret}, 200, "reloaded"},
		{"no token", nil, 401, "admin.token"},
		{"wrong token", []string{"Authorization: Bearer " + secret + "x"}, 401, "admin.token"},
		{"empty token", []string{"Authorization: Bearer "}, 401, "admin.token"},
		{"other scheme", []string{"Authorization: Basic " + secret}, 401, "admin.token"},
		{"cookie", []string{"Cookie: token=" + secret}, 401, "admin.token"},
		{"web page", []string{bearer, "Origin: http://127.0.0.1:9930"}, 403, "web pages"},
		{"sandboxed web page", []string{bearer, "Origin: null"}, 403, "web pages"},
		{"form", []string{bearer, "Content-Type: application/x-www-form-urlencoded"}, 415, "application/json"},
		{"text", []string{bearer, "Content-Type: text/plain"}, 415, "application/json"},
		{"broken content type", []string{bearer, "Content-Type: /"}, 415, "application/json"},
		{"rebound name", []string{bearer, "Host: evil.example"}, 403, "Host"},
	} {
		tg := &target{}
		s, log := newServer(tg, nil)
		w := ask(s, "POST", "/reload", c.headers...)
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.body) {
			t.Errorf("%s: got %d %q, want %d with %q", c.about, w.Code, w.Body, c.code, c.body)
		}
		if reloaded := tg.reloads.Load() == 1; reloaded != (c.code == 200) {
			t.Errorf("%s: reloads: %d", c.about, tg.reloads.Load())
		}
		if challenged := w.Header().Get("WWW-Authenticate") != ""; challenged != (c.code == 401) {
			t.Errorf("%s: WWW-Authenticate %q", c.about, w.Header().Get("WWW-Authenticate"))
		}
		if refused := strings.Contains(log.String(), "admin request refused"); refused != (c.code != 200) || strings.Contains(log.String(), secret) {
			t.Errorf("%s: log %q", c.about, log)
		}
	}
}

func TestWithoutTokenNothingCanBeChanged(t *testing.T) {
	t.Parallel()
	tg := &target{}
	s, _ := newServer(tg, func(p *Params) { p.Token = "" })
	for _, header := range []string{"Authorization: Bearer ", "Authorization: Bearer x", "X-None: "} {
		if w := ask(s, "POST", "/reload", header); w.Code != 403 || !strings.Contains(w.Body.String(), "set admin.token") {
			t.Errorf("%s: got %d %q", header, w.Code, w.Body)
		}
	}
	s.SetToken("new")
	if w := ask(s, "POST", "/reload", "Authorization: Bearer new"); w.Code != 200 {
		t.Errorf("new token: got %d %q", w.Code, w.Body)
	}
	s.SetToken("newer")
	if w := ask(s, "POST", "/reload", "Authorization: Bearer new"); w.Code != 401 {
		t.Errorf("old token: got %d %q", w.Code, w.Body)
	}
	s.SetToken("")
	if w := ask(s, "POST", "/reload", "Authorization: Bearer newer"); w.Code != 403 {
		t.Errorf("removed token: got %d %q", w.Code, w.Body)
	}
	if n := tg.reloads.Load(); n != 1 {
		t.Errorf("reloads: got %d, want 1", n)
	}
}

func TestFailedReloadSaysWhy(t *testing.T) {
	t.Parallel()
	s, _ := newServer(&target{fault: errors.New("sluice.yaml:3: limits.max_clients: must be at least 1")}, nil)
	w := ask(s, "POST", "/reload", "Authorization: Bearer "+secret)
	if w.Code != 500 || !strings.Contains(w.Body.String(), "nothing was changed: sluice.yaml:3: limits.max_clients") {
		t.Errorf("got %d %q", w.Code, w.Body)
	}
}

func TestTokenIsNotTakenFromTheURL(t *testing.T) {
	t.Parallel()
	tg := &target{}
	s, log := newServer(tg, nil)
	for _, path := range []string{"/reload?token=" + secret, "/reload?Access_Token=" + secret, "/reload?a=b;token=" + secret} {
		if w := ask(s, "POST", path, "Authorization: Bearer "+secret); w.Code != 400 || !strings.Contains(w.Body.String(), "never in the URL") {
			t.Errorf("%s: got %d %q", path, w.Code, w.Body)
		}
	}
	if tg.reloads.Load() != 0 || strings.Contains(log.String(), secret) {
		t.Errorf("%d reloads, log %q", tg.reloads.Load(), log)
	}
}

func TestHosts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		address string
		tls     bool
		allowed []string
		refused []string
	}{
		{"127.0.0.1:9930", false,
			[]string{"", "localhost", "LOCALHOST:9930", "localhost.", "a.localhost", "127.0.0.1:9930", "127.9.9.9", "[::1]:9930", "[::1]", "[::ffff:127.0.0.1]:1"},
			[]string{"evil.example", "evil.example:9930", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.5", "[2001:db8::1]:9930", "0.0.0.0:9930", "notlocalhost"}},
		{"10.0.0.5:9930", false, []string{"10.0.0.5:9930", "10.0.0.5", "[::ffff:10.0.0.5]:9930", "localhost"}, []string{"10.0.0.6", "evil.example"}},
		{"metrics.internal:9930", false, []string{"Metrics.Internal:9930", "127.0.0.1"}, []string{"evil.example", "10.0.0.5"}},
		{"[::]:9930", false, []string{"10.0.0.5:9930", "[2001:db8::1]", "localhost"}, []string{"evil.example"}},
		{"0.0.0.0:9930", false, []string{"10.0.0.5:9930"}, []string{"evil.example"}},
		{":9930", false, []string{"10.0.0.5:9930"}, []string{"evil.example"}},
		{"10.0.0.5:9930", true, []string{"sluice.internal", "10.0.0.6"}, nil},
	} {
		h := hostsOf(c.address, c.tls)
		for _, host := range c.allowed {
			if !h.allow(host) {
				t.Errorf("%s, TLS %v: %q is refused", c.address, c.tls, host)
			}
		}
		for _, host := range c.refused {
			if h.allow(host) {
				t.Errorf("%s, TLS %v: %q is allowed", c.address, c.tls, host)
			}
		}
	}
	s, _ := newServer(&target{}, nil)
	if w := ask(s, "GET", "/status", "Host: evil.example"); w.Code != 403 {
		t.Errorf("reading under a foreign name: got %d %q", w.Code, w.Body)
	}
}

func TestAnswersThatCannotBeGivenAreErrors(t *testing.T) {
	t.Parallel()
	s, _ := newServer(&target{status: math.NaN()}, nil)
	if w := ask(s, "GET", "/status"); w.Code != 500 || !json.Valid(w.Body.Bytes()) {
		t.Errorf("status that is no JSON: got %d %q", w.Code, w.Body)
	}
	s, log := newServer(&target{}, func(p *Params) {
		p.Metrics = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a bug") })
	})
	if w := ask(s, "GET", "/metrics"); w.Code != 500 || strings.Contains(w.Body.String(), "a bug") || !strings.Contains(log.String(), "a bug") {
		t.Errorf("panic: got %d %q, log %q", w.Code, w.Body, log)
	}
}

func TestRefusalsAreLoggedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, log := newServer(&target{}, nil)
		for range 5 {
			ask(s, "POST", "/reload")
		}
		<-time.After(time.Second)
		ask(s, "POST", "/reload")
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(lines) != 2 || !strings.HasSuffix(lines[1], "reason=token suppressed=4") {
			t.Errorf("got %q", lines)
		}
	})
}

func TestTokenIsNeverPrinted(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	p := Params{Token: secret}
	logger.Info("x", "params", p.Token)
	text, _ := json.Marshal(p.Token)
	for _, got := range []string{fmt.Sprintf("%v %+v %#v %s %q %x", p, p, p, p.Token, p.Token, p.Token), log.String(), string(text)} {
		if strings.Contains(got, secret) || strings.Contains(got, fmt.Sprintf("%x", secret)) || !strings.Contains(got, "[redacted]") {
			t.Errorf("got %s", got)
		}
	}
}
