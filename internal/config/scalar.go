package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// The parsers of single values. Their errors say what a value must be and leave out what it is, because it may be a
// secret in the wrong place; whoever knows that it is none adds it.

var (
	errDuration = errors.New("must be a duration such as 30s or 5m")
	errPrefix   = errors.New("must be an address or a network such as 10.0.0.0/8")
	errFileMode = errors.New("must be octal permissions such as 0660")
	errAutoInt  = errors.New("must be auto or a whole number")
	errHostPort = errors.New("must be host, host:port or the folder of a Unix socket; several hosts are a list")
	errSocket   = errors.New("must be the folder of the Unix socket, not the socket itself")
	errPort     = errors.New("must have a port from 1 to 65535")
	errSetting  = errors.New("must be name=value")
	errBool     = errors.New("must be true or false")
	errInt      = errors.New("must be a whole number")
)

func parseDuration(text string) (any, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return nil, errDuration
	}
	return d, nil
}

// parsePrefix takes an address for the network of only that address, and an IPv4-mapped IPv6 network for the IPv4
// network that it is.
func parsePrefix(text string) (any, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return nil, errPrefix
	}
	const mappedBits = 96 // of ::ffff:0:0/96, which holds IPv4
	if p.Addr().Is4In6() {
		if p.Bits() < mappedBits {
			return nil, errPrefix
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mappedBits)
	}
	if p != p.Masked() {
		return nil, fmt.Errorf("has bits set after its prefix length: must be %s", p.Masked())
	}
	return p, nil
}

func parseFileMode(text string) (any, error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(text, "0o"), 8, 32)
	if err != nil || n > uint64(fs.ModePerm) {
		return nil, errFileMode
	}
	return fs.FileMode(n), nil
}

func parseAutoInt(text string) (any, error) {
	if text == "auto" {
		return AutoInt{Auto: true}, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || !decimal(text) {
		return nil, errAutoInt
	}
	return AutoInt{N: n}, nil
}

func parseBool(text string) (any, error) {
	switch text {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return nil, errBool
}

func parseInt(text string) (any, error) {
	n, err := strconv.Atoi(text)
	if err != nil || !decimal(text) {
		return nil, errInt
	}
	return n, nil
}

// decimal refuses what YAML and people read differently: 010 is eight to the one and ten to the other.
func decimal(text string) bool {
	digits := strings.TrimLeft(text, "+-")
	return len(digits) == 1 || !strings.HasPrefix(digits, "0")
}

// parseSetting splits name=value at the first '='.
func parseSetting(text string) (any, error) {
	name, value, ok := strings.Cut(text, "=")
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	if !ok || !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_$.]*$`).MatchString(name) {
		return nil, errSetting
	}
	return Setting{Name: name, Value: value}, nil
}

// parseHostPort leaves Port 0 if the text names none.
func parseHostPort(text string) (any, error) {
	if strings.HasPrefix(text, "/") {
		if strings.HasPrefix(filepath.Base(text), ".s.PGSQL.") {
			return nil, errSocket
		}
		return HostPort{Host: filepath.Clean(text)}, nil
	}
	if addr, err := netip.ParseAddr(text); err == nil {
		return HostPort{Host: addr.String()}, nil
	}
	host, port, hasPort := text, "", false
	if i := strings.LastIndexByte(text, ':'); i >= 0 && !strings.HasSuffix(text, "]") {
		host, port, hasPort = text[:i], text[i+1:], true
	}
	host, err := parseHost(host)
	if err != nil {
		return nil, err
	}
	if !hasPort {
		return HostPort{Host: host}, nil
	}
	n, err := parsePort(port)
	if err != nil || n == 0 {
		return nil, errPort
	}
	return HostPort{Host: host, Port: n}, nil
}

// parseHost returns a host name as it is, and an IPv6 address in brackets without them.
func parseHost(text string) (string, error) {
	if inner, ok := strings.CutPrefix(text, "["); ok {
		addr, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if err != nil || !strings.HasSuffix(text, "]") {
			return "", errHostPort
		}
		return addr.String(), nil
	}
	const maxNameLen = 253 // of a name in the DNS
	if len(text) > maxNameLen || !regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`).MatchString(text) {
		return "", errHostPort
	}
	return text, nil
}

// parsePort accepts 0.
func parsePort(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0, errPort
	}
	return int(n), nil
}
