package scram

import (
	"fmt"
	"strings"
)

// bindingType is the only type of channel binding that Postgres knows.
const bindingType = "tls-server-end-point"

// attributes walks along the comma-separated name=value attributes of a message.
type attributes struct {
	rest string
	done bool // nothing follows what was read last
}

// parseAttributes begins at the start of message, which must not hold zero bytes, as no message may.
func parseAttributes(message string) (*attributes, error) {
	if message == "" {
		return nil, fmt.Errorf("%w: empty", ErrMessage)
	}
	if strings.IndexByte(message, 0) >= 0 {
		return nil, fmt.Errorf("%w: zero byte", ErrMessage)
	}
	return &attributes{rest: message}, nil
}

// next returns the next attribute. Its name is an ASCII letter; its value may be empty.
func (a *attributes) next() (name byte, value string, err error) {
	if a.done {
		return 0, "", fmt.Errorf("%w: ends too early", ErrMessage)
	}
	text, rest, more := strings.Cut(a.rest, ",")
	a.rest, a.done = rest, !more
	if len(text) < 2 || text[1] != '=' || !isLetter(text[0]) {
		return 0, "", fmt.Errorf("%w: attribute expected", ErrMessage)
	}
	return text[0], text[2:], nil
}

// want returns the value of the next attribute, which must have the given name.
func (a *attributes) want(name byte) (string, error) {
	got, value, err := a.next()
	if err != nil {
		return "", err
	}
	if got == 'm' {
		return "", fmt.Errorf("%w: mandatory extension", ErrUnsupported)
	}
	if got != name {
		return "", fmt.Errorf("%w: attribute %q expected, %q found", ErrMessage, name, got)
	}
	return value, nil
}

// skip reads over the optional extensions at the end, none of which we know.
func (a *attributes) skip() error {
	for !a.done {
		if _, _, err := a.next(); err != nil {
			return err
		}
	}
	return nil
}

func isLetter(b byte) bool { return 'a' <= b|0x20 && b|0x20 <= 'z' }

// isNonce reports whether s is made of printable ASCII, as a nonce has to be, and is not empty. (Attributes hold no
// commas.)
func isNonce(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return s != ""
}
