package scram

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
)

// maxIterations is how much work a server may ask of us: about 2,500 times Postgres's default, some seconds.
const maxIterations = 10_000_000

// KeyFunc returns the keys for the salt and the iterations that a server has announced. Its errors are returned as
// they are by Client.Final. It must not keep salt.
type KeyFunc func(salt []byte, iterations int) (Keys, error)

// PasswordKeys returns a KeyFunc that derives the keys from a password, anew at each call.
func PasswordKeys(password string) KeyFunc {
	return func(salt []byte, iterations int) (Keys, error) { return DeriveKeys(password, salt, iterations) }
}

// ClientOptions says how a client proves itself.
type ClientOptions struct {
	// Mechanism is the one selected; see Choose.
	Mechanism string
	// ChannelBinding is the tls-server-end-point hash of the server's certificate; nil where there is none. With
	// mechanism SHA256 it makes the client say that it would have bound the channel if the server had offered it.
	ChannelBinding []byte
	// User is the name to send. Postgres ignores it, and empty is usual.
	User string
}

// Choose selects the strongest mechanism that is offered and possible with this channel binding data (nil for none).
func Choose(offered []string, channelBinding []byte) (mechanism string, ok bool) {
	if channelBinding != nil && slices.Contains(offered, SHA256Plus) {
		return SHA256Plus, true
	}
	return SHA256, slices.Contains(offered, SHA256)
}

// Client proves to a server that it knows a password, and has the server prove that it knows the verifier: First,
// Final, Verify.
type Client struct {
	keys    KeyFunc
	options ClientOptions

	nonce     string // our part
	signature Key    // what the server has to send
	asked     bool   // signature is set
}

// NewClient begins an exchange. Its options must fit each other: SHA256Plus needs channel binding data.
func NewClient(keys KeyFunc, o ClientOptions) *Client {
	if o.Mechanism != SHA256 && (o.Mechanism != SHA256Plus || o.ChannelBinding == nil) {
		panic("bug: scram: client with mechanism " + o.Mechanism)
	}
	return &Client{keys: keys, options: o, nonce: newNonce()}
}

// First returns the client-first-message.
func (c *Client) First() []byte { return []byte(c.header() + c.bare()) }

// header returns the GS2 header.
func (c *Client) header() string {
	switch {
	case c.options.Mechanism == SHA256Plus:
		return "p=" + bindingType + ",,"
	case c.options.ChannelBinding != nil:
		return "y,,"
	}
	return "n,,"
}

// bare returns the client-first-message-bare.
func (c *Client) bare() string {
	user := strings.NewReplacer("=", "=3D", ",", "=2C").Replace(c.options.User)
	return "n=" + user + ",r=" + c.nonce
}

// Final takes the server-first-message and returns the client-final-message.
//
// Errors: ErrMessage or ErrUnsupported, wrapped, or what the KeyFunc says.
func (c *Client) Final(serverFirst []byte) ([]byte, error) {
	f, err := parseServerFirst(string(serverFirst))
	if err != nil {
		return nil, err
	}
	if len(f.nonce) <= len(c.nonce) || !strings.HasPrefix(f.nonce, c.nonce) {
		return nil, fmt.Errorf("%w: the server's nonce does not continue ours", ErrMessage)
	}
	keys, err := c.keys(f.salt, f.iterations)
	if err != nil {
		return nil, err
	}
	var data []byte
	if c.options.Mechanism == SHA256Plus {
		data = c.options.ChannelBinding
	}
	withoutProof := "c=" + encodeBinding(c.header(), data) + ",r=" + f.nonce
	auth := c.bare() + "," + string(serverFirst) + "," + withoutProof
	stored := keys.StoredKey()
	proof := xor(keys.ClientKey, mac(stored[:], auth))
	c.signature, c.asked = mac(keys.ServerKey[:], auth), true
	return []byte(withoutProof + ",p=" + base64.StdEncoding.EncodeToString(proof[:])), nil
}

// Verify takes the server-final-message. The server is not who it should be unless Verify returns nil.
//
// Errors, wrapped: ErrServerSignature, ErrRefused, ErrMessage.
func (c *Client) Verify(serverFinal []byte) error {
	if !c.asked {
		panic("bug: scram: Verify called before Final")
	}
	a, err := parseAttributes(string(serverFinal))
	if err != nil {
		return err
	}
	name, value, err := a.next()
	if err != nil {
		return err
	}
	if name == 'e' {
		return fmt.Errorf("%w: %q", ErrRefused, value)
	}
	signature, ok := decodeKey(value)
	if name != 'v' || !ok {
		return fmt.Errorf("%w: no server signature", ErrMessage)
	}
	if err := a.skip(); err != nil {
		return err
	}
	if !equal(signature, c.signature) {
		return ErrServerSignature
	}
	return nil
}

// serverFirst is a parsed server-first-message.
type serverFirst struct {
	nonce      string
	salt       []byte
	iterations int
}

func parseServerFirst(message string) (f serverFirst, err error) {
	a, err := parseAttributes(message)
	if err != nil {
		return f, err
	}
	if f.nonce, err = a.want('r'); err != nil {
		return f, err
	}
	salt, err := a.want('s')
	if err != nil {
		return f, err
	}
	iterations, err := a.want('i')
	if err != nil {
		return f, err
	}
	if !isNonce(f.nonce) {
		return f, fmt.Errorf("%w: nonce empty or not printable", ErrMessage)
	}
	var ok bool
	if f.salt, ok = decode(salt); !ok || len(f.salt) == 0 {
		return f, fmt.Errorf("%w: malformed salt", ErrMessage)
	}
	if f.iterations, ok = parseIterations(iterations, maxIterations); !ok {
		return f, fmt.Errorf("%w: iterations not between 1 and %d", ErrMessage, maxIterations)
	}
	return f, a.skip()
}
