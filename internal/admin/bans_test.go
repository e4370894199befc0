package admin

import (
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"sluice/proxy"
)

// banned is a Bans that notes what is cleared.
type banned struct {
	tenant  string
	network netip.Prefix
	by      proxy.Author
	calls   int
}

func (b *banned) Bans() []proxy.Ban {
	return []proxy.Ban{{Tenant: "acme", Network: netip.MustParsePrefix("203.0.113.7/32"), Failures: 3, Reason: "3 failed logins"}}
}

func (b *banned) ClearBans(tenant string, network netip.Prefix, by proxy.Author) int {
	b.tenant, b.network, b.by = tenant, network, by
	b.calls++
	return 3
}

// post sends a body with the token.
func post(s *Server, path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", path, strings.NewReader(body))
	r.Host = "127.0.0.1:9930"
	r.Header.Set("Authorization", "Bearer "+secret)
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	s.http.Handler.ServeHTTP(w, r)
	return w
}

func TestBansAreListedAndClearedWithTheTokenOnly(t *testing.T) {
	t.Parallel()
	b := &banned{}
	s, log := newServer(&target{}, func(p *Params) { p.Bans = b })
	for _, path := range []string{"GET /api/v1/bans", "POST /api/v1/bans/clear"} {
		method, path, _ := strings.Cut(path, " ")
		for want, headers := range map[int][]string{
			401: {"Authorization: Bearer wrong"}, 403: {"Authorization: Bearer " + secret, "Origin: https://evil.example"},
			415: {"Authorization: Bearer " + secret, "Content-Type: text/plain"},
		} {
			if w := ask(s, method, path, headers...); w.Code != want || strings.Contains(w.Body.String(), "203.0.113") {
				t.Errorf("%s %s with %q: got %d %q, want %d", method, path, headers, w.Code, w.Body, want)
			}
		}
		if w := ask(s, method, path); w.Code != 401 {
			t.Errorf("%s %s without a token: got %d", method, path, w.Code)
		}
	}
	if w := ask(s, "GET", "/api/v1/bans", "Authorization: Bearer "+secret); w.Code != 200 || !strings.Contains(w.Body.String(), `"network": "203.0.113.7/32"`) {
		t.Errorf("list: %d %s", w.Code, w.Body)
	}
	for body, want := range map[string]string{
		`{"network": "203.0.113.7"}`: "203.0.113.7/32", `{"network": "::ffff:203.0.113.7"}`: "203.0.113.7/32", `{"network": "2001:db8::/32", "tenant": "acme"}`: "2001:db8::/32",
		`{"all": true}`: "invalid Prefix",
	} {
		w := post(s, "/api/v1/bans/clear", body)
		if w.Code != 200 || !strings.Contains(w.Body.String(), `"cleared": 3`) || b.network.String() != want || (b.tenant == "acme") != strings.Contains(body, "acme") {
			t.Errorf("%s: %d %s, cleared %q of %q", body, w.Code, w.Body, b.network, b.tenant)
		}
	}
	if b.by.Via != "api" || b.by.ClientAddr == "" {
		t.Errorf("cleared by %v", b.by)
	}
	if b.calls != 4 || !strings.Contains(log.String(), "bans cleared by an operator") {
		t.Errorf("%d calls, log:\n%s", b.calls, log)
	}
	for _, body := range []string{
		``, `{}`, `[]`, `{"all": false}`, `{"all": true, "network": "10.0.0.0/8"}`, `{"network": "10.0.0.1/8"}`, `{"network": "nonsense"}`,
		`{"network": "fe80::1%eth0"}`, `{"all": true} {}`, `{"all": true, "more": 1}`, `{"network": "` + strings.Repeat("x", maxBansRequest) + `"}`,
	} {
		if w := post(s, "/api/v1/bans/clear", body); w.Code != 400 || b.calls != 4 {
			t.Errorf("%.40s: got %d %s", body, w.Code, w.Body)
		}
	}
}

func TestWithoutBansThereAreNoRoutesForThem(t *testing.T) {
	t.Parallel()
	s, _ := newServer(&target{}, nil)
	if w := ask(s, "GET", "/api/v1/bans", "Authorization: Bearer "+secret); w.Code != 404 {
		t.Errorf("got %d", w.Code)
	}
}
