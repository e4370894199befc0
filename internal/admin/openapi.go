package admin

import (
	_ "embed" // the description
	"net/http"
)

// openAPI describes /api/v1. A test holds the handlers against it.
//
//go:embed openapi.json
var openAPI string

func (s *Server) describe(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(openAPI))
}
