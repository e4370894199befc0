package versions

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/internal/throwawaypg"
	"sluice/internal/tlsconf"
)

// certificate makes the server's certificate and returns the file with its authority.
func certificate(t *testing.T) (server *throwawaypg.TLS, caFile string) {
	t.Helper()
	cert, key, err := tlsconf.SelfSigned([]string{"127.0.0.1"}, time.Now())
	must(t, err)
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(caFile, cert, 0o600))
	return &throwawaypg.TLS{Cert: cert, Key: key}, caFile
}

// encrypted has Sluice reach Postgres over TLS, by request and, from PostgreSQL 17 on, directly, with the channel bound to
// the login.
func (v *version) encrypted(t *testing.T) {
	t.Helper()
	var major int
	admin, err := pgx.Connect(t.Context(), v.pg.SuperuserURL("app"))
	must(t, err)
	defer admin.Close(t.Context())
	var number string
	must(t, admin.QueryRow(t.Context(), "SHOW server_version_num").Scan(&number))
	major, err = strconv.Atoi(number[:2])
	must(t, err)
	for _, negotiation := range []string{"postgres", "direct"} {
		t.Run(negotiation, func(t *testing.T) {
			_, addr := serve(t, v.pg, fmt.Sprintf("tls_mode: verify-full, ca_file: %q, tls_negotiation: %s", v.caFile, negotiation), scram)
			for _, mode := range modes {
				c, err := pgx.Connect(t.Context(), fmt.Sprintf("postgres://bob:bob-secret@%s/work?sslmode=disable", addr[mode]))
				if negotiation == "direct" && major < 17 {
					if err == nil {
						t.Errorf("%s: direct TLS to PostgreSQL %d", mode, major)
						_ = c.Close(t.Context())
					}
					continue
				}
				must(t, err)
				var encrypted bool
				must(t, c.QueryRow(t.Context(), "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").Scan(&encrypted))
				if !encrypted {
					t.Errorf("%s: not encrypted", mode)
				}
				_ = c.Close(t.Context())
			}
		})
	}
}
