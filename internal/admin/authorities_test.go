package admin

import (
	"strings"
	"testing"
)

func TestAuthoritiesAreForEverybody(t *testing.T) {
	t.Parallel()
	target := &target{}
	s, _ := newServer(target, nil)
	w := ask(s, "GET", "/ca.pem")
	if w.Code != 404 || !strings.Contains(w.Body.String(), "set tls.ca_file") {
		t.Errorf("where they are not known: got %d, %s", w.Code, w.Body)
	}
	target.authorities = []byte("-----BEGIN CERTIFICATE-----\n")
	w = ask(s, "GET", "/ca.pem") // without the token
	if w.Code != 200 || w.Body.String() != string(target.authorities) || w.Header().Get("Content-Type") != "application/x-pem-file" {
		t.Errorf("got %d, %v, %s", w.Code, w.Header(), w.Body)
	}
	for _, method := range []string{"POST", "PUT", "DELETE"} {
		if w := ask(s, method, "/ca.pem"); w.Code != 405 {
			t.Errorf("%s: got %d, want 405", method, w.Code)
		}
	}
	if w := ask(s, "GET", "/ca.pem", "Host: evil.example"); w.Code != 403 {
		t.Errorf("asked for by another name: got %d, want 403", w.Code)
	}
}
