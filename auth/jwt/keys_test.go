package jwt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// site is an issuer's web server, without a network.
type site struct {
	mu    sync.Mutex // guards below
	set   []byte     // nil: it cannot be reached
	takes time.Duration
	asked []time.Time
}

func (s *site) publish(set []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set = set
}

func (s *site) times() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// RoundTrip implements http.RoundTripper.
func (s *site) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.asked = append(s.asked, time.Now())
	set, takes := s.set, s.takes
	s.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-r.Context().Done():
		return nil, context.Cause(r.Context())
	}
	if set == nil {
		return nil, errors.New("connection refused")
	}
	return &http.Response{StatusCode: http.StatusOK, Status: "200 OK", Body: io.NopCloser(bytes.NewReader(set)), Request: r}, nil
}

// keys returns those of the site, which are not fetched yet.
func (s *site) keys(t *testing.T) *Keys {
	t.Helper()
	k, err := FetchedKeys("https://issuer.example/jwks.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	k.client.Transport = s
	return k
}

// story is what Run has told.
type story struct {
	mu    sync.Mutex // guards below
	lines []string
}

func (s *story) told(err error, usable bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, fmt.Sprintf("%t %v", usable, err))
}

func (s *story) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.lines) == 0 {
		return ""
	}
	return s.lines[len(s.lines)-1]
}

// follow runs the keys of a site until the test ends.
func follow(t *testing.T, s *site) (*Verifier, *story) {
	t.Helper()
	k := s.keys(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	told := &story{}
	wg.Go(func() { k.Run(ctx, told.told) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return mustNew(t, params(k)), told
}

// wantAdmits fails unless a token by the key of that name is taken, or refused, as it should be.
func wantAdmits(t *testing.T, v *Verifier, id string, want error) {
	t.Helper()
	if err := admits(t, v, sign(t, "ES256", id, claims(nil), nil), role); !errors.Is(err, want) || (err == nil) != (want == nil) {
		t.Errorf("at %s: a token by %q: %v, want %v", time.Now().Format(time.TimeOnly), id, err, want)
	}
}

func named(t *testing.T, ids ...string) []byte {
	t.Helper()
	var keys []jose.JSONWebKey
	for _, id := range ids {
		keys = append(keys, public(id, "ES256"))
	}
	return setOf(t, keys...)
}

func TestKeysAreFetchedAgain(t *testing.T) {
	keyring()
	synctest.Test(t, func(t *testing.T) {
		s := &site{set: named(t, "old")}
		v, told := follow(t, s)
		synctest.Wait()
		if told.last() != "true <nil>" {
			t.Errorf("told %q", told.last())
		}
		wantAdmits(t, v, "old", nil)
		s.publish(named(t, "new"))
		wantAdmits(t, v, "old", nil) // until it is asked again
		time.Sleep(refreshEvery)
		synctest.Wait()
		wantAdmits(t, v, "old", ErrKey)
		wantAdmits(t, v, "new", nil)
		if s.times() != 2 {
			t.Errorf("asked %d times, want 2", s.times())
		}
	})
}

func TestAnUnknownKeyIsAskedForButSeldom(t *testing.T) {
	keyring()
	synctest.Test(t, func(t *testing.T) {
		s := &site{set: named(t, "old"), takes: time.Second}
		v, _ := follow(t, s)
		time.Sleep(time.Minute)
		s.publish(named(t, "old", "new"))
		began := time.Now()
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() { wantAdmits(t, v, "new", nil) }) // they share one question
		}
		wg.Wait()
		if time.Since(began) != time.Second {
			t.Errorf("took %s, want 1s", time.Since(began))
		}
		s.publish(named(t, "old", "new", "newer"))
		for range 100 {
			wantAdmits(t, v, "newer", ErrKey)
			wantAdmits(t, v, "guessed", ErrKey)
		}
		if s.times() != 2 {
			t.Errorf("asked %d times, want 2", s.times())
		}
		time.Sleep(askGap)
		wantAdmits(t, v, "newer", nil)
		wantAdmits(t, v, "old", nil)
		if s.times() != 3 {
			t.Errorf("asked %d times, want 3", s.times())
		}
	})
}

func TestAnIssuerThatCannotBeReached(t *testing.T) {
	keyring()
	synctest.Test(t, func(t *testing.T) {
		s := &site{}
		v, told := follow(t, s)
		synctest.Wait()
		if !strings.HasPrefix(told.last(), "false fetch keys from https://issuer.example/jwks.json: ") || !strings.Contains(told.last(), "connection refused") {
			t.Errorf("told %q", told.last())
		}
		wantAdmits(t, v, "k", ErrNoKeys)
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := s.times(); got < 14 || got > 20 { // after 5, 10, 20 … seconds, then every five minutes
			t.Errorf("asked %d times in an hour", got)
		}
		s.publish(named(t, "k"))
		wantAdmits(t, v, "k", nil) // who comes has it asked at once
		s.publish(nil)
		time.Sleep(keepKeys - time.Minute)
		wantAdmits(t, v, "k", nil)
		if !strings.HasPrefix(told.last(), "true fetch keys from https://issuer.example/jwks.json: ") {
			t.Errorf("told %q", told.last())
		}
		time.Sleep(time.Hour)
		wantAdmits(t, v, "k", ErrNoKeys)
		if !strings.HasPrefix(told.last(), "false fetch keys from https://issuer.example/jwks.json: ") {
			t.Errorf("told %q", told.last())
		}
		s.publish([]byte(strings.Repeat(" ", maxSetBytes+1)))
		time.Sleep(refreshEvery)
		synctest.Wait()
		if !strings.Contains(told.last(), "more than 262144 bytes") {
			t.Errorf("told %q", told.last())
		}
	})
}

func TestWhoWaitsForKeysIsLetGo(t *testing.T) {
	keyring()
	synctest.Test(t, func(t *testing.T) {
		s := &site{takes: time.Hour}
		k := s.keys(t)
		v := mustNew(t, params(k))
		token := sign(t, "ES256", "k", claims(nil), nil)
		running, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { k.Run(running, func(error, bool) {}) })
		synctest.Wait()
		down := errors.New("login timeout")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, down)
		defer cancel()
		if _, err := v.Open(ctx, token); !errors.Is(err, down) {
			t.Errorf("waited: %v, want %v", err, down)
		}
		wg.Go(func() {
			if _, err := v.Open(t.Context(), token); !errors.Is(err, ErrNoKeys) {
				t.Errorf("as the server ends: %v, want %v", err, ErrNoKeys)
			}
		})
		synctest.Wait()
		stop()
		wg.Wait()
		if _, err := v.Open(t.Context(), token); !errors.Is(err, ErrNoKeys) {
			t.Errorf("after its end: %v, want %v", err, ErrNoKeys)
		}
	})
}

func TestOnlySafeAddressesAreAsked(t *testing.T) {
	t.Parallel()
	for address, ok := range map[string]bool{
		"https://issuer.example/jwks.json": true, "http://127.0.0.1:1/x": true, "http://[::1]/x": true, "http://localhost/x": true,
		"http://issuer.example": false, "http://127.0.0.1.issuer.example": false, "http://10.0.0.1/x": false, "ftp://127.0.0.1/x": false,
		"file:///etc/jwks.json": false, "https://": false, "https://user:secret@issuer.example": false, "issuer.example": false, "": false, "://": false,
	} {
		if _, err := FetchedKeys(address, nil); (err == nil) != ok {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	set := named(t, "k")
	mux := http.NewServeMux()
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(set) })
	mux.Handle("/moved", http.RedirectHandler("/keys", http.StatusFound))
	mux.Handle("/round", http.RedirectHandler("/round", http.StatusFound))
	mux.Handle("/plain", http.RedirectHandler("http://issuer.example/keys", http.StatusFound))
	mux.HandleFunc("/error", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	for path, want := range map[string]string{
		"/keys": "", "/moved": "", "/round": "more than 3 redirects", "/plain": "redirect: must be https", "/error": "502 Bad Gateway", "/none": "404 Not Found",
	} {
		k, err := FetchedKeys(server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = k.download(t.Context())
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	away := httptest.NewRequest(http.MethodGet, "http://127.0.0.1/keys", nil)
	from := httptest.NewRequest(http.MethodGet, "https://issuer.example/keys", nil)
	if checkRedirect(away, []*http.Request{from}) == nil {
		t.Error("the issuer sends Sluice to its own machine")
	}
}

func TestTheAddressOfKeysIsTold(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("/none", http.NotFound)
	mux.HandleFunc("/body", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/cut", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "9") })
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Location"] = []string{"http://[" + r.URL.RawQuery}
		w.WriteHeader(http.StatusFound)
	})
	mux.Handle("/away", http.RedirectHandler("http://issuer.example/keys?signature=hunter2", http.StatusFound))
	mux.Handle("/moved", http.RedirectHandler("/referer?signature=hunter2", http.StatusFound))
	mux.HandleFunc("/referer", func(w http.ResponseWriter, r *http.Request) {
		if r.Referer() != "" {
			t.Errorf("the next one hears %q", r.Referer())
		}
		w.WriteHeader(http.StatusTeapot)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	gone := httptest.NewServer(mux)
	gone.Close()
	for address, want := range map[string]string{
		server.URL + "/none": "404 Not Found", server.URL + "/body": "", server.URL + "/cut": "unexpected EOF", server.URL + "/echo": "redirect to what is no URL",
		server.URL + "/away": "redirect: must be https", server.URL + "/moved": "418", gone.URL + "/keys": "refused",
	} {
		k, err := FetchedKeys(address+"?token=hunter2", nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = k.download(t.Context())
		if err == nil || !strings.HasPrefix(err.Error(), "fetch keys from "+address+"?…: ") || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %q and no secret", address, err, want)
		}
	}
	if _, err := FetchedKeys("https://user:hunter2@issuer.example/?token=hunter2", nil); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("with a password: %v", err)
	}
}

func TestReadKeys(t *testing.T) {
	t.Parallel()
	if _, err := ReadKeys(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	path := filepath.Join(t.TempDir(), "jwks.json")
	for _, text := range []string{"", "{}", strings.Repeat(" ", maxSetBytes+1)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKeys(path); !errors.Is(err, ErrKeySet) || !strings.HasPrefix(err.Error(), path) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
	v := mustNew(t, params(fromFile(t, named(t, "k"))))
	wantAdmits(t, v, "k", nil)
	wantAdmits(t, v, "other", ErrKey)
}
