package admin

import "net/http"

// authorities answers with what a client needs to verify Sluice's certificate: for libpq's sslrootcert.
func (s *Server) authorities(w http.ResponseWriter, _ *http.Request) {
	text := s.params.Target.Authorities()
	if len(text) == 0 {
		fail(w, http.StatusNotFound, "the authority of the certificate is not known: set tls.ca_file to it, beside tls.cert_file and tls.key_file")
		return
	}
	w.Header().Set("Content-Type", "application/x-pem-file")
	_, _ = w.Write(text)
}
