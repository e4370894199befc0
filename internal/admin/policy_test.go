package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/proxy"
)

const bearer = "Authorization: Bearer " + secret

// policy is a Policy that says what it was told to, and remembers what it was asked.
type policy struct {
	fault        error
	asked        []string
	restrictions proxy.Restrictions
	plan         proxy.Plan
}

func (p *policy) note(format string, args ...any) {
	p.asked = append(p.asked, fmt.Sprintf(format, args...))
}

func (p *policy) Restrictions(tenant string) (proxy.Restrictions, error) {
	p.note("restrictions of %q", tenant)
	return p.restrictions, p.fault
}

func (p *policy) Restrict(r proxy.Restriction) (proxy.Restrictions, error) {
	p.note("restrict %q to %v %v, nobody %t, self %t, within %s, by %s from %s", r.Tenant, r.IPv4, r.IPv6, r.AllowNobody, r.AllowCutoff,
		r.ConfirmIn, r.Author, r.Caller)
	return p.restrictions, p.fault
}

func (p *policy) Confirm(tenant string, by proxy.Author) (proxy.Restrictions, error) {
	p.note("confirm %q by %s", tenant, by)
	return p.restrictions, p.fault
}

func (p *policy) Plan(r proxy.Restriction) (proxy.Plan, error) {
	p.note("plan %q to %v %v", r.Tenant, r.IPv4, r.IPv6)
	return p.plan, p.fault
}

func (p *policy) Encryption(tenant string) (proxy.Encryption, error) {
	p.note("encryption of %q", tenant)
	return proxy.Encryption{Tenant: "acme", Stage: "warn"}, p.fault
}

func (p *policy) Encrypt(tenant string, required bool, by proxy.Author) (proxy.Encryption, error) {
	p.note("encrypt %q %t by %s", tenant, required, by)
	return proxy.Encryption{Tenant: "acme", Managed: true, Required: required, Stage: map[bool]string{false: "observe", true: "enforce"}[required]}, p.fault
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// fullPolicy fills in everything that an answer can have.
func fullPolicy() *policy {
	return &policy{
		restrictions: proxy.Restrictions{
			Tenant: "acme", Managed: true, ChangedAt: noon, ChangedBy: "api 192.0.2.1:4711", ConfirmBy: noon.Add(time.Hour),
			Allowed: []proxy.AllowedNetwork{
				{Prefix: netip.MustParsePrefix("10.0.0.0/8")},
				{Prefix: netip.MustParsePrefix("2001:db8::/32"), Until: noon.Add(2 * time.Hour), Comment: "guests"},
			},
			Before: []proxy.AllowedNetwork{{Prefix: netip.MustParsePrefix("0.0.0.0/0")}},
		},
		plan: proxy.Plan{
			Tenant: "acme", Sessions: 3, Absent: 1, Since: noon, SelfCut: true,
			Connected: []proxy.PlanClient{{Role: "r", Database: "d", Mode: "session", Network: netip.MustParsePrefix("192.0.2.1/32"), Sessions: 3}},
			History:   []proxy.PlanClient{{Role: "r", Database: "d", Mode: "transaction", Network: netip.MustParsePrefix("2001:db8::/64"), LastSeen: noon}},
		},
	}
}

func newAPI(p *policy) *Server {
	s, _ := newServer(&target{}, func(params *Params) { params.Policy, params.Bans = p, &banned{} })
	return s
}

// send sends a request with a body.
func send(s *Server, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host, r.RemoteAddr = "127.0.0.1:9930", "192.0.2.1:4711"
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	s.http.Handler.ServeHTTP(w, r)
	return w
}

func TestAPIAsksAndChangesThePolicy(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		method, path, body string
		code               int
		asked              string
	}{
		{"GET", "/api/v1/network-restrictions", "", 200, `restrictions of ""`},
		{"GET", "/api/v1/network-restrictions?tenant=acme", "", 200, `restrictions of "acme"`},
		{"POST", "/api/v1/network-restrictions/apply", `{"dbAllowedCidrs": ["10.0.0.0/8"], "dbAllowedCidrsV6": ["::/0"]}`, 201,
			`restrict "" to [10.0.0.0/8] [::/0], nobody false, self false, within 0s, by api 192.0.2.1:4711 (calls himself "olga") from 192.0.2.1`},
		{"POST", "/api/v1/network-restrictions/apply?tenant=acme", `{"allowNobody": true, "allowSelfCutoff": true, "confirmWithin": "2m"}`, 201,
			`restrict "acme" to [] [], nobody true, self true, within 2m0s, by api 192.0.2.1:4711 (calls himself "olga") from 192.0.2.1`},
		{"POST", "/api/v1/network-restrictions/plan", `{"dbAllowedCidrs": ["10.0.0.0/8"]}`, 200, `plan "" to [10.0.0.0/8] []`},
		{"POST", "/api/v1/network-restrictions/confirm?tenant=acme", "", 200, `confirm "acme" by api 192.0.2.1:4711 (calls himself "olga")`},
		{"GET", "/api/v1/ssl-enforcement", "", 200, `encryption of ""`},
		{"PUT", "/api/v1/ssl-enforcement", `{"requestedConfig": {"database": true}}`, 200, `encrypt "" true by api 192.0.2.1:4711 (calls himself "olga")`},
		{"PUT", "/api/v1/ssl-enforcement?tenant=acme", `{"requestedConfig": {"database": false}}`, 200, `encrypt "acme" false by api 192.0.2.1:4711 (calls himself "olga")`},
		{"GET", "/api/v1/network-restrictions?tennant=acme", "", 400, ""},
		{"GET", "/api/v1/network-restrictions?tenant=a&tenant=b", "", 400, ""},
		{"GET", "/api/v1/ssl-enforcement?tenant=", "", 400, ""},
		{"POST", "/api/v1/network-restrictions/confirm?x=1", "", 400, ""},
		{"POST", "/api/v1/network-restrictions/apply", ``, 400, ""},
		{"POST", "/api/v1/network-restrictions/apply", `{"dbAllowedCidrs": "10.0.0.0/8"}`, 400, ""},
		{"POST", "/api/v1/network-restrictions/apply", `{"dbAllowedCidr": ["10.0.0.0/8"]}`, 400, ""},
		{"POST", "/api/v1/network-restrictions/apply", `{"dbAllowedCidrs": []} {}`, 400, ""},
		{"POST", "/api/v1/network-restrictions/apply", `{"confirmWithin": "soon"}`, 400, ""},
		{"POST", "/api/v1/network-restrictions/plan", `{"confirmWithin": "-1m"}`, 400, ""},
		{"POST", "/api/v1/network-restrictions/apply", `{"allowNobody": true` + strings.Repeat(" ", maxBodyBytes) + `}`, 400, ""},
		{"PUT", "/api/v1/ssl-enforcement", `{"requestedConfig": {}}`, 400, ""},
		{"PUT", "/api/v1/ssl-enforcement", `{}`, 400, ""},
		{"PUT", "/api/v1/network-restrictions", `{}`, 405, ""},
		{"POST", "/api/v1/ssl-enforcement", `{}`, 405, ""},
	} {
		p := fullPolicy()
		w := send(newAPI(p), c.method, c.path, c.body, bearer, "Sluice-Author: ol\x7fga")
		if got := strings.Join(p.asked, "; "); w.Code != c.code || got != c.asked {
			t.Errorf("%s %s %.100s: got %d, asked %s, want %d, %s\n%s", c.method, c.path, c.body, w.Code, got, c.code, c.asked, w.Body)
		}
	}
}

func TestAPIAnswersInTheShapeOfSupabase(t *testing.T) {
	t.Parallel()
	s := newAPI(fullPolicy())
	for _, c := range []struct{ method, path, body, want string }{
		{"GET", "/api/v1/network-restrictions", "", `{"entitlement":"allowed","config":{"dbAllowedCidrs":["10.0.0.0/8"],"dbAllowedCidrsV6":["2001:db8::/32"],` +
			`"entries":[{"cidr":"10.0.0.0/8"},{"cidr":"2001:db8::/32","until":"2026-03-01T14:00:00Z","comment":"guests"}]},` +
			`"old_config":{"dbAllowedCidrs":["0.0.0.0/0"],"dbAllowedCidrsV6":[]},"status":"applied","updated_at":"2026-03-01T12:00:00Z",` +
			`"applied_at":"2026-03-01T12:00:00Z","tenant":"acme","managed_by":"api","updated_by":"api 192.0.2.1:4711","confirm_by":"2026-03-01T13:00:00Z"}`},
		{"PUT", "/api/v1/ssl-enforcement", `{"requestedConfig":{"database":true}}`, `{"currentConfig":{"database":true},"appliedSuccessfully":true,"tenant":"acme","managed_by":"api","tls_enforcement":"enforce"}`},
	} {
		var got, want any
		w := send(s, c.method, c.path, c.body, bearer)
		if err := errors.Join(json.Unmarshal(w.Body.Bytes(), &got), json.Unmarshal([]byte(c.want), &want)); err != nil {
			t.Fatalf("%s: %v in %s", c.path, err, w.Body)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.path, diff)
		}
	}
}

func TestAPIRefusalsHaveTheirCodes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault error
		code  int
		body  string
	}{
		{&proxy.RefusedError{Kind: proxy.ErrInvalidChange, Field: "dbAllowedCidrs[0]", Message: "must be a network"}, 400, "dbAllowedCidrs[0]: must be a network"},
		{&proxy.RefusedError{Kind: proxy.ErrUnknownTenant, Field: "tenant", Message: "which?"}, 404, "tenant: which?"},
		{&proxy.RefusedError{Kind: proxy.ErrNotManaged, Message: "the configuration rules"}, 409, "the configuration rules"},
		{&proxy.RefusedError{Kind: proxy.ErrNothingPending, Message: "nothing"}, 409, "nothing"},
		{proxy.ErrServerClosed, 503, "shutting down"},
		{errors.New("disk full"), 500, "nothing was changed: disk full"},
	} {
		p := fullPolicy()
		p.fault = c.fault
		s := newAPI(p)
		for _, request := range [][3]string{
			{"GET", "/api/v1/network-restrictions"}, {"POST", "/api/v1/network-restrictions/apply", "{}"}, {"POST", "/api/v1/network-restrictions/plan", "{}"},
			{"POST", "/api/v1/network-restrictions/confirm"}, {"GET", "/api/v1/ssl-enforcement"},
			{"PUT", "/api/v1/ssl-enforcement", `{"requestedConfig": {"database": true}}`},
		} {
			w := send(s, request[0], request[1], request[2], bearer)
			if w.Code != c.code || !strings.Contains(w.Body.String(), c.body) {
				t.Errorf("%v %s: got %d %s, want %d %s", c.fault, request[1], w.Code, w.Body, c.code, c.body)
			}
		}
	}
}

func TestAPIIsGuarded(t *testing.T) {
	t.Parallel()
	for _, route := range newAPI(fullPolicy()).routes() {
		method, path, _ := strings.Cut(route.pattern, " ")
		if !strings.HasPrefix(path, "/api/v1/network") && !strings.HasPrefix(path, "/api/v1/ssl") {
			continue
		}
		codes := map[string]int{"none": 401, "Authorization: Bearer x": 401, "Authorization: Basic " + secret: 401}
		if method != "GET" {
			codes[bearer+"\nOrigin: http://127.0.0.1:9930"] = 403
			codes[bearer+"\nContent-Type: text/plain"] = 415
		}
		for headers, code := range codes {
			p := fullPolicy()
			if w := send(newAPI(p), method, path, "{}", strings.Split(headers, "\n")...); w.Code != code || len(p.asked) > 0 {
				t.Errorf("%s with %q: got %d, asked %q, want %d", route.pattern, headers, w.Code, p.asked, code)
			}
		}
		p := fullPolicy()
		s := newAPI(p)
		s.SetToken("")
		if w := send(s, method, path, "{}"); (w.Code == 200) != (method == "GET") || method != "GET" && w.Code != 403 {
			t.Errorf("%s without a token: got %d", route.pattern, w.Code)
		}
	}
}

// FuzzRestrictionBody: no body makes the handler panic, and what it takes has passed the decoder.
func FuzzRestrictionBody(f *testing.F) {
	f.Add(`{"dbAllowedCidrs": ["10.0.0.0/8"], "dbAllowedCidrsV6": null, "confirmWithin": "2m", "allowNobody": true}`)
	f.Add(`[]`)
	f.Fuzz(func(t *testing.T, body string) {
		p := fullPolicy()
		w := send(newAPI(p), "POST", "/api/v1/network-restrictions/apply", body, bearer)
		if (w.Code == 201) != (len(p.asked) == 1) || w.Code != 201 && w.Code != 400 {
			t.Errorf("%q: got %d, asked %q", body, w.Code, p.asked)
		}
	})
}
