package backend

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/auth"
	"sluice/internal/wire"
)

// messages calls take with each whole message in stream, until it has an error or is ready.
func messages(stream []byte, take func(typ byte, body []byte) (bool, error)) error {
	for {
		typ, n, ok, err := wire.Header(stream)
		if !ok || err != nil || len(stream) < wire.HeaderLen+n {
			return nil
		}
		if ready, err := take(typ, stream[wire.HeaderLen:wire.HeaderLen+n]); ready || err != nil {
			return err
		}
		stream = stream[wire.HeaderLen+n:]
	}
}

func encode(f *testing.F, msgs ...wire.Message) (out []byte) {
	f.Helper()
	for _, m := range msgs {
		var err error
		if out, err = m.Encode(out); err != nil {
			f.Fatal(err)
		}
	}
	return out
}

func FuzzGreeting(f *testing.F) {
	f.Add(encode(f, &pgproto3.ParameterStatus{Name: "TimeZone", Value: "UTC"},
		&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte("1234")}, &pgproto3.ReadyForQuery{TxStatus: 'I'}))
	f.Add(encode(f, &pgproto3.NoticeResponse{Message: "x"}, &pgproto3.ErrorResponse{Severity: "FATAL", Code: "3D000"}))
	f.Add(encode(f, &pgproto3.NegotiateProtocolVersion{}, &pgproto3.ReadyForQuery{TxStatus: 'E'}))
	f.Fuzz(func(t *testing.T, stream []byte) {
		var g greeting
		err := messages(stream, g.take)
		_, refused := errors.AsType[*auth.ServerError](err)
		if err != nil && !refused && !errors.Is(err, ErrProtocol) {
			t.Errorf("error of an unknown kind: %v", err)
		}
		if g.count > maxGreetingMessages+1 || len(g.key) > maxKey {
			t.Errorf("%d messages and a key of %d bytes were taken", g.count, len(g.key))
		}
		names := map[string]bool{}
		for _, p := range g.params {
			if p.Name == "" || names[p.Name] {
				t.Errorf("parameter %q is empty or twice there", p.Name)
			}
			names[p.Name] = true
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add(encode(f, &pgproto3.ParseComplete{}, &pgproto3.BindComplete{}, &pgproto3.DataRow{Values: [][]byte{[]byte("x"), nil}},
		&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}, &pgproto3.ReadyForQuery{TxStatus: 'I'}))
	f.Add(encode(f, &pgproto3.ErrorResponse{Severity: "ERROR", Code: "42601"}, &pgproto3.ReadyForQuery{TxStatus: 'T'}))
	f.Fuzz(func(t *testing.T, stream []byte) {
		a := answer{limit: Limit{Rows: 3, Bytes: 20}}
		err := messages(stream, a.take)
		if err != nil && !errors.Is(err, ErrProtocol) && !errors.Is(err, ErrLimit) {
			t.Errorf("error of an unknown kind: %v", err)
		}
		bytes := 0
		for _, row := range a.rows {
			for _, v := range row {
				if v != nil {
					bytes += len(*v)
				}
			}
		}
		if len(a.rows) > 3 || bytes > 20 {
			t.Errorf("%d rows with %d bytes were taken", len(a.rows), bytes)
		}
	})
}

func TestGreetingHasAnEnd(t *testing.T) {
	t.Parallel()
	var g greeting
	for range maxGreetingMessages {
		if _, err := g.take(wire.NoticeResponse, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := g.take(wire.ReadyForQuery, []byte("I")); !errors.Is(err, ErrProtocol) {
		t.Errorf("got %v, want ErrProtocol", err)
	}
}

func TestChannelBindingGoesByTheSignature(t *testing.T) {
	t.Parallel()
	raw := []byte("certificate")
	sum256, sum384, sum512 := sha256.Sum256(raw), sha512.Sum384(raw), sha512.Sum512(raw)
	for algorithm, want := range map[x509.SignatureAlgorithm][]byte{
		x509.SHA1WithRSA: sum256[:], x509.SHA256WithRSA: sum256[:], x509.ECDSAWithSHA256: sum256[:],
		x509.ECDSAWithSHA384: sum384[:], x509.SHA512WithRSAPSS: sum512[:], x509.PureEd25519: nil,
	} {
		l := link{state: &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{Raw: raw, SignatureAlgorithm: algorithm}}}}
		if got := l.channelBinding(); string(got) != string(want) {
			t.Errorf("%s: got %x, want %x", algorithm, got, want)
		}
	}
	if got := (&link{}).channelBinding(); got != nil {
		t.Errorf("without TLS: got %x", got)
	}
}
