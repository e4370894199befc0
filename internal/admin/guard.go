package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"
)

// hosts says which names a request may call the server by. A page whose name is made to point here after it was loaded
// (DNS rebinding) is asked for by that name. It has none of these names, and no certificate of this server fits it.
type hosts struct {
	name      string // of the configured address
	addresses bool   // any address will do, because the server listens on all
	all       bool   // TLS has checked the name
}

func hostsOf(address string, withTLS bool) hosts {
	name, _, err := net.SplitHostPort(address)
	if err != nil {
		name = address
	}
	ip, err := netip.ParseAddr(name)
	return hosts{name: name, addresses: name == "" || err == nil && ip.IsUnspecified(), all: withTLS}
}

// allow reports whether host, as a request has it, is one of them. Browsers always send one.
func (h hosts) allow(host string) bool {
	if h.all || host == "" {
		return true
	}
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	name = strings.TrimSuffix(name, ".")
	if ip, err := netip.ParseAddr(name); err == nil {
		own, _ := netip.ParseAddr(h.name)
		return h.addresses || ip.Unmap().IsLoopback() || ip.Unmap() == own.Unmap()
	}
	name = strings.ToLower(name)
	return name == "localhost" || strings.HasSuffix(name, ".localhost") || name == strings.ToLower(h.name)
}

// guard lets pass what may be asked at all.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.recovered(w)
		header := w.Header()
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Cache-Control", "no-store")
		header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		switch p, local := overSocket(r); {
		case local && p.other:
			s.refuse(w, r, http.StatusForbidden, "user", "the socket is for the user "+nameOf(uint32(os.Geteuid()))+" alone")
			return
		case !local && !s.hosts.allow(r.Host):
			s.refuse(w, r, http.StatusForbidden, "host", "the Host header must name loopback or the host of admin.address")
			return
		}
		if strings.Contains(strings.ToLower(r.URL.RawQuery), "token") {
			s.refuse(w, r, http.StatusBadRequest, "token_in_url",
				"a token belongs in the Authorization header, never in the URL, which is logged on its way: replace this one")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// recovered ends a request that panicked: a bug, which must not end the process.
func (s *Server) recovered(w http.ResponseWriter) {
	v := recover()
	if v == nil {
		return
	}
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(v)
	}
	s.params.Log.Error("admin request panicked", "panic", v, "stack", string(debug.Stack()))
	fail(w, http.StatusInternalServerError, "internal error, see the log")
}

// change lets pass what may change something: who knows the token, or comes over the socket.
func (s *Server) change(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if len(r.Header.Values("Origin")) > 0 {
			s.refuse(w, r, http.StatusForbidden, "origin", "changes are not taken from web pages")
			return
		}
		if given := r.Header.Get("Content-Type"); given != "" {
			if kind, _, err := mime.ParseMediaType(given); err != nil || kind != "application/json" {
				s.refuse(w, r, http.StatusUnsupportedMediaType, "content_type", "Content-Type must be application/json or absent")
				return
			}
		}
		if _, local := overSocket(r); local {
			next(w, r)
			return
		}
		want := s.token.Load()
		if want == nil {
			s.refuse(w, r, http.StatusForbidden, "no_token", "this needs a token: set admin.token in the configuration, or use admin.socket")
			return
		}
		if s.knows(w, r, want) {
			next(w, r)
		}
	}
}

// private lets pass what may see more than numbers: who knows the token, if there is one, or comes over the socket.
func (s *Server) private(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, local := overSocket(r)
		if want := s.token.Load(); local || want == nil || s.knows(w, r, want) {
			next(w, r)
		}
	}
}

// knows reports whether the request shows the token whose hash want is, in constant time, and refuses it if not.
func (s *Server) knows(w http.ResponseWriter, r *http.Request, want *[sha256.Size]byte) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	given := sha256.Sum256([]byte(strings.TrimSpace(token)))
	if subtle.ConstantTimeCompare(given[:], want[:]) == 1 && strings.EqualFold(scheme, "Bearer") {
		return true
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="sluice"`)
	s.refuse(w, r, http.StatusUnauthorized, "token", "the header must be \"Authorization: Bearer\" with admin.token")
	return false
}

// refuse answers a request that is not let pass, and logs it, at most once a second.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, code int, reason, message string) {
	if suppressed, ok := s.refusals.pass(time.Now()); ok {
		s.params.Log.Warn("admin request refused", "client_addr", callerOf(r), "reason", reason, "suppressed", suppressed)
	}
	fail(w, code, message)
}

// throttle lets one event a second pass.
type throttle struct {
	last       atomic.Int64 // Unix nanoseconds
	suppressed atomic.Int64
}

// pass reports whether the event of now passes, and how many have not since the last that did.
func (t *throttle) pass(now time.Time) (suppressed int64, ok bool) {
	last := t.last.Load()
	if now.UnixNano()-last < int64(time.Second) || !t.last.CompareAndSwap(last, now.UnixNano()) {
		t.suppressed.Add(1)
		return 0, false
	}
	return t.suppressed.Swap(0), true
}
