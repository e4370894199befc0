package config

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
)

// redacted is what a Secret looks like.
const redacted = "[redacted]"

// Secret is a password or token. It is never printed: every way of formatting it gives "[redacted]", also if it is
// empty. Reveal gives the value.
type Secret string

// Reveal returns the value, for the one place that has to send or compare it.
func (s Secret) Reveal() string { return string(s) }

// String returns "[redacted]".
func (s Secret) String() string { return redacted }

// Format writes "[redacted]" for every verb and flag.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalJSON returns "[redacted]" as a JSON string.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText returns "[redacted]", for encoders other than JSON.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue returns "[redacted]".
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// AutoInt is a number, or left to Sluice. N is 0 if Auto is set.
type AutoInt struct {
	Auto bool
	N    int
}

// String returns the value as the file has it.
func (a AutoInt) String() string {
	if a.Auto {
		return "auto"
	}
	return strconv.Itoa(a.N)
}

// Setting is a setting of Postgres with its value.
type Setting struct{ Name, Value string }

// String returns "name=value".
func (s Setting) String() string { return s.Name + "=" + s.Value }

// HostPort is where one Postgres listens. A Host that starts with '/' is the folder of its Unix socket.
type HostPort struct {
	Host string
	Port int
}

// Unix reports whether it is a Unix socket.
func (h HostPort) Unix() bool { return strings.HasPrefix(h.Host, "/") }

// Network returns the network for net.Dial: "unix" or "tcp".
func (h HostPort) Network() string {
	if h.Unix() {
		return "unix"
	}
	return "tcp"
}

// String returns the address for net.Dial: "host:port", or the path of the Unix socket.
func (h HostPort) String() string {
	if h.Unix() {
		return filepath.Join(h.Host, ".s.PGSQL."+strconv.Itoa(h.Port))
	}
	return net.JoinHostPort(h.Host, strconv.Itoa(h.Port))
}

// Local reports whether what is sent there stays on this machine: a Unix socket, a loopback address or localhost.
func (h HostPort) Local() bool { return h.Unix() || loopback(h.Host) }

// loopback reports whether the host of an address is this machine and only this machine.
func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
