package scram

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// ServerOptions says what one exchange is about.
type ServerOptions struct {
	// Mechanism is the one that the client selected.
	Mechanism string
	// ChannelBinding is the tls-server-end-point hash of our certificate; nil where SHA256Plus was not offered.
	ChannelBinding []byte
	// Also are verifiers that are as good, with the same salt and iterations: the client cannot tell which one it proves.
	Also []Verifier
	// Doomed makes the exchange end with ErrProof whatever the client proves, at the usual cost.
	Doomed bool
}

// Server checks that a client knows the password of a verifier: First, then Final.
type Server struct {
	verifier Verifier
	options  ServerOptions

	nonce       string // our part until First, then the whole
	header      string // the client's GS2 header
	clientBare  string // client-first-message-bare
	serverFirst string
	proved      int // see Proved
	clientKey   Key
}

// NewServer begins an exchange. Its verifiers must have the same salt and iterations. Errors: ErrUnsupported, wrapped, for a mechanism that was not offered.
func NewServer(v Verifier, o ServerOptions) (*Server, error) {
	if o.Mechanism != SHA256 && (o.Mechanism != SHA256Plus || o.ChannelBinding == nil) {
		return nil, fmt.Errorf("%w: mechanism %q was not offered", ErrUnsupported, o.Mechanism)
	}
	for _, also := range o.Also {
		if !v.SameSalt(also) {
			panic("bug: scram: verifiers with different salts")
		}
	}
	return &Server{verifier: v, options: o, nonce: newNonce()}, nil
}

// First takes the client-first-message and returns the server-first-message.
//
// Errors, wrapped: ErrMessage, ErrUnsupported, ErrChannelBinding.
func (s *Server) First(clientFirst []byte) ([]byte, error) {
	if s.serverFirst != "" {
		panic("bug: scram: First called twice")
	}
	bare, err := s.parseHeader(string(clientFirst))
	if err != nil {
		return nil, err
	}
	a, err := parseAttributes(bare)
	if err != nil {
		return nil, err
	}
	if _, err = a.want('n'); err != nil { // ignored, as by Postgres: the start-up message has named the role
		return nil, err
	}
	nonce, err := a.want('r')
	if err != nil {
		return nil, err
	}
	if !isNonce(nonce) {
		return nil, fmt.Errorf("%w: nonce empty or not printable", ErrMessage)
	}
	if err := a.skip(); err != nil {
		return nil, err
	}
	s.clientBare = bare
	s.nonce = nonce + s.nonce
	s.serverFirst = "r=" + s.nonce + ",s=" + base64.StdEncoding.EncodeToString(s.verifier.Salt) +
		",i=" + strconv.Itoa(s.verifier.Iterations)
	return []byte(s.serverFirst), nil
}

// parseHeader checks the GS2 header against what was offered and selected, and returns what follows it.
func (s *Server) parseHeader(message string) (bare string, err error) {
	flag, rest, ok1 := strings.Cut(message, ",")
	authzid, bare, ok2 := strings.Cut(rest, ",")
	if !ok1 || !ok2 {
		return "", fmt.Errorf("%w: no GS2 header", ErrMessage)
	}
	if err := s.checkFlag(flag); err != nil {
		return "", err
	}
	if strings.HasPrefix(authzid, "a=") {
		return "", fmt.Errorf("%w: authorization identity", ErrUnsupported)
	}
	if authzid != "" {
		return "", fmt.Errorf("%w: unexpected attribute in the GS2 header", ErrMessage)
	}
	s.header = message[:len(message)-len(bare)]
	return bare, nil
}

// checkFlag judges the channel binding flag: n (the client cannot), y (it could, but thinks that we cannot) or p=type.
func (s *Server) checkFlag(flag string) error {
	kind, binds := strings.CutPrefix(flag, "p=")
	plus := s.options.Mechanism == SHA256Plus
	switch {
	case !binds && flag != "n" && flag != "y":
		return fmt.Errorf("%w: unexpected channel binding flag", ErrMessage)
	case binds != plus:
		return fmt.Errorf("%w: channel binding flag %q with %s", ErrMessage, flag[:1], s.options.Mechanism)
	case binds && kind != bindingType:
		return fmt.Errorf("%w: channel binding type %q", ErrUnsupported, kind)
	case flag == "y" && s.options.ChannelBinding != nil:
		return ErrBindingDowngrade
	}
	return nil
}

// Final takes the client-final-message and returns the server-final-message once the client has proved itself.
//
// Errors, wrapped: ErrProof, ErrMessage, ErrUnsupported, ErrChannelBinding.
func (s *Server) Final(clientFinal []byte) ([]byte, error) {
	if s.serverFirst == "" {
		panic("bug: scram: Final called before First")
	}
	message := string(clientFinal)
	at := strings.LastIndex(message, ",p=")
	if at < 0 {
		return nil, fmt.Errorf("%w: no proof", ErrMessage)
	}
	proof, ok := decodeKey(message[at+len(",p="):])
	if !ok {
		return nil, fmt.Errorf("%w: malformed proof", ErrMessage)
	}
	if err := s.checkFinal(message[:at]); err != nil {
		return nil, err
	}
	auth := s.clientBare + "," + s.serverFirst + "," + message[:at]
	proved, signature := s.check(proof, auth)
	if !proved || s.options.Doomed {
		s.clientKey = Key{}
		return nil, ErrProof
	}
	return []byte("v=" + base64.StdEncoding.EncodeToString(signature[:])), nil
}

// check holds the proof against every verifier, and returns the signature of the one that it fits.
func (s *Server) check(proof Key, auth string) (proved bool, signature Key) {
	for i, v := range append([]Verifier{s.verifier}, s.options.Also...) {
		key := xor(proof, mac(v.StoredKey[:], auth))
		own := mac(v.ServerKey[:], auth)
		if equal(Keys{ClientKey: key}.StoredKey(), v.StoredKey) && !proved {
			proved, signature, s.proved, s.clientKey = true, own, i, key
		}
	}
	return proved, signature
}

// checkFinal checks the attributes in front of the proof.
func (s *Server) checkFinal(withoutProof string) error {
	a, err := parseAttributes(withoutProof)
	if err != nil {
		return err
	}
	binding, err := a.want('c')
	if err != nil {
		return err
	}
	nonce, err := a.want('r')
	if err != nil {
		return err
	}
	if err := a.skip(); err != nil {
		return err
	}
	if nonce != s.nonce {
		return fmt.Errorf("%w: nonce does not match", ErrMessage)
	}
	if s.options.Mechanism == SHA256Plus {
		if binding != encodeBinding(s.header, s.options.ChannelBinding) {
			return fmt.Errorf("%w: the client is bound to another channel", ErrChannelBinding)
		}
		return nil
	}
	if binding != encodeBinding(s.header, nil) {
		return fmt.Errorf("%w: unexpected channel binding", ErrMessage)
	}
	return nil
}

// Proved returns which verifier the client has proved: 0 for the first, then those of Also.
func (s *Server) Proved() int { return s.proved }

// ClientKey returns the key that the client proved to have; with it one can log in as the client wherever the same
// verifier is stored. It is zero until Final has succeeded.
func (s *Server) ClientKey() Key { return s.clientKey }

// encodeBinding returns the value of attribute c.
func encodeBinding(header string, data []byte) string {
	return base64.StdEncoding.EncodeToString(append([]byte(header), data...))
}
