package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// route is an endpoint.
type route struct {
	pattern string
	about   string
	serve   http.HandlerFunc
}

func (s *Server) routes() []route {
	routes := []route{
		{"GET /metrics", "metrics for Prometheus", s.params.Metrics.ServeHTTP},
		{"GET /healthz", "200 while the process is alive", s.alive},
		{"GET /readyz", "200 if new clients can be served, else 503; with the state and latency of each part", s.ready},
		{"GET /ca.pem", "the authority of the certificate that clients are shown, for their sslrootcert", s.authorities},
		{"GET /status", "what the process does, as JSON", s.status},
		{"GET /api/v1/status", "the same", s.status},
		{"GET /api/v1/transaction-mode", "what clients of the session port would pin on the transaction port, as JSON; needs the token if there is one", s.private(s.transactionMode)},
		{"GET /api/v1/tls-logins", "who has logged in without TLS, and with which version and cipher, as JSON; needs the token if there is one", s.private(s.tlsLogins)},
		{"POST /reload", "load the configuration anew, all or nothing; needs the header \"Authorization: Bearer\" with admin.token", s.change(s.reload)},
	}
	return slices.Concat(routes, s.policyRoutes(), s.banRoutes())
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	for _, r := range s.routes() {
		mux.HandleFunc(r.pattern, r.serve)
	}
	mux.HandleFunc("GET /{$}", s.index)
	return s.guard(mux)
}

// index lists the endpoints.
func (s *Server) index(w http.ResponseWriter, _ *http.Request) {
	var page strings.Builder
	fmt.Fprintf(&page, "Sluice %s\n\n", s.params.Version)
	for _, r := range s.routes() {
		method, path, _ := strings.Cut(r.pattern, " ")
		fmt.Fprintf(&page, "%-5s%-38s%s\n", method, path, r.about)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte(page.String()))
}

func (s *Server) alive(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]string{"state": "alive", "version": s.params.Version})
}

// readiness is what /readyz says.
type readiness struct {
	State string     `json:"state"`
	Parts []partView `json:"parts"`
}

type partView struct {
	Name    string  `json:"name"`
	State   string  `json:"state"`
	Message string  `json:"message,omitempty"`
	Latency float64 `json:"latency_seconds"`
}

// ready does not look at the parts while the process drains: whatever they are, no client shall come.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	if s.params.Target.Draining() {
		answer(w, http.StatusServiceUnavailable, readiness{State: "draining", Parts: []partView{}})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
	defer cancel()
	health := s.params.Target.Health(ctx)
	view := readiness{State: stateOf(health.State), Parts: make([]partView, 0, len(health.Parts))}
	for _, p := range health.Parts {
		view.Parts = append(view.Parts, partView{p.Name, stateOf(p.State), p.Message, p.Latency.Seconds()})
	}
	code := http.StatusOK
	if view.State == Unhealthy {
		code = http.StatusServiceUnavailable
	}
	answer(w, code, view)
}

func stateOf(state string) string {
	if state == Healthy || state == Degraded {
		return state
	}
	return Unhealthy
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, s.params.Target.Status())
}

func (s *Server) transactionMode(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, s.params.Target.TransactionMode())
}

func (s *Server) tlsLogins(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, s.params.Target.TLSLogins())
}

func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	s.params.Log.Info("reload requested", "client_addr", callerOf(r))
	if err := s.params.Target.Reload(authorOf(r)); err != nil {
		fail(w, http.StatusInternalServerError, "nothing was changed: "+err.Error())
		return
	}
	answer(w, http.StatusOK, map[string]bool{"reloaded": true})
}

// fail answers with an error that the operator reads.
func fail(w http.ResponseWriter, code int, message string) {
	answer(w, code, map[string]string{"error": message})
}

// answer sends value as JSON.
func answer(w http.ResponseWriter, code int, value any) {
	body, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		code, body = http.StatusInternalServerError, []byte(`{"error": "internal error: the answer is no JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(body, '\n'))
}
