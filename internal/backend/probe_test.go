package backend_test

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"sluice/internal/backend"
	"sluice/internal/logbuf"
	"sluice/internal/throwawaypg"
	"sluice/internal/tlsconf"
)

func TestProbesLeaveNoLineInTheLogOfPostgres(t *testing.T) {
	t.Parallel()
	cert, key, err := tlsconf.SelfSigned([]string{"127.0.0.1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, offered := range map[string]*throwawaypg.TLS{"with TLS": {Cert: cert, Key: key}, "without TLS": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := &logbuf.Buffer{}
			p := &postgres{cluster: throwawaypg.MustStart(t, throwawaypg.Options{TLS: offered, Log: log})}
			before := log.String()
			for _, host := range []backend.Address{p.address(), p.socket()} {
				for _, mode := range []string{backend.TLSDisable, backend.TLSPrefer, backend.TLSVerifyFull} {
					d, err := backend.NewDialer(backend.Params{
						Hosts: []backend.Address{host}, TLSMode: mode, ConnectTimeout: time.Minute,
						TLSFor: func(string) (*tls.Config, error) { return &tls.Config{}, nil }, // verifies by the system's authorities
					})
					if err != nil {
						t.Fatal(err)
					}
					if err := d.Probe(t.Context()); err != nil {
						t.Errorf("%s, %s: %v", host.Addr, mode, err)
					}
				}
			}
			p.cluster.StopServer() // so that it has written all
			said, _, _ := strings.Cut(strings.TrimPrefix(log.String(), before), "received ")
			if strings.Contains(said, "SSL") || strings.Contains(said, "EOF") || strings.Contains(said, "startup packet") {
				t.Errorf("Postgres has logged\n%s", said)
			}
		})
	}
}
